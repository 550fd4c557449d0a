"""
Load on one server and its cost: by ``redis-benchmark`` if installed, otherwise by a Python loop.

``redis-benchmark`` is written in C and leaves more of the machine to the server; a rate measured by the loop may be the
loop's own limit. Results therefore name the tool. ``redis-benchmark`` reports no reply slower than three seconds: that
figure means three or more.
"""

from __future__ import annotations

import csv
import io
import select
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROGRAM: Final = "redis-benchmark"
MEASURED: Final = ("rate", "cpu", "p50", "p99", "slowest")
MAX_SECONDS: Final = 120.0

_END: Final = b"+PONG\r\n"


class LoadFailed(Exception):
    """The load failed; the text has the reason."""


def processor_seconds(pid: int) -> float:
    """Processor time of all threads so far, in the resolution of the scheduler (Linux)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


@dataclass(frozen=True)
class Load:
    """Requests for one server: their number, the connections, and how many are in flight on each."""

    words: Sequence[str]
    connections: int = 50
    pipeline: int = 1
    requests: int = 20_000
    reconnect: bool = False
    """A connection of its own for each request."""

    options: Sequence[str] = field(default_factory=tuple)
    """Further options of ``redis-benchmark``, such as ``--tls``."""

    def put(self, port: int, pid: int) -> dict[str, float]:
        """
        Run the load on the server at ``port`` of this machine.

        :param pid: its process.
        :returns: ``rate`` per second; ``cpu`` of the server in microseconds per request; ``p50``, ``p99`` and
            ``slowest`` reply in milliseconds; ``seconds`` that it took.
        :raises LoadFailed: if it failed.
        """
        before, began = processor_seconds(pid), time.monotonic()
        figures = self._by_program(port) if shutil.which(PROGRAM) else self._by_loop(port)
        seconds, used = time.monotonic() - began, processor_seconds(pid) - before
        return {**figures, "cpu": used / self.requests * 1e6, "seconds": seconds}

    def _by_program(self, port: int) -> dict[str, float]:
        counts = {"-c": self.connections, "-P": self.pipeline, "-n": self.requests, "-k": int(not self.reconnect)}
        command = [PROGRAM, "-p", str(port), "--csv", *self.options]
        for option, value in counts.items():
            command += [option, str(value)]
        try:
            done = subprocess.run(
                [*command, *self.words], capture_output=True, text=True, timeout=MAX_SECONDS, check=True
            )
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as problem:
            raise LoadFailed(f"{PROGRAM}: {problem}") from problem
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        if len(rows) != 1:
            raise LoadFailed(f"{PROGRAM} printed {done.stdout!r}, {done.stderr!r}")
        return picked(rows[0])

    def _by_loop(self, port: int) -> dict[str, float]:
        if self.options:
            raise LoadFailed(f"only {PROGRAM} can do this")
        began = time.monotonic()
        latencies = _Loop(self, port).run()
        seconds = time.monotonic() - began
        latencies.sort()
        return {
            "rate": self.requests / seconds,
            "p50": statistics.median(latencies) * 1000,
            "p99": latencies[int(len(latencies) * 0.99)] * 1000,
            "slowest": latencies[-1] * 1000,
        }


def picked(row: Mapping[str, str]) -> dict[str, float]:
    """The required figures of a line of ``redis-benchmark --csv``."""
    return {
        "rate": float(row["rps"]),
        "p50": float(row["p50_latency_ms"]),
        "p99": float(row["p99_latency_ms"]),
        "slowest": float(row["max_latency_ms"]),
    }


class _Loop:
    """
    Sends requests and counts replies.

    Each request is followed by a PING, whose reply marks the end of the reply before it, however long that is.
    """

    def __init__(self, load: Load, port: int) -> None:
        self._load = load
        self._port = port
        encoded = [word.encode() for word in load.words]
        request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
        self._batch = (request + b"*1\r\n$4\r\nPING\r\n") * load.pipeline
        self._poller = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._began: dict[int, float] = {}
        self._open: dict[int, int] = {}
        self._tail: dict[int, bytes] = {}
        self._latencies: list[float] = []

    def run(self) -> list[float]:
        """Seconds from each batch of requests to the last of its answers."""
        deadline = time.monotonic() + MAX_SECONDS
        batches = -(-self._load.requests // self._load.pipeline)
        sent = min(self._load.connections, batches)
        for _ in range(sent):
            self._send(self._connect())
        while len(self._latencies) < batches:
            if time.monotonic() > deadline:
                raise LoadFailed(f"{batches - len(self._latencies)} of {batches} batches were not answered in time")
            for descriptor, _ in self._poller.poll(1.0):
                if not self._answered(descriptor):
                    continue
                if self._load.reconnect:
                    self._close(descriptor)
                if sent < batches:
                    sent += 1
                    self._send(self._connect() if self._load.reconnect else descriptor)
        for descriptor in list(self._sockets):
            self._close(descriptor)
        self._poller.close()
        return self._latencies

    def _connect(self) -> int:
        began = time.monotonic()
        connection = socket.create_connection(("127.0.0.1", self._port), MAX_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = connection.fileno()
        self._sockets[descriptor] = connection
        self._began[descriptor] = began
        self._poller.register(descriptor, select.EPOLLIN)
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._poller.unregister(descriptor)
        self._sockets.pop(descriptor).close()

    def _send(self, descriptor: int) -> None:
        if not self._load.reconnect:
            self._began[descriptor] = time.monotonic()
        self._open[descriptor] = self._load.pipeline
        self._tail[descriptor] = b""
        self._sockets[descriptor].sendall(self._batch)

    def _answered(self, descriptor: int) -> bool:
        """Whether all replies are complete."""
        data = self._sockets[descriptor].recv(1 << 20)
        if not data:
            raise LoadFailed("a connection was closed")
        data = self._tail[descriptor] + data
        self._open[descriptor] -= data.count(_END)
        self._tail[descriptor] = data[-len(_END) + 1 :]  # Perhaps the beginning of an end mark.
        if self._open[descriptor]:
            return False
        self._latencies.append(time.monotonic() - self._began[descriptor])
        return True
