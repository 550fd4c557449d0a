"""
Tests of the transport of clients and of the acceptance of connections.

Every test of the multiplexer with a transport of Twisted is repeated with this transport: there is no difference.
"""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.reactor import test_multiplexer
from tests.reactor.test_multiplexer import Echo, Reactor
from txsentinel.reactor.client_transport import (
    PRODUCER_LIMIT,
    ClientTransport,
    PortAcceptor,
    accept_within,
    client_multiplexer,
)
from txsentinel.server.admission import set_inherited_options

PEER = IPv4Address("TCP", "127.0.0.1", 1)


class ClientTransportTestCase(test_multiplexer.MultiplexerTestCase):
    """The base of the tests: connections with the transport of clients."""

    def setUp(self) -> None:
        """Build a multiplexer for them."""
        super().setUp()
        self.multiplexer = client_multiplexer(self.reactor)
        self.addCleanup(self.multiplexer.connectionLost, Failure(ConnectionDone()))

    def join(self) -> tuple[Echo, socket.socket]:
        """Add a connection; return its protocol and the socket of its client."""
        near, far = socket.socketpair()
        far.setblocking(False)
        self.addCleanup(far.close)
        protocol = Echo()
        protocol.makeConnection(ClientTransport(self.multiplexer, near, PEER, protocol))
        return protocol, far


class ClientServingTests(ClientTransportTestCase, test_multiplexer.ServingTests):
    """Input and output."""

    def test_streaming_producer(self) -> None:
        """A streaming producer is paused while much is unsent, resumed when all is sent, and stopped at the end."""
        calls: list[str] = []

        @implementer(IPushProducer)
        class Producer:
            def pauseProducing(self) -> None:
                """Note it."""
                calls.append("pause")

            def resumeProducing(self) -> None:
                """Note it."""
                calls.append("resume")

            def stopProducing(self) -> None:
                """Note it."""
                calls.append("stop")

        protocol, client = self.join()
        protocol.connection.registerProducer(Producer(), True)
        self.assertRaises(RuntimeError, protocol.connection.registerProducer, Producer(), True)
        protocol.connection.write(b"x" * PRODUCER_LIMIT)
        self.assertEqual(calls, [])
        whole = b"y" * (1 << 21)
        protocol.connection.write(whole)
        self.assertEqual(calls, ["pause"])
        left = PRODUCER_LIMIT + len(whole)
        while left:
            self.turn()
            left -= len(client.recv(1 << 20))
        self.turn()
        self.assertEqual(calls, ["pause", "resume"])
        protocol.connection.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(calls[2:], ["stop"])
        protocol.connection.write(b"ignored")

    def test_closing_waits_for_the_producer(self) -> None:
        """A connection whose producer was paused is closed after what the producer writes when it is resumed."""
        protocol, client = self.join()

        @implementer(IPushProducer)
        class Producer:
            def pauseProducing(self) -> None:
                """Wait."""

            def resumeProducing(self) -> None:
                """Write the end."""
                protocol.connection.write(b"end")
                protocol.connection.unregisterProducer()

            def stopProducing(self) -> None:
                """Not here."""

        protocol.connection.registerProducer(Producer(), True)
        protocol.connection.write(b"x" * (1 << 21))
        protocol.connection.loseConnection()
        received = b""
        while len(received) < (1 << 21) + 3:
            self.turn()
            received += client.recv(1 << 20)
        self.turn()
        self.assertEqual((received[-4:], protocol.lost), (b"xend", [ConnectionDone]))

    def test_half_close(self) -> None:
        """The write side is closed after its output; input is still read."""
        protocol, client = self.join()
        protocol.connection.write(b"all")
        protocol.connection.loseWriteConnection()
        self.turn()
        self.assertEqual((client.recv(99), client.recv(99)), (b"all", b""))
        protocol.poll_nested = lambda data: None
        client.send(b"more")
        self.turn()
        self.assertEqual((protocol.received, protocol.lost), ([b"more"], []))
        protocol.connection.loseConnection()
        self.reactor.advance(0)
        self.assertEqual(protocol.lost, [ConnectionDone])

    def test_interfaces(self) -> None:
        """It has what its interfaces demand, and remembers the addresses."""
        protocol, _ = self.join()
        transport: Any = protocol.transport
        for interface in (ITCPTransport, IConsumer, IPushProducer):
            verifyObject(interface, transport)
        self.assertEqual(transport.getPeer().port, 1)
        transport.stopConsuming()
        self.turn()
        self.assertEqual(protocol.lost, [ConnectionDone])


