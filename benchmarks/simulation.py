"""
Speed of the simulator: a fleet of five Sentinels, three masters and six replicas, quiet and in a soak.

Measured in seconds of a core, on which other work on the machine has the least influence. The best of several slices of
simulated time is what the machine can do, the median what it did. Run with ``python -m benchmarks.simulation``.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import median

from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape
from txsentinel.sim.run import Run

QUIET = Shape(sentinels=5, masters=3, replicas=2, quorum=3)
"""The size of the fleet; each master has this number of replicas."""

TIME_SLICE_MS = 10.0
"""Simulated seconds of one measurement; all periodic work of a quiet fleet occurs in that time."""


def measure(checked: bool, slices: int) -> list[float]:
    """
    Simulated seconds per second of a core, once per slice.

    :param checked: whether the invariant checker runs.
    :raises RuntimeError: if the fleet is not quiet.
    """
    fleet = Fleet(1, QUIET)
    checker = InvariantChecker(fleet) if checked else None
    fleet.start()
    if not fleet.converge():
        raise RuntimeError("; ".join(fleet.disagreements()))
    fleet.run(TIME_SLICE_MS)
    rates = []
    for _ in range(slices):
        began = time.process_time()
        fleet.run(TIME_SLICE_MS)
        rates.append(TIME_SLICE_MS / (time.process_time() - began))
    if fleet.simulation.failures or (checker is not None and checker.violations):
        raise RuntimeError("the fleet is not quiet")
    return rates


FAULTY = 180.0
"""Simulated seconds of faults in each seed, as in a soak."""


def soak(seeds: int) -> list[float]:
    """
    Simulated seconds per second of a core, once per seed, with the faults that the seed draws and all checks.

    :raises RuntimeError: if an invariant is violated.
    """
    rates = []
    for seed in range(1, seeds + 1):
        began = time.process_time()
        outcome = Run(seed, FAULTY, shape=QUIET).all()
        rates.append(outcome.seconds / (time.process_time() - began))
        if outcome.wrong:
            raise RuntimeError(f"seed {seed}: {outcome.wrong[0]}")
    return rates


def main() -> None:
    """Print a line without the checker, one with it, and one with faults as well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--slices", type=int, default=12, help="how often to measure")
    parser.add_argument("--seeds", type=int, default=6, help="how many seeds with faults")
    options = parser.parse_args()
    measured = (
        ("bare", measure(False, options.slices)),
        ("with the checker", measure(True, options.slices)),
        ("with faults", soak(options.seeds)),
    )
    for name, rates in measured:
        sys.stdout.write(
            f"{name}: {max(rates):.0f} simulated seconds per second of a core at best, {median(rates):.0f} as a rule\n"
        )


if __name__ == "__main__":
    main()
