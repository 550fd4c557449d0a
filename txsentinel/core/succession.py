"""A monitored master that follows one of its own replicas: whether that has taken over, or no server is a master."""

from __future__ import annotations

from txsentinel.core.instances import Master, Replica
from txsentinel.core.role import Role


def is_masterless(master: Master) -> bool:
    """
    Whether no server of the group is a master: ``master`` follows one of its own replicas, and none is a master.

    Only INFO that replicas sent since its role changed counts, as an operator may have promoted one of them.
    """
    if _followed_replica(master) is None:
        return False
    for replica in master.replicas.values():
        if replica.role_reported is Role.MASTER:
            return False
        if replica.link.commands_up and not _has_reported_since(replica, master):
            return False
    return True


def successor(master: Master) -> Replica | None:
    """
    Return the replica that has taken over from ``master``, or ``None``.

    That is the replica which ``master`` reports to follow, if it has reported to be a master since then. The leader of
    the failover publishes its address, unless it died first. An operator may have promoted it as well.
    """
    replica = _followed_replica(master)
    if replica is None or replica.role_reported is not Role.MASTER or replica.priority == 0:
        return None
    return replica if replica.link.commands_up and _has_reported_since(replica, master) else None


def has_handed_over(master: Master) -> bool:
    """
    Whether a replica has taken over since our last vote, so its candidate succeeded but did not publish it.

    An election that confirms the new master is not a second attempt at the same failover.
    """
    if successor(master) is None:
        return False
    return master.voted_at is None or master.voted_at < master.role_reported_at


def follows_replica(master: Master) -> bool:
    """Whether ``master`` reports to follow one of its own replicas."""
    return _followed_replica(master) is not None


def _followed_replica(master: Master) -> Replica | None:
    """Return the replica that ``master`` reports to follow, if it reports to be a replica."""
    if master.role_reported is not Role.REPLICA or master.reported_master is None:
        return None
    host, port = master.reported_master
    for replica in master.replicas.values():
        address = replica.address
        if address.port == port and host.casefold() in (address.ip.casefold(), address.hostname.casefold()):
            return replica
    return None


def _has_reported_since(replica: Replica, master: Master) -> bool:
    """Whether INFO of ``replica`` has arrived since the role of ``master`` changed."""
    return replica.info_refreshed_at is not None and replica.info_refreshed_at >= master.role_reported_at
