"""
The evidence that the process of a master has crashed.

Silence can be judged only after ``down-after-milliseconds``. A process that died is not silent: the kernel of its host
closes the connections and refuses new ones. ``crash_detection`` defines what counts as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.model.timings import Millis

MIN_REFUSALS: Final = 2
"""Number of refused attempts to connect that are required."""


class CrashStep(Enum):
    """How complete the evidence is; the value is a word for reports."""

    DISABLED = "disabled"
    """``crash-failover`` is off."""

    NO_LOSS = "no-loss"
    """No established connection was closed or reset by the other side, or the process has accepted another one."""

    RESTARTING = "restarting"
    """The server reported that an operator is shutting it down."""

    AWAITING_REFUSALS = "awaiting-refusals"
    """Fewer than ``MIN_REFUSALS`` attempts were refused since then."""

    AWAITING_CONFIRMATION = "awaiting-confirmation"
    """No attempt was refused ``crash-confirm`` or later after the loss."""

    NO_REPLICA = "no-replica"
    """No replica can be asked, none has lost its link to the master then, or our own failover has ended those links."""

    AWAITING_REPLICAS = "awaiting-replicas"
    """A reachable replica has not answered an INFO that was sent after the loss."""

    REPLICA_CONNECTED = "replica-connected"
    """A replica reports a live link to the master."""

    COMPLETE = "complete"
    """The master has crashed."""


@dataclass(slots=True)
class CrashEvidence:
    """What was observed of one master since its connection was lost. Only ``crash_detection`` changes it."""

    lost_at: Millis | None = None
    """When the other side closed or reset the command connection; ``None`` if it did not."""

    loss: str = ""
    """The error text of that."""

    refusals: int = 0
    """Number of attempts that were refused since then."""

    refused_at: Millis = 0
    """When the last of them was refused."""

    confirmed_at: Millis | None = None
    """When the evidence was complete; the master is S_DOWN until it gives an acceptable reply."""

    shutting_down: bool = False
    """Whether, by the last INFO, an operator is shutting the server down."""

    asked_at: Millis | None = None
    """When an attempt to connect, or INFO of replicas, was last requested to complete the evidence."""

    def discard(self) -> None:
        """Forget the evidence: something contradicts it, or the process accepts connections again."""
        self.lost_at = self.confirmed_at = self.asked_at = None
        self.loss = ""
        self.refusals = 0
