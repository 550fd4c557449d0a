"""
CRC-32 of joined texts, from the CRC-32 of each and their lengths.

A CRC is the remainder of a division of polynomials over the field of two elements. To append a text of *n* bytes
multiplies what stands before it by *x* to the power of *8n*, and then adds the CRC of that text. Numbers represent
polynomials with the coefficient of the lowest power in the highest of 32 bits, as ``zlib.crc32`` returns them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

POLYNOMIAL: Final = 0xEDB88320
ONE: Final = 1 << 31


def product(one: int, other: int) -> int:
    """Return the product of two polynomials, modulo ``POLYNOMIAL``."""
    result = 0
    bit = ONE
    while one:
        if one & bit:
            result ^= other
            one ^= bit
        bit >>= 1
        other = (other >> 1) ^ (POLYNOMIAL if other & 1 else 0)
    return result


@lru_cache(maxsize=1024)
def shift(length: int) -> int:
    """Return *x* to the power of eight times ``length``."""
    result, factor = ONE, 1 << 23  # x to the power of eight
    while length:
        if length & 1:
            result = product(result, factor)
        factor = product(factor, factor)
        length >>= 1
    return result


def joined(before: int, after: int, length: int) -> int:
    """Return the CRC of a text that ends in one of this ``length``, from the CRCs of what precedes it and of it."""
    return product(shift(length), before) ^ after
