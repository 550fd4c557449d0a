"""
The history of failovers: makes the records when failovers have ended, keeps the latest ones, and appends all to a file.

The file never delays a failover: a record is made when its switch is durable, and written by a thread. A file that
cannot be written is logged once and counted; the records are then kept in memory only.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from txsentinel.core.earlier_records import amended_record, awaited_comparison
from txsentinel.core.failover_records import ENDS, failover_record, is_provisional
from txsentinel.core.state import MASS_FAILURE_WINDOW
from txsentinel.model.events import Level
from txsentinel.model.history import Acknowledgement, Outcome
from txsentinel.model.history_json import decode_records, encode_record
from txsentinel.model.snapshots import Instant
from txsentinel.model.timings import wall_offset

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from txsentinel.core.journal import JournalEntry
    from txsentinel.core.sentinel import SentinelCore
    from txsentinel.interfaces import IHost
    from txsentinel.model.file_end import FileEnd
    from txsentinel.model.history import FailoverRecord
    from txsentinel.model.timings import Millis

FILE_NAME: Final = "history.jsonl"

MAX_FILE_BYTES: Final = 8 << 20
MAX_FILES: Final = 4

MAX_KEPT: Final = 1_000
"""Number of records that are kept in memory, each of some kilobytes; a mass failure makes hundreds at once."""

MAX_BYTES_READ: Final = 1 << 19
"""How much of the end of the file is parsed at start: some 170 records, which takes less than 0.1 s."""

MAX_PENDING_BYTES: Final = 4 << 20
"""How much waits for a slow disk at most; further records are kept in memory only."""

CHECK_INTERVAL: Final[Millis] = 50
"""How often ended failovers are looked at, and how soon after the end their records are made."""

MAX_RECORDS_PER_CHECK: Final = 5
"""How many records are made at a time, each in half a millisecond: after a mass failure there are hundreds."""

ANNOUNCEMENT_TIMEOUT: Final[Millis] = 1_000
"""How long after the end a record waits for the confirmation that the new address was announced."""

FLUSH_TIMEOUT_SECONDS: Final = 2.0
"""How long the end of the process waits for a slow disk."""

RIVAL_TIMEOUT: Final[Millis] = 10_000
"""How long after an own campaign was lost its record waits for the failover that another Sentinel leads."""


class FailoverHistory:
    """
    The records of one Sentinel.

    :param note: writes a line to the log.
    :param await_sweeps: has a function called after each sweep, until it is called with ``None``.
    :param directory: the directory of the file; ``None`` to keep records in memory only.
    """

    def __init__(
        self,
        host: IHost,
        core: SentinelCore,
        note: Callable[[Level, str], None],
        await_sweeps: Callable[[Callable[[], None] | None], None],
        directory: str | None = None,
    ) -> None:
        self._host = host
        self._core = core
        self._note = note
        self._await_sweeps = await_sweeps
        self.path = None if directory is None else posixpath.join(directory, FILE_NAME)
        self._finished = core.journal.finished
        """What the core has finished, always the same list: it is looked at often."""

        self._ended: list[tuple[str, JournalEntry]] = []
        """Name of the master and end of each failover that has no record yet, and what amends those that have."""

        self._next_check: Millis = 0
        self._kept: dict[str, FailoverRecord] = {}
        """ID → record, oldest first."""

        self._made: dict[tuple[str, int], tuple[JournalEntry, Millis]] = {}
        """Master and epoch of the failovers with a record → their end, and the wall clock minus the monotonic one."""

        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._writing = False
        self._failing = False
        self._idle: list[Deferred[None]] = []
        self._timeout: IDelayedCall | None = None
        self.total = 0
        """Number of failovers recorded since the start."""

        self.write_failures = 0
        """Number of attempts to write that failed since the start."""

    def start(self) -> None:
        """Read the latest records of the file in the background."""
        if self.path is not None:
            self._host.files.fetch_end(self.path, MAX_BYTES_READ).addCallbacks(self._read, self._unreadable)

    def records(self, name: str | None, limit: int) -> tuple[FailoverRecord, ...]:
        """Return the latest failovers of one master or of all, newest first."""
        found = [each for each in reversed(self._kept.values()) if name is None or each.master == name]
        return tuple(found[: max(0, limit)])

    def acknowledge(self, record_id: str, by: str, comment: str) -> str | None:
        """
        Record that an operator has seen a failover.

        :param record_id: the ID of its record, or the one of its group, which all Sentinels give to it.
        :returns: the ID of the group; ``None`` if the record is not known.
        """
        record = self._kept.get(record_id)
        if record is None:
            record = next((each for each in self._kept.values() if each.group == record_id), None)
        if record is None:
            return None
        record = replace(record, ack=Acknowledgement(by, Instant(round(self._host.wall_clock() * 1000)), comment))
        self.keep(record)
        self._write(record)
        return record.group

    def check(self) -> None:
        """Make the records that are due; called after each input that had effects, and by sweeps while some wait."""
        finished = self._finished
        if not finished and not self._ended:
            return
        now = self._host.now()
        if finished:
            self._take(finished)
            self._await_sweeps(self.check)
        if now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL
        if self._in_mass_failure(now):
            return
        waiting: list[tuple[str, JournalEntry]] = []
        made = 0
        for master, end in self._ended:
            if made < MAX_RECORDS_PER_CHECK and self._is_due(master, end, now):
                self._process(master, end)
                made += 1
            else:
                waiting.append((master, end))
        self._ended = waiting
        if not waiting:
            self._await_sweeps(None)

    def flush(self) -> Deferred[None]:
        """
        Make the records of all failovers that have ended.

        :returns: fires when they are written, or when the disk has taken too long.
        """
        self._take(self._finished)
        for master, end in self._ended:
            self._process(master, end)
        self._ended = []
        if not self._writing:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        if self._timeout is None:
            self._timeout = self._host.reactor.callLater(FLUSH_TIMEOUT_SECONDS, self._timed_out)
        return idle

    def _take(self, finished: list[tuple[str, JournalEntry]]) -> None:
        """Take over what the core has finished. The end of a failover replaces those of own campaigns in it."""
        decided = {master for master, end in finished if end.kind in ENDS and not is_provisional(end)}
        if decided:
            self._ended = [each for each in self._ended if each[0] not in decided or not is_provisional(each[1])]
        self._ended += finished
        finished.clear()

    def _in_mass_failure(self, now: Millis) -> bool:
        """Whether many masters have just failed together: their failovers come first."""
        recent = self._core.state.recent_failures
        return len(recent) >= self._core.state.limits.mass_failure and now - recent[-1][0] < MASS_FAILURE_WINDOW

    def _is_due(self, master: str, end: JournalEntry, now: Millis) -> bool:
        if end.kind not in ENDS:
            return True
        if is_provisional(end):
            return now - end.at >= RIVAL_TIMEOUT
        core = self._core
        if not core.journal.is_durable(master) and not core.state.storage_failing:
            return False
        return not core.journal.is_announcing(master) or now - end.at >= ANNOUNCEMENT_TIMEOUT

    def _process(self, master: str, end: JournalEntry) -> None:
        """Make the record of a failover, or replace the one that ``end`` amends if this process has made it."""
        entries = self._core.journal.entries(master)
        if end.epoch is None or not entries:
            # The master is not monitored any more.
            return
        key = master, end.epoch
        if end.kind in ENDS:
            self._made[key] = end, self._wall_offset()
            self.total += 1
        made = self._made.get(key)
        if made is None:
            self._amend_earlier(master, end.epoch, entries)
            return
        record = failover_record(entries, made[0], master, self._core.options.my_id, made[1])
        before = self._kept.get(record.record_id)
        if before is not None:
            record = replace(record, ack=before.ack)
        self.keep(record)
        self._write(record)

    def _amend_earlier(self, master: str, epoch: int, entries: Sequence[JournalEntry]) -> None:
        """Amend the record of a failover that an earlier process has made."""
        for record in self._of_earlier_processes():
            if (record.master, record.epoch) == (master, epoch):
                amended = amended_record(record, entries)
                if amended != record:
                    self.keep(amended)
                    self._write(amended)

    def _of_earlier_processes(self) -> list[FailoverRecord]:
        """Return the records of switches that this Sentinel made before it was started last."""
        own_id = self._core.options.my_id
        return [
            each
            for each in self._kept.values()
            if each.outcome is Outcome.SWITCHED
            and each.observer == own_id
            and (each.master, each.epoch) not in self._made
        ]

    def _await_old_masters(self) -> None:
        """Find out what was lost in the failovers before the start, once their old masters are back."""
        now, offset = self._host.now(), self._wall_offset()
        for record in self._of_earlier_processes():
            comparison = awaited_comparison(record, now, offset)
            if comparison is not None and record.master in self._core.registry.masters:
                self._core.state.comparisons.resume(record.master, comparison)

    def _wall_offset(self) -> Millis:
        return wall_offset(self._host.wall_clock(), self._host.reactor.seconds())

    def keep(self, record: FailoverRecord) -> None:
        """Keep a record in memory; it replaces an earlier one with its ID."""
        self._kept[record.record_id] = record
        while len(self._kept) > MAX_KEPT:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
        while len(self._made) > MAX_KEPT:
            del self._made[next(iter(self._made))]

    def _write(self, record: FailoverRecord) -> None:
        if self.path is None:
            return
        line = encode_record(record)
        if self._pending_bytes + len(line) > MAX_PENDING_BYTES:
            self.write_failures += 1
            return
        self._pending.append(line)
        self._pending_bytes += len(line)
        self._write_pending()

    def _write_pending(self) -> None:
        if self._writing or not self._pending or self.path is None:
            return
        self._writing = True
        lines, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        appended = self._host.files.append(self.path, lines, MAX_FILE_BYTES, MAX_FILES)
        appended.addCallbacks(self._written, self._not_written)
        appended.addErrback(self._host.fail_stop, "the history of failovers")

    def _written(self, _: object) -> None:
        if self._failing:
            self._failing = False
            self._note(Level.NOTICE, f"Records of failovers can be written to {self.path} again")
        self._next_write()

    def _not_written(self, failure: Failure) -> None:
        failure.trap(OSError)
        self.write_failures += 1
        if not self._failing:
            self._failing = True
            reason = f"Cannot write a record of a failover to {self.path}: {failure.getErrorMessage()}"
            self._note(Level.WARNING, f"{reason}. It is kept in memory only")
        self._next_write()

    def _next_write(self) -> None:
        self._writing = False
        self._write_pending()
        if not self._writing:
            self._report_idle()

    def _timed_out(self) -> None:
        self._timeout = None
        self._report_idle()

    def _report_idle(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)

    def _read(self, end: FileEnd) -> None:
        """Take over the latest records of the file."""
        found, bad = decode_records(end.contents, self._host.yield_to_clients)
        before = end.lines_before
        if end.cut_bytes > MAX_BYTES_READ:
            bad.insert(0, (0, f"longer than {MAX_BYTES_READ} bytes"))
        if bad:
            number, reason = bad[0]
            rest = len(bad) - 1
            more = f", and {rest} more {'line is not one' if rest == 1 else 'lines are not'} either" if rest else ""
            text = f"Line {before + number} of {self.path} is no record of a failover and is ignored: {reason}{more}"
            self._note(Level.WARNING, text)
        latest = {record.record_id: record for record in found[-MAX_KEPT:]}
        latest.update(self._kept)
        self._kept = latest
        self._await_old_masters()

    def _unreadable(self, failure: Failure) -> None:
        failure.trap(OSError)
        if not failure.check(FileNotFoundError, NotADirectoryError):
            self._note(Level.WARNING, f"Cannot read {self.path}: {failure.getErrorMessage()}")
