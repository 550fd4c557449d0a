"""
Protocols between TLS and the protocols of clients and links: they supervise the handshake and log why it fails.

The server registers a client when its connection is accepted, so that clients that never finish their handshake count,
too. A link gets its connection only after the handshake, because it cannot send anything before.
"""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias, cast

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectionClosed, SSLError, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from txsentinel.model.events import Level
from txsentinel.model.log_throttle import DistinctLineThrottle
from txsentinel.tls.contexts import explain
from txsentinel.tls.throttle import HandshakeThrottle

Note: TypeAlias = Callable[[Level, str], None]

Verification: TypeAlias = Callable[[SSL.Connection], None]
"""Raises :class:`WrongPeer` if the certificate of an established connection is for another host."""

TIMEOUT: Final = 10.0
"""The handshake timeout of clients, in seconds."""

MAX_LOG_LINES: Final = 20
"""Maximum number of failed client handshakes that are logged per minute."""

TOO_SLOW: Final = "the handshake took too long"
NO_ANSWER: Final = "; perhaps that port does not use TLS"
"""Added to :data:`TOO_SLOW` for a server: without TLS, Redis takes the handshake for an unfinished command line."""

CLOSED: Final = "the connection was closed during the handshake"


class WrongPeer(Exception):
    """The certificate is valid, but not for the host of the link; the text names the host."""


class HandshakeFailed(SSLError):
    """The handshake of a link failed; the text has the reason."""

    def __str__(self) -> str:
        """Return the text alone, without the description of the base class."""
        return str(self.args[0])


class HandshakeTimedOut(TimeoutError):
    """The handshake of a link did not finish in time: the other side may be stopped, or unreachable."""

    def __str__(self) -> str:
        """Return the text alone, without the description of the base class."""
        return str(self.args[0])


class TlsTransport(TLSMemoryBIOProtocol):
    """
    A TLS connection with a throttled handshake, unbuffered writes, and a close that does not wait for the other side.

    The protocols above already collect the output of one turn, so it is not buffered here again. After the own
    close_notify, later input is of no interest, and waiting for the close_notify of the other side would
    let that side keep the connection open.
    """

    def __init__(self, throttle: HandshakeThrottle, factory: TLSMemoryBIOFactory, inner: IProtocol) -> None:
        TLSMemoryBIOProtocol.__init__(self, factory, inner)
        self._handshake_done = False
        self._throttle = throttle

    def finish_handshake(self) -> None:
        """Record that the handshake has finished, so that later input is not throttled."""
        self._handshake_done = True

    def serve(self, inner: Any) -> None:
        """Pass later input directly to ``inner``, without the protocol that supervised the handshake."""
        self.wrappedProtocol = inner

    def dataReceived(self, data: bytes) -> None:
        """Continue the handshake now or in a later turn; after it, pass data to the protocol at once."""
        if self._handshake_done:
            TLSMemoryBIOProtocol.dataReceived(self, data)
        elif self._throttle.try_acquire():
            self._throttle.execute(partial(TLSMemoryBIOProtocol.dataReceived, self, data))
        else:
            wire: Any = self.transport
            wire.pauseProducing()
            self._throttle.queue(partial(self._continue, data))

    def loseConnection(self) -> None:
        """Close when all output is sent."""
        TLSMemoryBIOProtocol.loseConnection(self)
        wire: Any = self.transport
        wire.loseConnection()

    def _continue(self, data: bytes) -> None:
        if self.connected and not self.disconnecting:
            wire: Any = self.transport
            wire.resumeProducing()
            TLSMemoryBIOProtocol.dataReceived(self, data)


