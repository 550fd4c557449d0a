"""Tests of outgoing connections with both kinds of transport, to sockets of this process."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from tests.reactor.test_multiplexer import Echo, MultiplexerTestCase
from txsentinel.reactor.connectors import Connector, LinkTransport, connector


class RecordingFactory(ClientFactory):
    """A client factory that records the outcome of attempts."""

    def __init__(self) -> None:
        self.made: list[Echo] = []
        self.failed: list[type[BaseException]] = []
        self.lost: list[type[BaseException]] = []

    def outcomes(self) -> tuple[int, list[type[BaseException]]]:
        """Return the number of connections, and why other attempts failed."""
        return len(self.made), self.failed

    def buildProtocol(self, addr: object) -> Echo:
        """One more."""
        self.made.append(Echo())
        return self.made[-1]

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """Note why."""
        assert reason.value is not None
        self.failed.append(type(reason.value))

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:
        """Note why."""
        assert reason.value is not None
        self.lost.append(type(reason.value))


class ConnectingTestCase(MultiplexerTestCase):
    """The base of the tests of both transports."""

    def connector(self) -> Callable[..., Any]:
        """What is called to connect."""
        return self.multiplexer.connectTCP

    def setUp(self) -> None:
        """Listen on a free port."""
        super().setUp()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.factory = RecordingFactory()
        self.listener.setblocking(False)
        self.addCleanup(self.listener.close)
        self.port: int = self.listener.getsockname()[1]

    def connect(self) -> socket.socket:
        """Connect; return the other end."""
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        for _ in range(3):
            self.turn()
        accepted, _ = self.listener.accept()
        self.addCleanup(accepted.close)
        return accepted


class GeneralTests(ConnectingTestCase):
    """Twisted's transports, as for TLS. The tests below hold for them as well."""

    def test_connected(self) -> None:
        """An established connection receives and sends through the one descriptor."""
        far = self.connect()
        self.assertEqual(len(self.factory.made), 1)
        far.send(b"ping")
        self.turn()
        self.assertEqual(far.recv(99), b"ping")
        self.assertEqual(self.reactor.readers, [self.multiplexer])

    def test_no_descriptor_for_the_poller(self) -> None:
        """Without a descriptor for epoll one attempt fails, and its descriptor serves the others."""
        epoll = select.epoll
        refusals = [OSError(errno.EMFILE, "Too many open files")]

        def scarce() -> object:
            if refusals:
                raise refusals.pop()
            return epoll()

        self.patch(select, "epoll", scarce)
        connect = self.connector()
        for _ in range(3):
            connect("127.0.0.1", self.port, self.factory, timeout=5)
        for _ in range(4):
            self.turn()
        self.assertEqual(refusals, [])
        self.assertEqual((len(self.factory.made), len(self.factory.failed)), (2, 1))

    def test_refused(self) -> None:
        """A refused attempt is reported once, and leaves nothing behind."""
        self.listener.close()
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        for _ in range(3):
            self.turn()
        self.assertEqual(self.factory.failed, [ConnectionRefusedError])
        self.assertEqual(self.multiplexer.fileno(), -1)

    def test_no_answer(self) -> None:
        """An attempt without an answer fails at its timeout."""
        fillers = []
        self.listener.listen(0)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            fillers.append(filler)
            self.addCleanup(filler.close)
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        for _ in range(3):
            self.turn()
        self.assertEqual(self.factory.failed, [])
        self.reactor.advance(6)
        self.turn()
        self.assertEqual(self.factory.failed, [TimeoutError])

    def test_hung_up(self) -> None:
        """A close by the server is reported as the loss of the connection."""
        self.connect().close()
        self.turn()
        self.turn()
        self.assertEqual(self.factory.lost, [ConnectionDone])
        self.assertEqual(self.multiplexer.fileno(), -1)


