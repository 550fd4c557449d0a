"""Tests of the limit on concurrent attempts to connect."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.interfaces import IHost
from txsentinel.links.attempts import MAX_UNDER_WAY, OUTCOME_PERIOD, ConnectThrottle
from txsentinel.model.timings import Millis


class ConnectThrottleTests(SynchronousTestCase):
    """Attempts do not begin faster than their outcomes are processed."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.received: Millis | None = None
        host: Any = SimpleNamespace(reactor=self.clock, now=lambda: round(self.clock.seconds() * 1000))
        self.throttle = ConnectThrottle(cast("IHost", host), self.received_until)
        self.begun: list[int] = []

    def received_until(self, now: Millis) -> Millis:
        return now if self.received is None else self.received

    def begin(self, count: int) -> None:
        """Begin so many attempts, numbered from 0."""
        for number in range(count):
            self.throttle.begin(number, partial(self.begun.append, number))

    def test_few_begin_at_once(self) -> None:
        """Up to the limit no attempt waits."""
        self.begin(MAX_UNDER_WAY)
        self.assertEqual(len(self.begun), MAX_UNDER_WAY)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_outcome_starts_the_next_attempt(self) -> None:
        """Each outcome begins the attempt that has waited longest."""
        self.begin(MAX_UNDER_WAY + 2)
        self.throttle.end(5)
        self.assertEqual(self.begun[MAX_UNDER_WAY:], [MAX_UNDER_WAY])

    def test_attempts_without_outcome_expire(self) -> None:
        """An attempt without an outcome no longer counts when all input of its period has been read."""
        self.begin(MAX_UNDER_WAY + 2)
        self.clock.pump([OUTCOME_PERIOD / 1000 + 0.001] * 2)
        self.assertEqual(len(self.begun), MAX_UNDER_WAY + 2)

    def test_nothing_was_read(self) -> None:
        """A process that has read nothing since the attempts began begins no further ones, however late it is."""
        self.received = 0
        self.begin(MAX_UNDER_WAY + 2)
        self.clock.pump([1.0] * 60)
        self.assertEqual(len(self.begun), MAX_UNDER_WAY)
        self.received = None
        self.clock.advance(1.0)
        self.assertEqual(len(self.begun), MAX_UNDER_WAY + 2)

    def test_cancelled_while_waiting(self) -> None:
        """A cancelled attempt does not begin."""
        self.begin(MAX_UNDER_WAY + 2)
        self.throttle.end(MAX_UNDER_WAY)
        self.throttle.end(0)
        self.assertEqual(self.begun[MAX_UNDER_WAY:], [MAX_UNDER_WAY + 1])
