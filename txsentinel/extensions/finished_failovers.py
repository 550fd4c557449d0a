"""Finds finished failovers in the history of a Sentinel, for extensions that report them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from txsentinel.interfaces import ISentinelView
    from txsentinel.model.history import FailoverRecord
    from txsentinel.model.snapshots import ViewChange

ENDS: Final = "+switch-master", "+failover-end", "-failover-abort-"
"""The beginnings of the channels whose events announce a record."""

INTERVAL: Final = 0.25
"""Seconds between two looks at the history after such an event."""

PERIOD: Final = 15.0
"""Seconds after the latest such event in which a record may appear; a lost campaign has its record after ten."""

MAX_RECORDS: Final = 200


class FinishedFailovers:
    """
    Calls ``finished`` once with each failover that ends while this runs.

    The history is looked at only for some seconds after an event that ends a failover.
    """

    def __init__(self, reactor: IReactorTime, view: ISentinelView, finished: Callable[[FailoverRecord], None]) -> None:
        self._reactor = reactor
        self._view = view
        self._finished = finished
        self._unsubscribe: Callable[[], None] | None = None
        self._call: IDelayedCall | None = None
        self._until = 0.0
        self._known: set[str] = set()
        """The IDs of the records that were seen and are still in the history."""

    def start(self) -> None:
        """Begin. What ended before the start of the Sentinel, and is read from its file, is not reported."""
        self._unsubscribe = self._view.subscribe(self._changed, changes=False)

    def stop(self) -> None:
        """Stop, after a last look."""
        if self._unsubscribe is None:
            return
        self._unsubscribe()
        self._unsubscribe = None
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._look()

    def _changed(self, change: ViewChange) -> None:
        if change.event is not None and change.event.channel.startswith(ENDS):
            self._until = self._reactor.seconds() + PERIOD
            if self._call is None:
                self._call = self._reactor.callLater(INTERVAL, self._check)

    def _check(self) -> None:
        self._call = None
        self._look()
        if self._reactor.seconds() < self._until:
            self._call = self._reactor.callLater(INTERVAL, self._check)

    def _look(self) -> None:
        records = self._view.history(None, MAX_RECORDS)
        new = [each for each in records if each.record_id not in self._known]
        self._known = {each.record_id for each in records}
        started = self._view.identity().started_at
        for record in reversed(new):
            if record.phases and record.phases[-1].at >= started:
                self._finished(record)
