"""
The history of paired measurements, and the comparison of new results with it.

It is a JSON list with one entry per line: one for each figure and contender. A later result is compared with the last
entries of the same figure and contender on the same class of machine, which is the number of cores and their model.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, get_args, get_type_hints

from benchmarks.paired import Contender, Result, cpu_model, interval, present_commit, release
from benchmarks.report import shown
from txsentinel.demo.programs import SOURCE

HISTORY: Final = SOURCE / "benchmarks" / "history.json"
MIN_PAIRS: Final = 5
"""Fewer pairs than that have no useful spread and are not recorded."""

COMPARED_ENTRIES: Final = 3
"""How many entries of the history a new result is compared with."""

TOLERANCE: Final = 0.01
"""How far outside the earlier spread a result may be, as a share, without being marked."""

RECORDED: Final = ("txsentinel", "compiled")
"""The contenders whose results are kept in the history: this checkout, interpreted and compiled."""


class BadHistory(Exception):
    """The file of the history cannot be used; the text has the place and the reason."""


@dataclass(frozen=True)
class Entry:
    """One line of the history: a figure of one contender in one run."""

    date: str
    commit: str
    cores: int
    cpu: str
    python: str
    figure: str
    unit: str
    more_is_better: bool
    contender: str
    value: float
    """The median of the pairs, as all values."""

    value_min: float
    value_max: float
    baseline: str
    """Name and version of what the ratios refer to."""

    baseline_value: float | None
    """None if the baseline could not be measured, as the three ratios."""

    ratio: float | None
    ratio_min: float | None
    ratio_max: float | None
    pairs: int
    load_before: float
    load_during: float
    other_cores: float

    @property
    def series(self) -> tuple[object, ...]:
        """What entries have in common that can be compared."""
        return self.figure, self.contender, self.cores, self.cpu

    @property
    def compared(self) -> tuple[float, float, float]:
        """Median, least and greatest ratio; those of the values if there are no ratios."""
        if self.ratio is None or self.ratio_min is None or self.ratio_max is None:
            return self.value, self.value_min, self.value_max
        return self.ratio, self.ratio_min, self.ratio_max


_TYPES: Final = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(Entry).items()}
_NAMES: Final = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def entry_of(found: object, where: str) -> Entry:
    """
    Check one entry of a history.

    :param where: its place, for messages.
    :raises BadHistory: if it is not an entry.
    """
    if not isinstance(found, dict):
        raise BadHistory(f"{where} is not an object")
    names = [each.name for each in fields(Entry)]
    for problem, wrong in (("lacks", set(names) - set(found)), ("has the unknown field", set(found) - set(names))):
        if wrong:
            raise BadHistory(f"{where} {problem} {', '.join(repr(name) for name in sorted(wrong))}")
    for name, types in _TYPES.items():
        value = found[name]
        fits = type(value) in types or (type(value) is int and float in types)
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            expected = " or ".join(_NAMES[each] for each in types)
            raise BadHistory(f"{where}: {name!r} is {value!r}, not {expected}")
    return Entry(**found)


def read_history(path: Path) -> list[Entry]:
    """
    The entries of a history, oldest first; none if there is no file.

    :raises BadHistory: if it is not a list of entries.
    """
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError) as problem:
        raise BadHistory(f"{path}: {problem}") from problem
    if not isinstance(found, list):
        raise BadHistory(f"{path} has no list of entries")
    return [entry_of(each, f"{path}, entry {number}") for number, each in enumerate(found, 1)]


def write_history(path: Path, entries: Iterable[Entry]) -> None:
    """Write a history, each entry in a line of its own."""
    lines = [json.dumps(asdict(entry), ensure_ascii=False) for entry in entries]
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)


def entries(results: Iterable[Result], contenders: Sequence[Contender], only: Sequence[str] = RECORDED) -> list[Entry]:
    """The entries of measured results: those of the named contenders but the baseline."""
    baseline, *others = contenders
    date, commit, cpu = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), present_commit(), cpu_model()
    found = []
    for result in results:
        assert result.beside is not None, "it was measured"
        reference = result.values(baseline.name)
        for each in others if reference else contenders:
            values, ratios = result.values(each.name), result.ratios(each.name, baseline.name)
            if each.name not in only or not values:
                continue
            found.append(
                Entry(
                    date=date,
                    commit=commit,
                    cores=os.cpu_count() or 1,
                    cpu=cpu,
                    python=platform.python_version(),
                    figure=result.name,
                    unit=result.figure.unit,
                    more_is_better=result.figure.more_is_better,
                    contender=each.name,
                    value=_rounded(statistics.median(values)),
                    value_min=_rounded(min(values)),
                    value_max=_rounded(max(values)),
                    baseline=f"{baseline.name} {release(baseline)}".strip(),
                    baseline_value=_rounded(statistics.median(reference)) if reference else None,
                    ratio=_rounded(statistics.median(ratios)) if ratios else None,
                    ratio_min=_rounded(min(ratios)) if ratios else None,
                    ratio_max=_rounded(max(ratios)) if ratios else None,
                    pairs=len(ratios) or len(values),
                    load_before=round(result.beside.load_before, 2),
                    load_during=round(result.beside.load_during, 2),
                    other_cores=round(result.beside.other_cores, 2),
                )
            )
    return found


def _rounded(value: float) -> float:
    """Four significant digits, which is more than any figure is exact to."""
    return float(f"{value:.4g}")


@dataclass(frozen=True)
class Verdict:
    """A new entry, compared with earlier ones."""

    entry: Entry
    earlier: Sequence[Entry]
    change: str
    """``worse``, ``better``, ``same``, or ``new`` if there are no earlier ones."""

    def __str__(self) -> str:
        unit = "×" if self.entry.ratio is not None else f" {self.entry.unit}"
        middle, least, most = self.entry.compared
        text = f"{self.entry.figure} {self.entry.contender}: {interval(middle, least, most)}{unit}"
        if not self.earlier:
            return f"{text}, the first entry"
        low, high = bounds(self.earlier)
        text += f", before {shown(low)}–{shown(high)}{unit} ({', '.join(each.commit for each in self.earlier)})"
        return text + {"worse": "  WORSE", "better": "  better"}.get(self.change, "")


def bounds(earlier: Sequence[Entry]) -> tuple[float, float]:
    """The least and the greatest value of the spreads of entries."""
    return min(each.compared[1] for each in earlier), max(each.compared[2] for each in earlier)


def compare(new: Sequence[Entry], history: Sequence[Entry]) -> list[Verdict]:
    """
    Compare new entries with the last ones of the same figure, contender and class of machine.

    A result is outside the spread if its median is less than every value of the earlier spreads, or greater, by more
    than :data:`TOLERANCE`. Entries with ratios are compared with entries with ratios only.
    """
    verdicts = []
    for entry in new:
        alike = [each for each in history if each.series == entry.series and bool(each.ratio) == bool(entry.ratio)]
        earlier = alike[-COMPARED_ENTRIES:]
        change = "new"
        if earlier:
            low, high = bounds(earlier)
            less, more = entry.compared[0] < low * (1 - TOLERANCE), entry.compared[0] > high * (1 + TOLERANCE)
            change = ("better" if more == entry.more_is_better else "worse") if less or more else "same"
        verdicts.append(Verdict(entry, earlier, change))
    return verdicts


# The table of the documentation

_BEGIN: Final = ".. The table until the next comment is written by make bench."
_END: Final = ".. End of the table."


def latest(history: Sequence[Entry]) -> dict[str, dict[str, Entry]]:
    """The last entries of the machine of the last entry: by figure, then by contender."""
    found: dict[str, dict[str, Entry]] = {}
    for entry in history:
        if (entry.cores, entry.cpu) == (history[-1].cores, history[-1].cpu):
            found.setdefault(entry.figure, {})[entry.contender] = entry
    return found


def documented(history: Sequence[Entry], titles: Mapping[str, str]) -> str:
    """
    The last entries as a table in reStructuredText.

    :param titles: the rows: by the name of a figure, without the unit.
    """
    if not history:
        return "Nothing was recorded yet.\n"
    rows = [["Figure", "redis-sentinel", "interpreted", "times redis", "compiled", "times redis", "measured"]]
    found = latest(history)
    for name, title in titles.items():
        here = found.get(name)
        if not here:
            continue
        last = max(here.values(), key=lambda entry: entry.date)
        row = [f"{title}, {last.unit}", _or_dash(last.baseline_value)]
        for each in RECORDED:
            entry = here.get(each)
            row.append("" if entry is None else shown(entry.value))
            has_ratio = entry is not None and entry.ratio is not None
            row.append(interval(*entry.compared) if entry is not None and has_ratio else "")
        rows.append([*row, f"{last.date[:10]}, {last.commit}, {last.pairs} pairs, others {last.other_cores:g} cores"])
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 34 10 10 16 10 16 20", ""]
    for row in rows:
        lines += [f"   {'*' if not index else ' '} - {cell}".rstrip() for index, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else shown(value)


def replace_table(text: str, table: str) -> str:
    """
    Put a table between the two comments of a page.

    :raises ValueError: if the page does not have them.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page lacks {_END if begin else _BEGIN!r}")
    return f"{before}{begin}\n\n{table}\n{end}{after}"
