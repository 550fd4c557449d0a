"""Priority queue of evaluation deadlines. Evaluating early is harmless; evaluating late is a bug."""

from __future__ import annotations

from heapq import heappop, heappush

from txsentinel.core.instances import Instance
from txsentinel.model.timings import Millis


class DueQueue:
    """
    Instances by deadline. Each has one valid entry, at ``instance.due``; entries with one deadline are in FIFO order.

    Distinct deadlines are few, as probes are aligned to a grid, so the heap contains deadlines and not instances.
    Rescheduling leaves a stale entry behind, which is dropped when its deadline comes.
    """

    def __init__(self) -> None:
        self._deadlines: list[Millis] = []
        self._entries: dict[Millis, list[Instance]] = {}
        """By deadline; has the same deadlines as the heap, and no empty lists."""

        self.brought_forward = False
        """Whether an instance was scheduled before all others. The sweeper resets it after acting on it."""

    def __len__(self) -> int:
        """Return the number of entries, including stale ones."""
        return sum(len(entries) for entries in self._entries.values())

    def schedule(self, instance: Instance, due: Millis) -> None:
        """Have ``instance`` evaluated by ``due`` at the latest; an earlier deadline of it stays in force."""
        if instance.due is None or due < instance.due:
            instance.due = due
            others = self._entries.get(due)
            if others is not None:
                others.append(instance)
                return
            self._entries[due] = [instance]
            heappush(self._deadlines, due)
            if self._deadlines[0] == due:
                self.brought_forward = True

    def forget(self, instance: Instance) -> None:
        """Cancel the deadline of ``instance``; its entry becomes stale."""
        instance.due = None

    def take_due(self, now: Millis, maximum: int | None = None) -> list[Instance]:
        """
        Remove and return the instances due by ``now``, earliest first, at most ``maximum`` of them.

        The caller must reschedule each. Instances scheduled for ``now`` meanwhile are returned by the next call.
        """
        ready: list[Instance] = []
        deadlines = self._deadlines
        while deadlines and deadlines[0] <= now:
            deadline = deadlines[0]
            entries = self._entries[deadline]
            for position, instance in enumerate(entries):
                if maximum is not None and len(ready) >= maximum:
                    del entries[:position]
                    return ready
                if instance.due == deadline:
                    instance.due = None
                    ready.append(instance)
            heappop(deadlines)
            del self._entries[deadline]
        return ready

    @property
    def next_due(self) -> Millis | None:
        """The earliest deadline, or ``None`` if no instance is scheduled."""
        deadlines = self._deadlines
        while deadlines:
            deadline = deadlines[0]
            entries = self._entries[deadline]
            for position, instance in enumerate(entries):
                if instance.due == deadline:
                    if position:
                        del entries[:position]
                    return deadline
            heappop(deadlines)
            del self._entries[deadline]
        return None
