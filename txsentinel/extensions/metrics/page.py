"""The page of metrics: all families in one of the text formats, kept for a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from txsentinel.extensions.metrics.failovers import FailoverCounters
from txsentinel.extensions.metrics.format import Family, Format
from txsentinel.extensions.metrics.masters import MasterPages, MetricsOptions
from txsentinel.extensions.metrics.process import ProcessFamilies
from txsentinel.extensions.metrics.sentinel import SentinelFamilies
from txsentinel.interfaces import ISentinelView

MAX_AGE: Final = 1.0
"""Seconds for which a page is given again instead of a new one."""

MAX_PART_BYTES: Final = 64 * 1024
"""Bytes of one part of a page."""


@dataclass(frozen=True)
class MetricsPage:
    """A page, or the beginning of one that is still being made."""

    number: int
    """Counts the pages of the process, in all formats."""

    parts: Iterator[bytes]


@dataclass(frozen=True)
class _Kept:
    number: int
    made_at: float
    parts: list[bytes]


class MetricsPages:
    """
    Makes pages.

    :param view: the Sentinel.
    :param clock: returns the present time in seconds, monotonic.
    """

    def __init__(self, view: ISentinelView, clock: Callable[[], float], options: MetricsOptions | None = None) -> None:
        options = options or MetricsOptions()
        self._clock = clock
        self._masters = MasterPages(view, options)
        self._failovers = FailoverCounters(view)
        self._process = ProcessFamilies(clock)
        self._sentinel = SentinelFamilies(view, options.redis_names)
        self._kept: dict[Format, _Kept] = {}
        self._made = 0

    def page(self, text_format: Format) -> MetricsPage:
        """
        Return a page that is at most ``MAX_AGE`` old.

        Its parts are made while they are taken; each takes much less than a millisecond, and may be empty.
        """
        kept = self._kept.get(text_format)
        if kept is not None and self._clock() - kept.made_at < MAX_AGE:
            return MetricsPage(kept.number, iter(kept.parts))
        self._made += 1
        return MetricsPage(self._made, self._make(text_format, self._made, self._clock()))

    def _make(self, text_format: Format, number: int, began_at: float) -> Iterator[bytes]:
        parts: list[bytes] = []
        for part in self._parts(text_format):
            if part:
                parts.append(part)
            yield part
        self._kept[text_format] = _Kept(number, began_at, parts)

    def _parts(self, text_format: Format) -> Iterator[bytes]:
        for _ in self._masters.update():
            yield b""
        self._failovers.update()
        for family, samples in self._families():
            if not samples:
                continue
            yield family.header(text_format)
            for begin in range(0, len(samples), MAX_PART_BYTES):
                yield samples[begin : begin + MAX_PART_BYTES]
        if text_format is Format.OPEN_METRICS:
            yield b"# EOF\n"

    def _families(self) -> Iterator[tuple[Family, bytes]]:
        yield from self._sentinel.families()
        yield from self._failovers.families()
        yield from self._process.families()
        yield from self._masters.families()
