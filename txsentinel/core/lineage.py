"""
The replication histories of a group, so that the data of another group does not replace its own.

A replica has the replication ID of its master, and a promoted replica has that of its former master as the second one.
So the histories of a group are the IDs that its masters reported, and those of replicas that have, or had, a link to
them. A server is foreign if its IDs are none of these. The histories are not saved: as long as a Sentinel has seen none
since its start, no server is foreign to it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from txsentinel.core.instances import Master, Peer, Replica, Server
from txsentinel.core.options import Lineage
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.core.succession import successor
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis
from txsentinel.wire.info import DataSetReport

MAX_HISTORIES: Final = 32
"""Number of replication IDs of a group that are remembered; each failover adds one, each restart one or two."""

_SHOWN_DIGITS: Final = 8
_SHOWN: Final = 3


class Fit(Enum):
    """How the data of a server relates to that of a group."""

    FITS = "fits"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"
    """The server has not reported its histories to this Sentinel, or this Sentinel knows none of the group."""


def learn(server: Server) -> None:
    """Record the histories that a server of a group reported, if they are those of the group."""
    report, master = server.data_set, server.master
    if report is None:
        return
    if isinstance(server, Master):
        if server.role_reported is Role.MASTER:
            _remember(master, report.replid, report.replid2)
    elif isinstance(server, Replica) and server.role_reported is Role.REPLICA and server.follows(master.address):
        # A link that was never up since it was ordered has brought no data. A master that is a replica itself passes
        # on the data of the server that it follows, which may be of another group.
        linked = server.master_link_up or server.master_link_down_for >= 0
        if linked and master.role_reported is Role.MASTER:
            _remember(master, report.replid)


def _remember(master: Master, *histories: str | None) -> None:
    known = master.lineage.histories
    for history in histories:
        if history is not None:
            known.pop(history, None)
            known[history] = None
    while len(known) > MAX_HISTORIES:
        del known[next(iter(known))]


def fit(report: DataSetReport | None, master: Master) -> Fit:
    """Return how a data set relates to the group of ``master``."""
    if report is None or not master.lineage.histories:
        return Fit.UNKNOWN
    return (
        Fit.FITS
        if report.replid in master.lineage.histories or report.replid2 in master.lineage.histories
        else Fit.FOREIGN
    )


def fit_of_announced(address: Address, master: Master, registry: Registry) -> Fit:
    """
    Return how the data of the server at ``address``, which another Sentinel announces as the master, fits the group.

    A known replica fits if there is nothing to compare its histories with.
    """
    replica = registry.replica_at(master, address)
    if replica is None:
        return Fit.UNKNOWN
    return fit(replica.data_set, master) if master.lineage.histories else Fit.FITS


def permits(
    state: SentinelState, registry: Registry, master: Master, address: Address, peer: Peer, now: Millis
) -> bool:
    """
    Return whether the address that ``peer`` announces may be adopted with regard to the data of its server.

    An address that is no known replica of the group is adopted unless ``lineage`` is ``strict``. A known replica with
    data of another history is adopted after down-after, or never if ``lineage`` is ``strict``. The peer repeats its
    hello. Unless ``strict``, a replica that has taken over is adopted at once, as the present master follows it: this
    Sentinel has missed more than one failover then, of which servers report only the last.
    """
    strict = master.options.guards.lineage is Lineage.STRICT
    found = fit_of_announced(address, master, registry)
    if found is Fit.FITS or (found is Fit.UNKNOWN and not strict):
        master.lineage.awaited = None
        return True
    awaited = master.lineage.awaited
    if awaited is None or not awaited[0].same(address):
        master.lineage.awaited = awaited = address, now
    replica = registry.replica_at(master, address)
    has_taken_over = replica is not None and successor(master) is replica
    if not strict and (has_taken_over or now - awaited[1] >= master.down_after):
        return True
    report = None if replica is None else replica.data_set
    theirs, ours = described(None if report is None else report.replid), described(*master.lineage.histories)
    state.note_throttled(
        "An announced address does not fit the group",
        f"Sentinel {peer.name} at {peer.address.joined()} announces {master.name} at {address.joined()} with the "
        f"replication history {theirs}, but this group has {ours}: it is not adopted"
        f"{'' if strict else ' before down-after has passed'}",
    )
    return False


def adopted(master: Master, *, known: bool) -> None:
    """
    Record that ``master`` has an address that another Sentinel announced; its next INFO is checked.

    :param known: whether that was the address of a replica of the group. Its data may have another history all the
        same, if it or its master restarted without persistence.
    """
    master.lineage.awaited = None
    master.lineage.unchecked = not known


def check_announced(state: SentinelState, server: Server) -> None:
    """Log it if a master that another Sentinel announced has the data of another group; called before :func:`learn`."""
    if not isinstance(server, Master) or not server.lineage.unchecked or server.role_reported is not Role.MASTER:
        return
    server.lineage.unchecked = False
    report = server.data_set
    if report is not None and fit(report, server) is Fit.FOREIGN:
        theirs, ours = described(report.replid2, report.replid), described(*server.lineage.histories)
        state.note(
            Level.WARNING,
            f"{server.name} at {server.address.joined()}, which another Sentinel announced, has the replication "
            f"history {theirs}, which was never that of this group, {ours}. Do two groups share the name?",
        )


def may_be_ordered(state: SentinelState, registry: Registry, replica: Replica) -> bool:
    """
    Return whether ``replica`` may be ordered to follow its master; if not, log that.

    A server that once followed a master of another group remains listed there until SENTINEL RESET. If it has become
    the master of its own group since then, such an order would replace the data of that one.
    """
    master, address = replica.master, replica.address
    if replica.role_reported is Role.REPLICA and replica.follows(master.address):
        return True
    other = registry.master_at(address)
    if other is None or other is master:
        return True
    state.note_throttled(
        "A master is listed as a replica of another group",
        f"{address.joined()} is listed as a replica of {master.name}, but is the master of {other.name}: it is not "
        f"ordered to follow. SENTINEL RESET {master.name} removes it from the list",
    )
    return False


def forget(master: Master) -> None:
    """Forget the histories of a master that is reset."""
    master.lineage.histories.clear()
    master.lineage.awaited = None


def described(*histories: str | None) -> str:
    """Return the beginnings of replication IDs, the latest ones of many, for the log."""
    known = [history[:_SHOWN_DIGITS] for history in histories if history is not None]
    return ", ".join(known[-_SHOWN:]) or "unknown"
