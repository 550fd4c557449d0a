"""Which replicas of a master are published for reading."""

from __future__ import annotations

from txsentinel.model.snapshots import Endpoint, MasterSnapshot


def usable_replicas(master: MasterSnapshot) -> dict[str, Endpoint]:
    """Return the replicas that are up and follow their master, by the text of their addresses."""
    return {
        str(each.address): each.address
        for each in master.replicas
        if each.sdown_since is None and each.connected and each.master_link_up and each.address != master.address
    }
