"""
Simulated time: one heap of scheduled events for the whole simulation.

Time is a whole number of microseconds and jumps from event to event; no real clock is read. Events that are due at the
same microsecond run in the order in which they were scheduled, so one seed always gives one run.
:meth:`Simulation.digest` verifies that.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from random import Random
from typing import Final

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

SECOND: Final = 1_000_000
"""Microseconds in a second."""

MILLISECOND: Final = 1_000
"""Microseconds in a millisecond."""

_CALLED: Final = -1
_CANCELLED: Final = -2
_COMPACT_ABOVE: Final = 4_096
"""Number of cancelled entries in the heap above which it is rebuilt without them."""

_BATCH: Final = 512
"""Number of occurrences added to the digest in one call, for speed."""


COLLECT_ABOVE: Final = 50_000
"""Number of new objects after which Python looks for garbage; with its own 700, that takes a tenth of a run."""


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Have Python look for garbage seldom."""
    before = gc.get_threshold()
    gc.set_threshold(max(COLLECT_ABOVE, before[0]), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def micros(seconds: float) -> int:
    """Convert seconds to the nearest whole number of microseconds."""
    return round(seconds * SECOND)


class ScheduledEvent:
    """
    An event in the heap. ``sequence`` is the number of its only valid entry; entries with other numbers are stale.
    """

    __slots__ = ("sequence",)

    sequence: int

    def fire(self, sequence: int) -> None:
        """
        The entry numbered ``sequence`` is due.

        :raises NotImplementedError: unless a subclass implements it.
        """
        raise NotImplementedError


class CallOwner:
    """
    The process that a delayed call belongs to, as far as the heap must know it.

    :param name: for failures.
    :param boot: microseconds by which its monotonic clock is ahead of simulated time.
    """

    def __init__(self, name: str, boot: int) -> None:
        self.name = name
        self.dead = False
        self.stalled = False
        self.deferred: list[ScheduledEvent] = []
        """What became due during a stall, in order."""
        self.turned: Callable[[], None] | None = None
        """Called after each turn of this process."""
        self._boot = boot

    def seconds_at(self, time: int) -> float:
        """Seconds of the monotonic clock of this process at ``time`` microseconds of simulated time."""
        return (time + self._boot) / SECOND


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """An exception that no simulated program caught, or that made one end itself."""

    at: float
    """Seconds of simulated time."""

    place: str
    what: str
    failure: Failure

    def __str__(self) -> str:
        return f"{self.at:.6f} {self.place}: {self.what}: {self.failure.getErrorMessage()}"


class Simulation:
    """
    The simulation: time, random numbers, the heap of scheduled events, and the digest of past ones.

    :param seed: determines the run; the same seed gives the same run.
    """

    log = Logger(namespace=__name__)

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.time = 0
        """Microseconds since the beginning."""
        self.failures: list[RecordedFailure] = []
        self.events = 0
        """Number of heap entries processed."""
        self._heap: list[tuple[int, int, ScheduledEvent]] = []
        self._sequence = 0
        self._cancelled = 0
        self._digest = blake2b(digest_size=16)
        self._noted: list[bytes] = []
        """What the digest has not taken in yet: label and data of each occurrence in turn ..."""
        self._noted_at: list[int] = []
        """... and its time."""

    def __repr__(self) -> str:
        return f"<Simulation seed={self.seed} at {self.seconds():.6f} s>"

    def seconds(self) -> float:
        """Simulated time in seconds."""
        return self.time / SECOND

    def push(self, time: int, event: ScheduledEvent) -> None:
        """Schedule an event at ``time`` microseconds; this replaces its earlier entry, if any."""
        self._sequence = sequence = self._sequence + 1
        event.sequence = sequence
        heappush(self._heap, (time, sequence, event))

    def call_later(self, seconds: float, function: Callable[..., object], *arguments: object) -> SimCall:
        """Call ``function`` outside of every host, for instance to inject a fault; an exception ends the run."""
        call = SimCall(self, None, function, arguments, None)
        call.schedule(self.time + micros(seconds))
        return call

    def note(self, *words: object) -> None:
        """Add an occurrence to the digest."""
        self.note_bytes(b"", " ".join(map(str, words)).encode("utf-8", "surrogateescape"))

    def note_bytes(self, label: bytes, data: bytes) -> None:
        """Add a delivery to the digest."""
        self._noted += (label, data)
        noted_at = self._noted_at
        noted_at.append(self.time)
        if len(noted_at) >= _BATCH:
            self._take_noted(self._digest)
            self._noted.clear()
            noted_at.clear()

    def digest(self) -> str:
        """32 hexadecimal digits of everything delivered so far."""
        digest = self._digest.copy()
        self._take_noted(digest)
        return digest.hexdigest()

    def _take_noted(self, digest: blake2b) -> None:
        # Lengths come first, so no two sequences have the same bytes.
        digest.update(f"{self._noted_at}{[*map(len, self._noted)]}".encode())
        digest.update(b"".join(self._noted))

    def record_failure(self, place: str, what: str, failure: Failure) -> None:
        """Record and log an exception that a simulated program did not catch or did not survive."""
        self.failures.append(RecordedFailure(self.seconds(), place, what, failure))
        self.log.failure("{place}: {what}", failure=failure, place=place, what=what)

    def forget_one(self) -> None:
        """An entry of the heap became stale; rebuild the heap if most of its entries are."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_ABOVE and self._cancelled * 2 > len(self._heap):
            # In place: the loop in run_to() holds a reference to this list.
            self._heap[:] = [entry for entry in self._heap if entry[1] == entry[2].sequence]
            heapify(self._heap)
            self._cancelled = 0

    @property
    def pending(self) -> int:
        """Entries in the heap, stale ones included."""
        return len(self._heap)

    def peek(self) -> tuple[int, ScheduledEvent] | None:
        """Return the time and the event of the next entry, which may be stale; ``None`` if there is none."""
        return (self._heap[0][0], self._heap[0][2]) if self._heap else None

    def step(self) -> bool:
        """Run the next event; return False if there is none."""
        if not self._heap:
            return False
        self.time, sequence, event = heappop(self._heap)
        self.events += 1
        event.fire(sequence)
        return True

    def run(self, seconds: float) -> None:
        """Run all events of the next ``seconds``."""
        self.run_to(self.time + micros(seconds))

    def run_to(self, until: int) -> None:
        """Run all events up to and including ``until`` microseconds; set the time to it."""
        heap = self._heap
        pop = heappop
        looked_at = 0
        try:
            while heap and heap[0][0] <= until:
                self.time, sequence, event = pop(heap)
                looked_at += 1
                # Cancelled and moved entries are skipped here, which is cheaper than a call.
                if sequence == event.sequence:
                    event.fire(sequence)
        finally:
            self.events += looked_at
        self.time = max(self.time, until)

    def run_until(self, condition: Callable[[], object], limit: float) -> bool:
        """
        Run events until ``condition()`` holds; it is checked before the first event and after each.

        :param limit: seconds after which to stop; the time is then exactly that much later.
        :returns: whether the condition holds.
        """
        until = self.time + micros(limit)
        heap = self._heap
        while not condition():
            if not heap or heap[0][0] > until:
                self.time = max(self.time, until)
                return bool(condition())
            self.step()
        return True


class SimCall(ScheduledEvent):
    """A delayed call of a host, or (``owner`` ``None``) of the simulation itself. Cancelling costs O(1)."""

    __slots__ = ("arguments", "due", "function", "keywords", "owner", "queued_at", "simulation")

    def __init__(
        self,
        simulation: Simulation,
        owner: CallOwner | None,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        keywords: dict[str, object] | None,
    ) -> None:
        self.simulation = simulation
        self.owner = owner
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.sequence = _CANCELLED
        self.due = self.queued_at = 0

    def schedule(self, due: int) -> None:
        """Enter the heap, to be called at ``due`` microseconds."""
        self.due = self.queued_at = due
        simulation = self.simulation
        simulation._sequence = self.sequence = sequence = simulation._sequence + 1
        heappush(simulation._heap, (due, sequence, self))

    def fire(self, sequence: int) -> None:
        """Call the function, unless this entry is stale, the host is dead, or it is stalled."""
        if sequence != self.sequence:
            return
        simulation, owner = self.simulation, self.owner
        if self.due > simulation.time:
            self.schedule(self.due)
        elif owner is None:
            self.sequence = _CALLED
            self.function(*self.arguments)
        elif owner.dead:
            self.sequence = _CANCELLED
        elif owner.stalled:
            owner.deferred.append(self)
        else:
            self.sequence = _CALLED
            try:
                self._call()
            except Exception:
                simulation.record_failure(owner.name, "a delayed call raised", Failure())
            if owner.turned is not None:
                owner.turned()

    def _call(self) -> None:
        # Most calls have no argument or one. They take half of the time of a call with any number when compiled.
        arguments = self.arguments
        if self.keywords:
            self.function(*arguments, **self.keywords)
        elif not arguments:
            self.function()
        elif len(arguments) == 1:
            self.function(arguments[0])
        else:
            self.function(*arguments)

    def _expect_pending(self) -> None:
        if self.sequence == _CALLED:
            raise AlreadyCalled
        if self.sequence == _CANCELLED:
            raise AlreadyCancelled

    def _move(self, due: int) -> None:
        self.due = due
        if due < self.queued_at:
            # The old entry stays behind, stale. A later time needs no new entry: the old one reschedules itself.
            self.schedule(due)
            self.simulation.forget_one()

    def getTime(self) -> float:
        """The time at which it is due, in seconds of its owner's clock."""
        return self.due / SECOND if self.owner is None else self.owner.seconds_at(self.due)

    def cancel(self) -> None:
        """Cancel the call."""
        self._expect_pending()
        self.sequence = _CANCELLED
        self.simulation.forget_one()

    def delay(self, secondsLater: float) -> None:
        """Delay the call by that much."""
        self._expect_pending()
        self._move(self.due + micros(secondsLater))

    def reset(self, secondsFromNow: float) -> None:
        """Call it that much later than now."""
        self._expect_pending()
        self._move(self.simulation.time + micros(secondsFromNow))

    def active(self) -> bool:
        """Whether the call is still pending."""
        return self.sequence >= 0


classImplements(SimCall, IDelayedCall)
