"""
Overwriting a file in place such that a crash at any time loses nothing.

A file that is bind-mounted, or whose directory is not writable, cannot be replaced by a rename. It is overwritten in
three steps, each of which is durable before the next begins:

1. A *recovery record* with the old and the new contents is appended, at an offset beyond the end of either.
2. The new contents are written at offset 0, and filled up to the record with a comment.
3. The file is truncated after the new contents.

Until the record is complete, the old contents are intact; from then on the record has the new ones, until they are
complete at offset 0. So :func:`recovered` returns either the old contents or the new ones, and only the new ones once
step 1 is durable. Everything that is added is a comment, so a C Sentinel loads the file too, unless the crash happened
during step 2.

The record is in the file itself and not beside it. The directory of a bind-mounted file often belongs to the writable
layer of a container, which does not live as long as the file, and writing there requires permissions that the file
itself does not.

A record can be left over when an editor or a C Sentinel changes the file, and must not undo that change. Therefore it
has the old contents as well, and is valid only if step 2 can have left each byte before it.
"""

from __future__ import annotations

import re
from binascii import crc32
from dataclasses import dataclass
from typing import Final

PREFIX: Final = b"#:|"
"""Beginning of every line of a record and of a filler, and of no other line."""

HEADER: Final = PREFIX + b"txsentinel recovery 1 "

_HEADER: Final = re.compile(re.escape(HEADER) + rb"at=(\d{1,18}) old=(\d{1,18}) new=(\d{1,18}) crc=([0-9a-f]{8})\n")
_SCRAPS: Final = re.compile(rb"^#:\|[^\n]*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Overwriting:
    """
    The steps that overwrite a file with ``contents``.

    ``record`` is written at ``length``, the current length of the file (an empty record is in the file already); then
    ``head`` at 0; then the file is truncated after ``contents``. Each step must be durable before the next begins.
    """

    length: int
    record: bytes
    head: bytes
    contents: bytes


@dataclass(frozen=True, slots=True)
class Recovered:
    """
    The contents of a file, after recovery.

    ``interrupted`` is an overwriting that a crash interrupted; it must be completed before another begins. ``ignored``
    is set if the file has a complete record but was changed after it.
    """

    contents: bytes
    interrupted: Overwriting | None = None
    ignored: bool = False


def overwriting(old: bytes, new: bytes) -> Overwriting:
    """
    Return the steps that overwrite a file with ``new``.

    :param old: the current bytes of the file, all of them.
    """
    at = max(len(_terminated(old)), len(_terminated(new)))
    lead = _filled(old, at)[len(old) :]
    header = HEADER + b"at=%d old=%d new=%d crc=%08x\n" % (at, len(old), len(new), crc32(old + new))
    record = header + PREFIX + (old + new).replace(b"\n", b"\n" + PREFIX) + b"\n"
    return Overwriting(len(old), lead + record, _filled(new, at), new)


def _terminated(text: bytes) -> bytes:
    """Return ``text`` with a line end, unless it has one or is empty."""
    return text if text.endswith(b"\n") or not text else text + b"\n"


def _filled(text: bytes, size: int) -> bytes:
    """Return ``text`` followed by a comment that fills it up to ``size`` bytes."""
    text = _terminated(text)
    missing = size - len(text)
    if missing <= len(PREFIX):
        return text + b"\n" * missing
    return text + PREFIX + b"." * (missing - len(PREFIX) - 1) + b"\n"


def recovered(raw: bytes) -> Recovered:
    """Return the contents of a file with the bytes ``raw``, without records and fillers."""
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
    """Return the old and new contents in the record at ``start``; ``None`` unless it is complete and was not moved."""
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
    """Whether a crash while ``new`` is written over ``old`` can leave ``head``; holes read as zeros."""
    if not len(head) == len(old) == len(new):
        return False
    return all(byte in (before, after, 0) for byte, before, after in zip(head, old, new, strict=True))


def describe(path: str, found: Recovered) -> str | None:
    """Return a sentence for the log about the recovery of the file at ``path``; ``None`` if none was required."""
    if found.interrupted is not None:
        return f"A crash interrupted the writing of {path}. Its new contents were taken from the recovery record in it."
    if found.ignored:
        return f"There is a recovery record in {path}, but the file was changed after it. The record is ignored."
    return None
