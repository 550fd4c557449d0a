"""
Replies, events and connections of clients of a Sentinel: rates, latencies, and the CPU cost of each.

``python -m benchmarks.clients --rounds 5 --masters 1 100 1000 --connections 1 50 500 --json build/clients.json``

The contenders take turns, one Sentinel of each implementation, each over healthy masters of its own. *bare* is a
Twisted server that answers without parsing (:mod:`benchmarks.bare`): the difference to it is what txsentinel adds. The
cost of monitoring the masters is measured before and subtracted.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import benchmarks
from benchmarks.gauges import raise_descriptor_limit
from benchmarks.load import PROGRAM, Load, LoadFailed, processor_seconds
from benchmarks.report import comparison, keep
from benchmarks.standins.fleet import StandInFleet
from benchmarks.subscribers import Subscribers
from txsentinel.demo import ChildProcess, Connection, Harness, wait_for
from txsentinel.demo.processes import free_port
from txsentinel.demo.programs import available

CONTENDERS: Final = ("redis", "valkey", "txsentinel", "compiled", "bare")

FIGURES: Final = {
    "rate": "per second",
    "cpu": "CPU of the server, µs each",
    "p50": "median, ms",
    "p99": "99 of 100 within, ms",
    "slowest": "slowest, ms",
}
"""The figures of replies and of connections."""

EVENT_FIGURES: Final = {
    "one": "command → last subscriber has received its event, ms",
    "many": "the same for the last of {events} events of one command, ms",
    "frames": "frames per second of the server's CPU",
}

ADDRESS: Final = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m0")
MASTERS: Final = ("SENTINEL", "MASTERS")
STABILIZATION_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 2.0
EVENT_SECONDS: Final = 30.0


class Bare(ChildProcess):
    """The server that answers without parsing."""

    label = "bare"

    def command_line(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.bare", str(self.port)]

    def prepare(self) -> None:
        """Do nothing: it has no configuration."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(Path(benchmarks.__file__).parent.parent)}

    def wait_ready(self, seconds: float = 10.0) -> None:
        """Wait until it answers anything."""
        wait_for(lambda: bool(self.call("PING", timeout=1.0)), seconds, "the bare server")


@dataclass
class Entry:
    """One line of the tables."""

    title: str
    contenders: dict[str, dict[str, list[float]]]
    """Samples by figure, by contender."""

    def add(self, name: str, figures: Mapping[str, float]) -> None:
        """Add the result of one turn of a contender."""
        samples = self.contenders.setdefault(name, {})
        for figure, value in figures.items():
            samples.setdefault(figure, []).append(value)


