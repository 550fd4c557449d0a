"""
Run simulated fleets from seeds; print each violation with the command that repeats it.

The exit status is the number of failing seeds, at most 100. If the first word is "whatif", the simulator runs your own
sentinel.conf instead: see "whatif --help". If it is "explore", every order of messages and faults of a small group is
checked instead of random ones of a large group: see "explore --help". If it is "switchovers", switchovers are broken
at every step: see "switchovers --help". If it is "needless", failovers are counted in fleets in which no server ends:
see "needless --help".
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count

from txsentinel.sim.explore.command import main as explore
from txsentinel.sim.faults import Fault, parse_plan, print_plan
from txsentinel.sim.minimising import invariant_of, minimise
from txsentinel.sim.needless import main as needless
from txsentinel.sim.run import Run, RunOutcome
from txsentinel.sim.switchover_crashes import main as switchovers
from txsentinel.sim.whatif.command import main as whatif

COMMANDS = {"whatif": whatif, "explore": explore, "switchovers": switchovers, "needless": needless}
"""The first words that select another command."""

LAST_MINUTE = 60.0
"""Seconds of transcript printed before the first violation."""

SOAK_NEWS = 60.0
"""Seconds between two progress lines of a soak."""


class SoakTotals:
    """The totals of many runs."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seeds = self.failing = 0
        self._simulated = self._cpu = 0.0
        self._faults = self._failovers = self._violations = 0

    def add(self, outcome: RunOutcome, cpu: float) -> None:
        """Add one run; ``cpu`` is in seconds of one core."""
        self.seeds += 1
        self.failing += bool(outcome.wrong)
        self._simulated += outcome.seconds
        self._cpu += cpu
        self._faults += len(outcome.faults)
        self._failovers += outcome.failovers
        self._violations += len(outcome.wrong)

    def __str__(self) -> str:
        took = max(time.monotonic() - self._began, 1e-9)
        return (
            f"{self.seeds} seeds, {self._simulated / 3600:.2f} simulated hours, {self._faults} faults, "
            f"{self._failovers} promotions, {self._violations} violations in {self.failing} seeds; "
            f"{self._simulated / took:.0f} simulated seconds per second, "
            f"{self._simulated / max(self._cpu, 1e-9):.0f} per second of a core"
        )


def main() -> int:
    """Run what the command line asks for."""
    command = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is not None:
        return command(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m txsentinel.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; 1, or for a soak a new one each time")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--seconds", type=float, default=180.0, help="simulated seconds of faults per seed")
    parser.add_argument("--plan", type=_plan, help="what goes wrong, as printed, in place of what the seed draws")
    parser.add_argument("--transcript", action="store_true", help="print what every Sentinel logged")
    parser.add_argument("--no-minimise", action="store_true", help="do not reduce a failing plan")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="run new seeds for that long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of a soak")
    options = parser.parse_args()
    if options.soak is not None:
        return _soak(options.soak * 60, options.jobs, options.seed or int(time.time()), options.seconds)
    totals = SoakTotals()
    first = 1 if options.seed is None else options.seed
    for seed in range(first, first + options.seeds):
        outcome, cpu = _run(seed, options.seconds, options.plan)
        totals.add(outcome, cpu)
        if outcome.wrong or options.transcript:
            _write(report(outcome, options.seconds, whole=options.transcript))
        if outcome.wrong and not options.no_minimise:
            _write(_cause(outcome, options.seconds))
    _write(str(totals))
    return min(totals.failing, 100)


def report(outcome: RunOutcome, seconds: float, *, whole: bool = False) -> str:
    """Describe a failing seed: its violations, the minute before, its faults, and the command that repeats it."""
    lines = [f"seed {outcome.seed}: {outcome.shape}"]
    since = 0.0 if whole else max(0.0, outcome.interesting_from - LAST_MINUTE)
    happened = [(at, f"{at:10.3f}  *** {what}") for at, what in outcome.faults]
    happened += [(line.at, str(line)) for line in outcome.lines if line.at >= since]
    lines += [f"  {text}" for _, text in sorted(happened, key=lambda entry: entry[0])]
    lines += [f"  WRONG: {wrong}" for wrong in outcome.wrong]
    lines.append(f"  again: {_command(outcome.seed, seconds)} --transcript")
    return "\n".join(lines)


def _cause(outcome: RunOutcome, seconds: float) -> str:
    plan = minimise(outcome, seconds)
    needed = f"{len(plan)} of its {len(outcome.plan)} faults break {invariant_of(outcome)}"
    return f"  {needed}: {_command(outcome.seed, seconds)} --plan '{print_plan(plan)}' --transcript"


def _command(seed: int, seconds: float) -> str:
    return f"python -m txsentinel.sim --seed {seed} --seconds {seconds:g}"


def _plan(text: str) -> list[Fault]:
    return parse_plan(text)


def _run(seed: int, seconds: float, plan: list[Fault] | None = None) -> tuple[RunOutcome, float]:
    began = time.process_time()
    outcome = Run(seed, seconds, plan).all()
    return outcome, time.process_time() - began


def _soak_one(seed: int, seconds: float) -> tuple[RunOutcome, float, str]:
    """Run one seed; return the full report if it fails, and an empty text if it does not."""
    outcome, cpu = _run(seed, seconds)
    failure_text = f"{report(outcome, seconds)}\n{_cause(outcome, seconds)}" if outcome.wrong else ""
    outcome.lines.clear()
    return outcome, cpu, failure_text


def _soak(lasts: float, jobs: int, first: int, seconds: float) -> int:
    totals = SoakTotals()
    until = time.monotonic() + lasts
    news_at = time.monotonic() + SOAK_NEWS
    _write(f"Soaking for {lasts / 60:g} minutes in {jobs} processes, from seed {first}.")
    seeds: Iterator[int] = count(first)
    with ProcessPoolExecutor(jobs) as pool:
        running: set[Future[tuple[RunOutcome, float, str]]] = set()
        while running or time.monotonic() < until:
            while len(running) < jobs and time.monotonic() < until:
                running.add(pool.submit(_soak_one, next(seeds), seconds))
            finished, running = wait(running, timeout=SOAK_NEWS, return_when=FIRST_COMPLETED)
            for future in finished:
                outcome, cpu, failure_text = future.result()
                totals.add(outcome, cpu)
                if failure_text:
                    _write(failure_text)
            if time.monotonic() >= news_at:
                news_at += SOAK_NEWS
                _write(str(totals))
    _write(str(totals))
    return min(totals.failing, 100)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
