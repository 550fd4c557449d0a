"""One round: clients write, faults begin and end, all must agree, and the writes are counted."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from tests.interop.server_checks import Clients, client_problems, server_problems
from tests.outside.cluster import Cluster
from tests.outside.failovers import Promotion, is_reached, needless, outages
from tests.outside.injecting import Injector
from tests.outside.outcomes import Read, Span, Write, count_lost_by_fault, count_writes, load, unwritable
from tests.outside.plan import Fault, FaultType
from tests.outside.vote_logs import VoteLog, configuration_faults, election_faults, read_log, vote_faults
from tests.servers import DeadlineExpired, ReplyError, call, wait_for

WARM_UP_SECONDS = 0.7
"""Seconds of writing before the first fault."""

CONVERGENCE_SECONDS = 180.0
"""A generous limit: several elections in a row may fail, and each repetition waits two failover timeouts."""

REPLICATION_SECONDS = 120.0
"""Timeout until the last bytes reach all replicas after the last write, and all flags are cleared."""

PROBLEMS = (DeadlineExpired, ReplyError, OSError, RuntimeError, ValueError, subprocess.SubprocessError)
"""What ends a round: no reply, no agreement, an ended process, or an invalid reply."""

TIMEOUT = 0.25
"""Seconds without a write that do not count as time without a master; clients write every few milliseconds."""


@dataclass
class Result:
    """The result of one round. Times are seconds."""

    number: int
    faults: dict[str, int]
    """Number of faults of each kind."""

    violations: list[str] = field(default_factory=list)
    """Violated invariants; empty if the round passed."""

    directory: str = ""
    """Directory of all logs, configurations and histories, if the round did not pass."""

    converged: bool = False
    convergence: float = 0.0
    """From the end of the last fault until all agree; they often do already."""

    rest: float = 0.0
    """From the end of the last fault until, besides, every link is up, every flag cleared and every byte replicated."""

    duration: float = 0.0
    """Of the whole round."""

    elections: int = 0
    promotions: int = 0
    needless_failovers: int = 0
    """Promotions that replaced a master which clients and most Sentinels could use."""

    disagreements: int = 0
    """Violations between the Sentinels: no agreement, two votes or leaders in an epoch, two addresses for one."""

    servers_not_in_order: int = 0
    """Violations seen at the servers afterwards: roles, files, pauses, old clients, data."""

    without_master: float = 0.0
    """Without a write that is still present, from the first fault to agreement."""

    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    unknown_present: int = 0
    lost: int = 0
    lost_reached: int = 0
    """Those whose server at least one Sentinel could reach at that moment, and so could have stopped its writes."""

    lost_earlier: int = 0
    """Writes of earlier rounds, which all servers had, that are gone since a master restarted without its data."""

    lost_by_kind: dict[str, int] = field(default_factory=dict)
    """Faults overlap, so one write may be counted for several."""

    reads: int = 0
    missed_reads: int = 0
    """In which an acknowledged write was not found on the master that a Sentinel named."""

    def as_json(self) -> dict[str, Any]:
        """Return the result for a file; ``Result(**fields)`` is the reverse."""
        return asdict(self)


class RoundRunner:
    """Runs rounds in one installation and records what must not change later."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._replicated: dict[str, int] = {}
        self._elections = self._promotions = 0
        self._last_promotions: list[Promotion] = []

    def run(self, number: int, plan: Sequence[Fault]) -> Result:
        """
        Run one round.

        :returns: the result; after violations the installation must not be used any more.
        """
        result = Result(number, dict(Counter(fault.kind.value for fault in plan)))
        started_at = time.monotonic()
        try:
            self._write_plan(number, plan)
            self._run_plan(result, plan)
        except PROBLEMS as problem:
            result.violations.append(f"{type(problem).__name__}: {problem}")
            result.disagreements += not result.converged
        result.duration = time.monotonic() - started_at
        if result.violations:
            result.directory = str(self._cluster.directory)
            (self._cluster.directory / f"violations-{number}.txt").write_text("\n".join(result.violations) + "\n")
            hellos = (f"{event.at:.3f} {event.sentinel} {event.payload}\n" for event in self._cluster.hellos.events)
            (self._cluster.directory / "hellos.txt").write_text("".join(hellos))
        return result

    def _write_plan(self, number: int, plan: Sequence[Fault]) -> None:
        # Logs have the time of day, histories that of the monotonic clock; comparing them needs both.
        lines = [
            f"round {number}: {datetime.now()}, monotonic {time.monotonic():.3f}; faults {WARM_UP_SECONDS} s later",
            *(str(fault) for fault in plan),
            *(f"{role}: {process.name}" for role, process in self._cluster.roles().items()),
            *(f"{role} is at {address}" for role, address in self._cluster.addresses().items()),
        ]
        (self._cluster.directory / f"plan-{number}.txt").write_text("\n".join(lines) + "\n")

    def _run_plan(self, result: Result, plan: Sequence[Fault]) -> None:
        cluster, key = self._cluster, f"round-{result.number}"
        ports = {process.port: role for role, process in cluster.roles().items()}
        history = cluster.directory / f"history-{result.number}.jsonl"
        cluster.clients.call("BEGIN", key)
        idle_clients = Clients(cluster.fleet.master())
        try:
            time.sleep(WARM_UP_SECONDS)
            first_fault_at, began = time.monotonic(), time.time()
            injector = Injector(plan, cluster.roles(), cluster.addresses(), cluster.proxies.call)
            spans = injector.run()
            self._add_server_problems(result, cluster.heal())
            healed = time.monotonic()
            self._wait_agreement()
            result.converged = True
            agreed = time.monotonic()
            result.convergence = agreed - healed
        finally:
            cluster.clients.call("END", str(history), timeout=60.0)
        wait_for(self._all_replicated, REPLICATION_SECONDS, "all offsets to be the same")
        writes, reads = load(history)
        held = self._members(key)
        lost = self._count(result, writes, reads, spans, held)
        names = cluster.setting.participants
        for write in lost:
            at = write.answered - first_fault_at
            active = [fault for fault in plan if fault.starts <= at < fault.ends]
            result.lost_reached += is_reached(ports[write.server], active, names.sentinel_names)
        result.without_master = unwritable(writes, held, first_fault_at, agreed, TIMEOUT)
        cluster.fleet.wait_quiet(REPLICATION_SECONDS)
        result.rest = time.monotonic() - healed
        with idle_clients:
            self._check_servers(result, idle_clients)
        self._replicated[key] = len(held)
        self._check_replicated(result, any(fault.kind is FaultType.EMPTY_RESTART for fault in plan))
        self._check_elections(result)
        found = outages(plan, names.servers, names.sentinel_names, len(names.sentinel_names) // 2 + 1)
        result.needless_failovers = needless(self._last_promotions, found, ports, began)

    @staticmethod
    def _add_server_problems(result: Result, problems: Sequence[str]) -> None:
        result.violations += problems
        result.servers_not_in_order += len(problems)

    @staticmethod
    def _add_disagreements(result: Result, problems: Sequence[str]) -> None:
        result.violations += problems
        result.disagreements += len(problems)

    def _wait_agreement(self) -> None:
        def agreed() -> bool:
            problems = self._cluster.fleet.agreement_problems(list(self._cluster.fleet.servers.values()))
            if problems:
                raise ReplyError("; ".join(problems))
            return True

        wait_for(agreed, CONVERGENCE_SECONDS, "all to agree on one master and follow it", every=0.05)

    def _all_replicated(self) -> bool:
        problems = self._cluster.problems()
        if problems:
            raise ReplyError("; ".join(problems))
        return True

    def _members(self, key: str) -> set[str]:
        reply = call(self._cluster.fleet.master_port(), "SMEMBERS", key, timeout=60.0)
        if not isinstance(reply, list):
            raise ReplyError(f"SMEMBERS was answered with {reply!r}")
        return {str(member) for member in reply}

    def _count(
        self, result: Result, writes: Sequence[Write], reads: Sequence[Read], spans: Sequence[Span], held: set[str]
    ) -> Sequence[Write]:
        counted = count_writes(writes, held)
        result.acknowledged, result.failed, result.unknown = counted.acknowledged, counted.failed, counted.unknown
        result.unknown_present = counted.unknown_present
        result.lost = len(counted.lost)
        result.lost_by_kind = dict(count_lost_by_fault(counted.lost, spans))
        result.reads = len(reads)
        result.missed_reads = sum(not read.found for read in reads)
        if not counted.acknowledged:
            result.violations.append("not one write was acknowledged")
        if counted.refused_present:
            self._add_server_problems(result, [f"refused, but present: {counted.refused_present[:3]}"])
        if counted.unwritten:
            self._add_server_problems(result, [f"present, but written by no client: {counted.unwritten[:3]}"])
        return counted.lost

    def _check_servers(self, result: Result, idle_clients: Clients) -> None:
        # By 127.0.0.1, past all proxies, so that only the server can have closed the connections of idle clients.
        master = self._cluster.fleet.master_port()
        self._add_server_problems(result, server_problems(self._cluster.fleet.servers.values(), master))
        if idle_clients.server.port != master:
            self._add_server_problems(result, client_problems(idle_clients))

    def _check_replicated(self, result: Result, emptied: bool) -> None:
        # All servers had this data when its round ended, so no later master may lack it, unless all of them have copied
        # the empty data of a master, which is counted instead.
        for old_key, before in list(self._replicated.items()):
            now = len(self._members(old_key))
            if now < before and emptied:
                result.lost_earlier += before - now
                self._replicated[old_key] = now
            elif now != before:
                problem = f"{old_key} was complete with {before} members, and has {now} now"
                self._add_server_problems(result, [problem])

    def _check_elections(self, result: Result) -> None:
        vote_logs: dict[str, VoteLog] = {
            sentinel.name: read_log(sentinel.name, own_id, sentinel.log_text())
            for sentinel, own_id in self._cluster.own_ids().items()
        }
        for name, each in vote_logs.items():
            self._add_disagreements(result, vote_faults(name, each.votes))
        elections = [election for each in vote_logs.values() for election in each.elections]
        self._add_disagreements(result, election_faults(elections))
        hellos = [event.payload for event in self._cluster.hellos.events if event.channel == "__sentinel__:hello"]
        self._add_disagreements(result, configuration_faults(hellos))
        promotions = sorted(
            (promotion for each in vote_logs.values() for promotion in each.promotions), key=lambda each: each.at
        )
        result.elections, self._elections = len(elections) - self._elections, len(elections)
        self._last_promotions = promotions[self._promotions :]
        result.promotions, self._promotions = len(self._last_promotions), len(promotions)
