"""
Switchovers of real servers under writes: how long writes are held, and whether an acknowledged one is lost.

Six clients add to sets at the master that a Sentinel names. After each switchover the members that were acknowledged
are compared with those that are present on the new master.

Usage: python -m benchmarks.switchovers [--kinds redis-6.2,redis,redis-8.2,valkey] [--rounds 3]
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

from txsentinel.demo import Connection, Fleet, Harness, ReplyError, call, wait_for

WRITERS = 6


class Writer(threading.Thread):
    """Adds numbers to a set at the master that the Sentinels name, and remembers those that were acknowledged."""

    def __init__(self, fleet: Fleet, key: str, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.key = key
        self.acknowledged: list[int] = []
        self.longest_gap = 0.0
        """The longest time between two acknowledgements, in seconds, since :meth:`watch`."""

        self._last = time.monotonic()
        self._fleet = fleet
        self._pause = pause
        self._stopped = threading.Event()

    def watch(self) -> None:
        """Measure the longest gap anew."""
        self.longest_gap, self._last = 0.0, time.monotonic()

    def run(self) -> None:
        """Write until :meth:`stop` is called."""
        numbers = count()
        while not self._stopped.is_set():
            for sentinel in self._fleet.sentinels:
                with suppress(OSError, ReplyError):
                    port = self._fleet.master_seen_by(sentinel)
                    with Connection(port or 0, timeout=20.0) as connection:
                        while not self._stopped.is_set():
                            number = next(numbers)
                            connection.call("SADD", self.key, number)
                            self.acknowledged.append(number)
                            now = time.monotonic()
                            self.longest_gap, self._last = max(self.longest_gap, now - self._last), now
                            if self._pause:
                                time.sleep(self._pause)
            self._stopped.wait(0.002)

    def stop(self) -> None:
        """Stop, and wait for the thread."""
        self._stopped.set()
        self.join(30)


def nested(reply: Any) -> Any:
    """Return a reply with its maps, which RESP2 sends as lists, as dictionaries; for replies of TXSENTINEL only."""
    if isinstance(reply, list):
        keys = reply[::2]
        if reply and len(reply) % 2 == 0 and all(isinstance(key, str) and key.isidentifier() for key in keys):
            return {key: nested(value) for key, value in zip(keys, reply[1::2], strict=True)}
        return [nested(each) for each in reply]
    return reply


@dataclass
class Round:
    """The outcome of one switchover."""

    method: str
    state: str
    verdict: str
    why: str
    held_ms: int | None
    gap_ms: int
    acknowledged: int
    lost: int
    partial: int | None
    full: int | None


def switch_over(fleet: Fleet, *words: str) -> Any:
    """Order a switchover from the first Sentinel, and return the operation when it has ended."""
    sentinel = fleet.sentinels[0]
    operation = nested(sentinel.call("TXSENTINEL", "SWITCHOVER", fleet.name, *words))

    def ended() -> Any:
        found = nested(sentinel.call("TXSENTINEL", "OPERATION", operation["operation_id"]))
        return found if found["state"] in ("done", "failed", "cancelled") else None

    return wait_for(ended, 60, "the end of the operation")


def run_round(fleet: Fleet, method: str, number: int, pause: float) -> Round:
    """Switch over once under writes."""
    writers = [Writer(fleet, f"{method}{number}.{each}", pause) for each in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        wait_for(lambda: all(len(writer.acknowledged) > 50 for writer in writers), 30, "writes")
        for writer in writers:
            writer.watch()
        operation = switch_over(fleet, "METHOD", method)
        counts = [len(writer.acknowledged) for writer in writers]
        wait_for(
            lambda: all(len(each.acknowledged) > before + 50 for each, before in zip(writers, counts, strict=True)),
            30,
            "writes at the new master",
        )
    finally:
        for writer in writers:
            writer.stop()
    port = fleet.wait_quiet()
    lost = 0
    for writer in writers:
        members: Any = call(port, "SMEMBERS", writer.key, timeout=30.0)
        lost += len(set(writer.acknowledged) - {int(each) for each in members})
    receipt = operation["receipt"] or {}
    problem = operation["problem"] or {}
    resyncs = receipt.get("resyncs") or {}
    return Round(
        method,
        operation["state"],
        receipt.get("verdict", "-"),
        receipt.get("why") or problem.get("text", ""),
        (receipt.get("fence") or {}).get("held_ms"),
        round(1000 * max(writer.longest_gap for writer in writers)),
        sum(len(writer.acknowledged) for writer in writers),
        lost,
        resyncs.get("partial"),
        resyncs.get("full"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print a line for each; return 1 if an acknowledged write was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="redis-6.2,redis,redis-8.2,valkey")
    parser.add_argument("--methods", default="handover,fence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--down-after", type=int, default=5000)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two writes of one client")
    options = parser.parse_args(arguments)
    lost = 0
    print("servers    method    state   verdict   held ms  longest gap ms  acknowledged   lost  partial  full")
    for kind in options.kinds.split(","):
        with Harness() as harness:
            fleet = Fleet(harness, ("txsentinel",) * 3, kind, down_after=options.down_after)
            fleet.start(60)
            for number in range(options.rounds):
                for method in options.methods.split(","):
                    found = run_round(fleet, method, number, options.pause)
                    lost += found.lost
                    print(
                        f"{kind:<10} {method:<9} {found.state:<7} {found.verdict:<9} {found.held_ms!s:>7} "
                        f"{found.gap_ms:>15} {found.acknowledged:>13} {found.lost:>6} {found.partial!s:>8} "
                        f"{found.full!s:>5}" + ("" if found.verdict == "proven" else f"  {found.why}"),
                        flush=True,
                    )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
