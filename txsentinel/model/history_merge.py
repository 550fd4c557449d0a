"""The records of several Sentinels on one failover, merged to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from txsentinel.model.history import FailoverRecord, LossVerdict, ObserverRole, Outcome, PhaseTime
from txsentinel.model.snapshots import Instant

_ROLES: Final = (ObserverRole.LEADER, ObserverRole.FOLLOWER, ObserverRole.CANDIDATE, ObserverRole.BYSTANDER)
_VERDICTS: Final = (LossVerdict.UNKNOWN, LossVerdict.NONE, LossVerdict.LOST)


@dataclass(frozen=True, slots=True)
class OtherObserver:
    """What one more Sentinel saw of a failover, on its own clock."""

    observer: str
    role: ObserverRole
    phases: tuple[PhaseTime, ...]


@dataclass(frozen=True, slots=True)
class MergedFailover:
    """
    One failover of a group.

    ``record`` is the leader's record or, if that is missing, that of a follower, with the best evidence of all records
    on what was lost, and acknowledged if any of them is. ``others`` are the observations of the other Sentinels.
    """

    record: FailoverRecord
    others: tuple[OtherObserver, ...]

    @property
    def at(self) -> Instant:
        """When it ended, by the clock of the Sentinel that made ``record``."""
        return ended_at(self.record)


def ended_at(record: FailoverRecord) -> Instant:
    """Return when the failover ended: with the switch or the abort."""
    for phase in record.phases:
        if phase.phase in ("switched", "aborted"):
            return phase.at
    return record.phases[-1].at if record.phases else Instant(0)


def merge(records: Iterable[FailoverRecord]) -> tuple[MergedFailover, ...]:
    """
    Merge the records of several Sentinels by ``group``; return the failovers, newest first.

    A later record of one ``record_id`` replaces an earlier one. The record of a Sentinel that switched precedes one
    that aborted, as several Sentinels can campaign in one epoch.
    """
    latest = {record.record_id: record for record in records}
    groups: dict[str, list[FailoverRecord]] = {}
    for record in latest.values():
        groups.setdefault(record.group, []).append(record)
    merged = [_merged(each) for each in groups.values()]
    merged.sort(key=_time, reverse=True)
    return tuple(merged)


def _merged(records: Sequence[FailoverRecord]) -> MergedFailover:
    first, *others = sorted(records, key=_precedence)
    evidence = max(records, key=_evidence)
    if _evidence(evidence) > _evidence(first):
        first = replace(first, loss=evidence.loss)
    resyncs = next((each.resyncs for each in (first, *others) if each.resyncs is not None), None)
    if first.resyncs is None and resyncs is not None:
        first = replace(first, resyncs=resyncs)
    ack = next((each.ack for each in (first, *others) if each.ack is not None), None)
    if first.ack is None and ack is not None:
        first = replace(first, ack=ack)
    return MergedFailover(
        first, tuple(OtherObserver(each.observer, each.observer_role, each.phases) for each in others)
    )


def _precedence(record: FailoverRecord) -> tuple[bool, int, str]:
    return record.outcome is not Outcome.SWITCHED, _ROLES.index(record.observer_role), record.observer


def _evidence(record: FailoverRecord) -> tuple[int, bool, int]:
    """
    Return how much is known of what was lost.

    The offset of the new master is known once the old one is back; of several lower bounds the highest counts.
    """
    loss = record.loss
    return _VERDICTS.index(loss.verdict), loss.from_offset is not None, loss.lost_bytes or 0


def _time(merged: MergedFailover) -> Instant:
    return merged.at
