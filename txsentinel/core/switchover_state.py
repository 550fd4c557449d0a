"""The state of switchovers: what was ordered, how far it got, and the evidence for its receipt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from txsentinel.model.operations import (
    OperationSnapshot,
    OperationState,
    OperationStep,
    Precondition,
    SwitchoverMethod,
    SwitchoverPlan,
)
from txsentinel.model.receipt import (
    REJECTED,
    REJECTED_WITH_GAPS,
    AddressKnown,
    Fence,
    Judgement,
    NewMaster,
    OldMaster,
    Receipt,
    ResyncCount,
    judge,
)
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.model.timings import Millis

DEFAULT_TIMEOUT: Final[Millis] = 30_000
DEFAULT_MAX_PAUSE: Final[Millis] = 2_000
DEFAULT_MAX_LAG: Final = 1 << 20

HOLD_KINDS: Final = {
    SwitchoverMethod.HANDOVER: "failover-command",
    SwitchoverMethod.FENCE: "client-pause-write",
    SwitchoverMethod.REJECT: REJECTED,
}
"""What stops the writes, as receipts name it."""


class WriteLimits(NamedTuple):
    """Two settings of a server: the number of replicas without which it rejects writes, and their lag in seconds."""

    to_write: int
    max_lag: int


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the operator believes to be the master; a switchover is refused if that is wrong."""

    host: str
    port: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SwitchoverOrder:
    """What an operator ordered."""

    operation_id: str
    """A ULID, chosen by the caller."""

    master: str
    by: str
    candidate: tuple[str, int] | None = None
    """Host and port of the replica to promote; ``None`` for the best one."""

    method: SwitchoverMethod | None = None
    """``None`` for the best method."""

    timeout: Millis = DEFAULT_TIMEOUT
    """How long everything up to the promotion may take."""

    max_lag: int = DEFAULT_MAX_LAG
    """Bytes that the candidate may be behind at the beginning."""

    max_pause: Millis = DEFAULT_MAX_PAUSE
    """How long writes may be held before the promotion."""

    dry_run: bool = False
    comment: str | None = None
    expect: Expectation | None = None
    key: str | None = None
    """The idempotency key."""

    at: Millis | None = None
    """When to execute it, by the wall clock; ``None`` for now."""

    cause: str | None = None
    """Why it is ordered, for the record of the failover: ``drain``; ``None`` for a request of an operator."""

    @property
    def recorded_cause(self) -> str | None:
        """The cause in the record of the failover; ``None`` for ``operator``."""
        return self.cause or (None if self.at is None else "schedule")


@dataclass(slots=True, eq=False)
class StepTaken:
    """One step of an operation."""

    at: Millis
    step: str
    text: str


@dataclass(slots=True, eq=False)
class WriteHold:
    """The writes of the old master that are held, or whose hold was ordered."""

    ordered_at: Millis
    expires_at: Millis
    """When the server releases them by itself, at the earliest."""

    limit: Millis
    """Until when the promotion must be ordered."""

    confirmed: bool = False
    """Whether the server has answered. Its replication ID and its offset at that time are known then."""

    extended_at: Millis | None = None
    """When the longer hold was ordered that covers the time after the promotion."""

    extended: bool = False
    """Whether the server has answered that; ``expires_at`` is the end of the longer hold then."""

    replid: str = ""
    offset: int = 0


@dataclass(slots=True, eq=False)
class WriteRejection:
    """How far the preparation is after which the old master may be ordered to reject writes."""

    asked_at: Millis
    former: WriteLimits | None = None
    """The values of before; ``None`` until the server has answered."""

    sent_at: Millis | None = None
    """When they were recorded here, and sent to the other Sentinels of our kind."""

    generation: int = 0
    """The generation with which the record is durable here."""

    stored: bool = False
    """Whether the others have answered, or did not in time."""


