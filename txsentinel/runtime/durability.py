"""
The durability barrier: no effect or reply is released before the state that it depends on is durable.

Effects wait in the order of the decisions; replies to clients wait separately. When saving fails, effects that are not
binding are executed, each deferred reply fails, and the changes of the failed commands are undone. Binding
announcements, such as those of votes, continue to wait.
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


def master_of(effect: Effect) -> str | None:
    """The name of the master that an announcement is about; ``None`` for any other effect."""
    return effect.event.master if isinstance(effect, Announce) else None


@dataclass(slots=True)
class HeldCommand:
    """A command whose reply is deferred; ``undo`` reverts its changes, which begin with generation ``since``."""

    released: Callable[[], None]
    failed: Callable[[], None]
    undo: Callable[[], str | None] | None = None
    since: int = 0


class DurabilityBarrier:
    """
    Defers effects and replies until their generation is durable.

    :param perform: called with each effect when it may be executed.
    :param yield_to_clients: called between effects and replies that are released together.
    """

    def __init__(self, perform: Callable[[Effect], None], yield_to_clients: Callable[[], object]) -> None:
        self._perform = perform
        self._yield_to_clients = yield_to_clients
        self._effects: deque[tuple[int, Effect]] = deque()
        self._replies: list[tuple[int, int, HeldCommand]] = []
        self._sequence = 0
        self.durable = 0
        self.failing = False
        """Whether the last attempt to save failed."""

        self.stuck = False
        """Whether a write does not finish, so that no other can be tried."""

    @property
    def waiting(self) -> int:
        """Number of deferred effects and replies."""
        return len(self._effects) + len(self._replies)

    def submit(self, generation: int, effect: Effect) -> None:
        """Execute ``effect`` now if ``generation`` is durable, otherwise as soon as it is."""
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
        undo: Callable[[], str | None] | None = None,
        since: int = 0,
    ) -> None:
        """
        Call ``released`` when ``generation`` is durable, or ``failed`` when saving it fails; exactly one of them, once.

        If the last attempt to save failed, the next one determines the outcome.

        :param undo: called before ``failed``. Announcements of the generations ``since`` to ``generation`` are then
            dropped. If it returns the name of a master whose record is gone, so are later ones about that master, such
            as votes.
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
        """Release everything up to the durable ``generation``, effects first."""
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
        Fail the deferred replies, undo their changes, and execute the effects that are not binding.

        :param stuck: whether the write has not finished.
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
        """Undo the changes of these commands, the newest first, and drop the announcements of them."""
        for generation, _, command in reversed(commands):
            if command.undo is None:
                continue
            forgotten = command.undo()
            since, until = command.since, generation
            self._effects = deque(
                (stamp, effect)
                for stamp, effect in self._effects
                if not (
                    is_binding(effect)
                    and since <= stamp
                    and (stamp <= until or (forgotten is not None and master_of(effect) == forgotten))
                )
            )
