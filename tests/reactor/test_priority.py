"""Tests of the priority reactor: polls between calls, and nested polls where a call yields."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.reactor.priority import GAP_SECONDS, PriorityReactor


class ThreadedClock(Clock):
    """A clock that makes calls from threads at once."""

    def callFromThread(self, call: object, *arguments: object, **named: object) -> None:
        """Call it."""
        assert callable(call)
        call(*arguments, **named)


class PollTests(SynchronousTestCase):
    """Tests of the times of polls."""

    def setUp(self) -> None:
        """Build a reactor that records one letter for each call and a dash for each poll."""
        self.clock = ThreadedClock()
        self.reactor = PriorityReactor(self.clock)
        self.done = ""
        self.reactor.set_priority_poll(self.poll)

    def poll(self) -> None:
        """Note it."""
        self.done += "-"

    def work(self, letter: str, takes: float = 0.0) -> None:
        """Take so many seconds."""
        self.clock.rightNow += takes
        self.done += letter

    def turn(self) -> None:
        """All calls that are due."""
        self.clock.advance(0)

    def test_after_a_long_call(self) -> None:
        """A long call is followed by a poll before the next call."""
        self.reactor.callLater(0, self.work, "a", takes=2 * GAP_SECONDS)
        self.reactor.callLater(0, self.work, "b")
        self.turn()
        self.assertEqual(self.done, "a-b")

    def test_after_many_short_calls(self) -> None:
        """Short calls add up; each poll resets the sum."""
        for letter in "abcdefgh":
            self.reactor.callLater(0, self.work, letter, GAP_SECONDS * 0.4)
        self.turn()
        self.assertEqual(self.done, "abc-def-gh")

    def test_calls_without_duration(self) -> None:
        """Calls that take no time cause no poll."""
        for letter in "abc":
            self.reactor.callLater(0, self.work, letter)
        self.turn()
        self.assertEqual(self.done, "abc")

    def test_from_threads(self) -> None:
        """Calls from threads count, too."""
        self.reactor.callFromThread(self.work, "a", takes=2 * GAP_SECONDS)
        self.assertEqual(self.done, "a-")

    def test_without_poll_function(self) -> None:
        """Calls are made without a poll function, too."""
        reactor = PriorityReactor(self.clock)
        reactor.callLater(0, self.work, "a", takes=2 * GAP_SECONDS)
        self.turn()
        self.assertEqual(self.done, "a")

    def test_cancelled(self) -> None:
        """The returned delayed call is that of the reactor, so it can be cancelled."""
        call = self.reactor.callLater(1, self.work, "a")
        call.cancel()
        self.clock.advance(2)
        self.assertEqual(self.done, "")

    def test_failing_poll(self) -> None:
        """An exception of a poll is logged, and the other calls are made."""

        def fail() -> None:
            raise ValueError("stumbled")

        self.reactor.set_priority_poll(fail)
        self.reactor.callLater(0, self.work, "a", takes=2 * GAP_SECONDS)
        self.reactor.callLater(0, self.work, "b")
        self.turn()
        self.assertEqual(self.done, "ab")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def yield_function(self, *letters: str) -> None:
        """Make a long call with some steps; record an apostrophe for each nested poll."""
        for letter in letters:
            self.work(letter, GAP_SECONDS * 0.6)
            if self.reactor.yield_to_clients():
                self.done += "'"

    def test_within_a_call(self) -> None:
        """Steps of a long call cause nested polls; the next poll is not too early."""
        self.reactor.callLater(0, self.yield_function, *"abcdefg")
        self.reactor.callLater(0, self.work, "h")
        self.turn()
        self.assertEqual(self.done, "ab-'cd-'ef-'gh")
        self.assertFalse(self.reactor.yield_to_clients())

    def test_nested_poll(self) -> None:
        """A poll can distinguish nested polls by ``nested_poll_active``, and does not nest itself."""
        printed = []

        def poll() -> None:
            self.clock.rightNow += 2 * GAP_SECONDS
            printed.append((self.reactor.nested_poll_active, self.reactor.yield_to_clients()))

        self.reactor.set_priority_poll(poll)
        self.reactor.callLater(0, self.work, "a", takes=2 * GAP_SECONDS)
        self.turn()
        self.reactor.callLater(0, self.yield_function, "a", "b")
        self.turn()
        self.assertEqual(printed, [(False, False), (True, False)])
        self.assertFalse(self.reactor.nested_poll_active)

    def test_failing_nested_poll(self) -> None:
        """An exception of a nested poll is logged, and the call continues."""

        def fail() -> None:
            raise ValueError("stumbled")

        self.reactor.set_priority_poll(fail)
        self.yield_function("a", "b", "c")
        self.assertEqual(self.done, "ab'c")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertFalse(self.reactor.nested_poll_active)

    def test_a_call_goes_wrong(self) -> None:
        """The reactor handles exceptions of calls as usual."""

        def fail() -> None:
            raise ValueError("stumbled")

        self.reactor.callLater(0, fail)
        self.assertRaises(ValueError, self.turn)

    def test_everything_else(self) -> None:
        """It has the attributes and interfaces of the wrapped reactor."""
        self.assertTrue(IReactorTime.providedBy(self.reactor))
        self.clock.advance(3)
        self.assertEqual(self.reactor.seconds(), 3)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