@implementer(IHandshakeListener)
class Handshake(Protocol):
    """
    Supervises the handshake, then passes everything to ``self.inner``.

    :param timeout: the handshake timeout in seconds.
    """

    inner: Protocol | None = None

    def __init__(self, clock: IReactorTime, timeout: float) -> None:
        self._clock = clock
        self._timeout_seconds = timeout
        self._timeout: IDelayedCall | None = None
        self.problem: str | None = None
        """Why the handshake failed; ``None`` if it did not."""

    @property
    def wire(self) -> Any:
        """The TLS connection, a :class:`TlsTransport`."""
        return self.transport

    def connectionMade(self) -> None:
        """Start the timeout."""
        self._timeout = self._clock.callLater(self._timeout_seconds, self._timed_out)

    def handshakeCompleted(self) -> None:
        """Cancel the timeout: the handshake has finished, and the certificate is verified."""
        self.wire.finish_handshake()
        self._stop_waiting()

    def dataReceived(self, data: bytes) -> None:
        """Pass data to ``inner``. There is none before the handshake has finished."""
        if self.inner is not None:
            self.inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Process a failed handshake, or the loss of the connection of ``inner``."""
        self._stop_waiting()
        if self.inner is not None:
            self.inner.connectionLost(reason)

    def fail(self, problem: str) -> None:
        """Abort the connection."""
        self.problem = problem
        self.wire.abortConnection()

    def _timed_out(self) -> None:
        self._timeout = None
        self.fail(TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


class ServerHandshake(Handshake):
    """
    The handshake with a client, whose protocol exists from the beginning.

    After the handshake the TLS connection calls that protocol directly.
    """

    def __init__(self, clock: IReactorTime, inner: Protocol, note: Note) -> None:
        super().__init__(clock, TIMEOUT)
        self.inner = inner
        self._note = note
        self._addresses = ""

    def connectionMade(self) -> None:
        """Start the timeout, and let the server accept or reject the client."""
        super().connectionMade()
        # After the loss of the connection the addresses cannot be read.
        self._addresses = f"addr={_endpoint(self.wire.getPeer())} laddr={_endpoint(self.wire.getHost())}"
        assert self.inner is not None
        self.inner.makeConnection(self.wire)

    def handshakeCompleted(self) -> None:
        """Connect the TLS connection directly to the client's protocol."""
        super().handshakeCompleted()
        # Untyped, as mypy assumes that no Protocol can provide another interface.
        inner: Any = self.inner
        self.wire.serve(inner)
        if IHandshakeListener.providedBy(inner):
            inner.handshakeCompleted()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Log why the handshake failed, unless this side closed the connection."""
        level = Level.WARNING
        if self.problem is None and not self.wire.disconnecting:
            self.problem = problem_of(reason)
            if self.problem is None:
                self.problem, level = CLOSED, Level.VERBOSE  # as port checks do
        if self.problem is not None:
            self._note(level, f"Error accepting a client connection: {self.problem} ({self._addresses})")
        super().connectionLost(reason)


class LinkHandshake(Handshake):
    """The handshake with a server or a peer; ``inner`` is made after it."""

    def __init__(self, client_factory: HandshakeClientFactory, address: IAddress | None) -> None:
        super().__init__(client_factory.clock, client_factory.timeout)
        self._client_factory = client_factory
        self._address = address

    def handshakeCompleted(self) -> None:
        """Check the names in the certificate if configured, and make ``inner``."""
        super().handshakeCompleted()
        try:
            self._client_factory.verify(self.wire.getHandle())
        except WrongPeer as wrong:
            self.fail(str(wrong))
            return
        self.inner = self._client_factory.established(self._address)
        if self.inner is None:
            self.wire.abortConnection()
        else:
            self.inner.makeConnection(self.wire)

    def dataReceived(self, data: bytes) -> None:
        """Pass data on. Its arrival shows that the other side accepts the own certificate or needs none."""
        self._client_factory.log_problem(None)
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Log the failure. TLS can also fail after the handshake, if the other side refuses the own certificate."""
        if self.problem is None and not self.wire.disconnecting:
            self.problem = problem_of(reason)
            if self.problem is None and self.inner is None:
                self.problem = CLOSED
        if self.problem is not None:
            self._client_factory.log_problem(self.problem)
        super().connectionLost(reason)


