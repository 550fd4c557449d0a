"""
Inject faults into installations of real servers and Sentinels, and count their effects.

``python -m tests.outside --rounds 20 --seed 1 --sentinels txsentinel:2,redis:1 redis:3 --min-replicas-to-write 0 1``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.interop.rounds import kinds_of
from tests.outside.cluster import DOWN_AFTER, FAILOVER_TIMEOUT, Setting, takes_guards
from tests.outside.plan import GENERAL_FAULTS, GUARDED_FAULTS, FaultType
from tests.outside.report import summary, table
from tests.outside.series import Archive, FaultSettings, RoundSeries, WrongFile, name_of
from tests.servers import available

FAULTS = {"general": GENERAL_FAULTS, "guarded": GUARDED_FAULTS, "all": GENERAL_FAULTS + GUARDED_FAULTS}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.outside",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--rounds", type=int, default=5, help="per setting (default: %(default)s)")
    made.add_argument("--first", type=int, default=1, help="number of the first round (default: %(default)s)")
    made.add_argument("--seed", type=int, default=1, help="of the faults (default: %(default)s)")
    made.add_argument(
        "--sentinels", nargs="+", metavar="KIND:N,KIND:N", default=["txsentinel:2,redis:1"], help="one group or more"
    )
    made.add_argument(
        "--min-replicas-to-write",
        nargs="+",
        type=int,
        metavar="N",
        default=[0],
        help="each group is attacked with each of these settings of the servers (default: 0)",
    )
    made.add_argument(
        "--guards",
        nargs="+",
        choices=["off", "on"],
        default=["off"],
        help="each group with one of ours is attacked with each of these (default: off)",
    )
    made.add_argument("--max-lag", type=int, default=2, help="min-replicas-max-lag in seconds (default: %(default)s)")
    made.add_argument("--server", default="redis", choices=["redis", "valkey"], help="default: %(default)s")
    made.add_argument("--at-once", type=int, default=4, help="most faults of a round (default: %(default)s)")
    made.add_argument(
        "--faults", choices=list(FAULTS), default="general", help="kinds to draw from (default: %(default)s)"
    )
    made.add_argument(
        "--kind",
        action="append",
        choices=[kind.value for kind in FaultType],
        help="one kind of faults instead of --faults; may be repeated",
    )
    made.add_argument("--block", type=int, default=10, help="rounds before it is the next setting's turn")
    made.add_argument(
        "--jobs", type=int, default=1, help="installations that run at the same time (default: %(default)s)"
    )
    made.add_argument("--json", type=Path, help="file of all results; rounds that are in it are not played again")
    return made


def settings_of(options: argparse.Namespace) -> list[Setting]:
    """Return the combinations of groups, guards and server settings; groups of C Sentinels have no guards."""
    settings = []
    for mix in options.sentinels:
        kinds = tuple(kinds_of(mix))
        for guards in options.guards if any(map(takes_guards, kinds)) else ["off"]:
            settings += [
                Setting(kinds, options.server, minimum, options.max_lag, guards == "on")
                for minimum in options.min_replicas_to_write
            ]
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the rounds, and print the table.

    :returns: the exit status: 1 if a round violated an invariant, 2 if no round could be run.
    """
    options = parser().parse_args(arguments)
    settings = settings_of(options)
    absent = sorted({kind for each in settings for kind in (*each.sentinels, each.server) if not available(kind)})
    if absent:
        print(f"not on this machine: {', '.join(absent)}", file=sys.stderr)
        return 2
    fault_types = FAULTS[options.faults]
    if options.kind:
        fault_types = tuple(kind for kind in FaultType if kind.value in options.kind)
    fault_settings = FaultSettings(options.seed, options.at_once, fault_types)
    parameters = {
        **fault_settings.as_json(),
        "server": options.server,
        "max_lag": options.max_lag,
        "down_after": DOWN_AFTER,
        "failover_timeout": FAILOVER_TIMEOUT,
    }
    try:
        archive = Archive(options.json, parameters)
    except WrongFile as problem:
        print(problem, file=sys.stderr)
        return 2
    numbers = range(options.first, options.first + options.rounds)
    RoundSeries(fault_settings, archive, lambda text: print(text, flush=True)).run(
        settings, numbers, options.block, options.jobs
    )
    columns = {
        name: [result for result in archive.results(name) if result.number in numbers]
        for name in map(name_of, settings)
    }
    print(f"\nseed {options.seed}, rounds {numbers[0]} to {numbers[-1]}, {options.server} servers\n")
    print(summary([(setting, columns[name_of(setting)]) for setting in settings]), end="\n\n")
    print(table(columns))
    return int(any(result.violations for results in columns.values() for result in results))


if __name__ == "__main__":
    sys.exit(main())
