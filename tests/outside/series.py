"""A series of rounds with several settings, saved after each round so that an interrupted series can continue."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.outside.cluster import Cluster, Setting
from tests.outside.plan import FaultType, draw
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
    return f"{mix} min {setting.min_replicas}"


@dataclass(frozen=True)
class FaultSettings:
    """The parameters of the faults, except for the number of the round."""

    seed: int
    at_once: int = 4
    fault_types: tuple[FaultType, ...] = tuple(FaultType)

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


class RoundSeries:
    """Runs rounds until every setting has had each of them."""

    def __init__(self, fault_settings: FaultSettings, archive: Archive, report_progress: Callable[[str], None]) -> None:
        self._fault_settings = fault_settings
        self._archive = archive
        self._report = report_progress

    def run(self, settings: Sequence[Setting], numbers: Sequence[int], block: int) -> None:
        """
        Run the missing rounds, ``block`` rounds of one setting, then of the next, so that the load of the machine
        affects all.

        :param block: an installation is stopped after so many rounds, and after a failed one.
        """
        for first in range(0, len(numbers), block):
            for setting in settings:
                name = name_of(setting)
                while missing := [
                    number for number in numbers[first : first + block] if not self._archive.has(name, number)
                ]:
                    with suppress(RoundFailed):
                        self._run_block(setting, missing)

    def _run_block(self, setting: Setting, numbers: Sequence[int]) -> None:
        name = name_of(setting)
        with Harness() as harness, ExitStack() as stack:
            try:
                cluster = stack.enter_context(Cluster(harness, setting))
            except PROBLEMS as problem:
                result = Result(numbers[0], {}, [f"did not start: {problem}"], str(harness.directory))
                self._add_result(setting, result)
                raise RoundFailed(name) from problem
            runner = RoundRunner(cluster)
            for number in numbers:
                plan = draw(
                    self._fault_settings.seed,
                    number,
                    setting.participants,
                    self._fault_settings.at_once,
                    self._fault_settings.fault_types,
                )
                result = runner.run(number, plan)
                self._add_result(setting, result)
                if result.violations:
                    raise RoundFailed(name)

    def _add_result(self, setting: Setting, result: Result) -> None:
        self._archive.add(name_of(setting), result)
        faults = ", ".join(f"{kind} {count}" if count > 1 else kind for kind, count in result.faults.items())
        agreed = f"agreed {result.convergence:.1f} s after healing" if result.converged else "no agreement"
        self._report(
            f"{name_of(setting)} round {result.number} ({faults}): {agreed}, {result.promotions} promotions, "
            f"{result.lost} of {result.acknowledged} acknowledged writes lost"
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
        mix, _, minimum = name_of(setting).partition(" min ")
        fault_types = (
            ""
            if self._fault_settings.fault_types == tuple(FaultType)
            else "".join(f" --kind {k.value}" for k in self._fault_settings.fault_types)
        )
        return (
            f"python -m tests.outside --seed {self._fault_settings.seed} --first {number} --rounds 1 --sentinels {mix}"
            f" --min-replicas-to-write {minimum} --max-lag {setting.max_lag} --server {setting.server}"
            f" --at-once {self._fault_settings.at_once}{fault_types}"
        )
