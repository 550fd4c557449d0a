"""The benchmarks with simulated instances, small: they run, and their results are correct."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import mass_failure, start
from benchmarks.installation import Installation

COMMAND = ["txsentinel"] * 3


class SmallMassFailureTests(SynchronousTestCase):
    """A few masters, three Sentinels of ours."""

    def test_mass_failure(self) -> None:
        """All failed masters are replaced once, all Sentinels agree, and the curve contains each one."""
        self.patch(mass_failure, "AFTERSHOCK_SECONDS", 0.5)
        failure = mass_failure.MassFailure(masters=6, victims=3, down_after=1000, fault="die")
        with Installation(COMMAND, failure.masters, down_after=failure.down_after) as installation:
            installation.start()
            installation.wait_stable(60, stable_seconds=0.5, every=0.2)
            outcome = mass_failure.sample(installation, failure, timeout=60)
        figures = outcome["figures"]
        self.assertEqual((figures["not_promoted"], figures["not_agreed"], outcome["disagreements"]), ([0], [0], 0))
        self.assertEqual([count for _, count in outcome["promoted"]], [1, 2, 3])
        self.assertLessEqual(figures["promoted_last"][0], figures["agreed_last"][0])
        self.assertGreater(figures["promoted_first"][0], failure.down_after)
        self.assertEqual(len(figures["slowest_answer"]), 3)
        self.assertGreater(min(figures["writes"]), 0)

    def test_start(self) -> None:
        """Every Sentinel discovers every replica and every peer from the masters alone."""
        with Installation(COMMAND, 4, acquainted=False) as installation:
            found = start.sample(installation, timeout=60)
        self.assertEqual((len(found["known"]), found["not done"]), (3, 0))
