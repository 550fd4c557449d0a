"""Which replica to promote, and why each of the others was refused."""

from __future__ import annotations

from typing import Final

from txsentinel.core.instances import Master, Replica
from txsentinel.model.timings import Millis, Timings

REFUSAL_LIFE: Final[Millis] = 30_000
"""How long a replica that refused to be promoted is not asked again, unless it is connected to anew."""


def unfit_because(replica: Replica, master: Master, timings: Timings, now: Millis) -> str | None:
    """
    Why ``replica`` must not be promoted, in words for the operator, or ``None`` if it may be.

    A replica must be up and connected, have accepted the last PING, have been heard within five PING
    periods and described itself within five (three INFO periods while its master is up), have answered
    since the master went down, want to be promoted, and not have lost its master long before we did.
    """
    if replica.is_down:
        return "it is down"
    link = replica.link
    if not link.commands_up:
        return "it is not connected"
    if link.ping_refused:
        # It will be down as its master is, if for the same reason then a moment later, as it was discovered later.
        return f"it answers PING with {link.ping_error}"
    if now - link.available_at > 5 * timings.ping_period:
        return f"it gave no sign of life for {now - link.available_at} ms"
    if master.sdown_since is not None and link.available_at < master.sdown_since:
        # It may have been lost together with the master, and only its turn to be probed comes later.
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
        # We lost it when we last heard of it: in TILT, S_DOWN may come much later, and would never make up for that.
        limit += now - min(master.sdown_since, master.link.available_at)
    if replica.master_link_down_for > limit:
        return f"it was without its master for {replica.master_link_down_for} ms"
    return None


def order_of_promotion(replica: Replica) -> tuple[int, int, bool, str]:
    """Sort key: lower priority, then more data, then the smaller run ID; an unknown run ID comes last."""
    return (replica.priority, -replica.repl_offset, replica.run_id is None, (replica.run_id or "").lower())


PREFERENCES: Final = ("lower priority", "more data", "known run ID", "smaller run ID")
"""What each place in the key of :func:`order_of_promotion` prefers, for whoever explains a choice."""


def choose(master: Master, timings: Timings, now: Millis) -> tuple[Replica | None, list[tuple[str, str]]]:
    """
    The replica to promote, and ``(name, reason)`` of each one that may not be.

    :returns: ``None`` in the first place if no replica may be promoted.
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
