"""
Numbers in ``sentinel`` lines.

The C Sentinels read them with ``atoi``: ``5s`` and ``5e3`` are 5, ``51%`` is 51, ``abc`` is 0, and none of them is
reported. Here the whole word must be a number.
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
"""No 64-bit number has more."""


def whole_number(word: str, meaning: str) -> int:
    """
    The number that ``word`` consists of. Blanks before it, a sign and leading zeros are allowed, as in C.

    :param meaning: what the directive takes, with its article: ``a whole number of milliseconds``.
    :raises Complaint: if there is anything else in ``word``, or if the number does not fit into 64 bits.
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
    An epoch. Epochs count up from zero; one of more than 63 bits, as C may write it, is the greatest that fits.

    :raises Complaint: if it is not a number.
    """
    match = _NUMBER.fullmatch(word)
    if match is None:
        raise DirectiveError(f"'{excerpt(word)}' is not an epoch.")
    sign, digits = match.groups()
    if sign == "-":
        return 0
    return HIGHEST_EPOCH if len(digits) > _MAX_DIGITS else min(int(digits), HIGHEST_EPOCH)
