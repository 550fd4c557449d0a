"""
The cost of the operator surface: metrics that are scraped every second, and a client that receives events.

``python -m benchmarks.operators --masters 1000 --pairs 5 --seconds 20 --baseline ../older-checkout``

Three Sentinels monitor the same masters at the same time, so that they have the same work under the same conditions:
one with the extension ``http``, one without extensions, and one of another checkout if ``--baseline`` names it. Windows
in which the first one is scraped alternate with windows in which it is not. Its CPU time is compared with that of the
second one in the same window, and this ratio with that of the window beside it. Meanwhile a client asks each Sentinel
for an address every 20 ms. At last masters die at once, while the first Sentinel is scraped.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.installation import Installation, report_progress
from benchmarks.load import processor_seconds
from benchmarks.mass_failure import MassFailure
from benchmarks.mass_failure import sample as mass_failure
from benchmarks.report import keep, spread
from txsentinel.demo.processes import free_port

NAMES: Final = ("http", "plain", "baseline")
"""What the three Sentinels are; without ``--baseline`` the third is like the second."""

ACCEPT: Final = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
PERIOD: Final = 1.0
STABILIZATION_SECONDS: Final = 400.0
WARM_UP_SECONDS: Final = 2.0


class Scraper:
    """
    Gets the metrics of a Sentinel once a second, and receives its events, in two threads.

    Use it as a context manager.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.durations: list[float] = []
        self.sizes: list[int] = []
        self.event_bytes = 0
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._scrape), threading.Thread(target=self._receive)]

    def __enter__(self) -> Scraper:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _scrape(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        due = time.monotonic()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due += PERIOD
            began = time.monotonic()
            connection.request("GET", "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"})
            response = connection.getresponse()
            body = gzip.decompress(response.read())
            if response.status != 200 or not body.endswith(b"# EOF\n"):
                raise OSError(f"/metrics was answered by {response.status}, {body[-200:]!r}")
            self.durations.append(time.monotonic() - began)
            self.sizes.append(len(body))
        connection.close()

    def _receive(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=0.2) as stream:
            head = "GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
            stream.sendall(head.encode())
            first = b""
            while not self._ending.is_set():
                try:
                    data = stream.recv(1 << 16)
                except TimeoutError:
                    continue
                if not data:
                    raise OSError("the stream of events was closed")
                first = first or data
                if not first.startswith(b"HTTP/1.1 200 "):
                    raise OSError(f"/v1/events was answered by {first[:200]!r}")
                self.event_bytes += len(data)


@contextmanager
def installed(kind: str, masters: int, baseline: Path | None, down_after: int) -> Iterator[tuple[Installation, int]]:
    """The three Sentinels, stable, and the port of the first one's HTTP server."""
    with Installation((kind,) * 3, masters, down_after=down_after) as installation:
        port = free_port()
        installation.sentinels[0].arguments.extend(["--extension", f"http:tcp:{port}:interface=127.0.0.1"])
        if baseline is not None:
            installation.sentinels[2].variables["PYTHONPATH"] = str(baseline)
        installation.start()
        installation.wait_stable(STABILIZATION_SECONDS)
        yield installation, port


def window(installation: Installation, seconds: float) -> dict[str, Any]:
    """CPU seconds of each Sentinel in a window, and the replies to the client, without what it waited itself."""
    pids = [sentinel.pid for sentinel in installation.sentinels]
    with installation.observer() as observer:
        time.sleep(WARM_UP_SECONDS)
        began, before = time.monotonic(), [processor_seconds(pid) for pid in pids]
        time.sleep(seconds)
        used = [processor_seconds(pid) - early for pid, early in zip(pids, before, strict=True)]
        passed = time.monotonic() - began
        answers = observer.report(began)["answers"]
    return {
        "cpu": {name: value / passed * 100 for name, value in zip(NAMES, used, strict=True)},
        "replies": {
            name: [max(0.0, took - waited) * 1000 for _, took, waited in answers[sentinel.name]]
            for name, sentinel in zip(NAMES, installation.sentinels, strict=True)
        },
    }


