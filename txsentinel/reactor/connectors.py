"""
Lightweight transports for outgoing connections, of which there are thousands.

A Sentinel with a thousand masters has four thousand connections and sends short commands on each of them every second.
The features of a general transport (producers, half-closed connections, names for the log) cost more than the commands.
This transport sends at once what the socket buffer accepts, and keeps the rest. For everything else, such as TLS,
Twisted's own transports are used.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from errno import EALREADY, ECONNRESET, EINPROGRESS, EISCONN, EPIPE, EWOULDBLOCK
from os import strerror
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.base import BaseConnector
from twisted.internet.error import ConnectionAborted, ConnectionLost, TimeoutError, getConnectError
from twisted.internet.interfaces import IAddress, IProtocol, ITCPTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.model.timings import Millis
from txsentinel.reactor.multiplexer import TIME_SLICE_SECONDS, EpollMultiplexer, supported
from txsentinel.reactor.read_coalescing import CoalescingReactor

READ_SIZE: Final = 16_384
"""Maximum number of bytes that are read at a time; an INFO fits."""

SERVERS_TIME_SLICE_SECONDS: Final = 0.040
"""
Time slice in seconds for reading from servers.

In a mass failure thousands of servers send data. With a quarter of this, and six processes on two cores, some servers
waited for seconds, and so did the progress of their failovers.
"""

_BY_PEER: Final = frozenset((0, None, ECONNRESET, EPIPE))
"""Error numbers of a connection that the other side closed or reset."""


def _lost(number: int | None) -> ConnectionLost:
    """Return the exception of a lost connection; its ``osError`` is set if the other side did not close or reset it."""
    if number in _BY_PEER or number is None:
        return CONNECTION_LOST
    why = ConnectionLost(strerror(number))
    why.osError = number  # type: ignore[attr-defined]
    return why


_UNDER_WAY: Final = frozenset((EINPROGRESS, EALREADY, EWOULDBLOCK))
_RESET: Final = struct.pack("ii", 1, 0)


class Horizon:
    """
    Tracks the time until which all input of the outgoing connections has been read.

    :param reactor: may have a method ``received_until`` of its own, which returns seconds, as simulated ones do.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._multiplexers: list[EpollMultiplexer] = []

    def add(self, multiplexer: EpollMultiplexer) -> None:
        """Include the connections of a multiplexer."""
        self._multiplexers.append(multiplexer)

    def received_until(self, now: Millis) -> Millis:
        """
        Return the time until which all input has been read.

        :param now: the present time, by the clock of the reactor; the result is on the same clock.
        """
        seconds = now / 1000
        own: Callable[[], float] | None = getattr(self._reactor, "received_until", None)
        earliest = seconds if own is None else own()
        for multiplexer in self._multiplexers:
            earliest = min(earliest, multiplexer.received_until(seconds))
        return now if earliest >= seconds else int(earliest * 1000)


def connector(
    reactor: Any,
    plain: bool,
    name: str,
    time_slice_seconds: float = TIME_SLICE_SECONDS,
    horizon: Horizon | None = None,
) -> Callable[..., object]:
    """
    Return a function that connects, with the signature of ``connectTCP``; it uses a multiplexer if one is supported.

    :param plain: whether the connections never use TLS.
    :param name: the name of the other side in the reactor's log.
    :param time_slice_seconds: see :class:`EpollMultiplexer`.
    :param horizon: gets the multiplexer, so that it includes these connections.
    """
    if not supported(reactor):
        connect: Callable[..., object] = reactor.connectTCP
        return connect
    multiplexer = EpollMultiplexer(CoalescingReactor(reactor), name, time_slice_seconds)
    if horizon is not None:
        horizon.add(multiplexer)
    return multiplexer.connectTCP if not plain else Connector(multiplexer).connectTCP


class Connector:
    """Connects to servers, and adds the connections to a multiplexer."""

    def __init__(self, multiplexer: EpollMultiplexer) -> None:
        self._multiplexer = multiplexer

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> LinkConnector:
        """
        Connect; the same as the method of reactors.

        :param host: an IP address; names are not resolved.
        """
        connector = LinkConnector(self._multiplexer, host, port, factory, timeout, bindAddress)
        connector.connect()
        return connector


class LinkConnector(BaseConnector):
    """The connector of a factory, with :class:`LinkTransport` as its transport."""

    def __init__(
        self,
        multiplexer: EpollMultiplexer,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float,
        source: tuple[str, int] | None,
    ) -> None:
        super().__init__(factory, timeout, multiplexer)  # type: ignore[arg-type]
        self.multiplexer = multiplexer
        self.host = host
        self.port = port
        self.source = source

    def _makeTransport(self) -> Any:
        return LinkTransport(self)

    def getDestination(self) -> IAddress:
        """Return the remote address."""
        return _address(self.host, self.port)


