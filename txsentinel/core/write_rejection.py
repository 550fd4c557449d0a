"""
How a switchover rejects the writes of the old master by ``min-replicas-to-write``, and how they are accepted again.

Unlike a pause, this setting does not end by itself. So the former values are a durable record, at this Sentinel and at
those of our kind that can be reached, before the order is sent. The record is withdrawn when a Sentinel has seen that
the setting has another value again. Until then each of them that has the record restores it:

- the one that led the switchover, as soon as its operation has ended;
- the others, and that one after a restart, when the time is over for which it may have meant to reject writes;
- if another server is the master by then, only when the old one is a replica.

A server that cannot be reached is tried for ``RECORD_PERIOD``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from txsentinel.core.durable_records import MAX_RECORDS, DurableRecord, HeldRecord, RecordKey, RecordKind
from txsentinel.core.effects import AcceptWrites, ReadWriteLimits, RejectWrites
from txsentinel.core.fan_out import AnswersReceiver, FanOut, PeerAnswer
from txsentinel.core.instances import InstanceLink, Master, Server
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.core.switchover_state import Operation, WriteLimits, WriteRejection
from txsentinel.model.events import Level
from txsentinel.model.operations import OperationState
from txsentinel.model.timings import Millis
from txsentinel.wire.numbers import canonical_integer
from txsentinel.wire.resp import data

REJECTING: Final = 999_999
"""The value of ``min-replicas-to-write`` that no server reaches."""

MAX_LAG_SECONDS: Final = 10
"""``min-replicas-max-lag`` meanwhile if it was 0, with which a server ignores ``min-replicas-to-write``."""

RECORD_PERIOD: Final[Millis] = 30 * 24 * 3_600_000
"""How long it is attempted to restore the values."""

WITHDRAWN_PERIOD: Final[Millis] = 600_000
"""How long a withdrawn record is kept, so that an earlier request that arrives late has no effect."""

RETRY_PERIOD: Final[Millis] = 1_000
"""Interval at which a server is asked for the present values."""


class WriteRejections:
    """Orders servers to reject writes and to accept them again, and keeps the records of that."""

    def __init__(self, state: SentinelState, registry: Registry, fan_out: FanOut) -> None:
        self._state = state
        self._registry = registry
        self._fan_out = fan_out
        self._wall_offset: Millis = 0

    def problem(self, server: Server, now: Millis) -> str | None:
        """Return a clause why a switchover must not concern ``server`` now; ``None`` if it may."""
        held = self._record_of(server)
        if held is None or not held.in_force(now):
            return None
        before = f"since the switchover {held.record.request_id}"
        return f"it rejects writes by min-replicas-to-write {before}, which is restored first"

    def prepare(self, master: Master, operation: Operation, period: Millis, now: Millis) -> WriteRejection:
        """
        Begin to reject the writes of ``master`` for a switchover, or return how far that is.

        :param period: for how long the others take the writes to be rejected, from the sending of the record.
        """
        rejection = operation.rejection
        if rejection is None:
            rejection = operation.rejection = WriteRejection(now)
            self._state.emit(ReadWriteLimits(master.link), probe=True)
        elif rejection.former is not None and rejection.sent_at is None:
            self._store(master, operation, rejection, rejection.former, period, now)
        return rejection

    def order(self, master: Master, former: WriteLimits) -> None:
        """
        Order ``master`` to reject writes; its record is durable.

        It is a probe, as an order that waited could be sent after the values were found to be restored.
        """
        limits = WriteLimits(REJECTING, former.max_lag or MAX_LAG_SECONDS)
        self._state.emit(RejectWrites(master.link, limits), probe=True)

    def release(self, master: Master, now: Millis) -> None:
        """Begin to restore the values at ``master``, as its switchover was aborted."""
        held = self._record_of(master)
        if held is not None and held.in_force(now) and self._is_due(master, held, now):
            master.link.limits_asked_at = None
            self._ask(master, now)

    def limits_read(self, link: InstanceLink, limits: WriteLimits | None, error: str, now: Millis) -> str | None:
        """
        Handle the present values of a server, or the error instead.

        :returns: why the switchover that waits for them must be aborted; ``None`` if it may go on.
        """
        for instance in list(link.instances):
            operation = self._state.operations.pending.get(instance.master.name)
            rejection = None if operation is None else operation.rejection
            if isinstance(instance, Master) and rejection is not None and rejection.former is None:
                if limits is None:
                    return error
                if limits.to_write >= REJECTING:
                    return f"{limits.to_write} for min-replicas-to-write, so it rejects all writes already"
                rejection.former = limits
                continue
            if isinstance(instance, Server):
                self._verify(instance, limits, error, now)
        return None

    def former(self, server: Server) -> WriteLimits | None:
        """Return the values to restore at ``server``; ``None`` if it does not reject writes as far as known here."""
        held = self._record_of(server)
        return None if held is None or held.record.withdrawn else _former(held.record)

    def received(self, record: DurableRecord, now: Millis) -> None:
        """
        Store the record that another Sentinel has sent, unless a later one is known.

        :raises NoSuchMaster: if no master of that name is monitored.
        """
        self._registry.master(record.key.master)
        left = record.until_unix - record.requested_unix
        if left > 0 and len(self._state.records) < MAX_RECORDS:
            # By the time of arrival, so that no clock of another machine shortens it.
            self._state.records.put(record, now + min(left, RECORD_PERIOD))

    def evaluate(self, now: Millis, wall_now: Millis) -> None:
        """Restore what is to be restored by now."""
        self._wall_offset = wall_now - now
        if not len(self._state.records):
            return
        for held in list(self._state.records.in_force(RecordKind.REJECTING, now)):
            master = self._registry.masters.get(held.record.key.master)
            if master is not None:
                for server in (master, *master.replicas.values()):
                    if self._subject(server) == held.record.key.subject and self._is_due(server, held, now):
                        self._ask(server, now)

    def discard(self, master: Master) -> None:
        """Restore the servers of ``master``, which is about to be removed."""
        for server in (master, *master.replicas.values()):
            former = self.former(server)
            if former is not None and server.link.commands_up:
                self._state.emit(AcceptWrites(server.link, former, server.role_reported is Role.REPLICA), probe=True)

    # Records

    def _subject(self, server: Server) -> str:
        return server.address.joined()

    def _record_of(self, server: Server) -> HeldRecord | None:
        return self._state.records.get(RecordKey(RecordKind.REJECTING, server.master.name, self._subject(server)))

    def _store(
        self,
        master: Master,
        operation: Operation,
        rejection: WriteRejection,
        former: WriteLimits,
        period: Millis,
        now: Millis,
    ) -> None:
        """Store the record here and at the peers; the answers of those are awaited for a second at most."""
        requested = self._requested(master, now)
        settings = (("to-write", str(former.to_write)), ("max-lag", str(former.max_lag)), ("hold", str(period)))
        record = DurableRecord(
            RecordKey(RecordKind.REJECTING, master.name, self._subject(master)),
            requested + RECORD_PERIOD,
            requested,
            operation.order.operation_id,
            operation.order.by,
            "",
            False,
            settings,
        )
        self._state.records.put(record, now + RECORD_PERIOD)
        rejection.sent_at, rejection.generation = now, self._state.outbox.generation
        master.link.limits_asked_at = master.link.limits_fine_since = None

        def stored(answers: Sequence[PeerAnswer]) -> None:
            rejection.stored = True
            self._state.due.schedule(master, now)

        self.send(record, now, stored)

    def _requested(self, server: Server, now: Millis) -> Millis:
        before = self._record_of(server)
        wall = now + self._wall_offset
        return wall if before is None else max(wall, before.record.requested_unix + 1)

    def _withdraw(self, server: Server, held: HeldRecord, now: Millis) -> None:
        requested = self._requested(server, now)
        record = DurableRecord(
            held.record.key,
            requested + WITHDRAWN_PERIOD,
            requested,
            held.record.request_id,
            held.record.by,
            "",
            True,
            held.record.settings,
        )
        self._state.records.put(record, now + WITHDRAWN_PERIOD)
        self.send(record, now, _ignore)

    def send(self, record: DurableRecord, now: Millis, receiver: AnswersReceiver) -> None:
        """Send a record to the other Sentinels of our kind."""
        words = [
            "TXSENTINEL",
            "REJECTING",
            record.key.master,
            record.request_id,
            str(record.requested_unix),
            str(record.until_unix),
            "1" if record.withdrawn else "0",
            record.by,
            record.key.subject,
            *(f"{name}={value}" for name, value in record.settings),
        ]
        self._fan_out.send(self._fan_out.peers(record.key.master), [data(word) for word in words], now, receiver)

    # Restoring

    def _is_due(self, server: Server, held: HeldRecord, now: Millis) -> bool:
        """Whether the values of ``server`` may be restored."""
        record, master = held.record, server.master
        operation = self._state.operations.known.get(record.request_id)
        if operation is not None and (operation.restored_at is not None or operation.rejection is None):
            # It was led before a restart, or, as a scheduled one, by another Sentinel.
            operation = None
        if operation is not None and operation.state is OperationState.RUNNING:
            return operation.evidence is not None and operation.evidence.offset_final is not None
        if server is not master:
            # An outdated master accepts no write before it is a replica.
            refreshed = server.info_refreshed_at
            return refreshed is not None and server.role_reported is Role.REPLICA and server.link.demote_to is None
        granted = record.until_unix - record.requested_unix
        return operation is not None or now >= held.until - granted + _number(record.setting("hold"), 0)

    def _ask(self, server: Server, now: Millis) -> None:
        link = server.link
        asked = link.limits_asked_at
        if link.commands_up and (asked is None or now - asked >= RETRY_PERIOD):
            link.limits_asked_at = now
            self._state.emit(ReadWriteLimits(link), probe=True)

    def _verify(self, server: Server, limits: WriteLimits | None, error: str, now: Millis) -> None:
        """
        Restore the values unless they have been; then withdraw the record.

        They must have been seen twice: an order to reject writes may still be unread on a connection that was lost.
        """
        held = self._record_of(server)
        if held is None or not held.in_force(now) or not self._is_due(server, held, now):
            return
        place = f"{server.master.name} at {server.address.joined()}"
        if limits is None:
            text = f"min-replicas-to-write of {place} cannot be restored, so it may reject writes as a master"
            self._state.note_throttled(text, f"{text}: {error}")
            return
        link = server.link
        if limits.to_write == REJECTING:
            link.limits_fine_since = None
            former = _former(held.record)
            self._state.emit(AcceptWrites(link, former, self._may_be_written(server, held)), probe=True)
        elif link.limits_fine_since is None:
            link.limits_fine_since = now
        elif now - link.limits_fine_since >= RETRY_PERIOD:
            link.limits_fine_since = None
            self._withdraw(server, held, now)
            self._state.note(Level.NOTICE, f"min-replicas-to-write of {place} is {limits.to_write} again")

    def _may_be_written(self, server: Server, held: HeldRecord) -> bool:
        """Whether the value that rejects writes may be in the file of ``server``: its role was changed, or it began."""
        since = server.link.commands_since or 0
        requested = held.record.requested_unix - self._wall_offset
        return server.role_reported is Role.REPLICA or since >= requested


def _former(record: DurableRecord) -> WriteLimits:
    to_write = _number(record.setting("to-write"), 0)
    return WriteLimits(0 if to_write >= REJECTING else to_write, _number(record.setting("max-lag"), MAX_LAG_SECONDS))


def _number(word: str, default: int) -> int:
    found = canonical_integer(data(word))
    return default if found is None or found < 0 else found


def _ignore(answers: Sequence[PeerAnswer]) -> None:
    """Take the answers of the peers; each restores what it finds."""
