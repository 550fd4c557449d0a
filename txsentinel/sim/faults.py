"""What goes wrong, when, and for how long: drawn from the seed, so that a seed is a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from txsentinel.sim.fault_types import KINDS, monitor
from txsentinel.sim.fleet import Fleet

__all__ = ["KINDS", "Fault", "FaultInjector", "draw_plan", "heal", "observe_all", "parse_plan", "print_plan"]


ORDERS: Final = frozenset({"manual-failover", "rival-failovers", "coordinated-failover", "set"})
"""The kinds that are no faults: operators want something."""

DRAWN_APART: Final = ("slow-sentinel", "lost-handover")
"""Kinds that are drawn apart from the others, so that they change no plan that they are not in."""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One thing that goes wrong.

    ``at`` and ``lasts`` are in seconds of world time; ``kind`` is a key of :data:`KINDS`; ``dice``
    seeds whatever else the fault has to choose, such as its victim.
    """

    at: float
    kind: str
    lasts: float
    rng: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.at:.3f}:{self.lasts:.3f}:{self.rng}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """
        The fault that prints as ``text``.

        :raises ValueError: if none does.
        """
        kind, at, lasts, rng = text.split(":")
        if kind not in KINDS:
            raise ValueError(f"no such fault: {kind}")
        return cls(float(at), kind, float(lasts), int(rng))


def draw_plan(seed: int, seconds: float, kinds: Sequence[str] | None = None) -> list[Fault]:
    """
    The faults of a run: a mixture that differs from seed to seed in kinds, number and length.

    Drawing a few kinds per run, instead of all of them thinly, lets them meet.

    :param kinds: the only ones to draw from, if not any.
    """
    random = Random(f"plan/{seed}")
    drawn = random.sample(sorted(KINDS.keys() - DRAWN_APART), random.randint(1, 6))
    if Random(f"apart/{seed}").random() < 0.15:
        drawn += DRAWN_APART
    kinds = drawn if kinds is None else kinds
    gap = random.choice((2.0, 6.0, 15.0))
    longest = random.choice((1.0, 5.0, 30.0))
    plan = []
    at = random.uniform(0.0, 2 * gap)
    while at < seconds:
        lasts = random.uniform(0.05, longest)
        plan.append(Fault(round(at, 3), random.choice(kinds), round(lasts, 3), random.getrandbits(32)))
        at += random.expovariate(1 / gap)
    return plan


class FaultInjector:
    """Carries a plan out in a fleet; ``log`` tells what was done."""

    def __init__(self, fleet: Fleet, plan: list[Fault]) -> None:
        self._fleet = fleet
        self.log: list[tuple[float, str]] = []
        for fault in plan:
            fleet.simulation.call_later(fault.at, self._inject, fault)

    def _inject(self, fault: Fault) -> None:
        if fault.kind not in ORDERS:
            fleet = self._fleet
            fleet.disturbed_until = max(fleet.disturbed_until, fleet.simulation.seconds() + fault.lasts)
        what, undo = KINDS[fault.kind](self._fleet, Random(fault.rng))
        self.log.append((self._fleet.simulation.seconds(), what))
        self._fleet.simulation.call_later(fault.lasts, undo)


def heal(fleet: Fleet) -> None:
    """End every fault: everybody runs, everything connects, every disk works."""
    fleet.network.heal()
    fleet.network.clear_degradation()
    for server in fleet.servers:
        server.end_script()
        server.claims = None
        server.load_seconds = 0.0
        server.host.resume()
        if not server.host.running:
            server.host.restart()
    for peer in fleet.c_peers:
        peer.host.resume()
        if not peer.host.running:
            peer.host.restart()
    for sentinel in fleet.sentinels:
        sentinel.host.reactor.slow_down(0)
        files = sentinel.host.files
        sentinel.host.drift = 0.0
        sentinel.host.resolver_silent, sentinel.host.resolve_delay = False, 0.005
        sentinel.host.names.update(fleet.names)
        files.fail_with, files.visible_failure = None, False
        files.interrupt = files.unreadable = None
        files.in_place = False
        files.latency = 2.0
        files.unstick()
        sentinel.host.resume()
        if not sentinel.host.running:
            sentinel.host.restart()


def observe_all(fleet: Fleet) -> None:
    """
    Put right what only operators can: have every group monitored again that was removed from a Sentinel
    without coming back, and point servers to the master that were forgotten while they followed nobody or another.
    """
    for client, sentinel in zip(fleet.clients, fleet.sentinels, strict=True):
        for group in fleet.masters:
            if not sentinel.running:
                continue
            master = sentinel.alive.core.registry.masters.get(group.name)
            if master is None:
                monitor(fleet, client, group)
                continue
            place = (master.published_address.ip, master.published_address.port)
            known = {master.address.ip, *(replica.address.ip for replica in master.replicas.values())}
            for server in group.servers:
                if server.host.ip not in known and server.address != place:
                    server.replication.follow(place)
                    server.rewrite()


def print_plan(plan: list[Fault]) -> str:
    """A plan as one word that :func:`parse_plan` understands."""
    return ",".join(str(fault) for fault in plan)


def parse_plan(text: str) -> list[Fault]:
    """
    The plan that prints as ``text``.

    :raises ValueError: if none does.
    """
    return [Fault.parse(word) for word in text.split(",") if word]
