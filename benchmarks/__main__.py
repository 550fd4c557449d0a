"""
The benchmarks: ``make bench``, ``make bench BENCH="address --pairs 7"``, ``make bench BENCH="mass-failure --quick"``.

``python -m benchmarks`` measures the figures of :mod:`benchmarks.figures`, or those that are named, in pairs with
redis-sentinel, and compares them with their history. With the name of a scenario it runs that one, with the options of
its module behind the name: a scenario has more detail, and no pairs. ``all`` runs every scenario one after the other.
Scenarios print tables and write all samples to ``build/benchmarks.json``, where the results of the others are kept, and
pictures beside it. ``--quick`` makes everything small: it shows that all of it works here, not how fast anything is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks import figures
from benchmarks.pictures import draw

ALL: Final = "all"
"""Stands for every scenario."""

RESULTS: Final = Path("build/benchmarks.json")
PICTURES: Final = Path("build/benchmarks")


@dataclass(frozen=True)
class Scenario:
    """One part of the suite: a module with ``main(arguments)``, which takes ``--json FILE`` among them."""

    module: str
    what: str
    quick: str
    """Its arguments in a small run."""


SCENARIOS: Final = {
    "quiet": Scenario("benchmarks.quiet", "what a Sentinel costs while nothing happens", "--masters 20 --seconds 3"),
    "start": Scenario("benchmarks.start", "how long until Sentinels know everything", "--masters 20"),
    "mass-failure": Scenario(
        "benchmarks.mass_failure",
        "many masters lost at once",
        "--masters 20 --victims 5 --down-after 1000 --faults die --timeout 30",
    ),
    "many-masters": Scenario(
        "benchmarks.many_masters",
        "how the work grows with the masters, simulated",
        "--masters 5 10 --seconds 2 --failure",
    ),
    "latency": Scenario(
        "benchmarks.failover",
        "how long one master's death is felt",
        "--rounds 1 --down-after 1000 --watch 2",
    ),
    "guards": Scenario(
        "benchmarks.guards",
        "what is kept that C Sentinels lose",
        "--rounds 1 --servers redis",
    ),
    "clients": Scenario(
        "benchmarks.clients",
        "what clients get, and what it costs",
        "--rounds 1 --masters 1 20 --connections 1 50 --subscribers 100 --events 10 --factor 0.1",
    ),
    "operators": Scenario(
        "benchmarks.operators",
        "what metrics and streams of events cost",
        "--masters 20 --pairs 1 --seconds 2 --victims 2 --down-after 1000",
    ),
    "proxy": Scenario(
        "benchmarks.proxy",
        "what a connection through the TCP proxy costs, beside HAProxy",
        "--rounds 1 --requests 400",
    ),
    "growth": Scenario(
        "benchmarks.growth",
        "how cost and duration grow with the number of masters",
        "--masters 10 20 --seconds 3 --down-after 1000 --timeout 30",
    ),
}


def run(scenario: Scenario, arguments: Sequence[str]) -> dict[str, Any]:
    """
    Run one scenario, which prints its tables.

    :returns: what it would write as JSON.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "result.json"
        import_module(scenario.module).main([*arguments, "--json", str(path)])
        result: dict[str, Any] = json.loads(path.read_text())
        return result


def merged(path: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """Merge these results into the file; return the results of all scenarios in it."""
    known: dict[str, Any] = {}
    if path.exists():
        known = json.loads(path.read_text())
    known.update(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n")
    return known


def main(argv: Sequence[str] | None = None) -> int:
    """
    The command line.

    :returns: the exit status: 1 if a scenario failed, or with ``--check`` if a figure is worse than before.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not {ALL, *SCENARIOS} & set(words[:1]):
        return figures.main(words)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures Sentinels of all kinds in the same run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scenarios:\n" + "\n".join(f"  {name:8} {each.what}" for name, each in SCENARIOS.items()),
    )
    parser.add_argument("scenario", choices=[ALL, *SCENARIOS])
    parser.add_argument("--quick", action="store_true", help="small runs, to see that it works")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="every sample, as JSON")
    parser.add_argument("--pictures", type=Path, default=PICTURES, metavar="DIRECTORY")
    options, rest = parser.parse_known_args(words)
    if rest and options.scenario == ALL:
        parser.error(f"these are options of a scenario, which has to be named: {' '.join(rest)}")
    failed = []
    known: dict[str, Any] = {}
    for name in SCENARIOS if options.scenario == ALL else [options.scenario]:
        scenario = SCENARIOS[name]
        print(f"== {name}: {scenario.what}", flush=True)
        began = time.monotonic()
        try:
            result = run(scenario, [*(scenario.quick.split() if options.quick else ()), *rest])
        except Exception:
            # The other scenarios are useful without this one.
            traceback.print_exc()
            failed.append(name)
            continue
        known = merged(options.results, {name: result})
        print(f"== {name}: {time.monotonic() - began:.0f} s\n", flush=True)
    if known:
        print(f"all samples: {options.results}")
        try:
            for path in draw(known, options.pictures):
                print(f"picture: {path}")
        except ImportError:
            print("no pictures: they need matplotlib")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
