"""
What a simulated Redis has on its disk, and what it finds there at its start.

As with Redis 7.0, a log contains the data set alone. A snapshot also has the replication ID and the offset, so that the
replication history continues: of a replica, the same one; of a master, as the second ID. Whatever the mode, a replica
stores each full copy that it receives as a snapshot, and loads it unless it has a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Persistence(Enum):
    """How a server persists its data set."""

    NONE = "none"
    """Not at all."""

    SNAPSHOT = "snapshot"
    """By SAVE, and by SHUTDOWN; not by a crash."""

    LOG = "log"
    """Each write at once."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A data set at one moment."""

    data: dict[bytes, bytes]
    replid: str
    offset: int


class Storage:
    """The disk of one server."""

    def __init__(self) -> None:
        self.mode = Persistence.LOG
        self.snapshot: Snapshot | None = None
        self._log: dict[bytes, bytes] = {}

    def written(self, data: dict[bytes, bytes]) -> None:
        """Append to the log; ``data`` is the data set of the running server, which changes with each write."""
        if self.mode is Persistence.LOG:
            self._log = data

    def save(self, data: dict[bytes, bytes], replid: str, offset: int) -> None:
        """Write a snapshot."""
        self.snapshot = Snapshot(dict(data), replid, offset)

    def load(self) -> tuple[dict[bytes, bytes], Snapshot | None]:
        """Return the data set for a start, and the snapshot that it is from, if any."""
        if self.mode is Persistence.LOG:
            return dict(self._log), None
        if self.snapshot is None:
            return {}, None
        return dict(self.snapshot.data), self.snapshot

    def erase(self) -> None:
        """Erase everything."""
        self.snapshot = None
        self._log = {}
