"""Which replica C Sentinels would promote, by the rules of ``sentinelSelectSlave`` and their reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from txsentinel.model.explanation import ReplicaFitness, Unfit, UnfitCode
from txsentinel.remote.reports import InstanceReport, MasterReport

PING_LIMIT_MS: Final = 5000
"""A replica that has not answered PING for longer is not promoted."""

INFO_LIMIT_MS: Final = 30_000
"""A replica whose INFO is older is not promoted while the master is up."""

INFO_LIMIT_DOWN_MS: Final = 5000
"""The same once the Sentinels agree that the master is down: from then on INFO is requested every second."""

DOWN_AFTER_FACTOR: Final = 10
"""How many periods of ``down-after-milliseconds`` a replica may have been without its master."""


@dataclass(frozen=True)
class MasterTimes:
    """What the limits depend on: ``down_ms`` since when the master is down, ``None`` while it is up."""

    down_after_ms: int
    down_ms: int | None
    agreed: bool
    """Whether the Sentinel considers the master down by agreement."""


def times_of(master: InstanceReport) -> MasterTimes:
    """Return the times of a reported master."""
    down = master.flags & {"s_down", "o_down"}
    return MasterTimes(
        master.number("down-after-milliseconds"),
        master.number("s-down-time") if down else None,
        bool(master.flags & {"o_down", "failover_in_progress"}),
    )


def why_unfit(replica: InstanceReport, times: MasterTimes) -> Unfit | None:
    """Return why a replica must not be promoted, ``None`` if it may."""
    if replica.flags & {"s_down", "o_down"}:
        return Unfit(UnfitCode.DOWN, "it is down", replica.number("s-down-time"))
    if "disconnected" in replica.flags:
        return Unfit(UnfitCode.DISCONNECTED, "no connection to it")
    silent = replica.number("last-ok-ping-reply")
    if silent > PING_LIMIT_MS:
        return Unfit(UnfitCode.SILENT, f"no answer to PING for {silent:,} ms", silent, PING_LIMIT_MS)
    if replica.number("slave-priority") == 0:
        return Unfit(UnfitCode.PRIORITY_ZERO, "priority 0")
    info_age = replica.number("info-refresh")
    limit = INFO_LIMIT_DOWN_MS if times.agreed else INFO_LIMIT_MS
    if "info-refresh" not in replica.fields or not replica.run_id:
        return Unfit(UnfitCode.NO_INFO, "no INFO of it yet")
    if info_age > limit:
        return Unfit(UnfitCode.STALE_INFO, f"its INFO is {info_age:,} ms old", info_age, limit)
    apart = replica.number("master-link-down-time")
    limit = times.down_after_ms * DOWN_AFTER_FACTOR + (times.down_ms or 0)
    if apart > limit:
        return Unfit(UnfitCode.MASTER_LINK_DOWN_TOO_LONG, f"it was without its master for {apart:,} ms", apart, limit)
    return None


def fitness_of(report: MasterReport) -> tuple[ReplicaFitness, ...]:
    """Return all replicas: fit ones in the order in which they would be promoted, then the others."""
    times = times_of(report.master)
    judged = [(each, why_unfit(each, times)) for each in report.replicas]
    fit = sorted((each for each, unfit in judged if unfit is None), key=_order)
    ranked = [_fitness(each, None, rank) for rank, each in enumerate(fit, 1)]
    return (*ranked, *(_fitness(each, unfit, None) for each, unfit in judged if unfit is not None))


def _order(replica: InstanceReport) -> tuple[int, int, bool, str]:
    """A low priority first, then a high offset, then the run ID; an unknown run ID is last."""
    run_id = replica.run_id
    return replica.number("slave-priority"), -replica.number("slave-repl-offset"), not run_id, run_id.lower()


def _fitness(replica: InstanceReport, unfit: Unfit | None, rank: int | None) -> ReplicaFitness:
    return ReplicaFitness(
        str(replica.endpoint),
        replica.endpoint,
        unfit is None,
        unfit,
        replica.number("slave-priority"),
        replica.number("slave-repl-offset"),
        replica.run_id or None,
        rank,
    )


def preferred_because(ranked: Sequence[ReplicaFitness]) -> str | None:
    """Return why the first of the ranked replicas is before the second; ``None`` if there is no choice."""
    fit = [each for each in ranked if each.fit]
    if not fit:
        return None
    if len(fit) == 1:
        return "it is the only fit one"
    first, second = fit[:2]
    if first.priority != second.priority:
        return f"its priority is {first.priority}, that of the next one {second.priority}"
    if first.offset != second.offset:
        return f"it has {first.offset - second.offset:,} bytes more than the next one"
    return "its run ID is the first of equal ones"
