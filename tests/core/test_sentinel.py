"""The commands of the core, and its dispatch."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, ME, Fixture, identity
from txsentinel.core.errors import CommandError, InvalidAddress, NoSuchMaster
from txsentinel.core.options import MasterOptions, SentinelOptions
from txsentinel.core.switching import REDISCOVERY_DELAY
from txsentinel.model.address import Address


class CommandTests(SynchronousTestCase):
    """Commands of clients."""

    def setUp(self) -> None:
        """Set up a master with a replica and a peer."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        self.fixture.add_peer("b")
        self.fixture.wait(1_000)
        self.fixture.output()
        self.core = self.fixture.core

    def test_monitor(self) -> None:
        """A new master has the current defaults, and is saved."""
        self.core.timings.default_down_after = 77
        generation = self.core.outbox.generation
        master = self.core.administration.monitor("new", "10.7.7.7", 6379, 3, self.fixture.now)
        self.assertEqual((3, 77), (master.options.quorum, master.options.down_after))
        self.assertGreater(self.core.outbox.generation, generation)
        self.fixture.finish()
        self.assertEqual(["event +monitor master new 10.7.7.7 6379 quorum 3"], self.fixture.output()[:1])

    def test_monitor_errors(self) -> None:
        """Invalid addresses and names in use are refused without any effect."""
        self.assertRaises(InvalidAddress, self.core.administration.monitor, "new", "redis.example", 6379, 1, 0)
        self.assertRaises(CommandError, self.core.administration.monitor, "new", "10.7.7.7", 65536, 1, 0)
        self.assertRaises(CommandError, self.core.administration.monitor, "mymaster", "10.7.7.7", 6379, 1, 0)
        self.assertEqual(["mymaster"], list(self.core.registry.masters))

    def test_unknown_names(self) -> None:
        """Every command with an unknown name raises the same error."""
        self.assertRaises(NoSuchMaster, self.core.administration.remove, "x", 0)
        self.assertRaises(NoSuchMaster, self.core.administration.failover, "x", 0)
        self.assertEqual(0, self.core.administration.reset("x*", 0))

    def test_failover_refusals(self) -> None:
        """A failover in progress, no fit replica, and a failing disk have errors of their own."""
        self.core.administration.failover("mymaster", self.fixture.now)
        error = self.assertRaises(CommandError, self.core.administration.failover, "mymaster", self.fixture.now)
        self.assertEqual("INPROG Failover already in progress", str(error))
        master = self.core.administration.monitor("new", "10.7.7.7", 6379, 3, self.fixture.now)
        error = self.assertRaises(CommandError, self.core.administration.failover, master.name, self.fixture.now)
        self.assertEqual("NOGOODSLAVE No suitable replica to promote", str(error))
        self.core.commit_failed(1, self.fixture.now)
        error = self.assertRaises(CommandError, self.core.administration.failover, master.name, self.fixture.now)
        self.assertIn("Failed to save", str(error))

    def test_coordinated_needs_support(self) -> None:
        """A master without support for FAILOVER cannot hand over."""
        error = self.assertRaises(CommandError, self.core.administration.failover, "mymaster", 0, coordinated=True)
        self.assertEqual("NOGOODPRIMARY Primary does not support FAILOVER command", str(error))
        self.core.administration.monitor("new", "10.7.7.7", 6379, 3, self.fixture.now)
        error = self.assertRaises(CommandError, self.core.administration.failover, "new", 0, coordinated=True)
        self.assertEqual("NOGOODPRIMARY Primary has not answered INFO yet", str(error))

    def test_reset(self) -> None:
        """RESET removes replicas and peers, keeps epochs and address, is saved, and all are discovered again."""
        self.core.vote_requested(MASTER.ip, MASTER.port, 3, identity("b"), self.fixture.now)
        self.assertEqual(1, self.core.administration.reset("my*", self.fixture.now))
        self.fixture.finish()
        self.assertEqual(({}, {}), (self.fixture.master.replicas, self.fixture.master.peers))
        self.assertEqual(
            (3, [], []), (self.fixture.saved.leader_epoch, self.fixture.saved.replicas, self.fixture.saved.peers)
        )
        self.assertIn("+reset-master", self.fixture.events())
        self.assertTrue(self.fixture.master.link.commands_up)

    def test_reset_is_visible(self) -> None:
        """For a moment no replica is discovered, so that the client that ordered the reset sees none."""
        self.fixture.servers[MASTER].extra = ["slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0"]
        self.core.administration.reset("*", self.fixture.now)
        self.fixture.finish()
        self.fixture.wait(REDISCOVERY_DELAY - 10)
        self.assertEqual({}, self.fixture.master.replicas)
        self.fixture.wait(20)
        self.assertEqual(["10.0.0.2:6379"], list(self.fixture.master.replicas))

    def test_reset_in_a_failover(self) -> None:
        """An undecided election is discarded without an event; the vote stays."""
        self.fixture.servers[self.fixture.replica(2).address].obeys = False
        self.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.wait(700)
        self.core.administration.reset("*", self.fixture.now)
        self.fixture.finish()
        self.assertIsNone(self.fixture.master.failover)
        self.assertEqual(MASTER, self.fixture.master.address)
        self.assertEqual(ME, identity("m"))

    def test_restore(self) -> None:
        """A restored master has what the file has, without duplicates and ourselves; epochs are raised accordingly."""
        place = Address.literal("10.7.7.7", 6379)
        replica = Address.literal("10.7.7.8", 6379)
        peer = Address.literal("10.8.8.8", 26379)
        master = self.core.administration.restore(
            "old",
            place,
            self.fixture.master.options,
            self.fixture.now,
            config_epoch=4,
            leader_epoch=6,
            replicas=[replica, replica, place],
            peers=[(peer, "q" * 40), (peer, "q" * 40), (peer, ME)],
        )
        self.assertEqual((1, 1, 6), (len(master.replicas), len(master.peers), self.core.current_epoch))

    def test_flush(self) -> None:
        """All lines are written again."""
        self.core.outbox.dirty.clear()
        self.core.administration.flush()
        self.assertEqual({None, "mymaster"}, self.core.outbox.dirty)

    def test_set_options(self) -> None:
        """A refused option changes nothing; accepted ones, including those before it, are published."""

        def apply(options: MasterOptions, _: str, values: Sequence[str], __: SentinelOptions) -> None:
            if values[0] == "x":
                raise CommandError("ERR Invalid argument")
            options.quorum = int(values[0])

        generation, bad = self.core.outbox.generation, ("quorum", ["x"])
        self.assertRaises(CommandError, self.core.administration.set_options, "mymaster", [bad], 0, apply)
        self.assertEqual(generation, self.core.outbox.generation)
        self.core.administration.set_options("mymaster", [("quorum", ["5"])], self.fixture.now, apply)
        changes = [("quorum", ["6"]), bad, ("quorum", ["7"])]
        self.assertRaises(
            CommandError, self.core.administration.set_options, "mymaster", changes, self.fixture.now, apply
        )
        self.fixture.finish()
        self.assertEqual(self.fixture.master.options.quorum, 6)
        events = [f"event +set master mymaster 10.0.0.1 6379 quorum {quorum}" for quorum in (5, 6)]
        self.assertEqual(events, self.fixture.output())


class IdleTests(SynchronousTestCase):
    """The cost of an idle core."""

    def test_idle_evaluations(self) -> None:
        """A stable core is evaluated no more often than it is swept, and every instance has a deadline."""
        fixture = Fixture()
        fixture.add_replica(2)
        fixture.add_peer("b")
        fixture.wait(3_000)
        self.assertLess(fixture.idle(10_000), 10 * 25)
        self.assertTrue(all(instance.due is not None for instance in fixture.core.registry.instances()))

    def test_the_due_queue_stays_small(self) -> None:
        """During a stable hour with a failover per minute the queue has a few entries per instance."""
        fixture = Fixture(failover_timeout=2_000)
        fixture.add_replica(2)
        fixture.add_replica(3)
        fixture.add_peer("b")
        for _ in range(20):
            fixture.core.administration.failover("mymaster", fixture.now)
            fixture.wait(15_000, 100)
        self.assertEqual(20, fixture.core.current_epoch)
        self.assertLess(len(fixture.core.state.due), 200)
        fixture.wait(5_000, 100)
        self.assertLess(len(fixture.core.state.due), 60)
