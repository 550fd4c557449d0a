"""Carries out a plan of faults on the processes that have the roles when it begins."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.outside.outcomes import Span
from tests.outside.plan import SIGNALS, Fault, FaultType

RESET_EVERY = 0.4
"""Seconds between two resets of the same connections."""

Proxies = Callable[..., object]
"""Takes the words of a command for the proxies."""


class FaultTarget(Protocol):
    """What an injector does to a process, such as ``tests.servers.ChildProcess``."""

    port: int
    directory: Path

    @property
    def running(self) -> bool:
        """Whether it was neither killed nor ended."""

    def freeze(self) -> None:
        """Stop it with its connections open."""

    def thaw(self) -> None:
        """Let it continue."""

    def kill(self) -> None:
        """Kill it."""

    def start(self, *, keep_config: bool = False, ready: bool = True) -> None:
        """Start it again."""


def discard_data(directory: Path) -> None:
    """Delete the snapshots and append-only files of a server that does not run, and nothing else of it."""
    for path in [*directory.glob("*.rdb"), *directory.glob("*.aof")]:
        path.unlink()
    shutil.rmtree(directory / "appendonlydir", ignore_errors=True)


@dataclass(frozen=True, order=True)
class Action:
    """The begin or end of one fault."""

    at: float
    index: int
    """Index of the fault in its plan."""

    begins: bool


def timeline(plan: Sequence[Fault]) -> list[Action]:
    """Return all actions in order: each fault begins and ends, and resets are repeated in between."""
    actions = []
    for index, fault in enumerate(plan):
        if fault.kind is FaultType.RESET:
            times = int(fault.lasts / RESET_EVERY) + 1
            actions += [Action(fault.starts + repeat * RESET_EVERY, index, True) for repeat in range(times)]
        else:
            actions += [Action(fault.starts, index, True), Action(fault.ends, index, False)]
    return sorted(actions)


class Injector:
    """Carries out one plan."""

    def __init__(
        self,
        plan: Sequence[Fault],
        processes: Mapping[str, FaultTarget],
        addresses: Mapping[str, str],
        proxies: Proxies,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        :param processes: the process of each role; ``addresses`` has the address of each role, clients included.
        """
        self._plan = list(plan)
        self._processes = processes
        self._addresses = addresses
        self._proxies = proxies
        self._clock = clock
        self._sleep = sleep
        self._holds: dict[tuple[FaultType, str], int] = defaultdict(int)

    def run(self) -> list[Span]:
        """
        Carry out the plan; return when the last fault has ended.

        :returns: which servers were affected by which kinds of faults, and when.
        """
        started_at = self._clock()
        for action in timeline(self._plan):
            remaining = started_at + action.at - self._clock()
            if remaining > 0:
                self._sleep(remaining)
            fault = self._plan[action.index]
            if action.begins:
                self._begin(fault, f"fault-{action.index}")
            else:
                self._end(fault, f"fault-{action.index}")
        return [span for fault in self._plan for span in self._spans(fault, started_at)]

    def _begin(self, fault: Fault, name: str) -> None:
        routes = " ".join(f"{self._addresses[source]}>{self._addresses[target]}" for source, target in fault.routes)
        if fault.kind in SIGNALS:
            for role in fault.nodes:
                process = self._processes[role]
                self._holds[self._hold(fault), role] += 1
                if process.running:
                    if fault.kind is FaultType.FREEZE:
                        process.freeze()
                    else:
                        process.kill()
                        # The system of a dead process refuses connections; a proxy without a callee would reset them.
                        self._proxies("CLOSE", f"dead-{role}", self._addresses[role])
                if fault.kind is FaultType.EMPTY_RESTART and not process.running:
                    discard_data(process.directory)
        elif fault.kind is FaultType.RESET:
            self._proxies("RESET", routes)
        elif fault.kind is FaultType.DELAY:
            self._proxies("SLOW", name, str(fault.delay), routes)
        elif fault.kind is FaultType.CLOSE_PORT:
            for role in fault.nodes:
                self._proxies("CLOSE", name, self._addresses[role])
                self._proxies("DISCONNECT", self._addresses[role])
        elif fault.kind is FaultType.REFUSE:
            self._proxies("REFUSE", name, routes)
        elif fault.kind is FaultType.REJECT:
            self._proxies("REJECT", name, fault.error, routes)
        else:
            self._proxies("CUT", name, routes)

    def _end(self, fault: Fault, name: str) -> None:
        if fault.kind not in SIGNALS:
            self._proxies("LIFT", name)
            return
        for role in fault.nodes:
            self._holds[self._hold(fault), role] -= 1
            # Two faults of a kind may overlap on one process; the last one to end releases it.
            if self._holds[self._hold(fault), role]:
                continue
            if fault.kind is FaultType.FREEZE:
                self._processes[role].thaw()
            elif not self._processes[role].running:
                self._processes[role].start(keep_config=True, ready=False)
                self._proxies("LIFT", f"dead-{role}")

    @staticmethod
    def _hold(fault: Fault) -> FaultType:
        """Return the kind whose holds keep a process as this fault does: dead, or stopped."""
        return FaultType.FREEZE if fault.kind is FaultType.FREEZE else FaultType.KILL

    def _spans(self, fault: Fault, started_at: float) -> list[Span]:
        involved = {role for route in fault.routes for role in route} if len(fault.nodes) != 1 else set(fault.nodes)
        servers = [role for role in involved if role in self._processes and not role.startswith("sentinel")]
        since, until = started_at + fault.starts, started_at + fault.ends
        if fault.kind is FaultType.EMPTY_RESTART:
            # It loses what the server had acknowledged before, however long ago.
            since = 0.0
        return [Span(fault.kind.value, self._processes[role].port, since, until) for role in sorted(servers)]
