"""What is known of the servers of a group at a selection or a switch, for the journal."""

from __future__ import annotations

from txsentinel.core.instances import Master, Replica, Server
from txsentinel.core.journal import ComparedReplica, KnownServer, SwitchedServers
from txsentinel.core.selection import order_of_promotion
from txsentinel.model.address import Address


def known_server(server: Server, *, by_hostname: bool) -> KnownServer:
    """Return what is known of a server now."""
    report = server.data_set
    return KnownServer(
        server.name,
        server.address.announced(by_hostname),
        server.address.port,
        server.run_id,
        None if report is None else report.replid,
        server.repl_offset if isinstance(server, Replica) else None if report is None else report.offset,
        server.priority if isinstance(server, Replica) else None,
        server.info_refreshed_at,
    )


def selection_servers(master: Master, chosen: Replica | None, *, by_hostname: bool) -> SwitchedServers:
    """Return what the latest selection compared, in the order of promotion, unfit replicas last."""
    refused = dict(master.last_refusals)
    candidates = []
    for replica in master.replicas.values():
        reason = refused.get(replica.name)
        key = None if reason is not None else order_of_promotion(replica)
        candidates.append(ComparedReplica(known_server(replica, by_hostname=by_hostname), key, reason))
    candidates.sort(key=_place)
    new = None if chosen is None else known_server(chosen, by_hostname=by_hostname)
    return SwitchedServers(known_server(master, by_hostname=by_hostname), new, tuple(candidates))


def switched_servers(
    master: Master, address: Address, replica: Replica | None, *, by_hostname: bool
) -> SwitchedServers:
    """Return what is known of a switch to ``address``, where ``replica`` is, if it is known."""
    if replica is None:
        host = address.announced(by_hostname)
        new = KnownServer(f"{host}:{address.port}", host, address.port, None, None, None, None, None)
    else:
        new = known_server(replica, by_hostname=by_hostname)
    return SwitchedServers(known_server(master, by_hostname=by_hostname), new)


def _place(candidate: ComparedReplica) -> tuple[bool, tuple[bool, int, int, bool, str]]:
    return candidate.key is None, candidate.key or (True, 0, 0, True, candidate.server.name)
