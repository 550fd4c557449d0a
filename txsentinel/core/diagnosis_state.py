"""What is kept only to explain and to log why a master is, or is not, failed over; no decision depends on it."""

from __future__ import annotations

from dataclasses import dataclass

from txsentinel.model.timings import Millis


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

    unfit_logged_at: Millis | None = None
    """When it was last logged why the master is not failed over."""

    unfit_announced_at: Millis | None = None
    """When ``-failover-abort-no-good-slave`` was last published instead of an attempt."""

    def restart_log(self) -> None:
        """Forget what was logged, as the master moved to another address or was reset."""
        self.delay_logged_for = self.unfit_logged_at = self.unfit_announced_at = None
