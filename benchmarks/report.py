"""Print and save measurements: tables with ratios, and JSON with every sample."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import txsentinel
from txsentinel.demo import BinaryMissing
from txsentinel.demo.programs import server_binary

Samples = Mapping[str, Sequence[float]]
"""Measured values by the name of the figure."""


def spread(samples: Sequence[float]) -> str:
    """Median and extremes, such as ``1168 (1102–1191)``; a dash if there are no samples."""
    if not samples:
        return "–"
    return f"{shown(statistics.median(samples))} ({shown(min(samples))}–{shown(max(samples))})"


def shown(value: float) -> str:
    """Format a number: no decimals from a hundred on, or if it is whole."""
    whole = abs(value) >= 100 or value == int(value)
    return f"{value:.{0 if whole else 1 if abs(value) >= 10 else 2}f}"


def ratio(samples: Sequence[float], baseline: Sequence[float]) -> str:
    """Median over the baseline's median, as ``0.49×``; empty if it is undefined."""
    if not samples or not baseline or not statistics.median(baseline):
        return ""
    return f"{statistics.median(samples) / statistics.median(baseline):.2f}×"


def comparison(figures: Mapping[str, str], columns: Mapping[str, Samples]) -> str:
    """
    A table with one row per figure and one column per contender; all but the first show their ratio to it.

    :param figures: what a figure means, by its name; the order is that of the rows.
    :param columns: the samples by the name of the contender.
    """
    contenders = list(columns)
    rows = [["", *contenders]]
    for name, meaning in figures.items():
        row = [meaning]
        for contender in contenders:
            samples = columns[contender].get(name, ())
            share = "" if contender == contenders[0] else ratio(samples, columns[contenders[0]].get(name, ()))
            row.append(f"{spread(samples)}  {share}".rstrip())
        rows.append(row)
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def environment() -> dict[str, object]:
    """The machine and the programs of a measurement."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "load average": list(os.getloadavg()),
        "txsentinel": txsentinel.__version__,
        "servers": {kind: version for kind in ("redis", "valkey") if (version := server_version(kind))},
    }


def server_version(kind: str) -> str | None:
    """The output of a server program for ``--version``; ``None`` if there is no such program."""
    try:
        command = [server_binary(kind), "--version"]
    except BinaryMissing:
        return None
    return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()


def keep(path: Path, result: Mapping[str, object]) -> None:
    """Save a result with its environment as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), **result}, indent=2, ensure_ascii=False) + "\n")
