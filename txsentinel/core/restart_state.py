"""The state of a master that restarted, while it is judged whether it has its data."""

from __future__ import annotations

from dataclasses import dataclass, field

from txsentinel.model.timings import Millis
from txsentinel.wire.info import DataSetReport


@dataclass(slots=True, eq=False)
class Restart:
    """A restart of a master, until it is known whether the master has its data; see ``empty_restart``."""

    histories: frozenset[str]
    """The replication IDs of its data set before the restart."""

    former: dict[str, DataSetReport]
    """Name of a replica → what it last reported about its data set of these histories before the restart was seen."""

    running_at: Millis
    """When its last INFO before the restart arrived."""

    reported: set[str] = field(default_factory=set)
    """Names of the replicas that have sent INFO since the new run ID was seen."""

    judged_until: Millis | None = None
    """When the judgement ends; ``None`` while the master is loading."""

    pauses: int = 0
    """How often its clients were paused, so that replicas do not copy its data set."""

    paused_until: Millis = 0

    undecided: bool = True
    """Whether frequent INFO is needed, as a replica holds lost data or has not reported since the restart."""

    loss_noted: bool = False
    """Whether it was logged that data is lost."""
