"""
The epoll loop of one process of stand-ins: thousands of listeners, their clients, timers, and a pipe for commands.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from benchmarks.standins.commands import answer
from benchmarks.standins.connection import PING, PONG, Connection
from benchmarks.standins.instance import Instance

BACKLOG: Final = 128
_CHUNK: Final = 16_384
_READ: Final = select.EPOLLIN
_READ_AND_WRITE: Final = select.EPOLLIN | select.EPOLLOUT


class Loop:
    """Serves instances until stopped."""

    def __init__(self, poll_delay: float = 0.0) -> None:
        """:param poll_delay: how long to wait before polling again, so that more events come at once."""
        self.connections: dict[int, Connection] = {}
        self._listeners: dict[int, tuple[socket.socket, Instance[Connection]]] = {}
        self._pipes: dict[int, Callable[[bytes], None]] = {}
        self._by_instance: dict[Instance[Connection], socket.socket] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._epoll = select.epoll()
        self._running = False
        self._poll_delay = poll_delay

    # Instances

    def open(self, instance: Instance[Connection]) -> None:
        """
        Start an instance at its address.

        :raises OSError: if the address is taken.
        """
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Accepted sockets inherit this.
        listener.setblocking(False)
        try:
            listener.bind(instance.address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        self._by_instance[instance] = listener
        self._listeners[listener.fileno()] = listener, instance
        self._epoll.register(listener.fileno(), _READ)
        instance.started()

    def kill(self, instance: Instance[Connection]) -> None:
        """Stop an instance as a crash does: every connection is reset, the next one is refused."""
        listener = self._by_instance.pop(instance)
        del self._listeners[listener.fileno()]
        listener.close()
        for connection in list(instance.connections):
            connection.close(reset=True)
        instance.stopped()

    def suspend(self, instance: Instance[Connection]) -> None:
        """Stop reading and accepting; the kernel still completes handshakes and keeps connections."""
        instance.hanging = True
        self._epoll.unregister(self._by_instance[instance].fileno())
        for connection in instance.connections:
            self._epoll.unregister(connection.fd)

    def resume(self, instance: Instance[Connection]) -> None:
        """Continue after a hang."""
        self._epoll.register(self._by_instance[instance].fileno(), _READ)
        for connection in instance.connections:
            self._epoll.register(connection.fd, _READ_AND_WRITE if connection.out else _READ)
        instance.resumed()

    # Connections

    def forget(self, connection: Connection) -> None:
        """A connection is about to be closed."""
        del self.connections[connection.fd]

    def wait_writable(self, connection: Connection) -> None:
        """Flush the connection when its socket is writable."""
        if not connection.instance.hanging:
            self._epoll.modify(connection.fd, _READ_AND_WRITE)

    def has_capacity(self, connection: Connection) -> None:
        """All of it was flushed."""
        self._epoll.modify(connection.fd, _READ)

    # Timers and control

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function after that time."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), call))

    def read_from(self, fd: int, received: Callable[[bytes], None]) -> None:
        """Pass on what arrives through a pipe; the loop ends with the pipe."""
        os.set_blocking(fd, False)
        self._pipes[fd] = received
        self._epoll.register(fd, _READ)

    def stop(self) -> None:
        """End :meth:`run` after this turn."""
        self._running = False

    def run(self) -> None:
        """Serve."""
        self._running = True
        connections, poll, poll_delay = self.connections, self._epoll.poll, self._poll_delay
        while self._running:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            orders = []
            for fd, mask in poll(timeout, 4096):
                connection = connections.get(fd)
                if connection is None:
                    if fd in self._listeners:
                        self._accept(*self._listeners[fd])
                    elif fd in self._pipes:
                        orders.append(fd)
                    continue
                if mask != _READ and mask & select.EPOLLOUT:
                    connection.flush()
                try:
                    data = connection.recv(_CHUNK)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if data == PING and connection.fast_path and not connection.rest:
                    connection.instance.commands += 1
                    connection.write(PONG)
                elif data:
                    connection.received(data)
                else:
                    connection.close()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
            for fd in orders:  # After everything else, as these open and close the descriptors of the events.
                self._read_pipe(fd)
            if poll_delay:
                time.sleep(poll_delay)

    def _accept(self, listener: socket.socket, instance: Instance[Connection]) -> None:
        while True:
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                return  # It has left already, or there are no descriptors; epoll reports it again.
            sock.setblocking(False)
            connection = Connection(sock, peer, instance, next(self._numbers), self, answer)
            self.connections[connection.fd] = connection
            instance.connections.add(connection)
            instance.accepted += 1
            self._epoll.register(connection.fd, _READ)

    def _read_pipe(self, fd: int) -> None:
        data = os.read(fd, 1 << 20)
        if data:
            self._pipes[fd](data)
        else:
            self.stop()
