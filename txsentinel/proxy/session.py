"""One connection of a client, and the connection to a server that its bytes are passed on to."""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

import contextlib
import socket
from enum import Enum
from typing import Any, Final
from typing import Protocol as Interface

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsentinel.client import FollowError, MasterAddress
from txsentinel.client.links import Reactor
from txsentinel.model.proxy_header import BadProxyHeader, SocketAddress, decode, encoded

MAX_EARLY_BYTES: Final = 64 * 1024
"""Bytes of a client that are kept until there is a server; then nothing more is read from it."""

RETRY_DELAY: Final = 0.1
"""Seconds between two attempts to reach a server for one client."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds for a client to take what was already received for it; then its connection is aborted."""

HEADER_TIMEOUT: Final = 5.0
"""Seconds for the header of the PROXY protocol to arrive."""

KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds until the first probe and between probes, and probes without an answer until a connection has failed."""

log = Logger(namespace=__name__)


class CloseReason(Enum):
    """Why a connection of a client was closed; the value is the label in metrics."""

    CLIENT = "client"
    SERVER = "server"
    SWITCH = "switch"
    PROMOTION = "promotion"
    HOLD_EXPIRED = "hold_expired"
    HOLD_FULL = "hold_full"
    LIMIT = "limit"
    HEADER = "header"
    SHUTDOWN = "shutdown"


@implementer(IHalfCloseableProtocol)
class Side(Protocol):
    """One of the two connections. Its received bytes are written to the other one, which pauses it when it is full."""

    transport: Any
    """A transport of a stream socket, which Twisted has no one interface for: it writes, reads and ends halves."""

    other: Side | None = None
    read_closed = False
    lost = False
    bytes_received = 0

    def connectionMade(self) -> None:
        """Set the options of the socket."""
        set_socket_options(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Pass bytes on."""
        self.bytes_received += len(data)
        if self.other is not None:
            self.other.transport.write(data)

    def readConnectionLost(self) -> None:
        """Pass on that no more bytes follow, after those that are still to be written."""
        if self.read_closed:
            return
        self.read_closed = True
        if self.other is not None:
            self.end_other()

    def writeConnectionLost(self) -> None:
        """Do nothing: this side has itself ended its output."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record the end."""
        self.lost = True

    def end_other(self) -> None:
        """Close the output of the other side, or both sides if both have ended."""
        assert self.other is not None
        self.other.transport.unregisterProducer()
        if self.other.read_closed:
            self.other.transport.loseConnection()
            self.transport.loseConnection()
        else:
            self.other.transport.loseWriteConnection()


class ServerSide(Side):
    """The connection to a server. Nothing is read from it until it has a client."""

    def __init__(self, address: MasterAddress, made: Deferred[ServerSide]) -> None:
        self.address = address
        self.session: ProxySession | None = None
        self._made: Deferred[ServerSide] | None = made

    def connectionMade(self) -> None:
        """Pause, and report the connection."""
        super().connectionMade()
        self.transport.pauseProducing()
        made, self._made = self._made, None
        if made is not None:
            made.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the session."""
        super().connectionLost(reason)
        if self.session is not None:
            self.session.server_lost()


class ClientSide(Side):
    """The connection of a client. Its first bytes are kept until there is a server."""

    def __init__(self, session: ProxySession) -> None:
        self.session = session
        self.early = b""
        self.paused = False

    def connectionMade(self) -> None:
        """Start the session."""
        super().connectionMade()
        self.session.client_connected()

    def dataReceived(self, data: bytes) -> None:
        """Pass bytes on, or keep them."""
        super().dataReceived(data)
        if self.other is None:
            self.early += data
            self.session.early_bytes_received()
            if len(self.early) >= MAX_EARLY_BYTES and not self.paused and not self.session.closing:
                self.paused = True
                self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """Close a connection that has sent nothing yet; otherwise pass the end on."""
        super().readConnectionLost()
        if self.other is None and not self.early:
            self.session.close(CloseReason.CLIENT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the session."""
        super().connectionLost(reason)
        self.session.client_lost()


class ServerRoute(Interface):
    """Chooses and reaches the server for a session."""

    @property
    def label(self) -> str:
        """The name of the port in metrics."""

    @property
    def available(self) -> bool:
        """Whether there is a server to try."""

    def open(self, session: ProxySession) -> Deferred[ServerSide]:
        """
        Connect to a server and confirm its role. Sets ``session.trying`` and ``session.uses_master``.

        :returns: fires with the connection; fails with ``FollowError`` or an error of the connection.
        """


class SessionOwner(Interface):
    """What a session needs of the proxy."""

    reactor: Reactor
    hold: float
    accept_proxy: bool
    send_proxy: bool

    def session_started(self, session: ProxySession) -> bool:
        """Record a session; ``False`` if there are too many."""

    def may_hold(self, session: ProxySession) -> bool:
        """Whether the session may wait for a server."""

    def session_opened(self, session: ProxySession) -> None:
        """Record that the session has a server."""

    def attempt_failed(self, problem: str) -> None:
        """Record that a server could not be used."""

    def session_ended(self, session: ProxySession, reason: CloseReason) -> None:
        """Record the end of a session."""


