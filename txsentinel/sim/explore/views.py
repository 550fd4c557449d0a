"""What a Sentinel can reach at the time of a step."""

from __future__ import annotations

from typing import NamedTuple

from txsentinel.sim.explore.servers import Condition


class View(NamedTuple):
    """What a Sentinel can reach at the time of a step."""

    conditions: tuple[Condition, ...]
    """Of each target; its own entry is without meaning."""

    infos: tuple[bytes, ...]
    """The INFO of each server."""

    lost: int = 0
    """Bit mask of the targets whose connections were closed by the other side since the last tick."""
