"""What a Sentinel knows of the replication histories of a group; ``lineage`` writes and reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from txsentinel.model.address import Address
from txsentinel.model.timings import Millis


@dataclass(slots=True, eq=False)
class LineageState:
    """The lineage of one master and its replicas."""

    histories: dict[str, None] = field(default_factory=dict)
    """The replication IDs of the group, the latest one last."""

    unchecked: bool = False
    """Whether the address of the master was announced by another Sentinel and it has not sent INFO since."""

    awaited: tuple[Address, Millis] | None = None
    """An announced address with data of another history, and since when it is not adopted because of that."""
