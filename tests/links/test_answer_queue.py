"""The queue of callables that wait for replies."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.links.answer_queue import AnswerQueue
from txsentinel.model.timings import Millis


def answer() -> Callable[[object, Millis], None]:
    """Return a new callable."""
    return lambda reply, now: None


class AnswerQueueTests(SynchronousTestCase):
    """It behaves as a deque does."""

    def test_order(self) -> None:
        """Over random steps, short and long, it has the same entries in the same order as a deque."""
        rng = Random(1)
        queue, expected = AnswerQueue(), deque[Callable[[object, Millis], None]]()
        for step in range(20_000):
            growing = step // 2_000 % 2 == 0
            if not expected or rng.random() < (0.7 if growing else 0.3):
                added = answer()
                queue.append(added)
                expected.append(added)
            else:
                self.assertIs(queue.popleft(), expected.popleft())
            self.assertEqual((len(queue), bool(queue)), (len(expected), bool(expected)))

    def test_empty(self) -> None:
        """Nothing can be taken from an empty queue."""
        queue = AnswerQueue()
        self.assertRaises(IndexError, queue.popleft)
        queue.append(answer())
        queue.clear()
        self.assertRaises(IndexError, queue.popleft)
        self.assertFalse(queue)

    def test_steady(self) -> None:
        """If the queue is never empty, what was called is not kept."""
        queue = AnswerQueue()
        queue.append(answer())
        first = answer()
        queue.append(first)
        before = sys.getrefcount(first)
        for _ in range(1_000):
            queue.append(answer())
            queue.popleft()
        self.assertLess(sys.getrefcount(first), before)
        self.assertEqual(len(queue), 2)
