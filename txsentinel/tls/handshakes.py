"""
What stands between TLS and a protocol of ours: it watches the handshake, and says why there was none.

A client is known to the server from the moment it is accepted, so that those who never finish their
handshake count like any other. A link hears of its connection only when the handshake is over: what is
said before would be said to nobody.
"""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias, cast

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed
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
from txsentinel.model.log_text import DistinctLineThrottle
from txsentinel.tls.contexts import explain
from txsentinel.tls.throttle import HandshakeThrottle

Note: TypeAlias = Callable[[Level, str], None]

Verification: TypeAlias = Callable[[SSL.Connection], None]
"""Raises :class:`WrongPeer` if the other end of an established connection is somebody else."""

TIMEOUT: Final = 10.0
"""Seconds that a client may take for its handshake."""

MAX_LOG_LINES: Final = 20
"""Failed handshakes of clients that are logged in a minute."""

TOO_SLOW: Final = "the handshake took too long"
HUNG_UP: Final = "the connection was closed during the handshake"


class WrongPeer(Exception):
    """The certificate is valid, but not for whom we dialled; the text says for whom it is not."""


class HandshakeFailed(Exception):
    """Why a link has no connection."""


class TlsTransport(TLSMemoryBIOProtocol):
    """
    A TLS connection that takes turns with others at its handshake, writes at once, and is closed without waiting.

    Both sides of ours gather what they say in one turn, so there is nothing left to gather here. After
    our own farewell nothing that the other side could still say is of interest; waiting for its farewell
    would keep the connection for as long as it likes.
    """

    def __init__(self, throttle: HandshakeThrottle, factory: TLSMemoryBIOFactory, inner: IProtocol) -> None:
        TLSMemoryBIOProtocol.__init__(self, factory, inner)
        self.shaken = False
        """Is the handshake over?"""

        self._throttle = throttle

    def dataReceived(self, data: bytes) -> None:
        """Go on with the handshake, perhaps in a later turn; what comes after it is for the protocol at once."""
        if self.shaken:
            TLSMemoryBIOProtocol.dataReceived(self, data)
        elif self._throttle.try_acquire():
            self._throttle.take(partial(TLSMemoryBIOProtocol.dataReceived, self, data))
        else:
            wire: Any = self.transport
            wire.pauseProducing()
            self._throttle.queue(partial(self._go_on, data))

    def loseConnection(self) -> None:
        """Close once everything written so far has been sent."""
        TLSMemoryBIOProtocol.loseConnection(self)
        wire: Any = self.transport
        wire.loseConnection()

    def _go_on(self, data: bytes) -> None:
        if self.connected and not self.disconnecting:
            wire: Any = self.transport
            wire.resumeProducing()
            TLSMemoryBIOProtocol.dataReceived(self, data)


@implementer(IHandshakeListener)
class Handshake(Protocol):
    """
    Waits for the handshake, and then hands everything on to ``self.inner``.

    :param timeout: seconds that it may take.
    """

    inner: Protocol | None = None

    def __init__(self, clock: IReactorTime, timeout: float) -> None:
        self._clock = clock
        self._patience = timeout
        self._timeout: IDelayedCall | None = None
        self.problem: str | None = None
        """Why it failed, once it has."""

    @property
    def wire(self) -> Any:
        """The TLS connection, a :class:`TlsTransport`."""
        return self.transport

    def connectionMade(self) -> None:
        """The handshake begins."""
        self._timeout = self._clock.callLater(self._patience, self._give_up)

    def handshakeCompleted(self) -> None:
        """The handshake is over, and the other side is as trustworthy as we asked for."""
        self.wire.shaken = True
        self._stop_waiting()

    def dataReceived(self, data: bytes) -> None:
        """For ``inner``; nothing comes before the handshake."""
        if self.inner is not None:
            self.inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The handshake failed, or ``inner`` has lost its connection."""
        self._stop_waiting()
        if self.inner is not None:
            self.inner.connectionLost(reason)

    def fail(self, problem: str) -> None:
        """Give the connection up."""
        self.problem = problem
        self.wire.abortConnection()

    def _give_up(self) -> None:
        self._timeout = None
        self.fail(TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


class ServerHandshake(Handshake):
    """
    The handshake with a client, whose protocol is there from the beginning.

    Once it is over this object is out of the way.
    """

    def __init__(self, clock: IReactorTime, inner: Protocol, note: Note) -> None:
        super().__init__(clock, TIMEOUT)
        self.inner = inner
        self._note = note
        self._ends = ""

    def connectionMade(self) -> None:
        """Let the server decide whether to have this client at all."""
        super().connectionMade()
        # Afterwards there is no socket left to ask.
        self._ends = f"addr={_endpoint(self.wire.getPeer())} laddr={_endpoint(self.wire.getHost())}"
        assert self.inner is not None
        self.inner.makeConnection(self.wire)

    def handshakeCompleted(self) -> None:
        """From now on this is a client like any other."""
        super().handshakeCompleted()
        # Untyped, as mypy believes that no Protocol can provide another interface.
        inner: Any = self.inner
        self.wire.wrappedProtocol = inner
        if IHandshakeListener.providedBy(inner):
            inner.handshakeCompleted()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say why, unless it was us who did not want the client."""
        level = Level.WARNING
        if self.problem is None and not self.wire.disconnecting:
            self.problem = problem_of(reason)
            if self.problem is None:
                self.problem, level = HUNG_UP, Level.VERBOSE  # as those do who only try whether the port is open
        if self.problem is not None:
            self._note(level, f"Error accepting a client connection: {self.problem} ({self._ends})")
        super().connectionLost(reason)


