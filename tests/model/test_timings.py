"""The conversion of points in time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.timings import wall_offset


class WallOffsetTests(SynchronousTestCase):
    """``wall_offset``."""

    def test_constant(self) -> None:
        """It does not depend on when the clocks are read, so that an event has the same time in every answer."""
        microseconds = range(5_000_000, 5_004_000, 37)
        found = {wall_offset((1_795_240_000_123_400 + each) / 1e6, each / 1e6) for each in microseconds}
        self.assertEqual(found, {1_795_240_000_123})
