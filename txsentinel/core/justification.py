"""
Whether a failover is still justified, and when a group that came back together is given up.

A decision that was right when it was taken must not be carried out after its reason is gone. Every state
before the promotion is ordered asks here again, and so does an order that waited for the disk.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from txsentinel.core.effects import Reconfigure
from txsentinel.core.instances import Failover, FailoverState, Master, Role
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Millis, Timings

PROMOTION_NOT_ORDERED: Final = frozenset(
    {FailoverState.WAIT_START, FailoverState.SELECT_REPLICA, FailoverState.SEND_SLAVEOF_NOONE}
)
"""The states in which no server has been told anything yet."""

MIN_RETURN_DELAY: Final[Millis] = 1_500
MAX_RETURN_DELAY: Final[Millis] = 3_000
"""
Bounds of how long a master may stay silent after the first of its replicas is back, if it was lost together with
all of them: ``down-after`` within these. Connections that were cut off recover up to a second apart.
"""


class Abort(NamedTuple):
    """Why a failover must be given up."""

    channel: str
    reason: str
    """For the log; ends the sentence that begins with the name of the master."""

    void: bool = True
    """The attempt does not count for the distance between attempts: there was nothing to fail over any more."""

    if_not_promoted: bool = False
    """Only if the replica is known not to have carried out the order to become a master."""


def abort_reason(state: SentinelState, master: Master, failover: Failover) -> Abort | None:
    """
    Why ``failover``, whose promotion was not seen yet, must not go on, or ``None``.

    An operator's order is its own reason; a coordinated failover needs the master that it asks.
    """
    ordered = failover.state not in PROMOTION_NOT_ORDERED
    if failover.republish:
        return None
    if failover.coordinated:
        # Once the servers hand over by themselves, interrupting them takes more than our own opinion.
        if master.odown_since is not None or (master.sdown_since is not None and not ordered):
            return Abort("-failover-abort-master-timeout", "it went down and cannot hand over")
    elif not failover.forced:
        if master.sdown_since is None:
            return Abort("-failover-abort-master-is-back", "it is up again", if_not_promoted=ordered)
        if master.odown_since is None:
            reason = "too few Sentinels still hold it down"
            return Abort("-failover-abort-master-is-back", reason, if_not_promoted=ordered)
    if state.storage_failing and failover.state not in (FailoverState.WAIT_START, FailoverState.WAIT_PROMOTION):
        return Abort("-failover-abort-not-elected", "the new configuration could not be saved", void=False)
    return None


def is_known_unpromoted(failover: Failover) -> bool:
    """Whether the order to promote was lost with its connection: over the next one it says that it is a replica."""
    promoted, sent_at = failover.promoted, failover.promotion_sent_at
    if promoted is None or sent_at is None:
        return False
    connected_at, refreshed_at = promoted.link.commands_since, promoted.info_refreshed_at
    if connected_at is None or refreshed_at is None:
        return False
    return sent_at < connected_at <= refreshed_at and promoted.role_reported is Role.REPLICA


def is_outdated(order: Reconfigure, *, by_hostname: bool) -> bool:
    """
    Whether ``order`` would be wrong now, news having come while it waited for the disk.

    To become a master is right only for the replica whose promotion is awaited; to follow another server only
    if that is the published master, and never for a replica that is being promoted.
    """
    for instance in order.link.instances:
        master = instance.master
        failover = master.failover
        promoted = failover is not None and failover.promoted is instance
        awaited = promoted and master.failover_state is FailoverState.WAIT_PROMOTION
        place = master.published_address
        right_place = (order.host, order.port) == (place.announced(by_hostname), place.port)
        if awaited if order.promotes else right_place and not awaited:
            return False
    return True


def return_awaited_until(master: Master, timings: Timings, now: Millis) -> Millis | None:
    """
    Until when a master that was lost together with all its replicas is waited for, or ``None`` if it was not.

    A machine that stood still, or a network that was cut, takes the whole group away. When it ends, the replicas
    may be back a moment before the master. What the master did not answer while nobody could proves nothing.
    """
    lost_at = master.link.available_at
    window = 2 * timings.ping_period
    first_back: Millis | None = None
    for replica in master.replicas.values():
        link = replica.link
        if link.silent_for(now) > link.outage_limit:
            replica_lost_at, back_at = link.available_at, None
        elif link.outage_until is not None and link.outage_until > lost_at:
            replica_lost_at, back_at = link.outage_from, link.outage_until
        else:
            return None
        if replica_lost_at < lost_at - window:
            # It was gone before, for a reason of its own.
            continue
        if replica_lost_at > lost_at + window:
            return None
        if back_at is not None and (first_back is None or back_at < first_back):
            first_back = back_at
    if first_back is None:
        return None
    return first_back + min(max(master.options.down_after, MIN_RETURN_DELAY), MAX_RETURN_DELAY)
