"""Log lines that any stranger can provoke: some of each kind in a minute, and then how many more there were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twisted.logger import Logger

from txsentinel.model.log_text import THROTTLE_PERIOD
from txsentinel.model.timings import Millis

MAX_LINES: Final = 10
"""Lines of one kind in one period."""

MAX_KINDS: Final = 1000
"""Kinds that are told apart; beyond that the oldest one is forgotten."""


@dataclass(slots=True)
class _Count:
    """What was logged of one kind since ``since``."""

    since: Millis
    logged: int = 0
    suppressed: int = 0


class LogThrottle:
    """
    Counts lines by their kind.

    Whoever can reach the port can misbehave a thousand times a second; the disk that the log is on is
    the one that votes are saved on. All misbehaviour is counted in INFO besides.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def allow(self, kind: str, now: Millis) -> bool:
        """Whether one more line of ``kind`` may be logged; if so, it counts."""
        count = self._counts.get(kind)
        if count is None:
            if len(self._counts) >= MAX_KINDS:
                del self._counts[next(iter(self._counts))]
            count = self._counts[kind] = _Count(now)
        elif now - count.since >= THROTTLE_PERIOD:
            self._begin_anew(kind, count, now)
        if count.logged >= MAX_LINES:
            count.suppressed += 1
            return False
        count.logged += 1
        return True

    def warn(self, now: Millis, text: str, **fields: object) -> None:
        """Log a line unless there were too many of its kind; ``text`` is the kind, ``fields`` fill it in."""
        if self.allow(text, now):
            self._log.warn(text, **fields)

    def flush(self, now: Millis) -> None:
        """Tell what was left out as soon as its period is over; to be called now and then."""
        for kind, count in self._counts.items():
            if count.suppressed and now - count.since >= THROTTLE_PERIOD:
                self._begin_anew(kind, count, now)

    def _begin_anew(self, kind: str, count: _Count, now: Millis) -> None:
        suppressed, count.since, count.logged, count.suppressed = count.suppressed, now, 0, 0
        if suppressed:
            self._log.warn("{count} more lines were left out like: {kind}", count=suppressed, kind=kind)
