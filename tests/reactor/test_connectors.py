"""Promises of our own connections, lean ones and Twisted's; the other end is a socket of this process."""

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


class Dialled(ClientFactory):
    """Makes one echo, and notes what became of the attempt."""

    def __init__(self) -> None:
        self.made: list[Echo] = []
        self.failed: list[type[BaseException]] = []
        self.lost: list[type[BaseException]] = []

    def buildProtocol(self, addr: object) -> Echo:
        """One more."""
        self.made.append(Echo())
        return self.made[-1]

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """Note why."""
        self.failed.append(reason.type)

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:
        """Note why."""
        self.lost.append(reason.type)


class DiallingTestCase(MultiplexerTestCase):
    """Connections that we make ourselves; whether the kernel is done with one is up to the kernel, at once here."""

    def connector(self) -> Callable[..., Any]:
        """What is called to connect."""
        return self.multiplexer.connectTCP

    def setUp(self) -> None:
        """Somebody to connect to."""
        super().setUp()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.factory = Dialled()
        self.listener.setblocking(False)
        self.addCleanup(self.listener.close)
        self.port: int = self.listener.getsockname()[1]

    def dial(self) -> socket.socket:
        """Connect; the other end."""
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        for _ in range(3):
            self.turn()
        accepted, _ = self.listener.accept()
        self.addCleanup(accepted.close)
        return accepted


class GeneralTests(DiallingTestCase):
    """Twisted's transports, as for TLS. The tests below hold for them as well."""

    def test_connected(self) -> None:
        """An established connection hears and is heard, through the one descriptor."""
        far = self.dial()
        self.assertEqual(len(self.factory.made), 1)
        far.send(b"ping")
        self.turn()
        self.assertEqual(far.recv(99), b"ping")
        self.assertEqual(self.reactor.readers, [self.multiplexer])

    def test_no_descriptor_for_the_poller(self) -> None:
        """Where all descriptors are taken, one attempt fails and leaves its own to what the others are heard with."""
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
        """An attempt that is refused is told once, and leaves nothing behind."""
        self.listener.close()
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        for _ in range(3):
            self.turn()
        self.assertEqual(self.factory.failed, [ConnectionRefusedError])
        self.assertEqual(self.multiplexer.fileno(), -1)

    def test_no_answer(self) -> None:
        """An attempt that nobody answers is given up after its time."""
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
        """A server that closes is told as the loss of the connection."""
        self.dial().close()
        self.turn()
        self.turn()
        self.assertEqual(self.factory.lost, [ConnectionDone])
        self.assertEqual(self.multiplexer.fileno(), -1)


class LeanTests(GeneralTests):
    """The transport of links."""

    def connector(self) -> Callable[..., Any]:
        """The lean one."""
        return Connector(self.multiplexer).connectTCP

    def transport(self) -> LinkTransport:
        """Of the one connection that there is."""
        transport = self.factory.made[0].transport
        assert isinstance(transport, LinkTransport)
        return transport

    def test_looked_at_before_it_is_given_up(self) -> None:
        """An attempt that succeeded while nobody looked is a connection, however late its time runs out."""
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        self.reactor.advance(0)
        self.assertEqual((self.factory.made, self.factory.failed), ([], []))
        self.reactor.advance(60)
        self.assertEqual((len(self.factory.made), self.factory.failed), (1, []))

    def test_ends(self) -> None:
        """It tells where it leads, and from where."""
        far = self.dial()
        transport = self.transport()
        self.assertEqual((transport.getPeer().host, transport.getPeer().port), ("127.0.0.1", self.port))
        self.assertEqual((transport.getHost().host, transport.getHost().port), far.getpeername())

    def test_sent_at_once(self) -> None:
        """What is said is with the kernel when it was said."""
        far = self.dial()
        self.transport().writeSequence([b"a", b"b"])
        self.assertEqual(far.recv(99), b"ab")

    def test_slow_reader(self) -> None:
        """What the kernel has no room for is sent as soon as there is, whole and in order, before the close."""
        far = self.dial()
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
        """A close is told to protocol and factory in a later turn, once."""
        far = self.dial()
        self.transport().loseConnection()
        self.transport().loseConnection()
        self.assertEqual(self.factory.lost, [])
        self.turn()
        self.turn()
        self.assertEqual((self.factory.lost, self.factory.made[0].lost), ([ConnectionDone], [ConnectionDone]))
        self.assertEqual(far.recv(1), b"")

    def test_aborted(self) -> None:
        """An abort is a reset, and is told in a later turn."""
        far = self.dial()
        self.transport().abortConnection()
        self.assertEqual(self.factory.lost, [])
        self.turn()
        self.assertEqual(self.factory.lost, [ConnectionAborted])
        self.assertRaises(ConnectionResetError, far.recv, 1)

    def test_reset(self) -> None:
        """A reset by the other side ends it; what is said afterwards is said to nobody."""
        far = self.dial()
        transport = self.transport()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        transport.write(b"too late")
        for _ in range(3):
            self.turn()
        self.assertEqual(len(self.factory.lost), 1)
        transport.write(b"nobody hears this")
        self.assertEqual(self.multiplexer.fileno(), -1)

    def test_half_closed(self) -> None:
        """After the last word the other side is still heard."""
        far = self.dial()
        self.transport().write(b"last")
        self.transport().loseWriteConnection()
        self.assertEqual((far.recv(99), far.recv(99)), (b"last", b""))
        far.send(b"answer")
        self.turn()
        self.assertEqual(self.factory.made[0].received, [b"answer"])

    def test_no_such_source(self) -> None:
        """An address that is not ours cannot be called from; that is told in a later turn."""
        self.connector()("127.0.0.1", self.port, self.factory, timeout=5, bindAddress=("192.0.2.1", 0))
        self.assertEqual(self.factory.failed, [])
        self.turn()
        self.assertEqual(len(self.factory.failed), 1)
        self.assertTrue(issubclass(self.factory.failed[0], ConnectError))

    def test_unwanted(self) -> None:
        """A connection that nobody wants any more is closed."""
        self.factory.buildProtocol = lambda addr: None  # type: ignore[method-assign,assignment,return-value]
        far = self.dial()
        self.turn()
        self.assertEqual(far.recv(1), b"")

    def test_options(self) -> None:
        """Those of TCP are handed to the kernel."""
        self.dial()
        transport = self.transport()
        for enabled in (True, False):
            transport.setTcpNoDelay(enabled)
            transport.setTcpKeepAlive(enabled)
            self.assertEqual((transport.getTcpNoDelay(), transport.getTcpKeepAlive()), (enabled, enabled))

    def test_given_up(self) -> None:
        """An attempt can be called off."""
        connector = self.connector()("127.0.0.1", self.port, self.factory, timeout=5)
        connector.stopConnecting()
        self.turn()
        self.assertEqual((len(self.factory.failed), self.factory.made), (1, []))


class ChoiceTests(MultiplexerTestCase):
    """Which connections there are where."""

    def test_without_poller(self) -> None:
        """A reactor that watches no descriptors, as the simulated one, connects by itself."""

        class Simple:
            def connectTCP(self) -> None:
                """Connect."""

        simple = Simple()
        self.assertEqual(connector(simple, True, "servers"), simple.connectTCP)
