"""Writes of applications to the masters that the Sentinels publish."""

from __future__ import annotations

from typing import Final

from txsentinel.sim.groups import SimMaster
from txsentinel.sim.simulation import Simulation

PERIOD: Final = 1.0
"""Seconds between two writes to one group."""

KEYS: Final = 50
"""Number of keys of each group; they are written in turn. Each begins with the name of the group and a colon."""

FIRST_KEYS: Final = 20
"""How many of them are written with the first write."""


class DataWriter:
    """Writes keys to each group, at its master as the applications know it, without a network in between."""

    def __init__(self, simulation: Simulation, groups: list[SimMaster]) -> None:
        self._simulation = simulation
        self._groups = groups
        self._written = 0
        simulation.call_later(PERIOD, self._write)

    def _write(self) -> None:
        self._simulation.call_later(PERIOD, self._write)
        for group in self._groups:
            for server in group.servers:
                # A former master that was not demoted yet is written to as well; such writes are lost.
                if server.writable and not server.host.reactor.stalled and not server.paused:
                    for number in range(FIRST_KEYS if not self._written else 1):
                        key = b"%b:%d" % (group.name.encode(), (self._written + number) % KEYS)
                        server.write([b"SET", key, b"%d" % self._written])
        self._written += FIRST_KEYS if not self._written else 1
