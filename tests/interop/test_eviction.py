"""Tests of ``maxmemory-clients`` and ``CLIENT NO-EVICT``, on txsentinel and on the C Sentinels."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.servers import Connection, Harness, free_port, info_fields, missing, wait_for
from txsentinel.wire.resp import pack

LIMIT = 2 * 1024 * 1024
WORD_BYTES = 700_000
"""The C Sentinels count up to twice the length of an unfinished word; even so one is below the limit."""


class EvictionTests:
    """What holds for every kind of Sentinel."""

    kind: str

    def unfinished(self, port: int, words: int, *, protected: bool) -> socket.socket:
        """Connect a client, set ``NO-EVICT`` if demanded, and send PING with long words, the last one unfinished."""
        client = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.addCleanup(client.close)  # type: ignore[attr-defined]
        if protected:
            client.sendall(pack("CLIENT", "NO-EVICT", "ON"))
            assert client.recv(99) == b"+OK\r\n"
        word = b"$%d\r\n" % (WORD_BYTES + 1) + b"x" * WORD_BYTES
        client.sendall(b"*%d\r\n$4\r\nPING\r\n" % (1 + words) + b"x\r\n".join([word] * words))
        return client

    def test_no_evict(self) -> None:
        """The client above the limit is evicted; the protected one stays connected and is shown with its flag."""
        stack = ExitStack()
        self.addCleanup(stack.close)  # type: ignore[attr-defined]
        harness = stack.enter_context(Harness())
        sentinel = harness.sentinel(
            self.kind, monitor=[("m", "127.0.0.1", free_port(), 2)], extra=[f"maxmemory-clients {LIMIT}"]
        )
        sentinel.start()
        control = stack.enter_context(Connection(sentinel.port))

        def evicted() -> int:
            return int(info_fields(control.call("INFO", "stats"))["evicted_clients"])

        protected = self.unfinished(sentinel.port, 1, protected=True)
        other = self.unfinished(sentinel.port, 3, protected=False)
        wait_for(lambda: evicted() == 1, SECONDS, "an eviction")
        try:
            assert other.recv(99) == b""
        except ConnectionResetError:
            pass  # Its last bytes were not read.
        protected.sendall(b"x\r\n")
        expected = b"$%d\r\n" % (WORD_BYTES + 1) + b"x" * (WORD_BYTES + 1) + b"\r\n"
        received = b""
        while len(received) < len(expected):
            received += protected.recv(1 << 20)
        assert received == expected
        lines = control.call("CLIENT", "LIST")
        assert " flags=e " in str(lines)
        assert evicted() == 1


class TxsentinelTests(EvictionTests, SynchronousTestCase):
    """Our own Sentinel."""

    kind = "txsentinel"


class RedisTests(EvictionTests, SynchronousTestCase):
    """The Sentinel of Redis."""

    kind = "redis"
    if missing(kind):
        skip = missing(kind)


class ValkeyTests(EvictionTests, SynchronousTestCase):
    """The Sentinel of Valkey."""

    kind = "valkey"
    if missing(kind):
        skip = missing(kind)
