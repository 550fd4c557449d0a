"""
Switchovers that are ordered for a later time.

The order is a durable record (``core.durable_records``), so it survives restarts, and it is sent to the other Sentinels
of our kind, so it survives this one. At the time, the reachable one with the lowest ID withdraws the record everywhere
and begins; each further one waits ``TAKEOVER_DELAY`` longer for that. A record that nobody has executed ``MAX_DELAY``
after its time has been missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from txsentinel.core.durable_records import (
    MAX_RECORD_PERIOD,
    MAX_RECORDS,
    DurableRecord,
    HeldRecord,
    RecordKey,
    RecordKind,
)
from txsentinel.core.errors import CommandError
from txsentinel.core.fan_out import AnswersReceiver, FanOut, PeerAnswer, kind_of
from txsentinel.core.instances import Master
from txsentinel.core.operation_records import order_of, order_settings
from txsentinel.core.pause_rules import pause_of
from txsentinel.core.quorum import is_reachable
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.core.switchover import Switchovers
from txsentinel.core.switchover_state import Operation, SwitchoverOrder
from txsentinel.model.events import Level
from txsentinel.model.operations import OperationState, Precondition
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import data

MAX_DELAY: Final[Millis] = 60_000
"""How long after its time a switchover may begin."""

TAKEOVER_DELAY: Final[Millis] = 10_000
"""How much longer each Sentinel waits than the one with the next lower ID."""

WARNING_PERIOD: Final[Millis] = 60_000
"""How long before its time the conditions are tested for a warning."""


class Schedules:
    """Keeps and executes the switchovers of later times."""

    def __init__(self, state: SentinelState, registry: Registry, fan_out: FanOut, switchovers: Switchovers) -> None:
        self._state = state
        self._registry = registry
        self._fan_out = fan_out
        self._switchovers = switchovers

    def order(self, order: SwitchoverOrder, now: Millis, wall_now: Millis) -> Operation:
        """
        Schedule a switchover; it begins a generation.

        :raises CommandError: if the time has passed or is too far, another one of this master is scheduled, no master
            of that name is monitored, or nothing can be saved.
        """
        self._registry.master(order.master)
        assert order.at is not None
        if order.at <= wall_now:
            raise CommandError(f"SCHEDULEINPAST the time passed {wall_now - order.at} ms ago")
        if order.at + MAX_DELAY - wall_now > MAX_RECORD_PERIOD:
            raise CommandError(f"ERR the time is more than {MAX_RECORD_PERIOD} ms away")
        if self._state.storage_error is not None:
            raise CommandError(f"ERR Failed to save config file: {self._state.storage_error}")
        if len(self._state.records) >= MAX_RECORDS:
            raise CommandError(f"ERR This Sentinel keeps at most {MAX_RECORDS} records")
        key = RecordKey(RecordKind.SCHEDULED, order.master)
        before = self._state.records.get(key)
        if before is not None and before.in_force(now):
            raise CommandError(f"INPROG operation {before.record.request_id} of this master is scheduled")
        requested = wall_now if before is None else max(wall_now, before.record.requested_unix + 1)
        until, settings, comment = order.at + MAX_DELAY, order_settings(order), order.comment or ""
        record = DurableRecord(key, until, requested, order.operation_id, order.by, comment, False, settings)
        self._state.records.put(record, now + record.until_unix - wall_now)
        operation = self._known(record, now)
        self.send(record, now, _ignore)
        return operation

    def received(self, record: DurableRecord, now: Millis, wall_now: Millis) -> None:
        """
        Store the record that another Sentinel has sent, unless a later one is known.

        :raises NoSuchMaster: if no master of that name is monitored.
        """
        self._registry.master(record.key.master)
        left = min(record.until_unix - wall_now, record.until_unix - record.requested_unix)
        if left > 0 and len(self._state.records) < MAX_RECORDS:
            self._state.records.put(record, now + left)

    def withdraw(self, operation: Operation, by: str, now: Millis, wall_now: Millis) -> bool:
        """Withdraw the record of a scheduled operation everywhere; return whether it was in force."""
        held = self._state.records.get(RecordKey(RecordKind.SCHEDULED, operation.order.master))
        if held is None or not held.in_force(now) or held.record.request_id != operation.order.operation_id:
            return False
        before = held.record
        record = DurableRecord(
            before.key,
            before.until_unix,
            max(wall_now, before.requested_unix + 1),
            before.request_id,
            by,
            before.reason,
            True,
            before.settings,
        )
        self._state.records.put(record, held.until)
        self.send(record, now, _ignore)
        return True

    def evaluate(self, now: Millis, wall_now: Millis) -> None:
        """Execute what is due, warn of what is due soon, and end what was withdrawn or missed."""
        if len(self._state.records):
            for held in list(self._state.records.in_force(RecordKind.SCHEDULED, now)):
                master = self._registry.masters.get(held.record.key.master)
                if master is not None:
                    self._evaluate(master, held, self._known(held.record, now), now, wall_now)
        for operation in list(self._state.operations.scheduled.values()):
            self._end_stale(operation, now)

    def _evaluate(self, master: Master, held: HeldRecord, operation: Operation, now: Millis, wall_now: Millis) -> None:
        due = held.until - MAX_DELAY
        operation.run_at = due
        if not operation.warned and now >= due - WARNING_PERIOD:
            operation.warned = True
            unmet = self._switchovers.unmet(master, operation, now)
            if unmet:
                reasons = "; ".join(f"{each.code}: {each.text}" for each in unmet)
                text = f"The switchover of {master.name} that is due in {max(due - now, 0)} ms is not possible now"
                self._state.note(Level.WARNING, f"{text}: {reasons}")
                operation.step(now, "warned", reasons)
        if now < due + self._place(master, now) * TAKEOVER_DELAY:
            return
        own = self._state.options.my_id
        self.withdraw(operation, f"Sentinel {own}, which executes it", now, wall_now)
        self._state.operations.scheduled.pop(operation.order.operation_id, None)
        if master.switched_at is not None and master.switched_at >= due:
            problem = Precondition("executed_elsewhere", "the master was switched since the planned time")
            self._state.operations.end(operation, OperationState.CANCELLED, now, problem)
        elif pause_of(self._state, master.name, now) is not None:
            problem = Precondition("paused", "failovers of the master are paused")
            self._state.operations.end(operation, OperationState.FAILED, now, problem)
        else:
            self._switchovers.begin(master, operation, now)

    def _end_stale(self, operation: Operation, now: Millis) -> None:
        """End a scheduled operation whose record was withdrawn, replaced, or has ended."""
        held = self._state.records.get(RecordKey(RecordKind.SCHEDULED, operation.order.master))
        same = held is not None and held.record.request_id == operation.order.operation_id
        if held is not None and same and held.in_force(now):
            return
        self._state.operations.scheduled.pop(operation.order.operation_id, None)
        if held is not None and same and held.record.withdrawn:
            problem = Precondition("withdrawn", f"it was withdrawn by {held.record.by}")
            self._state.operations.end(operation, OperationState.CANCELLED, now, problem)
        else:
            problem = Precondition("missed", f"nobody began it within {MAX_DELAY} ms", None, None, MAX_DELAY)
            self._state.operations.end(operation, OperationState.FAILED, now, problem)

    def _place(self, master: Master, now: Millis) -> int:
        """Return how many reachable Sentinels of our kind come first: those that stay, in the order of their IDs."""
        own = self._key(self._state.options.my_id, now)
        peers = [peer for peer in master.peers.values() if is_reachable(peer) and kind_of(peer) == "txsentinel"]
        return sum(1 for peer in peers if self._key(peer.name, now) < own)

    def _key(self, sentinel_id: str, now: Millis) -> tuple[bool, str]:
        return self._state.is_leaving(sentinel_id, now), sentinel_id

    def _known(self, record: DurableRecord, now: Millis) -> Operation:
        """Return the operation of a record, which is made anew after a restart and at other Sentinels."""
        operations = self._state.operations
        found = operations.known.get(record.request_id)
        if found is None:
            found = Operation(order_of(record, record.until_unix - MAX_DELAY), now, OperationState.SCHEDULED)
            found.step(now, "scheduled", f"requested by {record.by}")
            operations.known[record.request_id] = operations.scheduled[record.request_id] = found
        return found

    def send(self, record: DurableRecord, now: Millis, receiver: AnswersReceiver) -> None:
        """Send a record to the other Sentinels of our kind."""
        words: list[str] = [
            "TXSENTINEL",
            "SCHEDULE",
            record.key.master,
            record.request_id,
            str(record.requested_unix),
            str(record.until_unix),
            "1" if record.withdrawn else "0",
            record.by,
            record.reason,
            *(f"{name}={value}" for name, value in record.settings),
        ]
        encoded = [data(word) for word in words]
        self._fan_out.send(self._fan_out.peers(record.key.master), encoded, now, receiver)


def _ignore(answers: Sequence[PeerAnswer]) -> None:
    """Take the answers of the peers; one that did not answer does not take over."""
