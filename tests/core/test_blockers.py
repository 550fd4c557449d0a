"""The conditions that prevent a failover, and their texts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.blockers import MAX_DISCOVERY, MAX_NAMED_REPLICAS, BlockerKind
from txsentinel.core.quorum import usable_sentinels
from txsentinel.core.state import StorageError
from txsentinel.model.address import Address

QUORUM = "Not enough available Sentinels to reach the specified quorum for this master"
MAJORITY = "Not enough available Sentinels to reach the majority and authorize a failover"


class BlockerTests(SynchronousTestCase):
    """Single and several conditions."""

    def setUp(self) -> None:
        """Set up a master with one replica and two peers, all up."""
        self.fixture = Fixture(quorum=2)
        self.fixture.add_replica(2)
        self.fixture.add_peer("b")
        self.fixture.add_peer("z")
        self.fixture.wait(2_000)

    def texts(self) -> list[str]:
        """Return the texts."""
        return [blocker.text for blocker in self.fixture.core.blockers(self.fixture.master, self.fixture.now)]

    def kinds(self) -> list[BlockerKind]:
        """Return the kinds."""
        return [blocker.kind for blocker in self.fixture.core.blockers(self.fixture.master, self.fixture.now)]

    def test_none(self) -> None:
        """Without a condition there is no blocker."""
        self.assertEqual([], self.texts())
        self.assertEqual(3, usable_sentinels(self.fixture.master))

    def test_peers_down(self) -> None:
        """Peers that are down can neither agree nor vote, but count as voters."""
        self.fixture.kill(self.fixture.peer("b").address)
        self.fixture.wait(1_100)
        self.assertEqual([], self.texts())
        self.fixture.kill(self.fixture.peer("z").address)
        self.fixture.wait(1_100)
        self.assertEqual([QUORUM, MAJORITY], self.texts())
        self.fixture.master.options.quorum = 1
        self.assertEqual([MAJORITY], self.texts())

    def test_quorum_above_all(self) -> None:
        """A quorum above the number of Sentinels is reported in addition to missing ones."""
        self.fixture.master.options.quorum = 3
        self.assertEqual([], self.texts())
        self.fixture.master.options.quorum = 4
        self.assertEqual([QUORUM, "The quorum is 4 and only 3 Sentinels are known"], self.texts())
        self.fixture.core.registry.drop_peers(self.fixture.master)
        self.assertEqual("The quorum is 4 and only 1 Sentinel is known", self.texts()[-1])

    def test_storage(self) -> None:
        """A Sentinel that cannot save votes leads no failover."""
        self.fixture.core.state.storage_error = StorageError("ENOSPC", "No space left on device", "/s.conf")
        self.assertEqual([self.fixture.core.state.storage_error.sentence], self.texts())

    def test_tilt(self) -> None:
        """A Sentinel in TILT leads no failover; the text has the remaining time."""
        self.fixture.core.tilt.since = self.fixture.now - 10_000
        self.assertEqual(["This Sentinel is in TILT and decides nothing for 20.0 s"], self.texts())

    def test_no_replica(self) -> None:
        """Without a fit replica there is no failover; some replicas are listed with reasons."""
        for number in range(3, 6):
            self.fixture.add_replica(number)
        self.fixture.wait(2_000)
        for place, replica in enumerate(self.fixture.master.replicas.values()):
            self.assertEqual([], self.kinds())
            self.assertLess(place, 4)
            replica.priority = 0
        self.assertEqual(MAX_NAMED_REPLICAS, 3)
        self.assertEqual(
            [
                "No replica can be promoted (10.0.0.2:6379: its priority is 0; 10.0.0.3:6379: its priority is 0; "
                "10.0.0.4:6379: its priority is 0; 1 more)"
            ],
            self.texts(),
        )
        self.fixture.core.registry.drop_replicas(self.fixture.master)
        self.assertEqual(["No replica is known"], self.texts())

    def test_before_the_first_info(self) -> None:
        """Before a server has answered its first INFO a missing replica is not reported, but only for a while."""
        for refusing in (MASTER, self.fixture.replica(2).address):
            self.setUp()
            fixture = self.fixture
            fixture.master.options.down_after = 60_000
            fixture.servers[refusing].refuses = True
            if refusing == MASTER:
                fixture.core.administration.reset("mymaster", fixture.now)
            else:
                fixture.core.registry.drop_replicas(fixture.master)
                fixture.core.registry.add_replica(fixture.master, refusing, fixture.now)
            fixture.finish()
            fixture.master.options.quorum = 1
            fixture.wait(MAX_DISCOVERY - 10)
            self.assertEqual([], self.texts())
            fixture.wait(20)
            self.assertEqual([BlockerKind.NO_REPLICA], self.kinds())

    def test_down_before_it_was_known(self) -> None:
        """A server that is down is not waited for."""
        self.fixture.core.registry.drop_replicas(self.fixture.master)
        self.fixture.core.registry.add_replica(self.fixture.master, Address.literal("10.0.0.9", 6379), self.fixture.now)
        self.fixture.finish()
        self.assertEqual([], self.kinds())
        self.fixture.wait(1_010)
        self.assertEqual(["No replica can be promoted (10.0.0.9:6379: it is down)"], self.texts())

    def test_order_of_blockers(self) -> None:
        """Blockers are in the order of their kinds; those of C Sentinels come first."""
        self.fixture.master.options.quorum = 9
        for letter in "bz":
            self.fixture.peer(letter).sdown_since = self.fixture.now
        self.fixture.core.state.storage_error = StorageError("EROFS", "Read-only file system")
        self.fixture.core.tilt.since = self.fixture.now
        self.fixture.core.registry.drop_replicas(self.fixture.master)
        self.fixture.core.command_refused(self.fixture.master.link, "INFO", "NOPERM no permissions", self.fixture.now)
        self.assertEqual(list(BlockerKind), self.kinds())

    def test_refusals(self) -> None:
        """A master that refuses PING or INFO for a fault of the configuration is named, until it accepts them."""
        master = self.fixture.servers[MASTER]
        master.ping_text, master.refuses = b"NOAUTH Authentication required.", True
        self.fixture.wait(2_000)
        text = "The master cannot be judged by this Sentinel, as it answers PING: NOAUTH Authentication required."
        self.assertEqual(self.texts(), [text])
        master.ping_text, master.refuses = b"PONG", False
        self.fixture.wait(12_000)
        self.assertEqual(self.texts(), [])
        self.fixture.core.command_refused(self.fixture.master.link, "PING", "MISCONF no disk", self.fixture.now)
        self.assertEqual(self.texts(), [])

    def test_logged_when_the_master_goes_down(self) -> None:
        """When a master goes down, missing peers are logged if too few are left, and only then."""
        fixture = self.fixture
        fixture.kill(MASTER)
        fixture.wait(1_100)
        self.assertFalse([line for line in fixture.output() if line.startswith("note No failover")])
        fixture.revive(MASTER)
        fixture.wait(1_000)
        for letter in "bz":
            fixture.kill(fixture.peer(letter).address)
        fixture.wait(4_100)
        fixture.master.options.quorum = 4
        fixture.output()
        fixture.kill(MASTER)
        fixture.wait(1_100)
        lines = [line for line in fixture.output() if line.startswith("note No failover")]
        why = "reset (Connection was refused by other side)"
        self.assertEqual(
            [
                "note No failover of mymaster: the quorum is 4 and only 3 Sentinels are known;"
                f" the Sentinel at 10.0.1.98:26379 is down for 4 s: {why};"
                f" the Sentinel at 10.0.1.122:26379 is down for 4 s: {why}"
            ],
            lines,
        )

    def test_failover_under_way(self) -> None:
        """During a failover no replica is required."""
        self.fixture.servers[self.fixture.replica(2).address].obeys = False
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.wait(500)
        self.assertIsNotNone(self.fixture.master.failover)
        self.fixture.core.registry.drop_replicas(self.fixture.master)
        self.assertEqual([], self.texts())
