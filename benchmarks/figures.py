"""
The figures of ``make bench``: what each experiment of :mod:`benchmarks.paired` measures.

``python -m benchmarks quiet-1 address --contenders redis txsentinel old=../older/build/compiled --pairs 7``

Each experiment starts new processes for each pair, so that what differs from start to start of the same program is part
of the spread. Times are CPU seconds where possible, because other processes have the least influence on them. Results
of at least five pairs with redis-sentinel as the baseline are added to ``benchmarks/history.json``.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import mass_failure
from benchmarks.clients import ADDRESS, MASTERS, certificate, is_stable
from benchmarks.gauges import resident_bytes
from benchmarks.history import (
    HISTORY,
    MIN_PAIRS,
    BadHistory,
    Entry,
    Verdict,
    compare,
    documented,
    entries,
    read_history,
    replace_table,
    write_history,
)
from benchmarks.installation import Installation, NotInTime, report_progress
from benchmarks.load import Load, processor_seconds
from benchmarks.paired import (
    Contender,
    Experiment,
    Figure,
    Result,
    Values,
    as_json,
    contender,
    in_turn,
    run,
    surroundings,
    table,
)
from benchmarks.standins.fleet import StandInFleet
from txsentinel.demo import BinaryMissing, Harness, SentinelProcess, wait_for
from txsentinel.demo.processes import free_port
from txsentinel.demo.programs import COMPILED, SOURCE

DEFAULT_CONTENDERS: Final = ("redis", "txsentinel", "compiled")
PAGE: Final = SOURCE / "docs" / "performance.rst"
STABILIZATION_SECONDS: Final = 400.0
UNDISTURBED_SECONDS: Final = 3.0
SELDOM: Final = tuple(word for name in ("ping", "info", "publish") for word in (f"{name}-period", "600000"))
"""The periods for :func:`load`: a thousand monitored masters must not disturb the measurement of replies."""

LONG: Final = frozenset({"quiet-5000", "after-failures", "failure-2000"})
"""Experiments of more than a quarter of an hour, which are run only if they are named."""

CPU: Final = Figure("CPU of a Sentinel", "% of a core")
MEMORY: Final = Figure("resident memory of a Sentinel", "MB")


# A quiet Sentinel


def installation(each: Contender, masters: int, replicas: int, sentinels: int = 3) -> Installation:
    """So many Sentinels of one contender over a fleet of their own."""
    made = Installation((each.kind,) * sentinels, masters, replicas)
    for sentinel in made.sentinels:
        sentinel.variables.update(each.variables)
    return made


def quiet(
    contenders: Sequence[Contender], masters: int, replicas: int, seconds: float, sentinels: int = 3
) -> dict[str, Values]:
    """CPU and memory of a Sentinel over the same seconds, each contender with a fleet of its own."""
    with ExitStack() as stack:
        groups = {}
        for each in contenders:
            groups[each.name] = stack.enter_context(installation(each, masters, replicas, sentinels))
            groups[each.name].start()
        for name, group in list(groups.items()):
            try:
                group.wait_stable(STABILIZATION_SECONDS)
            except NotInTime as problem:
                report_progress(f"{name}: {problem}")
                del groups[name]
        pids = {name: [sentinel.pid for sentinel in group.sentinels] for name, group in groups.items()}
        return {name: {**used, **memory(pids[name])} for name, used in cpu(pids, seconds).items()}


def cpu(pids: Mapping[str, Sequence[int]], seconds: float) -> dict[str, dict[str, float]]:
    """CPU in per cent of a core over so many seconds, by name the mean of its processes."""
    began, before = time.monotonic(), {pid: processor_seconds(pid) for each in pids.values() for pid in each}
    time.sleep(seconds)
    used = {pid: processor_seconds(pid) - early for pid, early in before.items()}
    passed = time.monotonic() - began
    return {name: {"cpu": statistics.fmean(used[pid] for pid in each) / passed * 100} for name, each in pids.items()}


def memory(pids: Sequence[int]) -> dict[str, float]:
    """The mean of the resident memory of processes."""
    return {"memory": statistics.fmean(resident_bytes(pid) for pid in pids) / 1e6}


def shared(contenders: Sequence[Contender], masters: int, replicas: int, seconds: float) -> dict[str, Values]:
    """CPU and memory of one Sentinel of each contender, over the same seconds; all monitor the same masters."""
    with Installation([each.kind for each in contenders], masters, replicas) as group:
        for each, sentinel in zip(contenders, group.sentinels, strict=True):
            sentinel.variables.update(each.variables)
        group.start()
        group.wait_stable(STABILIZATION_SECONDS)
        pids = {each.name: [sentinel.pid] for each, sentinel in zip(contenders, group.sentinels, strict=True)}
        return {name: {**used, **memory(pids[name])} for name, used in cpu(pids, seconds).items()}


# Clients


@contextmanager
def served(
    each: Contender, masters: int, replicas: int = 0, lines: Sequence[str] = ()
) -> Iterator[tuple[StandInFleet, SentinelProcess]]:
    """A fleet and one Sentinel of a contender over it, which is not started."""
    with StandInFleet(masters, replicas, 1) as fleet, Harness() as harness:
        sentinel = harness.sentinel(each.kind, monitor=fleet.monitors(1), down_after=60_000, extra=lines)
        sentinel.variables.update(each.variables)
        yield fleet, sentinel


def load(each: Contender, load: Load, masters: int, secured: bool = False) -> Values:
    """
    Put a load on a Sentinel: replies per second, and microseconds of its CPU for each.

    Meanwhile it sends next to no probes. What it uses all the same is subtracted.
    """
    with ExitStack() as stack:
        lines: list[str] = []
        port = None
        if secured:
            port = free_port()
            lines = [*stack.enter_context(certificate()), f"tls-port {port}"]
        _, sentinel = stack.enter_context(served(each, masters, lines=lines))
        sentinel.start()
        wait_for(partial(is_stable, sentinel), STABILIZATION_SECONDS, f"{each.name} to become stable")
        sentinel.call("SENTINEL", "DEBUG", *SELDOM)
        time.sleep(UNDISTURBED_SECONDS)
        idle = cpu({"": [sentinel.pid]}, 2.0)[""]["cpu"] / 100
        found = load.put(sentinel.port if port is None else port, sentinel.pid)
        return {"rate": found["rate"], "cpu": max(0.0, found["cpu"] - idle * found["seconds"] / load.requests * 1e6)}


# Start


def serving(each: Contender, times: int = 3) -> Values:
    """From the start of the process until it answers PING, with one master and two replicas; medians of some starts."""
    took, used = [], []
    with served(each, 1, 2) as (_, sentinel):
        for _ in range(times):
            began = time.monotonic()
            sentinel.start(ready=False)
            while not _answers(sentinel):
                if not sentinel.running:
                    raise RuntimeError(f"{sentinel.name} ended: {sentinel.log_text()[-2000:]}")
                time.sleep(0.001)
            took.append((time.monotonic() - began) * 1000)
            used.append(processor_seconds(sentinel.pid) * 1000)
            sentinel.stop()
    return {"time": statistics.median(took), "cpu": statistics.median(used)}


def _answers(sentinel: SentinelProcess) -> bool:
    try:
        return sentinel.call("PING", timeout=1.0) == "PONG"
    except OSError:
        return False


# Many masters that die


def failure(each: Contender, masters: int, replicas: int, victims: int, timeout: float) -> Values:
    """A mass failure: seconds until all Sentinels agree on all new masters, and what a Sentinel used for that."""
    with installation(each, masters, replicas) as group:
        group.start()
        try:
            group.wait_stable(STABILIZATION_SECONDS)
        except NotInTime as problem:
            report_progress(f"{each.name}: {problem}")
            return {}
        found = mass_failure.sample(group, mass_failure.MassFailure(masters, victims, 5000, "die"), timeout)["figures"]
    values = {
        "missing": max(found["not_agreed"]),
        "cpu": statistics.fmean(found["cpu"]),
        "memory": max(found["resident"]),
        "slowest": max(found["slowest_answer"], default=timeout * 1000),
    }
    if found["agreed_last"]:
        values["agreed"] = found["agreed_last"][0] / 1000
    return values


FAILURE_FIGURES: Final = {
    "agreed": Figure("from the loss until all Sentinels answer all new addresses", "s"),
    "missing": Figure("masters that were not replaced in time", "masters"),
    "cpu": Figure("CPU of a Sentinel for that", "ms"),
    "memory": Figure("resident memory of the largest Sentinel", "MB"),
    "slowest": Figure("slowest answer to a client meanwhile", "ms"),
}


def after_failures(each: Contender, masters: int, victims: int, times: int, seconds: float) -> Values:
    """Memory after mass failures, each followed by as long a time in which the masters come back as replicas."""
    with installation(each, masters, 1) as group:
        group.start()
        try:
            group.wait_stable(STABILIZATION_SECONDS)
            for _ in range(times):
                lost = list(group.present_masters(victims).values())
                group.fleet.crash(lost)
                time.sleep(seconds)
                group.fleet.restart(lost)
                time.sleep(seconds)
        except NotInTime as problem:
            report_progress(f"{each.name}: {problem}")
            return {}
        return memory([sentinel.pid for sentinel in group.sentinels])


# The simulator


def simulated(each: Contender, seeds: int) -> Values:
    """Simulated seconds per CPU second with faults; nothing for Sentinels that cannot be simulated."""
    if each.kind not in ("txsentinel", "compiled"):
        return {}
    path = COMPILED.with_name("compiled-simulator") if each.kind == "compiled" else each.path or SOURCE
    if not path.is_dir():
        report_progress(f"{each.name}: left out, there is no {path} (make soak-compiled makes it)")
        return {}
    program = f"from benchmarks.simulation import soak; import statistics; print(statistics.median(soak({seeds})))"
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=directory,
            env={"PYTHONPATH": f"{path}:{SOURCE}", "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
    return {"rate": float(done.stdout)}


# All of them


def experiments(quick: bool = False) -> dict[str, Experiment]:
    """
    Every experiment by its name.

    :param quick: with a fiftieth of the masters and of the requests, to see that everything works.
    """
    few: Callable[[int], int] = (lambda count: max(1, count // 50)) if quick else (lambda count: count)
    seconds = 2.0 if quick else 20.0
    idle = {"cpu": CPU, "memory": MEMORY}
    answers = {
        "cpu": Figure("CPU of the Sentinel for each reply", "µs"),
        "rate": Figure("replies per second", "/s", more_is_better=True),
    }
    connections = {
        "cpu": Figure("CPU of the Sentinel for each connection and PING", "µs"),
        "rate": Figure("new connections per second", "/s", more_is_better=True),
    }
    entering = Load(("PING",), 50, requests=few(6000) + 50, reconnect=True)
    secured = Load(("PING",), 50, requests=few(1500) + 50, reconnect=True, options=("--tls", "--insecure"))
    one, many = Load(ADDRESS, 50, 1, few(60_000) + 50), Load(ADDRESS, 50, 16, few(240_000) + 800)
    masters = Load(MASTERS, 1, 1, few(300))
    return {
        "quiet-1": Experiment("1 master, 2 replicas", idle, partial(quiet, masters=1, replicas=2, seconds=seconds)),
        "quiet-100": Experiment(
            "100 masters, 100 replicas", idle, partial(quiet, masters=few(100), replicas=1, seconds=seconds)
        ),
        "quiet-1000": Experiment(
            "1,000 masters, 1,000 replicas",
            idle,
            in_turn(lambda each: quiet([each], few(1000), 1, seconds).get(each.name, {})),
        ),
        "quiet-5000": Experiment(
            "5,000 masters, one Sentinel",
            idle,
            in_turn(lambda each: quiet([each], few(5000), 0, seconds, sentinels=1).get(each.name, {})),
        ),
        "shared-1000": Experiment(
            "1,000 masters that all three monitor",
            idle,
            partial(shared, masters=few(1000), replicas=1, seconds=seconds),
        ),
        "address": Experiment(
            "SENTINEL GET-MASTER-ADDR-BY-NAME, one at a time", answers, in_turn(partial(load, load=one, masters=1))
        ),
        "address-16": Experiment("the same, 16 at a time", answers, in_turn(partial(load, load=many, masters=1))),
        "masters-1000": Experiment(
            "SENTINEL MASTERS of 1,000", answers, in_turn(partial(load, load=masters, masters=few(1000)))
        ),
        "connections": Experiment("connections", connections, in_turn(partial(load, load=entering, masters=1))),
        "connections-tls": Experiment(
            "connections by TLS", connections, in_turn(partial(load, load=secured, masters=1, secured=True))
        ),
        "serving": Experiment(
            "start, 1 master",
            {
                "time": Figure("from the start of the process until it answers", "ms"),
                "cpu": Figure("CPU of the process until then", "ms"),
            },
            in_turn(serving),
        ),
        "failure-100": Experiment(
            "100 of 1,000 masters die",
            FAILURE_FIGURES,
            in_turn(partial(failure, masters=few(1000), replicas=1, victims=few(100), timeout=60.0)),
        ),
        "failure-2000": Experiment(
            "2,000 masters with 4,000 replicas all die",
            FAILURE_FIGURES,
            in_turn(partial(failure, masters=few(2000), replicas=2, victims=few(2000), timeout=180.0)),
        ),
        "after-failures": Experiment(
            "after 100 of 1,000 masters have died three times",
            {"memory": MEMORY},
            in_turn(
                partial(after_failures, masters=few(1000), victims=few(100), times=3, seconds=2.0 if quick else 30.0)
            ),
        ),
        "simulated": Experiment(
            "simulator",
            {"rate": Figure("simulated seconds per second of a core, with faults", "/s", more_is_better=True)},
            in_turn(partial(simulated, seeds=1 if quick else 3)),
        ),
    }


def write_page(history: Sequence[Entry]) -> None:
    """Put the last results into the documentation."""
    PAGE.write_text(replace_table(PAGE.read_text(), documented(history, titles())))


def titles() -> dict[str, str]:
    """The row of each figure in the documentation."""
    return {
        f"{name}.{key}": f"{experiment.about}: {figure.title}"
        for name, experiment in experiments().items()
        for key, figure in experiment.figures.items()
    }


def chosen(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """
    The experiments that match one of the patterns; without patterns those that are not long.

    :raises ValueError: if a pattern matches none.
    """
    if not patterns:
        return [name for name in names if name not in LONG]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"no experiment is named {pattern}; there are {', '.join(names)}")
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def present(names: Sequence[str]) -> list[Contender]:
    """The contenders of these names; of the default ones only those that are here."""
    found = []
    for name in names:
        try:
            found.append(contender(name))
        except (ValueError, BinaryMissing) as problem:
            if names != DEFAULT_CONTENDERS:
                raise
            report_progress(f"left out: {problem}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """
    The command line.

    :returns: the exit status: 1 if an experiment failed, or with ``--check`` if a result is worse than those before.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument("experiments", nargs="*", metavar="NAME", help="names or patterns; '*' is all of them")
    parser.add_argument("--contenders", nargs="+", default=DEFAULT_CONTENDERS, metavar="KIND|NAME=DIRECTORY")
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, metavar="N")
    parser.add_argument("--quick", action="store_true", help="one small pair, to see that it works")
    parser.add_argument("--history", type=Path, default=HISTORY, metavar="FILE")
    parser.add_argument("--no-record", action="store_true", help="compare with the history, but do not add to it")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a result is worse than those before")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for every sample")
    parser.add_argument(
        "--write", action="store_true", help=f"measure nothing; write the last results into {PAGE.name} again"
    )
    options = parser.parse_args(argv)
    if options.pairs < 1:
        parser.error(f"--pairs {options.pairs}: at least one")
    available = experiments(options.quick)
    try:
        history = read_history(options.history)
        if options.write:
            write_page(history)
            return 0
        contenders = present(options.contenders)
        names = chosen(options.experiments, list(available))
        if not contenders:
            raise ValueError("none of the contenders is on this machine")
        if len({each.name for each in contenders}) != len(contenders):
            raise ValueError("two contenders have the same name")
    except (BadHistory, ValueError, BinaryMissing) as problem:
        parser.error(str(problem))
    report_progress(surroundings(contenders))
    unrecorded = options.quick or options.pairs < MIN_PAIRS or contenders[0].name != DEFAULT_CONTENDERS[0]
    results: list[Result] = []
    verdicts: list[Verdict] = []
    failed = []
    for name in names:
        try:
            found = run([name], available, contenders, 1 if options.quick else options.pairs, report_progress)
        except Exception:
            # The other experiments are useful without this one.
            traceback.print_exc()
            failed.append(name)
            continue
        results += found
        if not unrecorded:
            verdicts += record(found, contenders, history, None if options.no_record else options.history)
    print(f"\n{table(results, contenders)}")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"figures": as_json(results)}, indent=2, ensure_ascii=False) + "\n")
    if unrecorded:
        baseline = DEFAULT_CONTENDERS[0]
        print(f"\nnot recorded: this takes {MIN_PAIRS} pairs, the full size and {baseline} as the baseline")
    else:
        print("\ncompared with the history:")
        for verdict in verdicts:
            print(verdict)
    worse = options.check and any(each.change == "worse" for each in verdicts)
    return int(bool(failed) or worse)


def record(
    results: Sequence[Result], contenders: Sequence[Contender], history: Sequence[Entry], path: Path | None
) -> list[Verdict]:
    """
    Compare results with a history, and add them to the one at ``path``.

    :param path: the file of the history, to which others may have added entries meanwhile; ``None`` to leave it.
    """
    verdicts = compare(entries(results, contenders), history)
    if path is not None:
        now = [*read_history(path), *(each.entry for each in verdicts)]
        write_history(path, now)
        if path == HISTORY:
            write_page(now)
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
