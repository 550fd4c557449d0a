"""Pauses of automatic failovers as an operator orders them."""

from __future__ import annotations

from random import Random
from typing import Final

from txsentinel.sim.fleet import Fleet
from txsentinel.sim.group_faults import Done

LENGTHS_MS: Final = (3_000, 8_000, 20_000)


def pause_failovers(fleet: Fleet, random: Random) -> Done:
    """Pause failovers of one master, or of all, at a Sentinel of ours; in half of the cases end the pause early."""
    client = random.choice(fleet.clients)
    name = random.choice([*(group.name for group in fleet.masters), "*"])
    period, ended = random.choice(LENGTHS_MS), random.random() < 0.5
    require = random.choice(("guaranteed", "best-effort"))
    fleet.pause_ordered()
    client.order("TXSENTINEL", "PAUSE", name, "FOR", str(period), "REQUIRE", require)

    def resume() -> None:
        if ended:
            end_pauses(fleet, name)

    return f"{client.host.name} pauses failovers of {name} for {period} ms ({require})", resume


def end_pauses(fleet: Fleet, name: str = "*") -> None:
    """End pauses at every Sentinel that can be asked."""
    fleet.pause_ordered()
    for client in fleet.clients:
        client.order("TXSENTINEL", "RESUME", name)
