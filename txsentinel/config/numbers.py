"""
Numbers in ``sentinel`` lines.

C Sentinels parse them with ``atoi``: ``5s`` and ``5e3`` become 5, ``51%`` becomes 51 and ``abc`` becomes 0, without an
error. Here the whole word must be a number.
"""

from __future__ import annotations

import re
from typing import Final

from txsentinel.config.errors import DirectiveError
from txsentinel.model.log_text import excerpt

HIGHEST_EPOCH: Final = (1 << 63) - 1
HIGHEST_NUMBER: Final = (1 << 63) - 1

PORT: Final = "a port number"

_NUMBER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]+)", re.ASCII)
_MAX_DIGITS: Final = 20
"""Maximum number of digits of a 64-bit number."""


def whole_number(word: str, meaning: str) -> int:
    """
    Parse a whole word as a number. Leading whitespace, a sign and leading zeros are allowed, as in C.

    :param meaning: the expected value for the error text, such as ``a whole number of milliseconds``.
    :raises DirectiveError: if ``word`` is not a number, or if it does not fit into 64 bits.
    """
    match = _NUMBER.fullmatch(word)
    if match is None:
        raise DirectiveError(f"'{excerpt(word)}' is not {meaning}.")
    sign, digits = match.groups()
    if len(digits) > _MAX_DIGITS or int(digits) > HIGHEST_NUMBER:
        raise DirectiveError(f"'{excerpt(word)}' is not {meaning}: it does not fit into 64 bits.")
    return -int(digits) if sign == "-" else int(digits)


def epoch(word: str) -> int:
    """
    Parse an epoch. A negative number becomes 0; one above 63 bits, which C Sentinels may write, becomes 2⁶³−1.

    :raises DirectiveError: if it is not a number.
    """
    match = _NUMBER.fullmatch(word)
    if match is None:
        raise DirectiveError(f"'{excerpt(word)}' is not an epoch.")
    sign, digits = match.groups()
    if sign == "-":
        return 0
    return HIGHEST_EPOCH if len(digits) > _MAX_DIGITS else min(int(digits), HIGHEST_EPOCH)
