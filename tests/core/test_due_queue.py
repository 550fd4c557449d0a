"""Who must be looked at by when."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.due_queue import DueQueue
from txsentinel.core.instances import Instance
from txsentinel.core.link import InstanceLink
from txsentinel.model.address import Address


def somebody(name: str) -> Instance:
    """An instance of no particular kind."""
    address = Address.literal("10.0.0.1", 6379)
    return Instance(name, address, InstanceLink(1, address, (), 0), 0)


class DueQueueTests(SynchronousTestCase):
    """Early is harmless, late is a bug."""

    def setUp(self) -> None:
        """Begin with an empty queue and two who may wait in it."""
        self.queue = DueQueue()
        self.one, self.other = somebody("one"), somebody("other")

    def test_earliest_first(self) -> None:
        """Those due come in the order of their dates, the others stay."""
        self.queue.schedule(self.one, 20)
        self.queue.schedule(self.other, 10)
        self.assertEqual([], list(self.queue.take_due(9)))
        self.assertEqual([self.other, self.one], list(self.queue.take_due(20)))
        self.assertIsNone(self.queue.next_due)

    def test_the_earlier_date_stands(self) -> None:
        """Scheduling again brings a date forward, never back."""
        self.queue.schedule(self.one, 20)
        self.queue.schedule(self.one, 30)
        self.queue.schedule(self.one, 10)
        self.assertEqual(10, self.queue.next_due)
        self.assertEqual([self.one], list(self.queue.take_due(10)))
        self.assertEqual([], list(self.queue.take_due(100)))

    def test_once_per_take(self) -> None:
        """What is scheduled for now while it is being looked at comes up next time."""
        self.queue.schedule(self.one, 10)
        for instance in self.queue.take_due(10):
            self.queue.schedule(instance, 10)
        self.assertEqual([self.one], list(self.queue.take_due(10)))

    def test_forgotten(self) -> None:
        """Whoever is gone is not looked at, and does not determine when to wake."""
        self.queue.schedule(self.one, 10)
        self.queue.schedule(self.other, 20)
        self.queue.forget(self.one)
        self.assertEqual(20, self.queue.next_due)
        self.assertEqual([self.other], list(self.queue.take_due(50)))

    def test_old_entries_do_not_pile_up(self) -> None:
        """A thousand rounds of scheduling and looking leave one entry, not a thousand."""
        for now in range(1_000):
            self.queue.schedule(self.one, now + 100)
            self.queue.schedule(self.one, now + 1)
            list(self.queue.take_due(now + 1))
        self.assertLess(len(self.queue), 110)
