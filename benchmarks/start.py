"""
Time of discovery: from the start of the Sentinels until each knows every replica and every peer of every master.

``python -m benchmarks.start --masters 100 400 1000``

The configuration files contain the masters only. Each Sentinel is asked for its INFO twice a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.gauges import cpu_seconds
from benchmarks.installation import Installation, arguments, chosen_contenders, report_progress
from benchmarks.report import comparison, keep

FIGURES: Final = {
    "known": "start → all replicas and peers known, ms",
    "cpu": "CPU of a Sentinel until all know all, ms",
}


def sample(installation: Installation, timeout: float) -> dict[str, Any]:
    """
    Start the Sentinels and wait.

    :returns: ``known`` and ``cpu``, a value in milliseconds per Sentinel, ``known`` without those that never did; and
        ``not done``, how many these were.
    """
    installation.start()
    known = installation.discovery_times(timeout)
    done = [seconds * 1000 for seconds in known if seconds is not None]
    return {
        "known": done,
        "cpu": [cpu_seconds(sentinel.pid) * 1000 for sentinel in installation.sentinels],
        "not done": len(known) - len(done),
    }


def measure(
    contenders: Mapping[str, Sequence[str]],
    sizes: Sequence[int],
    timeout: float = 120.0,
    report_progress: Callable[[str], None] = report_progress,
) -> dict[str, Any]:
    """
    All contenders with every size.

    :param sizes: numbers of masters, with one replica each.
    :param timeout: seconds, at most.
    :returns: ``start``, a list with one entry per size: ``masters``, and ``contenders`` as :func:`sample` returns them.
    """
    entries = []
    for masters in sizes:
        found = {}
        for name, kinds in contenders.items():
            with Installation(kinds, masters, acquainted=False) as installation:
                found[name] = sample(installation, timeout)
            times = " / ".join(f"{value / 1000:.1f} s" for value in found[name]["known"])
            report_progress(f"{masters} masters, {name}: {times or 'none'}, not done: {found[name]['not done']}")
        entries.append({"masters": masters, "contenders": found})
    return {"start": entries}


def table(result: Mapping[str, Any]) -> str:
    """The measurements, ready to print."""
    parts = []
    for entry in result["start"]:
        contenders: dict[str, Any] = entry["contenders"]
        parts.append(f"start, {entry['masters']} masters with a replica each: median (min–max) of the Sentinels\n")
        parts.append(comparison(FIGURES, contenders))
        for name, figures in contenders.items():
            if figures["not done"]:
                parts.append(f"{name}: {figures['not done']} Sentinels did not know all in time")
        parts.append("")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = arguments("start", __doc__.split("\n\n")[0], [100, 400, 1000])
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    options = parser.parse_args(argv)
    result = measure(chosen_contenders(options.contenders, report_progress), options.masters, options.timeout)
    print(f"\n{table(result)}")
    if options.json:
        keep(Path(options.json), result)


if __name__ == "__main__":
    main()
