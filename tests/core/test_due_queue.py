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

    def test_a_limit_loses_no_instance(self) -> None:
        """Calls with a limit return every instance once, in order, wherever the limit falls within one deadline."""
        for maximum in (1, 2, 3, 256):
            expected = []
            for number in range(2 * maximum + 3):
                for deadline in (10, 20):
                    instance = new_instance(f"{deadline}.{number}")
                    self.queue.schedule(instance, deadline)
                    expected.append((deadline, number, instance))
            expected.sort(key=lambda entry: entry[:2])
            taken: list[Instance] = []
            while (due := self.queue.next_due) is not None:
                self.assertEqual(due, 10 if len(taken) < 2 * maximum + 3 else 20)
                part = self.queue.take_due(20, maximum)
                self.assertEqual(len(part), min(maximum, len(expected) - len(taken)))
                taken += part
            self.assertEqual([each.name for each in taken], [each.name for _, _, each in expected], maximum)
            self.assertEqual((self.queue.take_due(100, maximum), len(self.queue)), ([], 0))

    def test_a_limit_with_stale_entries(self) -> None:
        """Stale entries do not count, and an instance that was not returned can still be forgotten or advanced."""
        instances = [new_instance(str(number)) for number in range(6)]
        for each in instances:
            self.queue.schedule(each, 10)
        self.queue.forget(instances[0])
        self.assertEqual(self.queue.take_due(10, 2), instances[1:3])
        self.queue.forget(instances[3])
        self.queue.schedule(instances[5], 5)
        self.assertEqual(self.queue.take_due(10, 2), [instances[5], instances[4]])
        self.assertEqual((self.queue.take_due(10, 2), self.queue.next_due), ([], None))
