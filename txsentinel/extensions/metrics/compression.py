"""
Gzip of pages of metrics, with the compressed form of what has not changed kept from page to page.

A page is one gzip member. Each part of it is compressed on its own and ends at a byte boundary, which DEFLATE calls a
full flush, so that the compressed parts can be joined in any order.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from txsentinel.extensions.metrics.checksum import joined

LEVEL: Final = 1
"""The fastest. Pages are so repetitive that higher levels gain nothing."""

MIN_KEPT_BYTES: Final = 4096
"""Parts of at least this size are compressed on their own and kept; smaller ones are compressed together."""

_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""No name, no time, unknown system."""

_LAST_BLOCK: Final = b"\x03\x00"
"""An empty block with the mark that no other one follows."""


def accepts_gzip(header: str | None) -> bool:
    """Return whether the header ``Accept-Encoding`` permits gzip."""
    for entry in (header or "").split(","):
        coding, *parameters = (part.strip().lower() for part in entry.split(";"))
        if coding in ("gzip", "*"):
            return not any(each.replace(" ", "").rstrip("0") in ("q=", "q=0.") for each in parameters)
    return False


@dataclass(frozen=True, slots=True)
class _Deflated:
    """A text in its compressed form, with what the end of the member needs."""

    data: bytes
    checksum: int
    length: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """A part with the small one before it, and the compressed form of both."""

    before: bytes
    part: bytes
    deflated: _Deflated


class PageCompressor:
    """Compresses the pages of one format. What is kept is not even read again: a page of all masters has megabytes."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        """By the position among the parts that are kept."""

    def compress(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a gzip member with these parts; as many steps as there are parts at least, some of them empty."""
        checksum = size = position = 0
        small: list[bytes] = []
        yield _HEADER
        for part in parts:
            if len(part) < MIN_KEPT_BYTES:
                small.append(part)
                yield b""
                continue
            before = small.pop() if small else b""  # usually the header of the same family
            pieces = [_deflated(b"".join(small))] if small else []
            small = []
            kept = self._kept.get(position)
            if kept is None or kept.part is not part or kept.before != before:
                kept = self._kept[position] = _Kept(before, part, _deflated(before + part))
            position += 1
            for piece in (*pieces, kept.deflated):
                checksum, size = joined(checksum, piece.checksum, piece.length), size + piece.length
                yield piece.data
        piece = _deflated(b"".join(small))
        checksum, size = joined(checksum, piece.checksum, piece.length), size + piece.length
        yield piece.data
        yield _LAST_BLOCK + struct.pack("<II", checksum, size & 0xFFFFFFFF)


def _deflated(text: bytes) -> _Deflated:
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return _Deflated(compressor.compress(text) + compressor.flush(zlib.Z_FULL_FLUSH), zlib.crc32(text), len(text))
