"""Encoding and parsing of commands for tests with real processes, independent of ``txsentinel.wire``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Stream(Protocol):
    """A buffered stream of bytes, such as :meth:`socket.socket.makefile` returns."""

    def readline(self) -> bytes:
        """Return the next line with its end; empty at the end of the stream."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes; fewer at the end of the stream."""


def pack(*words: bytes | str | int) -> bytes:
    """Encode a command as an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(
        bulk(word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")) for word in words
    )


def bulk(payload: bytes) -> bytes:
    """Encode a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(payload), payload)


def read_commands(stream: Stream) -> Iterator[list[bytes]]:
    """
    Read commands until the end of the stream.

    :raises ValueError: if the stream has anything but arrays of bulk strings.
    """
    while header := stream.readline():
        words = []
        for _ in range(int(header[1:])):
            length = int(stream.readline()[1:])
            words.append(stream.read(length + 2)[:-2])
        yield words
