"""
How the work of a Sentinel grows with its masters, without sockets: CPU per master and simulated second.

``python -m benchmarks.many_masters --masters 100 1000 5000 10000``

Sentinels monitor simulated masters with replicas (:mod:`txsentinel.sim`). Only the CPU of what runs in the first of
them counts: its delayed calls and the data that it receives, not the simulated servers and the simulator itself. So
other work on the machine changes the figures little, and no descriptors are needed. The kernel's share is missing.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import comparison, keep
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.flows import Flow
from txsentinel.sim.groups import Shape
from txsentinel.sim.simulation import SECOND, ScheduledEvent, SimCall, Simulation

FIGURES: Final = {
    "start": "CPU of the first 15 s, per master, µs",
    "quiet": "CPU per master and second when quiet, µs",
    "failure": "CPU of the loss of all masters, per master, µs",
    "replaced": "until the Sentinel has switched all, simulated s",
    "longest_call": "longest call when quiet, ms",
    "longest_failure_call": "longest call during the loss, ms",
}

START_SECONDS: Final = 15.0
FAILURE_SECONDS: Final = 60.0


class Meter:
    """Runs a simulation, and measures the CPU of the events of one host."""

    def __init__(self, simulation: Simulation, sentinel: SimSentinel) -> None:
        self._simulation = simulation
        self._reactor = sentinel.host.reactor
        self._name = sentinel.host.name
        self.seconds = 0.0
        """CPU of all events so far."""

        self.longest = 0.0
        """CPU of the longest one since :meth:`reset`."""

    def reset(self) -> None:
        """Begin again at zero."""
        self.seconds = self.longest = 0.0

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Advance the simulation, until the condition holds at a tenth of a second; return the seconds it took."""
        simulation = self._simulation
        began = check_at = simulation.time
        end = began + round(seconds * SECOND)
        while (entry := simulation.peek()) is not None and entry[0] <= end:
            ours = self._is_ours(entry[1])
            before = time.thread_time() if ours else 0.0
            simulation.step()
            if ours:
                took = time.thread_time() - before
                self.seconds += took
                self.longest = max(self.longest, took)
            if entry[0] >= check_at:
                if until():
                    return (entry[0] - began) / SECOND
                check_at = entry[0] + SECOND // 10
        return seconds

    def _is_ours(self, event: ScheduledEvent) -> bool:
        if isinstance(event, Flow):
            return event.receiver.reactor is self._reactor
        return isinstance(event, SimCall) and event.owner is not None and event.owner.name == self._name


def sample(
    masters: int, replicas: int, sentinels: int, seconds: float, down_after: int, failure: bool
) -> dict[str, list[float]]:
    """
    Measure one size.

    :param seconds: simulated duration of the quiet measurement.
    :param failure: whether all masters are lost in the end.
    :raises RuntimeError: if an exception was not handled in a simulated program.
    """
    shape = Shape(
        sentinels, masters, replicas, quorum=sentinels // 2 + 1, down_after=down_after, failover_timeout=60_000
    )
    fleet = Fleet(1, shape)
    meter = Meter(fleet.simulation, fleet.sentinels[0])
    fleet.start()
    meter.run(START_SECONDS)
    per_master = 1e6 / masters
    figures = {"start": [meter.seconds * per_master]}
    gc.collect()
    meter.reset()
    meter.run(seconds)
    figures["quiet"] = [meter.seconds / seconds * per_master]
    figures["longest_call"] = [meter.longest * 1000]
    if failure:
        meter.reset()
        addresses = {master.name: master.servers[0].host.ip for master in fleet.masters}
        for master in fleet.masters:
            master.servers[0].host.crash()
        core = fleet.sentinels[0].alive.core
        monitored = core.registry.masters

        def switched() -> bool:
            return all(monitored[name].published_address.ip != ip for name, ip in addresses.items())

        figures["replaced"] = [meter.run(FAILURE_SECONDS, switched)]
        figures["failure"] = [meter.seconds * per_master]
        figures["longest_failure_call"] = [meter.longest * 1000]
    if fleet.simulation.failures:
        raise RuntimeError(str(fleet.simulation.failures[0]))
    return figures


def table(result: Mapping[str, Any]) -> str:
    """The measurements, ready to print: a column for each size."""
    return comparison(FIGURES, {f"{entry['masters']:,}": entry["figures"] for entry in result["many masters"]})


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_masters", description=__doc__.split("\n\n")[0])
    parser.add_argument("--masters", type=int, nargs="+", default=[100, 1000, 5000, 10000], metavar="N")
    parser.add_argument("--replicas", type=int, default=1, help="of each master")
    parser.add_argument("--sentinels", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated duration of the quiet measurement")
    parser.add_argument("--down-after", type=int, default=5000, metavar="MS")
    parser.add_argument("--failure", action="store_true", help="lose all masters in the end")
    parser.add_argument("--json", metavar="FILE", help="file for every sample")
    options = parser.parse_args(argv)
    result: dict[str, Any] = {"many masters": []}
    for masters in options.masters:
        figures = sample(
            masters, options.replicas, options.sentinels, options.seconds, options.down_after, options.failure
        )
        print(
            f"{masters} masters: " + ", ".join(f"{name} {value[0]:.1f}" for name, value in figures.items()), flush=True
        )
        result["many masters"].append({"masters": masters, "figures": figures})
    print(f"\n{table(result)}")
    if options.json:
        keep(Path(options.json), result)


if __name__ == "__main__":
    main()
