"""Orders of operators as fault types: failovers, settings, resets, and servers that are pointed elsewhere."""

from __future__ import annotations

from random import Random

from txsentinel.sim.clients import SimClient
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.group_faults import Done
from txsentinel.sim.groups import SimMaster


def nothing() -> None:
    """End a fault that needs no undoing."""


def set_priority(fleet: Fleet, random: Random) -> Done:
    """An operator gives a server another priority."""
    server = random.choice(fleet.servers)
    priority = random.choice(("1", "10", "100", "200"))
    if server.setting("replica-priority") != "0":
        server.configure({"replica-priority": priority})
    return f"give {server.host.name} the priority {priority}", nothing


def _order(fleet: Fleet, random: Random, *words: str) -> Done:
    client = random.choice(fleet.clients)
    client.order(*words)
    return f"{client.host.name} orders {' '.join(words)}", nothing


def manual_failover(fleet: Fleet, random: Random) -> Done:
    """An operator orders a failover."""
    return _order(fleet, random, "SENTINEL", "FAILOVER", random.choice(fleet.masters).name)


def rival_failovers(fleet: Fleet, random: Random) -> Done:
    """An operator orders a failover of every Sentinel at once."""
    name = random.choice(fleet.masters).name
    for client in fleet.clients:
        client.order("SENTINEL", "FAILOVER", name)
    return f"order every Sentinel to fail {name} over", nothing


def coordinated_failover(fleet: Fleet, random: Random) -> Done:
    """An operator orders a coordinated failover."""
    return _order(fleet, random, "SENTINEL", "FAILOVER", random.choice(fleet.masters).name, "COORDINATED")


def change_setting(fleet: Fleet, random: Random) -> Done:
    """An operator changes a setting at one Sentinel."""
    option, value = random.choice(
        (
            ("quorum", str(random.randint(1, len(fleet.sentinels)))),
            ("down-after-milliseconds", random.choice(("300", "1000", "4000"))),
            ("failover-timeout", random.choice(("3000", "8000"))),
            ("parallel-syncs", random.choice(("1", "5"))),
        )
    )
    return _order(fleet, random, "SENTINEL", "SET", random.choice(fleet.masters).name, option, value)


def reset_master(fleet: Fleet, random: Random) -> Done:
    """An operator resets one master or all at one Sentinel."""
    return _order(fleet, random, "SENTINEL", "RESET", random.choice(("*", random.choice(fleet.masters).name)))


def monitor_anew(fleet: Fleet, random: Random) -> Done:
    """An operator has a master removed and monitored again."""
    group = random.choice(fleet.masters)
    client = random.choice(fleet.clients)
    client.order("SENTINEL", "REMOVE", group.name)
    fleet.simulation.call_later(random.choice((0.0, 0.3)), monitor, fleet, client, group)
    return f"{client.host.name} has {group.name} removed and monitored again", nothing


def monitor(fleet: Fleet, client: SimClient, group: SimMaster) -> None:
    """Have a Sentinel monitor a group at its present master, with the options of the fleet's file."""
    masters = [server for server in group.servers if server.host.running and server.is_master]
    ip = (masters or group.servers)[0].host.ip
    client.order("SENTINEL", "MONITOR", group.name, ip, "6379", str(fleet.shape.quorum))
    for option, value in (
        ("down-after-milliseconds", fleet.shape.down_after),
        ("failover-timeout", fleet.shape.failover_timeout),
    ):
        client.order("SENTINEL", "SET", group.name, option, str(value))


def redirect_replica(fleet: Fleet, random: Random) -> Done:
    """An operator points a server to another one of its group."""
    server, other = random.sample(random.choice(fleet.masters).servers, 2)
    if server.host.running:
        server.replication.follow(other.address)
    return f"point {server.host.name} to {other.host.name}", nothing


def foreign_master(fleet: Fleet, random: Random) -> Done:
    """Point a replica to the master of another group; afterwards an operator removes it there."""
    if len(fleet.masters) < 2:
        return "find no other group", nothing
    own, other = random.sample(fleet.masters, 2)
    replicas = [server for server in own.servers if server.host.running and not server.is_master]
    masters = [server for server in other.servers if server.host.running and server.is_master]
    if not replicas or not masters:
        return "find no replica for another group", nothing
    server = random.choice(replicas)
    server.replication.follow(masters[0].address)

    def end() -> None:
        leading = [each for each in own.servers if each.host.running and each.is_master]
        if leading and server.host.running and not server.is_master:
            server.replication.follow(leading[0].address)
        for client in fleet.clients:
            fleet.simulation.call_later(1.0, client.order, "SENTINEL", "RESET", other.name)

    return f"let {server.host.name} follow {masters[0].host.name}", end
