"""Host names that change, disappear, appear late or are never resolved, for running Sentinels with real servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fake_resolver import SILENT, UNKNOWN, NameServer
from tests.interop.fixtures import SECONDS, listing, shorten_periods
from tests.servers import Harness, RedisProcess, SentinelProcess, call, free_port, missing, pairs, wait_for

LONG_DOWN = 20_000
"""Milliseconds; no failover starts while a server moves."""


class NamesTests(SynchronousTestCase):
    """Sentinels of ours that use a fake name server."""

    def setUp(self) -> None:
        if missing("txsentinel", "valkey"):
            raise SkipTest(missing("txsentinel", "valkey"))
        stack = ExitStack()
        self.addCleanup(stack.close)
        self.harness = stack.enter_context(Harness())

    def server(self, ip: str, *extra: str) -> RedisProcess:
        """Return a server at an address of its own, and at 127.0.0.1 for the test; not yet started."""
        return self.harness.redis("valkey", extra=[f"bind 127.0.0.1 {ip}", *extra])

    def move(self, server: RedisProcess, ip: str) -> None:
        """End a server, and start it again at another address."""
        server.stop()
        server.extra[0] = f"bind 127.0.0.1 {ip}"
        server.start()

    def sentinels(
        self,
        names: NameServer,
        count: int,
        monitor: list[tuple[str, str, int, int]],
        down_after: int = LONG_DOWN,
        extra: Sequence[str] = (),
    ) -> list[SentinelProcess]:
        """Start Sentinels with short periods."""
        started = []
        for _ in range(count):
            lines = ["sentinel resolve-hostnames yes", *extra]
            sentinel = self.harness.sentinel("txsentinel", down_after=down_after, extra=lines)
            # Written behind the directive: a name is only accepted where names are to be resolved.
            for name, host, port, quorum in monitor:
                lines += [f"sentinel monitor {name} {host} {port} {quorum}"]
                lines += [f"sentinel down-after-milliseconds {name} {down_after}"]
                lines += [f"sentinel failover-timeout {name} 5000"]
            sentinel.extra[:] = lines
            names.redirect(sentinel.command)
            sentinel.start()
            started.append(sentinel)
        shorten_periods(started)
        return started

    def wait_master(self, sentinel: SentinelProcess, name: str, ip: str, flags: str = "master") -> None:
        """Wait until a Sentinel monitors a master at that address."""

        def there() -> bool:
            fields = pairs(sentinel.call("SENTINEL", "MASTER", name))
            return (fields["ip"], fields["flags"]) == (ip, flags)

        wait_for(there, SECONDS, f"{sentinel.name} to watch {name} at {ip} as {flags}")

    def wait_linked(self, sentinel: SentinelProcess, server: RedisProcess) -> None:
        """Wait until a server has a connection of that Sentinel."""
        name = f"name=sentinel-{str(sentinel.call('SENTINEL', 'MYID'))[:8]}-cmd"
        wait_for(lambda: name in str(server.call("CLIENT", "LIST")), SECONDS, f"{sentinel.name} to be connected")

    def move_and_fail_over(self, announce: bool) -> None:
        """Move a master and its replica, with their names, under three Sentinels; then fail over."""
        names = NameServer(self.harness.directory, db="127.0.0.2", spare="127.0.0.4")
        master = self.server("127.0.0.2")
        spare = self.server("127.0.0.4", f"replicaof 127.0.0.2 {master.port}", "replica-announce-ip spare.test")
        master.start()
        spare.start()
        words = [f"sentinel announce-hostnames {'yes' if announce else 'no'}"]
        sentinels = self.sentinels(names, 3, [("db", "db.test", master.port, 2)], extra=words)

        def shown(name: str, ip: str) -> str:
            return f"{name}.test" if announce else ip

        def known(name: str, ip: str) -> bool:
            """Whether all have the replica up, and know each other."""
            return all(
                [(each["ip"], each["flags"]) for each in listing(sentinel, "REPLICAS", "db")]
                == [(shown(name, ip), "slave")]
                and len(listing(sentinel, "SENTINELS", "db")) == 2
                for sentinel in sentinels
            )

        wait_for(lambda: known("spare", "127.0.0.4"), SECONDS, "the replica to be found by its name")
        for sentinel in sentinels:
            self.wait_master(sentinel, "db", shown("db", "127.0.0.2"))

        names.change(db="127.0.0.3", spare="127.0.0.5")
        self.move(master, "127.0.0.3")
        self.move(spare, "127.0.0.5")
        for sentinel in sentinels:
            self.wait_linked(sentinel, master)
            self.wait_master(sentinel, "db", shown("db", "127.0.0.3"))
            replies = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "db")
            self.assertEqual(replies, [shown("db", "127.0.0.3"), str(master.port)])
            line = f"sentinel monitor db {shown('db', '127.0.0.3')} {master.port} 2"
            wait_for(lambda s=sentinel, w=line: w in s.config_path.read_text(), SECONDS, "the file")  # type: ignore[misc]
        wait_for(lambda: known("spare", "127.0.0.5"), SECONDS, "the replica to be found where it moved")
        host = shown("db", "127.0.0.3")
        wait_for(lambda: spare.replication()["master_host"] == host, SECONDS, "the replica to be sent after its master")
        if not announce:  # the replica uses another name server than the Sentinels do
            wait_for(lambda: spare.replication()["master_link_status"] == "up", SECONDS, "the replica to be in sync")
        for sentinel in sentinels:
            self.assertNotIn("+sdown master", sentinel.log_text())

    def test_moves(self) -> None:
        """A master and a replica that move with their names are followed without a failover; the file has the IP."""
        self.move_and_fail_over(announce=False)

    def test_moves_of_announced_names(self) -> None:
        """With announced names, clients and the file get the names."""
        self.move_and_fail_over(announce=True)

    def test_name_vanishes(self) -> None:
        """
        A name that cannot be resolved any more keeps its last address, over lost connections; later it is followed.
        """
        names = NameServer(self.harness.directory, db="127.0.0.2")
        master = self.server("127.0.0.2")
        master.start()
        (sentinel,) = self.sentinels(names, 1, [("db", "db.test", master.port, 1)])
        self.wait_master(sentinel, "db", "127.0.0.2")

        names.change(db=UNKNOWN)
        master.stop()
        expected_error = "Failed to resolve hostname 'db.test'"
        wait_for(lambda: expected_error in sentinel.log_text(), SECONDS, "the lookup that fails")
        self.assertEqual(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "db"), ["127.0.0.2", str(master.port)])
        master.start()
        self.wait_master(sentinel, "db", "127.0.0.2")
        self.wait_linked(sentinel, master)

        names.change(db="127.0.0.3")
        self.move(master, "127.0.0.3")
        self.wait_master(sentinel, "db", "127.0.0.3")
        self.assertNotIn("+sdown", sentinel.log_text())

    def test_late_name(self) -> None:
        """A master whose name cannot be resolved at the start is monitored as soon as it can, also after a restart."""
        names = NameServer(self.harness.directory, db=UNKNOWN)
        master = self.server("127.0.0.2")
        master.start()
        (sentinel,) = self.sentinels(names, 1, [("db", "db.test", master.port, 1)], down_after=500)
        wait_for(lambda: "+sdown master db" in sentinel.log_text(), SECONDS, "the master to be missed")
        self.assertEqual(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "db"), ["", str(master.port)])
        sentinel.stop()
        sentinel.start(keep_config=True)
        names.change(db="127.0.0.2")
        self.wait_master(sentinel, "db", "127.0.0.2")

    def test_silent_name_server(self) -> None:
        """
        While lookups hang, clients are answered, changes become durable and other masters are failed over.

        There are more names than lookups at a time; those that wait for their turn block nothing, either.
        """
        silent = [f"n{number}" for number in range(12)]
        names = NameServer(self.harness.directory, **dict.fromkeys(silent, SILENT))
        master = self.server("127.0.0.2")
        spare = self.harness.redis("valkey", replica_of=master.port)
        master.start()
        spare.start()
        monitor = [("db", "127.0.0.1", master.port, 1), *((name, f"{name}.test", master.port, 1) for name in silent)]
        (sentinel,) = self.sentinels(names, 1, monitor, down_after=1000)
        wait_for(names.waiting, SECONDS, "a lookup that hangs")
        self.wait_master(sentinel, "db", "127.0.0.1")
        wait_for(lambda: len(listing(sentinel, "REPLICAS", "db")) == 1, SECONDS, "the replica")
        self.assertEqual(sentinel.call("SENTINEL", "SET", "db", "quorum", "1"), "OK")
        self.assertEqual(sentinel.call("SENTINEL", "FLUSHCONFIG"), "OK")
        self.assertEqual(call(sentinel.port, "PING"), "PONG")
        wait_for(lambda: spare.replication()["master_link_status"] == "up", SECONDS, "the replica to be in sync")
        master.kill()
        wait_for(
            lambda: sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "db") == ["127.0.0.1", str(spare.port)],
            SECONDS,
            "the failover of the master that goes by its address",
        )
        self.assertLess(len(names.waiting()), len(silent))

        master.start()
        names.change(**dict.fromkeys(silent, "127.0.0.2"))
        for name in silent:
            wait_for(
                lambda name=name: pairs(sentinel.call("SENTINEL", "MASTER", name))["ip"] == "127.0.0.2",  # type: ignore[misc]
                SECONDS,
                f"{name} to be resolved",
            )
        self.assertNotIn("+tilt", sentinel.log_text())
        self.assertNotIn("Traceback", sentinel.log_text())

    def test_stopping_while_a_lookup_hangs(self) -> None:
        """SIGTERM ends a Sentinel in order, however long a lookup hangs."""
        names = NameServer(self.harness.directory, db=SILENT)
        (sentinel,) = self.sentinels(names, 1, [("db", "db.test", free_port(), 1)])
        wait_for(names.waiting, SECONDS, "a lookup that hangs")
        os.kill(sentinel.pid, signal.SIGTERM)
        self.assertEqual(sentinel.wait_ended(SECONDS), 0)
        self.assertTrue(sentinel.log_text().endswith("* Server Shut Down.\n"), sentinel.log_text())
        self.assertIn("sentinel monitor db db.test", sentinel.config_path.read_text())
