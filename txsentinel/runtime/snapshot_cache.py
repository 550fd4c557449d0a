"""
The snapshots of the masters, which are made anew only when their master has changed.

The core reports which masters may have changed. Only those are looked at again, when they are asked for or, with
subscribers, in the next reactor turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from txsentinel.core.instances import Master
from txsentinel.model.snapshots import MasterSnapshot
from txsentinel.model.timings import wall_offset
from txsentinel.runtime.snapshot_builder import NEVER, Assessment, SnapshotBuilder, assess, valid_until_now

if TYPE_CHECKING:
    from txsentinel.core.sentinel import SentinelCore
    from txsentinel.interfaces import IHost
    from txsentinel.model.timings import Millis

MAX_CLOCK_ERROR: Final = 500
"""Milliseconds by which the wall clock may differ from the one of the snapshots; beyond, all are made anew."""


@dataclass(slots=True)
class _Cached:
    """A snapshot with the master that it shows and what it was made of."""

    master: Master
    snapshot: MasterSnapshot
    assessment: Assessment
    valid_until: Millis = 0
    """Until when the assessment is valid, given the replies that have arrived since."""


class SnapshotCache:
    """
    The snapshots of all masters of one core.

    :param changed: called with the names of the masters whose snapshots have become different ones.
    """

    def __init__(self, host: IHost, core: SentinelCore, changed: Callable[[Sequence[str]], None]) -> None:
        self._host = host
        self._core = core
        self._changed = changed
        self.builder = SnapshotBuilder(core, self._offset())
        self.revision = 0
        """A number that grows whenever a snapshot changes."""

        self._cached: dict[str, _Cached] = {}
        self._expiries: list[tuple[Millis, str]] = []
        """Heap of the times until which assessments are valid; an entry is outdated if it differs from the cache."""

        self._touched: set[str] = set()
        self._offsets_touched: set[str] = set()
        """The names of masters of which only offsets may have changed since their snapshot was made."""

        self._all_touched = True
        self._all: tuple[MasterSnapshot, ...] | None = None
        """What :meth:`all` returned last; ``None`` if a snapshot has changed since."""

        self._refreshing = False

    @property
    def is_outdated(self) -> bool:
        """Whether a master may have changed since the last refresh."""
        return bool(self._touched or self._offsets_touched or self._all_touched)

    def touched(self, master: Master | None, offsets_only: bool = False) -> None:
        """
        Handle that a master (``None``: any) may have changed.

        :param offsets_only: whether nothing but its replication offsets may have changed.
        """
        if master is None:
            self._all_touched = True
        elif offsets_only:
            self._offsets_touched.add(master.name)
        else:
            self._touched.add(master.name)

    def get(self, name: str) -> MasterSnapshot | None:
        """Return the snapshot of a master as of the last refresh; ``None`` if there is none of that name."""
        cached = self._cached.get(name)
        return None if cached is None else cached.snapshot

    def all(self) -> tuple[MasterSnapshot, ...]:
        """Return all snapshots as of the last refresh, in the order of ``SENTINEL MASTERS``."""
        if self._all is None:
            cached = self._cached
            self._all = tuple([cached[name].snapshot for name in self._core.registry.masters if name in cached])
        return self._all

    def _offset(self) -> Millis:
        """Return the milliseconds from the monotonic clock to the wall clock."""
        return wall_offset(self._host.wall_clock(), self._host.reactor.seconds())

    def _check_clock(self) -> None:
        """Have all snapshots made anew if the wall clock was set."""
        offset = self._offset()
        if abs(offset - self.builder.offset) > MAX_CLOCK_ERROR:
            self.builder = SnapshotBuilder(self._core, offset)
            self._all_touched = True

    def refresh(self, now: Millis, lag: Millis = 0, *, offsets: bool = True) -> None:
        """
        Make the snapshots of changed masters anew.

        :param lag: for how long what changes with each probe need not be looked at.
        :param offsets: whether that includes masters of which only offsets have changed.
        """
        if self._refreshing:
            return  # Called by a client that is served meanwhile.
        self._check_clock()
        masters = self._core.registry.masters
        names: set[str] = set()
        if self._all_touched:
            names.update(masters, self._cached)
            self._all_touched = False
        if self._touched:
            names.update(self._touched)
        self._touched.clear()
        if offsets:
            names.update(self._offsets_touched)
            self._offsets_touched.clear()
        changed = []
        self._refreshing = True
        try:
            for name in sorted(names):
                if self._rebuild(name, now):
                    changed.append(name)
                self._host.yield_to_clients()
            changed += [name for name in self._expired(now - lag) if self._reassess(name, self._cached[name], now)]
        finally:
            self._refreshing = False
        self._note_changed(changed)

    def refresh_one(self, name: str, now: Millis) -> None:
        """Make the snapshot of one master anew if it changed."""
        self._check_clock()
        cached = self._cached.get(name)
        if self._all_touched:
            self.refresh(now)
        elif name in self._touched or name in self._offsets_touched:
            self._touched.discard(name)
            self._offsets_touched.discard(name)
            self._note_changed([name] if self._rebuild(name, now) else [])
        elif cached is not None and cached.valid_until <= now:
            self._note_changed([name] if self._reassess(name, cached, now) else [])

    def _note_changed(self, changed: Sequence[str]) -> None:
        if changed:
            self.revision += 1
            self._all = None
            self._changed(changed)

    def _rebuild(self, name: str, now: Millis) -> bool:
        """Make the snapshot of one master anew; return whether it differs from the one before."""
        master, before = self._core.registry.masters.get(name), self._cached.get(name)
        if master is None and before is None:
            return False
        if master is None:
            del self._cached[name]
            return True
        assessment = assess(self._core, master, now)
        snapshot = self.builder.master(master, assessment, self.revision + 1)
        if before is not None and replace(snapshot, revision=before.snapshot.revision) == before.snapshot:
            snapshot = before.snapshot
        cached = self._cached[name] = _Cached(master, snapshot, assessment)
        self._keep_until(name, cached, assessment.valid_until)
        return before is None or before.snapshot is not snapshot

    def _reassess(self, name: str, cached: _Cached, now: Millis) -> bool:
        """Determine anew what changes by the passing of time; return whether the snapshot differs."""
        valid_until = valid_until_now(self._core, cached.master, cached.assessment, now)
        if valid_until <= now:
            assessment = assess(self._core, cached.master, now)
            if not assessment.same_as(cached.assessment):
                return self._rebuild(name, now)
            cached.assessment, valid_until = assessment, assessment.valid_until
        self._keep_until(name, cached, valid_until)
        return False

    def _keep_until(self, name: str, cached: _Cached, valid_until: Millis) -> None:
        cached.valid_until = valid_until
        if valid_until < NEVER:
            heappush(self._expiries, (valid_until, name))

    def _expired(self, now: Millis) -> list[str]:
        """Remove the entries that are due, and return the names of the masters whose assessments have expired."""
        names: dict[str, None] = {}
        while self._expiries and self._expiries[0][0] <= now:
            until, name = heappop(self._expiries)
            cached = self._cached.get(name)
            if cached is not None and cached.valid_until == until:
                names[name] = None
        return list(names)
