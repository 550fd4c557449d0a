"""Doing what a plan says, at its times, to whoever plays the roles when it begins."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.outside.ledger import Span
from tests.outside.plan import Fault, FaultType

RESET_EVERY = 0.4
"""Seconds between two resets of the same connections."""

Proxies = Callable[..., object]
"""Takes the words of a command for the proxies."""


class Victim(Protocol):
    """What can be done to a process; ``tests.servers.ChildProcess`` is one."""

    port: int

    @property
    def running(self) -> bool:
        """Neither killed nor ended."""

    def freeze(self) -> None:
        """Let it stand still."""

    def thaw(self) -> None:
        """Let it go on."""

    def kill(self) -> None:
        """End it at once."""

    def start(self, *, keep_config: bool = False, ready: bool = True) -> None:
        """Run it again."""


@dataclass(frozen=True, order=True)
class Act:
    """One thing to do."""

    at: float
    index: int
    """Of the fault in its plan."""

    begins: bool


def timeline(plan: Sequence[Fault]) -> list[Act]:
    """All that is to be done, in order: each fault begins and ends, and resets are repeated in between."""
    acts = []
    for index, fault in enumerate(plan):
        if fault.kind is FaultType.RESET:
            times = int(fault.lasts / RESET_EVERY) + 1
            acts += [Act(fault.starts + repeat * RESET_EVERY, index, True) for repeat in range(times)]
        else:
            acts += [Act(fault.starts, index, True), Act(fault.ends, index, False)]
    return sorted(acts)


class Injector:
    """Carries out one plan."""

    def __init__(
        self,
        plan: Sequence[Fault],
        processes: Mapping[str, Victim],
        addresses: Mapping[str, str],
        proxies: Proxies,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        :param processes: who plays which role; ``addresses`` tells where each role is, clients included.
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
        Do it all; returns when the last fault is over.

        :returns: which servers were touched by which kinds of faults, and when.
        """
        began = self._clock()
        for act in timeline(self._plan):
            remaining = began + act.at - self._clock()
            if remaining > 0:
                self._sleep(remaining)
            fault = self._plan[act.index]
            if act.begins:
                self._begin(fault, f"fault-{act.index}")
            else:
                self._end(fault, f"fault-{act.index}")
        return [span for fault in self._plan for span in self._spans(fault, began)]

    def _begin(self, fault: Fault, name: str) -> None:
        ways = " ".join(f"{self._addresses[source]}>{self._addresses[target]}" for source, target in fault.ways)
        if fault.kind in (FaultType.FREEZE, FaultType.KILL):
            for role in fault.nodes:
                self._holds[fault.kind, role] += 1
                if self._processes[role].running:
                    if fault.kind is FaultType.FREEZE:
                        self._processes[role].freeze()
                    else:
                        self._processes[role].kill()
        elif fault.kind is FaultType.RESET:
            self._proxies("RESET", ways)
        elif fault.kind is FaultType.DELAY:
            self._proxies("SLOW", name, str(fault.delay), ways)
        else:
            self._proxies("CUT", name, ways)

    def _end(self, fault: Fault, name: str) -> None:
        if fault.kind not in (FaultType.FREEZE, FaultType.KILL):
            self._proxies("LIFT", name)
            return
        for role in fault.nodes:
            self._holds[fault.kind, role] -= 1
            # Two faults of a kind may overlap on one process; the last one to end lets it go.
            if self._holds[fault.kind, role]:
                continue
            if fault.kind is FaultType.FREEZE:
                self._processes[role].thaw()
            elif not self._processes[role].running:
                self._processes[role].start(keep_config=True, ready=False)

    def _spans(self, fault: Fault, began: float) -> list[Span]:
        involved = {role for way in fault.ways for role in way} if len(fault.nodes) != 1 else set(fault.nodes)
        servers = [role for role in involved if role in self._processes and not role.startswith("sentinel")]
        since, until = began + fault.starts, began + fault.ends
        return [Span(fault.kind.value, self._processes[role].port, since, until) for role in sorted(servers)]
