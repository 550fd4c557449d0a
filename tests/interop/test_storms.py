"""The benchmarks over stand-ins, small: that they run, and that what they tell is true."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import start, storm
from benchmarks.installation import Installation

OURS = ["txsentinel"] * 3


class SmallStormTests(SynchronousTestCase):
    """A few masters, three Sentinels of ours."""

    def test_storm(self) -> None:
        """All victims are promoted once, all Sentinels agree, and the curve tells of every one."""
        self.patch(storm, "AFTERSHOCK_SECONDS", 0.5)
        happened = storm.Storm(masters=6, victims=3, down_after=1000, fault="die")
        with Installation(OURS, happened.masters, down_after=happened.down_after) as installation:
            installation.start()
            installation.settle(60, calm_seconds=0.5, every=0.2)
            outcome = storm.sample(installation, happened, timeout=60)
        figures = outcome["figures"]
        self.assertEqual((figures["not_promoted"], figures["not_agreed"], outcome["disagreements"]), ([0], [0], 0))
        self.assertEqual([count for _, count in outcome["promoted"]], [1, 2, 3])
        self.assertLessEqual(figures["promoted_last"][0], figures["agreed_last"][0])
        self.assertGreater(figures["promoted_first"][0], happened.down_after)
        self.assertEqual(len(figures["slowest_answer"]), 3)
        self.assertGreater(min(figures["writes"]), 0)

    def test_start(self) -> None:
        """Every Sentinel comes to know every replica and every peer, from the masters alone."""
        with Installation(OURS, 4, acquainted=False) as installation:
            found = start.sample(installation, timeout=60)
        self.assertEqual((len(found["known"]), found["not done"]), (3, 0))
