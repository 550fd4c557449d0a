"""Subscriptions to events and to changes of the snapshots, which are reported together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from txsentinel.model.snapshots import ViewChange
from txsentinel.runtime.snapshot_cache import SnapshotCache

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from txsentinel.core.instances import Master
    from txsentinel.core.sentinel import SentinelCore
    from txsentinel.interfaces import IHost
    from txsentinel.model.events import SentinelEvent

FLUSH_DELAY_FACTOR: Final = 10
"""How many times longer than the last report of changes the pause before the next one is."""

IDLE_FLUSH_INTERVAL: Final = 1.0
"""Seconds after which subscribers get what changed by the passing of time; the longest of those pauses, too."""

PROBE_LAG: Final = 250
"""Milliseconds by which reports to subscribers may lag behind in what changes with each probe of a master."""


class ViewSubscriptions:
    """
    The subscribers of one view, and the cache of snapshots whose changes they get.

    :param subscribe_events: calls a function with every event once it is durable; returns a function that ends that.
    """

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        host: IHost,
        core: SentinelCore,
        subscribe_events: Callable[[Callable[[SentinelEvent], None]], Callable[[], None]],
    ) -> None:
        self._host = host
        self._subscribe_events = subscribe_events
        self.cache = SnapshotCache(host, core, self._snapshots_changed)
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

    def touched(self, master: Master | None, offsets_only: bool = False) -> None:
        """
        Handle that a master (``None``: any) may have changed. The core calls this in the middle of an input.

        :param offsets_only: whether nothing but its replication offsets may have changed.
        """
        self.cache.touched(master, offsets_only)
        if self._change_subscribers and not self._flush_soon:
            self._schedule_flush(self._flush_delay, soon=True)

    def subscribe(self, callback: Callable[[ViewChange], None], *, changes: bool = True) -> Callable[[], None]:
        """
        Call ``callback`` with every event, once it is durable, and with every change of a snapshot.

        Changes of one reactor turn are reported together, in the next one; later if there are so many that this takes
        long. Changes by the passing of time are reported within about a second.

        :param changes: whether changes of snapshots are wanted, which costs CPU time with every INFO of a server.
        :returns: a function that ends the subscription.
        """
        if not self._subscribers:
            self._unsubscribe_events = self._subscribe_events(self._event_published)
        self._subscriptions += 1
        number = self._subscriptions
        self._subscribers[number] = callback
        if changes:
            self.cache.refresh(self._host.now())
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

    def _snapshots_changed(self, changed: Sequence[str]) -> None:
        if self._change_subscribers:
            self._unreported.update(dict.fromkeys(changed))
            if not self._flush_soon:
                self._schedule_flush(self._flush_delay, soon=True)

    def _flush(self) -> None:
        """Report the changes since the last call to the subscribers."""
        self._flush_call, self._flush_soon = None, True
        began = self._host.reactor.seconds()
        try:
            self.cache.refresh(self._host.now(), PROBE_LAG)
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
        soon = self.cache.is_outdated or bool(self._unreported)
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
