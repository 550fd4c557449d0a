"""What the Sentinels of one master hold, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from txsentinel.model.snapshots import Endpoint, Instant


class DifferenceKind(Enum):
    """What two Sentinels differ about."""

    ADDRESS = "address"
    EPOCH = "epoch"
    QUORUM = "quorum"
    OPTIONS = "options"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between this Sentinel (``here``) and another one (``there``); ``option`` names it."""

    sentinel_id: str
    sentinel: Endpoint
    about: DifferenceKind
    option: str
    here: str
    there: str


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """
    The differences between this Sentinel and the others of a master.

    ``compared`` has the IDs of those that answered, ``missing`` those of the others, with the reason.
    """

    master: str
    at: Instant
    compared: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    differences: tuple[Difference, ...]

    def disagreeing(self, about: DifferenceKind) -> int:
        """Return how many Sentinels differ about one thing."""
        return len({each.sentinel_id for each in self.differences if each.about is about})
