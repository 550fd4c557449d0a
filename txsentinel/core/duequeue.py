"""Who must be looked at by when. Early is harmless, late is a bug."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from txsentinel.core.instances import Instance
from txsentinel.timings import Millis


class DueQueue:
    """
    A heap of ``(due, sequence, instance)`` in which an instance counts once, at ``instance.due``.

    Rescheduling leaves the old entry behind; it is recognised and dropped when it comes up.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Millis, int, Instance]] = []
        self._sequence = 0
        self.brought_forward = False
        """Has somebody come in front of everybody else? Whoever acts upon it takes it back."""

    def schedule(self, instance: Instance, due: Millis) -> None:
        """Look at ``instance`` by ``due`` at the latest; an earlier date that it has already stands."""
        if instance.due is None or due < instance.due:
            instance.due = due
            self._sequence += 1
            heappush(self._heap, (due, self._sequence, instance))
            if self._heap[0][2] is instance:
                self.brought_forward = True

    def forget(self, instance: Instance) -> None:
        """The instance is gone; its entry goes when it comes up."""
        instance.due = None

    def take_due(self, now: Millis, most: int | None = None) -> Iterator[Instance]:
        """
        Those due by ``now``, earliest first, each at most once; no more than ``most``, if that is given.

        The caller reschedules each of them; what it schedules for ``now`` comes up next time.
        """
        heap = self._heap
        ready: list[Instance] = []
        while heap and heap[0][0] <= now and (most is None or len(ready) < most):
            due, _, instance = heappop(heap)
            if instance.due == due:
                instance.due = None
                ready.append(instance)
        return iter(ready)

    @property
    def next_due(self) -> Millis | None:
        """When the next visit is due, or ``None`` if nobody waits."""
        heap = self._heap
        while heap and heap[0][2].due != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None
