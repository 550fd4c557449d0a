"""Tests of the clock whose calls share the wake-ups of others."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, LoopingCall
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.reactor.priority import PriorityReactor
from txsentinel.reactor.slack import EARLY_SECONDS, NEVER, ROUNDING, SLACK_SECONDS


class SlackTests(SynchronousTestCase):
    """Tests of calls on a slack clock and of others on the reactor."""

    def setUp(self) -> None:
        """Build a reactor with a slack clock."""
        self.clock = Clock()
        self.reactor = PriorityReactor(self.clock)
        self.slack = self.reactor.slack_clock
        self.made: list[tuple[float, str]] = []

    def note(self, name: str) -> None:
        """Record a call."""
        self.made.append((self.clock.seconds(), name))

    def advance(self, seconds: float) -> None:
        """Let time pass; the second step is that of a reactor, which polls again after a call that is due at once."""
        self.clock.advance(seconds)
        self.clock.advance(0)

    def test_made_with_another_call(self) -> None:
        """A call that is due is made when the reactor makes another one, and not before."""
        self.slack.callLater(0.5, self.note, "late")
        self.reactor.callLater(0.4, self.note, "before")
        self.reactor.callLater(0.9, self.note, "after")
        for _ in range(10):
            self.advance(0.1)
        self.assertEqual([name for _, name in self.made], ["before", "after", "late"])
        self.assertEqual(self.made[2][0], self.made[1][0])

    def test_after_the_slack(self) -> None:
        """Without any other call it is made after the slack."""
        self.slack.callLater(0.5, self.note, "late")
        self.advance(0.5 + SLACK_SECONDS - 0.01)
        self.assertEqual(self.made, [])
        self.advance(0.02)
        self.assertEqual(len(self.made), 1)

    def test_cancelled(self) -> None:
        """A cancelled call is not made, and nothing is due any more."""
        later = self.slack.callLater(0.5, self.note, "never")
        later.cancel()
        self.reactor.callLater(0.6, self.note, "other")
        self.advance(5.0)
        self.assertEqual([name for _, name in self.made], ["other"])
        self.assertEqual((self.slack.due, self.slack.getDelayedCalls()), (NEVER, []))

    def test_periods_of_one_length(self) -> None:
        """A loop with the period of another wakes the reactor up never again, and is called as often."""
        sweeps, checks = LoopingCall(self.note, "sweep"), LoopingCall(self.note, "check")
        sweeps.clock, checks.clock = cast(IReactorTime, self.reactor), self.slack
        sweeps.start(1.0, now=False)
        self.advance(EARLY_SECONDS / 2)
        checks.start(1.0, now=False)
        while self.clock.seconds() < 20:
            self.advance(0.001)
        self.assertGreaterEqual(len(self.made), 38)
        self.assertEqual([name for _, name in self.made[:38]], ["sweep", "check"] * 19)
        for (swept, _), (checked, _) in zip(self.made[::2], self.made[1::2], strict=False):
            self.assertAlmostEqual(swept, checked)

    def test_a_call_that_is_early(self) -> None:
        """During a call that is early the clock shows when it was due, and afterwards the time of the reactor."""
        shown: list[float] = []
        self.slack.callLater(0.51, lambda: shown.append(self.slack.seconds()))
        self.reactor.callLater(0.5, self.note, "other")
        self.advance(0.5)
        self.assertEqual((shown, self.slack.seconds()), ([0.51 + ROUNDING], 0.5))