class ClientEndTests(ClientTransportTestCase, test_multiplexer.EndTests):
    """The end of connections."""

    def test_abort_of_a_slow_reader(self) -> None:
        """Aborting sends what the socket buffer accepts, then the end of the stream instead of a reset."""
        protocol, client = self.join()
        protocol.connection.write(b"x" * (1 << 23))
        protocol.connection.abortConnection()
        self.assertEqual(protocol.lost, [])
        self.turn()
        self.assertEqual(len(protocol.lost), 1)
        received = 0
        while data := client.recv(1 << 20):
            received += len(data)
        self.assertGreater(received, 0)

    def test_abort(self) -> None:
        """Aborting sends the output that the socket buffer accepts."""
        protocol, client = self.join()
        protocol.connection.write(b"last words")
        protocol.connection.abortConnection()
        protocol.connection.write(b"ignored")
        self.turn()
        self.assertEqual((client.recv(99), client.recv(99), len(protocol.lost)), (b"last words", b"", 1))

    def test_descriptor_of_a_closed_connection(self) -> None:
        """A connection that gets the descriptor of one closed in the same turn is served."""
        (first, near), (second, far) = self.join(), self.join()
        joined: list[Echo] = []
        clients: list[socket.socket] = []

        def replace(data: bytes) -> None:
            other = second if first.received else first
            number = other.connection.fileno()
            other.connection.connectionLost(Failure(ConnectionLost()))
            pair = sorted(socket.socketpair(), key=lambda each: each.fileno() != number)
            self.assertEqual(pair[0].fileno(), number)
            clients.append(pair[1])
            joined.append(Echo())
            joined[0].makeConnection(
                ClientTransport(self.multiplexer, pair[0], IPv4Address("TCP", "127.0.0.1", 2), joined[0])
            )

        first.poll_nested = second.poll_nested = replace
        near.send(b"x")
        far.send(b"x")
        self.turn()
        self.addCleanup(clients[0].close)
        clients[0].send(b"served")
        self.turn()
        self.assertEqual((clients[0].recv(99), joined[0].received), (b"served", [b"served"]))


class ClientNestedPollTests(ClientTransportTestCase, test_multiplexer.NestedPollTests):
    """Nested polls."""