@dataclass(slots=True, eq=False)
class SwitchEvidence:
    """What is known for the receipt; times are those of the monotonic clock."""

    method: SwitchoverMethod
    old: Endpoint
    new: Endpoint
    promoted_at: Millis
    epoch: int
    armed_at: Millis
    expires_at: Millis
    replid: str
    offset_at_fence: int
    replid2: str | None
    fork_offset: int | None
    syncs_before: tuple[int, int] | None
    """Partial and full synchronizations by the candidate before the switchover."""

    offset_final: int | None = None
    demoted_at: Millis | None = None
    released_at: Millis | None = None
    """When clients of the old master were no longer held."""

    clients_closed: int | None = None
    resyncs: tuple[int, int] | None = None
    confirmed: list[AddressKnown] = field(default_factory=list)
    """The Sentinels that are known to have the new address, with the time since the hold."""

    linked_at: Millis | None = None
    """When all other servers were seen to be in sync with the new master."""

    asked_at: Millis = 0
    """When their INFO was last requested."""

    has_gaps: bool = False
    """Whether writes were possible while they were rejected."""

    judgement: Judgement | None = None

    @property
    def fence_kind(self) -> str:
        """What stopped the writes."""
        return REJECTED_WITH_GAPS if self.has_gaps else HOLD_KINDS[self.method]


@dataclass(slots=True, eq=False)
class Operation:
    """One switchover, from the order to its end."""

    order: SwitchoverOrder
    requested_at: Millis
    state: OperationState
    steps: list[StepTaken] = field(default_factory=list)
    reasons: tuple[Precondition, ...] = ()
    plan: SwitchoverPlan | None = None
    candidate: str | None = None
    """Name of the replica in the plan."""

    problem: Precondition | None = None
    ended_at: Millis | None = None
    rejection: WriteRejection | None = None
    """Only if the method is to reject the writes."""

    hold: WriteHold | None = None
    evidence: SwitchEvidence | None = None
    syncs_before: tuple[int, int] | None = None
    run_at: Millis | None = None
    """When a scheduled one is executed, by the monotonic clock."""

    warned: bool = False
    """Whether its conditions were tested before that time."""

    restored_at: Millis | None = None
    """When it was restored, if it was running as an earlier process ended; its steps of then are not known."""

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in (OperationState.DONE, OperationState.FAILED, OperationState.CANCELLED)

    def step(self, now: Millis, step: str, text: str) -> None:
        """Record a step."""
        self.steps.append(StepTaken(now, step, text))


def judged(evidence: SwitchEvidence) -> Judgement:
    """Return what the evidence proves."""
    final = evidence.offset_final
    demoted = None if evidence.demoted_at is None else Instant(evidence.demoted_at)
    return judge(
        OldMaster(evidence.old, evidence.replid, evidence.offset_at_fence, final),
        NewMaster(evidence.new, evidence.replid2, evidence.fork_offset),
        Fence(evidence.fence_kind, Instant(evidence.armed_at), None, Instant(evidence.expires_at)),
        demoted,
    )


def receipt_of(operation_id: str, master: str, evidence: SwitchEvidence, wall_offset: Millis) -> Receipt:
    """Return the receipt; ``wall_offset`` is the wall clock minus the monotonic clock."""
    found = evidence.judgement or judged(evidence)
    released, demoted, resyncs = evidence.released_at, evidence.demoted_at, evidence.resyncs
    return Receipt(
        operation_id,
        evidence.method.value,
        master,
        OldMaster(evidence.old, evidence.replid, evidence.offset_at_fence, evidence.offset_final),
        NewMaster(evidence.new, evidence.replid2, evidence.fork_offset),
        Fence(
            evidence.fence_kind,
            Instant(evidence.armed_at + wall_offset),
            None if released is None else released - evidence.armed_at,
            Instant(evidence.expires_at + wall_offset),
        ),
        None if demoted is None else Instant(demoted + wall_offset),
        found.verdict,
        found.why,
        found.lost_bytes,
        None if resyncs is None else ResyncCount(*resyncs),
        evidence.clients_closed,
        tuple(evidence.confirmed),
    )


def snapshot(operation: Operation, wall_offset: Millis) -> OperationSnapshot:
    """Return the present state of an operation; ``wall_offset`` is the wall clock minus the monotonic clock."""
    order, evidence = operation.order, operation.evidence
    done = operation.state is OperationState.DONE and evidence is not None
    return OperationSnapshot(
        order.operation_id,
        "switchover",
        order.master,
        order.by,
        Instant(operation.requested_at + wall_offset),
        operation.state,
        order.dry_run,
        None if order.at is None else Instant(order.at),
        order.comment,
        order.key,
        operation.plan,
        operation.reasons,
        tuple(
            OperationStep(Instant(each.at + wall_offset), each.at - operation.requested_at, each.step, each.text)
            for each in operation.steps
        ),
        operation.problem,
        receipt_of(order.operation_id, order.master, evidence, wall_offset) if done and evidence is not None else None,
    )
