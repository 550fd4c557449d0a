"""
What a connection through ``txsentinel proxy`` costs, compared with HAProxy and with none between.

``python -m benchmarks.proxy --rounds 3 --requests 20000``

One server, and ``redis-benchmark`` as the client. Each round measures the three ways one after the other, in changing
order, so that other work of the machine meets all of them. The ratios are those within one round.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.installation import report_progress
from benchmarks.report import keep
from txsentinel.demo import Fleet, Harness
from txsentinel.demo.other_programs import HaproxyProcess, ProxyProcess, find_program
from txsentinel.demo.processes import free_port

WAYS: Final = ("direct", "haproxy", "proxy")

LOADS: Final = {
    "50 clients": ("-c", "50"),
    "50 clients, pipelines of 16": ("-c", "50", "-P", "16"),
    "1 client": ("-c", "1"),
    "new connections": ("-c", "50", "-k", "0"),
}
"""What is measured, and the options of ``redis-benchmark``."""

CONFIG: Final = """\
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen redis
    bind 127.0.0.1:{port}
    server master 127.0.0.1:{master}
"""


@contextmanager
def running(kind: str) -> Iterator[dict[str, int]]:
    """Run everything; return the port of each way."""
    with ExitStack() as stack:
        harness = stack.enter_context(Harness())
        fleet = Fleet(harness, ["txsentinel"], kind, quorum=1, name="mymaster")
        fleet.start()
        master = fleet.master_port()
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        haproxy = HaproxyProcess(directory / "haproxy", port, CONFIG.format(port=port, master=master))
        proxy = ProxyProcess(directory / "proxy", "mymaster", [each.port for each in fleet.sentinels])
        for process in (haproxy, proxy):
            stack.callback(process.stop)
            process.start()
        yield {"direct": master, "haproxy": haproxy.port, "proxy": proxy.port}


def requests_per_second(port: int, requests: int, options: Sequence[str]) -> float:
    """Return the rate of ``GET``."""
    command = ["redis-benchmark", "-p", str(port), "-t", "get", "-n", str(requests), "--csv", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return float(done.stdout.splitlines()[-1].split(",")[1].strip('"'))


def measure(kind: str, rounds: int, requests: int) -> list[dict[str, Any]]:
    """Return the rate of each way for each load and round."""
    found = []
    with running(kind) as ports:
        for name, options in LOADS.items():
            count = requests * 5 if "-P" in options else requests // 4 if "-k" in options else requests
            for number in range(rounds):
                order = WAYS[number % 3 :] + WAYS[: number % 3]
                rates = {way: requests_per_second(ports[way], count, options) for way in order}
                found.append({"load": name, "round": number, **rates})
                report_progress(f"{name}: " + ", ".join(f"{way} {rates[way]:,.0f}/s" for way in WAYS))
    return found


def print_table(found: Sequence[dict[str, Any]]) -> None:
    """Print the medians, and the ratios to the direct connection."""
    print(f"{'requests per second (share of direct)':<32}" + "".join(f"{way:>20}" for way in WAYS))
    for load in LOADS:
        rows = [each for each in found if each["load"] == load]
        cells = []
        for way in WAYS:
            rate = statistics.median(row[way] for row in rows)
            share = statistics.median(row[way] / row["direct"] for row in rows)
            cells.append(f"{rate:>12,.0f} ({share:.2f})")
        print(f"{load:<32}" + "".join(f"{cell:>20}" for cell in cells))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="redis", help="kind of the server; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="save the samples in this file")
    options = parser.parse_args(arguments)
    for program in ("redis-benchmark", "haproxy"):
        if not find_program(program):
            raise SystemExit(f"{program} is not installed")
    found = measure(options.server, options.rounds, options.requests)
    print_table(found)
    if options.json is not None:
        keep(options.json, {"samples": found})


if __name__ == "__main__":
    main()
