"""
Break switchovers at every step, under writes of clients, and count what is lost.

Each case is a fleet of a seed, a method, a step of the operation and a fault: a moment after the step was taken, the
leader, the old master or the candidate dies, stops for a while or loses its connections. Afterwards everything is
healed, and the writes that clients got acknowledged are compared with those that the new master has. A write is not
counted if it was on one server only when that died, nor if another master than the old one acknowledged it, which died
or was cut off later: the asynchronous replication loses those in any case.

receipts: an acknowledged write of the old master that a receipt calls proven is present afterwards.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count, islice, product
from random import Random
from typing import Final

from txsentinel.core.switchover_state import Operation, receipt_of
from txsentinel.model.receipt import Receipt, ReceiptVerdict
from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.groups import Shape
from txsentinel.sim.key_writers import FAST_SECONDS, KeyWriter
from txsentinel.sim.redis.pauses import PauseReason
from txsentinel.sim.redis.server import SimRedis

STEPS: Final = {
    "fence": (
        "requested",
        "checked",
        "elected",
        "writes_held",
        "caught_up",
        "hold_extended",
        "promotion_ordered",
        "promoted",
        "demoted",
    ),
    "handover": ("requested", "checked", "elected", "promotion_ordered", "writes_held", "promoted", "clients_closed"),
}
"""Method → the steps after which something fails."""

FAULTS: Final = (
    "leader-kill",
    "leader-power",
    "leader-stop",
    "old-kill",
    "old-power",
    "old-stop",
    "old-unpause",
    "candidate-kill",
    "candidate-power",
    "candidate-stop",
    "cut-leader-old",
    "cut-leader-candidate",
    "cut-leader-others",
    "cut-old-candidate",
)

WRITERS: Final = 3

POLL_INTERVAL: Final = 0.0002
STEP_LIMIT: Final = 3.0
"""Seconds within which a step is taken, or never."""

MAX_DELAY: Final = 0.003
"""Seconds between the step and the fault, at most."""

REPAIR: Final = 14.0
"""Seconds in which the others repair what is left, before everything is healed."""


@dataclass(frozen=True, slots=True)
class Case:
    """What fails when, in which fleet."""

    seed: int
    method: str
    step: str
    fault: str

    def __str__(self) -> str:
        return f"--seed {self.seed} --method {self.method} --step {self.step} --fault {self.fault}"


@dataclass(slots=True)
class CaseOutcome:
    """What happened in one case."""

    case: Case
    reached: bool = False
    """Whether the step was taken, so that the fault happened."""

    state: str = "unknown"
    """The state of the operation; ``unknown`` if the leader forgot it."""

    verdict: str = "none"
    acknowledged: int = 0
    lost: int = 0
    """
    Writes that the old master acknowledged and that are missing, although they were on several servers or the only one
    did not die.
    """

    lost_later: int = 0
    """Writes that are missing and that another master acknowledged, which lost its role again."""

    wrong: list[str] = field(default_factory=list)


class CaseRun:
    """Runs one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.random = Random(f"switchover/{case}")
        shape = Shape(
            replicas=self.random.choice((1, 2)),
            down_after=self.random.choice((1_000, 1_000, 3_000)),
            failover_timeout=self.random.choice((3_000, 10_000)),
        )
        self.fleet = Fleet(case.seed, shape)
        self.checker = InvariantChecker(self.fleet)
        self.writers = [KeyWriter(self.fleet, number) for number in range(WRITERS)]
        self.outcome = CaseOutcome(case)
        self._single: set[bytes] = set()
        """Keys that were on one server only when that died."""

        self._receipts: list[Receipt] = []
        self._name = self.fleet.masters[0].name

    def run(self) -> CaseOutcome:
        """Run it, and compare the data."""
        fleet, outcome, simulation = self.fleet, self.outcome, self.fleet.simulation
        fleet.start()
        if not fleet.converge(30.0):
            outcome.wrong += [f"at the start: {what}" for what in fleet.disagreements()]
            return outcome
        for writer in self.writers:
            writer.fast_until = simulation.seconds() + FAST_SECONDS
            writer.host.start()
        fleet.run(0.3 + self.random.random() * 0.2)
        leader = self.random.choice(fleet.sentinels)
        old = next(server for server in fleet.servers if server.is_master)
        client = next(each for each in fleet.clients if each.target is leader.host)
        client.order("TXSENTINEL", "SWITCHOVER", self._name, "METHOD", self.case.method)
        fleet.disturbed_until = simulation.seconds() + 120.0
        outcome.reached = self._await_step(leader)
        operation = self._operation(leader)
        candidate = self._candidate(operation, old)
        if outcome.reached:
            fleet.run(self.random.random() * MAX_DELAY)
            self._break(leader, old, candidate)
        fleet.run(REPAIR)
        fleet.network.heal()
        self._restart()
        self._collect(operation)
        converged = fleet.converge(90.0)
        if not converged:
            outcome.wrong += [f"afterwards: {what}" for what in fleet.disagreements()]
        for writer in self.writers:
            writer.stopped = True
        fleet.run(0.5)
        if operation is not None:
            outcome.state = operation.state.value
        if converged:
            self._compare(old)
        outcome.wrong += [str(violation) for violation in self.checker.violations]
        outcome.wrong += [f"an exception: {failure}" for failure in simulation.failures]
        return outcome

    def _operation(self, leader: SimSentinel) -> Operation | None:
        if not leader.running:
            return None
        return next(iter(leader.alive.core.state.operations.known.values()), None)

    def _await_step(self, leader: SimSentinel) -> bool:
        fleet, limit = self.fleet, self.fleet.simulation.seconds() + STEP_LIMIT
        while fleet.simulation.seconds() < limit:
            operation = self._operation(leader)
            if operation is not None:
                if any(each.step == self.case.step for each in operation.steps):
                    return True
                if operation.ended:
                    return False
            fleet.run(POLL_INTERVAL)
        return False

    def _candidate(self, operation: Operation | None, old: SimRedis) -> SimRedis:
        others = [server for server in self.fleet.servers if server is not old]
        host = None if operation is None or operation.plan is None else operation.plan.candidate.host
        return next((server for server in others if server.host.ip == host), others[0])

    def _break(self, leader: SimSentinel, old: SimRedis, candidate: SimRedis) -> None:
        fleet = self.fleet
        who, _, what = self.case.fault.partition("-")
        machines = {"leader": leader.host, "old": old.host, "candidate": candidate.host}
        if who == "cut":
            first, _, second = what.partition("-")
            others = [each.host for each in fleet.sentinels if each is not leader]
            ends = others if second == "others" else [machines[second]]
            for end in ends:
                fleet.network.cut(machines[first], end)
            fleet.simulation.call_later(self.random.choice((0.2, 1.0, 5.0, 12.0)), fleet.network.heal)
            return
        host = machines[who]
        if what == "unpause":
            # Another client ends the pause.
            old.unpause_clients(PauseReason.CLIENT_PAUSE)
            return
        if what == "stop":
            host.pause_for(self.random.choice((0.1, 0.6, 2.0, 11.0, 12.5)))
            return
        if who != "leader":
            elsewhere: set[bytes] = set()
            for server in fleet.servers:
                if server.host is not host:
                    elsewhere |= server.data.keys()
            self._single = {key for writer in self.writers for key in writer.acknowledged if key not in elsewhere}
        if what == "kill":
            host.kill()
        else:
            host.crash()
        fleet.simulation.call_later(self.random.choice((0.1, 1.0, 4.0, 13.0)), host.restart)

    def _restart(self) -> None:
        for host in [*(each.host for each in self.fleet.sentinels), *(each.host for each in self.fleet.servers)]:
            if not host.running:
                host.restart()

    def _collect(self, operation: Operation | None) -> None:
        """Take the receipt of the operation, if it has one."""
        if operation is not None and operation.evidence is not None and operation.evidence.judgement is not None:
            order = operation.order
            found = receipt_of(order.operation_id, order.master, operation.evidence, 0)
            self._receipts.append(found)
            self.outcome.verdict = found.verdict.value

    def _compare(self, old: SimRedis) -> None:
        """Compare the acknowledged writes with the data of the master."""
        outcome = self.outcome
        masters = [server for server in self.fleet.servers if server.is_master]
        if len(masters) != 1:
            outcome.wrong.append(f"there are {len(masters)} masters")
            return
        present = masters[0].data.keys()
        acknowledged = {key: at for writer in self.writers for key, at in writer.acknowledged.items()}
        outcome.acknowledged = len(acknowledged)
        missing = acknowledged.keys() - present - self._single
        gone = [key for key in missing if acknowledged[key][1] == old.host.ip]
        outcome.lost, outcome.lost_later = len(gone), len(missing) - len(gone)
        for receipt in self._receipts:
            if receipt.verdict is ReceiptVerdict.PROVEN and gone:
                outcome.wrong.append(f"receipts: {len(gone)} writes are missing that a receipt calls proven")


