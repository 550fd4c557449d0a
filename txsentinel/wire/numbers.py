"""
Parsing of numbers in received text as C Sentinels do it: strictly, or with the results of the C library.

The lenient functions accept leading whitespace and one sign, read digits up to the first other character, and return
zero for text without digits. Nothing here raises, and the time does not grow with the number of digits.
"""

from __future__ import annotations

import re
from typing import Final

HIGHEST_U64: Final = (1 << 64) - 1
HIGHEST_I64: Final = (1 << 63) - 1
LOWEST_I64: Final = -(1 << 63)

_CANONICAL: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_LEADING_NUMBER: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)0*([0-9]{0,20})")
_SIGNIFICANT_DIGITS: Final = 20
"""Maximum number of digits of a 64-bit number; further digits are not read."""


def canonical_integer(raw: bytes) -> int | None:
    """
    Return a signed 64-bit integer in canonical decimal form, ``None`` for any other word (upstream: ``string2ll``).

    A plus sign, whitespace and leading zeros are not canonical.
    """
    if _CANONICAL.fullmatch(raw) is None:
        return None
    number = int(raw)
    return number if LOWEST_I64 <= number <= HIGHEST_I64 else None


def lenient_int(raw: bytes) -> int:
    """Return the number at the start of ``raw`` (upstream: ``strtoll``), clamped to 64 signed bits."""
    if raw.isdigit() and len(raw) < _SIGNIFICANT_DIGITS - 1:
        return int(raw)
    negative, magnitude = _leading_number(raw)
    return max(-magnitude, LOWEST_I64) if negative else min(magnitude, HIGHEST_I64)


def lenient_unsigned(raw: bytes) -> int:
    """
    Return the number at the start of ``raw`` as 64 unsigned bits (upstream: ``strtoull``).

    A number that is too large becomes 2⁶⁴−1; a negative one wraps around, so that −1 becomes 2⁶⁴−1, too.
    """
    if raw.isdigit() and len(raw) < _SIGNIFICANT_DIGITS - 1:
        return int(raw)
    negative, magnitude = _leading_number(raw)
    if magnitude > HIGHEST_U64:
        return HIGHEST_U64
    return -magnitude & HIGHEST_U64 if negative else magnitude


def _leading_number(raw: bytes) -> tuple[bool, int]:
    found = _LEADING_NUMBER.match(raw)
    if found is None:
        return False, 0
    sign, digits = found.groups()
    return sign == b"-", int(digits or b"0")
