"""What a hello of another Sentinel changes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, ME, Actor, Scene, identity
from txsentinel.core.gossip import MAX_CLONES
from txsentinel.core.instances import FailoverState
from txsentinel.core.state import UNKNOWN_STORAGE_ERROR
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)


class GossipTests(SynchronousTestCase):
    """Peers, epochs, configurations."""

    def setUp(self) -> None:
        """A master with two replicas and two peers."""
        self.scene = Scene()
        self.scene.add_replica(2)
        self.scene.add_replica(3)
        self.scene.add_peer("b")
        self.scene.add_peer("z")
        self.scene.wait(500)
        self.scene.heard()

    def familiar(self) -> int:
        """How many hellos are recognised by their bytes."""
        return len(self.scene.core._gossip._familiar)

    def test_a_new_peer(self) -> None:
        """Is filed, saved and announced once."""
        generation = self.scene.core.outbox.generation
        for _ in range(3):
            self.scene.hello("q", MASTER_PLACE, 0)
        self.assertEqual(["+sentinel"], self.scene.events())
        self.assertEqual(generation + 1, self.scene.core.outbox.generation)

    def test_our_kind(self) -> None:
        """Is told from others by a mark that every reader of numbers passes over."""
        self.scene.hello("b", MASTER_PLACE, 0, 4, own=True)
        self.scene.hello("z", MASTER_PLACE, 0, 4, own=False)
        self.assertEqual((True, False), (self.scene.peer("b").own_kind, self.scene.peer("z").own_kind))

    def test_a_newer_configuration(self) -> None:
        """Is adopted with peer, address and epoch, and passed to the script of an observer."""
        self.scene.master.options.client_reconfig_script = "/bin/reconfigure"
        self.scene.actors[SECOND].role = "master"
        self.scene.hello("b", SECOND, 4, 6)
        heard = self.scene.heard()
        self.assertEqual("event +new-epoch 6", heard[0])
        self.assertEqual("event +switch-master mymaster 10.0.0.1 6379 10.0.0.2 6379", heard[2])
        script = "script /bin/reconfigure mymaster observer start 10.0.0.1 6379 10.0.0.2 6379"
        self.assertIn(script, heard)
        self.assertEqual((SECOND, 4, 6), (self.scene.master.address, self.scene.master.config_epoch, 6))

    def test_older_configurations(self) -> None:
        """Lower and equal config epochs change no address."""
        self.scene.actors[SECOND].role = "master"
        self.scene.hello("b", SECOND, 4)
        self.scene.hello("z", THIRD, 3, 4)
        self.scene.hello("z", THIRD, 4)
        self.assertEqual(SECOND, self.scene.master.address)

    def test_a_raise_without_a_move_is_saved(self) -> None:
        """The config epoch alone is hard state, too."""
        self.scene.hello("b", MASTER_PLACE, 4)
        self.assertEqual(4, self.scene.saved.config_epoch)
        self.assertEqual(["+new-epoch"], self.scene.events())

    def test_unknown_place(self) -> None:
        """The new master need not be a replica that we know."""
        self.scene.hello("b", Address.literal("10.0.0.77", 6379), 4)
        self.assertEqual({"10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"}, set(self.scene.master.replicas))

    def test_recognised_bytes_still_count_as_heard(self) -> None:
        """A hello that is known by its bytes shows that its sender lives."""
        for _ in range(2):
            self.scene.wait(1_000, 100)
            self.scene.hello("b", MASTER_PLACE, 0)
            self.assertEqual(self.scene.now, self.scene.peer("b").hello_heard_at)

    def test_recognised_bytes_do_not_pile_up(self) -> None:
        """One per peer at the most, and none for peers that are gone."""
        for epoch in range(50):
            self.scene.hello("b", MASTER_PLACE, 0, epoch)
            self.scene.hello("z", MASTER_PLACE, 0, epoch)
        self.assertEqual(2, self.familiar())
        self.scene.core.hello_heard(f"10.4.4.4,26379,{identity('b')},0,mymaster,10.0.0.1,6379,0".encode(), 0)
        self.scene.core.reset("*", self.scene.now)
        self.assertEqual(0, self.familiar())

    def test_own_id_elsewhere(self) -> None:
        """A Sentinel with our ID at another address is a copy; each is named once, and not without end."""
        self.scene.wait(3_000, 100)
        self.scene.heard()
        for _, own in self.scene.payloads:
            self.scene.core.hello_heard(own, self.scene.now)
        for _ in range(2):
            for number in range(MAX_CLONES + 5):
                payload = f"10.9.9.9,{number + 1},{ME},0,mymaster,10.0.0.1,6379,0"
                self.scene.core.hello_heard(payload.encode(), self.scene.now)
        self.scene.settle()
        lines = [line for line in self.scene.heard() if line.startswith("note ")]
        self.assertEqual(MAX_CLONES, len(lines), lines)
        self.assertTrue(lines[0].startswith("note A Sentinel at 10.9.9.9 port 1 has the ID of this one"), lines[0])
        self.assertNotIn(ME, self.scene.master.peers)

    def test_recognised_bytes_of_a_forgotten_peer(self) -> None:
        """After RESET the same bytes introduce the peer anew."""
        self.scene.hello("b", MASTER_PLACE, 0)
        self.scene.core.reset("*", self.scene.now)
        self.scene.settle()
        self.scene.heard()
        self.scene.hello("b", MASTER_PLACE, 0)
        self.assertIn("+sentinel", self.scene.events())

    def test_there_and_back(self) -> None:
        """A peer that moves and returns is where it said last, though its bytes were seen before."""
        moved = Address.literal("10.4.4.4", 26379)
        self.scene.actors[moved] = Actor(moved, sentinel_id=identity("b").encode())
        self.scene.hello("b", MASTER_PLACE, 0)
        self.scene.core.hello_heard(f"10.4.4.4,26379,{identity('b')},0,mymaster,10.0.0.1,6379,0".encode(), 0)
        self.scene.settle()
        self.assertEqual("10.4.4.4", self.scene.peer("b").address.ip)
        self.scene.hello("b", MASTER_PLACE, 0)
        self.assertEqual("10.0.1.98", self.scene.peer("b").address.ip)

    def test_in_tilt(self) -> None:
        """News is believed in TILT as well."""
        self.scene.now += 5_000
        self.scene.sweep()
        self.scene.hello("b", SECOND, 4)
        self.assertEqual(SECOND, self.scene.master.address)


class DisputeTests(SynchronousTestCase):
    """One config epoch, two addresses."""

    def setUp(self) -> None:
        """We are first by ID, at epoch 4, when a peer says otherwise."""
        self.scene = Scene(my_id=identity("a"), failover_timeout=30_000)
        self.scene.add_replica(2)
        self.scene.add_peer("b", says_down=True)
        self.scene.add_peer("z", says_down=True)
        self.scene.hello("b", MASTER_PLACE, 4)
        self.scene.wait(1_000)
        self.scene.hello("z", THIRD, 4)
        self.scene.heard()

    def test_settled_by_election(self) -> None:
        """A majority gives the address that we see up an epoch of its own, without a failover."""
        self.scene.wait(1_100)
        events = self.scene.events()
        self.assertNotIn("+try-failover", events)
        self.assertEqual((MASTER_PLACE, 5), (self.scene.master.address, self.scene.master.config_epoch))
        self.assertIsNone(self.scene.master.failover)

    def test_is_no_attempt(self) -> None:
        """Having settled it, we fail over at once when the master dies."""
        self.scene.wait(1_100)
        self.scene.kill(MASTER_PLACE)
        self.scene.wait(1_200)
        self.assertEqual(SECOND, self.scene.master.address)

    def test_gives_way_to_a_failover(self) -> None:
        """If the master dies before the votes are in, the failover goes first."""
        for letter in "bz":
            self.scene.actors[self.scene.peer(letter).address].mute = True
        self.scene.wait(1_100)
        self.assertIs(FailoverState.WAIT_START, self.scene.master.failover_state)
        self.scene.kill(MASTER_PLACE)
        self.scene.wait(1_010)
        self.assertIsNone(self.scene.master.failover)
        for letter in "bz":
            self.scene.actors[self.scene.peer(letter).address].mute = False
            self.scene.reset_connections(self.scene.peer(letter).address)
        self.scene.wait(300)
        self.assertEqual(SECOND, self.scene.master.address)

    def test_gives_way_to_an_order(self) -> None:
        """An operator's failover is not told that one is in progress."""
        for letter in "bz":
            self.scene.actors[self.scene.peer(letter).address].mute = True
        self.scene.wait(1_100)
        self.scene.core.failover("mymaster", self.scene.now)
        self.scene.wait(700)
        self.assertEqual(SECOND, self.scene.master.address)

    def test_forgotten_when_somebody_outranks_it(self) -> None:
        """A newer epoch for our address leaves nothing to settle."""
        self.scene.hello("b", MASTER_PLACE, 6)
        self.scene.wait(3_000)
        self.assertEqual(6, self.scene.master.config_epoch)
        self.assertEqual(6, self.scene.core.current_epoch)

    def test_not_for_a_master_that_is_down(self) -> None:
        """Nobody confirms an address at which nothing answers."""
        self.scene.kill(MASTER_PLACE)
        self.scene.core.state.storage_error = UNKNOWN_STORAGE_ERROR
        self.scene.wait(3_000)
        self.assertEqual(4, self.scene.master.config_epoch)
