"""When probes are sent, and what their replies show."""

from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.effects import Effect, KillScript, Ping, PublishHello, RequestInfo
from txsentinel.core.link import LinkKind


class PeriodTests(SynchronousTestCase):
    """Intervals of probes."""

    def setUp(self) -> None:
        """Set up a master, a replica and a peer, all up."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        self.fixture.add_peer("b")
        self.fixture.wait(5_000)
        self.fixture.sent.clear()

    def sent(self, kind: type[Effect], place: object = MASTER) -> list[int]:
        """Return when effects of that kind were emitted for an instance."""
        return [at for at, e in self.fixture.sent if isinstance(e, kind) and e.link.address == place]  # type: ignore

    def test_info(self) -> None:
        """INFO is sent every ten seconds to stable servers."""
        self.fixture.wait(30_000, 50)
        self.assertEqual(3, len(self.sent(RequestInfo)))
        self.assertEqual([], self.sent(RequestInfo, self.fixture.peer("b").address))

    def test_info_every_second(self) -> None:
        """INFO is sent every second to replicas whose master is O_DOWN or whose link to it is down."""
        self.fixture.servers[self.fixture.replica(2).address].link_status = "down"
        self.fixture.servers[self.fixture.replica(2).address].down_for = 5
        self.fixture.wait(11_000, 50)
        self.fixture.sent.clear()
        self.fixture.wait(5_000, 50)
        self.assertEqual(5, len(self.sent(RequestInfo, self.fixture.replica(2).address)))
        self.assertLessEqual(len(self.sent(RequestInfo)), 1)

    def test_hello(self) -> None:
        """Hellos are sent every two seconds to all instances."""
        self.fixture.wait(10_000, 50)
        for place in (MASTER, self.fixture.replica(2).address, self.fixture.peer("b").address):
            self.assertEqual(5, len(self.sent(PublishHello, place)))

    def test_ping(self) -> None:
        """Some command is sent at least once a second, and PING no more often than that."""
        self.fixture.wait(10_000, 20)
        times = sorted(self.sent(Ping) + self.sent(PublishHello) + self.sent(RequestInfo))
        self.assertLessEqual(max(later - sooner for sooner, later in pairwise(times)), 1_020)
        self.assertLessEqual(len(self.sent(Ping)), 11)

    def test_ping_with_short_down_after(self) -> None:
        """With a short down-after PING is sent at that interval."""
        fixture = self.fixture
        fixture.core.administration.set_options(
            "mymaster",
            [("down-after-milliseconds", ["200"])],
            fixture.now,
            lambda options, _, values, __: setattr(options, "down_after", int(values[0])),
        )
        self.fixture.wait(1_100)
        self.fixture.sent.clear()
        self.fixture.wait(2_000)
        self.assertGreaterEqual(len(self.sent(Ping)), 8)

    def test_refused_hello(self) -> None:
        """A hello is sent again after a second to a server that refused PUBLISH."""
        self.fixture.servers[MASTER].refuses = True
        self.fixture.wait(10_000, 20)
        self.assertLessEqual(len(self.sent(PublishHello)), 10)
        self.assertLessEqual(len(self.sent(RequestInfo)), 10)

    def test_unanswered(self) -> None:
        """INFO and hello are not repeated while they are unanswered; PING is, twice a second."""
        self.fixture.servers[MASTER].hung = True
        self.fixture.wait(12_000, 20)
        self.assertLessEqual(len(self.sent(RequestInfo)), 1)
        self.assertLessEqual(len(self.sent(PublishHello)), 1)
        self.assertGreater(len(self.sent(Ping)), 20)

    def test_too_many_pending_commands(self) -> None:
        """With a hundred unanswered commands nothing is sent, without frequent evaluation."""
        self.fixture.master.link.pending_commands = 100
        self.assertLess(self.fixture.idle(5_000), 150)
        self.assertEqual([], self.sent(Ping))

    def test_connection_begins_with_ping_and_info(self) -> None:
        """PING and INFO are sent in the turn of a connection, as another process may be listening."""
        self.fixture.reset_connections(MASTER, LinkKind.COMMANDS)
        self.assertEqual([self.fixture.now], self.sent(Ping))
        self.assertEqual([self.fixture.now], self.sent(RequestInfo))


class EvidenceTests(SynchronousTestCase):
    """Evidence of availability."""

    def setUp(self) -> None:
        """Set up a master that answers nothing from here on."""
        self.fixture = Fixture()
        self.fixture.wait(2_000)
        self.fixture.servers[MASTER].hung = True
        self.fixture.wait(900)
        self.link = self.fixture.master.link
        self.link.unanswered_ping_at = self.fixture.now - 900

    def clock(self) -> int | None:
        """Return the down clock."""
        return self.link.unanswered_ping_at

    def test_acceptable(self) -> None:
        """PONG, LOADING and MASTERDOWN are acceptable, by their beginning."""
        for reply in (b"PONG", b"PONGxyz", b"LOADING Redis is loading", b"MASTERDOWN Link is down"):
            self.link.unanswered_ping_at = 1
            self.fixture.core.ping_reply(self.link, LinkKind.COMMANDS, reply, self.fixture.now)
            self.assertIsNone(self.clock(), reply)

    def test_not_acceptable(self) -> None:
        """Errors are not, and PONG only as a status."""
        for reply in (b"BUSY x", b"NOAUTH x", b"MISCONF x", b"ERR x", b"pong", None):
            self.link.unanswered_ping_at = 1
            self.fixture.core.ping_reply(self.link, LinkKind.COMMANDS, reply, self.fixture.now)
            self.assertEqual(1, self.clock(), reply)

    def test_other_replies(self) -> None:
        """An accepted PUBLISH, an opinion and a Pub/Sub message all show availability."""
        core, now = self.fixture.core, self.fixture.now
        core.publish_reply(self.link, self.fixture.master, False, now)
        self.assertIsNotNone(self.clock())
        core.publish_reply(self.link, self.fixture.master, True, now)
        self.assertIsNone(self.clock())
        self.link.unanswered_ping_at = 1
        core.hello_received(b"whatever", now, self.link)
        self.assertIsNone(self.clock())

    def test_ping_error_takes_precedence(self) -> None:
        """While PING itself is answered by an error, nothing else counts."""
        core, now = self.fixture.core, self.fixture.now
        core.ping_reply(self.link, LinkKind.COMMANDS, b"MISCONF x", now)
        core.publish_reply(self.link, self.fixture.master, True, now)
        core.hello_received(b"whatever", now, self.link)
        self.assertIsNotNone(self.clock())

    def test_ping_is_repeated_after_an_error(self) -> None:
        """However many other replies arrive, PING is repeated until it is accepted."""
        fixture = Fixture()
        fixture.wait(2_000)
        fixture.servers[MASTER].ping_text = b"MISCONF x"
        fixture.wait(1_500)
        fixture.servers[MASTER].ping_text = b"PONG"
        for _ in range(15):
            fixture.core.publish_reply(fixture.master.link, fixture.master, True, fixture.now)
            fixture.wait(100)
        self.assertFalse(fixture.master.link.ping_refused)
        self.assertIsNone(fixture.master.sdown_since)

    def test_errors_do_not_delay_ping(self) -> None:
        """A server that answers INFO and PUBLISH with errors is still sent PING at the same interval."""
        fixture = Fixture()
        fixture.core.timings.publish_period = 600
        fixture.servers[MASTER].refuses = True
        fixture.wait(3_000)
        fixture.sent.clear()
        fixture.wait(5_000)
        pings = [effect for _, effect in fixture.sent if isinstance(effect, Ping)]
        hellos = [effect for _, effect in fixture.sent if isinstance(effect, PublishHello)]
        self.assertGreaterEqual(len(hellos), 2 * len(pings))
        self.assertIn(len(pings), (4, 5))

    def test_loss_starts_the_clock(self) -> None:
        """A lost connection starts the down clock unless it runs already; a failed attempt does not change it."""
        self.link.unanswered_ping_at = None
        self.fixture.core.link_down(self.link, LinkKind.COMMANDS, "lost", 7)
        self.fixture.core.link_down(self.link, LinkKind.COMMANDS, "refused", 9)
        self.assertEqual(7, self.clock())

    def test_script_is_killed_once(self) -> None:
        """BUSY of a server that is S_DOWN causes SCRIPT KILL, once per S_DOWN."""
        core, now = self.fixture.core, self.fixture.now
        core.ping_reply(self.link, LinkKind.COMMANDS, b"BUSY x", now)
        self.fixture.wait(600)
        for _ in range(3):
            core.ping_reply(self.link, LinkKind.COMMANDS, b"BUSY x", self.fixture.now)
        self.fixture.finish()
        self.assertEqual(1, sum(isinstance(e, KillScript) for _, e in self.fixture.sent))

    def test_closed_links_are_ignored(self) -> None:
        """Input on a closed link changes nothing."""
        link, core = self.link, self.fixture.core
        core.administration.remove("mymaster", self.fixture.now)
        for _ in range(2):
            core.link_up(link, LinkKind.COMMANDS, "", self.fixture.now)
            core.ping_reply(link, LinkKind.COMMANDS, b"PONG", self.fixture.now)
            core.info_reply(link, b"role:master", self.fixture.now)
            core.publish_reply(link, self.fixture.master, True, self.fixture.now)
            core.master_down_reply(link, self.fixture.master, [1, b"*", 0], self.fixture.now)
            core.link_down(link, LinkKind.COMMANDS, "", self.fixture.now)
        self.assertEqual([], list(link.instances))
