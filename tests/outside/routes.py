"""The network routes between addresses: open, slow, cut, refused or rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

Route: TypeAlias = tuple[str, str]
"""Source and destination address. The reverse direction is another route."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The present condition of one route."""

    cut: bool = False
    delay: float = 0.0
    """Additional seconds in this direction; unused while cut."""

    refused: bool = False
    """Whether connections from the source are reset, and new ones as soon as they are accepted."""

    error: str = ""
    """The error with which all requests of the source are answered, without its first byte."""


OPEN = Condition()


class Routes:
    """
    Impairments by name, and the resulting condition of each route.

    Impairments overlap: a route is cut while any of them cuts it, and as slow as the slowest one. Of two errors the
    first one in the alphabet is sent.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """
        :param changed: called after every change.
        """
        self._changed = changed
        self._impairments: dict[str, tuple[frozenset[Route], Condition]] = {}
        self._now: dict[Route, Condition] = {}

    def impose(self, name: str, routes: Iterable[Route], condition: Condition) -> None:
        """Impair some routes; an impairment of the same name is replaced."""
        self._impairments[name] = (frozenset(routes), condition)
        self._update()

    def lift(self, name: str) -> None:
        """Remove an impairment; do nothing if there is none."""
        if self._impairments.pop(name, None) is not None:
            self._update()

    def lift_all(self) -> None:
        """Remove all impairments."""
        self._impairments.clear()
        self._update()

    def condition(self, source: str, destination: str) -> Condition:
        """Return the condition of the route from ``source`` to ``destination``."""
        return self._now.get((source, destination), OPEN)

    def open_both(self, one: str, other: str) -> bool:
        """Whether a connection between the two can be established: neither direction is cut."""
        return not (self.condition(one, other).cut or self.condition(other, one).cut)

    def round_trip_delay(self, one: str, other: str) -> float:
        """Return the additional seconds of a round trip between the two."""
        return self.condition(one, other).delay + self.condition(other, one).delay

    def _update(self) -> None:
        self._now = {}
        for routes, condition in self._impairments.values():
            for route in routes:
                before = self._now.get(route, OPEN)
                self._now[route] = Condition(
                    before.cut or condition.cut,
                    max(before.delay, condition.delay),
                    before.refused or condition.refused,
                    min(filter(None, (before.error, condition.error)), default=""),
                )
        self._changed()
