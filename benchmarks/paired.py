"""
Paired measurements: ratios with their spread, and what ran beside them.

An experiment measures all contenders once per pair, in an order that alternates. The ratio of a pair is the value of a
contender over that of the first contender in the same pair. So what slows down the machine for longer than a pair
affects both sides of a ratio. The result of a figure is the median of its ratios, with the least and the greatest.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from benchmarks.report import server_version, shown
from txsentinel.demo.programs import COMPILED, SOURCE, available, is_compiled

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")

Values = Mapping[str, float]
"""Measured values by the name of the figure."""


# Contenders


@dataclass(frozen=True)
class Contender:
    """One implementation that is measured."""

    name: str
    kind: str
    """As :class:`txsentinel.demo.SentinelProcess` takes it."""

    path: Path | None = None
    """A directory with another copy of the package, which is used in place of this checkout."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of its processes."""
        if self.path is not None:
            return {"PYTHONPATH": str(self.path)}
        return {"PYTHONPATH": str(COMPILED if is_compiled(self.kind) else SOURCE)}


def contender(text: str) -> Contender:
    """
    The contender of a word: the kind of a Sentinel, or ``NAME=DIRECTORY``.

    :raises ValueError: if there is no such Sentinel here, or no package in the directory.
    """
    name, separator, directory = text.partition("=")
    if separator:
        path = Path(directory).resolve()
        if not name or not (path / "txsentinel" / "__init__.py").exists():
            raise ValueError(f"{text!r} is not NAME=DIRECTORY with a package txsentinel in the directory")
        return Contender(name, "txsentinel", path)
    try:
        if available(text):
            return Contender(text, text)
    except KeyError:
        raise ValueError(f"{text!r} is neither the kind of a Sentinel nor NAME=DIRECTORY") from None
    raise ValueError(f"{text!r} is not on this machine" + (": make compiled makes it" if text == "compiled" else ""))


# Experiments


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    title: str
    unit: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Experiment:
    """What is set up once per pair, and the figures that it has."""

    about: str
    figures: Mapping[str, Figure]
    measure: Callable[[Sequence[Contender]], Mapping[str, Values]]
    """
    Measures all contenders once, in the given order.

    Returns their values by the name of the contender. A figure or a contender that could not be measured is left out.
    """


def in_turn(measure: Callable[[Contender], Values]) -> Callable[[Sequence[Contender]], dict[str, Values]]:
    """Make the measurement of one contender a measurement of all, one after the other."""

    def measure_all(contenders: Sequence[Contender]) -> dict[str, Values]:
        return {each.name: measure(each) for each in contenders}

    return measure_all


@dataclass
class Result:
    """The samples of one figure, a value per pair."""

    name: str
    figure: Figure
    samples: list[Mapping[str, float]] = field(default_factory=list)
    """Per pair the values by the name of the contender."""

    beside: Beside | None = None

    def values(self, name: str) -> list[float]:
        """The values of a contender, in the order of the pairs."""
        return [pair[name] for pair in self.samples if name in pair]

    def ratios(self, name: str, baseline: str) -> list[float]:
        """Its ratios to the baseline, one for each pair in which both have a value."""
        return [pair[name] / pair[baseline] for pair in self.samples if name in pair and pair.get(baseline)]


def run(
    names: Iterable[str],
    experiments: Mapping[str, Experiment],
    contenders: Sequence[Contender],
    pairs: int,
    report_progress: Callable[[str], None],
) -> list[Result]:
    """
    Measure experiments one after the other.

    :param contenders: the first one is the baseline.
    :returns: the results of the figures that have at least one value, in the order of the experiments.
    """
    results = []
    for name in names:
        experiment = experiments[name]
        found = {key: Result(f"{name}.{key}", figure) for key, figure in experiment.figures.items()}
        with Watch() as watch:
            for number in range(pairs):
                order = contenders if number % 2 == 0 else contenders[::-1]
                measured = experiment.measure(order)
                for key, result in found.items():
                    result.samples.append({who: values[key] for who, values in measured.items() if key in values})
                    report_progress(f"{result.name}, pair {number + 1}: {_pair_line(result.samples[-1])}")
                watch.sample()
        for result in found.values():
            result.beside = watch.beside
            if any(result.samples):
                results.append(result)
            else:
                report_progress(f"{result.name}: nothing was measured")
    return results


def _pair_line(pair: Values) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in pair.items()) or "nothing"


# What runs beside


@dataclass(frozen=True)
class Beside:
    """What ran on the machine during an experiment, besides the experiment."""

    load_before: float
    """Load average of one minute."""

    load_during: float
    """The mean of the load averages after each pair; the processes of the experiment are among it."""

    other_cores: float
    """Cores that other processes used on average."""

    stolen_cores: float
    """Cores that the hypervisor gave to other machines on average."""

    busiest: str
    """The other processes that used most, as text."""

    def __str__(self) -> str:
        words = f"load {self.load_before:.1f} before, {self.load_during:.1f} during; "
        words += f"others used {self.other_cores:.2f} of {os.cpu_count()} cores"
        if self.busiest:
            words += f" ({self.busiest})"
        return words + (f", {self.stolen_cores:.2f} stolen" if self.stolen_cores >= 0.005 else "")


