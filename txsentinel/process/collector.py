"""
The garbage collector, kept from holding everything up.

Python looks through all that lives whenever enough was made since the last time. A Sentinel with a thousand masters has
a few hundred thousand objects that live for months, and looking through them takes a tenth of a second in which no
client is answered. So what has lived for a while is taken out of the collector's sight, time and again, and put back
only when much has gathered there.

The count by which Python decides when to look is no measure of how much there will be to look through: whatever is
freed that the collector does not see any more is subtracted as well. In storms, where old objects make way for new
ones, fifty thousand were found for a count of five thousand, in thirty milliseconds. So the period is short.
"""

from __future__ import annotations

import gc
from typing import Final

from twisted.application.internet import TimerService
from twisted.internet.interfaces import IReactorTime

PERIOD: Final = 0.1
"""Seconds between two looks. What is found to live is spared from then on."""

YOUNG: Final = 10_000
"""Objects made, less those freed, that make Python look through the young ones."""


REFREEZE_COLLECTIONS: Final = 600
"""Looks after which is seen how many are spared by now: once a minute."""

GROWTH: Final = 1.5
"""How many times as many must be spared as after the last review for all of them to be looked through again."""


class Collector:
    """
    Looks for garbage among what was made lately, and spares the rest.

    What is spared and dies later is freed as long as nothing holds itself in a circle; what does is found in a review,
    which takes a tenth of a second with a thousand masters and is therefore only made once many more are spared.
    """

    def __init__(self) -> None:
        self._collections = 0
        self._kept = 0
        """How many were spared after the last review, or when the first would have been due."""

    def collect(self) -> None:
        """Free what is unreachable among all that was made since the last time, and spare the rest."""
        gc.collect()
        gc.freeze()
        self._collections += 1
        if self._collections % REFREEZE_COLLECTIONS:
            return
        if not self._kept:
            # What came with the start will hardly die; and a minute after it is when a storm may well be tried.
            self._kept = gc.get_freeze_count()
        elif gc.get_freeze_count() > self._kept * GROWTH:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._kept = gc.get_freeze_count()


def frozen_collector(clock: IReactorTime) -> TimerService:
    """A service that spares survivors once a ``PERIOD``, and for the first time when it starts."""
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    service = TimerService(PERIOD, Collector().collect)  # type: ignore[no-untyped-call]
    service.clock = clock
    return service
