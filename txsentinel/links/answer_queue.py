"""The callables that wait for the replies of one connection, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from txsentinel.model.timings import Millis

Answer: TypeAlias = Callable[[object, Millis], None]
"""Called with the reply, and the time at which it arrived."""

MIN_COMPACTED: Final = 64
"""Number of called entries from which they are removed from the front, once they are half of all."""


class AnswerQueue:
    """
    A queue in little memory, as there are thousands of connections, on which mostly nothing is waited for.

    A deque occupies 760 bytes even if it is empty.
    """

    __slots__ = ("_answers", "_called")

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._called = 0
        """How many at the front have been called."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._answers) - self._called

    def append(self, answer: Answer) -> int:
        """Add one behind all others; return how many wait then."""
        answers = self._answers
        answers.append(answer)
        return len(answers) - self._called

    def popleft(self) -> Answer:
        """
        Remove and return the first one.

        :raises IndexError: if none waits.
        """
        answers, called = self._answers, self._called
        if not called and len(answers) == 1:
            return answers.pop()
        answer = answers[called]
        called += 1
        if called == len(answers):
            answers.clear()
            called = 0
        elif called >= MIN_COMPACTED and 2 * called >= len(answers):
            del answers[:called]
            called = 0
        self._called = called
        return answer

    def clear(self) -> None:
        """Remove all."""
        self._answers.clear()
        self._called = 0