class LinkTransport:
    """One attempt to connect and, after its success, the connection."""

    __slots__ = (
        "_aborted",
        "_connecting",
        "_connector",
        "_descriptor",
        "_half_closed",
        "_protocol",
        "_socket",
        "_unsent",
        "disconnecting",
    )

    def __init__(self, connector: LinkConnector) -> None:
        self.disconnecting = False
        self._aborted = False
        self._connecting = True
        self._connector = connector
        self._descriptor = -1
        self._protocol: IProtocol | None = None
        self._half_closed = False
        self._socket: socket.socket | None = None
        self._unsent = b""
        try:
            family = socket.AF_INET6 if ":" in connector.host else socket.AF_INET
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            if connector.source is not None:
                self._socket.bind(connector.source)
        except OSError as error:
            connector.multiplexer.callLater(0, self.failIfNotConnected, getConnectError(error))
        else:
            self._descriptor = self._socket.fileno()
            connector.multiplexer.addWriter(self)

    # The attempt.

    def failIfNotConnected(self, error: BaseException) -> None:
        """
        Abort the attempt, unless it has succeeded or failed already.

        The timeout may fire before the socket was polled, so an attempt that timed out checks its socket first.
        """
        if isinstance(error, TimeoutError) and self._connecting and self._socket is not None:
            self._attempt()
        if self._connecting:
            self._connecting = False
            self._close()
            self._connector.connectionFailed(Failure(error))

    def _attempt(self) -> None:
        assert self._socket is not None
        connector = self._connector
        result = self._socket.connect_ex((connector.host, connector.port))
        if result in _UNDER_WAY:
            return
        if result and result != EISCONN:
            self.failIfNotConnected(getConnectError((result, strerror(result))))
            return
        self._connecting = False
        connector.multiplexer.removeWriter(self)
        protocol = connector.buildProtocol(self.getPeer())
        if protocol is None:
            # The factory does not want the connection any more.
            protocol = Protocol()
            self.loseConnection()
        else:
            connector.multiplexer.addReader(self)
        self._protocol = protocol
        protocol.makeConnection(self)

    # ``Channel``, for the multiplexer.

    def fileno(self) -> int:
        """Return the descriptor, −1 after it is closed."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Return the name in the log."""
        return "link"

    def doRead(self) -> BaseException | None:
        """Pass input to the protocol."""
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            return _lost(error.errno)
        if not data:
            return CONNECTION_DONE
        assert self._protocol is not None
        self._protocol.dataReceived(data)
        return None

    def doWrite(self) -> BaseException | None:
        """Continue connecting, or send the output that the socket buffer did not accept before."""
        if self._connecting:
            self._attempt()
            return None
        if self._unsent:
            assert self._socket is not None
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return None
            except OSError as error:
                return _lost(error.errno)
            self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._connector.multiplexer.removeWriter(self)
            if self.disconnecting:
                return CONNECTION_DONE
            if self._half_closed:
                self.loseWriteConnection()
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        """Close: a link is of no use after the end of its input."""
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        """Close, and notify the protocol and the connector once."""
        if self._connecting:
            assert self._socket is not None
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            why = getConnectError((number, strerror(number))) if number else ConnectionLost()
            self.failIfNotConnected(why)
            return
        if self._descriptor < 0:
            return
        if isinstance(reason.value, ConnectionLost) and self._socket is not None:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number not in _BY_PEER:
                reason = Failure(_lost(number))
        self._close()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)
        self._connector.connectionLost(reason)

    def _close(self) -> None:
        multiplexer, closing = self._connector.multiplexer, self._socket
        if self._descriptor >= 0:
            multiplexer.removeWriter(self)
            multiplexer.removeReader(self)
        self._descriptor, self._socket, self._unsent = -1, None, b""
        if closing is not None:
            if self._aborted:
                closing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            closing.close()

    # ``ITCPTransport``, for the protocol.

    def write(self, data: bytes) -> None:
        """Send now if possible, otherwise when the socket is writable."""
        if self._socket is None or self._connecting or self._half_closed:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except OSError:
            # The multiplexer gets the same error again and closes the connection.
            sent = 0
        if sent < len(data):
            self._unsent = data[sent:]
            self._connector.multiplexer.addWriter(self)

    def writeSequence(self, data: Any) -> None:
        """Send all pieces with one call of the system."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when all output is sent; read no more input."""
        if self._descriptor >= 0 and not self.disconnecting:
            self.disconnecting = True
            self._connector.multiplexer.removeReader(self)
            self._connector.multiplexer.addWriter(self)

    def abortConnection(self) -> None:
        """Close in the next turn, with a reset."""
        if self._descriptor >= 0 and not self._aborted:
            self.disconnecting = self._aborted = True
            multiplexer = self._connector.multiplexer
            multiplexer.removeReader(self)
            multiplexer.removeWriter(self)
            multiplexer.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        """Close the write side when all output is sent, and continue to read."""
        self._half_closed = True
        if self._socket is not None and not self._connecting and not self._unsent:
            self._socket.shutdown(socket.SHUT_WR)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the local address."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return _address(host, port)

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the remote address."""
        return _address(self._connector.host, self._connector.port)

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
        assert self._socket is not None
        self._socket.setsockopt(level, option, int(enabled))

    def _get(self, level: int, option: int) -> bool:
        assert self._socket is not None
        return bool(self._socket.getsockopt(level, option))


classImplements(LinkTransport, ITCPTransport)


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)
