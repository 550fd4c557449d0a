"""
The garbage collector, kept from holding everything up.

Python looks through all that lives whenever enough was made since the last time. A Sentinel with a thousand masters has
a few hundred thousand objects that live for months, and looking through them takes a tenth of a second in which no
client is answered. So what has lived for a while is taken out of the collector's sight, time and again.

The count by which Python decides when to look is no measure of how much there will be to look through: whatever is
freed that the collector does not see any more is subtracted as well. In storms, where old objects make way for new
ones, fifty thousand were found for a count of five thousand, in thirty milliseconds. So the period is short.
"""

from __future__ import annotations

import gc
from typing import Final

from twisted.application.internet import TimerService
from twisted.internet.interfaces import IReactorTime

PERIOD: Final = 0.25
"""Seconds between two looks. What is found to live is not looked at again."""

YOUNG: Final = 5_000
"""Objects made, less those freed, that make Python look through the young ones."""


def retire_survivors() -> None:
    """Free what is unreachable among all that was made since the last time, and spare the rest for ever."""
    gc.collect()
    gc.freeze()


def spared_long_lived(clock: IReactorTime) -> TimerService:
    """A service that retires survivors once a ``PERIOD``, and for the first time when it starts."""
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    service = TimerService(PERIOD, retire_survivors)  # type: ignore[no-untyped-call]
    service.clock = clock
    return service
