"""Splitting of lines into words as C servers do it, for inline requests and configuration files; yes-or-no words."""

from __future__ import annotations

import re
from typing import Final

_BLANKS: Final = re.compile(rb"[ \t-\r]*")
_PLAIN_WORD: Final = re.compile(rb"[^ \n\r\t\"']+")
_DOUBLE_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"(?=[ \t-\r]|\Z)', re.DOTALL)
_SINGLE_QUOTED: Final = re.compile(rb"'((?:[^'\\]|\\'|\\(?!'))*)'(?=[ \t-\r]|\Z)", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_NEEDS_CARE: Final = re.compile(rb"[\"'\v\f]")


def split_words(line: bytes) -> list[bytes] | None:
    """
    Split a line into words (upstream: ``sdssplitargs``); return ``None`` for unbalanced quotes.

    Words are separated by whitespace. Double quotes support escape sequences, single quotes only ``\\'``. A quote may
    open inside a word, but the closing quote must end the word. A vertical tab or form feed separates words only where
    no word has begun. A NUL, at which C cuts the line off, is an ordinary character here.
    """
    if _NEEDS_CARE.search(line) is None:
        return line.split()
    words: list[bytes] = []
    at = 0
    while True:
        blanks = _BLANKS.match(line, at)
        at = at if blanks is None else blanks.end()
        if at == len(line):
            return words
        plain = _PLAIN_WORD.match(line, at)
        word = b""
        if plain is not None:
            word, at = plain.group(), plain.end()
        opening = line[at : at + 1]
        if opening == b'"':
            quoted = _DOUBLE_QUOTED.match(line, at)
            if quoted is None:
                return None
            word, at = word + _ESCAPE.sub(_unescaped, quoted.group(1)), quoted.end()
        elif opening == b"'":
            quoted = _SINGLE_QUOTED.match(line, at)
            if quoted is None:
                return None
            word, at = word + quoted.group(1).replace(b"\\'", b"'"), quoted.end()
        words.append(word)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    digits, other = escape.groups()
    if digits is not None:
        return bytes.fromhex(digits.decode("ascii"))
    return _ESCAPED.get(other, other)


def yes_or_no(word: str) -> bool | None:
    """Return the boolean for ``yes`` or ``no`` in any letter case, ``None`` for any other word."""
    lowered = word.lower()
    return True if lowered == "yes" else False if lowered == "no" else None
