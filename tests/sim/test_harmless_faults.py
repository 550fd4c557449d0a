"""Faults that are no failures of servers in simulated fleets: nothing is taken for down because of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.faults import draw_plan
from txsentinel.sim.run import Run


class HarmlessFaultTests(SynchronousTestCase):
    """Whole runs of seeds."""

    def run_seeds(self, first: int, last: int, *kinds: str) -> list[str]:
        """Return the text of all log lines of the runs, in which nothing may be violated."""
        lines = []
        for seed in range(first, last + 1):
            outcome = Run(seed, 60.0, draw_plan(seed, 60.0, kinds)).all()
            self.assertEqual(outcome.wrong, [], seed)
            lines += [line.text for line in outcome.lines]
        return lines

    def test_refused_sentinels(self) -> None:
        """Servers that answer the Sentinels with errors are not S_DOWN, also if down-after is short."""
        lines = self.run_seeds(7, 9, "refuse-sentinels") + self.run_seeds(29, 29, "refuse-sentinels")
        self.assertTrue(any("is not considered down" in text for text in lines))

    def test_starved_sentinels(self) -> None:
        """A Sentinel that waits for a processor is in TILT only after thirty seconds."""
        lines = self.run_seeds(25, 27, "starve-sentinel")
        self.assertTrue(any("No TILT: " in text for text in lines))

    def test_among_crashes(self) -> None:
        """Both, while servers crash."""
        self.run_seeds(1, 4, "refuse-sentinels", "starve-sentinel", "kill-server")
