"""
Whether a failover or an order is still justified, and how long to wait for a master that was lost with its replicas.

A decision must not be carried out after its reason has ceased to exist. Every state before the promotion is seen checks
this again, and so does an order that waited for its generation to become durable.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from txsentinel.core.effects import Reconfigure
from txsentinel.core.failover_state import PROMOTION_NOT_ORDERED, FailoverState
from txsentinel.core.instances import Failover, Master
from txsentinel.core.pause_rules import described_pause, pause_of
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Millis, Timings

MIN_RETURN_DELAY: Final[Millis] = 1_500
MAX_RETURN_DELAY: Final[Millis] = 3_000
"""
How long a master that was lost together with all its replicas may remain silent after the first of these is back:
``down-after-milliseconds``, but within these bounds. Connections that were cut off recover up to a second apart.
"""


class Abort(NamedTuple):
    """Why a failover must be aborted."""

    channel: str
    reason: str
    """A clause for the log, whose subject is the master."""

    void: bool = True
    """Whether the attempt does not delay the next one, as there was nothing left to fail over."""

    if_not_promoted: bool = False
    """Whether to abort only if the replica is known not to have executed the promotion."""


def abort_reason(state: SentinelState, master: Master, failover: Failover, now: Millis) -> Abort | None:
    """
    Return why ``failover``, whose promotion was not seen yet, must be aborted; ``None`` if it may continue.

    A forced failover needs no reason except the operator's order. A planned one needs a master that is up.
    """
    ordered = failover.state not in PROMOTION_NOT_ORDERED
    if failover.republish:
        return None
    if failover.planned:
        # Once the servers hand over by themselves, interrupting them takes more than our own opinion.
        if failover.fences and ordered:
            # The replica may be a master already; the end of the hold decides.
            return None
        if master.odown_since is not None or (master.sdown_since is not None and not ordered):
            return Abort("-failover-abort-master-timeout", "it went down and cannot hand over")
    elif not failover.forced:
        pause = None if ordered else pause_of(state, master.name, now)
        if pause is not None:
            return Abort("-failover-abort-not-elected", described_pause(pause, now))
        if master.sdown_since is None:
            return Abort("-failover-abort-master-is-back", "it is up again", if_not_promoted=ordered)
        if master.odown_since is None:
            reason = "too few Sentinels still report it down"
            return Abort("-failover-abort-master-is-back", reason, if_not_promoted=ordered)
    if state.storage_failing and failover.state not in (FailoverState.WAIT_START, FailoverState.WAIT_PROMOTION):
        return Abort("-failover-abort-not-elected", "the new configuration could not be saved", void=False)
    return None


def is_known_unpromoted(failover: Failover) -> bool:
    """Whether the promotion was lost with its connection: the replica reconnected and still reports to be a replica."""
    promoted, sent_at = failover.promoted, failover.promotion_sent_at
    if promoted is None or sent_at is None:
        return False
    connected_at, refreshed_at = promoted.link.commands_since, promoted.info_refreshed_at
    if connected_at is None or refreshed_at is None:
        return False
    return sent_at < connected_at <= refreshed_at and promoted.role_reported is Role.REPLICA


def is_outdated(order: Reconfigure, *, by_hostname: bool) -> bool:
    """
    Whether ``order`` is no longer valid, as the state changed while it waited for its generation.

    An order to become a master is valid only for the replica whose promotion is awaited. An order to follow a server is
    valid only if that is the published master, and never for the replica whose promotion is awaited.
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
    Return until when to wait for a master that was lost together with all its replicas; ``None`` if it was not.

    A suspended machine or a network partition makes the whole group unreachable. Afterwards the replicas may be back a
    moment before the master. The master's silence during the outage is no evidence that it is down.
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
            # It was lost earlier, for another reason.
            continue
        if replica_lost_at > lost_at + window:
            return None
        if back_at is not None and (first_back is None or back_at < first_back):
            first_back = back_at
    if first_back is None:
        return None
    return first_back + min(max(master.options.down_after, MIN_RETURN_DELAY), MAX_RETURN_DELAY)
