"""
The generation barrier: nothing is said before the state that it depends on is durable.

Effects wait in the order in which they were decided; replies to clients wait in slots of their own.
When saving fails, whatever makes no promise goes out all the same, and every held reply is told to
say something else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from txsentinel.core.effects import Effect


class Barrier:
    """
    Holds back what is stamped with a generation that is not durable yet.

    :param perform: is called with each effect once it may be carried out.
    :param breathe: is called between any two things that are let go together.
    """

    def __init__(self, perform: Callable[[Effect], None], breathe: Callable[[], object]) -> None:
        self._perform = perform
        self._breathe = breathe
        self._effects: deque[tuple[int, Effect]] = deque()
        self._replies: list[tuple[int, int, Callable[[], None], Callable[[], None]]] = []
        self._sequence = 0
        self.durable = 0
        self.failing = False
        """The last attempt to save failed, and none has succeeded since."""

    @property
    def waiting(self) -> int:
        """How many effects and replies are held back."""
        return len(self._effects) + len(self._replies)

    def admit(self, generation: int, effect: Effect) -> None:
        """Carry ``effect`` out now if it may be, else as soon as ``generation`` is durable."""
        if generation == 0 or self.failing or (generation <= self.durable and not self._effects):
            self._perform(effect)
        else:
            self._effects.append((generation, effect))

    def hold(self, generation: int, released: Callable[[], None], failed: Callable[[], None]) -> None:
        """Call ``released`` once ``generation`` is durable, or ``failed`` when saving it fails; one of them, once."""
        if generation <= self.durable:
            released()
        elif self.failing:
            failed()
        else:
            self._sequence += 1
            heappush(self._replies, (generation, self._sequence, released, failed))

    def committed(self, generation: int) -> None:
        """Everything up to ``generation`` is durable: let it go, effects first."""
        self.durable = generation
        self.failing = False
        effects = self._effects
        while effects and effects[0][0] <= generation:
            self._perform(effects.popleft()[1])
            self._breathe()
        while self._replies and self._replies[0][0] <= generation:
            heappop(self._replies)[2]()
            self._breathe()

    def commit_failed(self) -> None:
        """Saving failed: withdraw the promises, let everything else go."""
        self.failing = True
        replies, self._replies = self._replies, []
        for _, _, _, failed in sorted(replies, key=lambda entry: entry[1]):
            failed()
        effects, self._effects = self._effects, deque()
        for _, effect in effects:
            self._perform(effect)
            self._breathe()