class LinkHandshake(Handshake):
    """The handshake with a server or a peer; ``inner`` is made when it is over."""

    def __init__(self, client_factory: HandshakeClientFactory, address: IAddress | None) -> None:
        super().__init__(client_factory.clock, client_factory.timeout)
        self._client_factory = client_factory
        self._address = address

    def handshakeCompleted(self) -> None:
        """Check the certificate's names if that was asked for, and hand the connection over."""
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
        """The other side talks to us, so it accepts our certificate too, or wants none."""
        self._client_factory.complain(None)
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TLS may still fail after the handshake: that is when our own certificate is refused."""
        if self.problem is None and not self.wire.disconnecting:
            self.problem = problem_of(reason)
            if self.problem is None and self.inner is None:
                self.problem = HUNG_UP
        if self.problem is not None:
            self._client_factory.complain(self.problem)
        super().connectionLost(reason)


class HandshakeServerFactory(ServerFactory):
    """Watches the handshakes of the clients of another factory."""

    noisy = False

    def __init__(self, clock: IReactorTime, inner: IProtocolFactory, note: Note) -> None:
        self._clock = clock
        self._inner = inner
        self._note = note
        self._lines = DistinctLineThrottle(MAX_LOG_LINES)

    def logPrefix(self) -> str:
        """What the log calls the port: by the name of whom it is for."""
        return type(self._inner).__name__

    def buildProtocol(self, addr: IAddress | None) -> ServerHandshake:
        """For one more client."""
        inner: Any = self._inner.buildProtocol(cast(IAddress, addr))
        return ServerHandshake(self._clock, inner, self._log)

    def _log(self, level: Level, text: str) -> None:
        """Log a line about a client; there is one for each connection that is no TLS, so there may be thousands."""
        if level is not Level.WARNING or self._lines.allow(text, int(self._clock.seconds() * 1000)):
            self._note(level, text)

    def doStart(self) -> None:
        """A port opens."""
        self._inner.doStart()

    def doStop(self) -> None:
        """A port closes."""
        self._inner.doStop()


class HandshakeClientFactory(ClientFactory):
    """
    Watches the handshakes of one link, whose own factory takes a failed one for a failed attempt to connect.

    What goes wrong is noted when it begins and when it changes, not at each new attempt.

    :param timeout: seconds that a handshake may take.
    :param name: of the other end, for the log.
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
        self._hung_up = False

    def buildProtocol(self, addr: IAddress | None) -> LinkHandshake:
        """There is a connection to shake hands on."""
        self._handshake = LinkHandshake(self, addr)
        return self._handshake

    def established(self, addr: IAddress | None) -> Protocol | None:
        """The protocol for what follows the handshake; ``None`` if the link was given up meanwhile."""
        return cast("Protocol | None", self._inner.buildProtocol(addr))

    def complain(self, problem: str | None) -> None:
        """
        Note a problem that is not known yet; ``None``: there is none any more.

        A server that is just going down hangs up on us too, so it has to happen twice in a row to be worth a word.
        """
        first = problem == HUNG_UP and not self._hung_up
        self._hung_up = problem == HUNG_UP
        if first:
            return
        if problem is not None and problem != self._problem:
            self._note(Level.WARNING, f"No TLS connection to {self._name()}: {problem}")
        self._problem = problem

    def doStart(self) -> None:
        """An attempt begins."""
        self._inner.doStart()

    def doStop(self) -> None:
        """Nothing is left of a connection."""
        self._inner.doStop()

    def startedConnecting(self, connector: IConnector) -> None:
        """An attempt begins."""
        self._inner.startedConnecting(connector)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """There was nobody to shake hands with."""
        self._hung_up = False
        self._inner.clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """A connection is gone, which the link knows of only if the handshake was over."""
        handshake, self._handshake = self._handshake, None
        inner: Any = self._inner
        if handshake is not None and handshake.problem is not None:
            reason = Failure(HandshakeFailed(handshake.problem))
        if handshake is not None and handshake.inner is not None:
            inner.clientConnectionLost(connector, reason)
        else:
            inner.clientConnectionFailed(connector, reason)


def problem_of(reason: Failure) -> str | None:
    """What went wrong with TLS; ``None`` if the connection was merely closed."""
    error = reason.value
    if isinstance(error, SSL.Error):
        return explain(error)
    return None if isinstance(error, ConnectionClosed) else reason.getErrorMessage()


def _endpoint(address: Any) -> str:
    host, port = getattr(address, "host", "?"), getattr(address, "port", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
