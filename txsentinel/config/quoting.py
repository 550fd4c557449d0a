"""Splitting of lines of a file into words, and quoting of words such that all versions accept them."""

from __future__ import annotations

import re
from typing import Final

from txsentinel.wire.words import split_words

BARE: Final = re.compile("[^\\x00-\\x20\\x7f\"']+")
"""A word that needs no quotes; a backslash outside quotes is an ordinary character."""

_WRITTEN_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}


def split_line(line: bytes) -> list[bytes] | None:
    """Split a line of a file into words, or return ``None`` for unbalanced quotes. A NUL ends the line, as in C."""
    return split_words(line.partition(b"\0")[0])


def in_quotes(word: str) -> str:
    """Return ``word`` in double quotes with control characters escaped; characters above 127 are not escaped."""
    escaped = (
        _WRITTEN_ESCAPES.get(char) or (char if " " <= char != "\x7f" else f"\\x{ord(char):02x}") for char in word
    )
    return '"' + "".join(escaped) + '"'


def written(word: str) -> str:
    """
    Return ``word`` for a line, in quotes only if required.

    Older C servers write all words without quotes, so a space in a password makes their file invalid, but all versions
    accept quotes.
    """
    return word if BARE.fullmatch(word) else in_quotes(word)


def decoded(raw: bytes) -> str:
    """Decode bytes to text without loss, whether or not they are valid UTF-8."""
    return raw.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """Encode text to bytes, the inverse of :func:`decoded`."""
    return text.encode("utf-8", "surrogateescape")
