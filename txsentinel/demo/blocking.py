"""
A small blocking client, for programs that observe servers from outside.

It is independent of ``txsentinel.wire``, so that checks of the service do not share its errors.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

Reply: TypeAlias = "str | int | list[Reply] | ReplyError | None"
"""A reply in RESP2; text is decoded with UTF-8 and surrogateescape."""

T = TypeVar("T")

MAX_WAIT_SECONDS: Final = 120.0
"""Timeout for what takes a second on an idle machine; a busy one may be many times slower."""

REPLY_TIMEOUT_SECONDS: Final = 20.0
"""Default timeout of a reply."""


class ReplyError(Exception):
    """The server answered with an error; ``str(error)`` is the line without its sign byte."""


class DeadlineExpired(Exception):
    """A condition did not become true in time; the text has the condition and its last result."""


class Connection:
    """
    One RESP2 connection to a server on this machine.

    Every method that sends or receives raises ``OSError`` (``ConnectionError``, ``TimeoutError``) if the server is gone
    or slow.
    """

    def __init__(
        self,
        port: int,
        password: str | None = None,
        timeout: float = REPLY_TIMEOUT_SECONDS,
        host: str = "127.0.0.1",
        source: str | None = None,
    ) -> None:
        """
        Connect, and authenticate if a password is given.

        :param timeout: seconds that one reply may take.
        :param source: source address of the connection; by default the kernel chooses one.
        """
        self._socket = socket.create_connection((host, port), timeout, (source, 0) if source else None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        if password is not None:
            self.call("AUTH", password)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def set_timeout(self, seconds: float) -> None:
        """Change the number of seconds that one reply may take."""
        self._socket.settimeout(seconds)

    def fileno(self) -> int:
        """The descriptor, so that a selector can wait for it."""
        return self._socket.fileno()

    def send(self, *words: str | int) -> None:
        """Send one command without waiting for its answer."""
        encoded = [str(word).encode("utf-8", "surrogateescape") for word in words]
        request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
        self._socket.sendall(request)

    def call(self, *words: str | int) -> Reply:
        """
        Send one command and wait for its answer.

        :raises ReplyError: if the answer is an error.
        """
        self.send(*words)
        reply = self.read_reply()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def read_reply(self) -> Reply:
        """The next answer; an error answer is returned, not raised."""
        line = self._line()
        sign, rest = line[:1], line[1:].decode("utf-8", "surrogateescape")
        if sign == b"+":
            return rest
        if sign == b"-":
            return ReplyError(rest)
        if sign == b":":
            return int(rest)
        if sign == b"$":
            length = int(rest)
            return None if length < 0 else self._take(length + 2)[:-2].decode("utf-8", "surrogateescape")
        if sign == b"*":
            count = int(rest)
            return None if count < 0 else [self.read_reply() for _ in range(count)]
        raise ConnectionError(f"not a RESP2 reply: {line[:80]!r}")

    @property
    def has_buffered(self) -> bool:
        """Whether bytes of a further reply are buffered here, where a selector does not see them."""
        return bool(self._buffer)

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
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the server")
        self._buffer += data


def call(port: int, *words: str | int, password: str | None = None, timeout: float = REPLY_TIMEOUT_SECONDS) -> Reply:
    """
    Connect, send one command, return the reply, and close.

    :param timeout: seconds that connecting or replying may take.
    :raises ReplyError: if the reply is an error.
    :raises OSError: if there is no reply.
    """
    with Connection(port, password, timeout) as connection:
        return connection.call(*words)


def pairs(reply: Reply) -> dict[str, str]:
    """A flat array of alternating names and values as a dictionary."""
    if not isinstance(reply, list):
        raise ReplyError(f"expected an array of pairs, got {reply!r}")
    words = [str(word) for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def info_fields(reply: Reply) -> dict[str, str]:
    """The ``name:value`` lines of an INFO reply."""
    lines = str(reply).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def wait_for(condition: Callable[[], T | None], seconds: float, what: str, every: float = 0.02) -> T:
    """
    Call ``condition`` until its result is true.

    A condition that raises ``OSError`` or :class:`ReplyError` counts as not yet true, as servers start and stop here.

    :param seconds: how long to try.
    :param what: completes the sentence "waited in vain for ...".
    :param every: seconds between two tries.
    :returns: the first true result.
    :raises DeadlineExpired: when the time is over.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen: object
        try:
            answer = condition()
            if answer:
                return answer
            seen = answer
        except (OSError, ReplyError) as problem:
            seen = problem
        if time.monotonic() >= deadline:
            raise DeadlineExpired(f"waited {seconds:g} s in vain for {what}; seen last: {seen!r}")
        time.sleep(every)
