"""One client of a stand-in; frequent requests are recognised without parsing."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol

from benchmarks.standins.encoding import error
from benchmarks.standins.instance import HELLO_CHANNEL, Instance

PING: Final = b"*1\r\n$4\r\nPING\r\n"
PONG: Final = b"+PONG\r\n"
INFO: Final = b"*1\r\n$4\r\nINFO\r\n"
_CHANNEL: Final = b"$%d\r\n%b\r\n" % (len(HELLO_CHANNEL), HELLO_CHANNEL)
HELLO_PREFIX: Final = b"*3\r\n$7\r\nPUBLISH\r\n" + _CHANNEL + b"$"
MESSAGE: Final = b"*3\r\n$7\r\nmessage\r\n" + _CHANNEL
_PAYLOAD_AT: Final = len(HELLO_PREFIX) - 1
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class ConnectionLoop(Protocol):
    """What a connection asks of the loop that serves it."""

    connections: dict[int, Connection]
    """The open connections by descriptor."""

    def forget(self, connection: Connection) -> None:
        """A connection is about to be closed."""

    def wait_writable(self, connection: Connection) -> None:
        """Flush the connection when its socket is writable."""

    def has_capacity(self, connection: Connection) -> None:
        """All of it was flushed."""


class Connection:
    """
    A client. ``answer`` executes a request that needs parsing.

    ``fast_path`` is set if PING, INFO and PUBLISH need no checks: no password, transaction, subscription or stale data
    affects them.
    """

    __slots__ = (
        "answer",
        "authenticated",
        "channels",
        "closing",
        "dirty_exec",
        "fast_path",
        "fd",
        "instance",
        "loop",
        "name",
        "number",
        "out",
        "patterns",
        "peer",
        "protocol",
        "queued",
        "recv",
        "rest",
        "send",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: tuple[str, int],
        instance: Instance[Connection],
        number: int,
        loop: ConnectionLoop,
        answer: Callable[[Connection, list[bytes]], bytes],
    ) -> None:
        self.sock, self.peer, self.instance, self.number, self.loop = sock, peer, instance, number, loop
        self.answer = answer
        self.fd = sock.fileno()
        self.recv, self.send = sock.recv, sock.send
        self.rest = self.out = b""
        self.name = b""
        self.protocol = 2
        self.authenticated = not instance.configuration.requirepass
        self.channels: list[bytes] = []
        self.patterns: list[bytes] = []
        self.queued: list[list[bytes]] | None = None
        self.dirty_exec = self.closing = False
        self.update_fast_path()

    @property
    def subscriptions(self) -> int:
        """How many channels and patterns it has subscribed to."""
        return len(self.channels) + len(self.patterns)

    def update_fast_path(self) -> None:
        """Update whether requests may be recognised without parsing."""
        self.fast_path = (
            self.authenticated
            and self.queued is None
            and (self.protocol == 3 or not self.subscriptions)
            and self.instance.configuration.serve_stale
        )

    def received(self, data: bytes) -> None:
        """Answer all complete requests in what has come so far, with one write."""
        if self.rest:
            data = self.rest + data
            self.rest = b""
        replies = []
        at, end, instance = 0, len(data), self.instance
        while at < end and not self.closing:
            instance.commands += 1
            if self.fast_path:
                if data.startswith(PING, at):
                    replies.append(PONG)
                    at += len(PING)
                    continue
                if data.startswith(HELLO_PREFIX, at):
                    line = data.find(b"\r\n", at + len(HELLO_PREFIX))
                    after = line + 4 + int(data[at + len(HELLO_PREFIX) : line]) if line > 0 else end + 1
                    audience = instance.audience()
                    if after <= end and audience is not None:
                        frame = MESSAGE + data[at + _PAYLOAD_AT : after]
                        for listener in audience:
                            listener.write(frame)
                        replies.append(b":%d\r\n" % len(instance.channels[HELLO_CHANNEL]))
                        at = after
                        continue
                if data.startswith(INFO, at):
                    replies.append(instance.info())
                    at += len(INFO)
                    continue
            try:
                found = parse(data, at)
            except ValueError:
                replies.append(error("ERR Protocol error"))
                self.closing = True
                break
            if found is None:
                self.rest = data[at:]
                break
            words, at = found
            if words:
                replies.append(self.answer(self, words))
        if replies:
            self.write(b"".join(replies))
        if self.closing:
            self.close()

    def write(self, data: bytes) -> None:
        """Send now; what exceeds the socket buffer is sent when the socket is writable again."""
        if self.out:
            self.out += data
            return
        try:
            sent = self.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # The read will report the error.
        if sent < len(data):
            self.out = data[sent:]
            self.loop.wait_writable(self)

    def flush(self) -> None:
        """The socket is writable again."""
        data, self.out = self.out, b""
        self.write(data)
        if not self.out:
            self.loop.has_capacity(self)

    def leave(self, channel: bytes, *, pattern: bool) -> None:
        """End the subscription to a channel or a pattern."""
        instance = self.instance
        mine, table = (self.patterns, instance.patterns) if pattern else (self.channels, instance.channels)
        mine.remove(channel)
        table[channel].remove(self)
        if not table[channel]:
            del table[channel]
        instance.audience_changed()

    def close(self, *, reset: bool = False) -> None:
        """
        Close the connection, if it is open.

        :param reset: with a reset, as the kernel does for a process that dies with unread bytes.
        """
        if self.fd not in self.loop.connections:
            return
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.loop.forget(self)
        self.sock.close()
        for channel in list(self.channels):
            self.leave(channel, pattern=False)
        for channel in list(self.patterns):
            self.leave(channel, pattern=True)
        self.instance.connections.discard(self)


def parse(data: bytes, at: int) -> tuple[list[bytes], int] | None:
    """
    Parse the request that begins at an index; return it and the index after it, ``None`` if it is incomplete.

    A line that is no array is split at blanks.
    """
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    if data[at : at + 1] != b"*":
        return data[at:line].split(), line + 2
    count = int(data[at + 1 : line])
    words = []
    at = line + 2
    for _ in range(count):
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        length = int(data[at + 1 : line])
        at = line + 2
        if len(data) < at + length + 2:
            return None
        words.append(data[at : at + length])
        at += length + 2
    return words, at
