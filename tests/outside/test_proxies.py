"""Connections through the proxies: open, cut, one-way, slow, reset, and the data that arrives afterwards."""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConnector, IListeningPort, IPushProducer, ITransport
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.outside.control import Reactor
from tests.outside.plan import TOO_MANY_CLIENTS
from tests.outside.proxies import PROBE_SECONDS, ProxyNetwork, parse_routes
from tests.outside.relay import MAX_BYTES_IN_FLIGHT, Side
from tests.outside.routes import OPEN, Condition, Routes

CALLER, CALLEE, PORT = "127.0.0.2", "127.0.0.3", 7000


class RecordingTransport:
    """Records its data and how it was closed."""

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


class RelaySide:
    """A side of a relay with its fake transport."""

    def __init__(self, side: object) -> None:
        assert isinstance(side, Side)
        self.side = side
        self.wire = RecordingTransport()
        side.makeConnection(cast(ITransport, self.wire))

    def lose(self, problem: Exception) -> None:
        """Its peer was lost."""
        self.side.connectionLost(Failure(problem))


@implementer(IListeningPort)
class ListeningPort:
    """A port that leaves the reactor's list of listeners when it is closed, in a later turn as a real one."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        self._reactor = reactor
        self._listener = reactor.tcpServers[-1]

    def startListening(self) -> None:
        """Do nothing: it listens."""

    def stopListening(self) -> Deferred[None]:
        return deferLater(self._reactor, 0, self._reactor.tcpServers.remove, self._listener)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self._listener[3], self._listener[0])


class ListeningReactor(MemoryReactorClock):
    """A reactor in memory that can close ports, and refuses to open one twice."""

    def listenTCP(self, port: int, factory: ServerFactory, backlog: int = 50, interface: str = "") -> ListeningPort:
        assert (port, interface) not in [(each[0], each[3]) for each in self.tcpServers]
        super().listenTCP(port, factory, backlog, interface)
        return ListeningPort(self)


class ProxyTests(SynchronousTestCase):
    """A proxy network with one listening port, over a reactor in memory."""

    def setUp(self) -> None:
        self.reactor = ListeningReactor()
        self.network = ProxyNetwork(cast(Reactor, self.reactor))
        self.network.open_listener(CALLEE, PORT)

    def execute(self, *words: str) -> str:
        """Execute a command of the harness."""
        return self.network.handle(list(words))

    def call(self, caller: str = CALLER) -> RelaySide:
        """Accept a connection from this address."""
        factory = self.reactor.tcpServers[0][1]
        return RelaySide(factory.buildProtocol(IPv4Address("TCP", caller, 40_000)))

    def accept(self) -> RelaySide:
        """The callee accepts the last connection."""
        self.reactor.advance(0)
        factory = self.reactor.tcpClients[-1][2]
        return RelaySide(factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", PORT)))

    def through(self) -> tuple[RelaySide, RelaySide]:
        """Return a connection with both ends."""
        return self.call(), self.accept()

    def test_open_route(self) -> None:
        """Data passes in both directions, to the process's own port, from the caller's address."""
        caller, callee = self.through()
        caller.side.dataReceived(b"PING")
        callee.side.dataReceived(b"+PONG")
        self.assertEqual((callee.wire.written, caller.wire.written), (b"PING", b"+PONG"))
        host, port, _, _, source = self.reactor.tcpClients[0]
        self.assertEqual((host, port, source), ("127.0.0.1", PORT, (CALLER, 0)))
        self.assertEqual(self.reactor.tcpServers[0][3], CALLEE)

    def test_nothing_is_read_before_the_callee_accepts(self) -> None:
        """A caller is not read until the callee has accepted the connection."""
        caller = self.call()
        self.assertTrue(caller.wire.paused)
        self.accept()
        self.assertFalse(caller.wire.paused)

    def test_cut_in_both_directions(self) -> None:
        """While both directions are cut, nothing is read from either end, nothing is closed, and data is held."""
        caller, callee = self.through()
        self.execute("CUT", "f", f"{CALLER}>{CALLEE} {CALLEE}>{CALLER}")
        caller.side.dataReceived(b"late")
        self.assertTrue(caller.wire.paused and callee.wire.paused)
        self.assertEqual((callee.wire.written, callee.wire.closed, caller.wire.closed), (b"", "", ""))
        self.execute("LIFT", "f")
        self.assertEqual(callee.wire.written, b"late")
        self.assertFalse(caller.wire.paused or callee.wire.paused)

    def test_cut_in_one_direction(self) -> None:
        """Data from the caller is held while it still receives data from the callee."""
        caller, callee = self.through()
        self.execute("CUT", "f", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"lost for now")
        callee.side.dataReceived(b"back")
        self.assertEqual((callee.wire.written, caller.wire.written), (b"", b"back"))
        self.assertTrue(caller.wire.paused)
        self.assertFalse(callee.wire.paused)

    def test_cut_between_others(self) -> None:
        """Only the named pair is cut, whichever of the two is the caller."""
        caller, callee = self.through()
        unknown_client, other = self.call("127.0.0.9"), self.accept()
        self.execute("CUT", "f", f"127.0.0.9>{CALLEE}")
        caller.side.dataReceived(b"a")
        unknown_client.side.dataReceived(b"b")
        self.assertEqual((callee.wire.written, other.wire.written), (b"a", b""))

    def test_overlapping_cuts(self) -> None:
        """A route stays cut until the last of its cuts ends."""
        caller, callee = self.through()
        self.execute("CUT", "one", f"{CALLER}>{CALLEE}")
        self.execute("CUT", "two", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"x")
        self.execute("LIFT", "one")
        self.assertEqual(callee.wire.written, b"")
        self.execute("HEAL")
        self.assertEqual(callee.wire.written, b"x")

    def test_connection_waits_for_both_directions(self) -> None:
        """With either direction cut the connection waits; it is established once both are open."""
        self.execute("CUT", "f", f"{CALLEE}>{CALLER}")
        caller = self.call()
        self.reactor.advance(10)
        self.assertEqual((self.reactor.tcpClients, caller.wire.closed), ([], ""))
        self.execute("LIFT", "f")
        self.accept()
        self.assertFalse(caller.wire.paused)

    def test_end_of_connection_during_a_cut(self) -> None:
        """The other end is notified of the end of a connection when the route is open again, and not before."""
        caller, callee = self.through()
        self.execute("CUT", "f", f"{CALLER}>{CALLEE}")
        caller.lose(ConnectionDone())
        self.assertEqual(callee.wire.closed, "")
        self.execute("LIFT", "f")
        self.assertEqual(callee.wire.closed, "in order")

    def test_clean_and_unclean_ends(self) -> None:
        """An orderly end and a reset are passed on as such, behind all earlier data."""
        for problem, closed in ((ConnectionDone(), "in order"), (ConnectionLost(), "reset")):
            caller, callee = self.through()
            callee.side.dataReceived(b"last words")
            callee.lose(problem)
            self.assertEqual((caller.wire.written, caller.wire.closed), (b"last words", closed))

    def test_refusal(self) -> None:
        """A callee that refuses connections resets its callers."""
        caller = self.call()
        self.reactor.advance(0)
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(cast(IConnector, None), Failure(ConnectionLost()))
        self.assertEqual(caller.wire.closed, "reset")

    def test_slow_route_keeps_the_order(self) -> None:
        """All data is delayed by the delay at the time of sending, and never overtakes earlier data."""
        caller, callee = self.through()
        self.execute("SLOW", "f", "0.5", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"1")
        self.reactor.advance(0.3)
        self.execute("LIFT", "f")
        caller.side.dataReceived(b"2")
        self.assertEqual(callee.wire.written, b"")
        self.reactor.advance(0.21)
        self.assertEqual(callee.wire.written, b"12")

    def test_delayed_end(self) -> None:
        """The end of a connection is delayed like its data."""
        caller, callee = self.through()
        self.execute("SLOW", "f", "0.5", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"1")
        caller.lose(ConnectionDone())
        self.assertEqual(callee.wire.closed, "")
        self.reactor.advance(0.5)
        self.assertEqual((callee.wire.written, callee.wire.closed), (b"1", "in order"))

    def test_delayed_connecting(self) -> None:
        """Establishing a connection takes a round trip."""
        self.execute("SLOW", "f", "0.2", f"{CALLER}>{CALLEE} {CALLEE}>{CALLER}")
        self.call()
        self.reactor.advance(0.39)
        self.assertEqual(self.reactor.tcpClients, [])
        self.reactor.advance(0.02)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_reset(self) -> None:
        """All connections of the pair are reset at both ends, and counted; others are not affected."""
        caller, callee = self.through()
        unknown_client, other = self.call("127.0.0.9"), self.accept()
        self.assertEqual(self.execute("RESET", f"{CALLEE}>{CALLER}"), "1")
        self.assertEqual((caller.wire.closed, callee.wire.closed), ("reset", "reset"))
        self.assertEqual((unknown_client.wire.closed, other.wire.closed), ("", ""))

    def listeners(self) -> list[tuple[int, str]]:
        """Return port and address of each listener."""
        return [(server[0], server[3]) for server in self.reactor.tcpServers]

    def probe(self, accepted: bool) -> None:
        """Answer the last attempt to connect to a process whose port was closed."""
        factory = self.reactor.tcpClients[-1][2]
        if accepted:
            self.assertIsNone(factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", PORT)))
        else:
            factory.clientConnectionFailed(cast(IConnector, None), Failure(ConnectionLost()))

    def test_closed_port(self) -> None:
        """New connections are refused, those before it continue, until the last of the faults ends."""
        caller, callee = self.through()
        self.execute("CLOSE", "one", CALLEE)
        self.execute("CLOSE", "two", CALLEE)
        self.assertEqual((caller.wire.closed, callee.wire.closed), ("", ""))
        self.reactor.advance(0)
        self.assertEqual(self.listeners(), [])
        self.execute("LIFT", "one")
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.execute("HEAL")
        self.probe(accepted=True)
        self.assertEqual(self.listeners(), [(PORT, CALLEE)])
        self.through()

    def test_port_of_a_dead_process(self) -> None:
        """The port is opened again once the process accepts connections."""
        self.execute("CLOSE", "f", CALLEE)
        self.reactor.advance(0)
        self.execute("LIFT", "f")
        for attempts in (1, 2, 3):
            self.assertEqual(len(self.reactor.tcpClients), attempts)
            self.probe(accepted=False)
            self.assertEqual(self.listeners(), [])
            self.reactor.advance(PROBE_SECONDS)
        self.probe(accepted=True)
        self.assertEqual(self.listeners(), [(PORT, CALLEE)])

    def test_port_that_is_closed_again(self) -> None:
        """A port that is closed again before it was opened stays closed, and is opened at the end."""
        for seconds in (None, PROBE_SECONDS):
            self.execute("CLOSE", "f", CALLEE)
            self.reactor.advance(0)
            self.execute("LIFT", "f")
            self.execute("CLOSE", "g", CALLEE)
            self.probe(accepted=seconds is None)
            self.reactor.advance(seconds or 0)
            self.assertEqual(self.listeners(), [])
            self.execute("LIFT", "g")
            self.probe(accepted=True)
            self.assertEqual(self.listeners(), [(PORT, CALLEE)])

    def test_port_that_is_opened_at_once(self) -> None:
        """A port is opened again only when its socket was closed."""
        self.execute("CLOSE", "f", CALLEE)
        self.execute("LIFT", "f")
        self.reactor.advance(0)
        self.probe(accepted=True)
        self.assertEqual(self.listeners(), [(PORT, CALLEE)])

    def test_disconnected_host(self) -> None:
        """All connections to a host are reset, from any host, and counted."""
        caller, callee = self.through()
        other, other_end = self.call("127.0.0.9"), self.accept()
        self.assertEqual(self.execute("DISCONNECT", CALLER), "0")
        self.assertEqual(self.execute("DISCONNECT", CALLEE), "2")
        sides = (caller, callee, other, other_end)
        self.assertEqual([side.wire.closed for side in sides], ["reset"] * 4)

    def test_refused_connections(self) -> None:
        """Connections of the caller are reset, new ones before the callee sees them; other callers are not affected."""
        caller, callee = self.through()
        other, other_end = self.call("127.0.0.9"), self.accept()
        self.execute("REFUSE", "f", f"{CALLER}>{CALLEE}")
        self.assertEqual((caller.wire.closed, callee.wire.closed), ("reset", "reset"))
        self.assertEqual((other.wire.closed, other_end.wire.closed), ("", ""))
        connections = len(self.reactor.tcpClients)
        self.assertEqual(self.call().wire.closed, "reset")
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.tcpClients), connections)
        self.execute("LIFT", "f")
        caller, _ = self.through()
        self.assertEqual(caller.wire.closed, "")

    def test_rejected_requests(self) -> None:
        """Open connections are reset; each request of new ones is answered with the error, without the callee."""
        caller, callee = self.through()
        self.execute("REJECT", "f", "NOAUTH no", f"{CALLER}>{CALLEE}")
        self.assertEqual((caller.wire.closed, callee.wire.closed), ("reset", "reset"))
        connections = len(self.reactor.tcpClients)
        caller = self.call()
        self.reactor.advance(0)
        self.assertFalse(caller.wire.paused)
        caller.side.dataReceived(b"PING\r\n*1\r\n$4\r\nIN")
        caller.side.dataReceived(b"FO\r\n")
        self.assertEqual(caller.wire.written, b"-NOAUTH no\r\n" * 2)
        self.assertEqual(len(self.reactor.tcpClients), connections)

    def test_end_of_a_rejection(self) -> None:
        """A rejected connection continues to the callee; it is reset if a part of a request was discarded."""
        self.execute("REJECT", "f", "NOAUTH no", f"{CALLER}>{CALLEE}")
        whole, part = self.call(), self.call()
        self.reactor.advance(0)
        whole.side.dataReceived(b"PING\r\n")
        part.side.dataReceived(b"PI")
        self.execute("LIFT", "f")
        self.assertEqual((whole.wire.closed, part.wire.closed), ("", "reset"))
        callee = self.accept()
        whole.side.dataReceived(b"PING\r\n")
        callee.side.dataReceived(b"+PONG\r\n")
        self.assertEqual(callee.wire.written, b"PING\r\n")
        self.assertEqual(whole.wire.written, b"-NOAUTH no\r\n+PONG\r\n")

    def test_rejection_during_a_cut(self) -> None:
        """Nothing is answered while the route is cut."""
        self.execute("REJECT", "f", "NOAUTH no", f"{CALLER}>{CALLEE}")
        early = self.call()
        self.reactor.advance(0)
        self.execute("CUT", "g", f"{CALLEE}>{CALLER}")
        late = self.call()
        self.reactor.advance(1)
        self.assertTrue(early.wire.paused and late.wire.paused)
        self.execute("LIFT", "g")
        self.reactor.advance(0)
        self.assertFalse(early.wire.paused or late.wire.paused)

    def test_too_many_clients(self) -> None:
        """The error is sent at once, and the connection closed."""
        self.execute("REJECT", "f", TOO_MANY_CLIENTS, f"{CALLER}>{CALLEE}")
        caller = self.call()
        self.reactor.advance(0)
        self.assertEqual(
            (caller.wire.written, caller.wire.closed), (b"-ERR max number of clients reached\r\n", "in order")
        )

    def test_closed_connections_are_forgotten(self) -> None:
        """No connection and no timer remains after both ends were lost."""
        caller, callee = self.through()
        self.execute("SLOW", "f", "9", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(b"1")
        self.assertEqual(self.execute("COUNT"), "1")
        caller.lose(ConnectionDone())
        callee.lose(ConnectionDone())
        self.assertEqual(self.execute("COUNT"), "0")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_caller_disconnects(self) -> None:
        """A caller that disconnects before the callee accepted leaves nothing behind."""
        caller = self.call()
        self.reactor.advance(0)
        caller.lose(ConnectionDone())
        callee = self.accept()
        self.assertEqual(callee.wire.closed, "reset")
        callee.lose(ConnectionLost())
        self.assertEqual(self.execute("COUNT"), "0")

    def test_flow_control(self) -> None:
        """An end that accepts no more data pauses the other one; a cut that ends meanwhile does not change that."""
        caller, callee = self.through()
        producer = callee.wire.producer
        assert producer is not None
        producer.pauseProducing()
        self.assertTrue(caller.wire.paused)
        self.execute("CUT", "f", f"{CALLER}>{CALLEE}")
        self.execute("LIFT", "f")
        self.assertTrue(caller.wire.paused)
        producer.resumeProducing()
        self.assertFalse(caller.wire.paused)

    def test_limit_of_data_in_flight(self) -> None:
        """No more is read while too much data is in flight."""
        caller, callee = self.through()
        self.execute("SLOW", "f", "1", f"{CALLER}>{CALLEE}")
        caller.side.dataReceived(bytes(MAX_BYTES_IN_FLIGHT + 1))
        self.assertTrue(caller.wire.paused)
        self.reactor.advance(1)
        self.assertFalse(caller.wire.paused)
        self.assertEqual(len(callee.wire.written), MAX_BYTES_IN_FLIGHT + 1)

    def test_invalid_commands(self) -> None:
        """Invalid commands and routes are refused."""
        for words in (
            ["CUT"],
            ["CUT", "f", "here"],
            ["SLOW", "f", "soon", "a>b"],
            ["COUNT", "me"],
            ["BLOW"],
            ["CLOSE", "f", "x"],
        ):
            self.assertRaises(ValueError, self.network.handle, words)


class RouteTests(SynchronousTestCase):
    """Combination of impairments."""

    def test_combined_impairments(self) -> None:
        """A route is as slow as the slowest impairment, cut if one cuts it, and others are open."""
        routes = Routes()
        routes.impose("a", [("x", "y")], Condition(delay=0.2))
        routes.impose("b", [("x", "y")], Condition(delay=0.1))
        self.assertEqual(routes.condition("x", "y"), Condition(delay=0.2))
        self.assertEqual(routes.round_trip_delay("y", "x"), 0.2)
        routes.impose("c", [("x", "y")], Condition(cut=True))
        self.assertTrue(routes.condition("x", "y").cut)
        self.assertFalse(routes.open_both("y", "x"))
        self.assertEqual(routes.condition("y", "x"), OPEN)

    def test_notation(self) -> None:
        """Each route is written with its direction."""
        self.assertEqual(parse_routes("a>b c>d"), [("a", "b"), ("c", "d")])