class LinkTransportTests(GeneralTests):
    """The transport of links."""

    def connector(self) -> Callable[..., Any]:
        """Return the connect function of the lightweight transport."""
        return Connector(self.multiplexer).connectTCP

    def transport(self) -> LinkTransport:
        """Return the transport of the only connection."""
        transport: object = self.factory.made[0].transport
        assert isinstance(transport, LinkTransport)
        return transport

    def test_checked_before_timeout(self) -> None:
        """An attempt that succeeded before its timeout is established, even if the timeout is processed first."""
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        self.reactor.advance(0)
        self.assertEqual(self.factory.outcomes(), (0, []))
        self.reactor.advance(60)
        self.assertEqual(self.factory.outcomes(), (1, []))

    def test_ends(self) -> None:
        """The transport returns its addresses."""
        far = self.connect()
        transport = self.transport()
        self.assertEqual((transport.getPeer().host, transport.getPeer().port), ("127.0.0.1", self.port))
        self.assertEqual((transport.getHost().host, transport.getHost().port), far.getpeername())

    def test_sent_at_once(self) -> None:
        """A write passes its bytes to the kernel at once."""
        far = self.connect()
        self.transport().writeSequence([b"a", b"b"])
        self.assertEqual(far.recv(99), b"ab")

    def test_slow_reader(self) -> None:
        """Output that the socket buffer does not accept is sent later, complete and in order, before the close."""
        far = self.connect()
        whole = bytes(range(256)) * 40_000
        transport = self.transport()
        transport.write(whole[:5_000_000])
        transport.write(whole[5_000_000:])
        transport.loseConnection()
        far.setblocking(False)
        received = bytearray()
        while len(received) < len(whole):
            try:
                received += far.recv(1 << 20)
            except BlockingIOError:
                self.turn()
        self.turn()
        self.assertEqual(bytes(received), whole)
        self.assertEqual(far.recv(1), b"")
        self.assertEqual(self.factory.lost, [ConnectionDone])

    def test_closed_by_us(self) -> None:
        """A close is reported to protocol and factory in a later turn, once."""
        far = self.connect()
        self.transport().loseConnection()
        self.transport().loseConnection()
        self.assertEqual(self.factory.lost, [])
        self.turn()
        self.turn()
        self.assertEqual((self.factory.lost, self.factory.made[0].lost), ([ConnectionDone], [ConnectionDone]))
        self.assertEqual(far.recv(1), b"")

    def test_aborted(self) -> None:
        """An abort sends a reset, and is reported in a later turn."""
        far = self.connect()
        self.transport().abortConnection()
        self.assertEqual(self.factory.lost, [])
        self.turn()
        self.assertEqual(self.factory.lost, [ConnectionAborted])
        self.assertRaises(ConnectionResetError, far.recv, 1)

    def test_reset(self) -> None:
        """A reset by the other side ends the connection; later writes are dropped."""
        far = self.connect()
        transport = self.transport()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        transport.write(b"too late")
        for _ in range(3):
            self.turn()
        self.assertEqual(len(self.factory.lost), 1)
        transport.write(b"nobody poll_nested this")
        self.assertEqual(self.multiplexer.fileno(), -1)

    def test_half_closed(self) -> None:
        """After loseWriteConnection input is still received."""
        far = self.connect()
        self.transport().write(b"last")
        self.transport().loseWriteConnection()
        self.assertEqual((far.recv(99), far.recv(99)), (b"last", b""))
        far.send(b"answer")
        self.turn()
        self.assertEqual(self.factory.made[0].received, [b"answer"])

    def test_no_such_source(self) -> None:
        """A foreign local address fails the attempt in a later turn."""
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5, bindAddress=("192.0.2.1", 0))
        self.assertEqual(self.factory.failed, [])
        self.turn()
        self.assertEqual(len(self.factory.failed), 1)
        self.assertTrue(issubclass(self.factory.failed[0], ConnectError))

    def test_unwanted(self) -> None:
        """A connection that the factory does not want is closed."""
        self.factory.buildProtocol = lambda addr: None  # type: ignore[method-assign,assignment,return-value]
        far = self.connect()
        self.turn()
        self.assertEqual(far.recv(1), b"")

    def test_options(self) -> None:
        """TCP options are passed to the kernel."""
        self.connect()
        transport = self.transport()
        for enabled in (True, False):
            transport.setTcpNoDelay(enabled)
            transport.setTcpKeepAlive(enabled)
            self.assertEqual((transport.getTcpNoDelay(), transport.getTcpKeepAlive()), (enabled, enabled))

    def test_given_up(self) -> None:
        """An attempt can be cancelled."""
        connector = self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        connector.stopConnecting()
        self.turn()
        self.assertEqual((len(self.factory.failed), self.factory.made), (1, []))


class ChoiceTests(MultiplexerTestCase):
    """Tests of the choice of the transport."""

    def test_without_poller(self) -> None:
        """With a reactor that polls no descriptors, such as the simulated one, its own connectTCP is used."""

        class Simple:
            def connectTCP(self) -> None:
                """Connect."""

        simple = Simple()
        self.assertEqual(connector(simple, True, "servers"), simple.connectTCP)
