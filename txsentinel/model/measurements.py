"""
Counters and histograms of what happens too often for events: round trips, saves, delays and failures of links.

The parts of the Sentinel update them in the reactor's thread. A measurement costs a search in a short tuple and two
additions, and nothing is converted until it is read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from txsentinel.model.timings import Millis

ROUND_TRIP_BOUNDS: Final[tuple[Millis, ...]] = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500)
"""Upper bounds of the buckets for durations that are usually short, in milliseconds, which is their resolution."""

INSTANCE_KINDS: Final = ("master", "replica", "peer")
"""What a link leads to."""

TILT_CAUSES: Final = ("clock-stepped", "process-stopped", "loop-late")
"""The words of ``TiltCause``."""


@dataclass(frozen=True, slots=True)
class HistogramState:
    """
    A copy of a histogram.

    ``counts`` has one number for each bucket, the last one for what is above all ``bounds``; they are not cumulative.
    """

    bounds: tuple[Millis, ...]
    counts: tuple[int, ...]
    sum_ms: int

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.counts)

    def plus(self, other: HistogramState) -> HistogramState:
        """Return the sum of two histograms with the same bounds."""
        counts = tuple(map(sum, zip(self.counts, other.counts, strict=True)))
        return HistogramState(self.bounds, counts, self.sum_ms + other.sum_ms)


class Histogram:
    """Durations in milliseconds, counted in buckets; a bucket includes its upper bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[Millis] = ROUND_TRIP_BOUNDS) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0

    def observe(self, duration: Millis) -> None:
        """Count one duration."""
        if duration <= self._bounds[0]:
            self._counts[0] += 1  # nearly all of those that are measured often
        else:
            self._counts[bisect_left(self._bounds, duration)] += 1
        self._sum += duration

    def state(self) -> HistogramState:
        """Return a copy."""
        return HistogramState(self._bounds, tuple(self._counts), self._sum)


@dataclass(frozen=True, slots=True)
class MeasurementsState:
    """A copy of all measurements since the start of the process."""

    ping_round_trips: Mapping[str, HistogramState]
    """By the kind of the instance; a PING that is sent while another one is unanswered is not measured."""

    vote_round_trips: HistogramState
    commits: HistogramState
    commit_failures: int
    sweep_delays: HistogramState
    """How late periodic sweeps began."""

    link_failures: Mapping[tuple[str, str], int]
    """By the kind of the instance and the word of ``FailureClass``."""

    events: Mapping[str, int]
    """Published events, by channel."""

    votes: Mapping[tuple[str, str], int]
    """Answers to vote requests of others: ``granted``, ``refused`` or ``withheld``, and the code of why."""

    tilts: Mapping[str, int]
    """Entries into TILT and extensions of it, by cause."""

    tilt_ms: Mapping[str, Millis]
    """Milliseconds spent in TILT, by cause; the present one counts when it ends."""


class Measurements:
    """What the parts of one Sentinel measure."""

    def __init__(self) -> None:
        self.observed = False
        """Whether a view exists. Without one nobody can read what occurs often, so that is not measured."""

        self.ping_round_trips = {kind: Histogram() for kind in INSTANCE_KINDS}
        self.vote_round_trips = Histogram()
        self.commits = Histogram()
        self.commit_failures = 0
        self.sweep_delays = Histogram()
        self.link_failures: Counter[tuple[str, str]] = Counter()
        self.events: Counter[str] = Counter()
        self.votes: Counter[tuple[str, str]] = Counter()
        """Not updated by the adapters: the core counts its answers, and the view puts them into its copies."""

        self.tilts: Counter[str] = Counter()
        self.tilt_ms: Counter[str] = Counter()

    def observe(self) -> None:
        """Measure from now on what occurs often."""
        self.observed = True

    def commit_failed(self) -> None:
        """Count a write that has failed."""
        self.commit_failures += 1

    def state(self) -> MeasurementsState:
        """Return a copy."""
        return MeasurementsState(
            {kind: each.state() for kind, each in self.ping_round_trips.items()},
            self.vote_round_trips.state(),
            self.commits.state(),
            self.commit_failures,
            self.sweep_delays.state(),
            dict(self.link_failures),
            dict(self.events),
            dict(self.votes),
            dict(self.tilts),
            dict(self.tilt_ms),
        )
