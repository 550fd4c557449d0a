"""The simulated network under Twisted's real factories: connecting, closing, and all failures."""

from __future__ import annotations

from ipaddress import ip_address
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import IConnector, IConsumer, IListeningPort, IPushProducer, ITransport
from twisted.internet.protocol import ClientFactory, Protocol, ReconnectingClientFactory, ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape
from txsentinel.sim.host import SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.simulation import Simulation
from txsentinel.sim.tcp import HIGH_WATER, WINDOW, SimTransport


class Recorder(Protocol):
    """Records its events."""

    transport: SimTransport

    def __init__(self) -> None:
        self.received = b""
        self.chunks: list[bytes] = []
        self.made = False
        self.lost: type[BaseException] | None = None

    def connectionMade(self) -> None:
        """Connected."""
        self.made = True

    def dataReceived(self, data: bytes) -> None:
        """Record the data."""
        self.received += data
        self.chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record the end."""
        assert self.lost is None
        self.lost = reason.type


class Echo(Recorder):
    """Sends its input back."""

    def dataReceived(self, data: bytes) -> None:
        """Record and return the data."""
        super().dataReceived(data)
        self.transport.write(data)


class Server(ServerFactory):
    """Keeps its protocols."""

    noisy = False

    def __init__(self, protocol: type[Recorder] = Recorder) -> None:
        self._make = protocol
        self.accepted: list[Recorder] = []

    def buildProtocol(self, addr: object) -> Recorder:
        """Keep the protocol of another client."""
        self.accepted.append(self._make())
        return self.accepted[-1]


class Client(ClientFactory):
    """Records its protocol and how it ended."""

    noisy = False

    def __init__(self) -> None:
        self.client = Recorder()
        self.failed: type[BaseException] | None = None
        self.ended: type[BaseException] | None = None
        self.stops = 0

    def buildProtocol(self, addr: object) -> Recorder:
        """Return the only protocol."""
        return self.client

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Record the failure."""
        self.failed = reason.type

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Record the loss."""
        self.ended = reason.type

    def stopFactory(self) -> None:
        """Record the call."""
        self.stops += 1


class NetworkCase(SynchronousTestCase):
    """Two hosts."""

    def setUp(self) -> None:
        self.simulation = Simulation(3)
        self.network = SimNetwork(self.simulation, latency=1.0, jitter=0.5)
        self.alpha = SimHost(self.simulation, self.network, "alpha", "10.0.0.1")
        self.beta = SimHost(self.simulation, self.network, "beta", "10.0.0.2")
        for host in (self.alpha, self.beta):
            host.start()

    def listen(self, protocol: type[Recorder] = Recorder) -> Server:
        """Let ``beta`` listen on port 7."""
        server = Server(protocol)
        self.beta.reactor.listenTCP(7, server)
        return server

    def connect(self, host: str = "10.0.0.2", port: int = 7, timeout: float = 30, run: float = 1.0) -> Client:
        """Connect ``alpha``."""
        factory = Client()
        self.connector = self.alpha.reactor.connectTCP(host, port, factory, timeout)
        self.simulation.run(run)
        return factory


class ConnectionTests(NetworkCase):
    """Established connections."""

    def test_interfaces(self) -> None:
        """Transports, ports and connectors implement their interfaces."""
        self.listen()
        client = self.connect()
        for interface in (ITransport, IConsumer, IPushProducer):
            verifyObject(interface, client.client.transport)
        verifyObject(IConnector, self.connector)
        verifyObject(IListeningPort, self.beta.reactor.listenTCP(8, Server()))

    def test_both_ends_are_connected(self) -> None:
        """Both protocols are connected and know each other's address."""
        server = self.listen()
        client = self.connect()
        near, far = client.client.transport, server.accepted[0].transport
        self.assertEqual(near.getPeer(), IPv4Address("TCP", "10.0.0.2", 7))
        self.assertEqual(near.getHost(), far.getPeer())
        self.assertEqual(far.getHost(), near.getPeer())
        self.assertEqual(near.getHost().host, "10.0.0.1")

    def test_handshake_takes_a_round_trip(self) -> None:
        """The client is connected after two latencies, not before."""
        self.listen()
        client = self.connect(run=0.0019)
        self.assertFalse(client.client.made)
        self.simulation.run(0.0012)
        self.assertTrue(client.client.made)

    def test_one_turn_is_one_segment(self) -> None:
        """Writes of one turn arrive together, those of two turns arrive separately and in order."""
        server = self.listen()
        client = self.connect()
        client.client.transport.write(b"a")
        client.client.transport.writeSequence([b"b", b"c"])
        self.alpha.reactor.callLater(0.00001, client.client.transport.write, b"d")
        self.simulation.run(1)
        self.assertEqual(server.accepted[0].chunks, [b"abc", b"d"])

    def test_order_is_kept(self) -> None:
        """However latency varies, bytes arrive in the order in which they were written."""
        self.network.slow(self.alpha, self.beta, latency=1, jitter=50)
        server = self.listen()
        client = self.connect()
        for number in range(200):
            self.alpha.reactor.callLater(number / 1000, client.client.transport.write, b"%d," % number)
        self.simulation.run(2)
        self.assertEqual(server.accepted[0].received, b"".join(b"%d," % number for number in range(200)))

    def test_only_bytes(self) -> None:
        """Text is refused."""
        self.listen()
        self.assertRaises(TypeError, self.connect().client.transport.write, "text")

    def test_loopback(self) -> None:
        """A process reaches its own machine by 127.0.0.1, much faster, and with that source address."""
        server = self.listen()
        factory = Client()
        self.beta.reactor.connectTCP("127.0.0.1", 7, factory)
        self.simulation.run(0.0002)
        self.assertTrue(factory.client.made)
        self.assertEqual(server.accepted[0].transport.getPeer().host, "127.0.0.1")

    def test_names_are_resolved(self) -> None:
        """A connection to a name goes to its address; an unknown name fails as a lookup."""
        self.listen()
        self.alpha.names["beta.example"] = "10.0.0.2"
        self.assertTrue(self.connect("beta.example").client.made)
        self.assertIs(self.connect("gamma.example").failed, DNSLookupError)

    def test_tcp_options(self) -> None:
        """Socket options are recorded."""
        self.listen()
        transport = self.connect().client.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        self.assertEqual((transport.getTcpNoDelay(), transport.getTcpKeepAlive()), (True, True))


