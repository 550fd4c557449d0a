"""
Records of failovers: phases with their times, voters, replicas, and what was lost.

A Sentinel makes one record for each failover that it leads or observes. The records of several Sentinels on one
failover have the same ``group`` and can be merged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

from txsentinel.model.receipt import Receipt
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.model.timings import Millis


class JournalKind(Enum):
    """What a record of the journal reports; the value is the word in it."""

    SDOWN = "sdown"
    SDOWN_ENDED = "sdown-ended"
    ODOWN = "odown"
    ODOWN_ENDED = "odown-ended"
    CAMPAIGN = "campaign"
    VOTE_REQUESTED = "vote-requested"
    VOTE_RECEIVED = "vote-received"
    VOTE_GIVEN = "vote-given"
    VOTE_REFUSED = "vote-refused"
    ELECTED = "elected"
    SELECTED = "selected"
    PROMOTION_ORDERED = "promotion-ordered"
    PROMOTED = "promoted"
    FOLLOW_ORDERED = "follow-ordered"
    DURABLE = "durable"
    ANNOUNCED = "announced"
    SWITCHED = "switched"
    REPLICAS_DONE = "replicas-done"
    ABORTED = "aborted"
    CONFIG_ADOPTED = "config-adopted"
    ORDER_REFUSED = "order-refused"
    SAVE_FAILED = "save-failed"
    SAVE_RECOVERED = "save-recovered"
    TILT = "tilt"
    TILT_ENDED = "tilt-ended"
    VERDICT = "verdict"
    CONDITION = "condition"
    CONDITION_ENDED = "condition-ended"
    OPERATOR = "operator"
    DATA_COMPARED = "data-compared"
    CLIENTS_CLOSED = "clients-closed"
    RESYNCS = "resyncs"
    WRITES_HELD = "writes-held"
    RECEIPT = "receipt"
    PAUSED = "paused"
    RESUMED = "resumed"
    FORGOTTEN = "forgotten"
    RETURNED = "returned"
    PARKED = "parked"
    UNPARKED = "unparked"
    BLOCKED = "blocked"
    ACKNOWLEDGED = "acknowledged"


class FailoverKind(Enum):
    """Why it was started."""

    AUTOMATIC = "automatic"
    FORCED = "forced"
    COORDINATED = "coordinated"
    SWITCHOVER = "switchover"


class Outcome(Enum):
    """How it ended."""

    SWITCHED = "switched"
    NOT_ELECTED = "not_elected"
    NO_GOOD_REPLICA = "no_good_replica"
    REPLICA_TIMEOUT = "replica_timeout"
    MASTER_TIMEOUT = "master_timeout"
    CANCELLED = "cancelled"


class ObserverRole(Enum):
    """
    The part that the recording Sentinel had.

    It was elected and led, campaigned without being elected, voted for the leader, or only adopted the result.
    """

    LEADER = "leader"
    CANDIDATE = "candidate"
    FOLLOWER = "follower"
    BYSTANDER = "bystander"


class LossVerdict(Enum):
    """Whether the old master had data that the new one never received."""

    NONE = "none"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """When a phase was reached; ``took_ms`` since the phase before it, ``None`` for the first."""

    phase: str
    """last_ok_ping, sdown, odown, campaign, voted, elected, selected, promotion_ordered, promoted, durable, announced,
    replicas_done, switched, aborted or clients_gone."""

    at: Instant
    took_ms: Millis | None


@dataclass(frozen=True, slots=True)
class VoterRecord:
    """What one Sentinel answered in the election."""

    sentinel_id: str
    kind: str
    asked_at: Instant | None
    answered_at: Instant | None
    vote: str | None
    epoch: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """
    A replica at the time of the selection.

    ``rank`` counts fit ones from 1. ``lag_bytes`` is the distance to the highest offset that was known.
    """

    address: Endpoint
    offset: int
    lag_bytes: int | None
    priority: int
    rank: int | None
    unfit: str | None
    """A word of ``UnfitCode``."""

    unfit_text: str | None = None


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """The old or the new master as it was last known before the switch."""

    address: Endpoint
    run_id: str | None
    replid: str | None
    offset: int | None
    priority: int | None


@dataclass(frozen=True, slots=True)
class DataLoss:
    """
    The range of the replication stream that the old master had and the new one never received.

    ``from_offset`` is the last offset that both have, ``to_offset`` the last one of the old master. ``lost_bytes`` is
    the difference; it is a lower bound if the old master was restarted, as ``text`` states then.
    ``text`` states the evidence of the verdict.
    """

    verdict: LossVerdict
    lost_bytes: int | None
    from_offset: int | None
    to_offset: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Resyncs:
    """Replicas that continued from their offset, and replicas that copied the whole data set."""

    partial: int
    full: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An operator has seen the record."""

    by: str
    at: Instant
    comment: str


@dataclass(frozen=True, slots=True)
class FailoverRecord:
    """One failover as one Sentinel saw it."""

    record_id: str
    """A ULID."""

    group: str
    master: str
    kind: FailoverKind
    outcome: Outcome
    observer: str
    """The ID of the Sentinel that made the record."""

    observer_role: ObserverRole
    leader: str | None
    cause: str
    """down, operator, schedule, drain or reboot_empty."""

    failure_class: str | None
    from_server: ServerRecord
    to_server: ServerRecord | None
    epoch: int
    config_epoch: int
    phases: tuple[PhaseTime, ...]
    voters: tuple[VoterRecord, ...]
    replicas: tuple[ReplicaRecord, ...]
    chosen_because: str | None
    loss: DataLoss
    resyncs: Resyncs | None
    clients_closed: int | None
    operator: str | None
    ack: Acknowledgement | None = None
    comment: str | None = None
    """What the operator gave as the reason."""

    operation: str | None = None
    """The ID of the operation that ordered it."""

    receipt: Receipt | None = None
    """The evidence of a switchover; ``None`` for other failovers, and until it is complete."""


def failover_group(master: str, epoch: int) -> str:
    """Return the identifier that all Sentinels give to the failover of ``master`` in ``epoch``: 16 hex digits."""
    return hashlib.sha256(f"{master}\0{epoch}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def trace_id(master: str, epoch: int) -> str:
    """Return the identifier of the trace of a failover, equal on all Sentinels: 32 hex digits."""
    return hashlib.sha256(f"txsentinel\0{master}\0{epoch}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
