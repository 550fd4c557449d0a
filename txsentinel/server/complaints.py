"""Log lines that any stranger can provoke: some of each kind in a minute, and then how many more there were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twisted.logger import Logger

from txsentinel.timings import Millis

PERIOD: Final[Millis] = 60_000
MOST: Final = 10
"""Lines of one kind in one period."""


@dataclass(slots=True)
class _Tally:
    """What was said of one kind since ``since``."""

    since: Millis
    said: int = 0
    unsaid: int = 0


class Complaints:
    """
    Warnings about clients.

    Whoever can reach the port can misbehave a thousand times a second; the disk that the log is on is
    the one that votes are saved on. All misbehaviour is counted in INFO besides.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}

    def warn(self, now: Millis, text: str, **fields: object) -> None:
        """Log a line unless there were too many of its kind; ``text`` is the kind, ``fields`` fill it in."""
        tally = self._tallies.get(text)
        if tally is None:
            tally = self._tallies[text] = _Tally(now)
        elif now - tally.since >= PERIOD:
            self._begin_anew(text, tally, now)
        if tally.said >= MOST:
            tally.unsaid += 1
            return
        tally.said += 1
        self._log.warn(text, **fields)

    def settle(self, now: Millis) -> None:
        """Tell what was left out as soon as its period is over; to be called now and then."""
        for text, tally in self._tallies.items():
            if tally.unsaid and now - tally.since >= PERIOD:
                self._begin_anew(text, tally, now)

    def _begin_anew(self, text: str, tally: _Tally, now: Millis) -> None:
        unsaid, tally.since, tally.said, tally.unsaid = tally.unsaid, now, 0, 0
        if unsaid:
            self._log.warn("{count} more lines were left out like: {kind}", count=unsaid, kind=text)
