"""Processing of INFO replies, and corrections."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.instances import Replica
from txsentinel.model.address import Address

UNKNOWN = Address.literal("10.0.0.9", 6379)


class InfoTests(SynchronousTestCase):
    """Recording of what INFO reports."""

    def setUp(self) -> None:
        """Set up a master with a replica."""
        self.fixture = Fixture(failover_timeout=5_000)
        self.fixture.add_replica(2)
        self.fixture.wait(1_000)
        self.fixture.output()

    def info(self, *lines: str) -> None:
        """Deliver INFO of the master."""
        self.fixture.core.info_reply(self.fixture.master.link, "\r\n".join([*lines, ""]).encode(), self.fixture.now)
        self.fixture.finish()

    def test_new_replicas(self) -> None:
        """A replica in the master's INFO is added, saved and announced, once."""
        generation = self.fixture.core.outbox.generation
        for _ in range(2):
            self.info("role:master", "slave0:ip=10.0.0.2,port=6379,state=online", "slave1:ip=10.0.0.7,port=6379,x=1")
        self.assertEqual(
            ["event +slave slave 10.0.0.7:6379 10.0.0.7 6379 @ mymaster 10.0.0.1 6379"], self.fixture.output()
        )
        self.assertEqual(generation + 1, self.fixture.core.outbox.generation)

    def test_replicas_of_replicas(self) -> None:
        """Replicas in the INFO of a replica are not added."""
        replica = self.fixture.replica(2)
        self.fixture.core.info_reply(replica.link, b"role:slave\r\nslave0:ip=10.0.0.7,port=1,x=1\r\n", self.fixture.now)
        self.assertEqual(["10.0.0.2:6379"], list(self.fixture.master.replicas))

    def test_names_without_resolution(self) -> None:
        """A replica with a host name is ignored where names are not resolved."""
        self.info("role:master", "slave0:ip=redis.example,port=6379,state=online")
        self.assertEqual(["10.0.0.2:6379"], list(self.fixture.master.replicas))

    def test_reboot(self) -> None:
        """A changed run ID is published; the first one is not."""
        self.info("run_id:" + "c" * 40, "role:master")
        self.assertEqual(["+reboot"], self.fixture.events())

    def test_errors_are_no_info(self) -> None:
        """An error changes nothing, and INFO is not repeated at once."""
        before = self.fixture.master.info_refreshed_at
        self.fixture.core.info_reply(self.fixture.master.link, None, self.fixture.now)
        self.assertEqual(before, self.fixture.master.info_refreshed_at)

    def test_fields(self) -> None:
        """All fields for selection and reports are recorded."""
        server = self.fixture.servers[self.fixture.replica(2).address]
        server.link_status, server.down_for, server.priority, server.offset = "down", 7, 3, 77
        self.fixture.core.info_reply(self.fixture.replica(2).link, server.info(), self.fixture.now)
        replica = self.fixture.replica(2)
        assert isinstance(replica, Replica)
        self.assertEqual(
            (7_000, 3, 77, "10.0.0.1", 6379, False),
            (
                replica.master_link_down_for,
                replica.priority,
                replica.repl_offset,
                replica.master_host,
                replica.master_port,
                replica.master_link_up,
            ),
        )


class RepairTests(SynchronousTestCase):
    """Replicas are corrected after a while, and only towards a master that is certain."""

    def setUp(self) -> None:
        """Set up a master with a stable replica."""
        self.fixture = Fixture(failover_timeout=5_000)
        self.fixture.add_replica(2)
        self.fixture.wait(10_000, 50)
        self.fixture.output()
        self.server = self.fixture.servers[self.fixture.replica(2).address]

    def test_convert(self) -> None:
        """A replica that reports to be a master for eight seconds is converted."""
        self.server.role = "master"
        self.fixture.reset_connections(self.server.address)
        self.fixture.wait(8_000, 50)
        self.assertNotIn("+convert-to-slave", self.fixture.events())
        self.fixture.wait(1_200, 50)
        self.assertIn("order 10.0.0.2 SLAVEOF 10.0.0.1 6379", self.fixture.output())

    def test_fix(self) -> None:
        """A replica that follows another server is corrected after failover-timeout."""
        self.server.follows = UNKNOWN
        self.fixture.reset_connections(self.server.address)
        self.fixture.wait(5_000, 50)
        self.assertNotIn("+fix-slave-config", self.fixture.events())
        self.fixture.wait(1_200, 50)
        self.assertIn("order 10.0.0.2 SLAVEOF 10.0.0.1 6379", self.fixture.output())

    def test_master_that_is_a_replica(self) -> None:
        """If the monitored address is that of a replica, the log has its master, once."""
        master = self.fixture.servers[MASTER]
        master.role, master.follows = "slave", UNKNOWN
        self.fixture.output()
        self.fixture.reset_connections(MASTER)
        self.fixture.wait(5_000, 100)
        line = f"note mymaster at 10.0.0.1:6379 is a replica of {UNKNOWN.ip} port {UNKNOWN.port}: monitor that one"
        self.assertEqual(1, self.fixture.output().count(line))

    def test_not_while_the_master_is_uncertain(self) -> None:
        """While the master is S_DOWN, or reports to be a replica, no replica is corrected."""
        self.server.role = "master"
        self.fixture.kill(MASTER)
        self.fixture.wait(20_000, 50)
        self.assertNotIn("+convert-to-slave", self.fixture.events())

    def test_not_during_a_failover(self) -> None:
        """No replica is corrected during a failover."""
        fixture = self.fixture
        fixture.master.options.failover_timeout = 60_000
        fixture.add_replica(3, obeys=False, priority=0)
        fixture.add_replica(4, role="master")
        fixture.wait(1_000)
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.output()
        fixture.wait(9_500, 50)
        self.assertNotIn("+convert-to-slave", fixture.events())

    def test_ignored_command(self) -> None:
        """A correction is repeated after the same period at the earliest."""
        self.server.role, self.server.obeys = "master", False
        self.fixture.reset_connections(self.server.address)
        self.fixture.wait(30_000, 50)
        self.assertEqual(3, self.fixture.events().count("+convert-to-slave"))

    def test_stuck_failover_of_its_own(self) -> None:
        """A replica whose own FAILOVER does not end is ordered to abort it, after failover-timeout."""
        self.server.extra = ["master_failover_state:waiting-for-sync"]
        self.fixture.wait(20_000, 50)
        orders = [e for _, e in self.fixture.sent if getattr(e, "abort_failover", False)]
        self.assertTrue(orders)
