"""Base class of the contract tests: two servers, connections to them, and their INFO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tests.contract.redis_servers import Connection, Server, Servers, call
from txsentinel.wire.info import InfoReport, parse_info
from txsentinel.wire.values import ErrorLine


class Contract:
    """Two servers for all tests of a class. Subclasses choose the kind of servers."""

    make_servers: ClassVar[Callable[[], Servers]]
    servers: ClassVar[Servers]
    first: ClassVar[Server]
    second: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        cls.servers = cls.make_servers()
        try:
            cls.first, cls.second = cls.servers.start(), cls.servers.start()
        except BaseException:
            cls.servers.stop()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        cls.servers.stop()

    def setUp(self: Any) -> None:
        self.opened: list[Connection] = []
        self.a, self.b = self.connect(self.first), self.connect(self.second)
        self.addCleanup(self.heal_all)

    def heal_all(self: Any) -> None:
        """Leave two empty masters for the next test."""
        for connection in self.opened:
            connection.close()
        for server in (self.first, self.second):
            connection = server.connect()
            for request in ("AUTH secret", "FAILOVER ABORT", "CLIENT UNPAUSE"):
                call(connection, request)
            requests: tuple[str | tuple[str, ...], ...] = (
                ("CONFIG", "SET", "requirepass", ""),
                ("CONFIG", "SET", "masterauth", ""),
                "CONFIG SET slave-serve-stale-data yes",
                "SLAVEOF NO ONE",
                "FLUSHALL",
                "CONFIG REWRITE",
            )
            for order in requests:
                self.assertEqual(call(connection, order), b"OK")
            connection.close()

    def connect(self: Any, server: Server) -> Connection:
        """Return a connection that is closed after the test."""
        connection: Connection = server.connect()
        self.opened.append(connection)
        return connection

    def info(self, connection: Connection) -> InfoReport:
        """Return the INFO fields that a Sentinel uses."""
        reply = call(connection, "INFO")
        assert isinstance(reply, bytes)
        return parse_info(reply)

    def replication(self, connection: Connection) -> dict[str, str]:
        """Return the replication section of INFO."""
        lines = call(connection, "INFO replication").decode().split("\r\n")
        return dict(line.partition(":")[::2] for line in lines if ":" in line)

    def replicate(self: Any) -> None:
        """Make the second server a replica of the first, and wait until its link is up."""
        self.assertEqual(call(self.b, f"SLAVEOF {self.first.host} {self.first.port}"), b"OK")
        self.eventually(lambda: self.info(self.b).master_link_up)
        self.eventually(lambda: "state=online" in self.replication(self.a).get("slave0", ""))

    def eventually(self: Any, condition: Callable[[], object]) -> None:
        """Assert that the condition becomes true in time."""
        self.assertTrue(self.servers.until(condition))

    def refused(self: Any, reply: object, start: str) -> None:
        """Assert that the reply is an error with this beginning."""
        assert isinstance(reply, ErrorLine), reply
        self.assertTrue(reply.startswith(start.encode()), reply)
