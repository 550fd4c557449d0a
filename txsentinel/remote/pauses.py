"""Pauses of automatic failovers, as Sentinels of ours answer them."""

from __future__ import annotations

from dataclasses import dataclass

from txsentinel.model.snapshots import Instant
from txsentinel.remote.decoding import decoded

ALL_MASTERS = "*"
"""Stands for all masters."""


@dataclass(frozen=True)
class SentinelInPause:
    """
    What a pause means for a Sentinel other than the one that answered.

    ``state`` is ``paused``, ``leased`` or ``free``; ``until`` is the end of a lease, ``why`` the reason for ``free``.
    """

    id: str
    address: str
    kind: str
    state: str
    until: Instant | None = None
    why: str | None = None


@dataclass(frozen=True)
class MasterInPause:
    """Whether a failover of a master is possible; ``obstacle`` is why one is although too few are free."""

    name: str
    guaranteed: bool
    votes_needed: int
    holder: str
    obstacle: str | None
    sentinels: tuple[SentinelInPause, ...]


@dataclass(frozen=True)
class PauseReport:
    """A pause in force of one master, or of all for ``*``."""

    master: str
    until: Instant
    scope: str
    by: str
    reason: str
    guaranteed: bool
    masters: tuple[MasterInPause, ...]


@dataclass(frozen=True)
class ResumeOutcome:
    """What one of the other Sentinels made of the end of a pause."""

    id: str
    address: str
    kind: str
    result: str


@dataclass(frozen=True)
class ResumeReport:
    """The end of pauses; C Sentinels may start no failover until ``residual_until``."""

    resumed: int
    residual_until: Instant | None
    sentinels: tuple[ResumeOutcome, ...]


def pause_of(answer: object) -> PauseReport:
    """
    Return the answer to ``TXSENTINEL PAUSE`` as a record.

    :raises UnknownForm: if it has another form.
    """
    return decoded(PauseReport, answer)


def pauses_of(answer: object) -> tuple[PauseReport, ...]:
    """
    Return the answer to ``TXSENTINEL PAUSED`` as records.

    :raises UnknownForm: if it has another form.
    """
    found = answer if isinstance(answer, list) else [answer]
    return tuple(decoded(PauseReport, each) for each in found)


def resume_of(answer: object) -> ResumeReport:
    """
    Return the answer to ``TXSENTINEL RESUME`` as a record.

    :raises UnknownForm: if it has another form.
    """
    return decoded(ResumeReport, answer)
