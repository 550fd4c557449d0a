"""
Latency of one failover: C Sentinels and txsentinel in turns, three of a kind over a master and two replicas.

``python -m benchmarks.failover --rounds 12 --down-after 1000 200 --json failover.json``

In each round the master is killed (SIGKILL) at a random moment of a stable installation. An event counts when it
reaches a subscriber on this machine. The client asks every Sentinel in turn for the master and sends SET to the address
in the reply. A second prober sends SET directly to the replicas, so that a promotion is seen without a Sentinel.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.report import comparison, keep, server_version
from txsentinel.demo import Connection, DeadlineExpired, EventRecorder, Fleet, Harness, ReplyError, wait_for
from txsentinel.demo.programs import SERVER_KINDS, available

FIGURES: Final = {
    "sdown": "first +sdown of any Sentinel",
    "odown": "first +odown of any Sentinel",
    "elected": "+elected-leader",
    "promoted": "a replica accepts writes",
    "first_switch": "first +switch-master",
    "every_switch": "+switch-master of the last Sentinel",
    "first_answer": "first Sentinel answers the new address",
    "every_answer": "every Sentinel answers the new address",
    "write": "first write of a client",
    "odown_to_promoted": "from +odown to a replica accepting writes",
    "odown_to_write": "from +odown to the first write of a client",
}
"""The figures, in milliseconds since the kill unless stated otherwise."""

CLIENT_PERIOD_SECONDS: Final = 0.005
PROBE_PERIOD_SECONDS: Final = 0.001
FAILOVER_DEADLINE_SECONDS: Final = 60.0


class Repeating(threading.Thread):
    """Calls :meth:`once` at a steady pace until stopped; all times are ``time.monotonic()`` seconds."""

    def __init__(self, period_seconds: float) -> None:
        super().__init__(daemon=True)
        self._period_seconds = period_seconds
        self._stopping = threading.Event()
        self._connections: dict[int, Connection] = {}

    def once(self) -> None:
        """One turn; override."""
        raise NotImplementedError

    def run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self.once()
            self._stopping.wait(max(0.0, began + self._period_seconds - time.monotonic()))

    def stop(self) -> None:
        """End the thread and its connections."""
        self._stopping.set()
        self.join()
        for connection in self._connections.values():
            connection.close()

    def ask(self, port: int, *words: str) -> object:
        """Send a command on a cached connection; return ``None`` if there is no reply, or an error."""
        try:
            if port not in self._connections:
                self._connections[port] = Connection(port, timeout=1.0)
            return self._connections[port].call(*words)
        except ReplyError:
            return None
        except OSError:
            connection = self._connections.pop(port, None)
            if connection is not None:
                connection.close()
            return None


class Client(Repeating):
    """An application: asks each Sentinel for the master's address, and writes there."""

    def __init__(self, fleet: Fleet, old_master: int) -> None:
        super().__init__(CLIENT_PERIOD_SECONDS)
        self._sentinels = list(fleet.ports.values())
        self._name = fleet.name
        self._old_master = old_master
        self.answered_at: dict[int, float] = {}
        """When each Sentinel, by its port, first named another master than the old one."""
        self.written_at: float | None = None

    def once(self) -> None:
        for sentinel in self._sentinels:
            answer = self.ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            if not isinstance(answer, list) or int(answer[1]) == self._old_master:
                continue
            self.answered_at.setdefault(sentinel, time.monotonic())
            if self.written_at is None and self.ask(int(answer[1]), "SET", "written", "1") == "OK":
                self.written_at = time.monotonic()


class Prober(Repeating):
    """Tries to write to every replica; only a promoted one accepts it."""

    def __init__(self, replicas: Sequence[int]) -> None:
        super().__init__(PROBE_PERIOD_SECONDS)
        self._replicas = replicas
        self.promoted_at: float | None = None

    def once(self) -> None:
        for port in self._replicas if self.promoted_at is None else ():
            if self.ask(port, "SET", "probed", "1") == "OK":
                self.promoted_at = time.monotonic()


