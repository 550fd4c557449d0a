"""Tests of the periodic garbage collection."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.process.collector import PERIOD, REFREEZE_COLLECTIONS, Collector, frozen_collector


class Node:
    """An object that can be part of a cycle."""

    def __init__(self) -> None:
        self.other: Node | None = None


def new_cycle() -> Node:
    """Make a cycle of two objects."""
    one, two = Node(), Node()
    one.other, two.other = two, one
    return one


class GarbageTests(SynchronousTestCase):
    """Tests of freezing and collecting."""

    def setUp(self) -> None:
        """Restore the state of the collector."""
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.clock = Clock()
        self.service = frozen_collector(self.clock)

    def test_survivors_are_frozen(self) -> None:
        """Objects that survive a collection are frozen."""
        self.service.startService()
        self.addCleanup(self.service.stopService)
        alive = new_cycle()
        self.assertIn(id(alive), {id(each) for each in gc.get_objects()})
        frozen = gc.get_freeze_count()
        self.clock.advance(PERIOD)
        self.assertGreaterEqual(gc.get_freeze_count(), frozen + 2)
        self.assertNotIn(id(alive), {id(each) for each in gc.get_objects()})

    def test_garbage_is_freed_first(self) -> None:
        """An unreachable cycle is freed, not frozen."""
        self.service.startService()
        self.addCleanup(self.service.stopService)
        gc.disable()
        self.addCleanup(gc.enable)
        gone = weakref.ref(new_cycle())
        self.assertIsNotNone(gone())
        self.clock.advance(PERIOD)
        self.assertIsNone(gone())

    def test_frozen_garbage(self) -> None:
        """Unreachable frozen cycles are freed by a full collection, which waits until many objects are frozen."""
        gc.disable()
        self.addCleanup(gc.enable)
        collector = Collector()

        def refreeze() -> None:
            for _ in range(REFREEZE_COLLECTIONS):
                collector.collect()

        first = weakref.ref(new_cycle())
        gc.freeze()
        refreeze()
        self.assertIsNotNone(first())
        living = new_cycle()
        dead = weakref.ref(living)
        collector.collect()
        del living
        refreeze()
        self.assertIsNotNone(dead())
        rings = [new_cycle() for _ in range(gc.get_freeze_count())]
        collector.collect()
        rings.clear()
        refreeze()
        self.assertIsNone(dead())
        self.assertIsNone(first())
