"""
Simulated time: one heap of happenings for the whole world, one reactor per simulated process.

Time is a whole number of microseconds and jumps from happening to happening; nothing here looks at a
real clock. Happenings due at the same microsecond occur in the order in which they were asked for, so
one seed always tells one story, and :meth:`World.digest` proves that it did.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.base import _ThreePhaseEvent
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import AlreadyCalled, AlreadyCancelled, CannotListenError
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IListeningPort,
    IReactorFromThreads,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory
    from twisted.internet.protocol import ClientFactory

    from txsentinel.sim.network import SimNetwork

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


class Happening(Protocol):
    """Something in the heap. ``sequence`` names its only valid entry; entries with another number are stale."""

    sequence: int

    def fire(self, sequence: int) -> None:
        """The entry numbered ``sequence`` has come due."""


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


class World:
    """
    All there is: the time, the dice, the heap of what will happen, and the digest of what did.

    :param seed: whatever two runs have in common; the same seed gives the same run.
    """

    log = Logger()

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.time = 0
        """Microseconds since the beginning."""
        self.failures: list[RecordedFailure] = []
        self.events = 0
        """How many heap entries have been looked at."""
        self._heap: list[tuple[int, int, Happening]] = []
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

    def push(self, time: int, happening: Happening) -> None:
        """Make ``happening`` fire at ``time`` microseconds, replacing the entry that it may have already."""
        self._sequence = sequence = self._sequence + 1
        happening.sequence = sequence
        heappush(self._heap, (time, sequence, happening))

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
        self.time, sequence, happening = heappop(self._heap)
        self.events += 1
        happening.fire(sequence)
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
                self.time, sequence, happening = pop(heap)
                looked_at += 1
                # Whatever was cancelled or moved is passed over here already, for much less than a call.
                if sequence == happening.sequence:
                    happening.fire(sequence)
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


@implementer(IDelayedCall)
class SimCall:
    """A delayed call, of a host or (``owner`` ``None``) of the world itself. Cancelling costs O(1)."""

    __slots__ = ("arguments", "due", "function", "keywords", "owner", "queued_at", "sequence", "world")

    def __init__(
        self,
        world: World,
        owner: SimReactor | None,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        keywords: dict[str, object],
    ) -> None:
        self.world = world
        self.owner = owner
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.sequence = _CANCELLED
        self.due = self.queued_at = 0

    def schedule(self, due: int) -> None:
        """Enter the heap, to be called at ``due`` microseconds."""
        self.due = self.queued_at = due
        world = self.world
        world._sequence = self.sequence = sequence = world._sequence + 1
        heappush(world._heap, (due, sequence, self))

    def fire(self, sequence: int) -> None:
        """Call the function, unless this entry is stale, the host is dead, or it is stalled for now."""
        if sequence != self.sequence:
            return
        world, owner = self.world, self.owner
        if self.due > world.time:
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
                world.record_failure(owner.name, "a delayed call raised", Failure())
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
            self.world.forget_one()

    def getTime(self) -> float:
        """When it is due, in seconds of its owner's clock."""
        return self.due / SECOND if self.owner is None else self.owner.seconds_at(self.due)

    def cancel(self) -> None:
        """Never call it."""
        self._expect_pending()
        self.sequence = _CANCELLED
        self.world.forget_one()

    def delay(self, secondsLater: float) -> None:
        """Call it that much later than planned."""
        self._expect_pending()
        self._move(self.due + micros(secondsLater))

    def reset(self, secondsFromNow: float) -> None:
        """Call it that much later than now."""
        self._expect_pending()
        self._move(self.world.time + micros(secondsFromNow))

    def active(self) -> bool:
        """Is it still to come?"""
        return self.sequence >= 0