@dataclass
class Results:
    """All samples of one implementation with one down-after."""

    samples: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FIGURES})
    spurious: list[int] = field(default_factory=list)
    """Per round, the number of switches beyond the first that the busiest Sentinel announced."""
    failed: list[str] = field(default_factory=list)
    """Why a round gave no figures."""

    def add(self, figures: dict[str, float]) -> None:
        """Note the figures of one round, in milliseconds."""
        for name, value in figures.items():
            self.samples[name].append(value)


class Contender:
    """
    Three Sentinels and their servers, running over all rounds.

    ``kind`` is their implementation, or that of each, separated by plus signs.
    """

    def __init__(
        self,
        kind: str,
        harness: Harness,
        server_kind: str,
        down_after: int,
        watch_seconds: float,
        settings: Sequence[str] = (),
    ) -> None:
        """
        Create the processes without starting them.

        :param settings: further lines for the configurations of the Sentinels.
        """
        self.kind = kind
        kinds = kind.split("+") if "+" in kind else [kind] * 3
        self.fleet = Fleet(harness, kinds, server_kind, down_after=down_after, extra=settings)
        self.results = Results()
        self._watch_seconds = watch_seconds
        self._recorder = EventRecorder(self.fleet.ports)

    def start(self) -> None:
        """Start everything and wait until it is stable."""
        self.fleet.start()
        self._recorder.start()

    def stop(self) -> None:
        """Stop recording; the harness stops the processes."""
        self._recorder.stop()

    def round(self, rng: random.Random) -> None:
        """Wait until stable, kill the master at a random moment, measure, watch for spurious failovers, repair."""
        self._wait_stable(rng)
        master = self.fleet.master()
        client = Client(self.fleet, master.port)
        prober = Prober([port for port in self.fleet.servers if port != master.port])
        client.start()
        prober.start()
        killed_at = time.monotonic()
        master.kill()
        try:
            wait_for(
                lambda: (
                    client.written_at
                    and prober.promoted_at
                    and len(client.answered_at) == len(self.fleet.sentinels)
                    and len(self._first_by_sentinel(killed_at, "+switch-master")) == len(self.fleet.sentinels)
                ),
                FAILOVER_DEADLINE_SECONDS,
                "the failover to be over",
            )
            self.results.add(self._figures(killed_at, client, prober))
            self._watch(killed_at)
        except DeadlineExpired as problem:
            self.results.failed.append(str(problem))
        finally:
            client.stop()
            prober.stop()
        wait_for(self.fleet.master_port, FAILOVER_DEADLINE_SECONDS, "agreement on a master")
        self.fleet.revive(master)

    def _wait_stable(self, rng: random.Random) -> None:
        self.fleet.set_info_period(500)
        self.fleet.wait_quiet(240)
        self.fleet.set_info_period(10_000)
        time.sleep(3.0 + rng.random())
        self.fleet.wait_quiet(60)

    def _watch(self, killed_at: float) -> None:
        """Count the spurious switches, until a while after the last Sentinel has switched."""
        until = max(self._first_by_sentinel(killed_at, "+switch-master").values()) + self._watch_seconds
        time.sleep(max(0.0, until - time.monotonic()))
        received = [event for event in self._recorder.since(killed_at, "+switch-master") if event.at <= until]
        counts = [sum(event.sentinel == name for event in received) for name in self.fleet.ports]
        self.results.spurious.append(max(counts) - 1)

    def _first_by_sentinel(self, since: float, channel: str) -> dict[str, float]:
        first: dict[str, float] = {}
        for event in self._recorder.since(since, channel):
            first.setdefault(event.sentinel, event.at)
        return first

    def _figures(self, killed_at: float, client: Client, prober: Prober) -> dict[str, float]:
        masters_only = [event for event in self._recorder.since(killed_at) if event.payload.startswith("master ")]

        def first(channel: str) -> float:
            return min(event.at for event in masters_only if event.channel == channel)

        switches = self._first_by_sentinel(killed_at, "+switch-master").values()
        answers = client.answered_at.values()
        assert prober.promoted_at is not None and client.written_at is not None
        moments = {
            "sdown": first("+sdown"),
            "odown": first("+odown"),
            "elected": first("+elected-leader"),
            "promoted": prober.promoted_at,
            "first_switch": min(switches),
            "every_switch": max(switches),
            "first_answer": min(answers),
            "every_answer": max(answers),
            "write": client.written_at,
        }
        figures = {name: (moment - killed_at) * 1000 for name, moment in moments.items()}
        figures["odown_to_promoted"] = figures["promoted"] - figures["odown"]
        figures["odown_to_write"] = figures["write"] - figures["odown"]
        return figures


