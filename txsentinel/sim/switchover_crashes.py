"""
Break switchovers at every step, under writes of clients, and count what is lost.

Each case is a fleet of a seed, a setting, a method, a step of the operation and a fault: a moment after the step was
taken, the leader, the old master or the candidate dies, stops for a while or loses its connections, or an operator
cancels the operation. Afterwards everything is healed, and the writes that clients got acknowledged are compared with
those that the new master has. A write is not counted if it was on one server only when that died, nor if another master
than the old one acknowledged it, or the old one after a later failover to it, and that died or was cut off afterwards:
the asynchronous replication loses those in any case.

receipts: an acknowledged write of the old master that a receipt calls proven is present afterwards.
order:    afterwards no writes are held, all servers have the settings from before, every server follows the master,
          also according to its file, no operation is pending, and every client can write.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count, islice, product
from random import Random
from typing import Final

from txsentinel.core.switchover_state import Operation, receipt_of
from txsentinel.model.receipt import Receipt, ReceiptVerdict
from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.groups import Shape
from txsentinel.sim.key_writers import FAST_SECONDS, KeyWriter
from txsentinel.sim.redis.instance import RedisInstance, RoleChange
from txsentinel.sim.redis.pauses import PauseReason
from txsentinel.sim.redis.server import SimRedis
from txsentinel.sim.redis.settings import DEFAULTS
from txsentinel.sim.simulation import collecting_seldom

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
    "reject": (
        "requested",
        "checked",
        "elected",
        "writes_held",
        "caught_up",
        "promotion_ordered",
        "promoted",
        "demoted",
    ),
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
    "cancel",
)

OWN: Final = "own"
C_PEERS: Final = "c-peers"
SCHEDULED: Final = "scheduled"

SETTINGS: Final = (OWN, C_PEERS, SCHEDULED)
"""Three Sentinels of our kind; the same with one or two C Sentinels; a switchover at a later time."""

SCHEDULE_DELAY: Final = 2.0
"""Seconds until a scheduled switchover begins."""

WRITERS: Final = 3
POLL_INTERVAL: Final = 0.0002
STEP_LIMIT: Final = 3.0
"""Seconds within which a step is taken, or never."""

MAX_DELAY: Final = 0.003
"""Seconds between the step and the fault, at most."""

REPAIR: Final = 14.0
"""Seconds in which the others repair what is left, before everything is healed."""

OPERATION_LIMIT: Final = 30.0
"""Seconds after the healing within which every operation has ended."""

SERVICE_LIMIT: Final = 40.0
"""Seconds after that within which every client can write; it may first have to give a connection up."""


@dataclass(frozen=True, slots=True)
class Case:
    """What fails when, in which fleet."""

    seed: int
    method: str
    step: str
    fault: str
    setting: str = OWN

    def __str__(self) -> str:
        text = f"--seed {self.seed} --method {self.method} --step {self.step} --fault {self.fault}"
        return text if self.setting == OWN else f"{text} --setting {self.setting}"


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
    """Writes that are missing and that a later master acknowledged, which lost its role again."""

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
        if case.setting == C_PEERS:
            peers = self.random.choice((1, 2))
            shape = replace(shape, c_peers=peers, quorum=(shape.sentinels + peers) // 2 + 1)
        self.fleet = Fleet(case.seed, shape)
        self.checker = InvariantChecker(self.fleet)
        self.writers = [KeyWriter(self.fleet, number) for number in range(WRITERS)]
        self.outcome = CaseOutcome(case)
        self._single: set[bytes] = set()
        """Keys that were on one server only when that died."""

        self._promoted_again_at = float("inf")
        """When a later failover made the old master a master again."""

        self._receipts: list[Receipt] = []
        self._name = self.fleet.masters[0].name
        self._settings = [_settings(server) for server in self.fleet.servers]

    def run(self) -> CaseOutcome:
        """Run it, and compare the data."""
        fleet, outcome, simulation = self.fleet, self.outcome, self.fleet.simulation
        fleet.start()
        if not fleet.converge(30.0):
            outcome.wrong += [f"at the start: {what}" for what in fleet.disagreements()]
            return outcome
        scheduled = self.case.setting == SCHEDULED
        for writer in self.writers:
            writer.fast_until = simulation.seconds() + FAST_SECONDS + scheduled * SCHEDULE_DELAY
            writer.host.start()
        fleet.run(0.3 + self.random.random() * 0.2)
        leader = self.random.choice(fleet.sentinels)
        old = next(server for server in fleet.servers if server.is_master)
        client = next(each for each in fleet.clients if each.target is leader.host)
        words = ["TXSENTINEL", "SWITCHOVER", self._name, "METHOD", self.case.method]
        if scheduled:
            words += ["AT", str(round(1000 * (leader.host.wall_clock() + SCHEDULE_DELAY)))]
            # The one that begins it.
            leader = min(fleet.sentinels, key=lambda each: each.alive.core.options.my_id)
        client.order(*words)
        fleet.disturbed_until = simulation.seconds() + 120.0
        self._watch(old)
        outcome.reached = self._await_step(leader)
        operation = self._operation(leader)
        candidate = self._candidate(operation, old)
        if outcome.reached:
            fleet.run(self.random.random() * MAX_DELAY)
            self._break(leader, old, candidate, operation)
        fleet.run(REPAIR)
        fleet.network.heal()
        self._restart()
        converged = fleet.converge(90.0)
        if not converged:
            outcome.wrong += [f"afterwards: {what}" for what in fleet.disagreements()]
        self._check_order()
        self._collect(operation)
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

    def _watch(self, old: SimRedis) -> None:
        """Note when the old master is ordered to be a master again."""
        changed = old.role_changed

        def role_changed(server: RedisInstance, change: RoleChange) -> None:
            if server.is_master and not change.was_master and change.excluded is not None:
                self._promoted_again_at = min(self._promoted_again_at, self.fleet.simulation.seconds())
            if changed is not None:
                changed(server, change)

        old.role_changed = role_changed

    def _operation(self, leader: SimSentinel) -> Operation | None:
        if not leader.running:
            return None
        return next(iter(leader.alive.core.state.operations.known.values()), None)

    def _pending(self) -> bool:
        """Whether an operation has not ended at some Sentinel."""
        cores = [sentinel.alive.core for sentinel in self.fleet.sentinels if sentinel.running]
        return any(core.state.operations.pending or core.state.operations.scheduled for core in cores)

    def _check_order(self) -> None:
        """Check that nothing is left over of the operation, on no Sentinel and on no server."""
        fleet, wrong = self.fleet, self.outcome.wrong
        if not fleet.simulation.run_until(lambda: not self._pending(), OPERATION_LIMIT):
            wrong.append("order: an operation is pending still")
        began = fleet.simulation.seconds()
        if not fleet.simulation.run_until(
            lambda: all(each.acknowledged_at > began for each in self.writers), SERVICE_LIMIT
        ):
            silent = [each.host.name for each in self.writers if each.acknowledged_at <= began]
            wrong.append(f"order: {silent} cannot write")
        for server, settings in zip(fleet.servers, self._settings, strict=True):
            name = server.host.name
            wrong += [f"order: the writes of {name} are held" for reason in PauseReason if server.pause(reason)]
            if _settings(server) != settings:
                wrong.append(f"order: the settings of {name} are {_settings(server)}, before {settings}")
            if server.configured_master() != server.master_address:
                named = server.configured_master()
                wrong.append(f"order: the file of {name} names {named}, it follows {server.master_address}")
        wrong += [f"order: {what}" for what in fleet.disagreements()]

    def _await_step(self, leader: SimSentinel) -> bool:
        delay = SCHEDULE_DELAY if self.case.setting == SCHEDULED else 0.0
        fleet, limit = self.fleet, self.fleet.simulation.seconds() + STEP_LIMIT + delay
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

    def _break(self, leader: SimSentinel, old: SimRedis, candidate: SimRedis, operation: Operation | None) -> None:
        fleet = self.fleet
        if self.case.fault == "cancel":
            client = next(each for each in fleet.clients if each.target is leader.host)
            if operation is not None:
                client.order("TXSENTINEL", "CANCEL", operation.order.operation_id)
            return
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
            # Another client ends the pause, or sets what rejects the writes.
            old.unpause_clients(PauseReason.CLIENT_PAUSE)
            old.configure({"min-replicas-to-write": "0"})
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
        """Take the receipts that any Sentinel has."""
        known = [] if operation is None else [operation]
        for sentinel in self.fleet.sentinels:
            known += [] if not sentinel.running else sentinel.alive.core.state.operations.known.values()
        for each in {id(each): each for each in known}.values():
            if each.evidence is not None and each.evidence.judgement is not None:
                found = receipt_of(each.order.operation_id, each.order.master, each.evidence, 0)
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
        again_at = self._promoted_again_at
        gone = [key for key in missing if acknowledged[key][1] == old.host.ip and acknowledged[key][0] < again_at]
        outcome.lost, outcome.lost_later = len(gone), len(missing) - len(gone)
        for receipt in self._receipts:
            if receipt.verdict is ReceiptVerdict.PROVEN and gone:
                outcome.wrong.append(f"receipts: {len(gone)} writes are missing that a receipt calls proven")


def _settings(server: SimRedis) -> dict[str, str]:
    """Return the settings of a server that have not their default."""
    return {name: server.setting(name) for name, default in DEFAULTS.items() if server.setting(name) != default}


def _steps(method: str, setting: str) -> Sequence[str]:
    """Return the steps of an operation."""
    steps = STEPS[method]
    return ("scheduled", *steps[1:]) if setting == SCHEDULED else steps


def cases(first_seed: int = 1) -> Iterator[Case]:
    """Yield all combinations, then all again with other seeds."""
    for seed in count(first_seed):
        for setting, method in product(SETTINGS, STEPS):
            for step, fault in product(_steps(method, setting), FAULTS):
                yield Case(seed, method, step, fault, setting)


def run_case(case: Case) -> CaseOutcome:
    """Run one case."""
    with collecting_seldom():
        return CaseRun(case).run()


@dataclass
class Totals:
    """The figures of many cases."""

    rows: dict[tuple[str, str, str], Counter[str]] = field(default_factory=dict)
    """Setting, method and fault → what is counted."""

    def add(self, outcome: CaseOutcome) -> None:
        """Add one case."""
        case = outcome.case
        row = self.rows.setdefault((case.setting, case.method, case.fault), Counter())
        row["cases"] += 1
        row["reached"] += outcome.reached
        row["writes"] += outcome.acknowledged
        row["failing"] += bool(outcome.wrong)
        row["losing"] += bool(outcome.lost)
        row[outcome.verdict] += 1

    def sum(self, name: str) -> int:
        """Return one figure of all cases."""
        return sum(row[name] for row in self.rows.values())

    def __str__(self) -> str:
        head = f"{'setting':<10} {'method':<9} {'fault':<21}" + "".join(f"{name:>9}" for name in COLUMNS)
        lines = [head]
        for (setting, method, fault), row in sorted(self.rows.items()):
            lines.append(f"{setting:<10} {method:<9} {fault:<21}" + "".join(f"{row[name]:>9}" for name in COLUMNS))
        lines.append(f"{'all':<42}" + "".join(f"{self.sum(name):>9}" for name in COLUMNS))
        return "\n".join(lines)


COLUMNS: Final = ("cases", "reached", "writes", "none", "proven", "unproven", "lost", "losing", "failing")
"""
What is counted: cases, those whose step was taken, acknowledged writes, cases by their receipts, those in which a write
was lost, those with a violation.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run cases, and print those with a violation or a loss, and the figures; return 1 after a violation."""
    parser = argparse.ArgumentParser(prog="python -m txsentinel.sim switchovers", description=__doc__)
    parser.add_argument("--cases", type=int, default=1080, help="how many; 1080 are all combinations once")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--setting", choices=SETTINGS)
    parser.add_argument("--method", choices=sorted(STEPS))
    parser.add_argument("--step")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after that time")
    parser.add_argument("--transcript", action="store_true", help="print what every Sentinel logged")
    options = parser.parse_args(arguments)
    wanted = (options.setting, options.method, options.step, options.fault)
    chosen = (
        case
        for case in cases(options.seed)
        if all(
            want in (None, has)
            for want, has in zip(wanted, (case.setting, case.method, case.step, case.fault), strict=True)
        )
    )
    totals, began = Totals(), time.monotonic()

    def report(outcome: CaseOutcome) -> None:
        totals.add(outcome)
        if outcome.wrong or outcome.lost:
            words = outcome.wrong or [f"{outcome.lost} acknowledged writes lost, receipt {outcome.verdict}"]
            _write(f"{outcome.case}: {outcome.state}; {'; '.join(words)[:600]}")
        if totals.sum("cases") % REPORTED_CASES == 0:
            _write(str(totals))

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
    _write(f"{totals}\n{time.monotonic() - began:.0f} s")
    return 1 if totals.sum("failing") else 0


REPORTED_CASES: Final = 240
"""The figures are printed each time after that many cases."""


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
