"""
Sentences on what does not block a failover by itself but needs the attention of an operator.

Each names the instance, what was observed, and what to change. They are part of an explanation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsentinel.core.conditions import REFUSES_WRITES, has_lost_its_master, lost_data, lost_link, refuses_writes
from txsentinel.core.confirmation import Waiting
from txsentinel.core.copied_state import CopiedState
from txsentinel.core.hindrances import described_peer
from txsentinel.core.instances import Master, Peer, Server
from txsentinel.model.failure import FailureClass, LinkFailure
from txsentinel.wire.resp import text

FRESH_HELLO_PERIODS: Final = 3
"""Hello periods within which a hello must have arrived for its sender to be alive."""

_PEER_FAULTS: Final = frozenset({FailureClass.AUTH, FailureClass.NOPERM})


def findings(present: CopiedState, unconfirmed: list[Waiting]) -> tuple[str, ...]:
    """
    Return all findings about a master.

    :param unconfirmed: Sentinels of the master whose ID could not be confirmed.
    """
    master = present.master
    found = list(_own(present))
    servers: list[Server] = [master, *master.replicas.values()]
    for server in servers:
        found += _of_server(server)
    found += _of_replication(present)
    for peer in master.peers.values():
        found += _of_peer(present, peer)
    for waiting in unconfirmed:
        found.append(_unconfirmed(waiting))
    return tuple(found)


def _own(present: CopiedState) -> Iterator[str]:
    for place in present.state.clones:
        where = text(place).replace(",", " port ")
        yield (
            f"a Sentinel at {where} has the ID of this one and is ignored: if it was started from a copy of its file,"
            " delete 'sentinel myid' there and start it again"
        )
    for ignored in present.master.ignored_addresses:
        hint = "" if present.state.options.resolve_hostnames else "; set 'sentinel resolve-hostnames yes' for names"
        yield f"{ignored} is ignored, as its announced address cannot be used{hint}"


def _of_server(server: Server) -> Iterator[str]:
    """Yield what a server refuses, and that it refuses writes."""
    where, link = server.address.joined(), server.link
    for command, refusal in link.refusals.items():
        if command == "SCRIPT KILL":
            yield f"{where} is kept busy by a script; SCRIPT KILL was sent and answered by {_error(refusal)}"
        elif refusal.failure_class is not FailureClass.BUSY:
            yield f"{where} answered {refusal.error}{_hint(refusal)}"
    if link.ping_refused and link.ping_error == "BUSY" and "SCRIPT KILL" not in link.refusals:
        sent = "SCRIPT KILL was sent" if server.script_kill_sent else "SCRIPT KILL is sent once it is S_DOWN"
        yield f"{where} is kept busy by a script; {sent}"
    if isinstance(server, Master) and refuses_writes(server):
        yield f"{where} is up, but {REFUSES_WRITES}"


def _error(refusal: LinkFailure) -> str:
    return refusal.error.partition(": ")[2] or refusal.error


def _hint(refusal: LinkFailure) -> str:
    if refusal.failure_class is FailureClass.AUTH:
        return ": is auth-pass right?"
    if refusal.failure_class is FailureClass.NOPERM:
        return ": the user of this Sentinel lacks the permission"
    return ""


def _of_replication(present: CopiedState) -> Iterator[str]:
    """Yield data that was lost, and replicas without a link to the master."""
    master, now = present.master, present.now
    lost = lost_data(master)
    if lost is not None:
        yield f"{master.address.joined()} {lost}"
    if present.down:
        return
    for replica in master.replicas.values():
        if has_lost_its_master(replica):
            yield f"{replica.address.joined()} {lost_link(replica, now)}"


def _of_peer(present: CopiedState, peer: Peer) -> Iterator[str]:
    """Yield that a peer sends hellos but cannot be reached, or refuses this Sentinel."""
    failure = peer.link.failure
    if failure is not None and failure.failure_class in _PEER_FAULTS and failure.at >= peer.link.available_at:
        yield (
            f"Sentinel {described_peer(peer)} answered {failure.error}: requirepass must be the same on all Sentinels,"
            " or sentinel-user and sentinel-pass must be set"
        )
        return
    since = peer.sdown_since
    fresh = present.now - FRESH_HELLO_PERIODS * present.state.timings.publish_period
    if since is None or peer.hello_received_at <= max(since, fresh):
        return
    why = "" if failure is None else f" ({failure})"
    yield (
        f"hellos of Sentinel {described_peer(peer)} arrive, but it cannot be reached there{why}: is it a firewall, NAT,"
        " or its sentinel announce-ip or announce-port?"
    )


def _unconfirmed(waiting: Waiting) -> str:
    where = f"{waiting.peer_id} at {waiting.address.joined()}"
    if waiting.failure.startswith(("NOAUTH", "WRONGPASS")):
        return (
            f"Sentinel {where} answers {waiting.failure.split(' ', 1)[0]}: requirepass must be the same on all"
            " Sentinels, or sentinel-user and sentinel-pass must be set"
        )
    return (
        f"hellos of Sentinel {where} arrive, but it cannot be reached there ({waiting.failure.rstrip('.')}): is it a"
        " firewall, NAT, or its sentinel announce-ip or announce-port?"
    )