class Watch:
    """
    Observes what runs beside an experiment (Linux); use it as a context manager.

    The processes of the experiment must be children that have ended, or this process.
    """

    beside: Beside

    def __enter__(self) -> Watch:
        self._began = time.monotonic()
        self._load_before = os.getloadavg()[0]
        self._loads: list[float] = []
        self._machine, self._own, self._others = _machine_seconds(), _own_seconds(), _process_seconds()
        return self

    def sample(self) -> None:
        """Take a load average."""
        self._loads.append(os.getloadavg()[0])

    def __exit__(self, *problem: object) -> None:
        passed = max(time.monotonic() - self._began, 1e-3)
        busy, stolen = (after - before for after, before in zip(_machine_seconds(), self._machine, strict=True))
        used: dict[str, float] = defaultdict(float)
        for (pid, name), seconds in _process_seconds().items():
            if pid != os.getpid() and (pid, name) in self._others:
                used[name] += seconds - self._others[pid, name]
        most = sorted(used.items(), key=itemgetter(1), reverse=True)
        self.beside = Beside(
            self._load_before,
            statistics.fmean(self._loads or [os.getloadavg()[0]]),
            max(0.0, busy - (_own_seconds() - self._own)) / passed,
            stolen / passed,
            ", ".join(f"{name} {each / passed:.2f}" for name, each in most[:3] if each / passed >= 0.01),
        )


def _machine_seconds() -> tuple[float, float]:
    """Seconds of all cores so far that processes used, and that were stolen."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, hard, soft, stolen = (int(word) / _TICKS_PER_SECOND for word in words[:8])
    return user + nice + system + hard + soft, stolen


def _own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _process_seconds() -> dict[tuple[int, str], float]:
    """CPU seconds of each process that runs now, by its number and name."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = path.read_text().rpartition(")")
        except OSError:
            continue  # It has ended.
        words = tail.split()
        found[int(path.parent.name), head.partition("(")[2]] = (int(words[11]) + int(words[12])) / _TICKS_PER_SECOND
    return found


# Reports


def release(each: Contender) -> str:
    """The version of the program of a contender of another implementation; empty for ours."""
    text = server_version(each.kind) if each.kind not in ("txsentinel", "compiled") else None
    return next((word[2:] for word in (text or "").split() if word.startswith("v=")), "")


def present_commit() -> str:
    """The commit of this checkout, with ``+`` if files differ from it; ``unknown`` without git."""
    try:
        commit = _git("rev-parse", "--short=8", "HEAD")
        changed = _git("status", "--porcelain", "--", "txsentinel", "benchmarks", ":!benchmarks/history.json")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(SOURCE), *words], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def cpu_model() -> str:
    """The model of the processor as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def interval(middle: float, least: float, most: float) -> str:
    """A value with its least and its greatest, such as ``0.94 (0.90–0.97)``."""
    return f"{shown(middle)} ({shown(least)}–{shown(most)})"


def table(results: Sequence[Result], contenders: Sequence[Contender]) -> str:
    """A line per figure and contender: the median value with its extremes, and the ratios to the first contender."""
    baseline = contenders[0].name
    lines = []
    for result in results:
        better = "more is better" if result.figure.more_is_better else "less is better"
        lines.append(f"{result.name}: {result.figure.title}, {result.figure.unit} ({better})")
        for each in contenders:
            values, ratios = result.values(each.name), result.ratios(each.name, baseline)
            text = interval(statistics.median(values), min(values), max(values)) if values else "not measured"
            if ratios and each.name != baseline:
                text += f"   {interval(statistics.median(ratios), min(ratios), max(ratios))}× of {len(ratios)} pairs"
            lines.append(f"    {each.name:12} {text}")
        lines.append(f"    beside: {result.beside}")
    return "\n".join(lines)


def surroundings(contenders: Sequence[Contender]) -> str:
    """The machine and the versions, as text."""
    libraries = []
    for name in ("Twisted", "hiredis"):
        try:
            libraries.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    lines = [
        f"{os.cpu_count()} cores of {cpu_model()}, {platform.system()} {platform.release()}",
        f"commit {present_commit()}, Python {platform.python_version()}, {', '.join(libraries)}",
    ]
    for each in contenders:
        lines.append(f"{each.name}: {release(each) or each.variables['PYTHONPATH']}")
    return "\n".join(lines)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Every sample, for a file."""
    return [
        {"figure": result.name, "unit": result.figure.unit, "pairs": list(result.samples), "beside": str(result.beside)}
        for result in results
    ]
