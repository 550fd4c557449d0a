"""The pauses by which a simulated Redis holds commands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall


class PauseReason(Enum):
    """The reason of a pause. As of Redis 7.0 there is one pause for each; commands are held until all have ended."""

    CLIENT_PAUSE = "CLIENT PAUSE"
    FAILOVER = "FAILOVER"


@dataclass(slots=True)
class Pause:
    """A pause in force."""

    writes_only: bool
    began_at: float
    """Seconds of the reactor's clock, as ``ends_at``."""
    ends_at: float | None
    """``None`` if it does not end by itself."""
    timer: IDelayedCall | None
    ordered_by: str | None = None
    """IP of the client that ordered it last."""

    def cancel(self) -> None:
        """End the pause, or replace it by another one."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
