"""Promises of the reader that is looked at by the clock. No descriptor is real here."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.reactor.read_coalescing import POLL_INTERVAL_SECONDS, WINDOW, CoalescingReactor


class Reactor(Clock):
    """Tests say when a descriptor is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[CoalescingReactor] = []

    def addReader(self, reader: CoalescingReactor) -> None:
        """Watch it."""
        self.readers.append(reader)

    def removeReader(self, reader: CoalescingReactor) -> None:
        """Watch it no more."""
        self.readers.remove(reader)


class EpollMultiplexer:
    """A reader of which tests say how much there is to hear."""

    def __init__(self) -> None:
        self.received = 0
        self.turns = 0
        self.ready = 1
        self.does: Callable[[], None] = lambda: None
        self.ended = 0

    def fileno(self) -> int:
        """Any descriptor."""
        return 7

    def logPrefix(self) -> str:
        """Any name."""
        return "crowd"

    def doRead(self) -> None:
        """Hear as many as are ready."""
        self.turns += 1
        self.received += self.ready
        self.does()

    def connectionLost(self, reason: Failure) -> None:
        """Note it."""
        self.ended += 1


class CoalescingTests(SynchronousTestCase):
    """One reader, by whom it is read and how often."""

    def setUp(self) -> None:
        """A reader that is watched."""
        self.reactor = Reactor()
        self.multiplexer = EpollMultiplexer()
        self.coalescing = CoalescingReactor(self.reactor)
        self.coalescing.addReader(self.multiplexer)

    @property
    def watched(self) -> bool:
        """Is it the reactor who watches?"""
        return bool(self.reactor.readers)

    def readable(self, gap: float, times: int = WINDOW) -> None:
        """The reader becomes readable that often, so many seconds apart, as long as the reactor watches."""
        for _ in range(times):
            self.reactor.advance(gap)
            for reader in list(self.reactor.readers):
                reader.doRead()

    def doze(self) -> None:
        """As much is said as makes us nap."""
        self.readable(POLL_INTERVAL_SECONDS / 4)
        self.assertFalse(self.watched)

    def naps(self, count: int) -> None:
        """So many naps come to their end."""
        for _ in range(count):
            self.reactor.advance(POLL_INTERVAL_SECONDS)

    def test_seldom(self) -> None:
        """Who is readable less than once a nap is heard at once, however long that goes on."""
        self.readable(POLL_INTERVAL_SECONDS * 1.1, 10 * WINDOW)
        self.assertTrue(self.watched)
        self.assertEqual(self.multiplexer.turns, 10 * WINDOW)

    def test_often(self) -> None:
        """Who is readable more often is heard after each nap, and not by the reactor."""
        self.doze()
        turns = self.multiplexer.turns
        self.reactor.advance(POLL_INTERVAL_SECONDS * 0.9)
        self.assertEqual(self.multiplexer.turns, turns)
        self.reactor.advance(POLL_INTERVAL_SECONDS * 0.1)
        self.assertEqual(self.multiplexer.turns, turns + 1)
        self.naps(5 * WINDOW)
        self.assertEqual(self.multiplexer.turns, turns + 1 + 5 * WINDOW)
        self.assertFalse(self.watched)

    def test_one_burst(self) -> None:
        """A burst that is over within a window makes nobody nap."""
        self.readable(POLL_INTERVAL_SECONDS / 10, WINDOW - 1)
        self.readable(100 * POLL_INTERVAL_SECONDS, 1)
        self.assertTrue(self.watched)

    def test_quiet_again(self) -> None:
        """When less than one was heard per nap, it is the reactor who watches."""
        self.doze()
        self.multiplexer.ready = 0
        self.naps(WINDOW)
        self.assertTrue(self.watched)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_storm(self) -> None:
        """When hearing takes as long as a nap there is no nap: the reactor shares its time out."""
        self.doze()
        self.multiplexer.does = lambda: setattr(
            self.reactor, "rightNow", self.reactor.rightNow + 1.5 * POLL_INTERVAL_SECONDS
        )
        self.naps(1)
        self.assertTrue(self.watched)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.readable(0, 10 * WINDOW)
        self.assertTrue(self.watched)

    def test_left_while_watched(self) -> None:
        """A reader that goes is watched no more, and has no descriptor."""
        self.coalescing.removeReader(self.multiplexer)
        self.assertFalse(self.watched)
        self.assertEqual(self.coalescing.fileno(), -1)

    def test_left_in_a_nap(self) -> None:
        """A reader that goes during a nap is not looked at any more."""
        self.doze()
        self.coalescing.removeReader(self.multiplexer)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        turns = self.multiplexer.turns
        self.naps(3)
        self.assertEqual(self.multiplexer.turns, turns)

    def test_left_in_a_look(self) -> None:
        """A reader may go, and even come back, while it is being read."""
        self.doze()
        self.multiplexer.does = lambda: self.coalescing.removeReader(self.multiplexer)
        self.naps(1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertFalse(self.watched)
        self.coalescing.addReader(self.multiplexer)
        self.multiplexer.does = lambda: None
        self.doze()

        def again() -> None:
            self.coalescing.removeReader(self.multiplexer)
            self.coalescing.addReader(self.multiplexer)

        self.multiplexer.does = again
        self.naps(1)
        self.assertTrue(self.watched)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """What goes wrong in a look is reported, and does not end the looking."""
        self.doze()

        def fail() -> None:
            raise ZeroDivisionError

        self.multiplexer.does = fail
        self.assertRaises(ZeroDivisionError, self.reactor.advance, POLL_INTERVAL_SECONDS)
        self.multiplexer.does = lambda: None
        turns = self.multiplexer.turns
        self.naps(2)
        self.assertEqual(self.multiplexer.turns, turns + 2)

    def test_end(self) -> None:
        """The reader hears of the reactor's end."""
        self.coalescing.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.multiplexer.ended, 1)
