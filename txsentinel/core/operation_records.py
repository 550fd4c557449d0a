"""
Switchovers that survive a restart of the Sentinel that executes them, as durable records.

A record is made when the conditions are met, before any vote is requested, and gets the outcome as soon as there is
one. So an operation that was running when the Sentinel was restarted is known afterwards. Its end follows from the
address of the master: if that is the candidate within ``RESTORED_TIMEOUT``, it was done, without a receipt; otherwise
it failed.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.durable_records import MAX_RECORDS, DurableRecord, RecordKey, RecordKind
from txsentinel.core.instances import Master
from txsentinel.core.operations import MAX_AGE
from txsentinel.core.state import SentinelState
from txsentinel.core.switchover_state import Expectation, Operation, SwitchoverOrder
from txsentinel.model.operations import OperationState, Precondition, SwitchoverMethod
from txsentinel.model.timings import Millis
from txsentinel.wire.numbers import canonical_integer
from txsentinel.wire.resp import data

AUTO: Final = "auto"

RESTORED_TIMEOUT: Final[Millis] = 15_000
"""How long after a restart the new address may take to arrive; longer than writes are held."""

RESTARTED: Final = "leader_restarted"
"""The code of the end of an operation during which its Sentinel was restarted."""


MAX_TEXT: Final = 500
"""Number of characters of the problem that are saved."""


class OperationRecords:
    """Saves operations, and restores them after a restart."""

    def __init__(self, state: SentinelState) -> None:
        self._state = state
        self._wall_offset: Millis = 0

    def begun(self, operation: Operation, now: Millis) -> None:
        """Save an operation that begins; it begins a generation."""
        plan, order = operation.plan, operation.order
        if plan is None or len(self._state.records) >= MAX_RECORDS:
            return
        settings = [*order_settings(order), ("old", str(plan.old)), ("new", str(plan.candidate))]
        if order.key is not None:
            settings.append(("key", order.key))
        requested = now + self._wall_offset
        record = DurableRecord(
            RecordKey(RecordKind.OPERATION, order.master, order.operation_id),
            requested + MAX_AGE,
            requested,
            order.operation_id,
            order.by,
            order.comment or "",
            False,
            tuple(settings),
        )
        self._state.records.put(record, now + MAX_AGE)

    def restore(self, now: Millis, wall_now: Millis) -> None:
        """Restore what an earlier process has saved; the records were restored before."""
        for held in self._state.records.in_force(RecordKind.OPERATION, now):
            self._restore(held.record, now, wall_now)

    def evaluate(self, now: Millis, wall_now: Millis) -> None:
        """Save the ends of operations."""
        self._wall_offset = wall_now - now
        if not len(self._state.records):
            return
        known = self._state.operations.known
        for held in list(self._state.records.in_force(RecordKind.OPERATION, now)):
            operation = known.get(held.record.key.subject)
            if operation is not None and operation.ended and not held.record.setting("outcome"):
                self._ended(held.record, operation, now)

    def finish(self, master: Master, operation: Operation, now: Millis) -> None:
        """End an operation that was running when an earlier process ended, if its end is known."""
        assert operation.restored_at is not None
        host = master.published_address.announced(self._state.options.announce_hostnames)
        place = f"{host}:{master.published_address.port}"
        if operation.candidate == place:
            text = f"this Sentinel was restarted meanwhile, so there is no receipt; the master is {place}"
            self._state.operations.end(operation, OperationState.DONE, now, Precondition(RESTARTED, text))
        elif now >= operation.restored_at + RESTORED_TIMEOUT:
            text = f"this Sentinel was restarted meanwhile; the master is {place}"
            self._state.operations.end(operation, OperationState.FAILED, now, Precondition(RESTARTED, text))

    def _restore(self, record: DurableRecord, now: Millis, wall_now: Millis) -> None:
        operations = self._state.operations
        requested_at = now - max(wall_now - record.requested_unix, 0)
        outcome = next((each for each in OperationState if each.value == record.setting("outcome")), None)
        run = _number(record.setting("run"), 0)
        order = order_of(record, run or None)
        operation = Operation(order, requested_at, outcome or OperationState.RUNNING)
        operation.candidate = record.setting("new")
        operation.step(requested_at, "requested", f"requested by {record.by}")
        operation.step(now, "restored", "this Sentinel was restarted")
        if outcome is None:
            operation.restored_at = now
            operations.pending[order.master] = operation
        else:
            operation.ended_at = requested_at
            code, text = record.setting("code"), record.setting("text")
            operation.problem = Precondition(code, text) if code else None
        operations.known[order.operation_id] = operation

    def _ended(self, before: DurableRecord, operation: Operation, now: Millis) -> None:
        """Save the end of an operation."""
        settings = [*before.settings, ("outcome", operation.state.value)]
        if operation.problem is not None:
            settings += [("code", operation.problem.code), ("text", operation.problem.text[:MAX_TEXT])]
        record = DurableRecord(
            before.key,
            before.until_unix,
            before.requested_unix + 1,
            before.request_id,
            before.by,
            before.reason,
            False,
            tuple(settings),
        )
        held = self._state.records.get(before.key)
        assert held is not None
        self._state.records.put(record, held.until)


def order_settings(order: SwitchoverOrder) -> tuple[tuple[str, str], ...]:
    """Return the settings of the record of an order."""
    rows = [
        ("method", AUTO if order.method is None else order.method.value),
        ("timeout", str(order.timeout)),
        ("max-lag", str(order.max_lag)),
        ("max-pause", str(order.max_pause)),
    ]
    if order.at is not None:
        rows.append(("run", str(order.at)))
    if order.candidate is not None:
        rows.append(("to", f"{order.candidate[0]} {order.candidate[1]}"))
    if order.expect is not None:
        rows.append(("expect", f"{order.expect.host} {order.expect.port} {order.expect.epoch}"))
    return tuple(rows)


def order_of(record: DurableRecord, at: Millis | None) -> SwitchoverOrder:
    """
    Return the order of a record; what cannot be read in it is as if it had not been given.

    :param at: when to execute it.
    """
    default = SwitchoverOrder(record.request_id, record.key.master, record.by)
    to, expect = record.setting("to").split(), record.setting("expect").split()
    method = record.setting("method")
    return SwitchoverOrder(
        record.request_id,
        record.key.master,
        record.by,
        (to[0], _number(to[1], 0)) if len(to) == 2 else None,
        next((each for each in SwitchoverMethod if each.value == method), None),
        _number(record.setting("timeout"), default.timeout),
        _number(record.setting("max-lag"), default.max_lag),
        _number(record.setting("max-pause"), default.max_pause),
        False,
        record.reason or None,
        Expectation(expect[0], _number(expect[1], 0), _number(expect[2], 0)) if len(expect) == 3 else None,
        record.setting("key") or None,
        at,
    )


def _number(word: str, default: int) -> int:
    found = canonical_integer(data(word))
    return default if found is None else found
