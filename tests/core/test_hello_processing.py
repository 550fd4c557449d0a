"""Processing of hellos."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, ME, FakeServer, Fixture, identity
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.hello_processing import MAX_CLONES
from txsentinel.core.state import UNKNOWN_STORAGE_ERROR
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)


class HelloProcessingTests(SynchronousTestCase):
    """Peers, epochs and configurations."""

    def setUp(self) -> None:
        """Set up a master with two replicas and two peers."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        self.fixture.add_replica(3)
        self.fixture.add_peer("b")
        self.fixture.add_peer("z")
        self.fixture.wait(500)
        self.fixture.output()

    def known(self) -> int:
        """Return the number of cached hellos."""
        # The size of the cache is not visible from outside.
        return len(self.fixture.core._hello_processing._known)

    def test_a_new_peer(self) -> None:
        """A new peer is registered, saved and announced once."""
        generation = self.fixture.core.outbox.generation
        for _ in range(3):
            self.fixture.hello("q", MASTER, 0)
        self.assertEqual(["+sentinel"], self.fixture.events())
        self.assertEqual(generation + 1, self.fixture.core.outbox.generation)

    def test_txsentinel_marker(self) -> None:
        """The marker of txsentinel is a leading zero, which all parsers ignore."""
        self.fixture.hello("b", MASTER, 0, 4, own=True)
        self.fixture.hello("z", MASTER, 0, 4, own=False)
        self.assertEqual((True, False), (self.fixture.peer("b").is_txsentinel, self.fixture.peer("z").is_txsentinel))

    def test_a_newer_configuration(self) -> None:
        """A newer configuration is adopted with peer, address and epoch, and passed to the client-reconfig-script."""
        self.fixture.master.options.client_reconfig_script = "/bin/reconfigure"
        self.fixture.servers[SECOND].role = "master"
        self.fixture.hello("b", SECOND, 4, 6)
        output = self.fixture.output()
        self.assertEqual("event +new-epoch 6", output[0])
        self.assertEqual("event +switch-master mymaster 10.0.0.1 6379 10.0.0.2 6379", output[2])
        script = "script /bin/reconfigure mymaster observer start 10.0.0.1 6379 10.0.0.2 6379"
        self.assertIn(script, output)
        self.assertEqual((SECOND, 4, 6), (self.fixture.master.address, self.fixture.master.config_epoch, 6))

    def test_older_configurations(self) -> None:
        """Lower and equal config epochs change no address."""
        self.fixture.servers[SECOND].role = "master"
        self.fixture.hello("b", SECOND, 4)
        self.fixture.hello("z", THIRD, 3, 4)
        self.fixture.hello("z", THIRD, 4)
        self.assertEqual(SECOND, self.fixture.master.address)

    def test_a_raise_without_a_move_is_saved(self) -> None:
        """A new config epoch alone is saved, too."""
        self.fixture.hello("b", MASTER, 4)
        self.assertEqual(4, self.fixture.saved.config_epoch)
        self.assertEqual(["+new-epoch"], self.fixture.events())

    def test_unknown_address(self) -> None:
        """The new master need not be a known replica."""
        self.fixture.hello("b", Address.literal("10.0.0.77", 6379), 4)
        self.assertEqual({"10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"}, set(self.fixture.master.replicas))

    def test_cached_hello_shows_availability(self) -> None:
        """A cached hello shows that its sender is alive."""
        for _ in range(2):
            self.fixture.wait(1_000, 100)
            self.fixture.hello("b", MASTER, 0)
            self.assertEqual(self.fixture.now, self.fixture.peer("b").hello_received_at)

    def test_hello_cache_is_bounded(self) -> None:
        """At most one hello per peer is cached, and none for removed peers."""
        for epoch in range(50):
            self.fixture.hello("b", MASTER, 0, epoch)
            self.fixture.hello("z", MASTER, 0, epoch)
        self.assertEqual(2, self.known())
        self.fixture.core.hello_received(f"10.4.4.4,26379,{identity('b')},0,mymaster,10.0.0.1,6379,0".encode(), 0)
        self.fixture.core.administration.reset("*", self.fixture.now)
        self.assertEqual(0, self.known())

    def test_activity(self) -> None:
        """Any hello by the subscription of a link is activity there, also our own and an invalid one."""
        link = self.fixture.master.link
        self.fixture.wait(3_000, 100)
        own = self.fixture.payloads[-1][1]
        for payload in (b"invalid", own, own):
            self.fixture.now += 1
            self.fixture.core.hello_received(payload, self.fixture.now, link)
            self.assertEqual(link.pubsub_active_at, self.fixture.now)

    def test_own_id_elsewhere(self) -> None:
        """A Sentinel with our ID at another address is logged once; the number of log lines is limited."""
        self.fixture.wait(3_000, 100)
        self.fixture.output()
        for _, own in self.fixture.payloads:
            self.fixture.core.hello_received(own, self.fixture.now)
        for _ in range(2):
            for number in range(MAX_CLONES + 5):
                payload = f"10.9.9.9,{number + 1},{ME},0,mymaster,10.0.0.1,6379,0"
                self.fixture.core.hello_received(payload.encode(), self.fixture.now)
        self.fixture.finish()
        lines = [line for line in self.fixture.output() if line.startswith("note ")]
        self.assertEqual(MAX_CLONES, len(lines), lines)
        self.assertTrue(lines[0].startswith("note A Sentinel at 10.9.9.9 port 1 has the ID of this one"), lines[0])
        self.assertNotIn(ME, self.fixture.master.peers)

    def test_cached_hello_after_reset(self) -> None:
        """After RESET the same bytes register the peer again."""
        self.fixture.hello("b", MASTER, 0)
        self.fixture.core.administration.reset("*", self.fixture.now)
        self.fixture.finish()
        self.fixture.output()
        self.fixture.hello("b", MASTER, 0)
        self.assertIn("+sentinel", self.fixture.events())

    def test_peer_that_moves_and_returns(self) -> None:
        """A peer that moves and returns has its latest address, although its bytes were seen before."""
        moved = Address.literal("10.4.4.4", 26379)
        self.fixture.servers[moved] = FakeServer(moved, sentinel_id=identity("b").encode())
        self.fixture.hello("b", MASTER, 0)
        old_address = self.fixture.peer("b").address
        self.fixture.kill(old_address)
        self.fixture.core.hello_received(f"10.4.4.4,26379,{identity('b')},0,mymaster,10.0.0.1,6379,0".encode(), 0)
        self.fixture.finish()
        self.assertEqual("10.4.4.4", self.fixture.peer("b").address.ip)
        self.fixture.revive(old_address)
        self.fixture.hello("b", MASTER, 0)
        self.assertEqual("10.0.1.98", self.fixture.peer("b").address.ip)

    def test_in_tilt(self) -> None:
        """Newer configurations are adopted in TILT as well."""
        self.fixture.now += 5_000
        self.fixture.sweep()
        self.fixture.hello("b", SECOND, 4)
        self.assertEqual(SECOND, self.fixture.master.address)