def measure(
    kinds: Sequence[str],
    server_kind: str,
    down_after: int,
    rounds: int,
    watch_seconds: float,
    report_progress: Callable[[str], None],
    settings: Sequence[str] = (),
) -> dict[str, Results]:
    """
    All rounds with one down-after, the contenders taking turns.

    :param down_after: milliseconds.
    :param watch_seconds: how long to watch for spurious switches after the last Sentinel has switched.
    :param settings: further lines for the configurations of all Sentinels.
    """
    rng = random.Random()
    with Harness() as harness, ExitStack() as stack:
        contenders = [Contender(kind, harness, server_kind, down_after, watch_seconds, settings) for kind in kinds]
        for contender in contenders:
            contender.start()
            stack.callback(contender.stop)
        for number in range(1, rounds + 1):
            for contender in contenders:
                contender.round(rng)
                writes = contender.results.samples["write"]
                outcome = f"write after {writes[-1]:.0f} ms" if writes else "no write"
                report_progress(f"down-after {down_after}, round {number}/{rounds}, {contender.kind}: {outcome}")
        return {contender.kind: contender.results for contender in contenders}


def table(down_after: int, all_results: dict[str, Results]) -> str:
    """The measurements of one down-after, ready to print."""
    lines = [f"down-after-milliseconds {down_after}: milliseconds since the kill, median (min–max)", ""]
    lines += [comparison(FIGURES, {kind: results.samples for kind, results in all_results.items()}), ""]
    for kind, results in all_results.items():
        hit, rounds = sum(count > 0 for count in results.spurious), len(results.spurious)
        maximum = max(results.spurious, default=0)
        mean = statistics.fmean(results.spurious) if results.spurious else 0.0
        lines.append(f"{kind}: spurious failovers after {hit} of {rounds} kills (mean {mean:.1f}, at most {maximum})")
        lines += [f"{kind}: a round failed: {reason}" for reason in results.failed]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="kills per kind and down-after")
    parser.add_argument("--down-after", type=int, nargs="+", default=[1000, 200], metavar="MS")
    parser.add_argument(
        "--kinds", nargs="+", default=["redis", "valkey", "txsentinel", "compiled"], help="the first is the measure"
    )
    parser.add_argument("--server", default="redis", choices=SERVER_KINDS)
    parser.add_argument("--watch", type=float, default=8.0, help="seconds to watch for spurious failovers")
    parser.add_argument("--json", type=Path, help="file for every sample")
    options = parser.parse_args(arguments)
    kinds = [kind for kind in options.kinds if available(kind)]
    for kind in options.kinds:
        if kind not in kinds:
            print(f"{kind}: not on this machine, left out")
    server_kind = options.server if available(options.server) else "valkey"
    print(f"servers watched: {server_version(server_kind)}")
    results: dict[str, object] = {}
    for down_after in options.down_after:
        all_results = measure(
            kinds, server_kind, down_after, options.rounds, options.watch, lambda text: print(text, flush=True)
        )
        print(f"\n{table(down_after, all_results)}\n", flush=True)
        results[str(down_after)] = {kind: vars(results) for kind, results in all_results.items()}
        if options.json:
            keep(options.json, {"rounds": options.rounds, "down-after": results})


if __name__ == "__main__":
    main()
