"""
Run an operator's own sentinel.conf through faults, in simulation, and report what would happen.

The file is only read. TARGETS, separated by commas, are:
  1, 2, ... (or s1, s2, ...)       Sentinels; 1 is the one whose file it is
  NAME                             the master of that name at that moment
  NAME/1, NAME/2, ...              its servers; 1 is the master in the file
  NAME/replicas                    those that are not the master at that moment
  all-masters, all-replicas, all-sentinels, majority (of the Sentinels), client
  10.0.0.1, 10.0.0.1:6379          all processes at an address of the file
Groups of targets are separated by |, and "others" is the group of all that are in no other.

exit status: 0 if every master ended with a working master in every seed, 1 if not, 2 if there is nothing to run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from txsentinel.config.errors import ConfigError
from txsentinel.sim.redis.settings import DEFAULTS
from txsentinel.sim.whatif.environment import Conditions
from txsentinel.sim.whatif.faults import FAULT_TYPES, BadFault, RequestedFault, parse_fault
from txsentinel.sim.whatif.report import as_json, describe, spread, summary, timeline
from txsentinel.sim.whatif.run import SeedResult, WhatIf
from txsentinel.sim.whatif.targets import BadTarget, server_names
from txsentinel.sim.whatif.topology import BadTopology, Topology, read_topology

PROGRAM = "txsentinel whatif"

EXAMPLES = """
examples:
  --kill mymaster@10                         the master dies ten seconds into the simulation
  --power-loss 10.0.0.10                     its machine is gone, with the Sentinel on it
  --partition 'mymaster,1,client|others@5+60'   the master, a Sentinel and the client are cut off for a minute
  --freeze mymaster@0+20 --slow-disk 2=800   the master hangs for 20 s while a Sentinel saves slowly
  --kill all-masters --replica-priority mymaster/2=0 --seeds 20
