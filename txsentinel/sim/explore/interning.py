"""Numbers for values, so that states are compared and stored as small tuples of integers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Interner(Generic[T]):
    """Gives each distinct value a number, from 0 in the order of their first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self.values: list[T] = []
        """The values by number."""

    def __len__(self) -> int:
        """Return how many distinct values there are."""
        return len(self.values)

    def number(self, value: T) -> int:
        """Return the number of ``value``."""
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = len(self.values)
            self.values.append(value)
        return found
