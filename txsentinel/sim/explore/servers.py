"""
The explored servers: condition, role and the server that each follows, as the simulated Redis has them.

The state of all servers is one tuple of :class:`ServerModel`. Replication is immediate, and a server keeps its role
over a restart, as every order to change it includes CONFIG REWRITE.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from txsentinel.sim.explore.topology import SERVER_ADDRESSES, SERVERS, GroupSettings

NO_ONE: Final = -1
"""What a master follows."""


class Condition(IntEnum):
    """Whether a server answers."""

    UP = 0
    DEAD = 1
    """Its connections are reset and refused."""
    HUNG = 2
    """Its connections stay open; what is sent to it is executed once it continues."""


class ServerModel(NamedTuple):
    """One server."""

    condition: Condition = Condition.UP
    follows: int = NO_ONE
    restarts: int = 0
    """Changes its run ID."""


Servers = tuple[ServerModel, ...]

INITIAL: Final[Servers] = (ServerModel(), ServerModel(follows=0), ServerModel(follows=0))


def changed(servers: Servers, number: int, server: ServerModel) -> Servers:
    """Return ``servers`` with one replaced."""
    return (*servers[:number], server, *servers[number + 1 :])


def info(servers: Servers, number: int, settings: GroupSettings) -> bytes:
    """Return the INFO of a server, with the fields that a Sentinel uses."""
    server = servers[number]
    lines = [f"run_id:{number}{server.restarts}{'0' * 38}"]
    if server.follows == NO_ONE:
        lines.append("role:master")
        replicas = [n for n in range(SERVERS) if servers[n].follows == number and servers[n].condition is Condition.UP]
        for at, replica in enumerate(replicas):
            address = SERVER_ADDRESSES[replica]
            lines.append(f"slave{at}:ip={address.ip},port={address.port},state=online")
    else:
        source = SERVER_ADDRESSES[server.follows]
        link_up = servers[server.follows].condition is Condition.UP
        lines += ["role:slave", f"master_host:{source.ip}", f"master_port:{source.port}"]
        lines.append(f"master_link_status:{'up' if link_up else 'down'}")
        if not link_up:
            lines.append("master_link_down_since_seconds:1")
        lines += [f"slave_priority:{settings.priorities[number]}", f"slave_repl_offset:{settings.offsets[number]}"]
    return "\r\n".join([*lines, ""]).encode()
