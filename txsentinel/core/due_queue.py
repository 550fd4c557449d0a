"""Who must be looked at by when. Early is harmless, late is a bug."""

from __future__ import annotations

from heapq import heappop, heappush

from txsentinel.core.instances import Instance
from txsentinel.model.timings import Millis


class DueQueue:
    """
    Instances by date, each of which counts once, at ``instance.due``; those of one date in the order of their coming.

    Dates are few, as probes keep to a grid, so it is they who are in a heap. Rescheduling leaves the old entry behind;
    it is recognised and dropped when it comes up.
    """

    def __init__(self) -> None:
        self._dates: list[Millis] = []
        self._agenda: dict[Millis, list[Instance]] = {}
        """By date; of the same dates as the heap, and never empty."""

        self.brought_forward = False
        """Has somebody come in front of everybody else? Whoever acts upon it takes it back."""

    def __len__(self) -> int:
        """How many entries there are, those left behind included."""
        return sum(len(entries) for entries in self._agenda.values())

    def schedule(self, instance: Instance, due: Millis) -> None:
        """Look at ``instance`` by ``due`` at the latest; an earlier date that it has already stands."""
        if instance.due is None or due < instance.due:
            instance.due = due
            others = self._agenda.get(due)
            if others is not None:
                others.append(instance)
                return
            self._agenda[due] = [instance]
            heappush(self._dates, due)
            if self._dates[0] == due:
                self.brought_forward = True

    def forget(self, instance: Instance) -> None:
        """The instance is gone; its entry goes when it comes up."""
        instance.due = None

    def take_due(self, now: Millis, most: int | None = None) -> list[Instance]:
        """
        Those due by ``now``, earliest first, each at most once; no more than ``most``, if that is given.

        The caller reschedules each of them; what it schedules for ``now`` comes up next time.
        """
        ready: list[Instance] = []
        dates = self._dates
        while dates and dates[0] <= now:
            date = dates[0]
            entries = self._agenda[date]
            for position, instance in enumerate(entries):
                if most is not None and len(ready) >= most:
                    del entries[:position]
                    return ready
                if instance.due == date:
                    instance.due = None
                    ready.append(instance)
            heappop(dates)
            del self._agenda[date]
        return ready

    @property
    def next_due(self) -> Millis | None:
        """When the next visit is due, or ``None`` if nobody waits."""
        dates = self._dates
        while dates:
            date = dates[0]
            entries = self._agenda[date]
            for position, instance in enumerate(entries):
                if instance.due == date:
                    if position:
                        del entries[:position]
                    return date
            heappop(dates)
            del self._agenda[date]
        return None
