"""
The metrics of what other Sentinels hold differently.

Asking them takes a moment, so a page has the results of the questions that earlier pages caused. Nothing is asked while
nobody reads pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.metrics import catalogue
from txsentinel.extensions.metrics.format import Family
from txsentinel.interfaces import ISentinelView
from txsentinel.model.comparison import DifferenceKind, GroupComparison

MAX_AGE: Final = 10.0
"""Seconds after which a group is compared again."""

MIN_QUESTIONS: Final = 20
"""How many groups are compared for one page, at least; each costs one short command to each other Sentinel."""

PAGES_FOR_ALL: Final = 8
"""Within how many pages all groups are compared."""


class PeerFamilies:
    """
    Compares the groups, a part of them for each page.

    :param clock: returns the present time in seconds, monotonic.
    """

    _log = Logger(namespace=__name__)

    def __init__(self, view: ISentinelView, clock: Callable[[], float]) -> None:
        self._view = view
        self._clock = clock
        self._found: dict[str, GroupComparison] = {}
        self._asked: dict[str, float] = {}
        """Name → when its group was last compared, the earliest first."""

        self._samples: bytes | None = b""

    def update(self) -> Iterator[None]:
        """Have the groups compared whose results are the oldest; yield after each, as there may be hundreds."""
        names, now = self._view.names(), self._clock()
        known = frozenset(names)
        for gone in self._asked.keys() - known:
            del self._asked[gone]
            self._found.pop(gone, None)
            self._samples = None
        due = [name for name in names if name not in self._asked]
        due += [name for name, asked_at in self._asked.items() if now - asked_at >= MAX_AGE]
        for name in due[: max(MIN_QUESTIONS, len(names) // PAGES_FOR_ALL)]:
            self._asked.pop(name, None)
            self._asked[name] = now
            # A master may have been removed since the last step.
            with suppress(LookupError):
                self._view.compare_group(name).addCallbacks(self._compared, self._failed)
            yield

    def _compared(self, found: GroupComparison) -> None:
        if found.master in self._asked:
            self._found[found.master] = found
            self._samples = None

    def _failed(self, failure: Failure) -> None:
        self._log.failure("metrics: a group cannot be compared", failure)

    def families(self) -> Iterator[tuple[Family, bytes]]:
        """Yield the family with its samples: groups of which no other Sentinel has answered have none."""
        if self._samples is None:
            family = catalogue.DISAGREEING
            lines = [
                family.line((name, about.value), str(found.disagreeing(about)))
                for name, found in self._found.items()
                if found.compared
                for about in DifferenceKind
            ]
            self._samples = "".join(lines).encode()
        yield catalogue.DISAGREEING, self._samples
