"""Fault plans: which faults occur, when, and for how long. A plan is drawn from the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from txsentinel.sim.fault_types import FAULT_TYPES
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.operator_orders import monitor

__all__ = ["FAULT_TYPES", "Fault", "FaultInjector", "draw_plan", "heal", "observe_all", "parse_plan", "print_plan"]


ORDERS: Final = frozenset({"manual-failover", "rival-failovers", "coordinated-failover", "pause-failovers", "set"})
"""Fault types that are orders of operators, not faults."""

RESTARTS: Final = frozenset({"empty", "supervised-restart"})
"""Fault types after which every deadline of the Sentinels applies."""

SEPARATELY_DRAWN: Final = ("slow-sentinel", "lost-handover")
"""Fault types drawn separately, so that adding them changes no plan without them."""

ONLY_BY_NAME: Final = frozenset(
    {"reject-pair", "foreign-master", "isolate-with-minority", "pause-failovers", "refuse-sentinels", "starve-sentinel"}
)
"""
Fault types that a plan has only if they are named. A server that is a replica of two groups may be promoted by either,
which no Sentinel can resolve.
"""

DATA_FAULTS: Final = ("supervised-restart", "set-priority")
"""The same for faults that matter for the data."""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault.

    ``at`` and ``lasts`` are in seconds of simulated time; ``kind`` is a key of :data:`FAULT_TYPES`; ``rng`` seeds the
    other choices of the fault, such as its victim.
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
        Parse a fault from its text.

        :raises ValueError: if the text is not that of a fault.
        """
        kind, at, lasts, rng = text.split(":")
        if kind not in FAULT_TYPES:
            raise ValueError(f"no such fault: {kind}")
        return cls(float(at), kind, float(lasts), int(rng))


def draw_plan(seed: int, seconds: float, fault_types: Sequence[str] | None = None) -> list[Fault]:
    """
    Draw the faults of a run: fault types, number and duration differ from seed to seed.

    A run uses few fault types, so that faults of these types overlap.

    :param fault_types: the types to draw from; by default some are drawn.
    """
    random = Random(f"plan/{seed}")
    apart = ONLY_BY_NAME.union(SEPARATELY_DRAWN, DATA_FAULTS)
    drawn = random.sample(sorted(FAULT_TYPES.keys() - apart), random.randint(1, 6))
    if Random(f"apart/{seed}").random() < 0.15:
        drawn += SEPARATELY_DRAWN
    if Random(f"data/{seed}").random() < 0.25:
        drawn += DATA_FAULTS
    fault_types = drawn if fault_types is None else fault_types
    gap = random.choice((2.0, 6.0, 15.0))
    max_duration = random.choice((1.0, 5.0, 30.0))
    plan = []
    at = random.uniform(0.0, 2 * gap)
    while at < seconds:
        lasts = random.uniform(0.05, max_duration)
        plan.append(Fault(round(at, 3), random.choice(fault_types), round(lasts, 3), random.getrandbits(32)))
        at += random.expovariate(1 / gap)
    return plan


class FaultInjector:
    """Inject the faults of a plan; ``log`` lists what was done."""

    def __init__(self, fleet: Fleet, plan: list[Fault]) -> None:
        self._fleet = fleet
        self.log: list[tuple[float, str]] = []
        for fault in plan:
            fleet.simulation.call_later(fault.at, self._inject, fault)

    def _inject(self, fault: Fault) -> None:
        if fault.kind not in ORDERS | RESTARTS:
            fleet = self._fleet
            fleet.disturbed_until = max(fleet.disturbed_until, fleet.simulation.seconds() + fault.lasts)
        what, undo = FAULT_TYPES[fault.kind](self._fleet, Random(fault.rng))
        self.log.append((self._fleet.simulation.seconds(), what))
        self._fleet.simulation.call_later(fault.lasts, undo)


def heal(fleet: Fleet) -> None:
    """End every fault: all processes run, all paths are open, all disks work."""
    fleet.network.heal()
    fleet.network.clear_degradation()
    for server in fleet.servers:
        server.end_script()
        server.claimed_role = None
        server.configure({"replica-priority": server.first_priority})
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
    Repair what only operators can repair.

    Monitor each group again that was removed from a Sentinel, and redirect servers to the master that no Sentinel knows
    any more because they followed another server.
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
            ips = {server.host.ip for server in group.servers}
            if any(replica.address.ip not in ips for replica in master.replicas.values()):
                client.order("SENTINEL", "RESET", group.name)
            known = {master.address.ip, *(replica.address.ip for replica in master.replicas.values())}
            for server in group.servers:
                outside = server.master_address is not None and server.master_address[0] not in ips
                if (server.host.ip not in known and server.address != place) or outside:
                    server.replication.follow(place)
                    server.rewrite()


def print_plan(plan: list[Fault]) -> str:
    """Format a plan as one word for :func:`parse_plan`."""
    return ",".join(str(fault) for fault in plan)


def parse_plan(text: str) -> list[Fault]:
    """
    Parse a plan from its text.

    :raises ValueError: if the text is not that of a plan.
    """
    return [Fault.parse(word) for word in text.split(",") if word]
