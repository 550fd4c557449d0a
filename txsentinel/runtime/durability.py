"""
The generation barrier: nothing is said before the state that it depends on is durable.

Effects wait in the order in which they were decided; replies to clients wait in slots of their own.
When saving fails, whatever makes no promise goes out all the same, every held reply is told to say
something else, and what a refused command changed is undone. Binding announcements, those of votes
among them, wait on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from txsentinel.core.effects import Announce, Effect


def is_binding(effect: Effect) -> bool:
    """Whether the effect must wait for its generation even if saving fails."""
    return isinstance(effect, Announce) and effect.binding


@dataclass(slots=True)
class HeldCommand:
    """A command whose reply waits; ``undo`` takes back what it changed from generation ``since`` on."""

    released: Callable[[], None]
    failed: Callable[[], None]
    undo: Callable[[], object] | None = None
    since: int = 0


class DurabilityBarrier:
    """
    Holds back what is stamped with a generation that is not durable yet.

    :param perform: is called with each effect once it may be carried out.
    :param yield_to_clients: is called between any two things that are let go together.
    """

    def __init__(self, perform: Callable[[Effect], None], yield_to_clients: Callable[[], object]) -> None:
        self._perform = perform
        self._yield_to_clients = yield_to_clients
        self._effects: deque[tuple[int, Effect]] = deque()
        self._replies: list[tuple[int, int, HeldCommand]] = []
        self._sequence = 0
        self.durable = 0
        self.failing = False
        """The last attempt to save failed, and none has succeeded since."""

        self.stuck = False
        """A write does not end: no other can be tried."""

    @property
    def waiting(self) -> int:
        """How many effects and replies are held back."""
        return len(self._effects) + len(self._replies)

    def submit(self, generation: int, effect: Effect) -> None:
        """Carry ``effect`` out now if it may be, else as soon as ``generation`` is durable."""
        due = generation == 0 or (generation <= self.durable and not self._effects)
        if due or (self.failing and not is_binding(effect)):
            self._perform(effect)
        else:
            self._effects.append((generation, effect))

    def defer_reply(
        self,
        generation: int,
        released: Callable[[], None],
        failed: Callable[[], None],
        undo: Callable[[], object] | None = None,
        since: int = 0,
    ) -> None:
        """
        Call ``released`` once ``generation`` is durable, or ``failed`` when saving it fails; one of them, once.

        While saving fails the next attempt decides.

        :param undo: called before ``failed``; announcements that are stamped with ``since`` to ``generation`` are
            then withdrawn.
        """
        command = HeldCommand(released, failed, undo, since)
        if generation <= self.durable:
            released()
        elif self.stuck:
            self._undo([(generation, 0, command)])
            failed()
        else:
            self._sequence += 1
            heappush(self._replies, (generation, self._sequence, command))

    def committed(self, generation: int) -> None:
        """Everything up to ``generation`` is durable: let it go, effects first."""
        self.durable = generation
        self.failing = self.stuck = False
        effects = self._effects
        while effects and effects[0][0] <= generation:
            self._perform(effects.popleft()[1])
            self._yield_to_clients()
        while self._replies and self._replies[0][0] <= generation:
            heappop(self._replies)[2].released()
            self._yield_to_clients()

    def commit_failed(self, *, stuck: bool = False) -> None:
        """
        Saving failed: withdraw the promises, let everything else go.

        :param stuck: the write has not ended.
        """
        self.failing, self.stuck = True, stuck
        replies, self._replies = self._replies, []
        in_order = sorted(replies, key=lambda entry: entry[1])
        self._undo(in_order)
        for _, _, command in in_order:
            command.failed()
        effects, self._effects = self._effects, deque()
        for generation, effect in effects:
            if is_binding(effect):
                self._effects.append((generation, effect))
            else:
                self._perform(effect)
                self._yield_to_clients()

    def _undo(self, commands: Sequence[tuple[int, int, HeldCommand]]) -> None:
        """Take back what these commands changed, the newest first, and what was to be announced of it."""
        for generation, _, command in reversed(commands):
            if command.undo is None:
                continue
            command.undo()
            since, until = command.since, generation
            self._effects = deque(
                (stamp, effect)
                for stamp, effect in self._effects
                if not (since <= stamp <= until and is_binding(effect))
            )
