"""
Garbage collection without long pauses.

Python's collector traverses all objects whenever enough objects were allocated. A Sentinel with a thousand masters has
a few hundred thousand objects that live for months; traversing them takes a tenth of a second, in which no client is
answered. Objects that survive a collection are therefore frozen (``gc.freeze``) periodically, which excludes them from
collection, and unfrozen only when many more have been frozen.

The allocation count by which Python starts a collection does not measure its cost, because it is also reduced by the
deallocation of frozen objects. In mass failures, where new objects replace old ones, a collection at a count of five
thousand traversed fifty thousand objects, in thirty milliseconds. Hence the short period.
"""

from __future__ import annotations

import gc
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

PERIOD: Final = 0.1
"""Seconds between two collections, at least: a process that sleeps is not woken up for one. Survivors are frozen."""

ALLOCATION_THRESHOLD: Final = 10_000
"""Allocations less deallocations after which Python collects the youngest generation."""


REFREEZE_COLLECTIONS: Final = 600
"""Number of collections between two checks whether to unfreeze: once a minute under load."""

GROWTH: Final = 1.5
"""Growth of the number of frozen objects since the last full collection at which the next one is made."""


class Collector:
    """
    Collects garbage among recent objects, and freezes the survivors.

    Frozen objects are freed by reference counting. Cycles among them are found by a full collection, which takes a
    tenth of a second with a thousand masters and is therefore made only when many more objects are frozen.
    """

    def __init__(self) -> None:
        self._collections = 0
        self._frozen_before = 0
        """The number of frozen objects after the last full collection, or at the first check."""

    def collect(self) -> None:
        """Free the unreachable objects among those made since the last call, and freeze the others."""
        gc.collect()
        gc.freeze()
        self._collections += 1
        if self._collections % REFREEZE_COLLECTIONS:
            return
        if not self._frozen_before:
            # Objects of the start are rarely freed, and a full collection would fall into the first minute of load.
            self._frozen_before = gc.get_freeze_count()
        elif gc.get_freeze_count() > self._frozen_before * GROWTH:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._frozen_before = gc.get_freeze_count()


class CollectorService(Service):
    """
    Collects and freezes when it starts and then every ``PERIOD`` seconds.

    ``TimerService`` would do, too, but comes with all that Twisted has for clients that reconnect.

    :param clock: may make its calls late.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._loop = LoopingCall(Collector().collect)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(PERIOD)

    def stopService(self) -> None:
        """End."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._loop.stop()


def frozen_collector(clock: IReactorTime) -> CollectorService:
    """Return the service, and have Python itself collect less often."""
    gc.set_threshold(ALLOCATION_THRESHOLD, *gc.get_threshold()[1:])
    return CollectorService(clock)
