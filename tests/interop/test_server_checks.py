"""The checks of servers after a failover detect each problem; a coordinated failover passes them."""

from __future__ import annotations

from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, shorten_periods, wait_moved
from tests.interop.server_checks import Clients, client_problems, server_problems
from tests.servers import Fleet, Harness, RedisProcess, ReplyError, SentinelProcess, missing, wait_for


class CheckTests(SynchronousTestCase):
    """A master and its replica, with problems."""

    if missing("redis"):
        skip = missing("redis")

    def setUp(self) -> None:
        stack = ExitStack()
        self.addCleanup(stack.close)
        harness = stack.enter_context(Harness())
        self.master = harness.redis("redis")
        self.replica = harness.redis("redis", replica_of=self.master.port)
        for server in self.servers:
            server.start()
        wait_for(lambda: self.replica.replication()["master_link_status"] == "up", SECONDS, "the replica")
        self.clients = stack.enter_context(Clients(self.master))

    @property
    def servers(self) -> list[RedisProcess]:
        """Return both servers."""
        return [self.master, self.replica]

    def problems(self) -> str:
        """Return all problems as one text."""
        return "; ".join(server_problems(self.servers, self.master.port))

    def test_no_problems(self) -> None:
        """Healthy servers have no problems."""
        self.assertEqual(self.problems(), "")

    def test_blocked_writes(self) -> None:
        """A pause is detected on a master and on a replica."""
        for server in self.servers:
            server.call("CLIENT", "PAUSE", 60_000, "WRITE")
        self.assertIn(f"{self.master.name} holds writes", self.problems())
        self.assertIn(f"{self.replica.name} holds writes", self.problems())

    def test_files(self) -> None:
        """A role that is not in the file is detected, either way."""
        self.replica.call("SLAVEOF", "NO", "ONE")
        self.assertIn(f"the file of {self.replica.name} names ('127.0.0.1', '{self.master.port}')", self.problems())
        self.assertIn(f"{self.replica.name} is a master, and the master is {self.master.port}", self.problems())
        self.replica.call("CONFIG", "REWRITE")
        self.assertNotIn("the file", self.problems())
        self.replica.call("SLAVEOF", "127.0.0.1", self.master.port)
        self.assertIn(f"the file of {self.replica.name} names None", self.problems())

    def test_replica_of_another_master(self) -> None:
        """A replica of another master is detected, and a server that does not reply."""
        self.replica.call("SLAVEOF", "127.0.0.1", 1)
        self.assertIn(f"{self.replica.name} follows ('127.0.0.1', '1')", self.problems())
        self.replica.kill()
        self.assertIn(f"{self.replica.name} does not answer", self.problems())

    def test_clients(self) -> None:
        """Clients that were not disconnected are reported."""
        self.assertEqual(len(client_problems(self.clients)), 3)
        self.master.call("CLIENT", "KILL", "TYPE", "normal")
        wait_for(lambda: len(client_problems(self.clients)) == 2, SECONDS, "the normal client to be gone")
        self.master.call("CLIENT", "KILL", "TYPE", "pubsub")
        wait_for(lambda: not client_problems(self.clients), SECONDS, "all to be gone")


class CoordinatedTests(SynchronousTestCase):
    """The servers after ``SENTINEL FAILOVER <name> COORDINATED``, repeatedly."""

    def hand_over(self, kind: str, times: int = 3) -> None:
        """Run failovers with a failover-timeout that must not be reached."""
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            fleet = Fleet(harness, ["txsentinel"] * 3, kind, down_after=10_000, failover_timeout=180_000)
            fleet.start()
            shorten_periods(fleet.sentinels)
            for number in range(times):
                fleet.wait_quiet(SECONDS)
                old, sentinel = fleet.master(), fleet.sentinels[number % 3]
                clients = stack.enter_context(Clients(old))

                def ordered(sentinel: SentinelProcess = sentinel) -> bool:
                    try:
                        return bool(sentinel.call("SENTINEL", "FAILOVER", fleet.name, "COORDINATED") == "OK")
                    except ReplyError as refusal:
                        # No replica is fit until its INFO has arrived; nothing else may block the failover.
                        self.assertEqual(str(refusal), "NOGOODSLAVE No suitable replica to promote")
                        return False

                wait_for(ordered, SECONDS, "the order to be taken")
                wait_moved(fleet, old)

                def clients_are_gone(clients: Clients = clients) -> bool:
                    return not client_problems(clients)

                wait_for(clients_are_gone, SECONDS, "clients to be gone")
                fleet.wait_quiet(SECONDS)
                self.assertEqual(server_problems(fleet.servers.values(), fleet.master_port()), [])


def _test(kind: str) -> object:
    def test(self: CoordinatedTests) -> None:
        self.hand_over(kind)

    test.__doc__ = f"On a server of the kind {kind}."
    if missing("txsentinel", kind):
        test.skip = missing("txsentinel", kind)  # type: ignore[attr-defined]
    return test


for _kind in ("redis", "redis-6.2", "redis-8.2", "valkey", "valkey-8.1"):
    setattr(CoordinatedTests, f"test_{_kind.replace('-', '_').replace('.', '_')}", _test(_kind))
