"""Promises of the attentive reactor: looks between calls, not too often, and within one only where that breathes."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.reactor.priority import GAP_SECONDS, PriorityReactor


class ThreadedClock(Clock):
    """A clock that calls at once what comes from threads."""

    def callFromThread(self, call: object, *arguments: object, **named: object) -> None:
        """Call it."""
        assert callable(call)
        call(*arguments, **named)


class AttentionTests(SynchronousTestCase):
    """When somebody is looked after."""

    def setUp(self) -> None:
        """A reactor that notes what it does, one letter for each call and a dash for each look."""
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
        """A call that takes long is followed by a look, ahead of the next call."""
        self.reactor.callLater(0, self.work, "a", takes=2 * GAP_SECONDS)
        self.reactor.callLater(0, self.work, "b")
        self.turn()
        self.assertEqual(self.done, "a-b")

    def test_after_many_short_calls(self) -> None:
        """Short calls add up; each look begins the count anew."""
        for letter in "abcdefgh":
            self.reactor.callLater(0, self.work, letter, GAP_SECONDS * 0.4)
        self.turn()
        self.assertEqual(self.done, "abc-def-gh")

    def test_in_peace(self) -> None:
        """Where calls take no time nobody looks."""
        for letter in "abc":
            self.reactor.callLater(0, self.work, letter)
        self.turn()
        self.assertEqual(self.done, "abc")

    def test_from_threads(self) -> None:
        """What threads have called counts, too."""
        self.reactor.callFromThread(self.work, "a", takes=2 * GAP_SECONDS)
        self.assertEqual(self.done, "a-")

    def test_nobody_to_look_after(self) -> None:
        """Before anybody asked for attention calls are made all the same."""
        reactor = PriorityReactor(self.clock)
        reactor.callLater(0, self.work, "a", takes=2 * GAP_SECONDS)
        self.turn()
        self.assertEqual(self.done, "a")

    def test_cancelled(self) -> None:
        """What is given back is the reactor's own, so it can be cancelled."""
        call = self.reactor.callLater(1, self.work, "a")
        call.cancel()
        self.clock.advance(2)
        self.assertEqual(self.done, "")

    def test_a_look_goes_wrong(self) -> None:
        """It is logged, and the other calls are made."""

        def stumble() -> None:
            raise ValueError("stumbled")

        self.reactor.set_priority_poll(stumble)
        self.reactor.callLater(0, self.work, "a", takes=2 * GAP_SECONDS)
        self.reactor.callLater(0, self.work, "b")
        self.turn()
        self.assertEqual(self.done, "ab")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def yield_function(self, *letters: str) -> None:
        """A long call with some steps, an apostrophe for each breath in which time was given away."""
        for letter in letters:
            self.work(letter, GAP_SECONDS * 0.6)
            if self.reactor.yield_to_clients():
                self.done += "'"

    def test_within_a_call(self) -> None:
        """Between its steps there are looks as between calls; none follows that comes too soon."""
        self.reactor.callLater(0, self.yield_function, *"abcdefg")
        self.reactor.callLater(0, self.work, "h")
        self.turn()
        self.assertEqual(self.done, "ab-'cd-'ef-'gh")
        self.assertFalse(self.reactor.yield_to_clients())

    def test_in_passing(self) -> None:
        """Whoever is looked after can tell a look within a call from one between calls, and breathes in neither."""
        told = []

        def poll() -> None:
            self.clock.rightNow += 2 * GAP_SECONDS
            told.append((self.reactor.nested_poll_active, self.reactor.yield_to_clients()))

        self.reactor.set_priority_poll(poll)
        self.reactor.callLater(0, self.work, "a", takes=2 * GAP_SECONDS)
        self.turn()
        self.reactor.callLater(0, self.yield_function, "a", "b")
        self.turn()
        self.assertEqual(told, [(False, False), (True, False)])
        self.assertFalse(self.reactor.nested_poll_active)

    def test_a_look_within_goes_wrong(self) -> None:
        """It is logged, and the call goes on."""

        def stumble() -> None:
            raise ValueError("stumbled")

        self.reactor.set_priority_poll(stumble)
        self.yield_function("a", "b", "c")
        self.assertEqual(self.done, "ab'c")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertFalse(self.reactor.nested_poll_active)

    def test_a_call_goes_wrong(self) -> None:
        """Its exception is the reactor's to deal with, as ever."""

        def stumble() -> None:
            raise ValueError("stumbled")

        self.reactor.callLater(0, stumble)
        self.assertRaises(ValueError, self.turn)

    def test_everything_else(self) -> None:
        """It has what the reactor has, and provides what that provides."""
        self.assertTrue(IReactorTime.providedBy(self.reactor))
        self.clock.advance(3)
        self.assertEqual(self.reactor.seconds(), 3)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
