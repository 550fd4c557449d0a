"""The block of further automatic failovers of a master after the last one."""

from __future__ import annotations

from dataclasses import dataclass

from txsentinel.model.timings import Millis


@dataclass(slots=True)
class FailoverBlock:
    """
    The last automatic failover of a master that blocks the next one.

    ``began_at`` is ``None`` if there was none since the start, or if it was acknowledged.
    """

    began_at: Millis | None = None
    failover_epoch: int = 0
    is_recorded: bool = False
    """Whether it is among the durable records."""
