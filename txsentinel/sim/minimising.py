"""Reduce the fault plan of a failing run by delta debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txsentinel.sim.faults import Fault
from txsentinel.sim.run import Run, RunOutcome

MAX_TRIALS = 120
"""Largest number of runs for one plan."""


def invariant_of(outcome: RunOutcome) -> str:
    """Return the invariant that the first violation names."""
    return outcome.wrong[0].partition(" ")[0]


def minimise(outcome: RunOutcome, seconds: float, trials: int = MAX_TRIALS) -> list[Fault]:
    """
    Find a plan with as few faults as possible that violates the same invariant, in at most ``trials`` runs.

    :param outcome: of a run that failed.
    :param seconds: for how long faults were injected in it.
    """
    invariant = invariant_of(outcome)

    def fails(plan: Sequence[Fault]) -> bool:
        wrong = Run(outcome.seed, seconds, list(plan), outcome.shape, invariant).all().wrong
        return any(what.partition(" ")[0] == invariant for what in wrong)

    return reduce_to_cause(outcome.plan, fails, trials)


def reduce_to_cause(
    plan: Sequence[Fault], fails: Callable[[Sequence[Fault]], bool], trials: int = MAX_TRIALS
) -> list[Fault]:
    """
    Remove what ``fails(plan)`` does not need: halves first, then ever smaller parts.

    The plan is returned whole if nothing can be removed, or if the failure cannot be repeated.
    """
    present = list(plan)
    parts = 2
    while len(present) > 1 and trials > 0:
        size = max(1, len(present) // parts)
        for start in range(0, len(present), size):
            rest = present[:start] + present[start + size :]
            trials -= 1
            if fails(rest):
                present, parts = rest, max(parts - 1, 2)
                break
            if trials <= 0:
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(present))
    if len(present) == 1 and trials > 0 and fails([]):
        return []
    return present
