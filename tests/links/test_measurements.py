"""What links measure and count."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.links.fixture import MY_ID, FakeTransport, Fixture
from txsentinel.core.effects import AskMasterDown, Connect, Ping, Reconnect
from txsentinel.core.instances import InstanceLink, Master
from txsentinel.core.link import LinkKind
from txsentinel.model.failure import FailureClass, LinkFailure


class LinkTestCase(SynchronousTestCase):
    """A link to a master, or to a peer, whose command connection is established."""

    def connect(self, *kinds: LinkKind) -> FakeTransport:
        """Connect."""
        self.fixture = Fixture()
        self.measured = self.fixture.measurements
        self.measured.observe()
        self.link = self.fixture.link(kinds)
        self.fixture.do(Connect(self.link))
        transport = self.fixture.reactor.connectors[0].accept()
        handshake = transport.take_written().count(b"*")
        transport.protocol.dataReceived(b"+OK\r\n" * handshake)
        return transport

    def ping(self) -> None:
        """Send a PING as the core orders it."""
        self.link.ping_sent_at = self.fixture.host.now()
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS))


class RoundTripTests(LinkTestCase):
    """Round trips of PING and of vote requests."""

    def test_ping(self) -> None:
        """The time from the PING to its reply, also if that is an error."""
        transport = self.connect(LinkKind.COMMANDS, LinkKind.PUBSUB)
        for delay, reply in ((0.004, b"+PONG\r\n"), (0.3, b"-BUSY a script\r\n")):
            self.ping()
            self.fixture.reactor.advance(delay)
            transport.protocol.dataReceived(reply)
        state = self.measured.ping_round_trips["master"].state()
        self.assertEqual((state.count, state.sum_ms), (2, 304))
        self.assertEqual(self.measured.ping_round_trips["peer"].state().count, 0)

    def test_not_wanted(self) -> None:
        """Without a view, nothing of a PING is measured; it is from the first PING after that on."""
        transport = self.connect(LinkKind.COMMANDS)
        for wanted in (False, True):
            self.measured.observed = wanted
            self.ping()
            self.fixture.reactor.advance(0.1)
            transport.protocol.dataReceived(b"+PONG\r\n")
            self.assertEqual(self.measured.ping_round_trips["peer"].state().count, int(wanted))

    def test_overlapping(self) -> None:
        """While a PING is unanswered, the next one does not shorten its time."""
        transport = self.connect(LinkKind.COMMANDS)
        self.ping()
        self.fixture.reactor.advance(1.0)
        self.ping()
        self.fixture.reactor.advance(0.5)
        transport.protocol.dataReceived(b"+PONG\r\n")
        transport.protocol.dataReceived(b"+PONG\r\n")
        state = self.measured.ping_round_trips["peer"].state()
        self.assertEqual((state.count, state.sum_ms), (1, 1_500))

    def test_votes(self) -> None:
        """Requests for votes are measured; questions without a candidate, and for the votes of others, are not."""
        transport = self.connect(LinkKind.COMMANDS)
        master = self.link.first
        assert isinstance(master, Master)
        for candidate in ("*", MY_ID, "f" * 40):
            self.fixture.do(AskMasterDown(self.link, master, "10.0.0.9", 6379, 1, candidate))
            self.fixture.reactor.advance(0.02)
            transport.protocol.dataReceived(b"*3\r\n:1\r\n$1\r\n*\r\n:0\r\n")
        state = self.measured.vote_round_trips.state()
        self.assertEqual((state.count, state.sum_ms), (1, 20))
        self.assertEqual([each[0] for each in self.fixture.core.received].count("opinion"), 3)


class FailureTests(LinkTestCase):
    """Counted failures."""

    def failures(self) -> dict[tuple[str, str], int]:
        """Return the counts."""
        return dict(self.measured.link_failures)

    def test_refused_attempt(self) -> None:
        """Each failed attempt counts; the subscription, which is not attempted meanwhile, does not."""
        self.fixture = Fixture()
        self.measured = self.fixture.measurements
        link: InstanceLink = self.fixture.link()
        self.fixture.do(Connect(link))
        for connector in list(self.fixture.reactor.connectors):
            connector.refuse()
        self.assertEqual(self.failures(), {("master", "refused"): 1})
        self.fixture.pass_time(1_000)
        self.fixture.reactor.connectors[0].refuse()
        self.assertEqual(self.failures(), {("master", "refused"): 2})

    def test_refusals(self) -> None:
        """A command that is refused again and again counts once."""
        transport = self.connect(LinkKind.COMMANDS)
        for reply in (b"-NOAUTH no\r\n", b"-NOAUTH no\r\n", b"+PONG\r\n", b"-NOAUTH no\r\n"):
            self.ping()
            transport.protocol.dataReceived(reply)
        self.assertEqual(self.failures(), {("peer", "auth"): 2})

    def test_silence(self) -> None:
        """A connection that the core gives up because nothing is answered counts; one for new settings does not."""
        self.connect(LinkKind.COMMANDS)
        self.fixture.do(Reconnect(self.link, None, "the password was changed"))
        self.fixture.run_turn()
        self.assertEqual(self.failures(), {})
        error = "no answer to any command"
        self.link.failure = LinkFailure(FailureClass.TIMEOUT, error, 0)
        self.fixture.do(Reconnect(self.link, LinkKind.COMMANDS, error))
        self.fixture.run_turn()
        self.assertEqual(self.failures(), {("peer", "timeout"): 1})

    def test_lost(self) -> None:
        """A connection that the other side closes."""
        transport = self.connect(LinkKind.COMMANDS)
        transport.loseConnection()
        self.fixture.run_turn()
        self.assertEqual(self.failures(), {("peer", "reset"): 1})
