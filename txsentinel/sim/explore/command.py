"""
Enumerate the orders of messages, losses, timeouts, crashes and restarts of a small group, and check every state.

Three Sentinels with the real core watch a master and two replicas. Each scenario is an undisturbed run; from every
state of it, all other ways are taken up to a depth. The invariants S1 to S17 and the durability of all that is sent
are checked in every step. A violation is printed with the shortest way to it, which --replay repeats.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from txsentinel.sim.explore.group import Group
from txsentinel.sim.explore.scenarios import SCENARIOS, Scenario, first_states, scenario
from txsentinel.sim.explore.search import Search, SearchOutcome
from txsentinel.sim.explore.traces import Trace, format_way, parse_way

PROGRESS_INTERVAL = 60.0
"""Seconds between two progress lines."""


@dataclass
class ScenarioResult:
    """The outcome of one scenario; ``report`` has its violations with the ways to them, empty if there are none."""

    outcome: SearchOutcome
    firsts: int
    seconds: float
    cpu_seconds: float
    local_states: int
    report: str

    def __str__(self) -> str:
        """Return the figures."""
        outcome = self.outcome
        end = "all of them" if outcome.complete else "stopped by a limit"
        return (
            f"{outcome.states} distinct states of {outcome.transitions} reached, {self.firsts} of them first states; "
            f"depth {outcome.depth}, {end}; {self.local_states} states of single Sentinels; "
            f"{self.seconds:.1f} s, {outcome.states / max(self.seconds, 1e-9):.0f} distinct states per second, "
            f"{outcome.states / max(self.cpu_seconds, 1e-9):.0f} per second of a core"
        )


def explore(
    chosen: Scenario,
    *,
    max_depth: int,
    max_states: int = 1 << 40,
    seconds: float = 1e9,
    progress: bool = False,
    max_violations: int = 1,
) -> ScenarioResult:
    """Search one scenario until a limit is reached."""
    began, cpu_began = time.monotonic(), time.process_time()
    news_at = began + PROGRESS_INTERVAL
    group = Group(chosen.settings)
    firsts = first_states(group, chosen)

    def result(outcome: SearchOutcome, report: str) -> ScenarioResult:
        local_states = sum(len(each) for each in group.sentinels)
        took, used = time.monotonic() - began, time.process_time() - cpu_began
        return ScenarioResult(outcome, len(firsts), took, used, local_states, report)

    def may_continue(outcome: SearchOutcome) -> bool:
        nonlocal news_at
        now = time.monotonic()
        if progress and now >= news_at:
            news_at += PROGRESS_INTERVAL
            _write(f"{chosen.name}: {result(outcome, '')}")
        return now - began < seconds

    search = Search(
        group,
        [each.state for each in firsts],
        max_depth=max_depth,
        max_states=max_states,
        may_continue=may_continue,
        max_violations=max_violations,
    )
    outcome = search.run()
    report = ""
    for violation in outcome.violations:
        way = (*firsts[violation.first].way, *violation.steps)
        report += f"{violation.broken}\n{Trace(chosen.settings, way)}\n{_again(chosen, way)}\n"
    return result(outcome, report)


def _again(chosen: Scenario, way: tuple[int, ...]) -> str:
    return f"again: python -m txsentinel.sim explore --scenario {chosen.name} --replay '{format_way(way)}'"


def main(arguments: list[str]) -> int:
    """Run the command; the exit status is the number of scenarios with a violation."""
    names = [each.name for each in SCENARIOS]
    epilog = "scenarios:\n" + "\n".join(f"  {each.name:18}{each.about}" for each in SCENARIOS)
    parser = argparse.ArgumentParser(
        prog="python -m txsentinel.sim explore",
        description=__doc__,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenario", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--depth", type=int, default=1_000, help="steps that are taken from each first state")
    parser.add_argument("--states", type=int, default=1 << 40, help="distinct states of a scenario")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all scenarios together")
    parser.add_argument("--replay", metavar="STEPS", help="take these steps from the stable group, and print them")
    options = parser.parse_args(arguments)
    chosen = [scenario(name) for name in options.scenario or names]
    if options.replay is not None:
        return _replay(chosen[0], options.replay)
    failing = 0
    for each in chosen:
        seconds = options.minutes * 60 / len(chosen)
        result = explore(each, max_depth=options.depth, max_states=options.states, seconds=seconds, progress=True)
        _write(f"{each.name}: {result}")
        if result.report:
            failing += 1
            _write(result.report)
    return failing


def _replay(chosen: Scenario, text: str) -> int:
    try:
        way = parse_way(text)
    except ValueError as error:
        _write(str(error))
        return 2
    trace = Trace(chosen.settings, way)
    _write(str(trace))
    return int(bool(trace.broken))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