def measure(
    kind: str, masters: int, pairs: int, seconds: float, victims: int, down_after: int, baseline: Path | None
) -> dict[str, Any]:
    """
    Measure pairs of windows, then a mass failure.

    :returns: ``idle`` and ``scraped``, lists of windows; ``scrapes``, milliseconds and bytes of each; ``failure``.
    """
    result: dict[str, Any] = {"masters": masters, "kind": kind, "idle": [], "scraped": []}
    with installed(kind, masters, baseline, down_after) as (installation, port):
        scrapes: list[float] = []
        for number in range(pairs):
            # The order of the two alternates, so that a trend of the machine cancels out.
            for scraped in (bool(number % 2), not number % 2):
                if scraped:
                    with Scraper(port) as scraper:
                        found = window(installation, seconds)
                    scrapes += scraper.durations
                    result["bytes"] = max(scraper.sizes)
                else:
                    found = window(installation, seconds)
                result["scraped" if scraped else "idle"].append(found)
                report_progress(f"{'scraped' if scraped else 'idle':8} {short(found)}")
        result["scrapes"] = [duration * 1000 for duration in scrapes]
        if victims:
            with Scraper(port) as scraper:
                result["failure"] = mass_failure(
                    installation, MassFailure(masters, victims, down_after, "die"), timeout=120.0
                )
            result["failure"]["events"] = scraper.event_bytes
            result["failure"]["scrapes"] = [duration * 1000 for duration in scraper.durations]
    return result


def short(found: Mapping[str, Any]) -> str:
    """One window in one line."""
    return ", ".join(
        f"{name} {found['cpu'][name]:.2f} % of a core, slowest reply {max(found['replies'][name]):.1f} ms"
        for name in NAMES
    )


def relative(windows: Sequence[Mapping[str, Any]], name: str, other: str) -> list[float]:
    """The CPU time of one Sentinel as a share of another's, in each window."""
    return [found["cpu"][name] / found["cpu"][other] for found in windows]


def percent(ratios: Sequence[float]) -> str:
    """Ratios as differences in percent: the median and the extremes."""
    return spread([(ratio - 1) * 100 for ratio in ratios]) + " %"


def table(result: Mapping[str, Any]) -> str:
    """The measurements, ready to print."""
    idle, scraped = result["idle"], result["scraped"]
    with_scrapes, without = relative(scraped, "http", "plain"), relative(idle, "http", "plain")
    cost = [ratio / before for ratio, before in zip(with_scrapes, without, strict=True)]
    cpu = [found["cpu"]["plain"] for found in (*idle, *scraped)]
    lines = [
        f"{result['masters']} masters, {result['kind']}: CPU of one without extensions {spread(cpu)} % of a core",
        f"scraped every second, with a stream of events, against not scraped: {percent(cost)}",
        f"extension loaded but not used, against no extension: {percent(without)}",
        f"no extension, against the baseline: {percent(relative([*idle, *scraped], 'plain', 'baseline'))}",
        f"a scrape of {result['bytes']} bytes takes {spread(result['scrapes'])} ms",
    ]
    for name in NAMES:
        slow = {
            what: [max(found["replies"][name]) for found in windows]
            for what, windows in (("idle", idle), ("scraped", scraped))
        }
        middle = statistics.median(each for found in scraped for each in found["replies"][name])
        lines.append(
            f"{name}: slowest reply of a window {spread(slow['idle'])} ms idle, {spread(slow['scraped'])} ms scraped; "
            f"median {middle:.2f} ms"
        )
    failure = result.get("failure")
    if failure:
        figures = failure["figures"]
        for title, figure in (
            ("all promoted, ms", "promoted_last"),
            ("all agree, ms", "agreed_last"),
            ("CPU of each, ms", "cpu"),
            ("slowest reply of each, ms", "slowest_answer"),
            ("... of which the client waited for a core, ms", "client_waited"),
        ):
            lines.append(f"mass failure: {title}: {' / '.join(f'{value:.0f}' for value in figures[figure])}")
        lines.append(f"mass failure: a scrape takes {spread(failure['scrapes'])} ms")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators", description=__doc__.split("\n\n")[0])
    parser.add_argument("--kind", default="txsentinel", choices=["txsentinel", "compiled"])
    parser.add_argument("--masters", type=int, default=1_000, metavar="N")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="windows of each kind")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a window")
    parser.add_argument("--victims", type=int, default=100, metavar="N", help="masters that die at last; 0 for none")
    parser.add_argument("--down-after", type=int, default=5_000, metavar="MS")
    parser.add_argument("--baseline", type=Path, metavar="DIRECTORY", help="another checkout, for the third Sentinel")
    parser.add_argument("--json", metavar="FILE", help="file for every sample")
    options = parser.parse_args(argv)
    result = measure(
        options.kind,
        options.masters,
        options.pairs,
        options.seconds,
        options.victims,
        options.down_after,
        options.baseline,
    )
    print(f"\n{table(result)}")
    if options.json:
        keep(Path(options.json), {"operators": result})


if __name__ == "__main__":
    main()
