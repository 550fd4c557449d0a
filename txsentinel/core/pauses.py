"""
Pauses of automatic failovers: orders of operators, their exchange among Sentinels of our kind, and the guarantee.

A pause is a durable record (``core.durable_records``); ``core.pause_rules`` has its effect. Each paused Sentinel sends
the record to its peers of our kind, repeatedly, and each answers with the record that it has itself. So a peer that was
not reachable learns of a pause, or that it has ended, as soon as it is.

C Sentinels are kept from starting failovers by leases of their votes (``core.vote_leases``); ``core.pause_guarantee``
finds out whether any Sentinel is left that could begin one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from txsentinel.core.durable_records import (
    ALL_MASTERS,
    MAX_RECORDS,
    DurableRecord,
    HeldRecord,
    RecordKey,
    RecordKind,
)
from txsentinel.core.effects import ReportAnswers
from txsentinel.core.errors import CommandError
from txsentinel.core.fan_out import FanOut, PeerAnswer, kind_of
from txsentinel.core.instances import Master
from txsentinel.core.pause_guarantee import Confirmation, Exchange, Guarantee, Guarantees, Unheld
from txsentinel.core.pause_messages import lists_of, pause_words, triples
from txsentinel.core.pause_rules import (
    BEST_EFFORT,
    FAILOVER_SCOPE,
    HANDS_OFF,
    described_pause,
    pause_of,
    pauses_of,
    scope_of,
)
from txsentinel.core.registry import Registry
from txsentinel.core.state import Admission, SentinelState
from txsentinel.core.vote_leases import VoteLeases, flat_map
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.numbers import canonical_integer
from txsentinel.wire.resp import data, text

MAX_PAUSE: Final[Millis] = 24 * 3_600_000
"""The longest pause; it can be renewed."""

MAX_ADMISSION: Final[Millis] = 60_000

SYNC_PERIOD: Final[Millis] = 5_000
"""How often a record is sent to the peers while it is in force."""

FAST_SYNC_PERIOD: Final[Millis] = 200
"""How often while an order waits for the guarantee."""

EVALUATION_PERIOD: Final[Millis] = 500
"""How often leases and guarantees are evaluated, with up to ``MASTERS_PER_PERIOD`` paused masters."""

MASTERS_PER_PERIOD: Final = 250
"""With more, as many periods pass between two evaluations, which take some 50 µs per master."""

WAITING_PERIOD: Final[Millis] = 50
"""
How often for each ``MASTERS_PER_PERIOD`` while an order waits for the guarantee; with fewer masters, in each sweep. The
answer of a peer is evaluated in the next sweep in any case.
"""

WITHDRAWN_FOR: Final[Millis] = 60_000
"""How much longer than the pause it is known that it was ended, as clocks differ."""


@dataclass(frozen=True, slots=True)
class PauseRequest:
    """
    An order to pause, or to resume with ``withdrawn``.

    ``requested_unix`` is 0, and ``request_id`` empty, for an order of a client; a peer that passes one on sets both.
    """

    period: Millis
    scope: str = FAILOVER_SCOPE
    require: str = ""
    by: str = ""
    reason: str = ""
    requested_unix: Millis = 0
    request_id: str = ""
    withdrawn: bool = False


@dataclass(slots=True)
class _Waiter:
    key: RecordKey
    until: Millis
    done: Callable[[], None]


class Pauses:
    """The pauses of all masters."""

    def __init__(self, state: SentinelState, registry: Registry, fan_out: FanOut) -> None:
        self._state = state
        self._registry = registry
        self._fan_out = fan_out
        self.leases = VoteLeases(state, registry, fan_out)
        self._guarantees = Guarantees(state, self.leases)
        self._wall_offset: Millis = 0
        self._found: dict[str, Guarantee] = {}
        """What :meth:`guarantee` last found for each paused master."""

        self._waiters: list[_Waiter] = []
        self._due: Millis = 0

    @property
    def _exchanges(self) -> dict[RecordKey, Exchange]:
        """The exchange of each record in force."""
        return self._guarantees.exchanges

    @property
    def is_busy(self) -> bool:
        """Whether :meth:`evaluate` has work although there may be no record."""
        return bool(self._waiters) or bool(self._exchanges)

    # Orders.

    def order(self, name: str, request: PauseRequest, now: Millis, wall_now: Millis) -> bool:
        """
        Pause failovers of a master, or of all for ``*``; with ``withdrawn``, end the pause of that name.

        :returns: whether the record was stored, which begins a generation; one with a later request is kept.
        :raises CommandError: if it cannot be paused, or no master of that name is monitored.
        """
        self._check(name, request)
        key = RecordKey(RecordKind.PAUSE, name)
        before = self._state.records.get(key)
        requested, request_id = request.requested_unix, request.request_id
        if not request_id:
            requested = wall_now if before is None else max(wall_now, before.record.requested_unix + 1)
            request_id = f"{self._state.rng(1 << 60):015x}"
        settings = (("scope", request.scope), ("require", request.require), ("for", str(request.period)))
        record = DurableRecord(
            key,
            wall_now + request.period,
            requested,
            request_id,
            request.by,
            request.reason,
            request.withdrawn,
            tuple((word, value) for word, value in settings if value),
        )
        if not self._state.records.put(record, now + request.period):
            return False
        self._due = now
        if request.withdrawn:
            if before is not None and before.in_force(now):
                self._ended(before, f"resumed by {request.by or 'an operator'}", now)
        else:
            known = self._exchanges.get(key)
            # Peers that are paused until then stay so, whether or not they receive this.
            kept = {} if known is None else known.confirmations
            self._exchanges[key] = Exchange(now, now, self._state.outbox.generation, kept)
            self._began(HeldRecord(record, now + request.period), now)
        return True

    def _check(self, name: str, request: PauseRequest) -> None:
        masters = self._masters(name)
        if self._state.storage_error is not None:
            raise CommandError(f"ERR Failed to save config file: {self._state.storage_error}")
        known = self._state.records.get(RecordKey(RecordKind.PAUSE, name)) is not None
        if len(self._state.records) >= MAX_RECORDS and not known:
            raise CommandError(f"ERR This Sentinel keeps at most {MAX_RECORDS} records of pauses, removals and parking")
        if request.withdrawn or request.scope != HANDS_OFF:
            return
        for master in masters:
            if master.failover is not None:
                raise CommandError(f"INPROG Failover of {master.name} already in progress")
            others = [peer.address.joined() for peer in master.peers.values() if kind_of(peer) != "txsentinel"]
            if others and request.require != BEST_EFFORT:
                text = f"Sentinels of another kind may reconfigure servers of {master.name}: {', '.join(others)}"
                raise CommandError(f"CANNOTGUARANTEE {text}. REQUIRE best-effort pauses the others")

    def resume(self, name: str, by: str, now: Millis, wall_now: Millis) -> list[DurableRecord]:
        """
        End the pause of a master, or all pauses for ``*``; return the records to send to the peers.

        :raises CommandError: if only the pause of all masters is in force, or nothing can be saved.
        """
        self._masters(name)
        held = list(self._state.records.in_force(RecordKind.PAUSE, now))
        own = [each for each in held if name in (ALL_MASTERS, each.record.key.master)]
        if not own and any(each.record.key.master == ALL_MASTERS for each in held):
            raise CommandError("ERR All masters are paused. TXSENTINEL RESUME * ends that")
        for each in own:
            period = each.until - now + WITHDRAWN_FOR
            request = PauseRequest(period, scope_of(each), by=by, withdrawn=True)
            self.order(each.record.key.master, request, now, wall_now)
        stored = (self._state.records.get(each.record.key) for each in own)
        return [each.record for each in stored if each is not None]

    def admit(self, name: str, candidate: str, epoch: int, period: Millis, now: Millis) -> None:
        """
        Permit to vote for a candidate in an epoch although failovers are paused.

        :raises NoSuchMaster: if no master of that name is monitored.
        """
        master = self._registry.master(name)
        self._state.admissions[name] = Admission(candidate, epoch, now + min(period, MAX_ADMISSION))
        self._state.touch(master)

    def undo(self, key: RecordKey, before: HeldRecord | None, now: Millis) -> None:
        """Restore what was stored before an order that could not be saved."""
        self._state.records.replace(key, before)
        self._exchanges.pop(key, None)
        self._due = now
        for master in self._masters(key.master):
            self._state.touch(master)
            self._state.due.schedule(master, now)

    def _masters(self, name: str) -> list[Master]:
        return list(self._registry.masters.values()) if name == ALL_MASTERS else [self._registry.master(name)]

    def _known_masters(self, name: str) -> list[Master]:
        """Return the masters of a record, also if its master is not monitored any more."""
        return self._masters(name) if name == ALL_MASTERS or name in self._registry.masters else []

    # Begin and end.

    def _began(self, held: HeldRecord, now: Millis) -> None:
        record, state = held.record, self._state
        name, left = record.key.master, held.until - now
        where = "all masters" if name == ALL_MASTERS else name
        state.note(Level.NOTICE, f"{excerpt(where)}: {excerpt(described_pause(held, now))}; until", left)
        data_of = (("by", record.by), ("reason", record.reason), ("for_ms", left))
        for master in self._known_masters(name):
            state.journal.write(JournalKind.PAUSED, master.name, now, code=scope_of(held), data=data_of)
            if master.options.guards.pause_events:
                state.announce("+pause", master, f"{left} {scope_of(held)}")
            state.touch(master)
            # An election that it has begun itself is aborted.
            state.due.schedule(master, now)

    def _ended(self, held: HeldRecord, how: str, now: Millis) -> None:
        name, state = held.record.key.master, self._state
        self._exchanges.pop(held.record.key, None)
        where = "all masters" if name == ALL_MASTERS else name
        state.note(Level.NOTICE, f"{excerpt(where)}: automatic failovers are possible again, {excerpt(how)}")
        for master in self._known_masters(name):
            state.journal.write(JournalKind.RESUMED, master.name, now, code=scope_of(held), data=(("by", how),))
            if pause_of(state, master.name, now) is None:
                self._found.pop(master.name, None)
                if master.options.guards.pause_events:
                    state.announce("-pause", master)
            state.touch(master)
            state.due.schedule(master, now)

    # The passing of time.

    def evaluate(self, now: Millis, wall_now: Millis) -> None:
        """
        Drop what has ended, send records to peers, renew leases, and find out what is guaranteed.

        :param wall_now: the wall clock in milliseconds since 1970.
        """
        state = self._state
        self._wall_offset = wall_now - now
        if not (len(state.records) or state.admissions or self._exchanges or self._waiters):
            return
        if state.admissions:
            state.admissions = {name: each for name, each in state.admissions.items() if now < each.until}
        for held in state.records.expire(now):
            if held.record.key.kind is RecordKind.PAUSE and not held.record.withdrawn:
                self._ended(held, "the pause has ended", now)
        if now < self._due or not (len(state.records) or self._exchanges or self._waiters):
            return
        paused: dict[str, Master] = {}
        for key in [key for key in self._exchanges if state.records.get(key) is None]:
            del self._exchanges[key]
        for held in list(state.records.in_force(RecordKind.PAUSE, now)):
            self._exchange(held, now)
            paused.update((master.name, master) for master in self._known_masters(held.record.key.master))
        self._due = now + EVALUATION_PERIOD * (1 + len(paused) // MASTERS_PER_PERIOD)
        for master in paused.values():
            self._renew_leases(master, now)
            found = self._guarantees.guarantee(master, now)
            before = self._found.get(master.name)
            self._found[master.name] = found
            if before is None or before.shown != found.shown:
                state.touch(master)
        self.leases.forget_ended(frozenset(paused), now)
        self._check_waiters(now)
        if self._waiters:
            self._due = now + WAITING_PERIOD * (len(paused) // MASTERS_PER_PERIOD)

    def peer_connected(self, now: Millis) -> None:
        """Send the records in force to the peers with the next evaluation, as one has just connected."""
        if self._exchanges:
            for exchange in self._exchanges.values():
                exchange.due = self._due = now

    def renew_all(self, now: Millis) -> None:
        """Have the holder renew all leases at once, and exchange the records with the peers."""
        self.leases.renew_all()
        self.peer_connected(now)

    def await_guarantee(self, name: str, until: Millis, done: Callable[[], None]) -> None:
        """Call ``done`` once no failover of a master, or of all for ``*``, can happen, or at ``until``."""
        self._waiters.append(_Waiter(RecordKey(RecordKind.PAUSE, name), until, done))
        self._due = 0

    def _is_guaranteed(self, master: Master) -> bool:
        found = self._found.get(master.name)
        return found is not None and found.guaranteed

    def _check_waiters(self, now: Millis) -> None:
        waiting = []
        for waiter in self._waiters:
            masters = self._known_masters(waiter.key.master)
            if now >= waiter.until or all(self._is_guaranteed(master) for master in masters):
                self._state.emit(ReportAnswers(waiter.done), probe=True)
            else:
                waiting.append(waiter)
        self._waiters = waiting

    # The exchange with peers of our kind.

    def _exchange(self, held: HeldRecord, now: Millis) -> None:
        key, record = held.record.key, held.record
        exchange = self._exchanges.get(key)
        if exchange is None:
            # Restored from the file.
            exchange = self._exchanges[key] = Exchange(now, now)
        if exchange.generation > self._state.durable_generation:
            return
        waiting = any(waiter.key == key for waiter in self._waiters)
        if now < exchange.due and not (waiting and now >= exchange.due - SYNC_PERIOD + FAST_SYNC_PERIOD):
            return
        exchange.due = now + SYNC_PERIOD
        known = self._known_masters(key.master)
        peers = self._fan_out.peers(None if key.master == ALL_MASTERS else key.master) if known else []
        ours = [peer for peer in peers if kind_of(peer) == "txsentinel" and peer.link.commands_up]
        receiver = partial(self._answered, key, record.request_id)
        for peer in ours:
            # Each by itself, as one that does not answer must not delay the others.
            self._fan_out.send([peer], pause_words(record, held.until - now), now, receiver)

    def broadcast(
        self, records: Iterable[DurableRecord], now: Millis, done: Callable[[Sequence[PeerAnswer]], None]
    ) -> None:
        """Send records to the peers of our kind; ``done`` gets the answers to the last one."""
        all_records = list(records)
        for record in all_records:
            held = self._state.records.get(record.key)
            name = record.key.master
            peers = self._fan_out.peers(None if name == ALL_MASTERS else name)
            left = MAX_PAUSE if held is None else held.until - now
            self._fan_out.send(peers, pause_words(record, left), now, done if record is all_records[-1] else _ignore)

    def answer(self, name: str, now: Millis) -> dict[str, str | int | list[str | int]]:
        """Return what this Sentinel has of a record, and of the masters that it concerns, for a peer."""
        key = RecordKey(RecordKind.PAUSE, name)
        held = self._state.records.get(key)
        found: dict[str, str | int | list[str | int]] = {}
        if held is not None:
            record = held.record
            found["id"], found["at"], found["left-ms"] = (
                record.request_id,
                str(record.requested_unix),
                str(held.until - now),
            )
            found["withdrawn"], found["by"], found["reason"] = str(int(record.withdrawn)), record.by, record.reason
            found["scope"], found["require"] = scope_of(held), record.setting("require")
        leases: list[str | int] = []
        ages: list[str | int] = []
        elections: list[str | int] = []
        progress: list[str | int] = []
        for master in self._known_masters(name):
            for peer_id, lease in self.leases.known(master, now):
                leases += [master.name, peer_id, lease.until - now]
                ages += [master.name, peer_id, now - lease.began_at + 1]
            election = self._guarantees.election(master, now)
            if election is not None:
                elections += [master.name, election[0], election[1] - now]
            if self._guarantees.in_progress(master):
                progress.append(master.name)
        found["leases"], found["lease-ages"] = leases, ages
        found["elections"], found["in-progress"] = elections, progress
        return found

    def _answered(self, key: RecordKey, request_id: str, answers: Sequence[PeerAnswer]) -> None:
        for answer in answers:
            if answer.error is None:
                self._peer_answered(key, request_id, answer)

    def _peer_answered(self, key: RecordKey, request_id: str, answer: PeerAnswer) -> None:
        now, reply = answer.sent_at, answer.reply
        fields, lists = flat_map(reply), lists_of(reply)
        ages = {(name, peer_id): age for name, peer_id, age in triples(lists.get("lease-ages", []))}
        for name, peer_id, left in triples(lists.get("leases", [])):
            # Both are counted from before the answer was made, so the lease seems older than it is.
            age = ages.get((name, peer_id))
            if age is not None:
                self.leases.learn(name, peer_id, now - age, now + left)
        exchange = self._exchanges.get(key)
        if fields.get("id") == data(request_id):
            if exchange is not None and fields.get("withdrawn") == b"0":
                names = [text(each) for each in lists.get("in-progress", []) if isinstance(each, bytes)]
                elections = {name: (who, now + left) for name, who, left in triples(lists.get("elections", []))}
                left = canonical_integer(fields.get("left-ms", b"")) or 0
                confirmed = Confirmation(request_id, now + left, frozenset(names), elections)
                exchange.confirmations[answer.peer_id] = confirmed
                self._due = 0
            return
        period, at = canonical_integer(fields.get("left-ms", b"")), canonical_integer(fields.get("at", b""))
        if period is None or at is None or period <= 0 or "id" not in fields:
            return
        theirs = PauseRequest(
            min(period, MAX_PAUSE + WITHDRAWN_FOR),
            HANDS_OFF if fields.get("scope") == HANDS_OFF.encode() else FAILOVER_SCOPE,
            BEST_EFFORT,
            text(fields.get("by", b"")),
            text(fields.get("reason", b"")),
            at,
            text(fields["id"]),
            fields.get("withdrawn") == b"1",
        )
        try:
            # Theirs is later, or they would have taken ours.
            self.order(key.master, theirs, now, now + self._wall_offset)
        except CommandError as problem:
            self._state.note_throttled("A pause was not taken over", f"{key.master}: {excerpt(str(problem))}")

    # Leases.

    def guarantee(self, master: Master, now: Millis) -> Guarantee:
        """Return whether no automatic failover of a paused master can happen now."""
        return self._guarantees.guarantee(master, now)

    def unreachable(self, master: Master) -> list[Unheld]:
        """Return those because of which a pause could not be guaranteed, if that is so."""
        return self._guarantees.unreachable(master)

    def _renew_leases(self, master: Master, now: Millis) -> None:
        held = pauses_of(self._state, master.name, now)
        since = [self._exchanges[each.record.key].since for each in held if each.record.key in self._exchanges]
        waited = now - min(since, default=now)
        holder = self._guarantees.holder(master, now) == self._state.options.my_id
        for peer in master.peers.values():
            if kind_of(peer) == "c" and peer.link.commands_up:
                if self.leases.is_due(master, peer, now, holder=holder, waited=waited):
                    self.leases.request(master, peer, now)


def _ignore(answers: Sequence[PeerAnswer]) -> None:
    """The answers to the other records do not matter."""
