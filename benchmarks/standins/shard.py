"""
One process of stand-ins; :mod:`benchmarks.standins.fleet` starts and controls it.

A command is one line of JSON on standard input, its reply one line on standard output; when standard input ends, so
does the process.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from benchmarks.standins.connection import Connection
from benchmarks.standins.instance import Address, Instance, SharedState
from benchmarks.standins.layout import ip_address, master_name, replica_name
from benchmarks.standins.loop import Loop

_PRIORITY: Final = -10


class Shard:
    """The instances of one process."""

    def __init__(self, loop: Loop, numbers: Sequence[int], replicas: int, port: int, sync_seconds: float) -> None:
        """
        Every instance listens when this returns.

        :param numbers: those of the masters.
        :param replicas: how many each master has.
        :raises OSError: if an address is taken.
        """
        self._loop = loop
        self._shared = SharedState[Connection](sync_seconds=0.0, later=loop.later)
        self._instances: dict[str, Instance[Connection]] = {}
        for number in numbers:
            master: Address = (ip_address(number), port)
            self._add(master_name(number), master, None)
            for replica in range(replicas):
                self._add(replica_name(number, replica), (ip_address(number, replica), port), master)
        self._shared.sync_seconds = sync_seconds
        self._buffer = b""

    def _add(self, name: str, address: Address, follows: Address | None) -> None:
        instance = Instance(name, address, self._shared, follows)
        self._instances[name] = instance
        self._loop.open(instance)

    def received(self, data: bytes) -> None:
        """Parse commands."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            try:
                answer = {"ok": True, **self._orders[order.pop("op")](self, **order)}
            except (KeyError, TypeError, ValueError, OSError) as problem:
                answer = {"ok": False, "problem": f"{type(problem).__name__}: {problem}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    def _chosen(self, who: Sequence[str] | None) -> Iterator[Instance[Connection]]:
        """The named instances in this process; all if none is named."""
        for name in self._instances if who is None else who:
            if name in self._instances:
                yield self._instances[name]

    def _crash(self, who: Sequence[str]) -> dict[str, Any]:
        began = time.monotonic()
        for instance in self._chosen(who):
            if instance.alive:
                if instance.hanging:
                    self._loop.resume(instance)
                self._loop.kill(instance)
        return {"began": began, "ended": time.monotonic()}

    def _hang(self, who: Sequence[str]) -> dict[str, Any]:
        began = time.monotonic()
        for instance in self._chosen(who):
            if instance.alive and not instance.hanging:
                self._loop.suspend(instance)
        return {"began": began, "ended": time.monotonic()}

    def _restart(self, who: Sequence[str]) -> dict[str, Any]:
        began = time.monotonic()
        for instance in self._chosen(who):
            if not instance.alive:
                self._loop.open(instance)
            elif instance.hanging:
                self._loop.resume(instance)
        return {"began": began, "ended": time.monotonic()}

    def _set(self, who: Sequence[str], lag: int | None = None, priority: int | None = None) -> dict[str, Any]:
        for instance in self._chosen(who):
            if lag is not None:
                instance.lag = lag
            if priority is not None:
                instance.configuration.priority = priority
            instance.changed()
        return {}

    def _query(self, who: Sequence[str] | None = None) -> dict[str, Any]:
        return {"instances": {instance.name: instance.state() for instance in self._chosen(who)}}

    def _events(self, start: int = 0) -> dict[str, Any]:
        return {"events": self._shared.log[start:]}

    def _usage(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "pid": os.getpid(),
            "cpu": used.ru_utime + used.ru_stime,
            "connections": len(self._loop.connections),
            "commands": sum(instance.commands for instance in self._instances.values()),
        }

    _orders: dict[str, Callable[..., dict[str, Any]]] = {
        "crash": _crash,
        "hang": _hang,
        "restart": _restart,
        "set": _set,
        "query": _query,
        "events": _events,
        "usage": _usage,
    }


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.standins.shard")
    parser.add_argument("--masters", type=int, nargs=2, metavar=("FIRST", "END"))
    parser.add_argument("--replicas", type=int)
    parser.add_argument("--port", type=int)
    parser.add_argument("--sync", type=float)
    parser.add_argument("--poll-delay", type=float)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(
        OSError
    ):  # Stand-ins represent other machines: they should not wait for the measured processes.
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    loop = Loop(options.poll_delay)
    shard = Shard(loop, range(*options.masters), options.replicas, options.port, options.sync)
    loop.read_from(sys.stdin.fileno(), shard.received)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    gc.collect()
    gc.freeze()
    loop.run()


if __name__ == "__main__":
    main()
