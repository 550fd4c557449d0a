"""
Glob patterns as the servers match them (upstream: ``stringmatchlen``), for channels, names and commands.

``*`` matches any bytes, ``?`` one byte, ``[a-z]`` or ``[^a-z]`` one byte of a class, and a backslash makes the next
byte literal. Upstream's peculiarities are kept: only the empty pattern matches an empty string, a range may be given
backwards, and a class without a closing bracket ends with the pattern. The one difference is that the time is bounded
by the square of the length of the string, whatever the pattern, as patterns come from untrusted clients.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_STAR, _QUESTION, _OPEN, _CLOSE, _CARET, _BACKSLASH, _DASH = b"*?[]^\\-"

_ANY: Final = bytes([1]) * 256
_NONE: Final = bytes(256)
_RUN: Final = b"*"
"""Represents ``*``; compared by identity."""


def _table(*accepted: int) -> bytes:
    """Return a table of 256 bytes: 1 for each accepted byte, else 0. Its size does not depend on the class."""
    return bytes([byte in accepted for byte in range(256)])


_EXACT: Final = tuple(_table(byte) for byte in range(256))
_FOLDED: Final = tuple(_table(bytes((byte,)).lower()[0], bytes((byte,)).upper()[0]) for byte in range(256))
_LOWER: Final = bytes(range(256)).lower()
_UPPER: Final = bytes(range(256)).upper()

_CACHED_LENGTH: Final = 256
"""Length in bytes of the longest pattern that is cached; the limit keeps the cache small."""

_MAX_CLASS: Final = 1024
"""Length in bytes of the longest class; a longer one accepts nothing. A class without repetitions is shorter."""

_STARS: Final = re.compile(rb"\*+")
_INVERTED: Final = bytes.maketrans(bytes((0, 1)), bytes((1, 0)))
_NEVER: Final[tuple[bytes, ...]] = (_NONE,)
"""A compiled pattern that matches nothing."""


def glob_match(pattern: bytes, string: bytes, nocase: bool = False) -> bool:
    """Return whether ``pattern`` matches the whole of ``string``; ``nocase`` ignores the case of ASCII letters."""
    if not string:
        return not pattern
    if len(pattern) <= _CACHED_LENGTH:
        return _matches(_compiled(pattern, nocase), string)
    return _matches(_compile(pattern, nocase, len(string)), string)


def _matches(atoms: tuple[bytes, ...], string: bytes) -> bool:
    """
    Walk pattern and string together; on a mismatch extend the latest ``*`` by one byte.

    Backtracking to an earlier ``*`` is never needed: the later one can match whatever the earlier one would leave.
    """
    at = 0
    place = 0
    star = -1
    resume = 0
    while place < len(string):
        if at < len(atoms):
            atom = atoms[at]
            if atom is _RUN:
                at += 1
                if at == len(atoms):
                    return True
                star, resume = at, place
                continue
            if atom[string[place]]:
                at += 1
                place += 1
                continue
        if star < 0:
            return False
        resume += 1
        at, place = star, resume
    return at == len(atoms) or (at == len(atoms) - 1 and atoms[at] is _RUN)


def _compile(pattern: bytes, nocase: bool, longest: int = _CACHED_LENGTH) -> tuple[bytes, ...]:
    """
    Compile a pattern to one table of accepted bytes per position; neighbouring stars become one `_RUN`.

    :param longest: length in bytes of the longest string to match; a pattern that needs a longer one is `_NEVER`.
    """
    single = _FOLDED if nocase else _EXACT
    atoms: list[bytes] = []
    at = places = 0
    while at < len(pattern):
        byte = pattern[at]
        if byte == _STAR:
            atoms.append(_RUN)
            stars = _STARS.match(pattern, at)
            assert stars is not None
            at = stars.end()
            continue
        places += 1
        if places > longest:
            return _NEVER
        if byte == _QUESTION:
            atoms.append(_ANY)
        elif byte == _OPEN:
            accepted, at = _compile_class(pattern, at + 1, nocase)
            if at < 0:
                return _NEVER
            atoms.append(accepted)
        else:
            if byte == _BACKSLASH and at + 1 < len(pattern):
                at += 1
            atoms.append(single[pattern[at]])
        at += 1
    return tuple(atoms)


_compiled = lru_cache(maxsize=512)(_compile)


def _compile_class(pattern: bytes, at: int, nocase: bool) -> tuple[bytes, int]:
    """
    Compile the class that starts after its bracket.

    :returns: the table, and the index of the last byte of the class; −1 if the class is longer than `_MAX_CLASS`.
    """
    end = at + _MAX_CLASS
    negated = pattern[at : at + 1] == b"^"
    if negated:
        at += 1
    accepted = bytearray(256)
    while at < len(pattern):
        if at > end:
            return _NONE, -1
        byte = pattern[at]
        left = len(pattern) - at
        if byte == _BACKSLASH and left >= 2:
            at += 1
            # Upstream compares an escaped member of a class exactly, even when case is ignored.
            accepted[pattern[at]] = 1
        elif byte == _CLOSE:
            break
        elif left >= 3 and pattern[at + 1] == _DASH:
            _accept_range(accepted, byte, pattern[at + 2], nocase)
            at += 2
        else:
            accepted[byte] = 1
            if nocase:
                accepted[_LOWER[byte]] = accepted[_UPPER[byte]] = 1
        at += 1
    return (bytes(accepted.translate(_INVERTED)) if negated else bytes(accepted)), at


def _accept_range(accepted: bytearray, first: int, last: int, nocase: bool) -> None:
    """Accept all bytes between the two, in either order."""
    low, high = min(first, last), max(first, last)
    if not nocase:
        accepted[low : high + 1] = _ANY[low : high + 1]
        return
    # The ends are put in order before their case is folded, so a range such as [Z-_] may become empty.
    low, high = _LOWER[low], _LOWER[high]
    for byte in range(256):
        if low <= _LOWER[byte] <= high:
            accepted[byte] = 1
