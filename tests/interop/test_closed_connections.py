"""Connections of clients end with the end of the stream, as those of the C Sentinels, never with a reset."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.resp import pack
from tests.servers import Harness, SentinelProcess, free_port, missing, wait_for
from tests.tls.authority import Authority
from tests.tls.installation import client_context, tls_lines

MAX_CLIENTS = 20
LIMITS = (
    f"maxclients {MAX_CLIENTS}",
    "client-output-buffer-limit normal 100kb 0 0",
)


def rest_of(connection: socket.socket) -> bytes:
    """
    Return what is received until the end of the stream.

    :raises ConnectionResetError: if the connection ends with a reset.
    :raises ssl.SSLEOFError: if TLS does not announce the end of the stream.
    :raises TimeoutError: if it does not end.
    """
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


class EndsOfConnections:
    """Tests for every kind of Sentinel."""

    kind: str

    def start(self, *lines: str) -> SentinelProcess:
        """Start a Sentinel with small limits."""
        stack = ExitStack()
        self.addCleanup(stack.close)  # type: ignore[attr-defined]
        harness = stack.enter_context(Harness())
        sentinel = harness.sentinel(self.kind, monitor=[("m", "127.0.0.1", free_port(), 2)], extra=[*LIMITS, *lines])
        sentinel.start()
        return sentinel

    def connect(self, sentinel: SentinelProcess) -> socket.socket:
        """Connect a client and wait until it is served."""
        connection = socket.create_connection(("127.0.0.1", sentinel.port), SECONDS)
        self.addCleanup(connection.close)  # type: ignore[attr-defined]
        return connection

    def client_id(self, connection: socket.socket) -> str:
        """Return the client's ID."""
        connection.sendall(pack("CLIENT", "ID"))
        return connection.recv(99).decode().strip(":\r\n")

    def check_idle(self, connect: Callable[[], socket.socket]) -> None:
        """Send a command, then nothing until ``timeout``."""
        idle = connect()
        self.client_id(idle)
        assert rest_of(idle) == b""

    def check_all(self, sentinel: SentinelProcess, connect: Callable[[], socket.socket]) -> None:
        """Test the other reasons to close a connection."""
        for sent, answered in (
            (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
            (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        ):
            client = connect()
            client.sendall(sent)
            assert rest_of(client) == answered

        admin = connect()
        admin.sendall(pack("CLIENT", "KILL", "ID", self.client_id(admin), "SKIPME", "no"))
        assert rest_of(admin) == b":1\r\n"
        admin, client, subscriber = connect(), connect(), connect()
        subscriber.sendall(pack("SUBSCRIBE", "+sdown"))
        assert subscriber.recv(99)
        admin.sendall(pack("CLIENT", "KILL", "ID", self.client_id(client)) + pack("CLIENT", "KILL", "TYPE", "pubsub"))
        assert rest_of(client) == b""
        assert rest_of(subscriber) == b""
        served = connect()
        self.client_id(served)
        os.kill(sentinel.pid, signal.SIGTERM)
        self.check_shutdown(served)

    def check_shutdown(self, connection: socket.socket) -> None:
        """End the process."""
        assert rest_of(connection) == b""

    def test_tcp(self) -> None:
        """A killed, an invalid and a refused client read the end of the stream."""
        sentinel = self.start()
        clients = [self.connect(sentinel) for _ in range(MAX_CLIENTS + 1)]
        assert rest_of(clients[-1]) == b"-ERR max number of clients reached\r\n"
        for each in clients:
            each.close()
        wait_for(lambda: sentinel.call("PING") == "PONG", SECONDS, "a free connection")
        self.check_all(sentinel, lambda: self.connect(sentinel))

    def test_idle(self) -> None:
        """A client that is idle for ``timeout`` seconds reads the end of the stream."""
        sentinel = self.start("timeout 1")
        self.check_idle(lambda: self.connect(sentinel))

    def test_output_limit(self) -> None:
        """A client that does not read its replies gets those that its socket accepted, then the end of the stream."""
        sentinel = self.start()
        slow = socket.socket()
        self.addCleanup(slow.close)  # type: ignore[attr-defined]
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", sentinel.port))
        slow.settimeout(SECONDS)
        # More than the buffers of both sockets accept, and the limit above that.
        slow.sendall(pack("COMMAND", "DOCS") * 200)
        wait_for(
            lambda: "cmd=command" not in str(sentinel.call("CLIENT", "LIST")), SECONDS, "the client to be cut off", 0.1
        )
        rest_of(slow)

    def start_tls(self, *lines: str) -> tuple[SentinelProcess, Callable[[], ssl.SSLSocket]]:
        """Start a Sentinel with a TLS port; return it and a function that connects to it."""
        authority = Authority(Path(self.mktemp()).absolute())  # type: ignore[attr-defined]
        port = free_port()
        sentinel = self.start(f"tls-port {port}", *tls_lines(authority, authority.issue("server")), *lines)
        context = client_context(authority, authority.issue("client"))

        def connect() -> ssl.SSLSocket:
            plain = socket.create_connection(("127.0.0.1", port), SECONDS)
            self.addCleanup(plain.close)  # type: ignore[attr-defined]
            wrapped = context.wrap_socket(plain, suppress_ragged_eofs=False)
            self.addCleanup(wrapped.close)  # type: ignore[attr-defined]
            return wrapped

        return sentinel, connect

    def test_tls(self) -> None:
        """With TLS, close_notify comes first, without which libraries report a truncated stream."""
        self.check_all(*self.start_tls())

    def test_idle_by_tls(self) -> None:
        """The same after ``timeout``."""
        self.check_idle(self.start_tls("timeout 1")[1])


class TxsentinelTests(EndsOfConnections, SynchronousTestCase):
    """Sentinels of ours."""

    kind = "txsentinel"
    if missing(kind):
        skip = missing(kind)


class RedisTests(EndsOfConnections, SynchronousTestCase):
    """The Sentinel of Redis, as the reference."""

    kind = "redis"
    if missing(kind):
        skip = missing(kind)

    def check_shutdown(self, connection: socket.socket) -> None:
        """With TLS, this one sends no close_notify when the process ends."""
        try:
            assert rest_of(connection) == b""
        except ssl.SSLEOFError:
            assert isinstance(connection, ssl.SSLSocket)
