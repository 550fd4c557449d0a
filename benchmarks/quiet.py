"""
Cost of an idle Sentinel: processor time, memory and sockets, over fleets of several sizes.

``python -m benchmarks.quiet --masters 100 400 1000 --seconds 30``

Each contender is three Sentinels over a fleet of its own, one contender after the other. Every figure is given once per
Sentinel. The processor time of the fleet is reported too, since it shares the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.gauges import cpu_seconds, resident_bytes, sockets
from benchmarks.installation import Installation, NotInTime, arguments, chosen_contenders, report_progress
from benchmarks.report import comparison, keep

FIGURES: Final = {
    "cpu": "CPU of a Sentinel, % of a core",
    "resident": "resident memory of a Sentinel, MB",
    "sockets": "sockets of a Sentinel",
    "fleet_cpu": "CPU of the fleet, % of a core",
}
STABILIZATION_SECONDS: Final = 400.0


def sample(installation: Installation, seconds: float) -> dict[str, list[float]]:
    """The figures of a stable installation, a value per Sentinel, over so many seconds."""
    pids = [sentinel.pid for sentinel in installation.sentinels]
    began, before = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    fleet_before = installation.fleet.usage()["cpu"]
    time.sleep(seconds)
    passed, after = time.monotonic() - began, [cpu_seconds(pid) for pid in pids]
    fleet_used = installation.fleet.usage()["cpu"] - fleet_before
    return {
        "cpu": [(late - early) / passed * 100 for early, late in zip(before, after, strict=True)],
        "resident": [resident_bytes(pid) / 1e6 for pid in pids],
        "sockets": [float(sockets(pid)) for pid in pids],
        "fleet_cpu": [fleet_used / passed * 100],
    }


def measure(
    contenders: Mapping[str, Sequence[str]],
    sizes: Sequence[int],
    seconds: float = 30.0,
    report_progress: Callable[[str], None] = report_progress,
) -> dict[str, Any]:
    """
    Measure all contenders with every size.

    :param sizes: numbers of masters, with one replica each.
    :param seconds: duration of the measurement of a stable installation.
    :returns: ``quiet``, a list with one entry per size: ``masters``, and ``contenders`` with the samples, or with
        ``problem``, by name.
    """
    entries = []
    for masters in sizes:
        found: dict[str, dict[str, Any]] = {}
        for name, kinds in contenders.items():
            with Installation(kinds, masters) as installation:
                installation.start()
                try:
                    installation.wait_stable(STABILIZATION_SECONDS)
                    found[name] = sample(installation, seconds)
                    report_progress(f"{masters} masters, {name}: {short(found[name])}")
                except NotInTime as problem:
                    found[name] = {"problem": str(problem)}
                    report_progress(f"{masters} masters, {name}: {problem}")
        entries.append({"masters": masters, "contenders": found})
    return {"quiet": entries}


def short(figures: Mapping[str, Sequence[float]]) -> str:
    """The figures in one line."""
    return ", ".join(f"{name} {'/'.join(f'{value:.1f}' for value in values)}" for name, values in figures.items())


def table(result: Mapping[str, Any]) -> str:
    """The measurements, ready to print."""
    parts = []
    for entry in result["quiet"]:
        contenders: dict[str, Any] = entry["contenders"]
        samples = {name: figures for name, figures in contenders.items() if "problem" not in figures}
        parts.append(f"quiet, {entry['masters']} masters with a replica each: median (min–max) of the Sentinels\n")
        if samples:
            parts.append(comparison(FIGURES, samples))
        parts += [f"{name}: {each['problem']}" for name, each in contenders.items() if "problem" in each]
        parts.append("")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = arguments("quiet", __doc__.split("\n\n")[0], [100, 400, 1000])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long is measured")
    options = parser.parse_args(argv)
    result = measure(chosen_contenders(options.contenders, report_progress), options.masters, options.seconds)
    print(f"\n{table(result)}")
    if options.json:
        keep(Path(options.json), result)


if __name__ == "__main__":
    main()
