"""
Simulated TCP: the two ends of a connection.

Kernel and program are separate where the difference is visible. A kernel accepts connections and bytes for a stopped
program, answers with a reset for one that has ended, and does not answer once the machine has lost its power.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol, cast

from twisted.internet.address import IPv4Address
from twisted.internet.base import BaseConnector
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IConsumer, IPullProducer, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.sim.flows import Flow, FlowEnd, Mark

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProducer, IProtocol

    from txsentinel.sim.reactor import SimReactor

WINDOW: Final = 256 * 1024
"""Bytes that a kernel accepts from a writer before the reader has read them; the rest waits in the transport."""

HIGH_WATER: Final = 64 * 1024
"""Unsent bytes above which a registered producer is paused, as in Twisted."""


class Tap(Protocol):
    """An observer of one end of a connection."""

    def written(self, data: bytes) -> None:
        """The program hands ``data`` to the kernel."""

    def arriving(self, data: bytes) -> None:
        """The program is about to receive ``data``."""


class Acceptor(Protocol):
    """A listening port, as the ends of its connections see it."""

    def accept(self, transport: SimTransport) -> bool:
        """Build the protocol of a new connection; return False if the port no longer listens."""


class SimTransport(FlowEnd):
    """One end of a connection, as its program sees it."""

    __slots__ = (
        "_backlog",
        "_keep_alive",
        "_no_delay",
        "_paused_producer",
        "connected",
        "connections",
        "connector",
        "disconnecting",
        "inbound",
        "local",
        "outbound",
        "port",
        "producer",
        "protocol",
        "remote",
        "serial",
        "streaming",
        "tap",
    )

    bufferSize = HIGH_WATER

    def __init__(
        self, connections: dict[int, SimTransport], reactor: SimReactor, local: IPv4Address, remote: IPv4Address
    ) -> None:
        """:param connections: all open ends of the network, by serial number; this one enters and leaves by itself."""
        super().__init__(reactor)
        self.connections = connections
        self.local = local
        self.remote = remote
        self.serial = 0
        self.protocol: IProtocol | None = None
        self.connector: BaseConnector | None = None
        self.port: Acceptor | None = None
        self.outbound: Flow
        self.inbound: Flow
        self.connected = False
        """Between ``makeConnection`` and ``connectionLost``."""
        self.disconnecting = False
        self.tap: Tap | None = None
        self.producer: IProducer | None = None
        self.streaming = False
        self._paused_producer = False
        self._backlog: deque[bytes] = deque()
        self._no_delay = False
        self._keep_alive = False

    def __repr__(self) -> str:
        return f"<SimTransport {self.local.host}:{self.local.port} to {self.remote.host}:{self.remote.port}>"

    # ITransport

    def write(self, data: bytes) -> None:
        """Send bytes; what exceeds the window waits here."""
        if type(data) is not bytes:
            if not isinstance(data, bytes):
                raise TypeError(f"only bytes can be written, not {type(data).__name__}")
            data = bytes(data)
        if not data or not self.connected or self.gone:
            return
        if self.tap is not None:
            self.tap.written(data)
        outbound = self.outbound
        if not self._backlog and outbound.in_flight + len(data) <= WINDOW:
            outbound.send(data)
            return
        self._backlog.append(data)
        self.unsent += len(data)
        self.send_more()
        if self.producer is not None and self.streaming and self.unsent > self.bufferSize:
            self._pause_producer()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of ``data`` in one write."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once everything written has been handed to the kernel and no producer is left."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._maybe_finish()

    def abortConnection(self) -> None:
        """Close at once; what this turn wrote is lost, and the other side receives a reset."""
        if self.connected and not self.gone:
            self.disconnecting = True
            self._send_last(Mark.RST)
            self.reactor.schedule(1, self._lose, Failure(ConnectionAborted()))

    def getPeer(self) -> IPv4Address:
        """The address of the other end."""
        return self.remote

    def getHost(self) -> IPv4Address:
        """The address of this end."""
        return self.local

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Store the option; it has no effect, as data is never delayed here."""
        self._no_delay = bool(enabled)

    def getTcpNoDelay(self) -> bool:
        """Return the stored option."""
        return self._no_delay

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Store the option; it has no effect, as kernels wait two hours before the first probe."""
        self._keep_alive = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        """Return the stored option."""
        return self._keep_alive

    # IPushProducer: received bytes

    def pauseProducing(self) -> None:
        """Leave received data in the kernel."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Resume reading, in a later turn."""
        if self.connected and not self.disconnecting and not self.reading:
            self.reading = True
            self.inbound.wake(1)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # IConsumer: a producer writes as fast as the transport accepts data

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        As in Twisted: a streaming producer is paused above :data:`HIGH_WATER`, a pull producer is asked each time.

        :raises RuntimeError: if there is one already.
        """
        if self.producer is not None:
            raise RuntimeError(f"{self.producer!r} is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streaming = streaming
        self._paused_producer = False
        if not streaming:
            cast("IPullProducer", producer).resumeProducing()

    def unregisterProducer(self) -> None:
        """Remove the producer."""
        self.producer = None
        self._maybe_finish()

    def send_more(self) -> None:
        """The reader has read: hand as much of the backlog to the kernel as it accepts."""
        backlog = self._backlog
        space = WINDOW - self.outbound.in_flight
        while backlog and space > 0:
            data = backlog.popleft()
            if len(data) > space:
                backlog.appendleft(data[space:])
                data = data[:space]
            space -= len(data)
            self.unsent -= len(data)
            self.outbound.send(data)
        if not backlog and self.producer is not None and (self._paused_producer or not self.streaming):
            self._paused_producer = False
            self.reactor.schedule(1, self._resume_producer, self.producer)
        self._maybe_finish()

    def _pause_producer(self) -> None:
        if not self._paused_producer:
            self._paused_producer = True
            cast("IPushProducer", self.producer).pauseProducing()

    def _resume_producer(self, producer: IProducer) -> None:
        if self.producer is producer:
            cast("IPullProducer", producer).resumeProducing()

    def _maybe_finish(self) -> None:
        if self.disconnecting and not self._backlog and self.producer is None and self.connected:
            self.reactor.schedule(1, self._finish)

    def _finish(self) -> None:
        if self.connected and not self.gone and not self._backlog:
            self.outbound.send(Mark.FIN)
            self._lose(Failure(ConnectionDone()))

    # From the network

    def data_arrived(self, data: bytes) -> None:
        """Pass received bytes to the protocol."""
        reactor, protocol = self.reactor, self.protocol
        if self.gone:
            self.outbound.send(Mark.RST)
        elif self.connected and not self.disconnecting and protocol is not None:
            try:
                if self.tap is not None:
                    self.tap.arriving(data)
                protocol.dataReceived(data)
            except Exception:
                failure = Failure()
                reactor.simulation.record_failure(reactor.name, "dataReceived raised", failure)
                if self.connected:
                    self._send_last(Mark.RST)
                    self._lose(failure)
            if reactor.turned is not None:
                reactor.turned()

    def mark_arrived(self, mark: Mark) -> None:
        """A mark arrived."""
        if mark is Mark.OPEN:
            if self.gone or self.port is None or not self.port.accept(self):
                self.gone = True
                self.outbound.send(Mark.RST)
        elif not self.gone:
            self.lost(Failure(ConnectionDone() if mark is Mark.FIN else ConnectionLost("connection reset by peer")))
        if self.reactor.turned is not None:
            self.reactor.turned()

    def established(self, protocol: IProtocol | None) -> None:
        """The handshake is complete: build the protocol, or close if the factory returned none."""
        self.connected = True
        self.connections[self.serial] = self
        if protocol is None:
            self.loseConnection()
            return
        self.protocol = protocol
        if self.reactor.guard("makeConnection raised", protocol.makeConnection, self) is not None and self.connected:
            self.abortConnection()

    def lost(self, reason: Failure) -> None:
        """The connection was ended by the other side or the network."""
        if self.connected and not self.gone:
            self._lose(reason)

    def _send_last(self, mark: Mark) -> None:
        self._backlog.clear()
        self.unsent = 0
        self.outbound.forget_unsent()
        self.outbound.send(mark)
        self.gone = True

    def _lose(self, reason: Failure) -> None:
        if not self.connected:
            return
        self.connected = False
        self.disconnecting = False
        self.gone = True
        self._backlog.clear()
        self.unsent = 0
        self.connections.pop(self.serial, None)
        self.inbound.wake()
        producer, self.producer = self.producer, None
        if producer is not None:
            self.reactor.guard("stopProducing raised", producer.stopProducing)
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            self.reactor.guard("connectionLost raised", protocol.connectionLost, reason)
        if self.connector is not None:
            self.reactor.guard("clientConnectionLost raised", self.connector.connectionLost, reason)

    def killed(self, silently: bool) -> None:
        """
        The process of this end has ended, and is not notified.

        Its kernel closes the connection: orderly, or with a reset if there was unread data. If the power fails,
        everything still in flight from it is lost.
        """
        self.connected = False
        self.connections.pop(self.serial, None)
        self.protocol = self.producer = None
        if silently:
            self.gone = True
            self.outbound.drop_in_flight()
        elif not self.gone:
            self._send_last(Mark.FIN if self.inbound.idle else Mark.RST)


classImplements(SimTransport, ITransport, IConsumer, IPushProducer)
