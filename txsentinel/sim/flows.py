"""
Paths between machines, and flows of bytes along them.

A path is one direction between two machines, a flow one direction of a connection. A flow has a sending and a receiving
end, of which it knows no more than :class:`FlowEnd`.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from txsentinel.sim.simulation import SECOND, ScheduledEvent, Simulation

if TYPE_CHECKING:
    from random import Random

    from txsentinel.sim.reactor import SimReactor

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

    __slots__ = (
        "blocked",
        "cut",
        "jitter",
        "latency",
        "loss",
        "restored_at",
        "since",
        "source",
        "target",
        "usual_jitter",
        "usual_latency",
        "waiting",
    )

    def __init__(self, source: str, target: str, latency: int, jitter: int) -> None:
        self.source = source
        self.target = target
        self.latency = latency
        """Latency in microseconds."""
        self.jitter = jitter
        """Largest additional latency in microseconds, drawn for each segment."""
        self.restored_at = -SEND_TIMEOUT
        """Simulated time at which it was last opened again, or as fast as usual again."""
        self.usual_latency = latency
        self.usual_jitter = jitter
        self.loss = 0.0
        """Probability that a segment is lost once and retransmitted after 200 ms."""
        self.cut = False
        self.blocked = False
        """Whether the path is blocked, for any reason."""
        self.since = 0
        """Simulated time at which it was blocked."""
        self.waiting: list[Flow] = []
        """What will be retransmitted once the path is open again."""

    @property
    def degraded(self) -> bool:
        """Whether it is blocked, lossy, or slower than usual."""
        return self.blocked or self.loss > 0 or self.latency != self.usual_latency or self.jitter != self.usual_jitter

    def delay(self, random: Random) -> int:
        """Microseconds until a segment sent now arrives."""
        delay = self.latency
        if self.jitter:
            delay += int(random.random() * self.jitter)
        if self.loss and random.random() < self.loss:
            delay += SECOND // 5
        return delay


class FlowEnd:
    """One end of a connection, as its two flows see it."""

    __slots__ = ("gone", "reactor", "reading", "unsent")

    def __init__(self, reactor: SimReactor) -> None:
        self.reactor = reactor
        self.gone = False
        """This end no longer exists; its kernel answers further data with a reset."""
        self.reading = True
        self.unsent = 0
        """Bytes written that the kernel has not accepted yet."""

    def data_arrived(self, data: bytes) -> None:
        """
        Bytes arrived.

        :raises NotImplementedError: unless a subclass implements it.
        """
        raise NotImplementedError

    def mark_arrived(self, mark: Mark) -> None:
        """
        A mark arrived.

        :raises NotImplementedError: unless a subclass implements it.
        """
        raise NotImplementedError

    def send_more(self) -> None:
        """
        The other end has read: more can be sent.

        :raises NotImplementedError: unless a subclass implements it.
        """
        raise NotImplementedError

    def lost(self, reason: Failure) -> None:
        """
        The connection was ended by the other end or the network.

        :raises NotImplementedError: unless a subclass implements it.
        """
        raise NotImplementedError


class Flow(ScheduledEvent):
    """One direction of one connection: segments arrive complete, in order, and once, or not at all."""

    __slots__ = ("_segments", "in_flight", "label", "path", "receiver", "sender", "simulation")

    def __init__(self, simulation: Simulation, path: Path, label: bytes, sender: FlowEnd) -> None:
        self.simulation = simulation
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

    def drop_in_flight(self) -> None:
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
