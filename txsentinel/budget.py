"""How much may be said in the log about something that others can make happen as often as they like."""

from __future__ import annotations

from typing import Final

from txsentinel.timings import Millis

PERIOD: Final[Millis] = 60_000
LONGEST: Final = 200
"""Characters of somebody else's words that are worth repeating."""


class LineBudget:
    """
    A few different lines a minute, and each of them once.

    :param most: lines in one period.
    """

    def __init__(self, most: int = 5) -> None:
        self._most = most
        self._since: Millis = 0
        self._lines = 0
        self._said: set[str] = set()

    def worth(self, text: str, now: Millis) -> bool:
        """Should this be logged? If so, it counts as logged."""
        if now - self._since >= PERIOD:
            self._since, self._lines = now, 0
            self._said.clear()
        if text in self._said or self._lines >= self._most:
            return False
        self._lines += 1
        self._said.add(text)
        return True

    def over(self, text: str) -> None:
        """What ``text`` says is over; it would be news again."""
        self._said.discard(text)


def excerpt(text: str) -> str:
    """As much of somebody else's words as is worth repeating."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
