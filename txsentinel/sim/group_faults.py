"""Faults of a master and its replicas as a group."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from txsentinel.sim.disk_faults import restart
from txsentinel.sim.fleet import Fleet, SimSentinel

POLL_INTERVAL: Final = 0.001
"""Seconds between two checks of whether a server was promoted; its Sentinel checks every 50 ms."""

RECOVERY: Final = 10.0
"""Seconds in which other Sentinels clean up after a lost leader."""

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


def isolate_with_minority(fleet: Fleet, random: Random) -> Done:
    """Cut a master and a minority of the Sentinels off from all others."""
    master = random.choice([server for server in fleet.servers if server.is_master] or fleet.servers)
    monitors = [*(each.host for each in fleet.sentinels), *(each.host for each in fleet.c_peers)]
    random.shuffle(monitors)
    side = (master.host, *monitors[: random.randint(1, (len(monitors) - 1) // 2)])
    hosts = [*monitors, *(server.host for server in fleet.servers)]
    fleet.network.partition([*side], [host for host in hosts if host not in side])
    return f"partition {sorted(host.name for host in side)} from the others", fleet.network.heal


def masterless(fleet: Fleet, random: Random) -> Done:
    """Make a master follow one of its replicas, which continues to follow the master."""
    group = random.choice(fleet.masters)
    masters = [server for server in group.servers if server.host.running and server.is_master]
    replicas = [server for server in group.servers if server.host.running and server not in masters]
    if masters and replicas:
        masters[0].replication.follow(random.choice(replicas).address)
    return f"leave {group.name} without a master", lambda: None


def lost_handover(fleet: Fleet, random: Random) -> Done:
    """Order a coordinated failover; kill its leader when the servers have exchanged roles, before it notices."""
    name = random.choice(fleet.masters).name
    random.choice(fleet.clients).order("SENTINEL", "FAILOVER", name, "COORDINATED")
    victims: list[SimSentinel] = []
    over = False

    def poll() -> None:
        for sentinel in fleet.sentinels if not over and not victims else ():
            master = sentinel.alive.core.registry.masters.get(name) if sentinel.running else None
            failover = None if master is None else master.failover
            promoted = None if failover is None or not failover.handover_ordered else failover.promoted
            if promoted is not None and any(
                server.host.ip == promoted.address.ip and server.is_master for server in fleet.servers
            ):
                victims.append(sentinel)
                sentinel.host.kill()
                # Even if it restarts soon, a Sentinel that takes over waits for down-after and the end of the pause.
                now = fleet.simulation.seconds()
                fleet.disturbed_until = max(fleet.disturbed_until, now + RECOVERY)
        if not over and not victims:
            fleet.simulation.call_later(POLL_INTERVAL, poll)

    def end() -> None:
        nonlocal over
        over = True
        for sentinel in victims:
            restart(sentinel)

    poll()
    return f"order {name} to be handed over, and kill the leader that orders it", end
