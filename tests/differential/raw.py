"""
Replies as they are on the wire: trees of which every node keeps its type byte.

It shares no code with what it tests, and reads both protocol versions.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

CLOSED = "<closed>"
SILENCE = "<silence>"


@dataclass(frozen=True)
class Node:
    """One reply: its type byte, and text or the nodes inside; ``None`` for the null of bulks and arrays."""

    sign: str
    value: str | tuple[Node, ...] | None


class Silence(Exception):
    """No more came in time."""


class Closed(Exception):
    """The server hung up."""


def request(words: list[bytes]) -> bytes:
    """A command as an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class RawConnection:
    """A connection to 127.0.0.1 that hides nothing."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self.closed = False

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    @property
    def local_port(self) -> int:
        """Our own port."""
        return int(self._socket.getsockname()[1])

    def send(self, data: bytes) -> None:
        """Send bytes; to a closed connection they go nowhere."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True

    def read(self, seconds: float) -> Node:
        """
        The next reply.

        :raises Silence: if it is not complete after ``seconds``.
        :raises Closed: if it will never be.
        """
        self._deadline = time.monotonic() + seconds
        return self._node()

    def _node(self) -> Node:
        line = self._line()
        sign, rest = line[:1].decode("latin-1"), line[1:].decode("utf-8", "surrogateescape")
        if sign in "+-:,#(_":
            return Node(sign, rest)
        if sign in "$=!":
            if int(rest) < 0:
                return Node(sign, None)
            return Node(sign, self._take(int(rest) + 2)[:-2].decode("utf-8", "surrogateescape"))
        if sign in "*~>%":
            if int(rest) < 0:
                return Node(sign, None)
            return Node(sign, tuple(self._node() for _ in range(int(rest) * (2 if sign == "%" else 1))))
        raise AssertionError(f"not a reply: {line[:100]!r}")

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._receive()
        return self._take(end + 2)[:-2]

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _receive(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Silence
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            raise Silence from None
        except OSError:
            data = b""
        if not data:
            self.closed = True
            raise Closed
        self._buffer += data
