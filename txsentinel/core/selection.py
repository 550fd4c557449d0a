"""Selection of the replica to promote, with the reasons why others are unfit."""

from __future__ import annotations

from typing import Final

from txsentinel.core.empty_restart import has_copied_loss
from txsentinel.core.instances import Master, Replica
from txsentinel.core.lineage import Fit, described, fit
from txsentinel.core.options import Lineage
from txsentinel.core.role import Role
from txsentinel.core.succession import successor
from txsentinel.model.explanation import Unfit, UnfitCode
from txsentinel.model.timings import Millis, Timings

REFUSAL_LIFE: Final[Millis] = 30_000
"""How long a replica that refused its promotion is unfit, unless it is reconnected."""

MAX_SILENT_PERIODS: Final = 5
"""PING periods for which a replica may give no sign of life."""

MAX_INFO_PERIODS: Final = 3
"""INFO periods for which an INFO is fresh while the master is up."""

MAX_INFO_PERIODS_DOWN: Final = 5
"""PING periods for which an INFO is fresh while the master is down, as INFO is then requested that often."""

LINK_DOWN_FACTOR: Final = 10
"""How many times down-after a replica may have been without its master, besides the time that the master is down."""

_TEXTS: Final = {
    UnfitCode.DOWN: "it is down",
    UnfitCode.DISCONNECTED: "it is not connected",
    UnfitCode.PING_REFUSED: "it answers PING with {detail}",
    UnfitCode.SILENT: "it gave no sign of life for {measured} ms",
    UnfitCode.SILENT_SINCE_FAILURE: "it has not answered since its master went down",
    UnfitCode.PARKED: "it is parked for another {measured} ms",
    UnfitCode.PRIORITY_ZERO: "its priority is 0",
    UnfitCode.PROMOTION_REFUSED: "it answered {detail}",
    UnfitCode.NO_INFO: "it has not answered INFO yet",
    UnfitCode.STALE_INFO: "its INFO is {measured} ms old",
    UnfitCode.MASTER_LINK_DOWN_TOO_LONG: "it was without its master for {measured} ms",
    UnfitCode.FOREIGN_LINEAGE: "its replication history {detail} (foreign_lineage)",
    UnfitCode.EMPTY_AFTER_REBOOT: (
        "it copied the data set of its master, which restarted without data (empty_after_reboot)"
    ),
}
"""The clause for each code; its subject is the replica."""


def unfit(
    code: UnfitCode, measured: Millis | None = None, limit: Millis | None = None, detail: str | None = None
) -> Unfit:
    """Return the reason with its clause for the log and for replies."""
    return Unfit(code, _TEXTS[code].format(measured=measured, detail=detail), measured, limit)


def unfit_because(replica: Replica, master: Master, timings: Timings, now: Millis) -> Unfit | None:
    """
    Return why ``replica`` must not be promoted, or ``None`` if it may be.

    A replica must be up and connected, have accepted the last PING, have replied within five PING periods, and have
    sent INFO within five PING periods (three INFO periods while its master is up). It must have replied since the
    master went down, not be parked, have a priority other than 0, not have refused a promotion recently, not have lost
    its link to the master long before this Sentinel did, not have the data of another group, and not have copied a data
    set that its master lost while another replica holds it.

    Parking is absolute: a server that is about to be stopped would only delay the outage, and lose what was written.
    """
    link = replica.link
    if link.commands_up and link.ping_refused:
        # It is S_DOWN, or will be soon. If the reason is the same as the master's, that was detected a moment later.
        return unfit(UnfitCode.PING_REFUSED, detail=link.ping_error)
    if replica.is_down:
        return unfit(UnfitCode.DOWN)
    if not link.commands_up:
        return unfit(UnfitCode.DISCONNECTED)
    silent_for = now - link.available_at
    limit = MAX_SILENT_PERIODS * timings.ping_period
    if silent_for > limit:
        return unfit(UnfitCode.SILENT, silent_for, limit)
    if master.sdown_since is not None and link.available_at < master.sdown_since:
        # It may have been lost together with the master, while its next probe is due later.
        return unfit(UnfitCode.SILENT_SINCE_FAILURE, silent_for, now - master.sdown_since)
    parking = master.membership.parking_of(replica.address, now)
    if parking is not None:
        return unfit(UnfitCode.PARKED, parking.until - now)
    if replica.priority == 0:
        return unfit(UnfitCode.PRIORITY_ZERO, 0)
    if replica.promotion_refusal is not None and now - replica.promotion_refused_at < REFUSAL_LIFE:
        refused_for = now - replica.promotion_refused_at
        return unfit(UnfitCode.PROMOTION_REFUSED, refused_for, REFUSAL_LIFE, replica.promotion_refusal)
    if replica.info_refreshed_at is None:
        return unfit(UnfitCode.NO_INFO)
    info_age = now - replica.info_refreshed_at
    limit = MAX_INFO_PERIODS * timings.info_period
    if master.sdown_since is not None:
        limit = MAX_INFO_PERIODS_DOWN * timings.ping_period
    if info_age > limit:
        return unfit(UnfitCode.STALE_INFO, info_age, limit)
    limit = max_master_link_down(master, now)
    if replica.master_link_down_for > limit:
        return unfit(UnfitCode.MASTER_LINK_DOWN_TOO_LONG, replica.master_link_down_for, limit)
    if replica.data_set is not None and fit(replica.data_set, master) is Fit.FOREIGN and _is_foreign(replica, master):
        ours = described(*master.lineage.histories)
        theirs = described(replica.data_set.replid)
        return unfit(UnfitCode.FOREIGN_LINEAGE, detail=f"{theirs} was never that of its master, {ours}")
    if has_copied_loss(replica, master):
        return unfit(UnfitCode.EMPTY_AFTER_REBOOT)
    return None


def max_master_link_down(master: Master, now: Millis) -> Millis:
    """Return for how long a replica may have been without its master: ten times down-after, plus its outage."""
    limit = LINK_DOWN_FACTOR * master.options.down_after
    if master.sdown_since is not None:
        # Counted from the last sign of life if that is earlier than S_DOWN, which TILT may delay.
        limit += now - min(master.sdown_since, master.link.available_at)
    return limit


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


def choose(master: Master, timings: Timings, now: Millis) -> tuple[Replica | None, list[tuple[str, Unfit]]]:
    """
    Select the replica to promote.

    :returns: the replica, or ``None`` if none is fit, and ``(name, reason)`` of each unfit one.
    """
    refused: list[tuple[str, Unfit]] = []
    fit: list[Replica] = []
    for replica in master.replicas.values():
        reason = unfit_because(replica, master, timings, now)
        if reason is None:
            fit.append(replica)
        else:
            refused.append((replica.name, reason))
    return min(fit, key=order_of_promotion, default=None), refused