def requests(masters: int, connections: int, pipeline: int, factor: float) -> list[tuple[str, Load]]:
    """
    The loads for one number of masters and of connections, with titles.

    :param factor: of the usual number of requests.
    """
    about = f"{connections} connection{'s' * (connections > 1)}, {pipeline} request{'s' * (pipeline > 1)} each"
    loads = []
    if masters == 1:
        count = 60_000 if connections > 1 or pipeline > 1 else 15_000
        loads.append((f"address, {about}", Load(ADDRESS, connections, pipeline, int(count * factor))))
    if pipeline == 1 or masters == 1:
        count = max(int(20_000 * factor) // masters, 2 * connections)
        plural = "s" * (masters > 1)
        loads.append((f"MASTERS of {masters} master{plural}, {about}", Load(MASTERS, connections, pipeline, count)))
    return loads


class ServerSet:
    """One process of each contender over so many masters; use it as a context manager."""

    def __init__(self, names: Sequence[str], masters: int, lines: Sequence[str] = (), tls: bool = False) -> None:
        """
        :param lines: further lines for the configurations.
        :param tls: give each a TLS port too, one above the other.
        """
        self._stack = ExitStack()
        harness = self._stack.enter_context(Harness())
        self.processes: dict[str, ChildProcess] = {}
        self.tls_ports: dict[str, int] = {}
        for name in names:
            if name == "bare":
                port = free_port()
                bare = Bare(port, harness.directory / "bare")
                self._stack.callback(bare.stop)
                self.processes[name] = bare
                continue
            fleet = self._stack.enter_context(StandInFleet(masters, 0, 1))
            extra = list(lines)
            if tls:
                self.tls_ports[name] = free_port()
                extra.append(f"tls-port {self.tls_ports[name]}")
            self.processes[name] = harness.sentinel(name, monitor=fleet.monitors(1), down_after=60_000, extra=extra)

    def __enter__(self) -> ServerSet:
        try:
            for process in self.processes.values():
                process.start()
            for name, process in self.processes.items():
                if name != "bare":
                    wait_for(partial(is_stable, process), STABILIZATION_SECONDS, f"{name} to become stable")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def idle(self) -> dict[str, float]:
        """The processor time that each contender uses by itself, in seconds per second."""
        before = {name: processor_seconds(process.pid) for name, process in self.processes.items()}
        began = time.monotonic()
        time.sleep(IDLE_SECONDS)
        passed = time.monotonic() - began
        return {
            name: (processor_seconds(process.pid) - before[name]) / passed for name, process in self.processes.items()
        }


def is_stable(process: ChildProcess) -> bool:
    """Whether all its masters are healthy."""
    lines = str(process.call("INFO", "sentinel", timeout=30.0)).splitlines()
    known = [line for line in lines if line.startswith("master") and "name=" in line]
    return bool(known) and all("status=ok" in line for line in known)


def _turn(server_set: ServerSet, entry: Entry, name: str, load: Load, port: int, idle: float) -> None:
    process = server_set.processes[name]
    figures = load.put(port, process.pid)
    seconds = figures.pop("seconds")
    figures["cpu"] = max(figures["cpu"] - idle * seconds / load.requests * 1e6, 0.0)
    entry.add(name, figures)


def measure_requests(
    names: Sequence[str],
    rounds: int,
    masters: Sequence[int],
    connections: Sequence[int],
    pipelines: Sequence[int],
    factor: float,
    report_progress: Callable[[str], None],
) -> list[Entry]:
    """Measure replies: every load on every contender, in turns."""
    entries = []
    for count in masters:
        present = [name for name in names if name != "bare" or count == 1]
        with ServerSet(present, count) as server_set:
            idle = server_set.idle()
            loads = [
                each for number in connections for depth in pipelines for each in requests(count, number, depth, factor)
            ]
            for title, load in loads:
                entry = Entry(title, {})
                for _ in range(rounds):
                    for name in present:
                        if name != "bare" or load.words == ADDRESS:
                            _turn(server_set, entry, name, load, server_set.processes[name].port, idle[name])
                report_progress(_line(entry))
                entries.append(entry)
    return entries


def measure_connections(
    names: Sequence[str], rounds: int, connections: int, factor: float, report_progress: Callable[[str], None]
) -> list[Entry]:
    """Measure new connections, each for one PING: plain, and by TLS if certificates can be made."""
    entries = []
    load = Load(("PING",), connections, requests=int(6000 * factor), reconnect=True)
    with ServerSet(names, 1) as server_set:
        entry = Entry(f"new connections, {connections} at a time", {})
        for _ in range(rounds):
            for name in names:
                _turn(server_set, entry, name, load, server_set.processes[name].port, 0.0)
        report_progress(_line(entry))
        entries.append(entry)
    if shutil.which("openssl") is None:
        report_progress("new connections by TLS: left out, there is no openssl here")
        return entries
    secured = [name for name in names if name != "bare"]
    with certificate() as lines:
        load = Load(
            ("PING",), connections, requests=int(1500 * factor), reconnect=True, options=("--tls", "--insecure")
        )
        entry = Entry(f"new connections by TLS, {connections} at a time", {})
        for name in list(secured):
            try:
                with ServerSet([name], 1, lines, tls=True) as server_set:
                    for _ in range(rounds):
                        _turn(server_set, entry, name, load, server_set.tls_ports[name], 0.0)
            except (LoadFailed, RuntimeError) as problem:
                # The message may end with the end of a log; its last line has the reason.
                lines = str(problem).strip().splitlines()
                report_progress(
                    f"new connections by TLS: {name} left out: {' '.join(dict.fromkeys((lines[0], lines[-1])))}"
                )
        if entry.contenders:
            report_progress(_line(entry))
            entries.append(entry)
    return entries


@contextmanager
def certificate() -> Iterator[list[str]]:
    """Configuration lines with a new self-signed certificate."""
    with Harness() as harness:
        key, certificate = harness.directory / "key.pem", harness.directory / "certificate.pem"
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
        command = ["openssl", *words.split(), "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        yield [
            f"tls-cert-file {certificate}",
            f"tls-key-file {key}",
            f"tls-ca-cert-file {certificate}",
            "tls-auth-clients no",
        ]


def measure_events(
    names: Sequence[str], rounds: int, subscribers: int, events: int, report_progress: Callable[[str], None]
) -> list[Entry]:
    """
    Measure events: ``SENTINEL SET`` publishes one for each option that it sets.

    :param events: how many one command publishes, where it publishes many.
    """
    present = [name for name in names if name != "bare"]
    entry = Entry(f"{subscribers} subscribers", {})
    with ServerSet(present, 1, ["maxclients 20000"]) as server_set:
        for _ in range(rounds):
            for name in present:
                process = server_set.processes[name]
                with Subscribers(process.port, subscribers) as multiplexer, Connection(process.port) as connection:
                    multiplexer.drain(0.1)
                    one = _span(multiplexer, connection, 1)
                    before = processor_seconds(process.pid)
                    many = _span(multiplexer, connection, events)
                    multiplexer.drain(0.05)
                    used = processor_seconds(process.pid) - before
                entry.add(name, {"one": one * 1000, "many": many * 1000, "frames": events * subscribers / used})
    report_progress(_line(entry))
    return [entry]


def _span(multiplexer: Subscribers, connection: Connection, events: int) -> float:
    """Seconds from the command that publishes so many events until the last subscriber has received all of them."""
    began = time.monotonic()
    connection.send("SENTINEL", "SET", "m0", *(["quorum", "1"] * events))
    last = multiplexer.wait_event(b"$4\r\n+set\r\n", events, EVENT_SECONDS)
    connection.read_reply()
    return last - began


def _line(entry: Entry) -> str:
    words = []
    for name, samples in entry.contenders.items():
        figures = (f"{figure} {sorted(values)[len(values) // 2]:.4g}" for figure, values in samples.items())
        words.append(f"{name}: {', '.join(figures)}")
    return f"{entry.title} | {' | '.join(words)}"


def measure(
    names: Sequence[str] = CONTENDERS,
    rounds: int = 3,
    masters: Sequence[int] = (1, 100, 1000),
    connections: Sequence[int] = (1, 50, 500),
    pipelines: Sequence[int] = (1, 16),
    subscribers: int = 1000,
    events: int = 100,
    factor: float = 1.0,
    report_progress: Callable[[str], None] = print,
) -> dict[str, Any]:
    """
    Measure replies, connections and events.

    :param names: of :data:`CONTENDERS`; the others are compared with the first.
    :param rounds: turns of each contender with each load.
    :param pipelines: requests in flight on a connection.
    :param events: how many one command publishes, where it publishes many.
    :param factor: of the usual number of requests.
    :returns: ``requests``, ``connections`` and ``events``: lists of ``title`` and ``contenders``, by name the samples
        by figure; ``tool``, the source of the load; ``subscribers``, and how many ``events`` were many.
    """
    raise_descriptor_limit()
    answers = measure_requests(names, rounds, masters, connections, pipelines, factor, report_progress)
    entered = measure_connections(names, rounds, 50, factor, report_progress)
    received = measure_events(names, rounds, subscribers, events, report_progress)
    return {
        "requests": [vars(entry) for entry in answers],
        "connections": [vars(entry) for entry in entered],
        "fan-out": [vars(entry) for entry in received],
        "tool": PROGRAM if shutil.which(PROGRAM) else "benchmarks.load",
        "subscribers": subscribers,
        "events": events,
    }


def table(result: Mapping[str, Any]) -> str:
    """The measurements, ready to print: a table for each figure, a row for each load."""
    parts = []
    groups = (("answers", result["requests"]), ("new connections", result["connections"]))
    for what, entries in groups:
        rows = {entry["title"]: entry["title"] for entry in entries}
        for figure, meaning in FIGURES.items():
            columns: dict[str, dict[str, Sequence[float]]] = {}
            for entry in entries:
                for name, samples in entry["contenders"].items():
                    columns.setdefault(name, {})[entry["title"]] = samples.get(figure, ())
            if columns:
                parts += [f"{what}: {meaning}, median (min–max) of the rounds\n", comparison(rows, columns), ""]
    rows = {name: meaning.format(events=result["events"]) for name, meaning in EVENT_FIGURES.items()}
    for entry in result["fan-out"]:
        if entry["contenders"]:
            parts += [f"events to {entry['title']}\n", comparison(rows, entry["contenders"]), ""]
    return "\n".join(parts)


def chosen(names: Sequence[str], report_progress: Callable[[str], None]) -> list[str]:
    """The contenders that can be measured here; the others are reported as left out."""
    # The Python loop finds the end of a reply by the reply to a PING after it, which the bare server does not send.
    here = [name for name in names if (shutil.which(PROGRAM) if name == "bare" else available(name))]
    for name in names:
        if name not in here:
            report_progress(f"{name}: not on this machine, left out")
    return here


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__.split("\n\n")[0])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender with each load")
    parser.add_argument("--masters", type=int, nargs="+", default=[1, 100, 1000], metavar="N")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 50, 500], metavar="N")
    parser.add_argument("--pipelines", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--subscribers", type=int, default=1000, metavar="N")
    parser.add_argument("--events", type=int, default=100, metavar="N", help="events of one command")
    parser.add_argument("--factor", type=float, default=1.0, help="of the usual number of requests")
    parser.add_argument("--json", type=Path, help="file for every sample")
    options = parser.parse_args(argv)

    def report_progress(text: str) -> None:
        print(text, flush=True)

    result = measure(
        chosen(options.contenders, report_progress),
        options.rounds,
        options.masters,
        options.connections,
        options.pipelines,
        options.subscribers,
        options.events,
        options.factor,
        report_progress,
    )
    print(f"\n{table(result)}")
    if options.json:
        keep(options.json, {"clients": result})


if __name__ == "__main__":
    main()
