"""
Rate limits for log lines that others can provoke.

:class:`LogThrottle` is for lines of few kinds that many clients cause: it logs some of each kind per minute, then the
number of the others. :class:`DistinctLineThrottle` is for conditions of one peer, which stay as they are for days: it
logs each distinct line once, until the condition has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twisted.logger import Logger

from txsentinel.model.timings import Millis

THROTTLE_PERIOD: Final[Millis] = 60_000
"""Period in which a throttle counts log lines."""

MAX_LINES: Final = 10
"""Maximum number of lines of one kind in one period."""

MAX_KINDS: Final = 1000
"""Maximum number of kinds that are counted separately; beyond that the oldest kind is discarded."""


@dataclass(slots=True)
class _Count:
    """Number of lines of one kind since ``since``, logged and suppressed."""

    since: Millis
    logged: int = 0
    suppressed: int = 0


class LogThrottle:
    """
    Counts log lines by their kind and suppresses those above the limit.

    Any client that can reach the port can cause thousands of lines per second, and the log is usually on the same disk
    on which votes are saved. INFO counts every occurrence regardless.
    """

    _log = Logger(namespace=__name__)

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def allow(self, kind: str, now: Millis) -> bool:
        """Return whether one more line of ``kind`` may be logged now; if so, it is counted."""
        count = self._counts.get(kind)
        if count is None:
            if len(self._counts) >= MAX_KINDS:
                del self._counts[next(iter(self._counts))]
            count = self._counts[kind] = _Count(now)
        elif now - count.since >= THROTTLE_PERIOD:
            self._start_period(kind, count, now)
        if count.logged >= MAX_LINES:
            count.suppressed += 1
            return False
        count.logged += 1
        return True

    def warn(self, now: Millis, text: str, **fields: object) -> None:
        """Log a line unless there were too many of its kind; ``text`` is the format and the kind of the line."""
        if self.allow(text, now):
            self._log.warn(text, **fields)

    def flush(self, now: Millis) -> None:
        """Log how many lines were suppressed in periods that have ended. To be called periodically."""
        for kind, count in self._counts.items():
            if count.suppressed and now - count.since >= THROTTLE_PERIOD:
                self._start_period(kind, count, now)

    def _start_period(self, kind: str, count: _Count, now: Millis) -> None:
        suppressed, count.since, count.logged, count.suppressed = count.suppressed, now, 0, 0
        if suppressed:
            self._log.warn("{count} more lines were left out like: {kind}", count=suppressed, kind=kind)


class DistinctLineThrottle:
    """
    Limits log lines per minute, and logs each distinct line once.

    :param maximum: maximum number of lines in one period.
    """

    def __init__(self, maximum: int = 5) -> None:
        self._maximum = maximum
        self._since: Millis = 0
        self._lines = 0
        self._logged: dict[str, None] = {}
        """The lines. There is one of these objects for each connection, and an empty set occupies 216 bytes."""

    def allow(self, text: str, now: Millis) -> bool:
        """Return whether ``text`` may be logged now; if so, it counts as logged."""
        if now - self._since >= THROTTLE_PERIOD:
            self._since, self._lines = now, 0
            self._logged.clear()
        if text in self._logged or self._lines >= self._maximum:
            return False
        self._lines += 1
        self._logged[text] = None
        return True

    def reset(self, text: str) -> None:
        """Allow ``text`` to be logged again: the condition that it reports has ended."""
        self._logged.pop(text, None)
