"""Words of a configuration line: taken apart exactly as the C servers do, and written so that all can read."""

from __future__ import annotations

import re
from typing import Final

WHITESPACE: Final = b" \t\n\v\f\r"
ESCAPES: Final = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")

BARE: Final = re.compile("[^\\x00-\\x20\\x7f\"']+")
"""A word that every reader takes as it stands; a backslash has no meaning outside of quotes."""

_WRITTEN_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}


def split_words(line: bytes) -> list[bytes] | None:
    """
    The words of one line (upstream: ``sdssplitargs``), or ``None`` for unbalanced quotes.

    Double quotes know escapes, single quotes only ``\\'``; a closing quote must be followed by
    whitespace or the end. Quotes may open in the middle of a word. A NUL ends the line.
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
    """Add what stands between the quotes to ``word``; the index behind the closing quote, ``None`` without one."""
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
    """``word`` between double quotes, control characters escaped; bytes above 127 stand for themselves."""
    escaped = (
        _WRITTEN_ESCAPES.get(char) or (char if " " <= char != "\x7f" else f"\\x{ord(char):02x}") for char in word
    )
    return '"' + "".join(escaped) + '"'


def written(word: str) -> str:
    """
    ``word`` as it goes into a line: quoted only if a reader would otherwise misunderstand it.

    The older C servers write every word raw, so that a space in a password ruins their file; all of
    them read quotes.
    """
    return word if BARE.fullmatch(word) else in_quotes(word)


def decoded(raw: bytes) -> str:
    """Text that keeps every byte, valid UTF-8 or not."""
    return raw.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """The bytes that :func:`decoded` was given."""
    return text.encode("utf-8", "surrogateescape")
