"""
The answer to "why did it not fail over?": verdict, evidence, votes, fitness of replicas, timers and remedies.

``core/explaining.py`` makes it from the predicates that decide; everything else shows it. Instants are on the wall
clock; durations are in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from txsentinel.model.snapshots import Endpoint, FailureReport, Instant
from txsentinel.model.timings import Millis


class Phase(Enum):
    """The phase in which a master is, as this Sentinel sees it."""

    WATCHING = "watching"
    SUSPECTING = "suspecting"
    AGREEING = "agreeing"
    CAMPAIGN_WAITING = "waiting_to_campaign"
    ELECTING = "electing"
    SELECTING = "selecting"
    PROMOTING = "promoting"
    ANNOUNCING = "announcing"
    RECONFIGURING = "reconfiguring"
    RESTING = "resting"


class VerdictCode(Enum):
    """The verdict in one word; those after ``RESTING`` are reasons that block a failover."""

    HEALTHY = "healthy"
    DOWN_HERE_ONLY = "down_here_only"
    AGREED_WAITING = "agreed_waiting"
    ELECTING = "electing"
    VOTE_SPLIT = "vote_split"
    PROMOTING = "promoting"
    SWITCHED = "switched"
    RESTING = "resting"
    PAUSED = "paused"
    TILT = "tilt"
    STORAGE_FAILING = "storage_failing"
    MONITORS_REPLICA = "monitors_replica"
    NO_REPLICAS = "no_replicas"
    NO_FIT_REPLICA = "no_fit_replica"
    ALL_PRIORITY_ZERO = "all_priority_zero"
    QUORUM_NOT_REACHED = "quorum_not_reached"
    QUORUM_UNREACHABLE = "quorum_unreachable"
    MAJORITY_UNREACHABLE = "majority_unreachable"
    MAJORITY_COUNTS_GHOSTS = "majority_counts_ghosts"
    ATTEMPT_TOO_RECENT = "attempt_too_recent"
    VOTED_FOR_OTHER = "voted_for_other"
    RECENTLY_FAILED_OVER = "recently_failed_over"
    RETURN_AWAITED = "return_awaited"
    NOT_OUR_TURN = "not_our_turn"
    OFFSETS_PENDING = "offsets_pending"
    LOST_TO_RIVAL = "lost_to_rival"
    CONFIG_NEWER_ELSEWHERE = "config_newer_elsewhere"
    AUTH_FAILING = "auth_failing"
    NOT_PERMITTED = "not_permitted"


class UnfitCode(Enum):
    """Why a replica must not be promoted."""

    DOWN = "down"
    DISCONNECTED = "disconnected"
    PING_REFUSED = "ping_refused"
    SILENT = "silent"
    SILENT_SINCE_FAILURE = "silent_since_failure"
    PRIORITY_ZERO = "priority_zero"
    PROMOTION_REFUSED = "promotion_refused"
    NO_INFO = "no_info"
    STALE_INFO = "stale_info"
    MASTER_LINK_DOWN_TOO_LONG = "master_link_down_too_long"
    FOREIGN_LINEAGE = "foreign_lineage"
    EMPTY_AFTER_REBOOT = "empty_after_reboot"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Unfit:
    """
    Why a replica is unfit.

    ``measured`` and ``limit`` are in milliseconds unless the code defines another unit; ``None`` if there are none.
    ``text`` is a clause for people, made of the other fields.
    """

    code: UnfitCode
    text: str
    measured: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """``text`` is one sentence without a full stop that names the master."""

    code: VerdictCode
    text: str


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What one replica reports about its link to the master; evidence beside this Sentinel's own."""

    name: str
    master_link_up: bool
    master_link_down_ms: Millis | None
    info_age_ms: Millis | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What this Sentinel has observed of the master itself."""

    last_ok_ping_at: Instant | None
    last_reply_at: Instant | None
    last_info_at: Instant | None
    connected: bool
    failure: FailureReport | None
    last_error_reply: str | None
    """The latest error that it answered to PING, such as ``LOADING …``; ``None`` if the last answer was acceptable."""

    crash: str
    """The word of ``CrashStep``."""

    replicas: tuple[ReplicaView, ...]


@dataclass(frozen=True, slots=True)
class SdownState:
    """Whether this Sentinel considers the master down by itself, since when and why."""

    since: Instant | None
    limit_ms: Millis
    why: str | None
    """A clause; ``None`` while it is up."""


@dataclass(frozen=True, slots=True)
class AgreementVoter:
    """The opinion of one Sentinel; ``kind`` is ``txsentinel``, ``c`` or ``self``."""

    sentinel_id: str
    address: Endpoint | None
    kind: str
    reachable: bool
    down_since: Instant | None
    failure: FailureReport | None
    reports_down: bool
    age_ms: Millis | None
    expires_in_ms: Millis | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """O_DOWN: ``have`` of ``needed`` (the quorum) Sentinels consider the master down."""

    needed: int
    have: int
    since: Instant | None
    voters: tuple[AgreementVoter, ...]


@dataclass(frozen=True, slots=True)
class ElectionVoter:
    """
    The vote of one Sentinel.

    ``vote`` is the ID of the candidate that it reported, ``None`` if it has not answered. ``reason`` is a clause on why
    it is not for us; the reasons of C Sentinels are unknown, which it states.
    """

    sentinel_id: str
    reachable: bool
    asked_at: Instant | None
    vote: str | None
    vote_epoch: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Election:
    """The present election, or the last one that this Sentinel took part in; ``outcome`` is open, won or lost."""

    epoch: int
    needed: int
    mine: int
    open: int
    outcome: str
    candidacies: int
    at: Instant
    voters: tuple[ElectionVoter, ...]


@dataclass(frozen=True, slots=True)
class ReplicaFitness:
    """
    Whether a replica may be promoted, and its place in the order of promotion.

    ``rank`` counts fit replicas from 1; ``None`` for unfit ones.
    """

    name: str
    address: Endpoint
    fit: bool
    unfit: Unfit | None
    priority: int
    offset: int
    run_id: str | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class Timer:
    """Something that happens by the passing of time."""

    what: str
    due_at: Instant
    in_ms: Millis


@dataclass(frozen=True, slots=True)
class Block:
    """One reason why no failover starts; ``until`` if it ends by the passing of time."""

    code: VerdictCode
    text: str
    until: Instant | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """
    One change that, alone, would let a failover start.

    ``do`` is a sentence; ``who`` is the instance or person that does it; ``command`` the command to type, if there is
    one. ``bound_ms`` is how long after the change a failover starts at the latest.
    """

    do: str
    who: str
    command: str | None = None
    bound_ms: Millis = 0


@dataclass(frozen=True, slots=True)
class FleetOpinion:
    """What another Sentinel answered to the same question; ``verdict`` is ``None`` for C Sentinels."""

    sentinel_id: str
    verdict: str | None
    address: Endpoint
    config_epoch: int
    contradiction: str | None


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """
    One rare event in the life of a master: state change, vote, selection, order, abort, failed save.

    ``sequence`` grows with each record of any master. ``what`` is a word of ``history.JournalKind``. ``data`` has
    further fields.
    """

    sequence: int
    at: Instant
    what: str
    master: str
    epoch: int | None
    subject: str | None
    code: str | None
    text: str
    data: tuple[tuple[str, str | int | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a master is, or is not, failed over now; in peace, what would happen if it died now."""

    verdict: Verdict
    asked_at: Instant
    by: str
    """The ID of the Sentinel that answers."""

    master: str
    address: Endpoint
    config_epoch: int
    phase: Phase
    evidence: Evidence
    sdown: SdownState
    agreement: Agreement
    election: Election | None
    replicas: tuple[ReplicaFitness, ...]
    timers: tuple[Timer, ...]
    blocked_by: tuple[Block, ...]
    """What blocks a failover now or, in peace, would block it; the first is the most severe."""

    unblock: tuple[Remedy, ...]
    """At most 8, cheapest first; each alone suffices."""

    would_promote: str | None
    """The name of the replica that would be promoted."""

    would_promote_because: str | None
    warnings: tuple[str, ...] = ()
    """Sentences on what does not block but needs attention, such as a peer that is reached one way only."""

    fleet: tuple[FleetOpinion, ...] = ()
    missing: tuple[str, ...] = ()
    """IDs of the Sentinels that did not answer in time."""

    journal: tuple[JournalRecord, ...] = ()


def with_warnings(explanation: Explanation, warnings: tuple[str, ...]) -> Explanation:
    """Return the explanation with further warnings."""
    return replace(explanation, warnings=explanation.warnings + warnings) if warnings else explanation
