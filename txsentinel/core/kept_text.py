"""
Texts of INFO in less memory.

The text of the last INFO of each server is kept for ``SENTINEL INFO-CACHE``. It has five kilobytes, of which nearly all
are the same for all servers of a kind. So each is compressed with one of them as the dictionary, which leaves some
three hundred bytes and takes about 15 microseconds. The text is restored in three.
"""

from __future__ import annotations

from typing import Any, Final
from zlib import DEFLATED, Z_DEFAULT_STRATEGY, compressobj, decompressobj

MIN_LENGTH: Final = 1_000
"""Length in bytes from which a text is compressed."""

WINDOW_BITS: Final = 13
"""Logarithm of the bytes to which a text can refer: the larger it is, the longer copying a compressor takes."""

MAX_DICTIONARY: Final = (1 << WINDOW_BITS) - 512
"""Number of bytes of a text that serve as the dictionary of others."""

_LEVEL: Final = 3
_MEMORY_LEVEL: Final = 7

MAX_UNLIKE: Final = 16
"""After so many texts in a row that the dictionary does not shrink to a quarter, the next one is the dictionary."""


class KeptText:
    """A text, compressed if it has a dictionary."""

    __slots__ = ("_dictionary", "_packed")

    def __init__(self, packed: bytes, dictionary: bytes = b"") -> None:
        self._packed = packed
        self._dictionary = dictionary

    def __len__(self) -> int:
        """Return the number of bytes that are kept."""
        return len(self._packed)

    def text(self) -> bytes:
        """Return the text."""
        if not self._dictionary:
            return self._packed
        return decompressobj(-WINDOW_BITS, self._dictionary).decompress(self._packed)


class TextKeeper:
    """Compresses texts that resemble each other."""

    def __init__(self) -> None:
        self._dictionary = b""
        self._compressor: Any = None
        """Has read the dictionary; a copy of it compresses each text."""

        self._unlike = MAX_UNLIKE

    def keep(self, text: bytes) -> KeptText:
        """Return a text in a form that takes less memory."""
        if len(text) < MIN_LENGTH:
            return KeptText(text)
        if self._unlike >= MAX_UNLIKE:
            self._take_for_dictionary(text)
        compressor = self._compressor.copy()
        packed: bytes = compressor.compress(text) + compressor.flush()
        self._unlike = self._unlike + 1 if 4 * len(packed) > len(text) else 0
        return KeptText(packed, self._dictionary) if len(packed) < len(text) else KeptText(text)

    def _take_for_dictionary(self, text: bytes) -> None:
        self._dictionary = text[-MAX_DICTIONARY:]
        self._compressor = compressobj(
            _LEVEL, DEFLATED, -WINDOW_BITS, _MEMORY_LEVEL, Z_DEFAULT_STRATEGY, self._dictionary
        )
