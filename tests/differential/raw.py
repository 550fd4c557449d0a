"""
Replies as trees whose nodes keep their type bytes.

It shares no code with the tested package, and reads both protocol versions.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

CLOSED = "<closed>"
SILENCE = "<silence>"


@dataclass(frozen=True)
class Node:
    """One reply: its type byte, and text or the nodes inside; ``None`` for null bulk strings and arrays."""

    sign: str
    value: str | tuple[Node, ...] | None


class Silence(Exception):
    """The timeout has passed."""


class Closed(Exception):
    """The server closed the connection."""


class RawConnection:
    """A connection to 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self.closed = False

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    @property
    def local_port(self) -> int:
        """Return the local port."""
        return int(self._socket.getsockname()[1])

    def send(self, data: bytes) -> None:
        """Send bytes; errors of a closed connection are ignored."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True

    def read(self, seconds: float) -> Node:
        """
        Return the next reply.

        :raises Silence: if it is not complete after ``seconds``.
        :raises Closed: if the connection ended before.
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