class ProxySession:
    """
    A client and its server, from the accepted connection until both are closed.

    :param source: the address of the client, and ``destination`` that of the port; the header of the PROXY protocol
        replaces them.
    """

    def __init__(
        self,
        owner: SessionOwner,
        route: ServerRoute,
        source: SocketAddress | None,
        destination: SocketAddress | None,
    ) -> None:
        self.source = source
        self.destination = destination
        self.route = route
        self.client = ClientSide(self)
        self.server: ServerSide | None = None
        self.trying: MasterAddress | None = None
        """The address of the present attempt."""

        self.uses_master = False
        """Whether the server was chosen because it is the master."""

        self.closing = False
        self._owner = owner
        self._reason = CloseReason.CLIENT
        self._needs_header = owner.accept_proxy
        self._attempt: Deferred[ServerSide] | None = None
        self._retry: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._ended = False

    # The client, until there is a server.

    def client_connected(self) -> None:
        """Begin, unless there are too many sessions."""
        if not self._owner.session_started(self):
            self.close(CloseReason.LIMIT)
        elif self._needs_header:
            self._deadline = self._owner.reactor.callLater(HEADER_TIMEOUT, self._expire, CloseReason.HEADER)
        else:
            self._begin()

    def early_bytes_received(self) -> None:
        """Read the header of the PROXY protocol, if there is to be one."""
        if not self._needs_header or self.closing:
            return
        try:
            found = decode(self.client.early)
        except BadProxyHeader as problem:
            log.warn("closing the connection of {source}: {problem}", source=str(self.source), problem=str(problem))
            self.close(CloseReason.HEADER)
            return
        if found is None:
            return
        self._needs_header = False
        header, self.client.early = found
        if header.source is not None:
            self.source, self.destination = header.source, header.destination
        self._cancel_timers()
        self._begin()

    def _begin(self) -> None:
        self._deadline = self._owner.reactor.callLater(self._owner.hold, self._expire, CloseReason.HOLD_EXPIRED)
        self._try()

    def _expire(self, reason: CloseReason) -> None:
        self._deadline = None
        self.close(reason)

    # Attempts to reach a server.

    def _try(self) -> None:
        self._retry = None
        if not self.route.available and not self._owner.may_hold(self):
            self.close(CloseReason.HOLD_FULL)
            return
        attempt = self._attempt = self.route.open(self)
        attempt.addCallbacks(self._opened, self._not_opened)
        attempt.addErrback(self._defect)

    def reopen(self) -> None:
        """Give up the present attempt, and begin another one."""
        if self._attempt is not None:
            self._attempt.cancel()

    def _not_opened(self, failure: Failure) -> None:
        self._attempt = self.trying = None
        if self.closing:
            return
        if failure.check(CancelledError):
            self._try()
            return
        failure.trap(FollowError, ConnectError, ConnectionClosed)
        self._owner.attempt_failed(failure.getErrorMessage())
        if self._owner.may_hold(self):
            self._retry = self._owner.reactor.callLater(RETRY_DELAY, self._try)
        else:
            self.close(CloseReason.HOLD_FULL)

    def _opened(self, server: ServerSide) -> None:
        self._attempt = None
        self._cancel_timers()
        client = self.client
        self.server = server
        server.session = self
        client.other, server.other = server, client
        if self._owner.send_proxy:
            server.transport.write(encoded(self.source, self.destination))
        server.transport.write(client.early)
        client.early = b""
        self._owner.session_opened(self)
        client.transport.registerProducer(server.transport, True)
        server.transport.resumeProducing()
        if client.read_closed:
            client.end_other()
        else:
            server.transport.registerProducer(client.transport, True)
            if client.paused:
                client.transport.resumeProducing()

    def _defect(self, failure: Failure) -> None:
        log.failure("closing a connection after an unexpected error", failure)
        self.close(CloseReason.SERVER)

    # The end.

    def drain(self) -> None:
        """Read nothing more from the client; what the server still sends is passed on."""
        if self.server is not None and not self.closing:
            self.server.transport.unregisterProducer()
            self.client.transport.pauseProducing()

    def close(self, reason: CloseReason) -> None:
        """
        Close both sides.

        The server is aborted, so that it does not execute what has not been read yet. The client first gets what was
        received for it.
        """
        if self.closing:
            return
        self.closing, self._reason = True, reason
        self._cancel_timers()
        if self._attempt is not None:
            self._attempt.cancel()
        if self.server is not None and not self.server.lost:
            self.server.transport.abortConnection()
        self._close_client()

    def server_lost(self) -> None:
        """Close the client after what the server has sent."""
        if not self.closing:
            self.closing = True
            self._reason = CloseReason.CLIENT if self.client.read_closed else CloseReason.SERVER
            self._close_client()
        self._end()

    def client_lost(self) -> None:
        """Close the server after what the client has sent."""
        self._cancel_timers()
        self.closing = True
        if self._attempt is not None:
            self._attempt.cancel()
        if self.server is not None and not self.server.lost:
            self.server.transport.unregisterProducer()
            self.server.transport.loseConnection()
            self._deadline = self._owner.reactor.callLater(CLOSE_TIMEOUT, self._abort, self.server)
        self._end()

    def _close_client(self) -> None:
        if not self.client.lost:
            self.client.transport.unregisterProducer()
            self.client.transport.loseConnection()
            if self._deadline is None:
                self._deadline = self._owner.reactor.callLater(CLOSE_TIMEOUT, self._abort, self.client)

    def _abort(self, side: Side) -> None:
        self._deadline = None
        if not side.lost:
            side.transport.abortConnection()

    def _end(self) -> None:
        if self.client.lost and (self.server is None or self.server.lost):
            self._cancel_timers()
            if not self._ended:
                self._ended = True
                self._owner.session_ended(self, self._reason)

    def _cancel_timers(self) -> None:
        for timer in (self._deadline, self._retry):
            if timer is not None and timer.active():
                timer.cancel()
        self._deadline = self._retry = None


def set_socket_options(transport: Any) -> None:
    """Send without delay, and detect peers that have disappeared."""
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    handle = getattr(transport, "socket", None)
    if isinstance(handle, socket.socket):
        for name, value in KEEPALIVE.items():
            with contextlib.suppress(OSError, AttributeError):
                handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
