"""A short run of each part of ``make hardening``."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.hardening import churn, commands, crashes, stalls


class HardeningTests(SynchronousTestCase):
    """One Sentinel of ours each."""

    if not sys.platform.startswith("linux"):
        skip = "looks at processes as Linux shows them"

    def test_random_commands(self) -> None:
        """Each request is answered or its connection closed, nothing raises, and operators are served to the end."""
        figures = commands.run("txsentinel", 2_000, seed=20261130)
        self.assertEqual(figures.tracebacks, 0)
        self.assertGreater(figures.answered_batches, 10)

    def test_kills(self) -> None:
        """No acknowledged change is lost."""
        figures = crashes.run("txsentinel", 4, seed=7)
        self.assertEqual(figures.lost, [])
        self.assertGreater(figures.acknowledged, 0)

    def test_churn(self) -> None:
        """Some hundred clients leave no descriptors behind."""
        figures = churn.run("txsentinel", 3.0, seed=3, connections=100)
        self.assertGreaterEqual(figures.connections, 100)
        self.assertLessEqual(figures.descriptors_last, figures.descriptors_first + 5)

    def test_long_requests(self) -> None:
        """They are answered, and TILT is not entered meanwhile."""
        names = frozenset({"UNSUBSCRIBE a a ...", "CLIENT LIST ID 1 ID 1 ..."})
        for figures in stalls.run("txsentinel", 50_000, names):
            self.assertTrue(figures.answered, figures)
            self.assertFalse(figures.tilt, figures)
            self.assertLess(figures.grown_megabytes, 30, figures)