"""


class _Append(argparse.Action):
    """Collects faults of all types in the order in which they were given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add one fault."""
        namespace.faults = [*namespace.faults, (str(option_string).lstrip("-"), values)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s sentinel.conf --FAULT TARGETS[@SECONDS[+LASTS]] ... [OPTIONS]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="sentinel.conf", help="the file; it is only read")
    faults = parser.add_argument_group(
        "faults", "TARGETS[@SECONDS[+LASTS]]: seconds after the fleet is at rest. Each may be given more than once."
    )
    for name, row in FAULT_TYPES.items():
        targets = "TARGETS|TARGETS" if row.groups[0] > 1 else "MASTER" if row.of == "master" else "TARGETS"
        value = f"[={row.value}]" if row.optional else f"={row.value}" if row.value else ""
        faults.add_argument(
            f"--{name}", action=_Append, dest="faults", default=[], metavar=f"{targets}{value}@…", help=row.help
        )
    fleet = parser.add_argument_group("what the file does not define")
    fleet.add_argument("--sentinels", type=_count(1), metavar="N", help="how many Sentinels there are")
    fleet.add_argument("--replicas", type=_count(0), metavar="N", help="how many replicas each master has")
    fleet.add_argument("--this-host", metavar="ADDRESS", help="the machine that the file is from")
    fleet.add_argument("--host", action="append", default=[], metavar="NAME=ADDRESS", help="what a name resolves to")
    fleet.add_argument("--replica-priority", action="append", default=[], metavar="SERVERS=N")
    fleet.add_argument(
        "--replica-lag", action="append", default=[], metavar="SERVERS=MS", help="how much later replicas have the data"
    )
    fleet.add_argument(
        "--redis", action="append", default=[], metavar="SERVERS:NAME=VALUE", help="a directive of redis.conf"
    )
    fleet.add_argument(
        "--network", type=_at_least(0.0), default=0.2, metavar="MS", help="one way between machines; 0.2"
    )
    fleet.add_argument("--sync", type=_at_least(0.0), default=0.05, metavar="SECONDS", help="a full copy takes; 0.05")
    fleet.add_argument(
        "--load", type=_at_least(0.0), default=0.0, metavar="SECONDS", help="servers load when started; 0"
    )
    fleet.add_argument("--write-every", type=_at_least(1.0), default=10.0, metavar="MS", help="pace of the client; 10")
    fleet.add_argument(
        "--client-timeout", type=_at_least(1.0), default=1000.0, metavar="MS", help="timeout of the client; 1000"
    )
    parser.add_argument("--seconds", type=_at_least(0.0), help="watch for so long after the last fault")
    parser.add_argument("--no-return", action="store_true", help="what was lost does not come back in the end")
    parser.add_argument("--seed", type=int, default=1, help="of what is left to chance; 1")
    parser.add_argument(
        "--seeds", type=_count(1), default=1, metavar="N", help="run so many seeds, and report the spread"
    )
    parser.add_argument("--jobs", type=_count(1), default=os.cpu_count() or 1, metavar="N", help="processes for them")
    parser.add_argument("--json", action="store_true", help="everything, for machines")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        topology = read_topology(
            options.config,
            sentinels=options.sentinels,
            replicas=options.replicas,
            this_host=options.this_host,
            hosts=dict(_split(word, "=", "--host") for word in options.host),
        )
        conditions = _conditions(options, topology)
        faults = [parse_fault(kind, text, topology) for kind, text in options.faults]
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (BadTopology, BadFault, BadTarget, ValueError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 2
    if not faults:
        parser.error("nothing goes wrong; ask for a fault, such as --kill " + topology.groups[0].name)
    seeds = range(options.seed, options.seed + options.seeds)
    runs = [(topology, faults, conditions, seed, options.seconds, not options.no_return) for seed in seeds]
    results = _all(runs, min(options.jobs, len(runs)))
    lines = [json.dumps(as_json(topology, results), indent=2)] if options.json else _text(topology, results, arguments)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if all(result.works for result in results) else 1


Job = tuple[Topology, list[RequestedFault], Conditions, int, "float | None", bool]


def _all(jobs: Sequence[Job], processes: int) -> list[SeedResult]:
    if processes == 1:
        return [_one(job) for job in jobs]
    with ProcessPoolExecutor(processes) as pool:
        return [*pool.map(_one, jobs)]


def _one(job: Job) -> SeedResult:
    topology, faults, conditions, seed, seconds, returns = job
    return WhatIf(topology, faults, conditions, seed, seconds, returns).run()


def _text(topology: Topology, results: Sequence[SeedResult], arguments: Sequence[str]) -> list[str]:
    lines = [*describe(topology), ""]
    if len(results) == 1:
        return [*lines, *timeline(results[0].timeline), "", *summary(results[0])]

    def severity(result: SeedResult) -> tuple[bool, float, int]:
        return not result.works, sum(m.max_outage for m in result.masters), sum(m.lost for m in result.masters)

    worst = max(results, key=severity)
    return [
        *lines,
        *spread(results),
        "",
        f"the worst is seed {worst.seed}: see it with --seed {worst.seed} and no --seeds",
    ]


def _conditions(options: argparse.Namespace, topology: Topology) -> Conditions:
    settings: list[tuple[str, str, str]] = []
    for word in options.replica_priority:
        servers, value = _split(word, "=", "--replica-priority")
        _whole(value, "--replica-priority", word)
        settings += [(name, "replica-priority", value) for name in server_names(servers, topology)]
    for word in options.redis:
        rest, value = _split(word, "=", "--redis")
        servers, setting = _split(rest, ":", "--redis")
        if setting not in DEFAULTS:
            raise ValueError(f"--redis {word}: simulated servers know {', '.join(sorted(DEFAULTS))}")
        settings += [(name, setting, value) for name in server_names(servers, topology)]
    lags: list[tuple[str, float]] = []
    for word in options.replica_lag:
        servers, value = _split(word, "=", "--replica-lag")
        lags += [(name, float(_whole(value, "--replica-lag", word))) for name in server_names(servers, topology)]
    return Conditions(
        write_period=options.write_every / 1000,
        client_timeout=options.client_timeout / 1000,
        latency=options.network,
        sync_seconds=options.sync,
        load_seconds=options.load,
        settings=tuple(settings),
        lags=tuple(lags),
    )


def _split(word: str, mark: str, option: str) -> tuple[str, str]:
    left, found, right = word.rpartition(mark)
    if not (left and found and right):
        raise ValueError(f"{option} {word}: a {mark!r} is missing")
    return left, right


def _whole(value: str, option: str, word: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"{option} {word}: {value!r} is no whole number")
    return int(value)


def _count(minimum: int) -> Any:
    def count(word: str) -> int:
        if not word.isdecimal() or int(word) < minimum:
            raise argparse.ArgumentTypeError(f"{word!r} is no whole number from {minimum} up")
        return int(word)

    return count


def _at_least(minimum: float) -> Any:
    def number(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = minimum - 1
        if not minimum <= value < 1e9:
            raise argparse.ArgumentTypeError(f"{word!r} is no number from {minimum:g} up")
        return value

    return number
