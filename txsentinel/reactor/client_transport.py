"""
The transport of client connections, and the acceptance of connections.

A transport of Twisted runs some ten generic methods for a request and its reply, and a port of Twisted makes a dozen
system calls for a connection. These two make the system calls that are needed. They serve any protocol: with TLS the
protocol is the one that encrypts.

Connections close in the same way as those of the C servers. ``abortConnection`` of Twisted makes the kernel send a
reset: the client then gets an error instead of the end of the stream, and can lose replies that it has not read yet.
Here only the output that the socket buffer does not accept is discarded; the rest is sent, followed by the end of the
stream. (The kernel still sends a reset if there is unread input, as it does for the C servers.)
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer, ISystemHandle, ITCPTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.reactor.multiplexer import EpollMultiplexer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IProtocol

READ_SIZE: Final = 64 * 1024
"""Maximum number of bytes that are read at a time."""

MAX_SEND_BYTES: Final = 128 * 1024
"""Maximum number of bytes of one system call that sends."""

PRODUCER_LIMIT: Final = 64 * 1024
"""Number of unsent bytes above which a streaming producer is paused."""

MAX_ACCEPTS: Final = 64
"""Maximum number of connections of a port that are accepted before other channels are read."""

if hasattr(socket, "MSG_DONTWAIT"):
    _DONTWAIT: Final = socket.MSG_DONTWAIT
    _SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

PROTOCOL_ERROR: Final = "Closing a connection after an unexpected error in its protocol"

_log: Final = Logger(namespace=__name__)


class ClientTransport:
    """
    The transport of one accepted connection.

    Output is sent when all ready channels of the multiplexer have been read, or in the next turn of the reactor.

    :param connection: the socket; it may be in blocking mode.
    :param options_inherited: whether the socket has inherited the options that the protocol wants.
    """

    __slots__ = (
        "_aborted",
        "_blocked",
        "_connection",
        "_descriptor",
        "_input_ended",
        "_multiplexer",
        "_offset",
        "_peer",
        "_producer",
        "_producer_paused",
        "_protocol",
        "_streaming",
        "_unsent",
        "_unsent_bytes",
        "_write_closed",
        "_write_closing",
        "disconnecting",
        "options_inherited",
    )

    def __init__(
        self,
        multiplexer: EpollMultiplexer,
        connection: socket.socket,
        peer: IPv4Address | IPv6Address,
        protocol: IProtocol,
        options_inherited: bool = False,
    ) -> None:
        self._multiplexer = multiplexer
        self._connection: socket.socket | None = connection
        self._descriptor = connection.fileno()
        self._peer = peer
        self._protocol: Any = protocol
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._offset = 0
        """Bytes of the first piece of ``_unsent`` that have been sent."""

        self._producer: Any = None
        self._producer_paused = False
        self._streaming = False
        self._aborted = False
        self._blocked = False
        """Whether the socket buffer was full at the last attempt to send."""

        self._input_ended = False
        self._write_closing = False
        self._write_closed = False
        self.disconnecting = False
        self.options_inherited = options_inherited
        multiplexer.addReader(self)

    # ``Channel``, for the multiplexer.

    def fileno(self) -> int:
        """Return the descriptor, −1 after it is closed."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Return the name in the log."""
        return "client"

    @property
    def protocol(self) -> Any:
        """The protocol; ``None`` after the connection is lost."""
        return self._protocol

    def doRead(self) -> BaseException | None:
        """Pass input to the protocol."""
        connection = self._connection
        if connection is None or self._aborted:
            return None
        try:
            data = connection.recv(READ_SIZE, _DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            self._input_ended = True
            return CONNECTION_DONE
        self._protocol.dataReceived(data)
        return None

    def doWrite(self) -> BaseException | None:
        """Send as much output as the socket buffer accepts."""
        if self._connection is None or self._aborted:
            return None
        if self._unsent:
            problem = self._send()
            if problem is not None or self._unsent:
                return problem
        self._multiplexer.removeWriter(self)
        if self._producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            return CONNECTION_DONE
        elif self._write_closing:
            self._close_write()
        return None

    def _send(self) -> BaseException | None:
        """Make one attempt to send all output; return the reason if the connection has ended."""
        assert self._connection is not None
        unsent, offset = self._unsent, self._offset
        data = unsent[0] if len(unsent) == 1 else b"".join(unsent)
        count = len(data) - offset
        try:
            if count <= MAX_SEND_BYTES and not offset:
                sent = self._connection.send(data, _SEND_FLAGS)
            else:
                sent = self._connection.send(memoryview(data)[offset : offset + MAX_SEND_BYTES], _SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError:
            return CONNECTION_LOST
        self._blocked = sent < min(count, MAX_SEND_BYTES)
        if sent < count:
            self._unsent, self._offset, self._unsent_bytes = [data], offset + sent, count - sent
        else:
            unsent.clear()
            self._offset = self._unsent_bytes = 0
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        """Notify a protocol that accepts the end of its input, otherwise close."""
        protocol = self._protocol
        if not IHalfCloseableProtocol.providedBy(protocol):
            self.connectionLost(reason)
            return
        try:
            protocol.readConnectionLost()
        except BaseException:
            _log.failure(PROTOCOL_ERROR)
            self.connectionLost(Failure())

    def connectionLost(self, reason: Failure) -> None:
        """Close, and notify the producer and the protocol once."""
        connection = self._connection
        if connection is None:
            return
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self._multiplexer.forget(self)
        self._descriptor, self._connection = -1, None
        self._unsent.clear()
        self._unsent_bytes = self._offset = 0
        if not self._input_ended:
            # A child process that has just been forked may have a copy of the descriptor.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        protocol, self._protocol = self._protocol, None
        protocol.connectionLost(reason)

    # ``ITCPTransport`` and ``IConsumer``, for the protocol.

    def write(self, data: bytes) -> None:
        """Send the bytes soon, with everything else that is written until then."""
        if self._connection is None or self._aborted or self._write_closing or not data:
            return
        unsent = self._unsent
        if not unsent:
            self._multiplexer.addWriter(self)
        unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > PRODUCER_LIMIT and not self._blocked:
            # Much output is sent at once, which spares the producer a pause.
            self._send()
        if self._unsent_bytes > PRODUCER_LIMIT:
            self._pause_producer()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all pieces."""
        self.write(b"".join(data))

    def _pause_producer(self) -> None:
        if self._producer is not None and self._streaming:
            self._producer_paused = True
            self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Set the producer that is paused while too much output is unsent.

        :raises RuntimeError: if there is a producer already.
        """
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} cannot be registered: {self._producer!r} is, and must be removed before")
        if self._connection is None:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Remove the producer."""
        self._producer = None
        if self.disconnecting and self._connection is not None:
            self._multiplexer.addWriter(self)

    def stopConsuming(self) -> None:
        """Remove the producer and close."""
        self.unregisterProducer()
        self.loseConnection()

    def pauseProducing(self) -> None:
        """Read no input until ``resumeProducing`` is called."""
        if self._connection is not None:
            self._multiplexer.removeReader(self)

    def resumeProducing(self) -> None:
        """Read input again."""
        if self._connection is not None and not self.disconnecting and not self._aborted:
            self._multiplexer.addReader(self)

    def stopProducing(self) -> None:
        """Close when all output is sent."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """Close when all output is sent; read no more input."""
        if self._connection is None or self.disconnecting:
            return
        self.disconnecting = True
        multiplexer = self._multiplexer
        multiplexer.removeReader(self)
        if self._write_closed:
            multiplexer.callLater(0, self.connectionLost, connectionDone)
        else:
            multiplexer.addWriter(self)

    def abortConnection(self) -> None:
        """Close now, without waiting for the client; output that the socket buffer does not accept is lost."""
        if self._connection is None or self._aborted:
            return
        if self._unsent:
            # With TLS close_notify was just written; without it the other side would report a truncated stream.
            self._send()
        self.disconnecting = self._aborted = True
        multiplexer = self._multiplexer
        multiplexer.removeReader(self)
        multiplexer.removeWriter(self)
        multiplexer.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        """Close the write side when all output is sent, and continue to read."""
        if self._connection is not None and not self._write_closed:
            self._write_closing = True
            self._multiplexer.addWriter(self)

    def _close_write(self) -> None:
        assert self._connection is not None
        self._write_closing, self._write_closed = False, True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        protocol = self._protocol
        if IHalfCloseableProtocol.providedBy(protocol):
            try:
                protocol.writeConnectionLost()
            except BaseException:
                _log.failure(PROTOCOL_ERROR)
                self.connectionLost(Failure())

    def getHandle(self) -> socket.socket | None:
        """Return the socket; ``None`` after it is closed."""
        return self._connection

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the local address."""
        assert self._connection is not None
        return _address(self._connection.getsockname())

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the remote address."""
        return self._peer

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Set TCP_NODELAY."""
        self._set(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpNoDelay(self) -> bool:
        """Whether TCP_NODELAY is set."""
        return self._get(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Set SO_KEEPALIVE."""
        self._set(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Whether SO_KEEPALIVE is set."""
        return self._get(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    def _set(self, level: int, option: int, enabled: bool) -> None:
        assert self._connection is not None
        self._connection.setsockopt(level, option, int(enabled))

    def _get(self, level: int, option: int) -> bool:
        assert self._connection is not None
        return bool(self._connection.getsockopt(level, option))


classImplements(ClientTransport, ITCPTransport, IConsumer, IPushProducer, ISystemHandle)


def _address(name: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    """Return the address that the kernel gives as a tuple, of two for IPv4 and of four for IPv6."""
    return IPv4Address("TCP", *name) if len(name) == 2 else IPv6Address("TCP", *name)


def client_multiplexer(reactor: Any) -> EpollMultiplexer:
    """Return a multiplexer for such transports."""
    return EpollMultiplexer(reactor, clients=True)


def accept_within(
    multiplexer: EpollMultiplexer, port: IListeningPort, set_options: Callable[[socket.socket], None] | None = None
) -> None:
    """
    Let a multiplexer accept and serve the future connections of a port. Ports other than TCP ports are not changed.

    :param multiplexer: one of :func:`client_multiplexer`.
    :param set_options: sets the options of the listening socket that connections inherit. The attribute
        ``options_inherited`` of their transports is true then.
    """
    if type(port) is not tcp.Port:  # a port of a Unix socket is a subclass with other transports
        return

    def transport(
        connection: socket.socket, protocol: Any, peer: tuple[Any, ...], port: object, number: int, reactor: object
    ) -> ClientTransport:
        """Return the transport of a connection that the port itself accepts."""
        return ClientTransport(multiplexer, connection, _address(peer), protocol)

    if set_options is not None:
        set_options(port.socket)
    port.stopReading()
    port.reactor = multiplexer  # type: ignore[assignment]
    port.transport = transport  # type: ignore[assignment]
    multiplexer.addReader(PortAcceptor(multiplexer, port, set_options is not None))


class PortAcceptor:
    """
    Accepts the connections of a port, in its place.

    How many it tries to accept at a time depends on how many there were before: most attempts beyond the first fail.
    """

    __slots__ = ("_attempts", "_listening", "_multiplexer", "_options_inherited", "_port")

    def __init__(self, multiplexer: EpollMultiplexer, port: tcp.Port, options_inherited: bool = False) -> None:
        self._options_inherited = options_inherited
        self._multiplexer = multiplexer
        self._port = port
        self._listening: socket.socket = port.socket
        self._attempts = 1

    def fileno(self) -> int:
        """Return the descriptor of the port, −1 after it is closed."""
        return self._listening.fileno()

    def logPrefix(self) -> str:
        """Return the name in the log."""
        return str(self._port.logPrefix())

    def doRead(self) -> BaseException | None:
        """Accept connections."""
        accepted = 0
        while accepted < self._attempts:
            try:
                connection, peer = self._listening.accept()
            except BlockingIOError:
                break
            except OSError:
                # There are no descriptors, for example: the port reports it, and has a spare one.
                self._port.doRead()
                return None
            accepted += 1
            try:
                self._serve(connection, peer)
            except BaseException:
                _log.failure(PROTOCOL_ERROR)
                connection.close()
        self._attempts = min(2 * accepted, MAX_ACCEPTS) if accepted == self._attempts else max(accepted, 1)
        return None

    def _serve(self, connection: socket.socket, peer: tuple[Any, ...]) -> None:
        """Give a new connection its protocol and its transport."""
        if len(peer) == 4 and peer[3]:
            # The text of a link-local address includes its interface.
            host, _ = socket.getnameinfo(peer, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            peer = (host, *peer[1:])
        factory: Any = self._port.factory
        address = _address(peer)
        protocol = factory.buildProtocol(address)
        if protocol is None:
            connection.close()
            return
        transport = ClientTransport(self._multiplexer, connection, address, protocol, self._options_inherited)
        try:
            protocol.makeConnection(transport)
        except BaseException:
            _log.failure(PROTOCOL_ERROR)
            transport.abortConnection()

    def doWrite(self) -> BaseException | None:
        """Do nothing: a port has no output."""
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        """Close the port after an error of its socket."""
        self._port.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        """Close the port."""
        self._port.connectionLost(reason)
