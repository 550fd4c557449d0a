"""
Simulated TCP: flows of bytes with latency, and the two ends of a connection.

Kernel and program are separate where the difference is visible. A kernel accepts connections and bytes for a stopped
program, answers with a reset for one that has ended, and does not answer once the machine has lost its power.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
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

from txsentinel.sim.simulation import SECOND, ScheduledEvent

if TYPE_CHECKING:
    from random import Random

    from twisted.internet.interfaces import IProducer, IProtocol

    from txsentinel.sim.network import SimNetwork
    from txsentinel.sim.reactor import SimReactor
    from txsentinel.sim.sockets import SimPort

WINDOW: Final = 256 * 1024
"""Bytes that a kernel accepts from a writer before the reader has read them; the rest waits in the transport."""

HIGH_WATER: Final = 64 * 1024
"""Unsent bytes above which a registered producer is paused, as in Twisted."""

SEND_TIMEOUT: Final = 924 * SECOND
"""Microseconds without acknowledgement after which the kernel ends a connection (15 retransmissions)."""


class Mark(Enum):
    """What a flow carries besides bytes."""

    OPEN = b"open"
    """The third step of the handshake."""

    FIN = b"fin"
    """The sender closed; everything written before has arrived."""

    RST = b"rst"
    """The connection does not exist any more."""


class Path:
    """One direction between two machines: its latency, and whether traffic passes."""

    __slots__ = ("blocked", "cut", "jitter", "latency", "loss", "since", "source", "target", "waiting")

    def __init__(self, source: str, target: str, latency: int, jitter: int) -> None:
        self.source = source
        self.target = target
        self.latency = latency
        """Latency in microseconds."""
        self.jitter = jitter
        """Largest additional latency in microseconds, drawn for each segment."""
        self.loss = 0.0
        """Probability that a segment is lost once and retransmitted after 200 ms."""
        self.cut = False
        self.blocked = False
        """Whether the path is blocked, for any reason."""
        self.since = 0
        """Simulated time at which it was blocked."""
        self.waiting: list[Flow] = []
        """What will be retransmitted once the path is open again."""

    def delay(self, random: Random) -> int:
        """Microseconds until a segment sent now arrives."""
        delay = self.latency
        if self.jitter:
            delay += int(random.random() * self.jitter)
        if self.loss and random.random() < self.loss:
            delay += SECOND // 5
        return delay


class Flow(ScheduledEvent):
    """One direction of one connection: segments arrive complete, in order, and once, or not at all."""

    __slots__ = ("_segments", "in_flight", "label", "network", "path", "receiver", "sender", "simulation")

    def __init__(self, network: SimNetwork, path: Path, label: bytes, sender: SimTransport) -> None:
        self.network = network
        self.simulation = network.simulation
        self.path = path
        self.label = label
        self.sender = sender
        self.receiver = sender
        self.sequence = -1
        self.in_flight = 0
        """Bytes sent and not yet read."""
        self._segments: deque[tuple[int, int, bytes | Mark]] = deque()
        """``(arrives at, sent at, what)``."""

    def send(self, what: bytes | Mark) -> None:
        """Send bytes or a mark. Bytes written in one turn leave as one segment."""
        simulation, segments = self.simulation, self._segments
        now = simulation.time
        if segments:
            arrival, sent_at, last = segments[-1]
            if sent_at == now and type(last) is bytes and type(what) is bytes:
                segments[-1] = (arrival, sent_at, last + what)
                self.in_flight += len(what)
                return
            segments.append((max(arrival, now + self.path.delay(simulation.random)), now, what))
        else:
            path = self.path
            arrival = now + path.latency
            if path.loss:
                arrival = now + path.delay(simulation.random)
            elif path.jitter:
                arrival += int(simulation.random.random() * path.jitter)
            segments.append((arrival, now, what))
            simulation.push(arrival, self)
        if type(what) is bytes:
            self.in_flight += len(what)

    def forget_unsent(self) -> None:
        """Discard what was written in this turn: it has not left the process yet."""
        now = self.simulation.time
        segments = self._segments
        while segments and segments[-1][1] == now and isinstance(segments[-1][2], bytes):
            self.in_flight -= len(cast("bytes", segments.pop()[2]))

    def vanish(self) -> None:
        """Drop everything in flight."""
        self._segments.clear()
        self.sequence = -1

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._segments

    def fire(self, sequence: int) -> None:
        """Deliver what has arrived by now."""
        if sequence != self.sequence:
            return
        segments, path, simulation = self._segments, self.path, self.simulation
        if not segments:
            return
        if path.blocked:
            self.sequence = -1
            path.waiting.append(self)
            if not self.sender.gone:
                simulation.call_later(SEND_TIMEOUT / SECOND, self._give_up, simulation.time)
            return
        receiver = self.receiver
        now = simulation.time
        while segments and segments[0][0] <= now:
            if not receiver.gone:
                if receiver.reactor.postpones(self):
                    return
                if not receiver.reading:
                    # Resuming the reader wakes this flow up.
                    self.sequence = -1
                    return
            what = segments.popleft()[2]
            if type(what) is bytes:
                simulation.note_bytes(self.label, what)
                self.in_flight -= len(what)
                receiver.data_arrived(what)
                if self.sender.unsent:
                    self.sender.send_more()
            else:
                mark = cast("Mark", what)
                simulation.note_bytes(self.label, mark.value)
                receiver.mark_arrived(mark)
        if segments and self.sequence == sequence:
            simulation.push(max(segments[0][0], now), self)

    def wake(self, delay: int = 0) -> None:
        """Check the waiting segments again in ``delay`` microseconds."""
        if self._segments:
            self.simulation.push(max(self._segments[0][0], self.simulation.time + delay), self)

    def _give_up(self, since: int) -> None:
        if self.path.blocked and self.path.since <= since and self in self.path.waiting and not self.sender.gone:
            sender = self.sender
            sender.reactor.schedule(0, sender.lost, Failure(ConnectionLost("connection timed out")))


class Tap(Protocol):
    """An observer of one end of a connection."""

    def written(self, data: bytes) -> None:
        """The program hands ``data`` to the kernel."""

    def arriving(self, data: bytes) -> None:
        """The program is about to receive ``data``."""


class SimTransport:
    """One end of a connection, as its program sees it."""

    __slots__ = (
        "_backlog",
        "_keep_alive",
        "_no_delay",
        "_paused_producer",
        "connected",
        "connector",
        "disconnecting",
        "gone",
        "inbound",
        "local",
        "network",
        "outbound",
        "port",
        "producer",
        "protocol",
        "reactor",
        "reading",
        "remote",
        "serial",
        "streaming",
        "tap",
        "unsent",
    )

    bufferSize = HIGH_WATER

    def __init__(self, network: SimNetwork, reactor: SimReactor, local: IPv4Address, remote: IPv4Address) -> None:
        self.network = network
        self.reactor = reactor
        self.local = local
        self.remote = remote
        self.serial = 0
        self.protocol: IProtocol | None = None
        self.connector: BaseConnector | None = None
        self.port: SimPort | None = None
        self.outbound: Flow
        self.inbound: Flow
        self.connected = False
        """Between ``makeConnection`` and ``connectionLost``."""
        self.disconnecting = False
        self.tap: Tap | None = None
        self.gone = False
        """This end no longer exists; its kernel answers further data with a reset."""
        self.reading = True
        self.unsent = 0
        """Bytes written that the kernel has not accepted yet."""
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
            self._hang_up(Mark.RST)
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
                    self._hang_up(Mark.RST)
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
        self.network.connections[self.serial] = self
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

    def _hang_up(self, mark: Mark) -> None:
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
        self.network.connections.pop(self.serial, None)
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
        self.network.connections.pop(self.serial, None)
        self.protocol = self.producer = None
        if silently:
            self.gone = True
            self.outbound.vanish()
        elif not self.gone:
            self._hang_up(Mark.FIN if self.inbound.idle else Mark.RST)


classImplements(SimTransport, ITransport, IConsumer, IPushProducer)
