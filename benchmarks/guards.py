"""
The guards: what Sentinels keep of data and time beyond the C Sentinels, beside them in the same run.

``python -m benchmarks.guards --rounds 50 --servers redis redis-8.2 valkey --delays 200``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import crash, empty_restart, failover
from benchmarks.report import keep, server_version
from txsentinel.demo.programs import SERVER_KINDS, available


def empty_restarts(options: argparse.Namespace) -> dict[str, Any]:
    """Measure how many keys are left after the restart of an empty master; return the samples."""
    samples: dict[str, Any] = {}
    for server in options.servers:
        if not available(server):
            print(f"{server}: not on this machine, left out")
            continue
        kinds = [kind for kind in options.kinds if available(kind)]
        results = empty_restart.measure(
            kinds,
            server,
            options.delays,
            options.rounds,
            options.down_after,
            options.replicas,
            lambda text: print(text, flush=True),
        )
        print(f"\n{empty_restart.table(server_version(server) or server, results)}\n", flush=True)
        samples[server] = {
            str(delay): {kind: vars(found) for kind, found in by_kind.items()} for delay, by_kind in results.items()
        }
    return samples


def crashes(options: argparse.Namespace) -> dict[str, Any]:
    """Measure how soon a replica accepts writes after the master was killed; return the samples."""
    kinds = [kind for kind in options.kinds if available(kind)]
    server = next(kind for kind in options.servers if available(kind))
    results = crash.measure(kinds, server, options.down_after, options.rounds, lambda text: print(text, flush=True))
    print(f"\n{failover.table(options.down_after, results)}\n", flush=True)
    return {group: vars(found) for group, found in results.items()}


PARTS = {"crash": crashes, "empty-restart": empty_restarts}
"""The guards that can be measured, by name."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guards", description=__doc__.split("\n\n")[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), help="which guards")
    parser.add_argument("--rounds", type=int, default=10, help="per kind of Sentinel, server and delay")
    parser.add_argument("--kinds", nargs="+", default=["redis", "txsentinel"], help="Sentinels, the measure first")
    parser.add_argument("--servers", nargs="+", default=["redis", "redis-8.2", "valkey"], choices=SERVER_KINDS)
    parser.add_argument("--delays", type=int, nargs="+", default=[200], metavar="MS", help="until the empty restart")
    parser.add_argument("--down-after", type=int, default=5_000, metavar="MS")
    parser.add_argument("--replicas", type=int, default=2, help="of each master")
    parser.add_argument("--json", type=Path, help="file for every sample")
    options = parser.parse_args(arguments)
    results = {part: PARTS[part](options) for part in options.parts}
    if options.json:
        keep(options.json, results)


if __name__ == "__main__":
    main()
