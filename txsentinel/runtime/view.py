"""The read-only view of a Sentinel for extensions, with cached snapshots of the masters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from zope.interface import implementer

from txsentinel.core.durable_records import RecordKind
from txsentinel.core.instances import Master
from txsentinel.interfaces import ISentinelView
from txsentinel.model.explanation import Explanation, JournalRecord, with_warnings
from txsentinel.model.snapshots import (
    Instant,
    LoadState,
    MasterSnapshot,
    SentinelSnapshot,
    StorageState,
    TiltState,
    ViewChange,
)
from txsentinel.runtime.group_questions import compare_group, explain_group
from txsentinel.runtime.view_subscriptions import ViewSubscriptions
from txsentinel.server.information import CRASH_BITS

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from txsentinel.core.sentinel import SentinelCore
    from txsentinel.interfaces import IHost
    from txsentinel.model.comparison import GroupComparison
    from txsentinel.model.doctor import GroupHealth
    from txsentinel.model.events import SentinelEvent
    from txsentinel.model.history import FailoverRecord
    from txsentinel.model.measurements import MeasurementsState
    from txsentinel.model.publications import PublisherRegistry
    from txsentinel.model.snapshots import ProbeTimes
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import ClientRegistry
    from txsentinel.server.process_info import ProcessInfo
    from txsentinel.server.services import PendingScripts
    from txsentinel.server.statistics import Statistics


class ServerState(Protocol):
    """The state of the server that the view shows, and what questions to other Sentinels need."""

    core: SentinelCore
    host: IHost
    clients: ClientRegistry
    statistics: Statistics
    scripts: PendingScripts
    process_info: ProcessInfo
    publishers: PublisherRegistry
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

    def examine_group(self, name: str, active: bool) -> Deferred[GroupHealth]:
        """Check the group of a master."""

    def subscribe(self, callback: Callable[[SentinelEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with every event once it is durable; return a function that ends that."""


@implementer(ISentinelView)
class SentinelView:
    """
    The view of one Sentinel.

    ``touched`` is what the core must call when a master may have changed.
    """

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
        self.publishers = server.publishers
        self._subscriptions = ViewSubscriptions(host, core, service.subscribe)
        self._cache = self._subscriptions.cache
        self.touched = self._subscriptions.touched

    @property
    def clock_offset(self) -> Millis:
        """Milliseconds from the monotonic clock to the wall clock, as it was when the snapshots were made."""
        return self._cache.builder.offset

    def identity(self) -> SentinelSnapshot:
        """Return the state of the Sentinel itself."""
        core, info = self._core, self._server.process_info
        state, now = core.state, self._host.now()
        self._cache.refresh(now, offsets=False)  # So that the times agree with those of the masters.
        builder, tilt, error = self._cache.builder, core.tilt, state.storage_error
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
        self._cache.refresh(self._host.now(), offsets=offsets)
        return self._cache.all()

    def master(self, name: str) -> MasterSnapshot:
        """
        Return one master.

        :raises LookupError: if no master of that name is monitored.
        """
        self._cache.refresh_one(name, self._host.now())
        snapshot = self._cache.get(name)
        if snapshot is None:
            raise unknown_master(name)
        return snapshot

    def revision(self, *, offsets: bool = True) -> int:
        """Return a number that grows whenever any snapshot changes; for ``offsets`` see :meth:`masters`."""
        self._cache.refresh(self._host.now(), offsets=offsets)
        return self._cache.revision

    def probe_times(self, name: str) -> Mapping[str, ProbeTimes]:
        """
        Return when instances last answered: the master under its name, replicas and peers under theirs.

        :raises LookupError: if no master of that name is monitored.
        """
        return self._cache.builder.probe_times(self._found(name))

    def explain(self, name: str) -> Explanation:
        """
        Explain why the master is, or is not, failed over; with its latest journal records.

        :raises LookupError: if no master of that name is monitored.
        """
        self._found(name)
        now = self._host.now()
        explanation = self._core.explain(name, now, now + self._cache.builder.offset)
        return with_warnings(explanation, self.publishers.warnings(name))

    def explain_group(self, name: str) -> Deferred[Explanation]:
        """
        Explain a master, with what the other Sentinels answer to the same question within a second.

        :raises LookupError: if no master of that name is monitored.
        """
        return explain_group(self._server, self.explain(name))

    def compare_group(self, name: str) -> Deferred[GroupComparison]:
        """
        Compare address, epoch and options of a master with what the other Sentinels have, within a second.

        :raises LookupError: if no master of that name is monitored.
        """
        self._found(name)
        return compare_group(self._server, name, Instant(self._host.now() + self._cache.builder.offset))

    def examine_group(self, name: str, *, active: bool = False) -> Deferred[GroupHealth]:
        """
        Check the group of a master for what breaks a failover now, or will surprise; this takes about two seconds.

        :param active: also test the rights of the users, which adds entries to ``ACL LOG``, and measure round trips.
        :returns: fails with a ``LookupError`` if the group cannot be read, and with ``Busy`` if too much waits.
        """
        return self._service.examine_group(name, active)

    def journal(self, name: str, after: int = 0) -> tuple[JournalRecord, ...]:
        """
        Return the records of rare events with a sequence number above ``after``, oldest first.

        :raises LookupError: if no master of that name is monitored.
        """
        self._found(name)
        return self._core.journal.records(name, after, self._cache.builder.offset)

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
        return self._subscriptions.subscribe(callback, changes=changes)

    def load(self) -> LoadState:
        """Return how busy the Sentinel is."""
        server, statistics, scripts = self._server, self._server.statistics, self._server.scripts
        running = scripts.running
        return LoadState(
            swept_at=self._cache.builder.instant_or_none(self._core.swept_at),
            sweep_period_ms=self._core.timings.idle_period,
            clients=len(server.clients),
            commands_processed=statistics.commands_processed,
            rejected_connections=statistics.connections_rejected,
            pending_scripts=len(scripts.jobs) - running,
            running_scripts=running,
            links=self._service.link_count(),
            scheduled_operations=sum(
                1 for _ in self._core.state.records.in_force(RecordKind.SCHEDULED, self._host.now())
            ),
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


def unknown_master(name: str) -> LookupError:
    """Return the error for a name that no monitored master has."""
    return LookupError(f"no master of the name {name!r} is monitored")
