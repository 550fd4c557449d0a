"""What is kept only to explain and to log why a master is, or is not, failed over; no decision depends on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from txsentinel.model.explanation import VerdictCode
from txsentinel.model.timings import Millis

FIRST_VERDICT_DELAY: Final[Millis] = 1_000
"""How long after S_DOWN it is first determined why there is no failover."""

VERDICT_PERIOD: Final[Millis] = 5_000
"""Interval at which that is determined again."""

REPETITION_PERIOD: Final[Millis] = 60_000
"""Interval at which a reason is logged again that has not changed."""


@dataclass(slots=True, eq=False)
class ElectionRecord:
    """The latest epoch in which this Sentinel campaigned for a master, kept after the failover."""

    epoch: int
    needed: int
    """Number of votes that were needed."""

    candidacies: int
    """Number of epochs of the failover so far, this one included."""

    asked_at: Millis
    """When the votes were requested."""

    reachable: frozenset[str]
    """IDs of the peers that could be asked then."""

    answers: dict[str, tuple[str, int]]
    """Peer → ``(leader, epoch)`` of its reply; the same object as that of the failover while it campaigns."""

    won: bool = False


@dataclass(slots=True, eq=False)
class Diagnosis:
    """The records of one master."""

    election: ElectionRecord | None = None
    """The latest campaign of this Sentinel; written by ``election``."""

    delay_logged_for: Millis | None = None
    """The ``attempt_started_at`` for which the delay of the next attempt was logged."""

    logged: VerdictCode | None = None
    """The code of the last log line on why the master is not failed over, since it went down."""

    logged_at: Millis = 0
    """When that was logged."""

    verdict_due: Millis = 0
    """When it is to be determined why the master is not failed over, while it is down."""

    unfit_announced_at: Millis | None = None
    """When ``-failover-abort-no-good-slave`` was last published instead of an attempt."""

    warned: frozenset[str] = frozenset()
    """What was logged that would matter if the master went down, and has not ended; written by ``readiness``."""

    loss_logged_for: str | None = None
    """The replication ID of the empty data set of the master for which its loss was logged; by ``readiness``."""

    losses: dict[str, str] = field(default_factory=dict)
    """Replica → replication ID of the empty data set for which it was logged that it has copied it."""

    def restart_log(self) -> None:
        """Forget what was logged, as the master moved to another address or was reset."""
        self.delay_logged_for = self.logged = self.unfit_announced_at = None

    def went_down(self, now: Millis) -> None:
        """Handle that the master went down: what is in progress is given time before it is logged."""
        self.logged, self.verdict_due = None, now + FIRST_VERDICT_DELAY

    def should_log(self, code: VerdictCode, now: Millis) -> bool:
        """Whether to log a reason of this code: another one than the last, or the last one after a minute."""
        if code is self.logged and now - self.logged_at < REPETITION_PERIOD:
            return False
        self.logged, self.logged_at = code, now
        return True
