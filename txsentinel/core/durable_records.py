"""
Records with an end that survive restarts: pauses of failovers, removed and parked instances.

Each is saved as a comment, ``#: txsentinel <kind> …``, which C Sentinels keep when they rewrite the file. A request
reaches the Sentinels of a group in any order, so of two records with one key the one with the later request counts,
wherever they meet. A record that was withdrawn is kept until its end, so that an earlier request that arrives late has
no effect.

The file has the end of a record in milliseconds of the wall clock; here it is a point in time of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from txsentinel.model.timings import Millis

ALL_MASTERS: Final = "*"
"""Stands for all masters in a record, also for those that are added later."""

MAX_RECORD_PERIOD: Final[Millis] = 366 * 24 * 3_600_000
"""Maximum time from a request to the end of its record; the kinds have lower limits of their own."""

MAX_RECORDS: Final = 10_000
"""Maximum number of records, so that no client can let the file grow without limit."""


class RecordKind(Enum):
    """The word after ``#: txsentinel``."""

    PAUSE = "pause"
    """No automatic failovers of a master, or of all masters."""

    FORGOTTEN = "forgotten"
    """A replica or Sentinel that was removed and is not added again; the subject is its address or ID."""

    PARKED = "parked"
    """A server that is not promoted; the subject is its address."""

    BLOCKED = "failover-blocked"
    """No further automatic failover of a master after the last one."""

    SCHEDULED = "switchover"
    """A switchover of a master at a later time."""

    REJECTING = "rejecting-writes"
    """A server that rejects writes for a switchover, with the settings to restore; the subject is its address."""

    OPERATION = "operation"
    """A switchover that this Sentinel executes or has executed; the subject is its ID."""

    @property
    def has_subject(self) -> bool:
        """Whether there may be several for one master, each with a subject."""
        return self in (RecordKind.FORGOTTEN, RecordKind.PARKED, RecordKind.REJECTING, RecordKind.OPERATION)


class RecordKey(NamedTuple):
    """What distinguishes records. ``master`` is a name, or ``ALL_MASTERS``; ``subject`` is empty if there is none."""

    kind: RecordKind
    master: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class DurableRecord:
    """
    One record.

    ``requested_unix`` and ``until_unix`` are in milliseconds since 1970, by the clock of the Sentinel that was asked
    and by that of this one. ``request_id`` distinguishes requests with one time. ``settings`` are further words by
    name.
    """

    key: RecordKey
    until_unix: Millis
    requested_unix: Millis
    request_id: str
    by: str = ""
    reason: str = ""
    withdrawn: bool = False
    """Whether it has ended before its end."""

    settings: tuple[tuple[str, str], ...] = ()

    @property
    def granted(self) -> Millis:
        """
        The longest time for which it can be in force: the setting ``for``, in milliseconds.

        Without that it is counted from the request, whose time is by another clock, perhaps one that is ahead.
        """
        word = self.setting("for")
        if word.isdecimal():
            return min(int(word), MAX_RECORD_PERIOD)
        period = self.until_unix - self.requested_unix
        return period if period > 0 else MAX_RECORD_PERIOD

    @property
    def order(self) -> tuple[Millis, str]:
        """The place of its request among all for the same key; the last one counts."""
        return self.requested_unix, self.request_id

    def setting(self, name: str, default: str = "") -> str:
        """Return one of the settings."""
        return next((value for word, value in self.settings if word == name), default)


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """A record and when it ends by the monotonic clock."""

    record: DurableRecord
    until: Millis

    def in_force(self, now: Millis) -> bool:
        """Whether it has an effect."""
        return now < self.until and not self.record.withdrawn


class DurableRecords:
    """
    The records of a Sentinel by key.

    :param changed: begins a generation of the hard state of a master; ``None`` for that of the Sentinel itself.
    """

    def __init__(self, changed: Callable[[str | None], int]) -> None:
        self._changed = changed
        self._held: dict[RecordKey, HeldRecord] = {}

    def __len__(self) -> int:
        """Return the number of records, withdrawn ones included."""
        return len(self._held)

    def put(self, record: DurableRecord, until: Millis) -> bool:
        """
        Store a record unless one with the same or a later request is known; return whether it was stored.

        :param until: when it ends, by the monotonic clock.
        """
        before = self._held.get(record.key)
        if before is not None and before.record.order >= record.order:
            return False
        self._held[record.key] = HeldRecord(record, until)
        self._note_changed(record.key.master)
        return True

    def replace(self, key: RecordKey, before: HeldRecord | None) -> None:
        """Restore what was stored before a change that could not be saved."""
        if before is None:
            self._held.pop(key, None)
        else:
            self._held[key] = before
        self._note_changed(key.master)

    def restore(self, records: Iterable[DurableRecord], now: Millis, wall_now: Millis) -> None:
        """
        Take the records of the file as they are, except those that have ended, which the next write leaves out.

        A clock that was set back does not prolong a record beyond the time that it was made for.
        """
        for record in records:
            left = min(record.until_unix - wall_now, record.granted)
            before = self._held.get(record.key)
            if left > 0 and (before is None or before.record.order < record.order):
                self._held[record.key] = HeldRecord(record, now + left)

    def get(self, key: RecordKey) -> HeldRecord | None:
        """Return the record with that key, withdrawn or not, also if its end has passed a moment ago."""
        return self._held.get(key)

    def in_force(self, kind: RecordKind, now: Millis) -> Iterator[HeldRecord]:
        """Yield the records of a kind that have an effect now."""
        for key, held in self._held.items():
            if key.kind is kind and held.in_force(now):
                yield held

    def of_master(self, name: str) -> list[DurableRecord]:
        """Return all records to save for a master, or for ``ALL_MASTERS``, in the order of their keys."""
        found = [held.record for key, held in self._held.items() if key.master == name] if self._held else []
        return sorted(found, key=lambda record: (record.key.kind.value, record.key.subject))

    def take_master(self, name: str) -> list[HeldRecord]:
        """Remove and return all records of a master that is not monitored any more."""
        taken = [held for key, held in self._held.items() if key.master == name]
        for held in taken:
            del self._held[held.record.key]
        return taken

    def put_back(self, taken: Iterable[HeldRecord]) -> None:
        """Store what :meth:`take_master` returned."""
        for held in taken:
            self._held[held.record.key] = held
            self._note_changed(held.record.key.master)

    def expire(self, now: Millis) -> list[HeldRecord]:
        """Remove and return the records whose end has passed, so that the next write leaves them out."""
        if not self._held:
            return []
        ended = [held for held in self._held.values() if held.until <= now]
        for held in ended:
            del self._held[held.record.key]
            self._note_changed(held.record.key.master)
        return ended

    def next_end(self) -> Millis | None:
        """Return when the next record ends; ``None`` if there is none."""
        return min((held.until for held in self._held.values()), default=None)

    def _note_changed(self, master: str) -> None:
        self._changed(None if master == ALL_MASTERS else master)