class AcceptorTests(test_multiplexer.MultiplexerTestCase):
    """Tests of a port whose connections are accepted by the multiplexer."""

    def setUp(self) -> None:
        """Listen on a free port."""
        super().setUp()
        self.multiplexer = client_multiplexer(self.reactor)
        self.addCleanup(self.multiplexer.connectionLost, Failure(ConnectionDone()))
        test = self

        class Keeping(Factory[Echo]):
            noisy = False

            def buildProtocol(self, addr: object) -> Echo | None:
                """Keep the protocol; or refuse."""
                if test.refusing:
                    return None
                protocol = Echo()
                test.protocols.append(protocol)
                return protocol

        self.refusing = False
        self.port: Any = tcp.Port(0, Keeping(), interface="127.0.0.1", reactor=self.reactor)
        self.port.startListening()
        accept_within(self.multiplexer, self.port)

    def client(self) -> socket.socket:
        """Connect to the port."""
        client = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.addCleanup(client.close)
        client.setblocking(False)
        return client

    def until(self, expected: int) -> None:
        """Run turns until so many connections are accepted."""
        while len(self.protocols) < expected:
            self.turn()

    def test_served(self) -> None:
        """Connections are accepted and served; the reactor polls one descriptor for all of them."""
        clients = [self.client() for _ in range(5)]
        self.until(5)
        self.assertEqual(self.reactor.readers, [self.multiplexer])
        peers = {protocol.channel.getPeer() for protocol in self.protocols}
        self.assertEqual(len(peers), 5)
        self.assertEqual({protocol.channel.getHost() for protocol in self.protocols}, {self.port.getHost()})
        for client in clients:
            client.send(b"x")
        while any(not protocol.received for protocol in self.protocols):
            self.turn()
        self.assertEqual([client.recv(9) for client in clients], [b"x"] * 5)

    def test_inherited_options(self) -> None:
        """Connections have the options of the listening socket, as their transports know."""
        port: Any = tcp.Port(0, self.port.factory, interface="127.0.0.1", reactor=self.reactor)
        port.startListening()
        accept_within(self.multiplexer, port, partial(set_inherited_options, keepalive_seconds=90))
        for server in (port, self.port):
            client = socket.create_connection(("127.0.0.1", server.getHost().port))
            self.addCleanup(client.close)
        self.until(2)
        options = ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL))
        found = set()
        for protocol in self.protocols:
            transport: Any = protocol.transport
            enabled = transport.getTcpNoDelay(), transport.getTcpKeepAlive()
            seconds = [transport.getHandle().getsockopt(*option) for option in options]
            found.add((transport.options_inherited, *enabled, seconds == [90, 30]))
        self.assertEqual(found, {(True, True, True, True), (False, False, False, False)})

    def test_refused_by_the_factory(self) -> None:
        """A connection for which the factory returns no protocol is closed."""
        self.refusing = True
        client = self.client()
        client.setblocking(True)
        self.turn()
        self.assertEqual(client.recv(9), b"")

    def test_bug(self) -> None:
        """An exception of a new protocol closes its connection and is logged; the next one is served."""

        def fail(protocol: Protocol) -> None:
            raise ZeroDivisionError

        self.patch(Echo, "connectionMade", fail)
        client = self.client()
        client.setblocking(True)
        self.until(1)
        self.turn()
        self.assertEqual((client.recv(9), len(self.flushLoggedErrors(ZeroDivisionError))), (b"", 1))
        self.patch(Echo, "connectionMade", lambda protocol: None)
        self.client()
        self.until(2)

    def test_no_descriptors(self) -> None:
        """Without descriptors the port of Twisted accepts, because it has a spare one to close the connection."""
        calls: list[str] = []

        class Exhausted:
            def accept(self) -> None:
                """Fail."""
                raise OSError(errno.EMFILE, "Too many open files")

            def fileno(self) -> int:
                """Return none."""
                return -1

        self.patch(self.port, "socket", Exhausted())
        acceptor = PortAcceptor(self.multiplexer, self.port)
        self.patch(self.port, "doRead", lambda: calls.append("port"))
        acceptor.doRead()
        self.assertEqual(calls, ["port"])

    def test_accepted_by_the_port(self) -> None:
        """A connection that the port of Twisted accepts gets the same transport."""
        self.client()
        while not self.protocols:
            self.port.doRead()
        self.assertIsInstance(self.protocols[0].transport, ClientTransport)

    def test_closed(self) -> None:
        """A closed port accepts no more, and its connections remain."""
        client = self.client()
        self.until(1)
        self.port.stopListening()
        self.reactor.advance(0)
        self.assertRaises(OSError, socket.create_connection, client.getpeername())
        client.send(b"x")
        while not self.protocols[0].received:
            self.turn()
        self.assertEqual(client.recv(9), b"x")
        self.protocols[0].connection.loseConnection()
        self.turn()
        self.assertEqual(self.reactor.readers, [])


class OtherPortTests(SynchronousTestCase):
    """Tests of ports that are not changed."""

    def test_other_ports(self) -> None:
        """A port that is no TCP port, such as a simulated one, is not changed."""

        class Port:
            transport = "as before"

        port = Port()
        accept_within(client_multiplexer(Reactor()), port)  # type: ignore[arg-type]
        self.assertEqual(port.transport, "as before")

    def test_unix_sockets(self) -> None:
        """The port of a Unix socket is not changed, because its clients have no TCP address."""
        port = unix.Port(b"s.sock", Factory(), reactor=Reactor())
        before = port.transport
        accept_within(client_multiplexer(Reactor()), port)
        self.assertEqual(port.transport, before)
