"""
Simulated time: one heap of happenings for the whole world.

Time is a whole number of microseconds and jumps from happening to happening; nothing here looks at a
real clock. Happenings due at the same microsecond occur in the order in which they were asked for, so
one seed always tells one story, and :meth:`Simulation.digest` proves that it did.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Final

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

if TYPE_CHECKING:
    from txsentinel.sim.reactor import SimReactor

SECOND: Final = 1_000_000
"""Microseconds in a second."""

MILLISECOND: Final = 1_000
"""Microseconds in a millisecond."""

_CALLED: Final = -1
_CANCELLED: Final = -2
_COMPACT_ABOVE: Final = 4_096
"""Cancelled entries that may sit in the heap before it is worth rebuilding without them."""

_BATCH: Final = 512
"""Occurrences that are gathered before they are added to the digest, which costs less in one go."""


def micros(seconds: float) -> int:
    """Seconds as the nearest whole number of microseconds."""
    return round(seconds * SECOND)


class ScheduledEvent:
    """Something in the heap. ``sequence`` names its only valid entry; entries with another number are stale."""

    __slots__ = ("sequence",)

    sequence: int

    def fire(self, sequence: int) -> None:
        """
        The entry numbered ``sequence`` has come due.

        :raises NotImplementedError: unless a heir says what happens.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """An exception that no simulated program caught, or that one gave itself up for."""

    at: float
    """Seconds of world time."""

    place: str
    what: str
    failure: Failure

    def __str__(self) -> str:
        return f"{self.at:.6f} {self.place}: {self.what}: {self.failure.getErrorMessage()}"


class Simulation:
    """
    All there is: the time, the dice, the heap of what will happen, and the digest of what did.

    :param seed: whatever two runs have in common; the same seed gives the same run.
    """

    log = Logger(namespace=__name__)

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.time = 0
        """Microseconds since the beginning."""
        self.failures: list[RecordedFailure] = []
        self.events = 0
        """How many heap entries have been looked at."""
        self._heap: list[tuple[int, int, ScheduledEvent]] = []
        self._sequence = 0
        self._cancelled = 0
        self._digest = blake2b(digest_size=16)
        self._noted: list[bytes] = []
        """What the digest has yet to take in: label and data of each occurrence in turn ..."""
        self._noted_at: list[int] = []
        """... and when it was."""

    def __repr__(self) -> str:
        return f"<World seed={self.seed} at {self.seconds():.6f} s>"

    def seconds(self) -> float:
        """World time in seconds."""
        return self.time / SECOND

    def push(self, time: int, event: ScheduledEvent) -> None:
        """Make ``happening`` fire at ``time`` microseconds, replacing the entry that it may have already."""
        self._sequence = sequence = self._sequence + 1
        event.sequence = sequence
        heappush(self._heap, (time, sequence, event))

    def call_later(self, seconds: float, function: Callable[..., object], *arguments: object) -> SimCall:
        """Call ``function`` from outside every host, for instance to inject a fault; its exceptions end the run."""
        call = SimCall(self, None, function, arguments, {})
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
        """32 hexadecimal digits that stand for everything delivered so far."""
        digest = self._digest.copy()
        self._take_noted(digest)
        return digest.hexdigest()

    def _take_noted(self, digest: blake2b) -> None:
        # With the lengths in front, no two stories are made of the same bytes.
        digest.update(f"{self._noted_at}{[*map(len, self._noted)]}".encode())
        digest.update(b"".join(self._noted))

    def record_failure(self, place: str, what: str, failure: Failure) -> None:
        """Remember and log an exception that a simulated program did not survive or did not catch."""
        self.failures.append(RecordedFailure(self.seconds(), place, what, failure))
        self.log.failure("{place}: {what}", failure=failure, place=place, what=what)

    def forget_one(self) -> None:
        """An entry of the heap became stale; rebuild the heap if most of it is."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_ABOVE and self._cancelled * 2 > len(self._heap):
            # In place: the loop in run_to() holds on to this very list.
            self._heap[:] = [entry for entry in self._heap if entry[1] == entry[2].sequence]
            heapify(self._heap)
            self._cancelled = 0

    @property
    def pending(self) -> int:
        """Entries in the heap, stale ones included."""
        return len(self._heap)

    def step(self) -> bool:
        """Let the next thing happen; false if nothing ever will."""
        if not self._heap:
            return False
        self.time, sequence, event = heappop(self._heap)
        self.events += 1
        event.fire(sequence)
        return True

    def run(self, seconds: float) -> None:
        """Let ``seconds`` pass with all that happens in them."""
        self.run_to(self.time + micros(seconds))

    def run_to(self, until: int) -> None:
        """Let everything happen up to and including ``until`` microseconds, and arrive there."""
        heap = self._heap
        pop = heappop
        looked_at = 0
        try:
            while heap and heap[0][0] <= until:
                self.time, sequence, event = pop(heap)
                looked_at += 1
                # Whatever was cancelled or moved is passed over here already, for much less than a call.
                if sequence == event.sequence:
                    event.fire(sequence)
        finally:
            self.events += looked_at
        self.time = max(self.time, until)

    def run_until(self, condition: Callable[[], object], limit: float) -> bool:
        """
        Let things happen until ``condition()`` holds; it is asked before the first and after each of them.

        :param limit: seconds after which we give up, the time then being exactly that much later.
        :returns: whether it came to hold.
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
    """A delayed call, of a host or (``owner`` ``None``) of the world itself. Cancelling costs O(1)."""

    __slots__ = ("arguments", "due", "function", "keywords", "owner", "queued_at", "simulation")

    def __init__(
        self,
        simulation: Simulation,
        owner: SimReactor | None,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        keywords: dict[str, object],
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
        """Call the function, unless this entry is stale, the host is dead, or it is stalled for now."""
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
            owner.parked.append(self)
        else:
            self.sequence = _CALLED
            try:
                self.function(*self.arguments, **self.keywords)
            except Exception:
                simulation.record_failure(owner.name, "a delayed call raised", Failure())
            if owner.turned is not None:
                owner.turned()

    def _expect_pending(self) -> None:
        if self.sequence == _CALLED:
            raise AlreadyCalled
        if self.sequence == _CANCELLED:
            raise AlreadyCancelled

    def _move(self, due: int) -> None:
        self.due = due
        if due < self.queued_at:
            # The old entry stays behind, stale. A later time needs none: the old entry finds itself early.
            self.schedule(due)
            self.simulation.forget_one()

    def getTime(self) -> float:
        """When it is due, in seconds of its owner's clock."""
        return self.due / SECOND if self.owner is None else self.owner.seconds_at(self.due)

    def cancel(self) -> None:
        """Never call it."""
        self._expect_pending()
        self.sequence = _CANCELLED
        self.simulation.forget_one()

    def delay(self, secondsLater: float) -> None:
        """Call it that much later than planned."""
        self._expect_pending()
        self._move(self.due + micros(secondsLater))

    def reset(self, secondsFromNow: float) -> None:
        """Call it that much later than now."""
        self._expect_pending()
        self._move(self.simulation.time + micros(secondsFromNow))

    def active(self) -> bool:
        """Is it still to come?"""
        return self.sequence >= 0


classImplements(SimCall, IDelayedCall)
