"""One seed from beginning to end: a fleet, its faults, the healing, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from txsentinel.sim.checks import Witness
from txsentinel.sim.faults import Fault, FaultInjector, draw_plan, heal, watch_all
from txsentinel.sim.fleet import Fleet, Line, Shape

START_LIMIT = 30.0
"""Seconds within which a healthy fleet knows all of itself."""

CONVERGENCE_LIMIT = 120.0
"""
Seconds after the last fault within which everybody agrees (L1 to L6): TILT, two failover-timeouts, an
election, the conversion of a returned master, and a repair after another failover-timeout.
"""

WAITS_FOR_OPERATORS = (3.0, 3.0)
"""Seconds after which an operator looks whether everything is monitored, having given all time to start."""


@dataclass(slots=True)
class Outcome:
    """What became of a seed; times in seconds of world time."""

    seed: int
    shape: Shape
    seconds: float
    faults: list[tuple[float, str]]
    lines: list[Line]
    wrong: list[str]
    interesting_from: float
    failovers: int
    digest: str
    converged_after: float | None


def draw_shape(seed: int) -> Shape:
    """A fleet of a size that differs from seed to seed."""
    random = Random(f"shape/{seed}")
    sentinels = random.choice((3, 3, 3, 5))
    quorum = random.choice((sentinels // 2 + 1, sentinels // 2 + 1, 1, sentinels))
    replicas = random.choice((1, 2, 2, 3))
    return Shape(
        sentinels=sentinels,
        masters=random.choice((1, 1, 2, 3)),
        replicas=replicas,
        quorum=quorum,
        down_after=random.choice((300, 1_000, 1_000, 3_000)),
        failover_timeout=random.choice((3_000, 10_000)),
        parallel_syncs=random.choice((1, 2)),
        unwilling=random.choice((0, 0, 0, 1)) if replicas > 1 else 0,
        hostnames=random.random() < 0.2,
    )


def run_seed(seed: int, seconds: float, plan: list[Fault] | None = None) -> Outcome:
    """
    Start a fleet, let things go wrong for ``seconds``, heal it, and see whether it comes to agree.

    :param plan: what goes wrong, in place of what the seed would draw.
    """
    shape = draw_shape(seed)
    fleet = Fleet(seed, shape)
    witness = Witness(fleet)
    fleet.start()
    wrong: list[str] = []
    if not fleet.settle(START_LIMIT):
        wrong += [f"L5 at the start: {what}" for what in fleet.disagreements()]
    injector = FaultInjector(fleet, draw_plan(seed, seconds) if plan is None else plan)
    fleet.run(seconds)
    heal(fleet)
    healed_at = fleet.world.seconds()
    fleet.run(max((fault.lasts for fault in (plan or draw_plan(seed, seconds))), default=0.0))
    heal(fleet)
    for wait in WAITS_FOR_OPERATORS:
        fleet.run(wait)
        watch_all(fleet)
    converged = fleet.settle(CONVERGENCE_LIMIT)
    if not converged:
        wrong += [f"L2/L3 after healing: {what}" for what in fleet.disagreements()]
    wrong += [str(violation) for violation in witness.violations]
    wrong += [f"an exception: {failure}" for failure in fleet.world.failures]
    first = witness.violations[0].at if witness.violations else fleet.world.seconds()
    return Outcome(
        seed,
        shape,
        fleet.world.seconds(),
        injector.log,
        fleet.lines,
        wrong,
        first,
        witness.failovers,
        fleet.world.digest(),
        fleet.world.seconds() - healed_at if converged else None,
    )
