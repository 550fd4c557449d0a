"""Confirmation of announced Sentinels: which are registered, which count, and the effect of forged ones."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, ME, FakeServer, Fixture, identity
from txsentinel.core import confirmation
from txsentinel.core.confirmation import ANSWER_TIMEOUT, MAX_CONNECTIONS_PER_SECOND, MAX_WAITING
from txsentinel.core.effects import Connect, Disconnect
from txsentinel.core.unconfirmed import MAX_COUNTED, MAX_UNCONFIRMED, UNCONFIRMED_EXPIRY
from txsentinel.model.address import Address
from txsentinel.wire.values import ErrorLine

SECOND = Address.literal("10.0.0.2", 6379)
PEER_PORT = 26379
NO_MYID = (
    b"ERR Unknown sentinel subcommand 'MYID'",
    b"ERR unknown subcommand 'MYID'. Try SENTINEL HELP.",
    b"NOPERM this user has no permissions to run the 'sentinel|myid' command",
)


class ConfirmationCase(SynchronousTestCase):
    """A master with a replica and two peers, and a client that sends hellos."""

    def setUp(self) -> None:
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        for letter in "bz":
            self.fixture.add_peer(letter, reports_down=True)
        self.fixture.wait(3_000, 50)
        self.fixture.output()
        self.fixture.sent.clear()

    def announce(
        self, peer_id: str, ip: str, *, through_server: bool = False, epoch: int = 0, port: int = PEER_PORT
    ) -> None:
        """Send a hello that announces a Sentinel at that host."""
        core = self.fixture.core
        payload = f"{ip},{port},{peer_id},{epoch},mymaster,10.0.0.1,6379,0".encode()
        core.hello_received(payload, self.fixture.now, self.fixture.master.link if through_server else None)
        self.fixture.finish()

    def set_answer(self, ip: str, answer: object) -> None:
        """The process at that host replies so to SENTINEL MYID."""
        at = Address.literal(ip, PEER_PORT)
        self.fixture.servers[at] = FakeServer(at, sentinel_id=answer)

    def known(self) -> set[str]:
        """Return the IDs of the peers."""
        return set(self.fixture.master.peers)

    def open_links(self) -> int:
        """Return the number of links opened and not closed since the setup."""
        made = sum(isinstance(effect, Connect) for _, effect in self.fixture.sent)
        return made - sum(isinstance(effect, Disconnect) for _, effect in self.fixture.sent)

    def replaces_master(self) -> bool:
        """Whether the master is replaced if it dies now."""
        self.fixture.kill(MASTER)
        self.fixture.wait(1_500)
        return self.fixture.master.address == SECOND


class RegistrationTests(ConfirmationCase):
    """Registration of peers."""

    def test_id_is_confirmed(self) -> None:
        """A confirmed Sentinel is registered at once, with the link that was used, and its hello is applied."""
        self.set_answer("10.0.3.1", identity("q").encode())
        self.announce(identity("q"), "10.0.3.1", epoch=7)
        self.assertIn(identity("q"), self.known())
        self.assertEqual(1, self.open_links())
        self.assertTrue(self.fixture.peer("q").link.commands_up)
        self.assertEqual(7, self.fixture.core.current_epoch)

    def test_unreachable(self) -> None:
        """An unreachable one is not registered, changes no epoch, and leaves no connection behind."""
        at = Address.literal("10.0.3.1", PEER_PORT)
        self.fixture.servers[at] = FakeServer(at, up=False)
        self.announce(identity("q"), "10.0.3.1", epoch=7)
        self.fixture.wait(20_000, 100)
        self.assertEqual({identity("b"), identity("z")}, self.known())
        self.assertEqual((0, 0), (self.open_links(), self.fixture.core.current_epoch))
        # No input or effect shows how many wait.
        self.assertEqual(0, len(self.fixture.core._hello_processing.confirmations))

    def test_another_id_at_the_address(self) -> None:
        """A hello about the address of a server or another Sentinel is discarded."""
        for answer in (
            identity("q").encode(),
            ME.encode(),
            ErrorLine(b"ERR unknown command 'SENTINEL'"),
            None,
            7,
            [b"q"],
        ):
            self.set_answer("10.0.3.1", [] if answer is None else answer)
            self.announce(identity("r"), "10.0.3.1")
            self.assertEqual({identity("b"), identity("z")}, self.known(), repr(answer))
            self.assertEqual(0, self.open_links())
            self.fixture.wait(3_000, 100)

    def test_no_reply(self) -> None:
        """The connection to a process that does not answer is closed after a while."""
        self.set_answer("10.0.3.1", b"")
        self.fixture.servers[Address.literal("10.0.3.1", PEER_PORT)].hung = True
        self.announce(identity("q"), "10.0.3.1")
        self.assertEqual(1, self.open_links())
        self.fixture.wait(ANSWER_TIMEOUT + 100, 100)
        self.assertEqual(0, self.open_links())

    def test_only_announced_through_servers(self) -> None:
        """The log has unreachable Sentinels and the reasons; a client that only sends hellos causes no such line."""
        for through_server in (False, True):
            at = Address.literal("10.0.3.1", PEER_PORT)
            self.fixture.servers[at] = FakeServer(at, up=False)
            self.fixture.wait(1_100, 50)
            self.announce(identity("q"), "10.0.3.1", through_server=through_server)
            lines = [line for line in self.fixture.output() if "its sentinel announce-port" in line]
            self.assertEqual(len(lines), int(through_server))
        self.assertIn(f"ID of Sentinel {identity('q')} at 10.0.3.1:{PEER_PORT}: refused. Its hellos arrive", lines[0])
        self.fixture.wait(2_000, 50)
        self.announce(identity("q"), "10.0.3.1", through_server=True)
        self.assertEqual([line for line in self.fixture.output() if "Cannot request" in line], [])
        at = Address.literal("10.0.3.2", PEER_PORT)
        self.fixture.servers[at] = FakeServer(at, hung=True)
        self.announce(identity("r"), "10.0.3.2", through_server=True)
        self.fixture.wait(ANSWER_TIMEOUT + 100, 50)
        self.assertTrue([line for line in self.fixture.output() if f"no answer within {ANSWER_TIMEOUT} ms" in line])

    def test_reachable_later(self) -> None:
        """A Sentinel that becomes reachable is registered with its next hello."""
        at = Address.literal("10.0.3.1", PEER_PORT)
        self.fixture.servers[at] = FakeServer(at, up=False, sentinel_id=identity("q").encode())
        self.announce(identity("q"), "10.0.3.1")
        self.fixture.wait(2_000, 100)
        self.fixture.servers[at].up = True
        self.announce(identity("q"), "10.0.3.1")
        self.assertIn(identity("q"), self.known())

    def test_without_myid_support(self) -> None:
        """A Sentinel that does not support or permit MYID is registered by its hello."""
        for number, error in enumerate(NO_MYID):
            self.set_answer(f"10.0.3.{number}", ErrorLine(error))
            self.announce(str(number) * 40, f"10.0.3.{number}")
            self.assertIn(str(number) * 40, self.known(), error)

    def test_a_wrong_password(self) -> None:
        """A wrong password is logged and confirms nothing; the next hello after a correction does."""
        at = Address.literal("10.0.3.1", PEER_PORT)
        self.set_answer("10.0.3.1", ErrorLine(b"NOAUTH Authentication required."))
        self.announce(identity("q"), "10.0.3.1")
        self.assertNotIn(identity("q"), self.known())
        self.assertIn(": NOAUTH Authentication required.", self.fixture.output()[-1])
        self.assertEqual(0, self.open_links())
        self.fixture.wait(2_000, 100)
        self.fixture.servers[at].sentinel_id = identity("q").encode()
        self.announce(identity("q"), "10.0.3.1")
        self.assertIn(identity("q"), self.known())

    def test_one_peer_without_myid_per_address(self) -> None:
        """Any number of forged IDs at its address adds no peer and does not displace it while it is alive."""
        self.set_answer("10.0.3.1", ErrorLine(NO_MYID[0]))
        self.announce(identity("q"), "10.0.3.1")
        for number in range(20):
            self.announce(f"{number:040}", "10.0.3.1")
            self.announce(identity("q"), "10.0.3.1")
        self.assertEqual({identity("b"), identity("z"), identity("q")}, self.known())

    def test_new_id_without_myid(self) -> None:
        """A new ID replaces the old one at its address when hellos of that have stopped."""
        self.set_answer("10.0.3.1", ErrorLine(NO_MYID[0]))
        self.announce(identity("q"), "10.0.3.1")
        self.fixture.wait(8_000, 100)
        self.announce(identity("r"), "10.0.3.1")
        self.assertEqual({identity("b"), identity("z"), identity("r")}, self.known())

    def test_moving_and_replacing(self) -> None:
        """A peer is moved or displaced only by itself or its successor."""
        place = self.fixture.peer("b").address
        self.announce(identity("b"), "10.0.3.1")
        self.announce(identity("q"), place.ip)
        self.fixture.wait(5_000, 100)
        self.assertEqual({identity("b"), identity("z")}, self.known())
        self.assertEqual(place, self.fixture.peer("b").address)
        self.assertEqual([], [event for event in self.fixture.events() if "sentinel" in event])

    def test_in_the_name_of_a_peer(self) -> None:
        """A process that reports the ID of a peer moves the peer only while that is not connected; it returns later."""
        peer = self.fixture.peer("b")
        old_address = peer.address
        self.set_answer("10.0.3.1", identity("b").encode())
        for _ in range(5):
            self.announce(identity("b"), "10.0.3.1")
            self.announce(identity("b"), old_address.ip)
            self.assertEqual(old_address, peer.address)
            self.fixture.wait(2_000, 100)
        self.assertNotIn("ask 10.0.3.1:26379 for its ID", self.fixture.output())
        self.fixture.kill(old_address)
        self.announce(identity("b"), "10.0.3.1")
        self.assertEqual("10.0.3.1", peer.address.ip)
        self.fixture.revive(old_address)
        self.announce(identity("b"), old_address.ip)
        self.assertEqual(old_address, peer.address)

    def test_peer_that_announces_another_address(self) -> None:
        """A connected peer whose hellos name another address for some periods moves there."""
        peer = self.fixture.peer("b")
        self.set_answer("10.0.3.1", identity("b").encode())
        self.announce(identity("b"), peer.address.ip)
        for _ in range(4):
            self.fixture.wait(2_000, 100)
            self.announce(identity("b"), "10.0.3.1")
        self.assertEqual("10.0.3.1", peer.address.ip)

    def test_under_other_masters(self) -> None:
        """A peer of one master is registered for the next without another request."""
        self.set_answer("10.0.3.1", identity("q").encode())
        self.announce(identity("q"), "10.0.3.1")
        other = self.fixture.add_master("other", 7)
        self.fixture.core.registry.drop_peer(other.peers[identity("q")])
        self.fixture.output()
        hello = f"10.0.3.1,26379,{identity('q')},0,other,10.1.0.7,6379,0".encode()
        self.fixture.core.hello_received(hello, self.fixture.now)
        self.assertIs(other.peers[identity("q")].link, self.fixture.peer("q").link)
        self.assertNotIn("ask 10.0.3.1:26379 for its ID", self.fixture.output())

    def test_names(self) -> None:
        """A Sentinel with a host name is asked as soon as the name is resolved."""
        self.fixture.options.resolve_hostnames = True
        at = Address("q.example", "10.0.3.1", PEER_PORT)
        self.fixture.servers[at] = FakeServer(at, sentinel_id=identity("q").encode())
        self.announce(identity("q"), "q.example")
        self.assertNotIn(identity("q"), self.known())
        self.fixture.core.address_resolved(Address("q.example", "", PEER_PORT), "10.0.3.1", self.fixture.now)
        self.fixture.finish()
        self.assertIn(identity("q"), self.known())

    def test_reset(self) -> None:
        """No Sentinel waits for a master that is reset or removed."""
        self.set_answer("10.0.3.1", b"")
        self.fixture.servers[Address.literal("10.0.3.1", PEER_PORT)].hung = True
        self.announce(identity("q"), "10.0.3.1")
        self.fixture.core.administration.reset("*", self.fixture.now)
        # No input or effect shows how many wait.
        self.assertEqual(0, len(self.fixture.core._hello_processing.confirmations))


class FloodTests(ConfirmationCase):
    """Four hundred forged Sentinels."""

    def send_forged_hellos(self, count: int, *, through_server: bool) -> None:
        """Send hellos of that many, at unreachable addresses."""
        for number in range(count):
            self.announce(f"{number:040}", f"10.9.{number // 250}.{1 + number % 250}", through_server=through_server)

    def test_by_publishing_to_us(self) -> None:
        """Direct forged hellos change nothing: the majority is the same, and the failover takes place."""
        for _ in range(5):
            self.send_forged_hellos(400, through_server=False)
            self.fixture.wait(1_000, 100)
        self.assertEqual((3, 2), (self.fixture.master.voters, self.fixture.master.majority))
        self.assertTrue(self.replaces_master())

    def test_through_a_server(self) -> None:
        """Forged hellos through a server change nothing either, as there are more than can be real."""
        for _ in range(5):
            self.send_forged_hellos(400, through_server=True)
            self.fixture.wait(1_000, 100)
        self.assertEqual((3, 2), (self.fixture.master.voters, self.fixture.master.majority))
        self.assertTrue(self.replaces_master())

    def test_are_bounded(self) -> None:
        """Connections, connection attempts per second and memory are bounded."""
        self.send_forged_hellos(400, through_server=True)
        self.send_forged_hellos(400, through_server=False)
        self.assertLessEqual(self.open_links(), 2 * MAX_WAITING)
        # No input or effect shows how many wait.
        self.assertEqual(2 * MAX_WAITING, len(self.fixture.core._hello_processing.confirmations))
        made = sum(isinstance(effect, Connect) for _, effect in self.fixture.sent)
        self.assertLessEqual(made, 2 * MAX_CONNECTIONS_PER_SECOND)
        self.assertLessEqual(len(self.fixture.master.unconfirmed), MAX_UNCONFIRMED)

    def test_real_sentinel_is_confirmed_during_a_flood(self) -> None:
        """A Sentinel announced through a server is confirmed during a flood of direct hellos."""
        self.set_answer("10.0.3.1", identity("q").encode())
        self.send_forged_hellos(400, through_server=False)
        self.announce(identity("q"), "10.0.3.1", through_server=True)
        self.assertIn(identity("q"), self.known())

    def test_oldest_is_discarded(self) -> None:
        """The oldest waiting Sentinel is discarded, so a real one is tried whenever possible."""
        self.set_answer("10.0.3.1", identity("q").encode())
        self.send_forged_hellos(MAX_WAITING, through_server=False)
        self.announce(identity("q"), "10.0.3.1")
        self.assertIn(identity("q"), self.known())

    def test_epochs(self) -> None:
        """No epoch of a forged hello is adopted."""
        for number in range(20):
            self.announce(f"{number:040}", f"10.9.0.{number + 1}", epoch=1_000_000, through_server=True)
        self.assertEqual(0, self.fixture.core.current_epoch)


class MajorityTests(ConfirmationCase):
    """Sentinels that count without being confirmed."""

    def setUp(self) -> None:
        """Set up three Sentinels whose hellos arrive through the server, but which a firewall makes unreachable."""
        super().setUp()
        self.resend_hellos("cde")

    def resend_hellos(self, letters: str) -> None:
        """Send their hellos again."""
        for letter in letters:
            self.announce(identity(letter), f"10.5.0.{ord(letter)}", through_server=True)
        if self.fixture.servers[MASTER].up:
            self.fixture.core.pubsub_active(self.fixture.master.link, self.fixture.now)

    def test_from_the_second_hello_on(self) -> None:
        """They raise the majority, and are not registered."""
        self.assertEqual(3, self.fixture.master.voters)
        self.resend_hellos("cde")
        self.assertEqual(3, self.fixture.master.voters, "one hello came by two servers")
        self.fixture.wait(2_000, 100)
        self.resend_hellos("cde")
        self.assertEqual((6, 4, 2), (self.fixture.master.voters, self.fixture.master.majority, len(self.known())))

    def test_no_second_leader(self) -> None:
        """The minority, three of six, elects no leader although its quorum is two."""
        self.fixture.wait(2_000, 100)
        self.resend_hellos("cde")
        self.assertFalse(self.replaces_master())
        self.fixture.wait(60_000, 100)
        self.assertEqual(MASTER, self.fixture.master.address)

    def test_confirmed_peers_count_once(self) -> None:
        """When the firewall is opened they become peers."""
        self.fixture.wait(ANSWER_TIMEOUT + 100, 100)
        for letter in "cde":
            self.set_answer(f"10.5.0.{ord(letter)}", identity(letter).encode())
        self.resend_hellos("cde")
        unconfirmed = len(self.fixture.master.unconfirmed)
        self.assertEqual((6, 5, 0), (self.fixture.master.voters, len(self.known()), unconfirmed))

    def test_expiry_without_hellos(self) -> None:
        """Without hellos they expire while the subscription works, but not while it is silent."""
        self.fixture.wait(2_000, 100)
        self.resend_hellos("cde")
        self.fixture.now += UNCONFIRMED_EXPIRY + 1
        self.assertEqual(6, self.fixture.master.voters)
        self.fixture.core.pubsub_active(self.fixture.master.link, self.fixture.now)
        self.assertEqual(3, self.fixture.master.voters)

    def test_above_the_limit(self) -> None:
        """Above the limit none of them counts, as they must be forged."""
        letters = "cdefghij"
        self.assertEqual(MAX_COUNTED, len(letters))
        for expected, output in ((3 + MAX_COUNTED, letters), (3, letters + "k")):
            for _ in range(2):
                self.resend_hellos(output)
                self.fixture.wait(2_000, 100)
            self.assertEqual(expected, self.fixture.master.voters)

    def test_direct_hellos_do_not_count(self) -> None:
        """Direct hellos do not count, as any client can send them."""
        for _ in range(5):
            for letter in "fgh":
                self.announce(identity(letter), f"10.5.0.{ord(letter)}")
            self.fixture.wait(2_000, 100)
        self.assertEqual(3, self.fixture.master.voters)


class SharingTests(ConfirmationCase):
    """Several IDs at one address."""

    def test_one_request_for_all(self) -> None:
        """One reply confirms the announced Sentinel with that ID, and discards the others."""
        at = Address.literal("10.0.3.1", PEER_PORT)
        self.fixture.servers[at] = FakeServer(at, hung=True, sentinel_id=identity("q").encode())
        for letter in "opqr":
            self.announce(identity(letter), "10.0.3.1")
        self.assertEqual(1, self.open_links())
        self.fixture.servers[at].hung = False
        link = next(effect.link for _, effect in self.fixture.sent if isinstance(effect, Connect))
        self.fixture.core.link_up(link, link.kinds[0], "10.0.9.9", self.fixture.now)
        self.fixture.finish()
        self.assertEqual({identity("b"), identity("z"), identity("q")}, self.known())
        # No input or effect shows how many wait.
        self.assertEqual((1, 0), (self.open_links(), len(self.fixture.core._hello_processing.confirmations)))

    def test_constants(self) -> None:
        """A real Sentinel has replied before a flood at the permitted rate displaces it."""
        self.assertGreater(confirmation.MAX_WAITING * 1000 // confirmation.MAX_CONNECTIONS_PER_SECOND, 500)
