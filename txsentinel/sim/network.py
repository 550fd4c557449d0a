"""
The simulated network: reachability, latency, and the faults that change them.

Faults act on machines, that is on IP addresses; several simulated processes may share one. Every method takes hosts or
addresses.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from txsentinel.sim.flows import Path
from txsentinel.sim.simulation import MILLISECOND, SECOND
from txsentinel.sim.sockets import SocketLayer
from txsentinel.sim.tcp import SimTransport

if TYPE_CHECKING:
    from txsentinel.sim.reactor import SimReactor
    from txsentinel.sim.simulation import Simulation

LOOPBACK_LATENCY: Final = 20
"""Microseconds between two processes of one machine."""

RETRANSMIT_LIMIT: Final = 2 * SECOND
"""Longest time, in microseconds, between the healing of a path and the next retransmission."""


class HasAddress(Protocol):
    """An object at an address, such as a host."""

    @property
    def ip(self) -> str:
        """IPv4 address of the machine."""


Place: TypeAlias = "HasAddress | str"


def _ip(place: Place) -> str:
    return place if isinstance(place, str) else place.ip


class SimNetwork(SocketLayer):
    """
    Paths between machines, and the connections that use them.

    :param latency: milliseconds of latency, one way.
    :param jitter: largest number of additional milliseconds.
    """

    def __init__(self, simulation: Simulation, latency: float = 0.2, jitter: float = 0.2) -> None:
        super().__init__(simulation)
        self.latency = latency
        self.jitter = jitter
        self._down: dict[str, None] = {}
        self._isolated: dict[str, None] = {}
        self._paths: dict[tuple[str, str], Path] = {}

    # Faults

    def cut(self, a: Place, b: Place, both: bool = True) -> None:
        """
        Block traffic from ``a`` to ``b``, and back if ``both`` is set.

        Bytes in flight wait and are retransmitted after :meth:`heal`; connection attempts are not answered.
        """
        self._cut(self.path(_ip(a), _ip(b)), True)
        if both:
            self._cut(self.path(_ip(b), _ip(a)), True)

    def isolate(self, host: Place) -> None:
        """Block all traffic of this machine; its own processes still reach each other."""
        self._isolated[_ip(host)] = None
        self.simulation.note("isolate", _ip(host))
        self._update()

    def partition(self, *groups: list[Place]) -> None:
        """Cut all paths between hosts of different groups; hosts in no group keep all their paths."""
        for number, group in enumerate(groups):
            for other in groups[number + 1 :]:
                for a in group:
                    for b in other:
                        self.cut(a, b)

    def heal(self, a: Place | None = None, b: Place | None = None) -> None:
        """
        Undo :meth:`cut` and :meth:`isolate`: between two machines, of one machine, or (without arguments) all.

        ``heal(a, b)`` undoes cuts only; an isolated machine stays isolated.
        """
        if a is None:
            self._isolated.clear()
            paths = [*self._paths.values()]
        elif b is None:
            self._isolated.pop(_ip(a), None)
            paths = [path for path in self._paths.values() if _ip(a) in (path.source, path.target)]
        else:
            paths = [self.path(_ip(a), _ip(b)), self.path(_ip(b), _ip(a))]
        for path in paths:
            path.cut = False
        self.simulation.note("heal", *(_ip(place) for place in (a, b) if place is not None))
        self._update()

    def reset(self, a: Place, b: Place) -> int:
        """Reset every connection between two machines at both ends; return the number."""
        ends = self._between(a, b)
        for end in ends:
            end.reactor.schedule(0, end.lost, Failure(ConnectionLost("connection reset by peer")))
        return len({end.serial // 2 for end in ends})

    def reject(self, a: Place, b: Place) -> int:
        """
        Reset every connection between two machines, and refuse each attempt of ``a`` to connect to ``b``.

        A firewall does that, while the processes on ``b`` are well. Return the number of connections.
        """
        self.rejecting[_ip(a), _ip(b)] = None
        return self.reset(a, b)

    def admit(self, a: Place, b: Place) -> None:
        """Undo :meth:`reject`."""
        self.rejecting.pop((_ip(a), _ip(b)), None)

    def half_open(self, a: Place, b: Place) -> int:
        """
        Make ``b`` lose its end of every connection with ``a`` without notifying ``a``; return the number.

        What ``a`` sends on them is dropped without an answer, as by a firewall that lost its state.
        """
        ends = [end for end in self._between(a, b) if end.reactor.ip == _ip(b)]
        for end in ends:
            end.inbound.path = self._blackhole(end.inbound.path)
            end.outbound.drop_in_flight()
            end.outbound.path = self._blackhole(end.outbound.path)
            end.reactor.schedule(0, end.lost, Failure(ConnectionLost("connection reset by peer")))
        return len(ends)

    def slow(self, a: Place, b: Place, latency: float, jitter: float = 0.0, both: bool = True) -> None:
        """Add ``latency`` and up to ``jitter`` milliseconds between two machines."""
        for path in (self.path(_ip(a), _ip(b)), self.path(_ip(b), _ip(a)))[: 2 if both else 1]:
            path.latency, path.jitter = round(latency * MILLISECOND), round(jitter * MILLISECOND)

    def lose(self, a: Place, b: Place, chance: float) -> None:
        """Lose segments between two machines with this probability; they are retransmitted after 200 ms."""
        self.path(_ip(a), _ip(b)).loss = self.path(_ip(b), _ip(a)).loss = chance

    def clear_degradation(self) -> None:
        """Undo every :meth:`slow` and :meth:`lose`."""
        for path in self._paths.values():
            if path.degraded:
                path.restored_at = self.simulation.time
            path.latency, path.jitter, path.loss = path.usual_latency, path.usual_jitter, 0.0

    def reachable(self, a: Place, b: Place) -> bool:
        """Whether traffic passes from ``a`` to ``b`` and back."""
        return not any(path.blocked for path in self.route(_ip(a), _ip(b)))

    @property
    def disturbed(self) -> bool:
        """Whether any path between machines that have power is cut, slowed or lossy."""
        down = self._down
        for path in self._paths.values():
            if path.degraded and path.source not in down and path.target not in down:
                return True
        return False

    # Power and processes; used by hosts

    def take_down(self, ip: str, refuse: bool) -> None:
        """
        A machine lost its power. With ``refuse``, connection attempts are refused in place of being left unanswered.
        """
        self._down[ip] = None
        if refuse:
            self.refusing[ip] = None
        self._update()

    def bring_up(self, ip: str) -> None:
        """A machine has power again; its kernel has no connections."""
        self._down.pop(ip, None)
        self.refusing.pop(ip, None)
        self._update()

    def process_gone(self, reactor: SimReactor, silently: bool) -> None:
        """Close what a dead process held; with ``silently`` the other ends are not notified."""
        self.simulation.note("gone", reactor.name)
        self.close_all(reactor, silently)

    # For connections

    def path(self, source: str, target: str) -> Path:
        """The path from one machine to another."""
        path = self._paths.get((source, target))
        if path is None:
            path = self._paths[source, target] = Path(source, target, *self._usual_delay(source, target))
            self._update_path(path)
        return path

    # Internals

    def _usual_delay(self, source: str, target: str) -> tuple[int, int]:
        if source == target:
            return LOOPBACK_LATENCY, 0
        return round(self.latency * MILLISECOND), round(self.jitter * MILLISECOND)

    def _between(self, a: Place, b: Place) -> list[SimTransport]:
        pair = sorted((_ip(a), _ip(b)))
        return [
            end
            for end in self.connections.values()
            if sorted((end.outbound.path.source, end.outbound.path.target)) == pair
        ]

    def _blackhole(self, path: Path) -> Path:
        void = Path(path.source, path.target, path.latency, path.jitter)
        void.cut = void.blocked = True
        void.since = self.simulation.time
        return void

    def _cut(self, path: Path, cut: bool) -> None:
        path.cut = cut
        self.simulation.note("cut", path.source, path.target)
        self._update_path(path)

    def _update(self) -> None:
        for path in [*self._paths.values()]:
            self._update_path(path)

    def _update_path(self, path: Path) -> None:
        source, target = path.source, path.target
        apart = source != target and (source in self._isolated or target in self._isolated)
        blocked = path.cut or apart or source in self._down or target in self._down
        if blocked == path.blocked:
            return
        path.blocked = blocked
        if blocked:
            path.since = self.simulation.time
            return
        path.restored_at = self.simulation.time
        # Retransmissions back off: the longer the outage, the longer until the next one.
        longest = min(self.simulation.time - path.since, RETRANSMIT_LIMIT)
        waiting, path.waiting = path.waiting, []
        for flow in waiting:
            flow.wake(path.delay(self.simulation.random) + int(self.simulation.random.random() * longest))