class ClosingTests(NetworkCase):
    """Ends of connections."""

    def test_lose_connection(self) -> None:
        """Data written before closing arrives, then both ends get an orderly end."""
        server = self.listen()
        client = self.connect()
        client.client.transport.write(b"last")
        client.client.transport.loseConnection()
        self.assertTrue(client.client.transport.disconnecting)
        self.simulation.run(1)
        self.assertEqual(server.accepted[0].received, b"last")
        self.assertEqual((client.client.lost, client.ended, server.accepted[0].lost), (ConnectionDone,) * 3)
        self.assertEqual(client.stops, 1)

    def test_abort(self) -> None:
        """An abort drops the data of its turn, and the other side gets a reset."""
        server = self.listen()
        client = self.connect()
        client.client.transport.write(b"never")
        client.client.transport.abortConnection()
        self.simulation.run(1)
        self.assertEqual(server.accepted[0].received, b"")
        self.assertEqual((client.client.lost, server.accepted[0].lost), (ConnectionAborted, ConnectionLost))

    def test_writing_after_the_end(self) -> None:
        """Writing to, closing or aborting a connection that has ended has no effect."""
        self.listen()
        client = self.connect()
        transport = client.client.transport
        transport.loseConnection()
        self.simulation.run(1)
        transport.write(b"x")
        transport.loseConnection()
        transport.abortConnection()
        self.simulation.run(1)
        self.assertIs(client.client.lost, ConnectionDone)

    def test_protocol_that_raises(self) -> None:
        """A protocol that raises loses its connection with that reason; the other side gets a reset."""

        class Broken(Recorder):
            def dataReceived(self, data: bytes) -> None:
                raise KeyError("broken")

        server = self.listen(Broken)
        client = self.connect()
        client.client.transport.write(b"x")
        self.simulation.run(1)
        self.assertEqual((server.accepted[0].lost, client.client.lost), (KeyError, ConnectionLost))
        self.assertEqual([failure.place for failure in self.simulation.failures], ["beta"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_port_closed(self) -> None:
        """A port that stopped listening refuses new connections and keeps old ones; its number is free again."""
        server = Server()
        port = self.beta.reactor.listenTCP(7, server)
        client = self.connect()
        closed = port.stopListening()
        assert closed is not None
        self.successResultOf_later(closed)
        self.assertIs(self.connect().failed, ConnectionRefusedError)
        self.assertIsNone(client.client.lost)
        self.listen()

    def successResultOf_later(self, deferred: Deferred[None]) -> None:
        """Return the result of a Deferred that fires in a later turn."""
        self.simulation.run(0.01)
        self.successResultOf(deferred)

    def test_no_protocol(self) -> None:
        """A server factory that returns no protocol closes the connection."""

        class NoProtocol(ServerFactory):
            noisy = False

            def buildProtocol(self, addr: object) -> None:
                return None

        self.beta.reactor.listenTCP(7, NoProtocol())
        self.assertIs(self.connect().client.lost, ConnectionDone)


class RefusalTests(NetworkCase):
    """Connections that are not established."""

    def test_refused(self) -> None:
        """A port without listener refuses after a round trip."""
        client = self.connect(run=0.0019)
        self.assertIsNone(client.failed)
        self.simulation.run(0.0012)
        self.assertIs(client.failed, ConnectionRefusedError)
        self.assertEqual(client.stops, 1)

    def test_black_hole(self) -> None:
        """A cut path drops packets, and the connector fails after its timeout."""
        self.listen()
        self.network.cut(self.alpha, self.beta)
        client = self.connect(timeout=5, run=4.9)
        self.assertIsNone(client.failed)
        self.simulation.run(0.2)
        self.assertIs(client.failed, TimeoutError)

    def test_one_way_cut(self) -> None:
        """A path that is cut in the direction of the reply drops packets, too."""
        self.listen()
        self.network.cut(self.beta, self.alpha, both=False)
        self.assertIs(self.connect(timeout=5, run=6).failed, TimeoutError)

    def test_repeated_syn_finds_a_healed_path(self) -> None:
        """An attempt that began in a partition succeeds at the first repetition after it."""
        self.listen()
        self.network.cut(self.alpha, self.beta)
        client = self.connect(run=2)
        self.network.heal(self.alpha, self.beta)
        self.simulation.run(2)
        self.assertTrue(client.client.made)

    def test_stop_connecting(self) -> None:
        """An attempt that is cancelled fails at once and never reaches the server."""
        server = self.listen()
        client = self.connect(run=0.0001)
        self.connector.stopConnecting()
        self.simulation.run(1)
        self.assertIs(client.failed, UserError)
        self.assertEqual(server.accepted, [])

    def test_address_in_use(self) -> None:
        """Two listeners on one address collide; on different interfaces they do not."""
        self.beta.reactor.listenTCP(7, Server(), interface="127.0.0.1")
        self.beta.reactor.listenTCP(7, Server(), interface="10.0.0.2")
        self.assertRaises(CannotListenError, self.beta.reactor.listenTCP, 7, Server(), interface="127.0.0.1")
        self.assertRaises(CannotListenError, self.beta.reactor.listenTCP, 7, Server())
        self.assertRaises(CannotListenError, self.beta.reactor.listenTCP, 8, Server(), interface="10.9.9.9")

    def test_interface(self) -> None:
        """A listener on the loopback interface refuses other hosts."""
        self.beta.reactor.listenTCP(7, Server(), interface="127.0.0.1")
        self.assertIs(self.connect().failed, ConnectionRefusedError)

    def test_port_zero(self) -> None:
        """Port 0 selects a free port, and reports it."""
        ports = [cast(IPv4Address, self.beta.reactor.listenTCP(0, Server()).getHost()) for _ in range(2)]
        self.assertEqual(len({address.port for address in ports} - {0}), 2)


class FaultTests(NetworkCase):
    """Faults of the network."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.listen(Echo)
        self.client = self.connect().client
        self.far = self.server.accepted[0]

    def test_cut_delays(self) -> None:
        """Bytes written in a partition arrive after it, all of them, in order."""
        self.network.cut(self.alpha, self.beta)
        for number in range(5):
            self.alpha.reactor.callLater(number, self.client.transport.write, b"%d" % number)
        self.simulation.run(30)
        self.assertEqual(self.far.received, b"")
        self.network.heal()
        self.simulation.run(5)
        self.assertEqual((self.far.received, self.client.received), (b"01234", b"01234"))
        self.assertIsNone(self.client.lost)

    def test_one_way_cut(self) -> None:
        """With one direction cut, requests arrive and replies wait."""
        self.network.cut(self.beta, self.alpha, both=False)
        self.client.transport.write(b"?")
        self.simulation.run(10)
        self.assertEqual((self.far.received, self.client.received), (b"?", b""))

    def test_isolate(self) -> None:
        """An isolated machine reaches only itself, until it is healed."""
        self.network.isolate(self.beta)
        self.assertFalse(self.network.reachable(self.alpha, self.beta))
        inner = Client()
        self.beta.reactor.connectTCP("127.0.0.1", 7, inner)
        self.client.transport.write(b"?")
        self.simulation.run(10)
        self.assertEqual((self.far.received, inner.client.made), (b"", True))
        self.network.heal(self.beta)
        self.simulation.run(10)
        self.assertEqual(self.client.received, b"?")

    def test_isolated_from_new_paths(self) -> None:
        """A path first used after the isolation is blocked as well."""
        self.network.isolate(self.beta)
        gamma = SimHost(self.simulation, self.network, "gamma", "10.0.0.3")
        self.assertFalse(self.network.reachable(gamma, self.beta))

    def test_partition(self) -> None:
        """Hosts of different groups cannot reach each other, hosts of one group can."""
        self.network.partition([self.alpha, "10.0.0.3"], [self.beta])
        self.assertFalse(self.network.reachable(self.alpha, self.beta))
        self.assertFalse(self.network.reachable("10.0.0.3", self.beta))
        self.assertTrue(self.network.reachable(self.alpha, "10.0.0.3"))

    def test_heal_of_a_cut_leaves_isolation(self) -> None:
        """Healing two machines does not reconnect an isolated one."""
        self.network.isolate(self.beta)
        self.network.heal(self.alpha, self.beta)
        self.assertFalse(self.network.reachable(self.alpha, self.beta))

    def test_kernel_gives_up(self) -> None:
        """A quarter of an hour without an acknowledgement ends the sender's connection."""
        self.network.cut(self.alpha, self.beta)
        self.client.transport.write(b"?")
        self.simulation.run(900)
        self.assertIsNone(self.client.lost)
        self.simulation.run(60)
        self.assertIs(self.client.lost, ConnectionLost)
        self.assertIsNone(self.far.lost)

    def test_reset(self) -> None:
        """A reset ends the connection at both ends."""
        self.assertEqual(self.network.reset(self.beta, self.alpha), 1)
        self.simulation.run(0.1)
        self.assertEqual((self.client.lost, self.far.lost), (ConnectionLost, ConnectionLost))

    def test_half_open(self) -> None:
        """One end is lost and the other sends without effect, until it connects again."""
        self.assertEqual(self.network.half_open(self.alpha, self.beta), 1)
        self.client.transport.write(b"?")
        self.simulation.run(100)
        self.assertEqual((self.far.lost, self.client.lost, self.client.received), (ConnectionLost, None, b""))
        self.assertTrue(self.connect().client.made)

    def test_slow_and_healed(self) -> None:
        """A slow path delays data until it is healed."""
        self.network.slow(self.alpha, self.beta, latency=400)
        self.client.transport.write(b"?")
        self.simulation.run(0.79)
        self.assertEqual((self.far.received, self.client.received), (b"?", b""))
        self.simulation.run(0.02)
        self.assertEqual(self.client.received, b"?")
        self.network.clear_degradation()
        self.client.transport.write(b"!")
        self.simulation.run(0.01)
        self.assertEqual(self.client.received, b"?!")

    def test_loss_costs_time(self) -> None:
        """A lost segment arrives 200 ms later; none is missing."""
        self.network.lose(self.alpha, self.beta, 1.0)
        self.client.transport.write(b"?")
        self.simulation.run(0.3)
        self.assertEqual((self.far.received, self.client.received), (b"?", b""))
        self.simulation.run(0.3)
        self.assertEqual(self.client.received, b"?")


class FlowControlTests(NetworkCase):
    """Readers that do not read and writers that do not stop."""

    def setUp(self) -> None:
        super().setUp()
        server = self.listen()
        self.client = self.connect().client
        self.far = server.accepted[0]

    def test_paused_reader(self) -> None:
        """A paused reader gets nothing, and everything once it resumes."""
        self.far.transport.pauseProducing()
        self.client.transport.write(b"x" * 1000)
        self.simulation.run(1)
        self.assertEqual(self.far.received, b"")
        self.far.transport.resumeProducing()
        self.simulation.run(1)
        self.assertEqual(len(self.far.received), 1000)

    def test_window(self) -> None:
        """Data beyond the kernel buffers stays with the writer, and is sent as the reader reads."""
        self.far.transport.pauseProducing()
        self.client.transport.write(b"x" * (3 * WINDOW))
        self.simulation.run(1)
        self.assertEqual(self.client.transport.unsent, 2 * WINDOW)
        self.far.transport.resumeProducing()
        self.simulation.run(1)
        self.assertEqual((self.client.transport.unsent, len(self.far.received)), (0, 3 * WINDOW))

    def test_close_waits_for_the_backlog(self) -> None:
        """A connection that is closed with unsent data stays until all of it was sent."""
        self.far.transport.pauseProducing()
        self.client.transport.write(b"x" * (2 * WINDOW))
        self.client.transport.loseConnection()
        self.simulation.run(1)
        self.assertIsNone(self.client.lost)
        self.far.transport.resumeProducing()
        self.simulation.run(1)
        self.assertEqual((self.client.lost, len(self.far.received)), (ConnectionDone, 2 * WINDOW))

    def test_producer(self) -> None:
        """A streaming producer is paused above the high-water mark and resumed when all is sent."""
        verdicts: list[str] = []

        @implementer(IPushProducer)
        class Producer:
            def pauseProducing(self) -> None:
                verdicts.append("pause")

            def resumeProducing(self) -> None:
                verdicts.append("resume")

            def stopProducing(self) -> None:
                verdicts.append("stop")

        self.client.transport.registerProducer(Producer(), True)
        self.assertRaises(RuntimeError, self.client.transport.registerProducer, Producer(), True)
        self.far.transport.pauseProducing()
        self.client.transport.write(b"x" * (WINDOW + HIGH_WATER + 1))
        self.assertEqual(verdicts, ["pause"])
        self.far.transport.resumeProducing()
        self.simulation.run(1)
        self.assertEqual(verdicts, ["pause", "resume"])
        self.network.reset(self.alpha, self.beta)
        self.simulation.run(1)
        self.assertEqual(verdicts, ["pause", "resume", "stop"])


class ReconnectingTests(NetworkCase):
    """Twisted's own reconnecting factory, unmodified."""

    def test_reconnects(self) -> None:
        """It connects repeatedly: refused, accepted, lost to a restart, accepted."""

        class Persistent(ReconnectingClientFactory):
            noisy, jitter, factor = False, 0.0, 1.0
            initialDelay = delay = maxDelay = 1
            built: list[Recorder] = []

            def buildProtocol(self, addr: object) -> Recorder:
                self.built.append(Recorder())
                return self.built[-1]

        factory = Persistent()
        # Twisted declares the clock as its global reactor; it calls only ``callLater``.
        setattr(factory, "clock", self.alpha.reactor)  # noqa: B010
        self.alpha.reactor.connectTCP("10.0.0.2", 7, factory, 2)
        self.simulation.run(3)
        self.assertEqual(len(factory.built), 0)
        self.beta.program = lambda host: host.reactor.listenTCP(7, Server())
        self.beta.restart()
        self.simulation.run(2)
        self.assertEqual(len(factory.built), 1)
        self.beta.restart()
        self.simulation.run(2)
        self.assertEqual([protocol.lost for protocol in factory.built], [ConnectionDone, None])


class ManyGroupsTests(SynchronousTestCase):
    """Fleets with more groups than an octet of an address has values."""

    def test_addresses(self) -> None:
        """Every host has an IPv4 address of its own."""
        fleet = Fleet(1, Shape(masters=600, replicas=1))
        addresses = [server.host.ip for server in fleet.servers] + [each.host.ip for each in fleet.sentinels]
        self.assertEqual(len(set(map(ip_address, addresses))), 1203)
