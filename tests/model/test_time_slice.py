"""Tests of ``txsentinel.model.time_slice``."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.time_slice import TimeSlice


class TimeSliceTests(SynchronousTestCase):
    """A period of a clock."""

    def test_ends_after_its_length(self) -> None:
        """It is over once more time than its length has passed since its creation."""
        clock = Clock()
        clock.advance(1000.0)
        time_slice = TimeSlice(clock.seconds, 0.25)
        for passed, over in ((0.0, False), (0.25, False), (0.25, True), (1.0, True)):
            clock.advance(passed)
            self.assertIs(time_slice.over(), over)

    def test_milliseconds(self) -> None:
        """The clock and the length share any unit; whole milliseconds are not rounded."""
        now = [(1 << 53) - 10]
        time_slice = TimeSlice(lambda: now[0], 5)
        now[0] += 5
        self.assertFalse(time_slice.over())
        now[0] += 1
        self.assertTrue(time_slice.over())
