"""Limits of how long work may take in one reactor turn before other work has its turn."""

from __future__ import annotations

from collections.abc import Callable


class TimeSlice:
    """
    A period that begins with its creation.

    :param clock: returns the present time in any unit.
    :param length: the length of the period in the same unit.
    """

    __slots__ = ("_clock", "_end")

    def __init__(self, clock: Callable[[], float], length: float) -> None:
        self._clock = clock
        self._end = clock() + length

    def over(self) -> bool:
        """Whether more time than ``length`` has passed."""
        return self._clock() > self._end
