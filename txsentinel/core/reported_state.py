"""What a server has reported of itself, apart from what changes with every INFO of a healthy one."""

from __future__ import annotations

from typing import TypeAlias

from txsentinel.core.instances import Replica, Server

ReportedState: TypeAlias = "tuple[object, ...]"
"""Equal before and after an INFO that has changed nothing but offsets and numbers of keys."""


def reported_state(server: Server) -> ReportedState:
    """Return what ``server`` has reported, without offsets and times."""
    data_set = server.data_set
    replid = replid2 = empty = None
    if data_set is not None:
        replid, replid2, empty = data_set.replid, data_set.replid2, not data_set.keys
    known = (
        server.run_id,
        server.role_reported,
        server.info_refreshed_at is None,
        server.rebooting_since is None,
        server.replaced_data_set,
        replid,
        replid2,
        empty,
        tuple(server.master.lineage.histories),
    )
    if not isinstance(server, Replica):
        return known
    followed = (server.master_host, server.master_port, server.master_link_up, server.master_link_down_for)
    return (*known, *followed, server.priority, server.announced, server.sync)
