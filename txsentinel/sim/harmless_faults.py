"""Faults that are no failures of servers: servers that refuse commands, and Sentinels that wait for a processor."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from txsentinel.sim.fleet import Fleet

REFUSALS: Final = (
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the 'ping' command",
)

STARVED_SECONDS: Final = (3.0, 8.0, 20.0, 33.0)
"""How long a Sentinel may wait for a processor; it enters TILT after thirty seconds."""

Undo: TypeAlias = Callable[[], None]
Done: TypeAlias = "tuple[str, Undo]"
"""A description of what was done, and the function that ends it."""


def refuse_sentinels(fleet: Fleet, random: Random) -> Done:
    """Have all servers of a group, or its master, answer the Sentinels with one error, as after a change of users."""
    group = random.choice(fleet.masters)
    servers = [each for each in group.servers if each.is_master or random.random() < 0.5]
    error = random.choice(REFUSALS)
    monitors = [*(each.host.ip for each in fleet.sentinels), *(each.host.ip for each in fleet.c_peers)]
    for server in servers:
        server.refusals.update(dict.fromkeys(monitors, error))

    def end() -> None:
        for server in servers:
            server.refusals.clear()

    names = [server.host.name for server in servers]
    return f"have {names} answer the Sentinels with {error.partition(' ')[0]}", end


def starve_sentinel(fleet: Fleet, random: Random) -> Done:
    """Have a Sentinel wait for a processor. It ends by itself."""
    sentinel = random.choice(fleet.sentinels)
    seconds = random.choice(STARVED_SECONDS)
    if not sentinel.running or sentinel.host.reactor.stalled:
        return f"find no running process of {sentinel.name}", lambda: None
    sentinel.host.starve_for(seconds)
    return f"let {sentinel.name} wait {seconds:g} s for a processor", lambda: None
