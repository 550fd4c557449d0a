"""
Until when each rule that depends on time does not apply yet.

A deadline is the last millisecond at which the rule does not apply: an evaluation compares it with the clock, and the
next evaluation is scheduled for the millisecond after it. Both use the same function, so they cannot disagree.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.failover_state import PROMOTION_SEEN, SyncStep
from txsentinel.core.instances import Failover, InstanceLink, Master, Peer, Replica
from txsentinel.core.role import Role
from txsentinel.core.succession import has_handed_over, is_masterless, successor
from txsentinel.model.timings import Millis, Timings

NEVER: Final[Millis] = 1 << 60
"""The deadline of a rule that cannot apply unless something else changes."""

OPINION_PERIODS: Final = 5
"""Number of ask periods for which the opinion and the reported vote of a peer are valid."""


def silence(link: InstanceLink, down_after: Millis) -> Millis:
    """Return until when an instance on ``link`` is not S_DOWN for its silence; by the clock of received data."""
    silent_since = link.unanswered_ping_at
    if silent_since is None:
        if link.commands_up:
            return NEVER
        silent_since = link.available_at
    return NEVER if link.attempt_waiting else max(silent_since, link.excused_at) + down_after


def reports(master: Master, timings: Timings) -> Millis:
    """Return until when ``master`` is not S_DOWN for what it reports: the wrong role, a restart, or lost data."""
    deadline = NEVER
    if reports_wrong_role(master):
        # Lower if no server of the group is a master, as only a failover can repair that, and if it follows a replica
        # that is one: the Sentinel that promoted that one may have died before it published it.
        limit = master.options.down_after
        if not (is_masterless(master) or successor(master) is not None):
            limit += 2 * timings.info_period
        deadline = master.role_reported_at + limit
    if master.rebooting_since is not None and master.options.reboot_down_after:
        deadline = min(deadline, master.rebooting_since + master.options.reboot_down_after)
    if master.data_missing_since is not None:
        deadline = min(deadline, master.data_missing_since - 1)
    return deadline


def reports_wrong_role(master: Master) -> bool:
    """Whether the master reports to be a replica although this Sentinel did not order that."""
    return master.role_reported is Role.REPLICA and master.failover_state not in PROMOTION_SEEN


def unanswered_commands(link: InstanceLink, down_after: Millis, timings: Timings) -> Millis:
    """Return until when the command connection is kept with no command answered; by the clock of received data."""
    return NEVER if link.silent_since is None else link.silent_since + max(down_after // 2, timings.ping_period)


def silent_subscription(link: InstanceLink, timings: Timings) -> Millis:
    """Return until when the Pub/Sub connection is kept while nothing arrives; by the clock of received data."""
    return link.pubsub_active_at + 3 * timings.publish_period


def opinion(peer: Peer, timings: Timings) -> Millis:
    """Return until when the opinion and the reported vote of ``peer`` are valid."""
    return peer.opinion_at + OPINION_PERIODS * timings.ask_period


def next_attempt(master: Master) -> Millis:
    """Return until when no failover is attempted, as another one began not long ago."""
    if master.attempt_started_at is None or has_handed_over(master):
        return -NEVER
    return master.attempt_started_at + 2 * master.options.failover_timeout - 1


def failover_state(master: Master, failover: Failover) -> Millis:
    """Return until when the failover may remain in its state, once a replica was selected."""
    return failover.entered_at + master.options.failover_timeout


def reconfiguration(replica: Replica, timings: Timings) -> Millis:
    """Return until when ``replica`` may take to report that it follows the new master."""
    return replica.reconf_sent_at + timings.replica_reconf_timeout if replica.sync is SyncStep.SENT else NEVER
