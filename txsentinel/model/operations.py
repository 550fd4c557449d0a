"""Operations that take time: their state, their steps, and the conditions that they failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from txsentinel.model.receipt import Receipt
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.model.timings import Millis


class SwitchoverMethod(Enum):
    """How the writes of the old master are stopped."""

    HANDOVER = "handover"
    """The servers exchange their roles by themselves: ``CLIENT PAUSE … WRITE`` and ``FAILOVER TO``."""

    FENCE = "fence"
    """``CLIENT PAUSE … WRITE``, then the replica is promoted when it has everything."""

    REJECT = "reject"
    """The same with ``min-replicas-to-write`` in place of the pause: writes are rejected. Only if it is named."""


class OperationState(Enum):
    """The state of an operation."""

    SCHEDULED = "scheduled"
    CHECKING = "checking"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Precondition:
    """
    A condition that is not met.

    ``code`` is a stable word, ``subject`` the server or Sentinel that it concerns, if any. ``measured`` and ``limit``
    are the numbers that were compared, if it compares numbers.
    """

    code: str
    text: str
    subject: str | None = None
    measured: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class OperationStep:
    """A step that was taken; ``after_ms`` since the operation was requested."""

    at: Instant
    after_ms: Millis
    step: str
    text: str


@dataclass(frozen=True, slots=True)
class SwitchoverPlan:
    """What a switchover would do; ``why`` is the reason for the method."""

    method: SwitchoverMethod
    why: str
    old: Endpoint
    candidate: Endpoint
    lag_bytes: int
    hold_limit_ms: Millis
    """How long writes are held at most before the switchover is aborted."""

    hold_timeout_ms: Millis
    """When the server itself releases the writes, should this Sentinel die."""

    votes_needed: int
    votes_reachable: int


@dataclass(frozen=True, slots=True)
class OperationSnapshot:
    """An operation. ``problem`` is why it failed; ``reasons`` are the conditions that were not met."""

    operation_id: str
    kind: str
    master: str
    by: str
    requested_at: Instant
    state: OperationState
    dry_run: bool
    scheduled_at: Instant | None
    comment: str | None
    idempotency_key: str | None
    plan: SwitchoverPlan | None
    reasons: tuple[Precondition, ...]
    steps: tuple[OperationStep, ...]
    problem: Precondition | None
    receipt: Receipt | None
