"""
What publishers have made known elsewhere, and what they have not: for metrics, HTTP, EXPLAIN and the doctor.

A :class:`PublisherRegistry` asks the publishers of a Sentinel when their state is wanted; nothing is kept up to date
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from txsentinel.model.measurements import HistogramState
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.model.timings import Millis

LAG_BOUNDS: Final[tuple[Millis, ...]] = (
    *(5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000),
)
"""Upper bounds of the buckets for the time from a change to its publication, in milliseconds."""


class PublishOutcome(Enum):
    """How an attempt to publish a change ended; the value is a label of metrics."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    """It was there already; usually another Sentinel had published it."""

    OUTDATED = "outdated"
    """A newer address, by its config epoch, was there already."""

    CONFLICT = "conflict"
    """Another address was there with the same config epoch, and stays."""

    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Publication:
    """How an attempt to publish ended; ``text`` describes a conflict."""

    outcome: PublishOutcome
    text: str = ""


@dataclass(frozen=True, slots=True)
class MasterPublication:
    """The publication of one master by one publisher."""

    master: str
    address: Endpoint
    """The newest address."""

    config_epoch: int
    outcome: PublishOutcome | None
    """How the latest attempt ended; ``None`` before the first."""

    published_at: Instant | None
    """When an attempt last succeeded."""

    pending_since: Instant | None
    """Since when the newest change is not published; ``None`` if it is."""

    attempts: int
    """Attempts that have failed since the last one that succeeded."""

    error: str | None
    """Why the latest attempt failed, or what is in conflict."""


@dataclass(frozen=True, slots=True)
class PublisherState:
    """One publisher."""

    publisher: str
    """The name of its extension."""

    target: str
    """Where it publishes, without passwords; may be empty."""

    masters: tuple[MasterPublication, ...]
    outcomes: Mapping[str, int]
    """Ended attempts by the value of :class:`PublishOutcome`."""

    lag: HistogramState
    """The time from each change to the end of the attempt that made it known."""

    notices: tuple[str, ...] = ()
    """Sentences on what needs attention and is about no master."""

    @property
    def pending(self) -> int:
        """Number of masters whose newest change is not published."""
        return sum(each.pending_since is not None for each in self.masters)


StateSource: TypeAlias = "Callable[[str | None], Sequence[PublisherState]]"
"""Returns the state of publishers, with one master only if a name is given."""


class PublisherRegistry:
    """The publishers of a Sentinel."""

    def __init__(self) -> None:
        self._sources: dict[int, StateSource] = {}
        self._added = 0

    def add(self, source: StateSource) -> Callable[[], None]:
        """Add a function that returns the state of publishers; return a function that removes it."""
        number = self._added
        self._added += 1
        self._sources[number] = source

        def remove() -> None:
            self._sources.pop(number, None)

        return remove

    def states(self) -> tuple[PublisherState, ...]:
        """Return the state of all publishers."""
        return tuple(state for source in self._sources.values() for state in source(None))

    def warnings(self, master: str) -> tuple[str, ...]:
        """Return sentences on what publishers have failed to make known of a master."""
        found = [state for source in self._sources.values() for state in source(master)]
        return tuple(text for state in found for name, text in publication_warnings(state) if name == master)


def publication_warnings(state: PublisherState) -> Iterator[tuple[str, str]]:
    """Yield master and sentence for each failure to publish, and each conflict."""
    place = f"{state.publisher} ({state.target})" if state.target else state.publisher
    for each in state.masters:
        what = f"{each.address} with config epoch {each.config_epoch}"
        if each.pending_since is not None and each.attempts:
            tries = f"{each.attempts} attempt{'s' if each.attempts > 1 else ''} failed, the last with: {each.error}"
            yield each.master, f"{place} has not been given the address {what} since {each.pending_since}; {tries}"
        elif each.outcome is PublishOutcome.CONFLICT:
            yield each.master, f"{place} refuses the address {what}: {each.error}"
