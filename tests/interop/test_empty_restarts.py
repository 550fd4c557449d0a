"""
Masters that restart without their data, with real servers.

A master sends a full copy a minute after a replica asked for it, unless the test permits it sooner. So the outcome does
not depend on how fast this machine is.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.servers import Connection, Fleet, Harness, RedisProcess, missing, wait_for

KEYS = 1_000
DELAY = 60
"""Seconds from the request of a replica to the copy: longer than the Sentinels need, however busy the machine is."""

WRITE = "for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'key' .. i, i) end"


class EmptyRestartTests(SynchronousTestCase):
    """Three Sentinels of ours over a master and two replicas; down-after is longer than any test."""

    if missing("redis"):
        skip = missing("redis")

    def start(self, *settings: str, kinds: tuple[str, ...] = ("txsentinel",) * 3, server_kind: str = "redis") -> Fleet:
        """Start an installation whose servers have 1,000 keys each."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        harness = stack.enter_context(Harness())
        fleet = Fleet(harness, kinds, server_kind, quorum=2, down_after=600_000, failover_timeout=5_000)
        for server in fleet.servers.values():
            server.extra += settings
        fleet.start()
        for sentinel in fleet.sentinels:
            sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", 500)
            if sentinel.kind == "txsentinel":
                sentinel.call("SENTINEL", "SET", "mymaster", "empty-restart-failover", "on")
        with Connection(fleet.master().port) as connection:
            connection.call("EVAL", WRITE, 0, KEYS)
        self.wait_keys(fleet)
        for sentinel in fleet.sentinels:
            wait_for(
                lambda: str(sentinel.call("SENTINEL", "INFO-CACHE", "mymaster")).count(f"keys={KEYS},") == 3,  # noqa: B023
                SECONDS,
                "the Sentinels to see the keys",
            )
        time.sleep(1.5)  # until the connections of the Sentinels are older than a PING period
        for server in fleet.servers.values():
            server.call("CONFIG", "SET", "repl-diskless-sync-delay", DELAY)
        return fleet

    def keys(self, server: RedisProcess) -> int:
        """Return the number of keys of a server."""
        reply = server.call("DBSIZE")
        assert isinstance(reply, int), reply
        return reply

    def wait_keys(self, fleet: Fleet) -> None:
        """Wait until every server has all keys."""
        servers = fleet.servers.values()
        wait_for(lambda: all(self.keys(server) == KEYS for server in servers), SECONDS, "all keys on all servers")

    def permit_copies(self, fleet: Fleet) -> None:
        """Have all servers send full copies at once."""
        words = ("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        for server in fleet.servers.values():
            # Sentinels close the connections of clients when they order another role.
            wait_for(lambda: server.call(*words) == "OK", SECONDS, f"{server.name} to be configured")  # noqa: B023

    def restart(self, server: RedisProcess, *settings: str) -> None:
        """Kill a server, and start it again without the copies that it received as a replica."""
        server.kill()
        for path in server.directory.glob("*.rdb"):
            path.unlink()
        time.sleep(0.2)
        server.extra += settings
        server.start(ready=False)

    def logs(self, fleet: Fleet) -> str:
        """Return the logs of all Sentinels."""
        return "".join(sentinel.log_text() for sentinel in fleet.sentinels)

    def test_replica_is_promoted(self) -> None:
        """A replica is promoted long before down-after has passed, and the former master gets its keys back."""
        fleet = self.start()
        old = fleet.master()
        self.restart(old, f"repl-diskless-sync-delay {DELAY}")
        wait_for(lambda: fleet.master_port() != old.port, SECONDS, "another master")
        self.permit_copies(fleet)
        self.wait_keys(fleet)
        self.assertEqual(old.replication()["role"], "slave")
        self.assertIn("restarted without its data: it has 0 keys", self.logs(fleet))
        self.assertNotIn("DATA LOST", self.logs(fleet))

    def test_beside_a_c_sentinel(self) -> None:
        """Two of ours are a quorum and a majority; the C Sentinel follows them."""
        if missing("redis"):
            self.skipTest(missing("redis"))
        fleet = self.start(kinds=("txsentinel", "txsentinel", "redis"))
        old = fleet.master()
        self.restart(old, f"repl-diskless-sync-delay {DELAY}")
        wait_for(lambda: fleet.master_port() != old.port, SECONDS, "another master")
        self.permit_copies(fleet)
        self.wait_keys(fleet)

    def test_persistent_master(self) -> None:
        """A master that persists its data keeps its role."""
        fleet = self.start("appendonly yes", "appendfsync always")
        old = fleet.master()
        before = old.replication()["master_replid"]
        self.restart(old)
        wait_for(lambda: old.replication()["master_replid"] != before, SECONDS, "the restart")
        others = [server for server in fleet.servers.values() if server is not old]
        wait_for(lambda: all(s.replication()["master_link_status"] == "up" for s in others), SECONDS, "the replicas")
        self.wait_keys(fleet)
        self.assertEqual(fleet.master_port(), old.port)
        self.assertNotIn("+sdown", self.logs(fleet))
        self.assertNotIn("without its data", self.logs(fleet))

    def test_deletions_after_the_restart(self) -> None:
        """A master that persists its data keeps its role, although clients delete keys before its replicas return."""
        fleet = self.start("appendonly yes", "appendfsync always")
        old = fleet.master()
        before = old.replication()["master_replid"]
        self.restart(old, f"repl-diskless-sync-delay {DELAY}")
        wait_for(lambda: old.replication()["master_replid"] != before, SECONDS, "the restart")
        deleted = [f"key{number}" for number in range(1, 11)]
        # It answers LOADING before it has loaded its data.
        wait_for(lambda: old.call("DEL", *deleted) == len(deleted), SECONDS, "the deletions")
        for sentinel in fleet.sentinels:
            wait_for(
                lambda: f"keys={KEYS - 10}," in str(sentinel.call("SENTINEL", "INFO-CACHE", "mymaster")),  # noqa: B023
                SECONDS,
                "the Sentinels to see the deletions",
            )
        self.permit_copies(fleet)
        others = [server for server in fleet.servers.values() if server is not old]
        wait_for(lambda: all(s.replication()["master_link_status"] == "up" for s in others), SECONDS, "the replicas")
        wait_for(
            lambda: {self.keys(server) for server in fleet.servers.values()} == {KEYS - 10}, SECONDS, "the deletions"
        )
        self.assertEqual(fleet.master_port(), old.port)
        self.assertNotIn("+sdown", self.logs(fleet))

    def test_one_replica_emptied(self) -> None:
        """If one replica copied the empty data set before the Sentinels noticed, the other one is promoted."""
        fleet = self.start("repl-diskless-sync-delay 0")
        old = fleet.master()
        emptied, full = (server for server in fleet.servers.values() if server is not old)
        self.permit_copies(fleet)
        for sentinel in fleet.sentinels:
            sentinel.call("SENTINEL", "DEBUG", "TILT-TRIGGER", 60_000)
            sentinel.freeze()
        full.freeze()
        self.restart(old)
        wait_for(lambda: self.keys(emptied) == 0, SECONDS, "the copy of the empty data set")
        old.call("CONFIG", "SET", "repl-diskless-sync-delay", DELAY)
        full.thaw()
        for sentinel in fleet.sentinels:
            sentinel.thaw()
        wait_for(lambda: fleet.master_port() == full.port, SECONDS, "the promotion of the replica with the data")
        self.permit_copies(fleet)
        self.wait_keys(fleet)

    def test_everything_lost(self) -> None:
        """If all replicas copied the empty data set, the Sentinels log that and leave the master alone."""
        fleet = self.start()
        old = fleet.master()
        self.permit_copies(fleet)
        for sentinel in fleet.sentinels:
            sentinel.call("SENTINEL", "DEBUG", "TILT-TRIGGER", 60_000)
            sentinel.freeze()
        self.restart(old)
        wait_for(lambda: not any(map(self.keys, fleet.servers.values())), SECONDS, "the copies of the empty data set")
        for sentinel in fleet.sentinels:
            sentinel.thaw()
        wait_for(lambda: self.logs(fleet).count("DATA LOST") == 3, SECONDS, "three log lines")
        self.assertEqual(fleet.master_port(), old.port)
