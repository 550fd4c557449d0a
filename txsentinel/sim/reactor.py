"""The reactor of a simulated process; each run of the process has its own."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.base import _ThreePhaseEvent
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IListeningPort,
    IReactorFromThreads,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
)
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.sim.simulation import MILLISECOND, SECOND, CallOwner, ScheduledEvent, SimCall, Simulation

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory
    from twisted.internet.protocol import ClientFactory


class Network(Protocol):
    """What a reactor asks of the network that its machine is attached to."""

    def listen(self, reactor: SimReactor, port: int, factory: IProtocolFactory, interface: str) -> IListeningPort:
        """
        Return a port that is already listening.

        :raises CannotListenError: if it is taken or the interface is not of this host.
        """

    def connect(
        self,
        reactor: SimReactor,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float,
        bind: tuple[str, int] | None,
    ) -> IConnector:
        """Return a connector that is already connecting."""


class SimReactor(CallOwner):
    """
    The reactor of one run of one simulated process.

    A restarted process gets a new reactor. References to the old one are harmless: a dead reactor executes nothing.

    :param name: of the host, for failures and the digest.
    :param ip: source address of its connections.
    :param boot: microseconds by which its monotonic clock is ahead of simulated time.
    """

    def __init__(self, simulation: Simulation, network: Network, name: str, ip: str, boot: int = 0) -> None:
        super().__init__(name, boot)
        self.simulation = simulation
        self.network = network
        self.ip = ip
        self.running = True
        self.resolver: Callable[[str], Deferred[str]] | None = None
        self._read_cost = 0
        """Microseconds that one read from a connection takes; 0 if reading takes no time."""

        self._unread: dict[ScheduledEvent, int] = {}
        """Connections with data to read, in the order of arrival, and the time of arrival."""

        self._reading = False
        self._triggers: dict[str, _ThreePhaseEvent] = {}

    def __repr__(self) -> str:
        return f"<SimReactor {self.name}{' dead' if self.dead else ''}{' stalled' if self.stalled else ''}>"

    # Time

    def seconds(self) -> float:
        """Seconds of the monotonic clock of this host."""
        return (self.simulation.time + self._boot) / SECOND

    def now(self) -> int:
        """Whole milliseconds of the monotonic clock."""
        return (self.simulation.time + self._boot) // MILLISECOND

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> SimCall:  # zope: the interface requires IDelayedCall, which this is
        """
        Call a function once ``delay`` seconds and at least another microsecond have passed.

        No timer is exact. The microsecond also prevents rounding from making a call early, which would run a
        ``LoopingCall`` twice, and it makes time advance if a function reschedules itself without delay.
        """
        if delay < 0:
            raise ValueError(f"cannot schedule {delay} seconds into the future")
        simulation = self.simulation
        call = SimCall(simulation, self, callable, args, kwargs)
        if not self.dead:
            call.schedule(simulation.time + round(delay * SECOND) + 1)
        return call

    def schedule(self, delay: int, function: Callable[..., object], *arguments: object) -> None:
        """Call a function of this process in exactly ``delay`` microseconds; for the simulated kernel."""
        if not self.dead:
            SimCall(self.simulation, self, function, arguments, None).schedule(self.simulation.time + delay)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """All pending calls of this process, the soonest first."""
        if self.dead:
            return []
        entries = [*self.simulation._heap]
        entries.sort(key=lambda entry: entry[:2])
        events = [*self.deferred, *(entry[2] for entry in entries if entry[1] == entry[2].sequence)]
        return [call for call in events if isinstance(call, SimCall) and call.owner is self and call.active()]

    def guard(self, what: str, function: Callable[..., object], *arguments: object) -> Failure | None:
        """Call a function of the simulated program; record and return its exception, as a reactor would."""
        try:
            function(*arguments)
        except Exception:
            failure = Failure()
            self.simulation.record_failure(self.name, what, failure)
            return failure
        return None

    # Process state

    def stall(self) -> None:
        """Run nothing of this process until :meth:`unstall`: it is stopped, swapped out, or waits for a slow disk."""
        self.stalled = True

    def unstall(self) -> None:
        """Continue. Everything that became due meanwhile runs now, in the order in which it became due."""
        self.stalled = False
        deferred, self.deferred = self.deferred, []
        for event in deferred:
            if not isinstance(event, SimCall) or event.active():
                self.simulation.push(self.simulation.time, event)

    def slow_down(self, cost: int) -> None:
        """
        Make one read from a connection take ``cost`` microseconds, 0 for none; timers are not delayed.

        A process that reads more slowly than its peers send falls behind, while its clock does not.
        """
        self._read_cost = cost

    def postpones(self, flow: ScheduledEvent) -> bool:
        """Whether arrived data has to wait, for the end of a stall or for data that arrived before it."""
        if self.stalled:
            self.deferred.append(flow)
            return True
        if self._reading or not (self._read_cost or self._unread):
            return False
        if flow not in self._unread:
            if not self._unread:
                self.schedule(max(self._read_cost, 1), self._read_next)
            self._unread[flow] = self.simulation.time
        return True

    def _read_next(self) -> None:
        flow = next(iter(self._unread))
        del self._unread[flow]
        self._reading = True
        try:
            flow.fire(flow.sequence)
        finally:
            self._reading = False
        if self._unread:
            self.schedule(max(self._read_cost, 1), self._read_next)

    def received_until(self) -> float:
        """Return until when all arrived data has been read, in seconds of this host."""
        for arrived in self._unread.values():
            return self.seconds_at(arrived)
        return self.seconds()

    def die(self) -> None:
        """The process has ended. Its pending calls are never made."""
        self.dead = True
        self.running = self.stalled = False
        unread, self._unread = self._unread, {}
        for flow in unread:
            self.simulation.push(self.simulation.time, flow)
        deferred, self.deferred = self.deferred, []
        for event in deferred:
            # The kernel must still answer what the network delivered.
            if not isinstance(event, SimCall):
                self.simulation.push(self.simulation.time, event)

    def callWhenRunning(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> object | None:
        """Call at once: a simulated reactor is always running."""
        callable(*args, **kwargs)
        return None

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Call in a later turn; there are no threads here."""
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
        """Call the triggers, phase by phase; wait for Deferreds of the first phase."""
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


classImplements(SimReactor, IReactorTime, IReactorTCP, IReactorUNIX, IReactorFromThreads)
