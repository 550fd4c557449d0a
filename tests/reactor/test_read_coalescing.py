"""Tests of read coalescing, without real descriptors."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.reactor.read_coalescing import POLL_INTERVAL_SECONDS, WINDOW, CoalescingReactor


class Reactor(Clock):
    """A fake reactor; tests trigger reading."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[CoalescingReactor] = []

    def addReader(self, reader: CoalescingReactor) -> None:
        """Add the reader."""
        self.readers.append(reader)

    def removeReader(self, reader: CoalescingReactor) -> None:
        """Remove the reader."""
        self.readers.remove(reader)


class EpollMultiplexer:
    """A reader whose number of ready sockets is set by tests."""

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
        return "reader"

    def doRead(self) -> None:
        """Process the ready sockets."""
        self.turns += 1
        self.received += self.ready
        self.does()

    def connectionLost(self, reason: Failure) -> None:
        """Note it."""
        self.ended += 1


class CoalescingTests(SynchronousTestCase):
    """Tests with one reader."""

    def setUp(self) -> None:
        """Add a reader."""
        self.reactor = Reactor()
        self.multiplexer = EpollMultiplexer()
        self.coalescing = CoalescingReactor(self.reactor)
        self.coalescing.addReader(self.multiplexer)

    @property
    def is_polled(self) -> bool:
        """Whether the reactor polls the descriptor."""
        return bool(self.reactor.readers)

    def readable(self, gap: float, times: int = WINDOW) -> None:
        """Make the reader readable so often, so many seconds apart, while the reactor polls it."""
        for _ in range(times):
            self.reactor.advance(gap)
            for reader in list(self.reactor.readers):
                reader.doRead()

    def start_intervals(self) -> None:
        """Cause enough input for reading at intervals."""
        self.readable(POLL_INTERVAL_SECONDS / 4)
        self.assertFalse(self.is_polled)

    def intervals(self, count: int) -> None:
        """Let so many intervals pass."""
        for _ in range(count):
            self.reactor.advance(POLL_INTERVAL_SECONDS)

    def test_seldom(self) -> None:
        """A reader that is readable less than once per interval is read at once."""
        self.readable(POLL_INTERVAL_SECONDS * 1.1, 10 * WINDOW)
        self.assertTrue(self.is_polled)
        self.assertEqual(self.multiplexer.turns, 10 * WINDOW)

    def test_often(self) -> None:
        """A reader that is readable more often is read after each interval, not by the reactor."""
        self.start_intervals()
        turns = self.multiplexer.turns
        self.reactor.advance(POLL_INTERVAL_SECONDS * 0.9)
        self.assertEqual(self.multiplexer.turns, turns)
        self.reactor.advance(POLL_INTERVAL_SECONDS * 0.1)
        self.assertEqual(self.multiplexer.turns, turns + 1)
        self.intervals(5 * WINDOW)
        self.assertEqual(self.multiplexer.turns, turns + 1 + 5 * WINDOW)
        self.assertFalse(self.is_polled)

    def test_one_burst(self) -> None:
        """A burst that is shorter than a window does not start reading at intervals."""
        self.readable(POLL_INTERVAL_SECONDS / 10, WINDOW - 1)
        self.readable(100 * POLL_INTERVAL_SECONDS, 1)
        self.assertTrue(self.is_polled)

    def test_end_of_coalescing(self) -> None:
        """With less than one event per interval the reactor polls again."""
        self.start_intervals()
        self.multiplexer.ready = 0
        self.intervals(WINDOW)
        self.assertTrue(self.is_polled)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_slow_reading(self) -> None:
        """When reading takes as long as an interval the reactor polls again, and shares its time."""
        self.start_intervals()
        self.multiplexer.does = lambda: setattr(
            self.reactor, "rightNow", self.reactor.rightNow + 1.5 * POLL_INTERVAL_SECONDS
        )
        self.intervals(1)
        self.assertTrue(self.is_polled)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.readable(0, 10 * WINDOW)
        self.assertTrue(self.is_polled)

    def test_removed(self) -> None:
        """A removed reader is not polled, and the descriptor is −1."""
        self.coalescing.removeReader(self.multiplexer)
        self.assertFalse(self.is_polled)
        self.assertEqual(self.coalescing.fileno(), -1)

    def test_removed_in_an_interval(self) -> None:
        """A reader that is removed during an interval is not read."""
        self.start_intervals()
        self.coalescing.removeReader(self.multiplexer)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        turns = self.multiplexer.turns
        self.intervals(3)
        self.assertEqual(self.multiplexer.turns, turns)

    def test_removed_while_reading(self) -> None:
        """A reader may be removed, and added again, while it is being read."""
        self.start_intervals()
        self.multiplexer.does = lambda: self.coalescing.removeReader(self.multiplexer)
        self.intervals(1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertFalse(self.is_polled)
        self.coalescing.addReader(self.multiplexer)
        self.multiplexer.does = lambda: None
        self.start_intervals()

        def again() -> None:
            self.coalescing.removeReader(self.multiplexer)
            self.coalescing.addReader(self.multiplexer)

        self.multiplexer.does = again
        self.intervals(1)
        self.assertTrue(self.is_polled)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """An exception in a read is reported, and reading continues."""
        self.start_intervals()

        def fail() -> None:
            raise ZeroDivisionError

        self.multiplexer.does = fail
        self.assertRaises(ZeroDivisionError, self.reactor.advance, POLL_INTERVAL_SECONDS)
        self.multiplexer.does = lambda: None
        turns = self.multiplexer.turns
        self.intervals(2)
        self.assertEqual(self.multiplexer.turns, turns + 2)

    def test_end(self) -> None:
        """The reader is notified of the end of the reactor."""
        self.coalescing.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.multiplexer.ended, 1)
