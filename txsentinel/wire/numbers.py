"""
Numbers as the C Sentinels read them out of text that others wrote.

Leading blanks and one sign are skipped, digits are read until something else comes, and nothing
at all is zero. Nothing here raises, and no text is long enough to make the reading slow.
"""

from __future__ import annotations

import re
from typing import Final

HIGHEST_U64: Final = (1 << 64) - 1
HIGHEST_I64: Final = (1 << 63) - 1
LOWEST_I64: Final = -(1 << 63)

_LEADING_NUMBER: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)0*([0-9]{0,20})")
_SIGNIFICANT_DIGITS: Final = 20
"""No 64-bit number has more; a text that fills them all is too big, whatever follows."""


def lenient_int(raw: bytes) -> int:
    """The number at the start of ``raw`` (upstream: ``strtoll``), held within 64 signed bits."""
    if raw.isdigit() and len(raw) < _SIGNIFICANT_DIGITS - 1:
        return int(raw)
    negative, magnitude = _leading_number(raw)
    return max(-magnitude, LOWEST_I64) if negative else min(magnitude, HIGHEST_I64)


def lenient_unsigned(raw: bytes) -> int:
    """
    The number at the start of ``raw`` as 64 unsigned bits (upstream: ``strtoull``).

    A number too big for that is the highest one; a negative one wraps around, so that −1 is the highest too.
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
