"""Pauses of the writes of an isolated master: when they begin, how they are renewed, and how they end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, FakeServer, Fixture
from txsentinel.core.effects import HandOver, PauseWrites, PublishHello, Reconfigure, ResumeWrites
from txsentinel.core.errors import CommandError
from txsentinel.core.fence_state import LEASE_LENGTH, LEASE_PERIOD
from txsentinel.core.fencing import TOO_OLD
from txsentinel.core.link import LinkKind
from txsentinel.core.options import GuardOptions, Lineage
from txsentinel.model.address import Address
from txsentinel.model.failure import FailureClass
from txsentinel.model.timings import Millis

DOWN_AFTER = 8_000
DELAY = DOWN_AFTER // 2
SLACK = 1_500
"""The PING period, and evaluations a quarter of a second apart."""


def hello_through(fixture: Fixture, letter: str, server: FakeServer | None = None) -> None:
    """Deliver a hello that the Sentinel with that letter published on the master, or on ``server``."""
    link = fixture.master.link
    if server is not None:
        link = next(each.link for each in fixture.master.replicas.values() if each.address.same(server.address))
    port = f"10.0.1.{ord(letter)},26379,{letter * 40}"
    payload = f"{port},00,mymaster,{MASTER.ip},{MASTER.port},0".encode()
    fixture.core.hello_received(payload, fixture.now, link)
    fixture.finish()


class FencingTestCase(SynchronousTestCase):
    """A master with two replicas that acknowledge, and Sentinels that answer."""

    peers = "ab"
    guards = GuardOptions(fence_isolated=True)
    version = "7.2.4"

    def setUp(self) -> None:
        """Start a healthy group."""
        self.fixture = Fixture(down_after=DOWN_AFTER)
        self.master = self.fixture.master
        self.master.options.guards = self.guards
        self.server = self.fixture.servers[MASTER]
        self.replicas = [self.fixture.add_replica(number) for number in (2, 3)]
        self.acknowledge(0, 1)
        self.others = [self.fixture.add_peer(letter) for letter in self.peers]
        self.fixture.wait(3_000, 50)
        self.fixture.output()

    def acknowledge(self, *lags: int, state: str = "online") -> None:
        """Let INFO of the master show replicas whose last acknowledgements are that many seconds old."""
        self.server.extra = [f"redis_version:{self.version}"] + [
            f"slave{number}:ip=10.0.0.{number + 2},port=6379,state={state},offset=100,lag={lag}"
            for number, lag in enumerate(lags)
        ]

    def isolate(self, *letters: str) -> None:
        """Cut off the Sentinels with these letters, and the replicas; the master is reached."""
        for letter in letters or self.peers:
            self.fixture.servers[self.fixture.peer(letter).address].hung = True
        for replica in self.replicas:
            replica.hung = True
        self.acknowledge(100, 100)

    def reconnect(self, *letters: str) -> None:
        """End what :meth:`isolate` began."""
        for letter in letters or self.peers:
            self.fixture.revive(self.fixture.peer(letter).address)
        for replica in self.replicas:
            self.fixture.revive(replica.address)

    def pauses(self) -> list[Millis]:
        """Return when the master was ordered to pause writes."""
        return [at for at, effect in self.fixture.sent if isinstance(effect, PauseWrites)]

    def resumed(self) -> list[str]:
        """Return the addresses of the servers that were ordered to resume writes."""
        return [effect.link.address.ip for _, effect in self.fixture.sent if isinstance(effect, ResumeWrites)]

    def hold(self) -> None:
        """Isolate the master until its writes are paused."""
        self.isolate()
        self.fixture.wait(DELAY + SLACK, 50)
        self.assertTrue(self.server.paused)

    def assert_never_paused(self, milliseconds: Millis = 3 * DOWN_AFTER) -> None:
        """Check that writes are not paused within that time."""
        self.fixture.wait(milliseconds, 50)
        self.assertEqual(self.pauses(), [])


class BeginTests(FencingTestCase):
    """Each condition for the first order."""

    def test_isolated(self) -> None:
        """Writes are paused fence-after after the first unanswered PING, before others can hold the master down."""
        began = self.fixture.now
        self.isolate()
        self.fixture.wait(DELAY + SLACK, 50)
        first = self.pauses()[0] - began
        self.assertTrue(DELAY < first < min(DOWN_AFTER, DELAY + SLACK), first)
        self.assertIn(
            "note Writes to mymaster at 10.0.0.1:6379 are paused: 2 of 3 Sentinels do not answer, and no replica "
            "acknowledges writes, so what it accepts may be lost",
            self.fixture.output(),
        )

    def test_new_connections(self) -> None:
        """
        On new connections to the master, hellos of the others are awaited for a period and its tolerance.

        Those to the others may return a moment later, as all are made independently.
        """
        for kinds in ((LinkKind.COMMANDS,), (LinkKind.PUBSUB,), (LinkKind.COMMANDS, LinkKind.PUBSUB)):
            self.setUp()
            self.isolate()
            self.fixture.wait(DELAY, 50)
            self.assertEqual(self.pauses(), [])
            connected = self.fixture.now
            self.fixture.reset_connections(MASTER, *kinds)
            self.fixture.wait(2 * DOWN_AFTER, 50)
            self.assertTrue(2_500 < self.pauses()[0] - connected < 2_500 + SLACK, self.pauses())

    def test_hello_on_a_new_connection(self) -> None:
        """A hello that arrives on the new connection shows that another Sentinel reaches the master, too."""
        self.isolate()
        self.fixture.wait(DELAY, 50)
        self.fixture.reset_connections(MASTER, LinkKind.COMMANDS, LinkKind.PUBSUB)
        for _ in range(20):
            self.fixture.wait(1_000, 50)
            hello_through(self.fixture, "a")
        self.assertEqual(self.pauses(), [])

    def test_master_that_was_stopped(self) -> None:
        """
        After a silence of the master itself, its replicas and the other Sentinels have as much time to be noticed.

        A connection that stays established may return before those to the others, like a new one.
        """
        for silence in (1_500, DELAY - 1_000):
            self.setUp()
            self.isolate()
            self.fixture.wait(DELAY - silence, 50)
            self.server.hung = True
            self.fixture.wait(silence, 50)
            self.assertEqual(self.pauses(), [])
            self.fixture.revive(MASTER)
            back = self.fixture.now
            self.fixture.wait(2 * DOWN_AFTER, 50)
            self.assertTrue(2_500 < self.pauses()[0] - back < 2_500 + SLACK, (silence, self.pauses(), back))

    def test_off(self) -> None:
        """The guard is off by default."""
        self.master.options.guards = GuardOptions()
        self.isolate()
        self.assert_never_paused()

    def test_one_peer_answers(self) -> None:
        """A majority answers."""
        self.isolate("a")
        self.assert_never_paused()

    def test_replica_acknowledges(self) -> None:
        """One of the replicas acknowledged within fence-after, in whole seconds."""
        self.isolate()
        self.acknowledge(100, DELAY // 1000)
        self.assert_never_paused()
        self.acknowledge(100, DELAY // 1000 + 1)
        self.fixture.wait(SLACK, 50)
        self.assertTrue(self.server.paused)

    def test_replica_that_copies_is_no_acknowledgement(self) -> None:
        """The lag of a replica that is not online is always 0."""
        self.isolate()
        self.acknowledge(0, state="send_bulk")
        self.fixture.wait(DELAY + SLACK, 50)
        self.assertTrue(self.server.paused)

    def test_old_info_is_no_proof(self) -> None:
        """What the master reported before the others fell silent does not count; another INFO is requested."""
        self.isolate()
        self.acknowledge(100)
        self.fixture.wait(500, 50)
        self.acknowledge(0)
        self.assert_never_paused()

    def test_no_replicas(self) -> None:
        """Nothing can replace a master without replicas."""
        self.fixture.core.registry.drop_replicas(self.master)
        self.isolate()
        self.acknowledge()
        self.assert_never_paused()

    def test_hello_on_the_master(self) -> None:
        """A peer that does not answer, but publishes on the master, reaches it."""
        self.isolate()
        for _ in range(3 * DOWN_AFTER // 2_000):
            self.fixture.wait(2_000, 50)
            hello_through(self.fixture, "a")
        self.assertEqual(self.pauses(), [])

    def test_hello_on_a_replica(self) -> None:
        """A peer that publishes on a replica only does not show that it reaches the master."""
        self.isolate()
        for _ in range(DOWN_AFTER // 2_000):
            self.fixture.wait(2_000, 50)
            hello_through(self.fixture, "a", self.replicas[0])
        self.assertTrue(self.server.paused)

    def test_tilt(self) -> None:
        """Nothing is ordered in TILT."""
        self.isolate()
        self.fixture.wall_skew = 60_000
        self.fixture.sweep()
        self.assert_never_paused(self.fixture.core.timings.tilt_period - 100)
        self.fixture.wait(SLACK, 50)
        self.assertTrue(self.server.paused)

    def test_cannot_save(self) -> None:
        """A Sentinel that cannot save its votes holds no writes."""
        self.fixture.disk_works = False
        self.fixture.core.outbox.changed("mymaster")
        self.fixture.finish()
        self.isolate()
        self.assert_never_paused()

    def test_master_not_reached(self) -> None:
        """A master that does not answer is not ordered anything."""
        self.isolate()
        self.server.hung = True
        self.assert_never_paused()

    def test_start_without_majority(self) -> None:
        """A Sentinel that starts before the others, or after they were removed for good, does not hold writes."""
        self.isolate()
        self.fixture.restart()
        self.fixture.master.options.guards = self.guards
        self.assertEqual(len(self.fixture.master.peers), 2)
        self.assert_never_paused()

    def test_quorum_above_the_others(self) -> None:
        """Without this Sentinel the others cannot agree, so they cannot fail over."""
        self.master.options.quorum = 3
        self.isolate()
        self.assert_never_paused()

    def test_old_server(self) -> None:
        """Redis 6.2 may not end a pause by itself, so it is not ordered; this is logged once for each connection."""
        self.version = "6.2.14"
        self.isolate()
        self.assert_never_paused()
        notes = [line for line in self.fixture.output() if "are not paused" in line]
        self.assertEqual(notes, ["note Writes to mymaster are not paused: " + TOO_OLD])

    def test_own_failover(self) -> None:
        """Nothing is held while a failover that was ordered here is in progress."""
        self.replicas[0].hung = self.replicas[1].hung = False
        self.fixture.wait(1_000, 50)
        for server in self.others:
            server.hung = True
        for replica in self.replicas:
            replica.obeys = False
        self.acknowledge(100)
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.wait(DELAY + SLACK, 50)
        self.assertIsNotNone(self.master.failover)
        self.assertEqual(self.pauses(), [])

    def test_hello_held_by_another_pause(self) -> None:
        """An order behind a PUBLISH that a pause holds would be executed after that pause; it is not sent."""
        self.server.paused = True
        self.fixture.wait(3_000, 50)
        self.assertIsNotNone(self.master.hello_sent_at)
        self.isolate()
        self.fixture.wait(DELAY + SLACK, 50)
        self.assertIsNotNone(self.master.hello_sent_at)
        self.assertEqual(self.pauses(), [])

    def test_server_fails_over_by_itself(self) -> None:
        """A server that executes FAILOVER holds writes itself; ending our pause would end that one."""
        self.isolate()
        self.server.extra.append("master_failover_state:waiting-for-sync")
        self.assert_never_paused()


class GroupSizeTests(SynchronousTestCase):
    """Groups of other sizes."""

    def first_pause(self, peers: str, silent: str) -> bool:
        """Return whether the master is fenced in a group with these peers when some of them fall silent."""

        class Case(FencingTestCase):
            def runTest(self) -> None:
                """Not run: only the fixture is used."""

        Case.peers = peers
        case = Case()
        case.setUp()
        if silent:
            case.isolate(*silent)
        else:
            case.acknowledge(100)
        case.fixture.wait(2 * DOWN_AFTER, 50)
        return bool(case.pauses())

    def test_sizes(self) -> None:
        """Writes are held only if the silent ones are a majority of all, so that they can fail over."""
        for peers, silent, expected in (
            ("", "", False),
            ("a", "a", False),
            ("abc", "abc", True),
            ("abc", "ab", False),
            ("abcd", "abc", True),
            ("abcd", "ab", False),
        ):
            self.assertEqual(self.first_pause(peers, silent), expected, (peers, silent))


class LeaseTests(FencingTestCase):
    """How a lease is renewed, and how it ends."""

    def test_renewed_each_period(self) -> None:
        """All orders have one length, and are one period apart."""
        self.hold()
        self.fixture.wait(10 * LEASE_PERIOD, 10)
        times = self.pauses()
        gaps = [after - before for before, after in pairwise(times)]
        self.assertTrue(all(LEASE_PERIOD <= gap <= LEASE_PERIOD + 250 for gap in gaps), gaps)
        lengths = {effect.period for _, effect in self.fixture.sent if isinstance(effect, PauseWrites)}
        self.assertEqual(lengths, {LEASE_LENGTH})

    def test_no_hello_is_published(self) -> None:
        """PUBLISH would be held, and the order to end the pause behind it."""
        self.hold()
        del self.fixture.sent[:]
        self.fixture.wait(10 * LEASE_PERIOD, 50)
        own = [e for _, e in self.fixture.sent if isinstance(e, PublishHello) and e.link is self.master.link]
        self.assertEqual(own, [])

    def test_majority_confirms(self) -> None:
        """When a majority answers and a hello confirms the address, writes are resumed, once."""
        self.hold()
        self.reconnect("a")
        self.fixture.wait(1_000, 50)
        self.assertTrue(self.server.paused)
        self.fixture.hello("a", MASTER, 0)
        self.fixture.wait(1_000, 50)
        self.assertEqual(self.resumed(), [MASTER.ip])
        self.assertFalse(self.server.paused)
        self.assertIsNone(self.master.link.lease)
        self.assertIn(
            "note Writes to mymaster at 10.0.0.1:6379 are not paused any more: a majority of Sentinels answers, and "
            "the address is unchanged",
            self.fixture.output(),
        )
        self.fixture.wait(3_000, 50)
        self.assertGreater(self.master.hello_published_at, self.fixture.now - 3_000)

    def test_majority_sends_no_hello(self) -> None:
        """Hellos are not awaited for ever."""
        self.hold()
        self.reconnect()
        self.fixture.wait(12_000, 50)
        self.assertEqual(self.resumed(), [MASTER.ip])

    def test_new_address_is_not_adopted_yet(self) -> None:
        """A hello with a newer configuration confirms nothing, even if its address is not adopted at once."""
        self.master.options.guards = replace(self.guards, lineage=Lineage.STRICT)
        self.hold()
        self.reconnect("a")
        for _ in range(3):
            self.fixture.hello("a", Address.literal("10.0.0.9", 6379), 5)
            self.fixture.wait(1_000, 50)
        self.assertEqual(self.master.address, MASTER)
        self.assertEqual(self.resumed(), [])
        self.assertTrue(self.server.paused)

    def test_new_address(self) -> None:
        """If the others have replaced the master, writes are held until it is a replica, and resumed then."""
        self.hold()
        self.replicas[0].role, self.replicas[0].follows = "master", None
        self.replicas[1].follows = self.replicas[0].address
        self.reconnect()
        self.fixture.hello("a", self.replicas[0].address, 5)
        self.assertEqual(self.master.address, self.replicas[0].address)
        self.assertEqual(self.resumed(), [])
        self.fixture.wait(3_000, 50)
        orders = [e for _, e in self.fixture.sent if isinstance(e, ResumeWrites | Reconfigure)]
        self.assertEqual([type(e) for e in orders if e.link.address == MASTER], [Reconfigure, ResumeWrites])
        self.assertEqual(self.server.role, "slave")
        self.assertFalse(self.server.paused)
        self.assertIsNone(self.fixture.replica(1).link.lease)

    def test_replica_acknowledges_again(self) -> None:
        """Writes that a replica acknowledges need not be held."""
        self.hold()
        self.acknowledge(0)
        self.fixture.wait(1_000, 50)
        self.assertEqual(self.resumed(), [MASTER.ip])

    def test_switched_off(self) -> None:
        """SENTINEL SET fence-isolated off resumes writes."""
        self.hold()
        self.master.options.guards = replace(self.guards, fence_isolated=False)
        self.fixture.wait(500, 50)
        self.assertEqual(self.resumed(), [MASTER.ip])

    def test_saving_fails(self) -> None:
        """A Sentinel that cannot save any more resumes writes."""
        self.hold()
        self.fixture.disk_works = False
        self.fixture.core.outbox.changed("mymaster")
        self.fixture.finish()
        self.fixture.wait(500, 50)
        self.assertEqual(self.resumed(), [MASTER.ip])

    def test_tilt(self) -> None:
        """In TILT the lease is not renewed, and ends by its timeout."""
        self.hold()
        self.fixture.wall_skew = 60_000
        self.fixture.sweep()
        before = len(self.pauses())
        self.fixture.wait(LEASE_LENGTH + 100, 50)
        self.assertEqual(len(self.pauses()), before)
        self.assertFalse(self.server.paused)

    def test_sentinel_dies(self) -> None:
        """Without its Sentinel a lease ends by its timeout, and the next process does not begin another one."""
        self.hold()
        self.fixture.restart()
        self.fixture.master.options.guards = self.guards
        self.fixture.wait(LEASE_LENGTH + 100, 50)
        self.assertFalse(self.server.paused)

    def test_reset(self) -> None:
        """SENTINEL RESET and REMOVE resume writes, as nothing would renew the lease."""
        self.hold()
        self.fixture.core.administration.reset("mymaster", self.fixture.now)
        self.fixture.finish()
        self.assertEqual(self.resumed(), [MASTER.ip])

    def test_remove(self) -> None:
        """The same for REMOVE."""
        self.hold()
        self.fixture.core.administration.remove("mymaster", self.fixture.now)
        self.fixture.finish()
        self.assertEqual(self.resumed(), [MASTER.ip])

    def test_failover_ordered_here(self) -> None:
        """An operator who orders a failover on the minority's side gets it; writes are resumed first."""
        self.hold()
        for replica in self.replicas:
            self.fixture.revive(replica.address)
        self.fixture.wait(1_000, 50)
        try:
            self.fixture.core.administration.failover("mymaster", self.fixture.now)
        except CommandError as error:
            self.fail(str(error))
        self.fixture.wait(500, 50)
        self.assertEqual(self.resumed()[:1], [MASTER.ip])
        self.assertEqual([e for _, e in self.fixture.sent if isinstance(e, HandOver)], [])

    def test_lost_connection(self) -> None:
        """On a new connection the lease is renewed at once, and the order to end it is repeated."""
        self.hold()
        before = len(self.pauses())
        self.fixture.reset_connections(MASTER, LinkKind.COMMANDS)
        self.assertEqual(len(self.pauses()), before + 1)
        self.server.hung = True
        self.reconnect()
        self.fixture.hello("a", MASTER, 0)
        self.fixture.wait(500, 50)
        self.server.hung, self.server.unread = False, []
        self.fixture.reset_connections(MASTER, LinkKind.COMMANDS)
        self.assertEqual(self.resumed(), [MASTER.ip] * 2)
        self.assertIsNone(self.master.link.lease)

    def lose(self, failure: FailureClass) -> Millis:
        """Lose the connections in this way until the lease has ended; return after how long it is ordered again."""
        for kind in LinkKind:
            self.fixture.core.link_down(self.master.link, kind, "lost", self.fixture.now, failure)
        self.server.up = False
        self.fixture.finish()
        self.fixture.wait(LEASE_LENGTH + 500, 50)
        self.assertIsNone(self.master.link.lease)
        before, back = len(self.pauses()), self.fixture.now
        self.fixture.revive(MASTER)
        self.fixture.wait(5_000, 50)
        return self.pauses()[before] - back

    def test_rejected_connection(self) -> None:
        """
        A lease that ended because the connection was rejected is ordered again on the next one.

        After a timeout hellos are awaited first: this Sentinel may itself be what was cut off.
        """
        self.hold()
        self.assertLess(self.lose(FailureClass.RESET), 500)
        self.setUp()
        self.hold()
        self.assertGreater(self.lose(FailureClass.TIMEOUT), 2_500)

    def test_refused(self) -> None:
        """A server that refuses is not ordered again on the same connection."""
        self.server.refuses_pause = True
        self.isolate()
        self.fixture.wait(3 * DOWN_AFTER, 50)
        self.assertEqual(len(self.pauses()), 1)
        self.assertIsNone(self.master.link.lease)
        self.fixture.reset_connections(MASTER, LinkKind.COMMANDS)
        self.fixture.wait(3_000, 50)
        self.assertEqual(len(self.pauses()), 2)
