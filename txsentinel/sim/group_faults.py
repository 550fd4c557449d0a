"""Faults of a master and its replicas as a group."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from txsentinel.sim.fleet import Fleet

Undo: TypeAlias = Callable[[], None]
Done: TypeAlias = "tuple[str, Undo]"
"""A description of what was done, and the function that ends it."""


def pause_group(fleet: Fleet, random: Random) -> Done:
    """Pause a master and its replicas together; resume them a moment apart, the master last, first, or with them."""
    group = random.choice(fleet.masters)
    paused = [server for server in group.servers if server.host.running]
    masters = [server for server in paused if server.is_master]
    for server in paused:
        server.host.pause()
    delay = random.choice((0.0, 0.05, 0.2, 0.5, 1.0, random.uniform(0.0, 1.0)))
    late = masters if random.random() < 0.7 else [server for server in paused if server not in masters]

    def end() -> None:
        for server in paused:
            if server in late:
                fleet.simulation.call_later(delay, server.host.resume)
            else:
                server.host.resume()

    who = "the master" if late is masters else "the replicas"
    return f"pause the whole group {group.name}, {who} {delay:.3f} s longer", end


def masterless(fleet: Fleet, random: Random) -> Done:
    """Make a master follow one of its replicas, which continues to follow the master."""
    group = random.choice(fleet.masters)
    masters = [server for server in group.servers if server.host.running and server.is_master]
    replicas = [server for server in group.servers if server.host.running and server not in masters]
    if masters and replicas:
        masters[0].replication.follow(random.choice(replicas).address)
    return f"leave {group.name} without a master", lambda: None
