"""Conditions of servers that are up and would matter in a failover, as clauses for log lines and explanations."""

from __future__ import annotations

from typing import Final

from txsentinel.core.instances import Master, Replica
from txsentinel.core.selection import max_master_link_down
from txsentinel.model.timings import Millis

REFUSES_WRITES: Final = (
    "refuses writes with NOREPLICAS: min-replicas-to-write is set, and no replica acknowledges in time"
)
"""What a master does for which :func:`refuses_writes` is true."""


def refuses_writes(master: Master) -> bool:
    """Whether a master refuses writes for lack of replicas, according to its latest INFO."""
    return master.lacks_good_replicas


def lost_data(master: Master) -> str | None:
    """Return that a master was restarted without the data that it had, ``None`` if it was not."""
    before, after = master.replaced_data_set, master.data_set
    if before is None or after is None or not before.keys or after.keys:
        return None
    return (
        f"came back without its data: it has no keys at offset {after.offset}, and had {before.keys} keys at offset"
        f" {before.offset}; its replicas discard theirs when they synchronize"
    )


def has_lost_its_master(replica: Replica) -> bool:
    """Whether a replica that is up reports that it has no link to its master."""
    if replica.is_down or replica.master_link_up or replica.info_refreshed_at is None:
        return False
    return replica.master_link_down_for > 0


def lost_link(replica: Replica, now: Millis) -> str:
    """Return for how long such a replica has had no link, and what follows from it."""
    limit = max_master_link_down(replica.master, now)
    return (
        f"has had no link to its master for {seconds(replica.master_link_down_for)}; after {seconds(limit)} it cannot"
        " be promoted, and what was written meanwhile would be lost with it"
    )


def seconds(milliseconds: Millis) -> str:
    """Return a duration for people: seconds with one decimal below a minute."""
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds // 1000} s"
