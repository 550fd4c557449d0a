"""A series of rounds with several settings, saved after each round so that an interrupted series can continue."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.outside.cluster import Cluster, Setting
from tests.outside.plan import GENERAL_FAULTS, FaultType, draw
from tests.outside.rounds import PROBLEMS, Result, RoundRunner
from tests.servers import Harness


class RoundFailed(Exception):
    """An invariant was violated; raised to keep the directory of the harness."""


class WrongFile(Exception):
    """The file contains rounds of another series."""


def name_of(setting: Setting) -> str:
    """Return a setting in the notation of the command line, the kinds in the given order."""
    counts: dict[str, int] = {}
    for kind in setting.sentinels:
        counts[kind] = counts.get(kind, 0) + 1
    mix = ",".join(f"{kind}:{count}" for kind, count in counts.items())
    return f"{mix} min {setting.min_replicas}{' guards' if setting.guards else ''}"


@dataclass(frozen=True)
class FaultSettings:
    """The parameters of the faults, except for the number of the round."""

    seed: int
    at_once: int = 4
    fault_types: tuple[FaultType, ...] = GENERAL_FAULTS

    def as_json(self) -> dict[str, Any]:
        """Return the parameters for a file."""
        return {"seed": self.seed, "at_once": self.at_once, "kinds": [kind.value for kind in self.fault_types]}


class Archive:
    """The results by setting and number, in memory and in a file if there is one."""

    def __init__(self, path: Path | None, parameters: Mapping[str, Any]) -> None:
        """
        :param parameters: the common parameters of all rounds.
        :raises WrongFile: if the file exists with other parameters.
        """
        self._path = path
        self._parameters = dict(parameters)
        self._rounds: dict[str, dict[int, Result]] = {}
        if path is not None and path.exists():
            stored = json.loads(path.read_text())
            if stored["parameters"] != self._parameters:
                raise WrongFile(f"{path} is of a campaign with {stored['parameters']}, not {self._parameters}")
            for name, rounds in stored["rounds"].items():
                self._rounds[name] = {fields["number"]: Result(**fields) for fields in rounds}

    def results(self, name: str) -> list[Result]:
        """Return the rounds of one setting in the order of their numbers."""
        return [result for _, result in sorted(self._rounds.get(name, {}).items())]

    def has(self, name: str, number: int) -> bool:
        """Whether this round was run, with any result."""
        return number in self._rounds.get(name, {})

    def add(self, name: str, result: Result) -> None:
        """Add the result of a round; the file is replaced as a whole."""
        self._rounds.setdefault(name, {})[result.number] = result
        if self._path is None:
            return
        rounds = {name: [result.as_json() for result in self.results(name)] for name in self._rounds}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(self._path.name + ".new")
        unfinished.write_text(json.dumps({"parameters": self._parameters, "rounds": rounds}, indent=1) + "\n")
        os.replace(unfinished, self._path)


def run_block(fault_settings: FaultSettings, setting: Setting, numbers: Sequence[int]) -> Iterator[Result]:
    """Run rounds in one installation and yield their results; the first one with a violation is the last."""
    try:
        with Harness() as harness, ExitStack() as stack:
            try:
                cluster = stack.enter_context(Cluster(harness, setting))
            except PROBLEMS as problem:
                yield Result(numbers[0], {}, [f"did not start: {problem}"], str(harness.directory))
                raise RoundFailed from problem
            runner = RoundRunner(cluster)
            for number in numbers:
                plan = draw(
                    fault_settings.seed,
                    number,
                    setting.participants,
                    fault_settings.at_once,
                    fault_settings.fault_types,
                )
                result = runner.run(number, plan)
                yield result
                if result.violations:
                    raise RoundFailed
    except RoundFailed:
        return


def _run_block_in_process(fault_settings: FaultSettings, setting: Setting, numbers: Sequence[int]) -> list[Result]:
    return list(run_block(fault_settings, setting, numbers))


class RoundSeries:
    """Runs rounds until every setting has had each of them."""

    def __init__(self, fault_settings: FaultSettings, archive: Archive, report_progress: Callable[[str], None]) -> None:
        self._fault_settings = fault_settings
        self._archive = archive
        self._report = report_progress

    def run(self, settings: Sequence[Setting], numbers: Sequence[int], block: int, jobs: int = 1) -> None:
        """
        Run the missing rounds, ``block`` rounds of one setting, then of the next, so that the load of the machine
        affects all.

        :param block: an installation is stopped after so many rounds, and after a failed one.
        :param jobs: how many installations run at the same time, each in a process of its own.
        """
        blocks = [
            (setting, numbers[first : first + block]) for first in range(0, len(numbers), block) for setting in settings
        ]
        if jobs > 1:
            self._run_in_processes(blocks, jobs)
            return
        for setting, part in blocks:
            while missing := self._missing(setting, part):
                for result in run_block(self._fault_settings, setting, missing):
                    self._add_result(setting, result)

    def _missing(self, setting: Setting, numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if not self._archive.has(name_of(setting), number)]

    def _run_in_processes(self, blocks: Sequence[tuple[Setting, Sequence[int]]], jobs: int) -> None:
        # A new interpreter for each, because a fork would copy the threads' locks but not the threads.
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            waiting: dict[Future[list[Result]], tuple[Setting, Sequence[int]]] = {}
            while True:
                for setting, part in blocks if not waiting else ():
                    if missing := self._missing(setting, part):
                        future = pool.submit(_run_block_in_process, self._fault_settings, setting, missing)
                        waiting[future] = setting, part
                if not waiting:
                    return
                # A block that ended early, after a violation, is continued in the next pass.
                for future in as_completed(list(waiting)):
                    setting, _ = waiting.pop(future)
                    for result in future.result():
                        self._add_result(setting, result)

    def _add_result(self, setting: Setting, result: Result) -> None:
        self._archive.add(name_of(setting), result)
        faults = ", ".join(f"{kind} {count}" if count > 1 else kind for kind, count in result.faults.items())
        agreed = f"agreed {result.convergence:.1f} s after healing" if result.converged else "no agreement"
        self._report(
            f"{name_of(setting)} round {result.number} ({faults}): {agreed}, {result.promotions} promotions, "
            f"{result.needless_failovers} needless, {result.lost} of {result.acknowledged} acknowledged writes lost"
        )
        for disruption in result.violations:
            self._report(f"*** {disruption}")
        if result.violations:
            self._report(f"*** kept in {result.directory}; again: {self.command(setting, result.number)}")

    def command(self, setting: Setting, number: int) -> str:
        """
        Return the command that repeats one round; only the faults are the same, not the timing of processes and
        networks.
        """
        mix, _, _ = name_of(setting).partition(" min ")
        fault_types = (
            ""
            if self._fault_settings.fault_types == GENERAL_FAULTS
            else "".join(f" --kind {k.value}" for k in self._fault_settings.fault_types)
        )
        guards = " --guards on" if setting.guards else ""
        return (
            f"python -m tests.outside --seed {self._fault_settings.seed} --first {number} --rounds 1 --sentinels {mix}"
            f" --min-replicas-to-write {setting.min_replicas} --max-lag {setting.max_lag} --server {setting.server}"
            f"{guards} --at-once {self._fault_settings.at_once}{fault_types}"
        )
