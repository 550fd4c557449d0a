"""
Overwriting a file in place so that a crash at any moment loses nothing.

A file that is bind-mounted, or whose directory cannot be written, cannot be replaced by a rename. It is overwritten in
three steps, each made durable before the next:

1. A *recovery record* with the old and the new contents is appended behind all that either of them needs.
2. The new contents are written over the beginning, filled up to the record.
3. The file is cut off behind the new contents.

Until the record is whole, the old contents are whole; from then on the record has the new ones, until they stand whole
at the beginning. So :func:`recovered` finds either the old contents or the new ones, and only the new ones once step 1
is durable. All that is added are comments, so a C Sentinel loads the file too, unless the crash came within step 2.

The record lies inside the file and not beside it. The directory of a bind-mounted file often is the scratch space of a
container, which does not live as long as the file, and writing there takes rights that the file itself does not need.

A record can be left over when an editor or a C Sentinel changes the file. It must not undo that. It therefore has the
old contents as well, and counts only if each byte before it is one that step 2 can have left there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from zlib import crc32

PREFIX: Final = b"#:|"
"""Begins every line of a record and of a filler, and no other line."""

HEADER: Final = PREFIX + b"txsentinel recovery 1 "

_HEADER: Final = re.compile(re.escape(HEADER) + rb"at=(\d{1,18}) old=(\d{1,18}) new=(\d{1,18}) crc=([0-9a-f]{8})\n")
_SCRAPS: Final = re.compile(rb"^#:\|[^\n]*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Overwriting:
    """
    How ``contents`` get into a file in place.

    ``record`` is written at ``length``, the present length of the file (if it is empty, it is there already); then
    ``head`` at 0; then the file is cut off behind ``contents``. Each step must be durable before the next begins.
    """

    length: int
    record: bytes
    head: bytes
    contents: bytes


@dataclass(frozen=True, slots=True)
class Recovered:
    """
    What a file says.

    ``interrupted`` is the overwriting that a crash interrupted, to be carried on before another begins. ``ignored``
    is set if there is a whole record, but the file was changed after it.
    """

    contents: bytes
    interrupted: Overwriting | None = None
    ignored: bool = False


def overwriting(old: bytes, new: bytes) -> Overwriting:
    """
    The steps to ``new``.

    :param old: every byte that is in the file now.
    """
    at = max(len(_terminated(old)), len(_terminated(new)))
    lead = _filled(old, at)[len(old) :]
    header = HEADER + b"at=%d old=%d new=%d crc=%08x\n" % (at, len(old), len(new), crc32(old + new))
    record = header + PREFIX + (old + new).replace(b"\n", b"\n" + PREFIX) + b"\n"
    return Overwriting(len(old), lead + record, _filled(new, at), new)


def _terminated(text: bytes) -> bytes:
    """``text`` with a line end, unless it has one or is empty."""
    return text if text.endswith(b"\n") or not text else text + b"\n"


def _filled(text: bytes, size: int) -> bytes:
    """``text``, and a comment behind it that makes ``size`` bytes of it."""
    text = _terminated(text)
    missing = size - len(text)
    if missing <= len(PREFIX):
        return text + b"\n" * missing
    return text + PREFIX + b"." * (missing - len(PREFIX) - 1) + b"\n"


def recovered(raw: bytes) -> Recovered:
    """What a file with the bytes ``raw`` says; records and fillers are no part of that."""
    ignored = False
    start = len(raw)
    while (start := raw.rfind(HEADER, 0, start)) >= 0:
        texts = _read_record(raw, start)
        if texts is None:
            continue
        old, new = texts
        head, wanted = raw[:start], _filled(new, start)
        if head == wanted:
            return Recovered(new)
        if _is_mixture(head, _filled(old, start), wanted):
            return Recovered(new, Overwriting(len(raw), b"", wanted, new))
        ignored = True
    return Recovered(_SCRAPS.sub(b"", raw) if PREFIX in raw else raw, ignored=ignored)


def _read_record(raw: bytes, start: int) -> tuple[bytes, bytes] | None:
    """The old and the new contents in the record at ``start``; ``None`` unless it is whole and where it was written."""
    header = _HEADER.match(raw, start)
    if header is None or int(header[1]) != start:
        return None
    lengths = int(header[2]), int(header[3])
    body = raw[header.end() :]
    if not body.startswith(PREFIX):
        return None
    both = body[len(PREFIX) :].replace(b"\n" + PREFIX, b"\n")[: sum(lengths)]
    if len(both) != sum(lengths) or crc32(both) != int(header[4], 16):
        return None
    return both[: lengths[0]], both[lengths[0] :]


def _is_mixture(head: bytes, old: bytes, new: bytes) -> bool:
    """Whether ``head`` can be what a crash leaves while ``new`` is written over ``old``; holes read as zeros."""
    if not len(head) == len(old) == len(new):
        return False
    return all(byte in (before, after, 0) for byte, before, after in zip(head, old, new, strict=True))


def describe(path: str, found: Recovered) -> str | None:
    """A sentence for the log about what was found in the file at ``path``; ``None`` if there is nothing to say."""
    if found.interrupted is not None:
        return f"A crash interrupted the writing of {path}. Its new contents were taken from the recovery record in it."
    if found.ignored:
        return f"There is a recovery record in {path}, but the file was changed after it. The record is ignored."
    return None
