"""Splitting of lines into words exactly as in C servers, and quoting of words such that all versions accept them."""

from __future__ import annotations

import re
from typing import Final

WHITESPACE: Final = b" \t\n\v\f\r"
ESCAPES: Final = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")

BARE: Final = re.compile("[^\\x00-\\x20\\x7f\"']+")
"""A word that needs no quotes; a backslash outside quotes is an ordinary character."""

_WRITTEN_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}


def split_words(line: bytes) -> list[bytes] | None:
    """
    Split one line into words (upstream: ``sdssplitargs``); return ``None`` for unbalanced quotes.

    Double quotes support escape sequences, single quotes only ``\\'``. A closing quote must be followed by whitespace
    or the end. Quotes may open inside a word. A NUL ends the line.
    """
    line = line.partition(b"\0")[0]
    if b'"' not in line and b"'" not in line:
        return line.split()
    words: list[bytes] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in WHITESPACE:
            at += 1
        if at == end:
            return words
        word = bytearray()
        while at < end and line[at] not in WHITESPACE:
            if line[at] in b"\"'":
                closed = _quoted_part(line, at, word)
                if closed is None or (closed < end and line[closed] not in WHITESPACE):
                    return None
                at = closed
            else:
                word.append(line[at])
                at += 1
        words.append(bytes(word))


def _quoted_part(line: bytes, opening: int, word: bytearray) -> int | None:
    """Add the text between the quotes to ``word``; return the index after the closing quote, ``None`` without one."""
    quote, at, end = line[opening], opening + 1, len(line)
    while at < end:
        char = line[at]
        if char == quote:
            return at + 1
        if char == ord("\\") and at + 1 < end:
            following = line[at + 1]
            if quote == ord('"'):
                digits = line[at + 2 : at + 4]
                if following == ord("x") and len(digits) == 2 and HEX_DIGITS.issuperset(digits):
                    word.append(int(digits, 16))
                    at += 4
                else:
                    word.append(ESCAPES.get(following, following))
                    at += 2
                continue
            if following == quote:
                word.append(quote)
                at += 2
                continue
        word.append(char)
        at += 1
    return None


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
