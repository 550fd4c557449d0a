"""Log lines that any stranger can provoke: some of each kind in a minute, and then how many more there were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twisted.logger import Logger

from txsentinel.model.log_text import PERIOD
from txsentinel.model.timings import Millis

MOST: Final = 10
"""Lines of one kind in one period."""

MAX_KINDS: Final = 1000
"""Kinds that are told apart; beyond that the oldest one is forgotten."""


@dataclass(slots=True)
class _Tally:
    """What was logged of one kind since ``since``."""

    since: Millis
    said: int = 0
    unsaid: int = 0


class LogThrottle:
    """
    Counts lines by their kind.

    Whoever can reach the port can misbehave a thousand times a second; the disk that the log is on is
    the one that votes are saved on. All misbehaviour is counted in INFO besides.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}

    def allow(self, kind: str, now: Millis) -> bool:
        """Whether one more line of ``kind`` may be logged; if so, it counts."""
        tally = self._tallies.get(kind)
        if tally is None:
            if len(self._tallies) >= MAX_KINDS:
                del self._tallies[next(iter(self._tallies))]
            tally = self._tallies[kind] = _Tally(now)
        elif now - tally.since >= PERIOD:
            self._begin_anew(kind, tally, now)
        if tally.said >= MOST:
            tally.unsaid += 1
            return False
        tally.said += 1
        return True

    def warn(self, now: Millis, text: str, **fields: object) -> None:
        """Log a line unless there were too many of its kind; ``text`` is the kind, ``fields`` fill it in."""
        if self.allow(text, now):
            self._log.warn(text, **fields)

    def settle(self, now: Millis) -> None:
        """Tell what was left out as soon as its period is over; to be called now and then."""
        for kind, tally in self._tallies.items():
            if tally.unsaid and now - tally.since >= PERIOD:
                self._begin_anew(kind, tally, now)

    def _begin_anew(self, kind: str, tally: _Tally, now: Millis) -> None:
        unsaid, tally.since, tally.said, tally.unsaid = tally.unsaid, now, 0, 0
        if unsaid:
            self._log.warn("{count} more lines were left out like: {kind}", count=unsaid, kind=kind)