class HandshakeServerFactory(ServerFactory):
    """Supervises the handshakes of the clients of another factory."""

    noisy = False

    def __init__(self, clock: IReactorTime, inner: IProtocolFactory, note: Note) -> None:
        self._clock = clock
        self._inner = inner
        self._note = note
        self._lines = DistinctLineThrottle(MAX_LOG_LINES)

    def logPrefix(self) -> str:
        """Return the name of the port in the log, that of the inner factory."""
        return type(self._inner).__name__

    def buildProtocol(self, addr: IAddress | None) -> ServerHandshake:
        """Return the handshake of a new client."""
        inner: Any = self._inner.buildProtocol(cast(IAddress, addr))
        return ServerHandshake(self._clock, inner, self._log)

    def _log(self, level: Level, text: str) -> None:
        """Log a line about a client, rate-limited because every connection without TLS causes one."""
        if level is not Level.WARNING or self._lines.allow(text, int(self._clock.seconds() * 1000)):
            self._note(level, text)

    def doStart(self) -> None:
        """Start the inner factory."""
        self._inner.doStart()

    def doStop(self) -> None:
        """Stop the inner factory."""
        self._inner.doStop()


class HandshakeClientFactory(ClientFactory):
    """
    Supervises the handshakes of one link. Its inner factory sees a failed one as a failed attempt to connect.

    A problem is logged when it begins and when it changes, not at each attempt.

    :param timeout: the handshake timeout in seconds.
    :param name: returns the name of the other side, for the log.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        inner: ClientFactory,
        verify: Verification,
        timeout: float,
        name: Callable[[], str],
        note: Note,
    ) -> None:
        self.clock = clock
        self.verify = verify
        self.timeout = timeout
        self._inner = inner
        self._name = name
        self._note = note
        self._handshake: LinkHandshake | None = None
        self._problem: str | None = None
        self._closed_before = False

    def buildProtocol(self, addr: IAddress | None) -> LinkHandshake:
        """Return the handshake of a new connection."""
        self._handshake = LinkHandshake(self, addr)
        return self._handshake

    def established(self, addr: IAddress | None) -> Protocol | None:
        """Return the inner protocol after the handshake; ``None`` if the link was closed meanwhile."""
        return cast("Protocol | None", self._inner.buildProtocol(addr))

    def log_problem(self, problem: str | None) -> None:
        """
        Log a problem that is new; ``None`` means that there is none any more.

        A server that is stopping also closes connections, so a close is logged only the second time in a row.
        """
        first = problem == CLOSED and not self._closed_before
        self._closed_before = problem == CLOSED
        if first:
            return
        if problem is not None and problem != self._problem:
            hint = NO_ANSWER if problem == TOO_SLOW else ""
            self._note(Level.WARNING, f"No TLS connection to {self._name()}: {problem}{hint}")
        self._problem = problem

    def doStart(self) -> None:
        """Start the inner factory."""
        self._inner.doStart()

    def doStop(self) -> None:
        """Stop the inner factory."""
        self._inner.doStop()

    def startedConnecting(self, connector: IConnector) -> None:
        """Notify the inner factory of an attempt."""
        self._inner.startedConnecting(connector)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Notify the inner factory of a failed attempt."""
        self._closed_before = False
        self._inner.clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Notify the inner factory: of a loss after the handshake, of a failed attempt before."""
        handshake, self._handshake = self._handshake, None
        inner: Any = self._inner
        if handshake is not None and handshake.problem is not None:
            late = handshake.problem == TOO_SLOW
            failed: type[ConnectError] = HandshakeTimedOut if late else HandshakeFailed
            reason = Failure(failed(string=handshake.problem))
        if handshake is not None and handshake.inner is not None:
            inner.clientConnectionLost(connector, reason)
        else:
            inner.clientConnectionFailed(connector, reason)


def problem_of(reason: Failure) -> str | None:
    """Return the TLS problem; ``None`` if the connection was only closed."""
    error = reason.value
    if isinstance(error, SSL.Error):
        return explain(error)
    return None if isinstance(error, ConnectionClosed) else reason.getErrorMessage()


def _endpoint(address: Any) -> str:
    host, port = getattr(address, "host", "?"), getattr(address, "port", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
