"""Tests of the rate limits for log lines that others can provoke."""

from __future__ import annotations

from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.log_events import observe_log
from txsentinel.model.log_throttle import (
    MAX_KINDS,
    MAX_LINES,
    THROTTLE_PERIOD,
    DistinctLineThrottle,
    LogThrottle,
)


class LogThrottleTests(SynchronousTestCase):
    """Lines of few kinds, which many clients cause."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        observe_log(self, lambda event: self.lines.append(formatEvent(event)))
        self.throttle = LogThrottle()

    def allowed(self, kind: str, now: int, times: int) -> int:
        """Return how many of so many lines of a kind are allowed."""
        return sum(self.throttle.allow(kind, now) for _ in range(times))

    def test_a_limit_per_kind(self) -> None:
        """Each kind has a limit of its own."""
        self.assertEqual(self.allowed("a", 0, MAX_LINES), MAX_LINES)
        self.assertEqual((self.allowed("a", 0, 3), self.allowed("b", 0, 3)), (0, 3))

    def test_the_next_period(self) -> None:
        """The period of a kind begins with its first line; then as many lines are allowed again."""
        self.assertEqual(self.allowed("a", 7, 1 + MAX_LINES), MAX_LINES)
        self.assertEqual(self.allowed("a", 7 + THROTTLE_PERIOD - 1, 1), 0)
        self.assertEqual(self.lines, [])
        self.assertEqual(self.allowed("a", 7 + THROTTLE_PERIOD, 1 + MAX_LINES), MAX_LINES)
        self.assertEqual(self.lines, ["2 more lines were left out like: a"])

    def test_the_number_of_suppressed_lines(self) -> None:
        """It is logged once after the period, also if no other line of the kind follows."""
        self.allowed("a", 0, MAX_LINES + 5)
        self.allowed("b", 0, MAX_LINES)
        self.throttle.flush(THROTTLE_PERIOD - 1)
        self.assertEqual(self.lines, [])
        self.throttle.flush(THROTTLE_PERIOD)
        self.throttle.flush(THROTTLE_PERIOD)
        self.throttle.flush(2 * THROTTLE_PERIOD)
        self.assertEqual(self.lines, ["5 more lines were left out like: a"])
        self.assertEqual(self.allowed("a", 2 * THROTTLE_PERIOD, MAX_LINES + 1), MAX_LINES)

    def test_kinds_are_limited(self) -> None:
        """Beyond the maximum number of kinds the oldest one is discarded, and no other."""
        self.allowed("oldest", 0, MAX_LINES)
        self.allowed("second", 0, MAX_LINES)
        for number in range(MAX_KINDS - 2):
            self.allowed(str(number), 0, 1)
        self.assertEqual(self.allowed("oldest", 0, 1), 0)
        self.allowed("new", 0, 1)
        self.assertEqual((self.allowed("second", 0, 1), self.allowed("oldest", 0, 1)), (0, 1))

    def test_warn(self) -> None:
        """The format is the kind, whatever the values are; the values are not formatted again."""
        for number in range(MAX_LINES + 1):
            self.throttle.warn(0, "from {who}", who=f"{{client}} {number}")
        self.assertEqual(self.lines, [f"from {{client}} {number}" for number in range(MAX_LINES)])


class DistinctLineThrottleTests(SynchronousTestCase):
    """Conditions of one peer, which stay as they are for days."""

    def setUp(self) -> None:
        self.throttle = DistinctLineThrottle(3)

    def allowed(self, now: int, *lines: str) -> list[str]:
        """Return those of the lines that are allowed."""
        return [line for line in lines if self.throttle.allow(line, now)]

    def test_each_line_once(self) -> None:
        """A line is allowed once in a period."""
        self.assertEqual(self.allowed(0, "a", "a", "b", "a", "b"), ["a", "b"])
        self.assertEqual(self.allowed(THROTTLE_PERIOD - 1, "a"), [])
        self.assertEqual(self.allowed(THROTTLE_PERIOD, "a", "a"), ["a"])

    def test_the_limit(self) -> None:
        """Only so many lines are allowed in a period; a refused line does not count as logged."""
        self.assertEqual(self.allowed(0, *"abcde"), ["a", "b", "c"])
        self.assertEqual(self.allowed(THROTTLE_PERIOD, *"defg"), ["d", "e", "f"])

    def test_the_condition_ends(self) -> None:
        """After a reset the line is allowed again within the limit; an unknown line can be reset, too."""
        self.throttle.reset("a")
        self.assertEqual(self.allowed(0, "a", "b"), ["a", "b"])
        self.throttle.reset("a")
        self.assertEqual(self.allowed(0, "a", "b"), ["a"])
        self.throttle.reset("a")
        self.assertEqual(self.allowed(0, "a"), [])
