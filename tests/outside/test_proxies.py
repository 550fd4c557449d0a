"""Connections through the proxies: open, cut, one-way, slow, reset, and what arrives afterwards."""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.outside.control import Reactor
from tests.outside.proxies import ProxyNetwork, parse_ways
from tests.outside.relay import MAX_BYTES_IN_FLIGHT, Side
from tests.outside.ways import OPEN, Condition, Ways

CALLER, CALLEE, PORT = "127.0.0.2", "127.0.0.3", 7000


class RecordingTransport:
    """Remembers what was written and how it was closed."""

    def __init__(self) -> None:
        self.written = b""
        self.paused = False
        self.closed = ""
        self.producer: IPushProducer | None = None

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        self.closed = "in order"

    def abortConnection(self) -> None:
        self.closed = "reset"

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled


class End:
    """A side of a relay with the transport that we gave it."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.wire = RecordingTransport()
        side.makeConnection(cast(ITransport, self.wire))

    def lose(self, problem: Exception) -> None:
        """Its peer is gone."""
        self.side.connectionLost(Failure(problem))


class ProxyTests(SynchronousTestCase):
    """A switchboard with one door, over a reactor in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.network = ProxyNetwork(cast(Reactor, self.reactor))
        self.network.open_listener(CALLEE, PORT)

    def tell(self, *words: str) -> str:
        """A command of the harness."""
        return self.network.answer(list(words))

    def call(self, caller: str = CALLER) -> End:
        """A connection from this address comes to the door."""
        factory = self.reactor.tcpServers[0][1]
        return End(factory.buildProtocol(IPv4Address("TCP", caller, 40_000)))

    def answer(self) -> End:
        """The process called takes the last connection that was made to it."""
        self.reactor.advance(0)
        factory = self.reactor.tcpClients[-1][2]
        return End(factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", PORT)))

    def through(self) -> tuple[End, End]:
        """A connection with both ends."""
        return self.call(), self.answer()

    def test_an_open_way_carries(self) -> None:
        """Bytes go through in both directions, to the process's own port, from the caller's address."""
        caller, callee = self.through()
        caller.side.dataReceived(b"PING")
        callee.side.dataReceived(b"+PONG")
        self.assertEqual((callee.wire.written, caller.wire.written), (b"PING", b"+PONG"))
        host, port, _, _, source = self.reactor.tcpClients[0]
        self.assertEqual((host, port, source), ("127.0.0.1", PORT, (CALLER, 0)))
        self.assertEqual(self.reactor.tcpServers[0][3], CALLEE)

    def test_nothing_is_read_before_there_is_somebody_to_tell(self) -> None:
        """A caller is not read from until the process called has taken the connection."""
        caller = self.call()
        self.assertTrue(caller.wire.paused)
        self.answer()
        self.assertFalse(caller.wire.paused)

    def test_a_cut_holds_both_ends(self) -> None:
        """While both ways are cut, nothing is read from either end, nothing is closed, and what came is held."""
        caller, callee = self.through()
        self.tell("CUT", "f", f"{CALLER}>{CALLEE} {CALLEE}>{CALLER}")
        caller.side.dataReceived(b"late")
        self.assertTrue(caller.wire.paused and callee.wire.paused)
        self.assertEqual((callee.wire.written, callee.wire.closed, caller.wire.closed), (b"", "", ""))
        self.tell("LIFT", "f")
        self.assertEqual(callee.wire.written, b"late")
        self.assertFalse(caller.wire.paused or callee.wire.paused)

    def test_a_one_way_cut_holds_one_direction(self) -> None:
        """What the caller says gets lost while it still hears the process called."""
        caller, callee = self.through()
        self.tell("CUT", "f", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"lost for now")
        callee.side.dataReceived(b"heard")
        self.assertEqual((callee.wire.written, caller.wire.written), (b"", b"heard"))
        self.assertTrue(caller.wire.paused)
        self.assertFalse(callee.wire.paused)

    def test_a_cut_between_others_is_nothing_to_us(self) -> None:
        """Only the pair named is cut, whichever of the two called."""
        caller, callee = self.through()
        unknown_client, other = self.call("127.0.0.9"), self.answer()
        self.tell("CUT", "f", f"127.0.0.9>{CALLEE}")
        caller.side.dataReceived(b"a")
        unknown_client.side.dataReceived(b"b")
        self.assertEqual((callee.wire.written, other.wire.written), (b"a", b""))

    def test_overlapping_cuts(self) -> None:
        """A way stays cut until the last of its cuts is mended."""
        caller, callee = self.through()
        self.tell("CUT", "one", f"{CALLER}>{CALLEE}")
        self.tell("CUT", "two", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"x")
        self.tell("LIFT", "one")
        self.assertEqual(callee.wire.written, b"")
        self.tell("HEAL")
        self.assertEqual(callee.wire.written, b"x")

    def test_a_connection_waits_for_both_ways(self) -> None:
        """With either way cut nobody is called; the caller waits, and comes through once both are open."""
        self.tell("CUT", "f", f"{CALLEE}>{CALLER}")
        caller = self.call()
        self.reactor.advance(10)
        self.assertEqual((self.reactor.tcpClients, caller.wire.closed), ([], ""))
        self.tell("LIFT", "f")
        self.answer()
        self.assertFalse(caller.wire.paused)

    def test_a_hang_up_is_not_heard_through_a_cut(self) -> None:
        """The other end learns of the end of a connection when the way is open again, and not before."""
        caller, callee = self.through()
        self.tell("CUT", "f", f"{CALLER}>{CALLEE}")
        caller.lose(ConnectionDone())
        self.assertEqual(callee.wire.closed, "")
        self.tell("LIFT", "f")
        self.assertEqual(callee.wire.closed, "in order")

    def test_an_end_is_passed_on_as_it_was(self) -> None:
        """An orderly end stays one and a reset stays one, behind all that was said before."""
        for problem, closed in ((ConnectionDone(), "in order"), (ConnectionLost(), "reset")):
            caller, callee = self.through()
            callee.side.dataReceived(b"last words")
            callee.lose(problem)
            self.assertEqual((caller.wire.written, caller.wire.closed), (b"last words", closed))

    def test_refusal(self) -> None:
        """A process that does not take connections resets its callers."""
        caller = self.call()
        self.reactor.advance(0)
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(ConnectionLost()))
        self.assertEqual(caller.wire.closed, "reset")

    def test_a_slow_way_keeps_the_order(self) -> None:
        """Every piece comes late by as much as the way was slow when it was sent, and never before an earlier one."""
        caller, callee = self.through()
        self.tell("SLOW", "f", "0.5", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"1")
        self.reactor.advance(0.3)
        self.tell("LIFT", "f")
        caller.side.dataReceived(b"2")
        self.assertEqual(callee.wire.written, b"")
        self.reactor.advance(0.21)
        self.assertEqual(callee.wire.written, b"12")

    def test_a_slow_end(self) -> None:
        """The end of a connection takes as long as its bytes."""
        caller, callee = self.through()
        self.tell("SLOW", "f", "0.5", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"1")
        caller.lose(ConnectionDone())
        self.assertEqual(callee.wire.closed, "")
        self.reactor.advance(0.5)
        self.assertEqual((callee.wire.written, callee.wire.closed), (b"1", "in order"))

    def test_connecting_is_slow_too(self) -> None:
        """A connection takes a round between the two."""
        self.tell("SLOW", "f", "0.2", f"{CALLER}>{CALLEE} {CALLEE}>{CALLER}")
        self.call()
        self.reactor.advance(0.39)
        self.assertEqual(self.reactor.tcpClients, [])
        self.reactor.advance(0.02)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_reset(self) -> None:
        """All connections of the pair are reset at both ends, and counted; others are left alone."""
        caller, callee = self.through()
        unknown_client, other = self.call("127.0.0.9"), self.answer()
        self.assertEqual(self.tell("RESET", f"{CALLEE}>{CALLER}"), "1")
        self.assertEqual((caller.wire.closed, callee.wire.closed), ("reset", "reset"))
        self.assertEqual((unknown_client.wire.closed, other.wire.closed), ("", ""))

    def test_what_is_over_is_forgotten(self) -> None:
        """No connection and no timer outlives both ends."""
        caller, callee = self.through()
        self.tell("SLOW", "f", "9", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"1")
        self.assertEqual(self.tell("COUNT"), "1")
        caller.lose(ConnectionDone())
        callee.lose(ConnectionDone())
        self.assertEqual(self.tell("COUNT"), "0")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_caller_who_gave_up(self) -> None:
        """Whoever hangs up before the process called answered leaves nothing behind there."""
        caller = self.call()
        self.reactor.advance(0)
        caller.lose(ConnectionDone())
        callee = self.answer()
        self.assertEqual(callee.wire.closed, "reset")
        callee.lose(ConnectionLost())
        self.assertEqual(self.tell("COUNT"), "0")

    def test_a_full_end_holds_back_the_other(self) -> None:
        """Whoever cannot take more pauses the one who sends, and a cut mended meanwhile does not change that."""
        caller, callee = self.through()
        producer = callee.wire.producer
        assert producer is not None
        producer.pauseProducing()
        self.assertTrue(caller.wire.paused)
        self.tell("CUT", "f", f"{CALLER}>{CALLEE}")
        self.tell("LIFT", "f")
        self.assertTrue(caller.wire.paused)
        producer.resumeProducing()
        self.assertFalse(caller.wire.paused)

    def test_a_slow_way_is_not_endless(self) -> None:
        """No more is read while too much is under way."""
        caller, callee = self.through()
        self.tell("SLOW", "f", "1", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(bytes(MAX_BYTES_IN_FLIGHT + 1))
        self.assertTrue(caller.wire.paused)
        self.reactor.advance(1)
        self.assertFalse(caller.wire.paused)
        self.assertEqual(len(callee.wire.written), MAX_BYTES_IN_FLIGHT + 1)

    def test_nonsense(self) -> None:
        """What is no command, or no way, is refused."""
        for words in (["CUT"], ["CUT", "f", "here"], ["SLOW", "f", "soon", "a>b"], ["COUNT", "me"], ["BLOW"]):
            self.assertRaises(ValueError, self.network.answer, words)


class PathTests(SynchronousTestCase):
    """How obstacles add up."""

    def test_the_worst_counts(self) -> None:
        """A way is as slow as the slowest obstacle says, cut if one cuts it, and others are open."""
        ways = Ways()
        ways.impose("a", [("x", "y")], Condition(delay=0.2))
        ways.impose("b", [("x", "y")], Condition(delay=0.1))
        self.assertEqual(ways.condition("x", "y"), Condition(delay=0.2))
        self.assertEqual(ways.slowness("y", "x"), 0.2)
        ways.impose("c", [("x", "y")], Condition(cut=True))
        self.assertTrue(ways.condition("x", "y").cut)
        self.assertFalse(ways.open_both("y", "x"))
        self.assertEqual(ways.condition("y", "x"), OPEN)

    def test_notation(self) -> None:
        """Each way is written with its direction."""
        self.assertEqual(parse_ways("a>b c>d"), [("a", "b"), ("c", "d")])
