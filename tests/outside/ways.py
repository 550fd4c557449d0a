"""What lies on the way from one address to another: nothing, a delay, or a cut through which nothing comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

Way: TypeAlias = tuple[str, str]
"""From which address to which. The way back is another one."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How one way is at the moment."""

    cut: bool = False
    delay: float = 0.0
    """Seconds that each piece takes longer; meaningless while cut."""


OPEN = Condition()


class Ways:
    """
    Obstacles by name, and what they make of each way together.

    Obstacles overlap: a way is cut while any of them cuts it, and as slow as the slowest one says.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """
        :param changed: called after every change.
        """
        self._changed = changed
        self._obstacles: dict[str, tuple[frozenset[Way], Condition]] = {}
        self._now: dict[Way, Condition] = {}

    def impose(self, name: str, ways: Iterable[Way], condition: Condition) -> None:
        """Put an obstacle on some ways; one of the same name gives way to it."""
        self._obstacles[name] = (frozenset(ways), condition)
        self._update()

    def lift(self, name: str) -> None:
        """Take an obstacle away; one that is not there is gone already."""
        if self._obstacles.pop(name, None) is not None:
            self._update()

    def lift_all(self) -> None:
        """Take everything away."""
        self._obstacles.clear()
        self._update()

    def condition(self, source: str, destination: str) -> Condition:
        """How the way from ``source`` to ``destination`` is."""
        return self._now.get((source, destination), OPEN)

    def open_both(self, one: str, other: str) -> bool:
        """Can a connection between the two come about: is neither way cut?"""
        return not (self.condition(one, other).cut or self.condition(other, one).cut)

    def slowness(self, one: str, other: str) -> float:
        """Seconds that a round between the two takes longer."""
        return self.condition(one, other).delay + self.condition(other, one).delay

    def _update(self) -> None:
        self._now = {}
        for ways, condition in self._obstacles.values():
            for way in ways:
                before = self._now.get(way, OPEN)
                self._now[way] = Condition(before.cut or condition.cut, max(before.delay, condition.delay))
        self._changed()
