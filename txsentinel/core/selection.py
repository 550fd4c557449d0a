"""Selection of the replica to promote, with the reasons why others are unfit."""

from __future__ import annotations

from typing import Final

from txsentinel.core.empty_restart import has_copied_loss
from txsentinel.core.instances import Master, Replica
from txsentinel.core.lineage import Fit, described, fit
from txsentinel.core.options import Lineage
from txsentinel.core.role import Role
from txsentinel.core.succession import successor
from txsentinel.model.timings import Millis, Timings

REFUSAL_LIFE: Final[Millis] = 30_000
"""How long a replica that refused its promotion is unfit, unless it is reconnected."""


def unfit_because(replica: Replica, master: Master, timings: Timings, now: Millis) -> str | None:
    """
    Return why ``replica`` must not be promoted, as a clause for the log, or ``None`` if it may be.

    A replica must be up and connected, have accepted the last PING, have replied within five PING periods, and have
    sent INFO within five PING periods (three INFO periods while its master is up). It must have replied since the
    master went down, have a priority other than 0, not have refused a promotion recently, not have lost its link to the
    master long before this Sentinel did, not have the data of another group, and not have copied a data set that its
    master lost while another replica holds it.
    """
    if replica.is_down:
        return "it is down"
    link = replica.link
    if not link.commands_up:
        return "it is not connected"
    if link.ping_refused:
        # It will be S_DOWN soon, too. If the reason is the same as the master's, that was detected a moment later.
        return f"it answers PING with {link.ping_error}"
    if now - link.available_at > 5 * timings.ping_period:
        return f"it gave no sign of life for {now - link.available_at} ms"
    if master.sdown_since is not None and link.available_at < master.sdown_since:
        # It may have been lost together with the master, while its next probe is due later.
        return "it has not answered since its master went down"
    if replica.priority == 0:
        return "its priority is 0"
    if replica.promotion_refusal is not None and now - replica.promotion_refused_at < REFUSAL_LIFE:
        return f"it answered {replica.promotion_refusal}"
    freshness = 5 * timings.ping_period if master.sdown_since is not None else 3 * timings.info_period
    if replica.info_refreshed_at is None:
        return "it has not answered INFO yet"
    if now - replica.info_refreshed_at > freshness:
        return f"its INFO is {now - replica.info_refreshed_at} ms old"
    limit = 10 * master.options.down_after
    if master.sdown_since is not None:
        # Counted from the last sign of life if that is earlier than S_DOWN, which TILT may delay.
        limit += now - min(master.sdown_since, master.link.available_at)
    if replica.master_link_down_for > limit:
        return f"it was without its master for {replica.master_link_down_for} ms"
    if replica.data_set is not None and fit(replica.data_set, master) is Fit.FOREIGN and _is_foreign(replica, master):
        ours = described(*master.lineage.histories)
        theirs = described(replica.data_set.replid)
        return f"its replication history {theirs} was never that of its master, {ours} (foreign_lineage)"
    if has_copied_loss(replica, master):
        return "it copied the data set of its master, which restarted without data (empty_after_reboot)"
    return None


def _is_foreign(replica: Replica, master: Master) -> bool:
    """
    Return whether ``replica`` has the data of another group, or none at all, given that its history is unknown.

    A server that restarted begins a history of its own, which shows nothing about the data that it loaded; it may be
    the last one with the data of the group. Only a link that it had since then shows where its data come from.
    """
    if master.options.guards.lineage is Lineage.STRICT:
        return True
    if replica.role_reported is Role.REPLICA and (replica.master_link_up or replica.master_link_down_for >= 0):
        return True
    ours, lost = replica.data_set, master.data_set
    return ours is not None and ours.keys == 0 and lost is not None and bool(lost.keys)


def order_of_promotion(replica: Replica) -> tuple[bool, int, int, bool, str]:
    """
    Return the sort key: lower priority, then more data, then the smaller run ID; an unknown run ID comes last.

    A replica that has taken over from its master already comes before all others: clients may have written to it.
    """
    taken_over = replica.role_reported is Role.MASTER and successor(replica.master) is replica
    run_id = (replica.run_id or "").lower()
    return (not taken_over, replica.priority, -replica.repl_offset, replica.run_id is None, run_id)


PREFERENCES: Final = ("has taken over", "lower priority", "more data", "known run ID", "smaller run ID")
"""What each element of the key of :func:`order_of_promotion` prefers, for explanations of a choice."""


def select(master: Master, timings: Timings, now: Millis) -> Replica | None:
    """Select the replica to promote, ``None`` if none is fit; keep the reasons in ``Master.last_refusals``."""
    chosen, master.last_refusals = choose(master, timings, now)
    return chosen


def choose(master: Master, timings: Timings, now: Millis) -> tuple[Replica | None, list[tuple[str, str]]]:
    """
    Select the replica to promote.

    :returns: the replica, or ``None`` if none is fit, and ``(name, reason)`` of each unfit one.
    """
    refused: list[tuple[str, str]] = []
    fit: list[Replica] = []
    for replica in master.replicas.values():
        reason = unfit_because(replica, master, timings, now)
        if reason is None:
            fit.append(replica)
        else:
            refused.append((replica.name, reason))
    return min(fit, key=order_of_promotion, default=None), refused
