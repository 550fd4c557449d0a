"""The queue of evaluation deadlines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.due_queue import DueQueue
from txsentinel.core.instances import Instance, InstanceLink
from txsentinel.model.address import Address


def new_instance(name: str) -> Instance:
    """Return an instance."""
    address = Address.literal("10.0.0.1", 6379)
    return Instance(name, address, InstanceLink(1, address, (), 0), 0)


class DueQueueTests(SynchronousTestCase):
    """Evaluating early is harmless; evaluating late is a bug."""

    def setUp(self) -> None:
        """Set up an empty queue and two instances."""
        self.queue = DueQueue()
        self.one, self.other = new_instance("one"), new_instance("other")

    def test_earliest_first(self) -> None:
        """Instances that are due are returned in the order of their deadlines; the others stay."""
        self.queue.schedule(self.one, 20)
        self.queue.schedule(self.other, 10)
        self.assertEqual([], list(self.queue.take_due(9)))
        self.assertEqual([self.other, self.one], list(self.queue.take_due(20)))
        self.assertIsNone(self.queue.next_due)

    def test_earlier_deadline_is_kept(self) -> None:
        """Rescheduling can only advance a deadline."""
        self.queue.schedule(self.one, 20)
        self.queue.schedule(self.one, 30)
        self.queue.schedule(self.one, 10)
        self.assertEqual(10, self.queue.next_due)
        self.assertEqual([self.one], list(self.queue.take_due(10)))
        self.assertEqual([], list(self.queue.take_due(100)))

    def test_once_per_take(self) -> None:
        """An instance that is scheduled for now during a call is returned by the next one."""
        self.queue.schedule(self.one, 10)
        for instance in self.queue.take_due(10):
            self.queue.schedule(instance, 10)
        self.assertEqual([self.one], list(self.queue.take_due(10)))

    def test_removed(self) -> None:
        """A removed instance is not returned, and does not affect the next deadline."""
        self.queue.schedule(self.one, 10)
        self.queue.schedule(self.other, 20)
        self.queue.forget(self.one)
        self.assertEqual(20, self.queue.next_due)
        self.assertEqual([self.other], list(self.queue.take_due(50)))

    def test_old_entries_are_removed(self) -> None:
        """A thousand rounds of rescheduling leave one entry, not a thousand."""
        for now in range(1_000):
            self.queue.schedule(self.one, now + 100)
            self.queue.schedule(self.one, now + 1)
            list(self.queue.take_due(now + 1))
        self.assertLess(len(self.queue), 110)