class DisputeTests(SynchronousTestCase):
    """Two addresses with one config epoch."""

    def setUp(self) -> None:
        """Set up a dispute at epoch 4, in which this Sentinel has the lowest ID."""
        self.fixture = Fixture(my_id=identity("a"), failover_timeout=30_000)
        self.fixture.add_replica(2)
        self.fixture.add_peer("b", reports_down=True)
        self.fixture.add_peer("z", reports_down=True)
        self.fixture.hello("b", MASTER, 4)
        self.fixture.wait(1_000)
        self.fixture.hello("z", THIRD, 4)
        self.fixture.output()

    def test_resolved_by_election(self) -> None:
        """A majority gives the address that is up here a new epoch, without a failover."""
        self.fixture.wait(1_100)
        events = self.fixture.events()
        self.assertNotIn("+try-failover", events)
        self.assertEqual((MASTER, 5), (self.fixture.master.address, self.fixture.master.config_epoch))
        self.assertIsNone(self.fixture.master.failover)

    def test_dispute_is_not_an_attempt(self) -> None:
        """After the dispute is resolved, a failover starts at once when the master dies."""
        self.fixture.wait(1_100)
        self.fixture.kill(MASTER)
        self.fixture.wait(1_200)
        self.assertEqual(SECOND, self.fixture.master.address)

    def test_failover_takes_precedence(self) -> None:
        """If the master dies before the votes arrive, the failover takes precedence."""
        for letter in "bz":
            self.fixture.servers[self.fixture.peer(letter).address].unresponsive = True
        self.fixture.wait(1_100)
        self.assertIs(FailoverState.WAIT_START, self.fixture.master.failover_state)
        self.fixture.kill(MASTER)
        self.fixture.wait(1_010)
        self.assertIsNone(self.fixture.master.failover)
        for letter in "bz":
            self.fixture.servers[self.fixture.peer(letter).address].unresponsive = False
            self.fixture.reset_connections(self.fixture.peer(letter).address)
        self.fixture.wait(300)
        self.assertEqual(SECOND, self.fixture.master.address)

    def test_forced_failover_takes_precedence(self) -> None:
        """A forced failover is not refused because of a dispute."""
        for letter in "bz":
            self.fixture.servers[self.fixture.peer(letter).address].unresponsive = True
        self.fixture.wait(1_100)
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.wait(700)
        self.assertEqual(SECOND, self.fixture.master.address)

    def test_newer_epoch_ends_the_dispute(self) -> None:
        """A newer epoch for our address ends the dispute."""
        self.fixture.hello("b", MASTER, 6)
        self.fixture.wait(3_000)
        self.assertEqual(6, self.fixture.master.config_epoch)
        self.assertEqual(6, self.fixture.core.current_epoch)

    def test_not_for_a_master_that_is_down(self) -> None:
        """An address that is down is not confirmed."""
        self.fixture.kill(MASTER)
        self.fixture.core.state.storage_error = UNKNOWN_STORAGE_ERROR
        self.fixture.wait(3_000)
        self.assertEqual(4, self.fixture.master.config_epoch)
