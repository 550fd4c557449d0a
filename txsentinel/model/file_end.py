"""The last lines of a file that may be longer than what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileEnd:
    """
    The end of a file, from the beginning of a line on.

    ``lines_before`` is the number of lines before ``contents``; ``cut_bytes`` is the length of the last of them if it
    extends into the part that was wanted, else 0.
    """

    contents: bytes
    lines_before: int = 0
    cut_bytes: int = 0


def file_end(pieces: Iterable[bytes], limit: int) -> FileEnd:
    """
    Return at most ``limit`` bytes of the end of a file that is read in ``pieces``.

    No more than the limit and one piece are kept at a time, however long a line is.
    """
    kept = b""
    lines_before = cut_bytes = 0
    for piece in pieces:
        kept += piece
        excess = len(kept) - limit
        if excess > 0:
            dropped, kept = kept[:excess], kept[excess:]
            lines_before += dropped.count(b"\n")
            at = dropped.rfind(b"\n")
            cut_bytes = cut_bytes + excess if at < 0 else excess - at - 1
    if not cut_bytes:
        return FileEnd(kept, lines_before)
    at = kept.find(b"\n") + 1 or len(kept)
    return FileEnd(kept[at:], lines_before + 1, cut_bytes + at)
