"""The operations that this Sentinel executes or has executed, for as long as their callers may ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txsentinel.core.instances import InstanceLink
from txsentinel.core.switchover_state import Operation
from txsentinel.model.operations import OperationState, Precondition
from txsentinel.model.timings import Millis

MAX_AGE: Final[Millis] = 24 * 3_600_000
"""How long an operation that ended is kept: until then a request with its idempotency key starts no other one."""

MAX_ENDED: Final = 1_000
"""Number of operations that ended and are kept."""


class Operations:
    """All operations by their IDs, oldest first."""

    def __init__(self) -> None:
        self.known: dict[str, Operation] = {}
        self.pending: dict[str, Operation] = {}
        """Name of a master → its operation that has not ended."""

        self.scheduled: dict[str, Operation] = {}
        """Those that wait for their time, by ID."""

        self.held_elsewhere: dict[InstanceLink, None] = {}
        """The servers whose writes another Sentinel may hold."""

        self._checked: dict[str, list[Callable[[], None]]] = {}
        """ID → what is called when the conditions were tested."""

    def add(self, operation: Operation, now: Millis) -> None:
        """Add an operation that was just ordered."""
        self._discard_old(now)
        self.known[operation.order.operation_id] = operation
        self.pending[operation.order.master] = operation

    def by_key(self, key: str, now: Millis) -> Operation | None:
        """Return the operation that was ordered with this idempotency key."""
        self._discard_old(now)
        return next((each for each in self.known.values() if each.order.key == key), None)

    def when_checked(self, operation: Operation, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the conditions of ``operation`` were tested; at once if they were."""
        if operation.state is OperationState.CHECKING:
            self._checked.setdefault(operation.order.operation_id, []).append(callback)
        else:
            callback()

    def checked(self, operation: Operation) -> None:
        """Call those that wait for the test of the conditions."""
        for callback in self._checked.pop(operation.order.operation_id, ()):
            callback()

    def end(self, operation: Operation, state: OperationState, now: Millis, problem: Precondition | None) -> None:
        """Record the end of an operation."""
        if operation.ended:
            return
        operation.state, operation.problem, operation.ended_at = state, problem, now
        if problem is not None:
            operation.step(now, state.value, problem.text)
        if self.pending.get(operation.order.master) is operation:
            del self.pending[operation.order.master]
        self.checked(operation)

    def _discard_old(self, now: Millis) -> None:
        ended = [each for each in self.known.values() if each.ended_at is not None]
        surplus = len(ended) - MAX_ENDED
        for position, each in enumerate(ended):
            assert each.ended_at is not None
            if position < surplus or now - each.ended_at > MAX_AGE:
                del self.known[each.order.operation_id]