def cases(first_seed: int = 1) -> Iterator[Case]:
    """Yield all combinations, then all again with other seeds."""
    table = [(method, step, fault) for method, steps in STEPS.items() for step, fault in product(steps, FAULTS)]
    for seed in count(first_seed):
        for method, step, fault in table:
            yield Case(seed, method, step, fault)


def run_case(case: Case) -> CaseOutcome:
    """Run one case."""
    return CaseRun(case).run()


@dataclass
class Totals:
    """The figures of many cases."""

    cases: int = 0
    reached: int = 0
    acknowledged: int = 0
    failing: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Method and verdict → cases."""

    losses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Method and fault → cases in which an acknowledged write was lost."""

    def add(self, outcome: CaseOutcome) -> None:
        """Add one case."""
        self.cases += 1
        self.reached += outcome.reached
        self.acknowledged += outcome.acknowledged
        self.failing += bool(outcome.wrong)
        self.verdicts[outcome.case.method, outcome.verdict] += 1
        if outcome.lost:
            self.losses[outcome.case.method, outcome.case.fault] += 1

    def __str__(self) -> str:
        verdicts = ", ".join(f"{method} {verdict} {n}" for (method, verdict), n in sorted(self.verdicts.items()))
        losses = ", ".join(f"{method} {fault} {n}" for (method, fault), n in sorted(self.losses.items())) or "none"
        return (
            f"{self.cases} cases, the step was reached in {self.reached}; {self.acknowledged} acknowledged writes; "
            f"receipts: {verdicts}; cases with lost writes: {losses}; {self.failing} cases with violations"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run cases, and print those with a violation or a loss, and the figures; return 1 after a violation."""
    parser = argparse.ArgumentParser(prog="python -m txsentinel.sim switchovers", description=__doc__)
    parser.add_argument("--cases", type=int, default=224, help="how many; 224 are all combinations once")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--method", choices=sorted(STEPS))
    parser.add_argument("--step")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after that time")
    parser.add_argument("--transcript", action="store_true", help="print what every Sentinel logged")
    options = parser.parse_args(arguments)
    wanted = (options.method, options.step, options.fault)
    chosen = (
        case
        for case in cases(options.seed)
        if all(want in (None, has) for want, has in zip(wanted, (case.method, case.step, case.fault), strict=True))
    )
    totals, began = Totals(), time.monotonic()

    def report(outcome: CaseOutcome) -> None:
        totals.add(outcome)
        if outcome.wrong or outcome.lost:
            words = outcome.wrong or [f"{outcome.lost} acknowledged writes lost, receipt {outcome.verdict}"]
            sys.stdout.write(f"{outcome.case}: {outcome.state}; {'; '.join(words)[:600]}\n")
            sys.stdout.flush()

    if options.transcript:
        run = CaseRun(next(chosen))
        report(run.run())
        sys.stdout.write("".join(f"{line}\n" for line in run.fleet.lines))
    elif options.jobs == 1:
        for case in islice(chosen, options.cases):
            report(run_case(case))
            if time.monotonic() - began > options.seconds:
                break
    else:
        with ProcessPoolExecutor(options.jobs) as pool:
            for outcome in pool.map(run_case, islice(chosen, options.cases), chunksize=4):
                report(outcome)
    sys.stdout.write(f"{totals}; {time.monotonic() - began:.0f} s\n")
    return 1 if totals.failing else 0