@implementer(IReactorTime, IReactorTCP, IReactorUNIX, IReactorFromThreads)
class SimReactor:
    """
    The reactor of one run of one simulated process.

    A process that is started again gets a new reactor; what still refers to the old one can do no
    harm, because nothing that is asked of a dead reactor ever happens.

    :param name: of the host, for failures and the digest.
    :param ip: where its connections come from.
    :param boot: microseconds that its monotonic clock is ahead of the world's.
    """

    def __init__(self, world: World, network: SimNetwork, name: str, ip: str, boot: int = 0) -> None:
        self.world = world
        self.network = network
        self.name = name
        self.ip = ip
        self.running = True
        self.dead = False
        self.stalled = False
        self.parked: list[Happening] = []
        """What came due during a stall, in order."""
        self.resolver: Callable[[str], Deferred[str]] | None = None
        self.turned: Callable[[], None] | None = None
        """Called after each turn of this process, for those who watch it."""
        self._boot = boot
        self._triggers: dict[str, _ThreePhaseEvent] = {}

    def __repr__(self) -> str:
        return f"<SimReactor {self.name}{' dead' if self.dead else ''}{' stalled' if self.stalled else ''}>"

    # Time

    def seconds(self) -> float:
        """Seconds of the monotonic clock of this host."""
        return (self.world.time + self._boot) / SECOND

    def seconds_at(self, time: int) -> float:
        """What :meth:`seconds` says when it is ``time`` microseconds in the world."""
        return (time + self._boot) / SECOND

    def now(self) -> int:
        """Whole milliseconds of the monotonic clock."""
        return (self.world.time + self._boot) // MILLISECOND

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> SimCall:  # zope: the protocol says IDelayedCall, which this is
        """
        Call a function once ``delay`` seconds and at least another microsecond have passed.

        No timer is ever exact. The microsecond also keeps rounding from making one early, which would
        send a ``LoopingCall`` round twice, and keeps time moving when somebody calls itself for ever.
        """
        if delay < 0:
            raise ValueError(f"cannot schedule {delay} seconds into the future")
        world = self.world
        call = SimCall(world, self, callable, args, kwargs)
        if not self.dead:
            call.schedule(world.time + round(delay * SECOND) + 1)
        return call

    def schedule(self, delay: int, function: Callable[..., object], *arguments: object) -> None:
        """Call a function of this process in exactly ``delay`` microseconds; for the simulated kernel."""
        if not self.dead:
            SimCall(self.world, self, function, arguments, {}).schedule(self.world.time + delay)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """All calls of this process that are still to come, the soonest first."""
        if self.dead:
            return []
        entries = [*self.world._heap]
        entries.sort(key=lambda entry: entry[:2])
        happenings = [*self.parked, *(entry[2] for entry in entries if entry[1] == entry[2].sequence)]
        return [call for call in happenings if isinstance(call, SimCall) and call.owner is self and call.active()]

    def guard(self, what: str, function: Callable[..., object], *arguments: object) -> Failure | None:
        """Call a function of the simulated program; what it raises is recorded and returned, as a reactor would."""
        try:
            function(*arguments)
        except Exception:
            failure = Failure()
            self.world.record_failure(self.name, what, failure)
            return failure
        return None

    # Life

    def stall(self) -> None:
        """Nothing of this process runs until :meth:`unstall`: stopped by a signal, swapped out, or a slow disk."""
        self.stalled = True

    def unstall(self) -> None:
        """Run on; everything that came due meanwhile happens now, in the order in which it came due."""
        self.stalled = False
        parked, self.parked = self.parked, []
        for happening in parked:
            if not isinstance(happening, SimCall) or happening.active():
                self.world.push(self.world.time, happening)

    def die(self) -> None:
        """The process is gone. Its calls never happen."""
        self.dead = True
        self.running = self.stalled = False
        parked, self.parked = self.parked, []
        for happening in parked:
            # What the network brought must still be answered, by the kernel.
            if not isinstance(happening, SimCall):
                self.world.push(self.world.time, happening)

    def callWhenRunning(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> object | None:
        """Call at once: a simulated reactor runs from the beginning."""
        callable(*args, **kwargs)
        return None

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Call in a turn of its own; there are no threads here."""
        self.callLater(0, callable, *args, **kwargs)

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> tuple[str, object]:
        """As in Twisted; the event that matters is ``shutdown``."""
        event = self._triggers.setdefault(eventType, _ThreePhaseEvent())
        return eventType, event.addTrigger(phase, callable, *args, **kwargs)

    def removeSystemEventTrigger(self, triggerID: tuple[str, Any]) -> None:
        """As in Twisted."""
        event_type, handle = triggerID
        self._triggers[event_type].removeTrigger(handle)

    def fireSystemEvent(self, eventType: str) -> None:
        """Call the triggers, phase by phase; Deferreds of the first phase are waited for."""
        event = self._triggers.get(eventType)
        if event is not None:
            event.fireEvent()

    def stop(self) -> None:
        """Fire the shutdown triggers; the host ends the process in the last phase."""
        self.running = False
        self.fireSystemEvent("shutdown")

    def resolve(self, name: str, timeout: Sequence[int] = ()) -> Deferred[str]:
        """Look a name up in the table of the host."""
        if self.resolver is None:
            return fail(OSError("this host has no resolver"))
        return self.resolver(name)

    # Network

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """
        Listen in the simulated network.

        :raises CannotListenError: if the port is taken or the interface is not of this host.
        """
        return self.network.listen(self, port, factory, interface)

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """Connect in the simulated network."""
        return self.network.connect(self, host, port, factory, timeout, bindAddress)

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> IListeningPort:
        """
        Refuse.

        :raises CannotListenError: always; simulated hosts have no UNIX sockets.
        """
        raise CannotListenError("unix", address, OSError("simulated hosts have no UNIX sockets"))

    def connectUNIX(
        self, address: str, factory: ClientFactory[Any], timeout: float = 30, checkPID: bool = False
    ) -> IConnector:
        """
        Refuse.

        :raises OSError: always; simulated hosts have no UNIX sockets.
        """
        raise OSError("simulated hosts have no UNIX sockets")
