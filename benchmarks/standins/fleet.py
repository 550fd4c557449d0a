"""A fleet of stand-ins over several processes, and its control channel."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import benchmarks
from benchmarks.standins.layout import ip_address, master_name, replica_name

_PORTS: Final = (12_000, 32_000)
"""Below Linux's ephemeral ports."""

_ATTEMPTS: Final = 20


class StandInFleet:
    """
    Masters ``m0``, ``m1``, … with replicas ``m0r0``, ``m0r1``, …; use it as a context manager.

    All times are ``time.monotonic()`` seconds, which on Linux is the same clock in all processes.
    """

    def __init__(
        self, masters: int, replicas: int = 1, shards: int = 2, sync_seconds: float = 0.05, poll_delay: float = 0.0
    ) -> None:
        """
        Start the processes; every stand-in listens when this returns.

        :param masters: number of masters.
        :param replicas: number of replicas of each master.
        :param shards: number of processes; each may have as many descriptors as the system allows.
        :param sync_seconds: from SLAVEOF until the link to the new master is up.
        :param poll_delay: how long each process waits before it polls again, so that more events come at once.
        :raises OSError: if no port is free everywhere.
        """
        self.masters = masters
        self.replicas = replicas
        self._shards: list[subprocess.Popen[bytes]] = []
        per_shard = -(-masters // max(1, min(shards, masters)))
        for _ in range(_ATTEMPTS):
            self.port = _free_port()
            for first in range(0, masters, per_shard):
                numbers = (first, min(masters, first + per_shard))
                self._shards.append(_spawn(numbers, replicas, self.port, sync_seconds, poll_delay))
            if all(_line(shard) == b"ready\n" for shard in self._shards):
                return
            self.close()
        raise OSError("found no port that is free on all addresses")

    def __enter__(self) -> StandInFleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for shard in self._shards:
            with contextlib.suppress(OSError):
                _pipe(shard.stdin).close()
        for shard in self._shards:
            try:
                shard.wait(10)
            except subprocess.TimeoutExpired:
                shard.kill()
                shard.wait()
            _pipe(shard.stdout).close()
        self._shards.clear()

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [shard.pid for shard in self._shards]

    def monitors(self, quorum: int = 2) -> list[tuple[str, str, int, int]]:
        """``(name, host, port, quorum)`` of each master, as a Sentinel's configuration wants them."""
        return [(master_name(number), ip_address(number), self.port, quorum) for number in range(self.masters)]

    def master_names(self, count: int | None = None) -> list[str]:
        """The masters, or so many of them, spread evenly."""
        count = self.masters if count is None else count
        return [master_name(index * self.masters // count) for index in range(count)]

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Host and port of every stand-in by its name."""
        found = {}
        for number in range(self.masters):
            found[master_name(number)] = ip_address(number), self.port
            for replica in range(self.replicas):
                found[replica_name(number, replica)] = ip_address(number, replica), self.port
        return found

    # Orders

    def order(self, **order: Any) -> list[dict[str, Any]]:
        """
        Give an order to all processes at once.

        :returns: their answers.
        :raises ValueError: if one of them refuses.
        :raises ConnectionError: if one of them has ended.
        """
        line = json.dumps(order).encode() + b"\n"
        for shard in self._shards:
            pipe = _pipe(shard.stdin)
            pipe.write(line)
            pipe.flush()
        answers = []
        for shard in self._shards:
            text = _line(shard)
            if not text:
                raise ConnectionError(f"process {shard.pid} of the stand-ins has ended")
            answers.append(json.loads(text))
        for answer in answers:
            if not answer["ok"]:
                raise ValueError(answer["problem"])
        return answers

    def crash(self, who: Sequence[str]) -> tuple[float, float]:
        """Crash: connections are reset, new ones refused. Return when the first stand-in did so, and the last."""
        return self._span(self.order(op="crash", who=list(who)))

    def hang(self, who: Sequence[str]) -> tuple[float, float]:
        """Hang: connections stay, new ones are established, nothing is read. Return when this began and ended."""
        return self._span(self.order(op="hang", who=list(who)))

    def restart(self, who: Sequence[str]) -> tuple[float, float]:
        """Restart with the last rewritten configuration, or continue after a hang."""
        return self._span(self.order(op="restart", who=list(who)))

    def set(self, who: Sequence[str], lag: int | None = None, priority: int | None = None) -> None:
        """Change how many bytes replicas stay behind, or their priority."""
        self.order(op="set", who=list(who), lag=lag, priority=priority)

    def query(self, who: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """``address``, ``state``, ``role``, ``master``, ``link`` and ``offset`` by name."""
        found: dict[str, dict[str, Any]] = {}
        for answer in self.order(op="query", who=None if who is None else list(who)):
            found |= answer["instances"]
        return found

    def events(self) -> list[dict[str, Any]]:
        """
        Every change of a role that was ordered so far, in order of time.

        Each has ``at``, the ``name`` of the stand-in, and ``what``: ``promoted``, or ``reconfigured`` with ``to``.
        """
        return sorted((event for answer in self.order(op="events") for event in answer["events"]), key=_moment)

    def usage(self) -> dict[str, Any]:
        """Processor seconds, open connections and executed commands of all processes together; ``pids`` as well."""
        answers = self.order(op="usage")
        sums = {name: sum(answer[name] for answer in answers) for name in ("cpu", "connections", "commands")}
        return {**sums, "pids": [answer["pid"] for answer in answers]}

    def _span(self, answers: list[dict[str, Any]]) -> tuple[float, float]:
        return min(answer["began"] for answer in answers), max(answer["ended"] for answer in answers)


def _moment(event: dict[str, Any]) -> float:
    at: float = event["at"]
    return at


def _free_port() -> int:
    rng = random.SystemRandom()
    while True:
        port = rng.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


def _spawn(
    numbers: tuple[int, int], replicas: int, port: int, sync_seconds: float, poll_delay: float
) -> subprocess.Popen[bytes]:
    arguments = ["--masters", *numbers, "--replicas", replicas, "--port", port]
    arguments += ["--sync", sync_seconds, "--poll-delay", poll_delay]
    root = str(Path(benchmarks.__file__).resolve().parent.parent)
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.standins.shard", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Only the parent handles Ctrl-C.
    )


def _pipe(pipe: Any) -> Any:
    assert pipe is not None
    return pipe


def _line(shard: subprocess.Popen[bytes]) -> bytes:
    line: bytes = _pipe(shard.stdout).readline()
    return line
