"""The read-only view of a Sentinel for extensions, with cached snapshots of the masters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, Protocol

from twisted.logger import Logger
from zope.interface import implementer

from txsentinel.core.instances import Master
from txsentinel.interfaces import ISentinelView
from txsentinel.model.snapshots import (
    LoadState,
    MasterSnapshot,
    SentinelSnapshot,
    StorageState,
    TiltState,
    ViewChange,
)
from txsentinel.model.timings import wall_offset
from txsentinel.runtime.snapshot_builder import NEVER, Assessment, SnapshotBuilder, assess, valid_until_now
from txsentinel.server.information import CRASH_BITS

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from txsentinel.core.sentinel import SentinelCore
    from txsentinel.interfaces import IHost
    from txsentinel.model.events import SentinelEvent
    from txsentinel.model.explanation import Explanation, JournalRecord
    from txsentinel.model.history import FailoverRecord
    from txsentinel.model.measurements import MeasurementsState
    from txsentinel.model.snapshots import ProbeTimes
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import ClientRegistry
    from txsentinel.server.process_info import ProcessInfo
    from txsentinel.server.services import PendingScripts
    from txsentinel.server.statistics import Statistics

MAX_CLOCK_ERROR: Final = 500
"""Milliseconds by which the wall clock may differ from the one of the snapshots; beyond, all are made anew."""


FLUSH_DELAY_FACTOR: Final = 10
"""How many times longer than the last report of changes the pause before the next one is."""

IDLE_FLUSH_INTERVAL: Final = 1.0
"""Seconds after which subscribers get what changed by the passing of time; the longest of those pauses, too."""

PROBE_LAG: Final = 250
"""Milliseconds by which reports to subscribers may lag behind in what changes with each probe of a master."""


class ServerState(Protocol):
    """The state of the server that the view shows."""

    clients: ClientRegistry
    statistics: Statistics
    scripts: PendingScripts
    process_info: ProcessInfo
    started_at: Millis


class History(Protocol):
    """The records of failovers."""

    def records(self, name: str | None, limit: int) -> tuple[FailoverRecord, ...]:
        """Return the latest failovers of one master or of all, newest first."""


class ServiceState(Protocol):
    """The state of the service that the view shows."""

    def listens(self) -> Sequence[str]:
        """Return ``host:port`` of each port, or the path of a socket; with ``tls://`` in front of TLS ports."""

    def link_count(self) -> int:
        """Return the number of links."""

    def measurements(self) -> MeasurementsState:
        """Return counters and histograms since the start of the process."""

    def is_stopping(self) -> bool:
        """Return whether the service stops, or has stopped."""

    def subscribe(self, callback: Callable[[SentinelEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with every event once it is durable; return a function that ends that."""


@dataclass(slots=True)
class _Cached:
    """A snapshot with the master that it shows and what it was made of."""

    master: Master
    snapshot: MasterSnapshot
    assessment: Assessment
    valid_until: Millis = 0
    """Until when the assessment is valid, given the replies that have arrived since."""


@implementer(ISentinelView)
class SentinelView:
    """
    The view of one Sentinel.

    The core reports which masters may have changed. Only those are looked at again, when they are asked for or, with
    subscribers, in the next reactor turn.
    """

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        host: IHost,
        core: SentinelCore,
        server: ServerState,
        service: ServiceState,
        history: History | None = None,
    ) -> None:
        self._host = host
        self._core = core
        self._server = server
        self._service = service
        self._history = history
        self._revision = 0
        self._builder = SnapshotBuilder(core, self._offset())
        self._cached: dict[str, _Cached] = {}
        self._expiries: list[tuple[Millis, str]] = []
        """Heap of the times until which assessments are valid; an entry is outdated if it differs from the cache."""

        self._touched: set[str] = set()
        self._offsets_touched: set[str] = set()
        """The names of masters of which only offsets may have changed since their snapshot was made."""

        self._all_touched = True
        self._all: tuple[MasterSnapshot, ...] | None = None
        """What :meth:`masters` returned last; ``None`` if a snapshot has changed since."""

        self._subscribers: dict[int, Callable[[ViewChange], None]] = {}
        self._change_subscribers: dict[int, Callable[[ViewChange], None]] = {}
        """Those of the subscribers that want changes of snapshots, too."""

        self._subscriptions = 0
        self._unsubscribe_events: Callable[[], None] | None = None
        self._unreported: dict[str, None] = {}
        """The masters whose snapshots changed since the last report to the subscribers."""

        self._flush_call: IDelayedCall | None = None
        self._flush_soon = False
        """Whether that call reports changes, and does not only look for what changed by the passing of time."""

        self._flush_delay = 0.0
        self._refreshing = False

    def touched(self, master: Master | None, offsets_only: bool = False) -> None:
        """
        Handle that a master (``None``: any) may have changed. The core calls this in the middle of an input.

        :param offsets_only: whether nothing but its replication offsets may have changed.
        """
        if master is None:
            self._all_touched = True
        elif offsets_only:
            self._offsets_touched.add(master.name)
        else:
            self._touched.add(master.name)
        if self._change_subscribers and not self._flush_soon:
            self._schedule_flush(self._flush_delay, soon=True)

    @property
    def clock_offset(self) -> Millis:
        """Milliseconds from the monotonic clock to the wall clock, as it was when the snapshots were made."""
        return self._builder.offset

    def identity(self) -> SentinelSnapshot:
        """Return the state of the Sentinel itself."""
        core, info = self._core, self._server.process_info
        state, now = core.state, self._host.now()
        self._refresh(now, offsets=False)  # So that the times agree with those of the masters.
        builder, tilt, error = self._builder, core.tilt, state.storage_error
        since = tilt.since
        generation, durable = core.outbox.generation, core.durable_generation
        return SentinelSnapshot(
            version=info.version,
            build=info.build,
            run_id=info.run_id,
            sentinel_id=core.options.my_id,
            pid=self._host.pid,
            started_at=builder.instant(self._server.started_at),
            uptime_ms=now - self._server.started_at,
            listens=tuple(self._service.listens()),
            current_epoch=core.current_epoch,
            tilt=TiltState(
                active=tilt.active,
                since=builder.instant_or_none(since),
                until=None if since is None else builder.instant(since + core.timings.tilt_period),
                cause=None if since is None or tilt.report is None else tilt.report.cause.value,
                total=tilt.total,
            ),
            storage=StorageState(
                state="ok" if error is None else "failing",
                last_error=None if error is None else str(error),
                generation=generation,
                durable_generation=durable,
                pending=max(0, generation - durable),
            ),
            masters=len(core.registry.masters),
            stopping=self._service.is_stopping(),
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of all masters, in the order of ``SENTINEL MASTERS``."""
        return tuple(self._core.registry.masters)

    def masters(self, *, offsets: bool = True) -> tuple[MasterSnapshot, ...]:
        """
        Return all masters. A snapshot is made anew only if its master changed, which takes time for all at once.

        :param offsets: whether replication offsets are those of the latest INFO; otherwise they may be older, and so
            may be which replica would be promoted. That is much cheaper, as the offsets of every master change.
        """
        self._refresh(self._host.now(), offsets=offsets)
        if self._all is None:
            cached = self._cached
            self._all = tuple([cached[name].snapshot for name in self._core.registry.masters if name in cached])
        return self._all

    def master(self, name: str) -> MasterSnapshot:
        """
        Return one master.

        :raises LookupError: if no master of that name is monitored.
        """
        self._refresh_one(name, self._host.now())
        cached = self._cached.get(name)
        if cached is None:
            raise unknown_master(name)
        return cached.snapshot

    def revision(self, *, offsets: bool = True) -> int:
        """Return a number that grows whenever any snapshot changes; for ``offsets`` see :meth:`masters`."""
        self._refresh(self._host.now(), offsets=offsets)
        return self._revision

    def probe_times(self, name: str) -> Mapping[str, ProbeTimes]:
        """
        Return when instances last answered: the master under its name, replicas and peers under theirs.

        :raises LookupError: if no master of that name is monitored.
        """
        return self._builder.probe_times(self._found(name))

    def explain(self, name: str) -> Explanation:
        """
        Explain why the master is, or is not, failed over; with its latest journal records.

        :raises LookupError: if no master of that name is monitored.
        """
        self._found(name)
        now = self._host.now()
        return self._core.explain(name, now, now + self._builder.offset)

    def journal(self, name: str, after: int = 0) -> tuple[JournalRecord, ...]:
        """
        Return the records of rare events with a sequence number above ``after``, oldest first.

        :raises LookupError: if no master of that name is monitored.
        """
        self._found(name)
        return self._core.journal.records(name, after, self._builder.offset)

    def history(self, name: str | None = None, limit: int = 100) -> tuple[FailoverRecord, ...]:
        """Return the latest failovers of one master or of all, newest first."""
        return () if self._history is None else self._history.records(name, limit)

    def subscribe(self, callback: Callable[[ViewChange], None], *, changes: bool = True) -> Callable[[], None]:
        """
        Call ``callback`` with every event, once it is durable, and with every change of a snapshot.

        Changes of one reactor turn are reported together, in the next one; later if there are so many that this takes
        long. Changes by the passing of time are reported within about a second.

        :param changes: whether changes of snapshots are wanted, which costs CPU time with every INFO of a server.
        :returns: a function that ends the subscription.
        """
        if not self._subscribers:
            self._unsubscribe_events = self._service.subscribe(self._event_published)
        self._subscriptions += 1
        number = self._subscriptions
        self._subscribers[number] = callback
        if changes:
            self._refresh(self._host.now())
            if not self._change_subscribers:
                self._unreported.clear()
                self._schedule_flush(IDLE_FLUSH_INTERVAL)
            self._change_subscribers[number] = callback

        def cancel() -> None:
            self._subscribers.pop(number, None)
            self._change_subscribers.pop(number, None)
            if not self._change_subscribers:
                self._cancel_flush()
            if not self._subscribers and self._unsubscribe_events is not None:
                self._unsubscribe_events()
                self._unsubscribe_events = None

        return cancel

    def load(self) -> LoadState:
        """Return how busy the Sentinel is."""
        server, statistics, scripts = self._server, self._server.statistics, self._server.scripts
        running = scripts.running
        return LoadState(
            swept_at=self._builder.instant_or_none(self._core.swept_at),
            sweep_period_ms=self._core.timings.sweep_period,
            clients=len(server.clients),
            commands_processed=statistics.commands_processed,
            rejected_connections=statistics.connections_rejected,
            pending_scripts=len(scripts.jobs) - running,
            running_scripts=running,
            links=self._service.link_count(),
            simulated_failures=sum(CRASH_BITS[word] for word in self._core.simulate_crash),
        )

    def reply_ages(self) -> Sequence[Millis]:
        """Return how long ago each master last gave an acceptable reply, in the order of :meth:`names`."""
        now = self._host.now()
        return [now - master.link.available_at for master in self._core.registry.masters.values()]

    def measurements(self) -> MeasurementsState:
        """Return counters and histograms since the start of the process."""
        return replace(self._service.measurements(), votes=dict(self._core.journal.answers))

    def _found(self, name: str) -> Master:
        master = self._core.registry.masters.get(name)
        if master is None:
            raise unknown_master(name)
        return master

    def _offset(self) -> Millis:
        """Return the milliseconds from the monotonic clock to the wall clock."""
        return wall_offset(self._host.wall_clock(), self._host.reactor.seconds())

    def _check_clock(self) -> None:
        """Have all snapshots made anew if the wall clock was set."""
        offset = self._offset()
        if abs(offset - self._builder.offset) > MAX_CLOCK_ERROR:
            self._builder = SnapshotBuilder(self._core, offset)
            self._all_touched = True

    def _refresh(self, now: Millis, lag: Millis = 0, *, offsets: bool = True) -> None:
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

    def _refresh_one(self, name: str, now: Millis) -> None:
        """Make the snapshot of one master anew if it changed."""
        self._check_clock()
        cached = self._cached.get(name)
        if self._all_touched:
            self._refresh(now)
        elif name in self._touched or name in self._offsets_touched:
            self._touched.discard(name)
            self._offsets_touched.discard(name)
            self._note_changed([name] if self._rebuild(name, now) else [])
        elif cached is not None and cached.valid_until <= now:
            self._note_changed([name] if self._reassess(name, cached, now) else [])

    def _note_changed(self, changed: Sequence[str]) -> None:
        if not changed:
            return
        self._revision += 1
        self._all = None
        if self._change_subscribers:
            self._unreported.update(dict.fromkeys(changed))
            if not self._flush_soon:
                self._schedule_flush(self._flush_delay, soon=True)

    def _rebuild(self, name: str, now: Millis) -> bool:
        """Make the snapshot of one master anew; return whether it differs from the one before."""
        master, before = self._core.registry.masters.get(name), self._cached.get(name)
        if master is None and before is None:
            return False
        if master is None:
            del self._cached[name]
            return True
        assessment = assess(self._core, master, now)
        snapshot = self._builder.master(master, assessment, self._revision + 1)
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

    def _flush(self) -> None:
        """Report the changes since the last call to the subscribers."""
        self._flush_call, self._flush_soon = None, True
        began = self._host.reactor.seconds()
        try:
            self._refresh(self._host.now(), PROBE_LAG)
        except Exception:
            # A bug of ours, which must not end the reports on all other masters.
            self._log.failure("snapshots cannot be made")
        changed, self._unreported = self._unreported, {}
        for name in changed:
            self._report(self._change_subscribers, ViewChange(name))
        self._flush_soon = False
        if not self._change_subscribers:
            return
        # While very much changes, the failovers need the time.
        self._flush_delay = min(FLUSH_DELAY_FACTOR * (self._host.reactor.seconds() - began), IDLE_FLUSH_INTERVAL)
        soon = bool(self._touched or self._offsets_touched or self._all_touched or self._unreported)
        self._schedule_flush(self._flush_delay if soon else IDLE_FLUSH_INTERVAL, soon=soon)

    def _schedule_flush(self, delay: float, *, soon: bool = False) -> None:
        self._cancel_flush()
        self._flush_soon = soon
        self._flush_call = self._host.reactor.callLater(delay, self._flush)

    def _cancel_flush(self) -> None:
        self._flush_soon = False
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None

    def _event_published(self, event: SentinelEvent) -> None:
        self._report(self._subscribers, ViewChange(event.master, event))

    def _report(self, subscribers: Mapping[int, Callable[[ViewChange], None]], change: ViewChange) -> None:
        for callback in list(subscribers.values()):
            try:
                callback(change)
            except Exception:
                self._log.failure("{callback} failed to process a change", callback=callback)


def unknown_master(name: str) -> LookupError:
    """Return the error for a name that no monitored master has."""
    return LookupError(f"no master of the name {name!r} is monitored")
