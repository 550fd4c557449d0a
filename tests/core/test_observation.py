"""What an INFO reply changes, and the repairs that follow."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, Fixture
from txsentinel.core.instances import Replica
from txsentinel.model.address import Address

STRANGER = Address.literal("10.0.0.9", 6379)


class InfoTests(SynchronousTestCase):
    """Filing."""

    def setUp(self) -> None:
        """A master with a replica."""
        self.fixture = Fixture(failover_timeout=5_000)
        self.fixture.add_replica(2)
        self.fixture.wait(1_000)
        self.fixture.heard()

    def info(self, *lines: str) -> None:
        """INFO of the master."""
        self.fixture.core.info_reply(self.fixture.master.link, "\r\n".join([*lines, ""]).encode(), self.fixture.now)
        self.fixture.finish()

    def test_new_replicas(self) -> None:
        """A replica in the master's INFO is filed, saved and announced, once."""
        generation = self.fixture.core.outbox.generation
        for _ in range(2):
            self.info("role:master", "slave0:ip=10.0.0.2,port=6379,state=online", "slave1:ip=10.0.0.7,port=6379,x=1")
        self.assertEqual(
            ["event +slave slave 10.0.0.7:6379 10.0.0.7 6379 @ mymaster 10.0.0.1 6379"], self.fixture.heard()
        )
        self.assertEqual(generation + 1, self.fixture.core.outbox.generation)

    def test_replicas_of_replicas(self) -> None:
        """What a replica lists is not filed."""
        replica = self.fixture.replica(2)
        self.fixture.core.info_reply(replica.link, b"role:slave\r\nslave0:ip=10.0.0.7,port=1,x=1\r\n", self.fixture.now)
        self.assertEqual(["10.0.0.2:6379"], list(self.fixture.master.replicas))

    def test_names_without_resolution(self) -> None:
        """A replica that is called by a name is left out where names are not resolved."""
        self.info("role:master", "slave0:ip=redis.example,port=6379,state=online")
        self.assertEqual(["10.0.0.2:6379"], list(self.fixture.master.replicas))

    def test_reboot(self) -> None:
        """Another run ID is announced; the first one is not."""
        self.info("run_id:" + "c" * 40, "role:master")
        self.assertEqual(["+reboot"], self.fixture.events())

    def test_errors_are_no_info(self) -> None:
        """An error answer leaves everything as it was, and is not asked again at once."""
        before = self.fixture.master.info_refreshed_at
        self.fixture.core.info_reply(self.fixture.master.link, None, self.fixture.now)
        self.assertEqual(before, self.fixture.master.info_refreshed_at)

    def test_fields(self) -> None:
        """Everything that selection and reports need of a replica."""
        actor = self.fixture.actors[self.fixture.replica(2).address]
        actor.link_status, actor.down_for, actor.priority, actor.offset = "down", 7, 3, 77
        self.fixture.core.info_reply(self.fixture.replica(2).link, actor.info(), self.fixture.now)
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
    """Putting right those who strayed, not too soon, and only towards a master beyond doubt."""

    def setUp(self) -> None:
        """A master with a replica, quiet for a while."""
        self.fixture = Fixture(failover_timeout=5_000)
        self.fixture.add_replica(2)
        self.fixture.wait(10_000, 50)
        self.fixture.heard()
        self.actor = self.fixture.actors[self.fixture.replica(2).address]

    def test_convert(self) -> None:
        """A replica that calls itself master for eight seconds is converted."""
        self.actor.role = "master"
        self.fixture.reset_connections(self.actor.address)
        self.fixture.wait(8_000, 50)
        self.assertNotIn("+convert-to-slave", self.fixture.events())
        self.fixture.wait(1_200, 50)
        self.assertIn("order 10.0.0.2 SLAVEOF 10.0.0.1 6379", self.fixture.heard())

    def test_fix(self) -> None:
        """A replica of somebody else is put right after failover-timeout."""
        self.actor.follows = STRANGER
        self.fixture.reset_connections(self.actor.address)
        self.fixture.wait(5_000, 50)
        self.assertNotIn("+fix-slave-config", self.fixture.events())
        self.fixture.wait(1_200, 50)
        self.assertIn("order 10.0.0.2 SLAVEOF 10.0.0.1 6379", self.fixture.heard())

    def test_master_that_is_a_replica(self) -> None:
        """Where the monitored address is that of a replica, the log says whose, once."""
        master = self.fixture.actors[MASTER_PLACE]
        master.role, master.follows = "slave", STRANGER
        self.fixture.heard()
        self.fixture.reset_connections(MASTER_PLACE)
        self.fixture.wait(5_000, 100)
        line = f"note mymaster at 10.0.0.1:6379 is a replica of {STRANGER.ip} port {STRANGER.port}: monitor that one"
        self.assertEqual(1, self.fixture.heard().count(line))

    def test_not_in_doubt(self) -> None:
        """While the master is down, or calls itself a replica, nobody is sent to it."""
        self.actor.role = "master"
        self.fixture.kill(MASTER_PLACE)
        self.fixture.wait(20_000, 50)
        self.assertNotIn("+convert-to-slave", self.fixture.events())

    def test_not_during_a_failover(self) -> None:
        """Nobody is sent to a master that is just being replaced."""
        fixture = self.fixture
        fixture.master.options.failover_timeout = 60_000
        fixture.add_replica(3, obeys=False, priority=0)
        fixture.add_replica(4, role="master")
        fixture.wait(1_000)
        fixture.core.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.heard()
        fixture.wait(9_500, 50)
        self.assertNotIn("+convert-to-slave", fixture.events())

    def test_order_that_is_ignored(self) -> None:
        """Is repeated no sooner than it first came."""
        self.actor.role, self.actor.obeys = "master", False
        self.fixture.reset_connections(self.actor.address)
        self.fixture.wait(30_000, 50)
        self.assertEqual(3, self.fixture.events().count("+convert-to-slave"))

    def test_stuck_failover_of_its_own(self) -> None:
        """A replica whose own FAILOVER does not end is told to abort it, after failover-timeout."""
        self.actor.extra = ["master_failover_state:waiting-for-sync"]
        self.fixture.wait(20_000, 50)
        orders = [e for _, e in self.fixture.sent if getattr(e, "abort_failover", False)]
        self.assertTrue(orders)
