"""
The journal: typed records of rare events of each master, in a ring of limited size.

Records are written where something rare happens, and nothing is written in peace. The journal only records: no decision
depends on it. Its times are those of the host's monotonic clock; they become points in time when records are read.
Records never change. They are no frozen classes, whose construction takes four times as long, as hundreds of masters
may fail together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from txsentinel.core.journal_texts import sentence
from txsentinel.core.switchover_state import SwitchEvidence
from txsentinel.model.explanation import JournalRecord, Unfit
from txsentinel.model.history import JournalKind
from txsentinel.model.snapshots import Instant
from txsentinel.model.timings import Millis

MAX_RECORDS: Final = 256
"""Number of records that are kept of each master."""

MAX_RECORDS_OF_MANY: Final = 64
"""Number of records that are kept of each master if more than ``MANY_MASTERS`` have records."""

MANY_MASTERS: Final = 500

MIN_RECORDS: Final = 32
"""The same if more than ``VERY_MANY_MASTERS`` have records; a failover makes some 17."""

VERY_MANY_MASTERS: Final = 900

REPETITION_PERIOD: Final[Millis] = 1_000
"""A refused vote request that equals an earlier one is recorded at most once in this period."""

MAX_REPETITIONS: Final = 32
"""Number of different records of each master that are remembered for that."""

MAX_FINISHED: Final = 2_000
"""Number of ends of failovers that are kept for the history, should nothing process them."""

Data: TypeAlias = "tuple[tuple[str, str | int | None], ...]"


@dataclass(slots=True, eq=False)
class KnownServer:
    """A server as it was known at the time of a record."""

    name: str
    host: str
    port: int
    run_id: str | None
    replid: str | None
    offset: int | None
    priority: int | None
    reported_at: Millis | None
    """When the INFO with these fields arrived."""


@dataclass(slots=True, eq=False)
class ComparedReplica:
    """A replica in a selection; ``key`` is that of ``order_of_promotion``, ``None`` if it was unfit."""

    server: KnownServer
    key: tuple[bool, int, int, bool, str] | None
    unfit: Unfit | None
    """Why it was unfit."""


@dataclass(slots=True, eq=False)
class SwitchedServers:
    """The old master, the new one, and the replicas that were compared; empty if another Sentinel selected."""

    old: KnownServer
    new: KnownServer | None
    candidates: tuple[ComparedReplica, ...] = ()


@dataclass(slots=True, eq=False)
class JournalEntry:
    """
    One record with the time on the monotonic clock.

    ``subject`` is the name of a replica, the ID of a Sentinel, or ``None`` for the master or the Sentinel itself.
    ``code`` is a word that further divides the kind.
    """

    sequence: int
    at: Millis
    kind: JournalKind
    epoch: int | None
    subject: str | None
    code: str | None
    data: Data
    servers: SwitchedServers | None
    evidence: SwitchEvidence | None = None
    """What a receipt is made of."""


@dataclass(slots=True)
class Ring:
    """The records of one master."""

    entries: list[JournalEntry] = field(default_factory=list)
    repeated: dict[tuple[str | None, str | None], Millis] = field(default_factory=dict)
    """Subject and code of records that may be repeated by others → when one was last written."""

    requested: dict[str, int] = field(default_factory=dict)
    """ID of a peer → the epoch in which its vote was last requested."""


def _records_of(masters: int) -> int:
    """Return the number of records that are kept of each of so many masters."""
    if masters > VERY_MANY_MASTERS:
        return MIN_RECORDS
    return MAX_RECORDS_OF_MANY if masters > MANY_MASTERS else MAX_RECORDS


class Journal:
    """The records of all masters, numbered in the order in which they were written."""

    def __init__(self) -> None:
        self.sequence = 0
        """The number of the latest record; it changes with each record."""

        self.answers: dict[tuple[str, str], int] = {}
        """How many vote requests of others were answered how: granted, refused or withheld, and the code of why."""

        self._rings: dict[str, Ring] = {}
        self._limit = MAX_RECORDS
        """Number of records of each master that are kept."""

        self._own = Ring()
        """The records on the Sentinel itself, which concern all masters."""

        self.finished: list[tuple[str, JournalEntry]] = []
        """Name of the master and each record that ended or amends a failover and is not processed yet."""

        self._saving: dict[str, int] = {}
        """Name → the generation that contains its new address and is not durable yet."""

        self._unannounced: dict[str, Millis] = {}
        """Name → when its new address was first published; no instance has accepted a hello with it yet."""

    def write(
        self,
        kind: JournalKind,
        master: str,
        now: Millis,
        *,
        epoch: int | None = None,
        subject: str | None = None,
        code: str | None = None,
        data: Data = (),
        servers: SwitchedServers | None = None,
        evidence: SwitchEvidence | None = None,
    ) -> int:
        """Write a record of the master of that name; return its sequence number."""
        ring = self._rings.get(master)
        if ring is None:
            ring = self._rings[master] = Ring()
            limit = _records_of(len(self._rings))
            if limit < self._limit:
                self._limit = limit
                for other in self._rings.values():
                    del other.entries[:-limit]
        self.sequence += 1
        ring.entries.append(JournalEntry(self.sequence, now, kind, epoch, subject, code, data, servers, evidence))
        if len(ring.entries) > self._limit:
            del ring.entries[0]
        return self.sequence

    def write_own(self, kind: JournalKind, now: Millis, *, code: str | None = None, data: Data = ()) -> None:
        """Write a record of the Sentinel itself, which is shown with those of every master."""
        self.sequence += 1
        self._own.entries.append(JournalEntry(self.sequence, now, kind, None, None, code, data, None))
        if len(self._own.entries) > MAX_RECORDS_OF_MANY:
            del self._own.entries[0]

    def write_refused(
        self,
        kind: JournalKind,
        master: str,
        now: Millis,
        subject: str | None,
        code: str | None,
        epoch: int,
        reason: str,
    ) -> None:
        """Write that a request was refused. Any client can repeat requests, so equal records are limited."""
        ring = self._rings.get(master)
        if ring is not None:
            last = ring.repeated.get((subject, code))
            if last is not None and now - last < REPETITION_PERIOD:
                return
        self.write(kind, master, now, epoch=epoch, subject=subject, code=code, data=(("reason", reason),))
        ring = self._rings[master]
        if len(ring.repeated) >= MAX_REPETITIONS:
            ring.repeated.clear()
        ring.repeated[subject, code] = now

    def vote_answered(self, answer: str, code: str = "") -> None:
        """Count the answer to a vote request: ``granted``, ``refused`` or ``withheld``, and why."""
        self.answers[answer, code] = self.answers.get((answer, code), 0) + 1

    def vote_requested(self, master: str, now: Millis, peer: str, epoch: int, kind: str) -> None:
        """Write that the vote of ``peer`` was requested, once in each epoch; ``kind`` is txsentinel or c."""
        ring = self._rings.get(master)
        if ring is not None and ring.requested.get(peer) == epoch:
            return
        self.write(JournalKind.VOTE_REQUESTED, master, now, epoch=epoch, subject=peer, code=kind)
        self._rings[master].requested[peer] = epoch

    def moved(self, master: str, generation: int) -> None:
        """Record that the published address of ``master`` changed, as of ``generation``."""
        self._saving[master] = generation

    def announcing(self, master: str, now: Millis) -> None:
        """Record that this Sentinel sends hellos with a new address of ``master`` from ``now`` on."""
        self._unannounced[master] = now

    def committed(self, generation: int, now: Millis) -> None:
        """Write which new addresses are durable."""
        if not self._saving:
            return
        for name in [name for name, awaited in self._saving.items() if awaited <= generation]:
            del self._saving[name]
            self.write(JournalKind.DURABLE, name, now)

    def hello_accepted(self, master: str, by: str, sent_at: Millis | None, now: Millis) -> None:
        """Write that the new address was announced, if ``by`` is the first instance that accepted a hello with it."""
        since = self._unannounced.get(master)
        if since is not None and sent_at is not None and sent_at >= since and master not in self._saving:
            del self._unannounced[master]
            self.write(JournalKind.ANNOUNCED, master, now, subject=by)

    @property
    def awaits_hello(self) -> bool:
        """Whether the new address of any master was not announced yet."""
        return bool(self._unannounced)

    def is_durable(self, master: str) -> bool:
        """Whether no new address of ``master`` waits to become durable."""
        return master not in self._saving

    def is_announcing(self, master: str) -> bool:
        """Whether no instance has accepted a hello with the new address of ``master`` yet."""
        return master in self._unannounced

    def ended(self, master: str) -> None:
        """Record that the latest record of ``master`` ended or amends a failover."""
        self.finished.append((master, self._rings[master].entries[-1]))
        if len(self.finished) > MAX_FINISHED:
            del self.finished[0]

    def forget(self, master: str) -> None:
        """Discard the records of a master that is not monitored any more."""
        self._rings.pop(master, None)
        self._saving.pop(master, None)
        self._unannounced.pop(master, None)
        self._limit = _records_of(len(self._rings))

    def entries(self, master: str, after: int = 0) -> tuple[JournalEntry, ...]:
        """Return the records of ``master`` and of the Sentinel itself with a higher number than ``after``, in order."""
        ring = self._rings.get(master)
        found = [entry for entry in self._own.entries if entry.sequence > after]
        if ring is not None:
            found += [entry for entry in ring.entries if entry.sequence > after]
        found.sort(key=_sequence)
        return tuple(found)

    def records(self, master: str, after: int = 0, wall_offset: Millis = 0) -> tuple[JournalRecord, ...]:
        """
        Return :meth:`entries` as records with points in time.

        :param wall_offset: the wall clock minus the monotonic clock, in milliseconds.
        """
        return tuple(record(entry, master, wall_offset) for entry in self.entries(master, after))


def record(entry: JournalEntry, master: str, wall_offset: Millis) -> JournalRecord:
    """Return an entry as a record with a point in time and a sentence."""
    return JournalRecord(
        entry.sequence,
        Instant(entry.at + wall_offset),
        entry.kind.value,
        master,
        entry.epoch,
        entry.subject,
        entry.code,
        sentence(entry.kind, master, entry.subject, entry.code, entry.epoch, dict(entry.data)),
        entry.data + _shown(entry.servers),
    )


def _shown(servers: SwitchedServers | None) -> Data:
    """Return the servers of a selection as plain fields, one for each replica."""
    if servers is None:
        return ()
    found: list[tuple[str, str | int | None]] = []
    for each in servers.candidates:
        server = each.server
        state = f"unfit, {each.unfit.text}" if each.unfit is not None else "fit"
        found.append((f"replica {server.name}", f"offset {server.offset}, priority {server.priority}, {state}"))
    return tuple(found)


def _sequence(entry: JournalEntry) -> int:
    return entry.sequence
