"""What keeps a failover from taking place, and how it is worded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, Scene, identity
from txsentinel.core.blockers import MAX_NAMED_REPLICAS, BlockerKind, usable_sentinels
from txsentinel.core.state import StorageError

QUORUM = "Not enough available Sentinels to reach the specified quorum for this master"
MAJORITY = "Not enough available Sentinels to reach the majority and authorize a failover"


class BlockerTests(SynchronousTestCase):
    """One reason after the other, and several at once."""

    def setUp(self) -> None:
        """A master with one replica and two peers, all well."""
        self.scene = Scene(quorum=2)
        self.scene.add_replica(2)
        self.scene.add_peer("b")
        self.scene.add_peer("z")
        self.scene.wait(2_000)

    def texts(self) -> list[str]:
        """The reasons in words."""
        return [blocker.text for blocker in self.scene.core.blockers(self.scene.master, self.scene.now)]

    def kinds(self) -> list[BlockerKind]:
        """The reasons by kind."""
        return [blocker.kind for blocker in self.scene.core.blockers(self.scene.master, self.scene.now)]

    def test_none(self) -> None:
        """Nothing stands in the way."""
        self.assertEqual([], self.texts())
        self.assertEqual(3, usable_sentinels(self.scene.master))

    def test_peers_down(self) -> None:
        """Peers that are down can neither agree nor vote, but count as voters."""
        self.scene.kill(self.scene.peer("b").address)
        self.scene.wait(1_100)
        self.assertEqual([], self.texts())
        self.scene.kill(self.scene.peer("z").address)
        self.scene.wait(1_100)
        self.assertEqual([QUORUM, MAJORITY], self.texts())
        self.scene.master.options.quorum = 1
        self.assertEqual([MAJORITY], self.texts())

    def test_quorum_above_all(self) -> None:
        """A quorum that no number of returning Sentinels reaches is named besides what is missing now."""
        self.scene.master.options.quorum = 3
        self.assertEqual([], self.texts())
        self.scene.master.options.quorum = 4
        self.assertEqual([QUORUM, "The quorum is 4 and only 3 Sentinels are known"], self.texts())
        self.scene.core.registry.drop_peers(self.scene.master)
        self.assertEqual("The quorum is 4 and only 1 Sentinel is known", self.texts()[-1])

    def test_storage(self) -> None:
        """A Sentinel that cannot save votes takes no part."""
        self.scene.core.state.storage_error = StorageError("ENOSPC", "No space left on device", "/s.conf")
        self.assertEqual([self.scene.core.state.storage_error.sentence], self.texts())

    def test_tilt(self) -> None:
        """Nor does one in TILT, for as long as that lasts."""
        self.scene.core.tilt.since = self.scene.now - 10_000
        self.assertEqual(["This Sentinel is in TILT and decides nothing for 20.0 s"], self.texts())

    def test_no_replica(self) -> None:
        """Without a replica that can be promoted there is nobody to fail over to; some are named with their reasons."""
        for number in range(3, 6):
            self.scene.add_replica(number)
        self.scene.wait(2_000)
        for place, replica in enumerate(self.scene.master.replicas.values()):
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
        self.scene.core.registry.drop_replicas(self.scene.master)
        self.assertEqual(["No replica is known"], self.texts())

    def test_all_at_once(self) -> None:
        """The order of the kinds is theirs: what the C Sentinels say comes first."""
        self.scene.master.options.quorum = 9
        for letter in "bz":
            self.scene.peer(letter).sdown_since = self.scene.now
        self.scene.core.state.storage_error = StorageError("EROFS", "Read-only file system")
        self.scene.core.tilt.since = self.scene.now
        self.scene.core.registry.drop_replicas(self.scene.master)
        self.assertEqual(list(BlockerKind), self.kinds())

    def test_said_when_the_master_goes_down(self) -> None:
        """Who is missing since when is said once more when it matters; nothing is said where enough are there."""
        scene = self.scene
        scene.kill(MASTER_PLACE)
        scene.wait(1_100)
        self.assertFalse([line for line in scene.heard() if line.startswith("note No failover")])
        scene.revive(MASTER_PLACE)
        scene.wait(1_000)
        for letter in "bz":
            scene.kill(scene.peer(letter).address)
        scene.wait(4_100)
        scene.master.options.quorum = 4
        scene.heard()
        scene.kill(MASTER_PLACE)
        scene.wait(1_100)
        lines = [line for line in scene.heard() if line.startswith("note No failover")]
        self.assertEqual(
            [
                "note No failover of mymaster: 1 of 3 Sentinels can be reached, 4 are needed; its quorum of 4 is above"
                f" the number of Sentinels known; {identity('b')} at 10.0.1.98:26379 is down for 4 s;"
                f" {identity('z')} at 10.0.1.122:26379 is down for 4 s"
            ],
            lines,
        )

    def test_failover_under_way(self) -> None:
        """While a failover is under way its replica is not looked for."""
        self.scene.actors[self.scene.replica(2).address].obeys = False
        self.scene.core.failover("mymaster", self.scene.now)
        self.scene.wait(500)
        self.assertIsNotNone(self.scene.master.failover)
        self.scene.core.registry.drop_replicas(self.scene.master)
        self.assertEqual([], self.texts())
