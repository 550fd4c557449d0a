"""
Draw the measurements, with a line for each contender.

Needs matplotlib, which the extra ``bench`` installs; without it there are no pictures.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = {
    "redis": "tab:red",
    "valkey": "tab:blue",
    "txsentinel": "tab:green",
    "compiled": "tab:olive",
    "mixed": "tab:purple",
    "bare": "tab:gray",
}
NAMES: Final = {
    "redis": "redis-sentinel",
    "valkey": "valkey-sentinel",
    "compiled": "txsentinel, compiled",
    "mixed": "mixed quorum",
    "bare": "bare Twisted",
}

GROWTHS: Final = {
    "cpu": ("CPU of a quiet Sentinel", "% of a core"),
    "resident": ("memory of a quiet Sentinel", "MB"),
    "promoted_last": ("a tenth of the masters die: all promoted", "ms"),
    "agreed_last": ("a tenth of the masters die: all Sentinels agree", "ms"),
}
"""Figures that are drawn over the number of masters: title, and unit."""


def draw(scenarios: Mapping[str, Mapping[str, Any]], directory: Path) -> list[Path]:
    """
    Draw all results that can be drawn.

    :param scenarios: the results by scenario, as ``benchmarks.json`` has them.
    :returns: the files, SVG.
    :raises ImportError: without matplotlib.
    """
    import matplotlib

    matplotlib.use("svg")
    directory.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for failure in scenarios.get("mass-failure", {}).get("mass failures", ()):
        drawn += _curves(failure, directory)
    growth = scenarios.get("growth")
    if growth is not None:
        drawn += _growths(growth, directory)
    clients = scenarios.get("clients", {}).get("clients")
    if clients is not None:
        drawn += _rates(clients["requests"], directory)
    return drawn


def _saved(axes: Axes, path: Path) -> Path:
    from matplotlib import pyplot

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close("all")
    return path


def _axes(title: str, across: str, up: str) -> Axes:
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(8, 4.5))
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    return axes


def _curves(failure: Mapping[str, Any], directory: Path) -> list[Path]:
    """Failovers completed over time: the number of masters promoted, and dashed, those on which all Sentinels agree."""
    curves: Mapping[str, Sequence[Sequence[float]]] = failure["curves"]
    agreed: Mapping[str, Sequence[Sequence[float]]] = failure.get("agreement curves", {})
    if not any(curves.values()):
        return []
    axes = _axes(failure["title"], "seconds since the loss", "failovers completed")
    for found, dashes in ((curves, "solid"), (agreed, "dashed")):
        for name, points in found.items():
            if points:
                label = None if dashes == "dashed" else NAMES.get(name, name)
                moments, counts = [0.0, *(point[0] for point in points)], [0.0, *(point[1] for point in points)]
                axes.step(
                    moments, counts, where="post", color=COLOURS.get(name, "black"), linestyle=dashes, label=label
                )
    axes.plot([], [], color="black", linestyle="dashed", label="all Sentinels agree")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    return [_saved(axes, directory / f"mass-failure-{_slug(failure['title'])}.svg")]


def _growths(growth: Mapping[str, Any], directory: Path) -> list[Path]:
    """Cost and duration over the number of masters."""
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {figure: {} for figure in GROWTHS}
    entries = [(entry["masters"], entry["contenders"]) for entry in growth.get("quiet", ())]
    failures = [
        (entry["masters"], {name: each.get("figures", {}) for name, each in entry["contenders"].items()})
        for entry in growth.get("mass failures", ())
    ]
    for kinds, source in ((("cpu", "resident"), entries), (("promoted_last", "agreed_last"), failures)):
        for masters, contenders in source:
            for name, figures in contenders.items():
                for figure in kinds:
                    samples = figures.get(figure)
                    if samples:
                        lines[figure].setdefault(name, []).append((masters, statistics.median(samples)))
    drawn = []
    for figure, (title, unit) in GROWTHS.items():
        if not lines[figure]:
            continue
        axes = _axes(title, "masters, each with a replica", unit)
        for name, points in lines[figure].items():
            points.sort()
            axes.plot(
                [point[0] for point in points],
                [point[1] for point in points],
                marker="o",
                color=COLOURS.get(name, "black"),
                label=NAMES.get(name, name),
            )
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.legend()
        drawn.append(_saved(axes, directory / f"growth-{figure.replace('_', '-')}.svg"))
    return drawn


def _rates(entries: Sequence[Mapping[str, Any]], directory: Path) -> list[Path]:
    """Answers per second, a group of bars for each load on the first kind of Sentinel that was measured."""
    shown = [entry for entry in entries if entry["title"].startswith("address")]
    if not shown:
        return []
    names = list(dict.fromkeys(name for entry in shown for name in entry["contenders"]))
    axes = _axes("answers to GET-MASTER-ADDR-BY-NAME", "answers per second", "")
    height = 0.8 / len(names)
    for index, name in enumerate(names):
        found = [(row, entry["contenders"].get(name, {}).get("rate")) for row, entry in enumerate(shown)]
        there = [(row, statistics.median(samples)) for row, samples in found if samples]
        axes.barh(
            [row + index * height for row, _ in there],
            [rate for _, rate in there],
            height,
            color=COLOURS.get(name, "black"),
            label=NAMES.get(name, name),
        )
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(shown))])
    axes.set_yticklabels([entry["title"].removeprefix("address, ") for entry in shown])
    axes.invert_yaxis()
    axes.legend()
    return [_saved(axes, directory / "clients-rates.svg")]


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
