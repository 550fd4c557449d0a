"""Many subscribers of one Sentinel in one loop, to measure when the last of them receives an event."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from types import TracebackType
from typing import Final

PSUBSCRIBE: Final = b"*2\r\n$10\r\nPSUBSCRIBE\r\n$1\r\n*\r\n"
_CONFIRMED: Final = b"psubscribe\r\n"


class Subscribers:
    """
    Connections that subscribe to everything; use it as a context manager.

    :param port: of the Sentinel, on this machine.
    :raises OSError: if it does not accept them all.
    """

    def __init__(self, port: int, count: int, seconds: float = 60.0) -> None:
        self._poller = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), seconds)
            connection.sendall(PSUBSCRIBE)
            self._sockets[connection.fileno()] = connection
            self._tails[connection.fileno()] = b""
            self._poller.register(connection.fileno(), select.EPOLLIN)
        self.wait_event(_CONFIRMED, 1, seconds)

    def __enter__(self) -> Subscribers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._sockets.values():
            connection.close()
        self._poller.close()

    def wait_event(self, mark: bytes, times: int, seconds: float) -> float:
        """
        Wait until each subscriber has received an event so many times.

        :param mark: bytes that are in each of its frames once.
        :param seconds: how long to wait.
        :returns: when the last one had, in ``time.monotonic()`` seconds.
        :raises TimeoutError: if that takes too long.
        """
        missing = dict.fromkeys(self._sockets, times)
        deadline = time.monotonic() + seconds
        while missing:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{len(missing)} of {len(self._sockets)} subscribers have not received everything")
            for descriptor, _ in self._poller.poll(left):
                data = self._tails[descriptor] + self._sockets[descriptor].recv(1 << 20)
                self._tails[descriptor] = data[-len(mark) + 1 :]
                count = data.count(mark)
                if count and descriptor in missing:
                    missing[descriptor] -= count
                    if missing[descriptor] <= 0:
                        del missing[descriptor]
        return time.monotonic()

    def drain(self, seconds: float) -> None:
        """Discard input until none has arrived for so long."""
        while ready := self._poller.poll(seconds):
            for descriptor, _ in ready:
                with suppress(OSError):
                    self._tails[descriptor] = b""
                    self._sockets[descriptor].recv(1 << 20)
