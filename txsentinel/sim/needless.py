"""
Count failovers without need: in simulated fleets in which no server ends, whatever else fails.

Each seed is a fleet of three Sentinels, one master and two replicas with ``crash-failover on``, and with
``fence-isolated on`` in every second one. Servers and Sentinels hang, are cut off, are slowed down or lose connections,
Sentinels die and clocks jump, but no process of a server ends. An automatic failover is *needless* if, when it is
begun, a majority of the Sentinels could use the master for so long that every report of the opposite is outdated,
*late* if they could use it for a second, and justified otherwise. Masters that are taken for crashed are counted, too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from txsentinel.sim.faults import draw_plan
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.host import SimHost
from txsentinel.sim.run import Run, RunOutcome, draw_shape
from txsentinel.sim.simulation import MILLISECOND

NO_CRASHES: Final = (
    "pause-server",
    "pause-group",
    "busy-server",
    "pause-sentinel",
    "slow-sentinel",
    "isolate-sentinel",
    "isolate-server",
    "cut-pair",
    "split",
    "reset",
    "half-open",
    "slow-network",
    "uneven-network",
    "lossy-network",
    "directional-block",
    "reject-pair",
    "wall-clock",
)
"""Faults in which no process ends."""

FAULT_TYPES: Final = (
    *NO_CRASHES,
    "kill-sentinel",
    "pause-writes",
    "refuse-sentinels",
    "skewed-clock",
    "slow-disk",
    "starve-sentinel",
    "stuck-disk",
)
"""The same, and others in which no process of a server ends."""

SECONDS: Final = 600.0
"""Simulated seconds of faults in each seed."""

SAMPLE_INTERVAL: Final = 0.2
"""Seconds between two inspections of the network."""

LATE_SECONDS: Final = 1.0
"""Seconds for which a majority can use the master again when a failover is late."""

OUTDATED_SECONDS: Final = 8.0
"""Seconds, besides ``down-after-milliseconds``, after which no report is left: five, and a new connection."""


class MasterAvailability:
    """Measures for how long each Sentinel can use each master, and sorts the failovers by that."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._usable: dict[tuple[str, str], list[list[float]]] = {}
        """Name of a Sentinel and IP of a master → periods in which they can exchange PINGs in time, and are sampled."""

        self.attempts = 0
        """Automatic failovers that were begun."""

        self.late: list[str] = []
        self.needless: list[str] = []
        self._sample()

    def _sample(self) -> None:
        self._fleet.simulation.call_later(SAMPLE_INTERVAL, self._sample)
        now = self._fleet.simulation.seconds()
        for server in self._fleet.servers:
            if server.is_master:
                host = server.host
                works = host.running and not (host.reactor.stalled or server.busy or server.loading or server.refusals)
                for sentinel in self._fleet.sentinels:
                    if works and self._connected(sentinel.host, host):
                        self._extend(self._usable.setdefault((sentinel.name, host.ip), []), now)

    @staticmethod
    def _extend(periods: list[list[float]], now: float) -> None:
        if periods and now - periods[-1][1] < 1.5 * SAMPLE_INTERVAL:
            periods[-1][1] = now
        else:
            periods.append([now, now])

    def _connected(self, sentinel: SimHost, server: SimHost) -> bool:
        network = self._fleet.network
        if not sentinel.running or sentinel.reactor.stalled or (sentinel.ip, server.ip) in network.rejecting:
            return False
        delay = 0
        for path in network.route(sentinel.ip, server.ip):
            delay += path.latency + path.jitter
            if path.blocked or path.loss:
                return False
        return delay <= self._fleet.shape.down_after * MILLISECOND // 8

    def evaluate(self) -> None:
        """Sort the failovers in the transcript. Nobody orders one here."""
        for line in self._fleet.lines:
            words = line.text.split()
            if words[:1] == ["+try-failover"]:
                self.begun(line.at, line.who, words[2], words[3])

    def begun(self, at: float, who: str, name: str, ip: str) -> None:
        """A Sentinel has begun to fail a master over at that time."""
        self.attempts += 1
        seconds = self._majority_seconds(at, ip)
        text = f"{at:.3f} s: {who} fails {name} over, which was usable for {seconds:.1f} s"
        if seconds >= OUTDATED_SECONDS + self._fleet.shape.down_after / 1000:
            self.needless.append(text)
        elif seconds >= LATE_SECONDS:
            self.late.append(text)

    def _majority_seconds(self, at: float, ip: str) -> float:
        """Return for how many seconds before that time a majority of the Sentinels could use the master."""
        durations = []
        for sentinel in self._fleet.sentinels:
            periods = self._usable.get((sentinel.name, ip), ())
            starts = [start for start, end in periods if start <= at < end + 1.5 * SAMPLE_INTERVAL]
            durations.append(at - starts[-1] if starts else 0.0)
        return sorted(durations)[(len(durations) - 1) // 2]


@dataclass(slots=True)
class SeedOutcome:
    """What happened in one seed."""

    run: RunOutcome
    attempts: int
    verdicts: int
    late: list[str]
    needless: list[str]


def run_seed(seed: int, seconds: float = SECONDS) -> SeedOutcome:
    """Run one seed: faults, healing, agreement."""
    shape = replace(
        draw_shape(seed),
        sentinels=3,
        masters=1,
        replicas=2,
        unwilling=0,
        c_peers=0,
        quorum=2,
        crash_failover=True,
        fence_isolated=seed % 2 == 0,
    )
    run = Run(seed, seconds, draw_plan(seed, seconds, FAULT_TYPES), shape)
    found = MasterAvailability(run.fleet)
    outcome = run.faults_only()
    found.evaluate()
    return SeedOutcome(outcome, found.attempts, run.checker.crashes.verdicts, found.late, found.needless)


@dataclass
class NeedlessTotals:
    """The figures of many seeds."""

    seeds: int = 0
    seconds: float = 0.0
    faults: int = 0
    attempts: int = 0
    promotions: int = 0
    late: int = 0
    needless: int = 0
    verdicts: int = 0
    violations: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, outcome: SeedOutcome) -> None:
        """Add one seed."""
        self.seeds += 1
        self.seconds += outcome.run.seconds
        self.faults += len(outcome.run.faults)
        self.attempts += outcome.attempts
        self.promotions += outcome.run.failovers
        self.late += len(outcome.late)
        self.needless += len(outcome.needless)
        self.verdicts += outcome.verdicts
        self.violations += len(outcome.run.wrong)

    def __str__(self) -> str:
        return (
            f"{self.seeds} seeds, {self.seconds / 3600:.2f} simulated hours, {self.faults} faults, {self.attempts} "
            f"failovers begun, {self.promotions} promotions, {self.late} late, {self.needless} needless, "
            f"{self.verdicts} masters taken for crashed, {self.violations} violations"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run seeds, and print what is late, needless or wrong, and the figures; return 1 unless all is well."""
    parser = argparse.ArgumentParser(prog="python -m txsentinel.sim needless", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=6, help="how many; six are about an hour")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="simulated seconds of faults per seed")
    parser.add_argument("--transcript", action="store_true", help="print what every Sentinel logged")
    options = parser.parse_args(arguments)
    totals, began = NeedlessTotals(), time.process_time()
    for seed in _progress(options.seed, options.seeds, totals):
        outcome = run_seed(seed, options.seconds)
        totals.add(outcome)
        run = outcome.run
        if options.transcript:
            lines = [(at, f"{at:10.3f}  *** {what}") for at, what in run.faults]
            lines += [(line.at, str(line)) for line in run.lines]
            _write("\n".join(text for _, text in sorted(lines, key=lambda line: line[0])))
        for kind, texts in (("late", outcome.late), ("NEEDLESS", outcome.needless), ("WRONG", run.wrong)):
            for text in texts:
                _write(f"seed {seed}: {kind}: {text[:500]}")
    speed = totals.seconds / max(time.process_time() - began, 1e-9)
    _write(f"{totals}; {speed:.0f} simulated seconds per second of a core")
    return 1 if totals.needless or totals.verdicts or totals.violations else 0


def _progress(first: int, seeds: int, totals: NeedlessTotals) -> Iterator[int]:
    """Yield the seeds, and print the figures after each hundred."""
    for seed in range(first, first + seeds):
        if totals.seeds and totals.seeds % 100 == 0:
            _write(f"seeds {first} to {seed - 1}: {totals}")
        yield seed


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
