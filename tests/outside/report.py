"""The results of many rounds with several settings, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from tests.outside.cluster import Setting
from tests.outside.outcomes import AFTER_FAULT, UNAFFECTED
from tests.outside.rounds import Result

Row = tuple[str, Callable[[Sequence[Result]], str]]


def _spread(numbers: Sequence[float]) -> str:
    return f"{median(numbers):.1f} ({max(numbers):.1f})" if numbers else "-"


def _total(results: Sequence[Result], name: str) -> str:
    return f"{sum(getattr(result, name) for result in results):,}"


def _share_lost(results: Sequence[Result]) -> str:
    acknowledged = sum(result.acknowledged for result in results)
    return f"{100 * sum(result.lost for result in results) / acknowledged:.2f} %" if acknowledged else "-"


_ROWS: Sequence[Row] = (
    ("rounds", lambda results: str(len(results))),
    ("... converged", lambda results: str(sum(result.converged for result in results))),
    ("... with a violation", lambda results: str(sum(bool(result.violations) for result in results))),
    ("faults", lambda results: str(sum(sum(result.faults.values()) for result in results))),
    ("elections won", lambda results: _total(results, "elections")),
    ("promotions", lambda results: _total(results, "promotions")),
    ("... that were not needed", lambda results: _total(results, "needless_failovers")),
    ("disagreements", lambda results: _total(results, "disagreements")),
    ("servers not in order afterwards", lambda results: _total(results, "servers_not_in_order")),
    (
        "seconds from healing to agreement, median (worst)",
        lambda results: _spread([result.convergence for result in results if result.converged]),
    ),
    (
        "... to rest",
        lambda results: _spread([result.rest for result in results if result.rest]),
    ),
    (
        "seconds without a writable master a round",
        lambda results: _spread([result.without_master for result in results if result.converged]),
    ),
    ("seconds a round took", lambda results: _spread([result.duration for result in results])),
    ("writes acknowledged", lambda results: _total(results, "acknowledged")),
    ("... and lost", lambda results: _total(results, "lost")),
    ("... of all", _share_lost),
    ("... while a Sentinel reached the server", lambda results: _total(results, "lost_reached")),
    ("writes of earlier rounds lost", lambda results: _total(results, "lost_earlier")),
    ("rounds that lost some", lambda results: str(sum(bool(result.lost) for result in results))),
    ("writes refused", lambda results: _total(results, "failed")),
    ("writes without an answer", lambda results: _total(results, "unknown")),
    ("... and there", lambda results: _total(results, "unknown_present")),
    ("reads", lambda results: _total(results, "reads")),
    ("... that missed an acknowledged write", lambda results: _total(results, "missed_reads")),
)


def table(columns: Mapping[str, Sequence[Result]]) -> str:
    """
    Return a table with one column per setting, then its lost writes by kind of fault, and the number of rounds with
    such.

    :param columns: the rounds of each setting, by its name.
    """
    lines = [["", *columns]]
    lines += [[title, *(cell(results) for results in columns.values())] for title, cell in _ROWS]
    injected: Counter[str] = Counter()
    for results in columns.values():
        for result in results:
            injected.update(result.faults)
    lines.append(["lost by kind of fault, which may overlap (faults)", *("" for _ in columns)])
    for kind in [*sorted(injected), AFTER_FAULT, UNAFFECTED]:
        cells = []
        for results in columns.values():
            lost = sum(result.lost_by_kind.get(kind, 0) for result in results)
            faults = sum(result.faults.get(kind, 0) for result in results)
            cells.append(f"{lost:,} ({faults})" if kind in injected else f"{lost:,}")
        lines.append([f"  {kind}", *cells])
    return _aligned(lines)


def summary(rows: Sequence[tuple[Setting, Sequence[Result]]]) -> str:
    """Return a table with one row per setting: what its users lost, how long they waited, and what was wrong."""
    lines = [
        [
            "Sentinels",
            "guards",
            "min-replicas",
            "acknowledged writes lost",
            "while a Sentinel reached the server",
            "of",
            "s without a writable master, median (worst)",
            "needless failovers",
            "disagreements",
            "servers not in order",
            "rounds",
        ]
    ]
    for setting, results in rows:
        kinds = Counter(setting.sentinels)
        lines.append(
            [
                ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
                ("on" if setting.guards else "off") if setting.has_guards else "-",
                str(setting.min_replicas),
                _total(results, "lost"),
                _total(results, "lost_reached"),
                _total(results, "acknowledged"),
                _spread([result.without_master for result in results if result.converged]),
                _total(results, "needless_failovers"),
                _total(results, "disagreements"),
                _total(results, "servers_not_in_order"),
                str(len(results)),
            ]
        )
    return _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
