"""The page of metrics: all families in one of the text formats, kept for a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from txsentinel.extensions.metrics.compression import PageCompressor
from txsentinel.extensions.metrics.failovers import FailoverCounters
from txsentinel.extensions.metrics.format import Family, Format
from txsentinel.extensions.metrics.masters import MasterPages, MetricsOptions
from txsentinel.extensions.metrics.peers import PeerFamilies
from txsentinel.extensions.metrics.process import ProcessFamilies
from txsentinel.extensions.metrics.sentinel import SentinelFamilies
from txsentinel.interfaces import ISentinelView

MAX_AGE: Final = 1.0
"""Seconds for which a page is given again instead of a new one."""


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
        self._peers = PeerFamilies(view, clock)
        self._process = ProcessFamilies(clock)
        self._sentinel = SentinelFamilies(view, options.redis_names)
        self._kept: dict[tuple[Format, bool], _Kept] = {}
        self._compressors = {each: PageCompressor() for each in Format}
        self._made = 0

    def page(self, text_format: Format, *, compressed: bool = False) -> MetricsPage:
        """
        Return a page that is at most ``MAX_AGE`` old.

        Its parts are made while they are taken; each takes much less than a millisecond, and may be empty.

        :param compressed: whether the parts are to form a gzip member.
        """
        variant = (text_format, compressed)
        kept = self._kept.get(variant)
        if kept is not None and self._clock() - kept.made_at < MAX_AGE:
            return MetricsPage(kept.number, iter(kept.parts))
        self._made += 1
        parts = self._parts(text_format)
        if compressed:
            parts = self._compressors[text_format].compress(parts)
        return MetricsPage(self._made, self._make(variant, parts, self._made, self._clock()))

    def _make(
        self, variant: tuple[Format, bool], parts: Iterator[bytes], number: int, began_at: float
    ) -> Iterator[bytes]:
        made: list[bytes] = []
        for part in parts:
            if part:
                made.append(part)
            yield part
        self._kept[variant] = _Kept(number, began_at, made)

    def _parts(self, text_format: Format) -> Iterator[bytes]:
        for _ in self._masters.update():
            yield b""
        self._failovers.update()
        for _ in self._peers.update():
            yield b""
        for family, samples in self._families():
            if samples:
                yield family.header(text_format)
                yield samples
        if text_format is Format.OPEN_METRICS:
            yield b"# EOF\n"

    def _families(self) -> Iterator[tuple[Family, bytes]]:
        yield from self._sentinel.families()
        yield from self._failovers.families()
        yield from self._process.families()
        yield from self._peers.families()
        yield from self._masters.families()
