"""What a hello of another Sentinel changes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, ME, FakeServer, Fixture, identity
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
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        self.fixture.add_replica(3)
        self.fixture.add_peer("b")
        self.fixture.add_peer("z")
        self.fixture.wait(500)
        self.fixture.heard()

    def known(self) -> int:
        """How many hellos are recognised by their bytes."""
        return len(self.fixture.core._gossip._known)

    def test_a_new_peer(self) -> None:
        """Is filed, saved and announced once."""
        generation = self.fixture.core.outbox.generation
        for _ in range(3):
            self.fixture.hello("q", MASTER_PLACE, 0)
        self.assertEqual(["+sentinel"], self.fixture.events())
        self.assertEqual(generation + 1, self.fixture.core.outbox.generation)

    def test_our_kind(self) -> None:
        """Is told from others by a mark that every reader of numbers passes over."""
        self.fixture.hello("b", MASTER_PLACE, 0, 4, own=True)
        self.fixture.hello("z", MASTER_PLACE, 0, 4, own=False)
        self.assertEqual((True, False), (self.fixture.peer("b").is_txsentinel, self.fixture.peer("z").is_txsentinel))

    def test_a_newer_configuration(self) -> None:
        """Is adopted with peer, address and epoch, and passed to the script of an observer."""
        self.fixture.master.options.client_reconfig_script = "/bin/reconfigure"
        self.fixture.actors[SECOND].role = "master"
        self.fixture.hello("b", SECOND, 4, 6)
        heard = self.fixture.heard()
        self.assertEqual("event +new-epoch 6", heard[0])
        self.assertEqual("event +switch-master mymaster 10.0.0.1 6379 10.0.0.2 6379", heard[2])
        script = "script /bin/reconfigure mymaster observer start 10.0.0.1 6379 10.0.0.2 6379"
        self.assertIn(script, heard)
        self.assertEqual((SECOND, 4, 6), (self.fixture.master.address, self.fixture.master.config_epoch, 6))

    def test_older_configurations(self) -> None:
        """Lower and equal config epochs change no address."""
        self.fixture.actors[SECOND].role = "master"
        self.fixture.hello("b", SECOND, 4)
        self.fixture.hello("z", THIRD, 3, 4)
        self.fixture.hello("z", THIRD, 4)
        self.assertEqual(SECOND, self.fixture.master.address)

    def test_a_raise_without_a_move_is_saved(self) -> None:
        """The config epoch alone is hard state, too."""
        self.fixture.hello("b", MASTER_PLACE, 4)
        self.assertEqual(4, self.fixture.saved.config_epoch)
        self.assertEqual(["+new-epoch"], self.fixture.events())

    def test_unknown_place(self) -> None:
        """The new master need not be a replica that we know."""
        self.fixture.hello("b", Address.literal("10.0.0.77", 6379), 4)
        self.assertEqual({"10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"}, set(self.fixture.master.replicas))

    def test_recognised_bytes_still_count_as_heard(self) -> None:
        """A hello that is known by its bytes shows that its sender lives."""
        for _ in range(2):
            self.fixture.wait(1_000, 100)
            self.fixture.hello("b", MASTER_PLACE, 0)
            self.assertEqual(self.fixture.now, self.fixture.peer("b").hello_received_at)

    def test_recognised_bytes_do_not_pile_up(self) -> None:
        """One per peer at the most, and none for peers that are gone."""
        for epoch in range(50):
            self.fixture.hello("b", MASTER_PLACE, 0, epoch)
            self.fixture.hello("z", MASTER_PLACE, 0, epoch)
        self.assertEqual(2, self.known())
        self.fixture.core.hello_received(f"10.4.4.4,26379,{identity('b')},0,mymaster,10.0.0.1,6379,0".encode(), 0)
        self.fixture.core.reset("*", self.fixture.now)
        self.assertEqual(0, self.known())

    def test_own_id_elsewhere(self) -> None:
        """A Sentinel with our ID at another address is a copy; each is named once, and not without end."""
        self.fixture.wait(3_000, 100)
        self.fixture.heard()
        for _, own in self.fixture.payloads:
            self.fixture.core.hello_received(own, self.fixture.now)
        for _ in range(2):
            for number in range(MAX_CLONES + 5):
                payload = f"10.9.9.9,{number + 1},{ME},0,mymaster,10.0.0.1,6379,0"
                self.fixture.core.hello_received(payload.encode(), self.fixture.now)
        self.fixture.finish()
        lines = [line for line in self.fixture.heard() if line.startswith("note ")]
        self.assertEqual(MAX_CLONES, len(lines), lines)
        self.assertTrue(lines[0].startswith("note A Sentinel at 10.9.9.9 port 1 has the ID of this one"), lines[0])
        self.assertNotIn(ME, self.fixture.master.peers)

    def test_recognised_bytes_of_a_forgotten_peer(self) -> None:
        """After RESET the same bytes introduce the peer anew."""
        self.fixture.hello("b", MASTER_PLACE, 0)
        self.fixture.core.reset("*", self.fixture.now)
        self.fixture.finish()
        self.fixture.heard()
        self.fixture.hello("b", MASTER_PLACE, 0)
        self.assertIn("+sentinel", self.fixture.events())

    def test_there_and_back(self) -> None:
        """A peer that moves and returns is where it said last, though its bytes were seen before."""
        moved = Address.literal("10.4.4.4", 26379)
        self.fixture.actors[moved] = FakeServer(moved, sentinel_id=identity("b").encode())
        self.fixture.hello("b", MASTER_PLACE, 0)
        home = self.fixture.peer("b").address
        self.fixture.kill(home)
        self.fixture.core.hello_received(f"10.4.4.4,26379,{identity('b')},0,mymaster,10.0.0.1,6379,0".encode(), 0)
        self.fixture.finish()
        self.assertEqual("10.4.4.4", self.fixture.peer("b").address.ip)
        self.fixture.revive(home)
        self.fixture.hello("b", MASTER_PLACE, 0)
        self.assertEqual("10.0.1.98", self.fixture.peer("b").address.ip)

    def test_in_tilt(self) -> None:
        """News is believed in TILT as well."""
        self.fixture.now += 5_000
        self.fixture.sweep()
        self.fixture.hello("b", SECOND, 4)
        self.assertEqual(SECOND, self.fixture.master.address)


class DisputeTests(SynchronousTestCase):
    """One config epoch, two addresses."""

    def setUp(self) -> None:
        """We are first by ID, at epoch 4, when a peer says otherwise."""
        self.fixture = Fixture(my_id=identity("a"), failover_timeout=30_000)
        self.fixture.add_replica(2)
        self.fixture.add_peer("b", reports_down=True)
        self.fixture.add_peer("z", reports_down=True)
        self.fixture.hello("b", MASTER_PLACE, 4)
        self.fixture.wait(1_000)
        self.fixture.hello("z", THIRD, 4)
        self.fixture.heard()

    def test_settled_by_election(self) -> None:
        """A majority gives the address that we see up an epoch of its own, without a failover."""
        self.fixture.wait(1_100)
        events = self.fixture.events()
        self.assertNotIn("+try-failover", events)
        self.assertEqual((MASTER_PLACE, 5), (self.fixture.master.address, self.fixture.master.config_epoch))
        self.assertIsNone(self.fixture.master.failover)

    def test_is_no_attempt(self) -> None:
        """Having settled it, we fail over at once when the master dies."""
        self.fixture.wait(1_100)
        self.fixture.kill(MASTER_PLACE)
        self.fixture.wait(1_200)
        self.assertEqual(SECOND, self.fixture.master.address)

    def test_gives_way_to_a_failover(self) -> None:
        """If the master dies before the votes are in, the failover goes first."""
        for letter in "bz":
            self.fixture.actors[self.fixture.peer(letter).address].mute = True
        self.fixture.wait(1_100)
        self.assertIs(FailoverState.WAIT_START, self.fixture.master.failover_state)
        self.fixture.kill(MASTER_PLACE)
        self.fixture.wait(1_010)
        self.assertIsNone(self.fixture.master.failover)
        for letter in "bz":
            self.fixture.actors[self.fixture.peer(letter).address].mute = False
            self.fixture.reset_connections(self.fixture.peer(letter).address)
        self.fixture.wait(300)
        self.assertEqual(SECOND, self.fixture.master.address)

    def test_gives_way_to_an_order(self) -> None:
        """An operator's failover is not told that one is in progress."""
        for letter in "bz":
            self.fixture.actors[self.fixture.peer(letter).address].mute = True
        self.fixture.wait(1_100)
        self.fixture.core.failover("mymaster", self.fixture.now)
        self.fixture.wait(700)
        self.assertEqual(SECOND, self.fixture.master.address)

    def test_forgotten_when_somebody_outranks_it(self) -> None:
        """A newer epoch for our address leaves nothing to settle."""
        self.fixture.hello("b", MASTER_PLACE, 6)
        self.fixture.wait(3_000)
        self.assertEqual(6, self.fixture.master.config_epoch)
        self.assertEqual(6, self.fixture.core.current_epoch)

    def test_not_for_a_master_that_is_down(self) -> None:
        """Nobody confirms an address at which nothing answers."""
        self.fixture.kill(MASTER_PLACE)
        self.fixture.core.state.storage_error = UNKNOWN_STORAGE_ERROR
        self.fixture.wait(3_000)
        self.assertEqual(4, self.fixture.master.config_epoch)
