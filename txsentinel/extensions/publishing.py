"""
Keeps the addresses of masters up to date elsewhere: what all publishers have in common.

A publisher only makes one change known, or checks whether it still is. This service finds the changes, in the order in
which they become durable, tries again with growing random delays, and publishes only the newest change of each master.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import uniform
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.failure_text import failure_text
from txsentinel.model.history import trace_id
from txsentinel.model.measurements import Histogram
from txsentinel.model.publications import LAG_BOUNDS, MasterPublication, Publication, PublisherState, PublishOutcome
from txsentinel.model.snapshots import Endpoint, Instant, MasterChange, MasterSnapshot, ViewChange

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from txsentinel.interfaces import IPublisher, ISentinelView

MIN_DELAY: Final = 0.2
"""Seconds before the first repetition of a failed attempt, and the shortest delay before any."""

MAX_DELAY: Final = 30.0

PUBLISH_TIMEOUT: Final = 10.0
"""Seconds after which an attempt has failed."""

MAX_RUNNING: Final = 8
"""Attempts and checks at a time: more would take sockets, and CPU time, from the Sentinel when many masters move."""

VERIFY_INTERVAL: Final = 60.0
"""Seconds between two checks of what was published."""


class PublishedMaster:
    """What is known of the publication of one master."""

    def __init__(self, address: Endpoint, config_epoch: int) -> None:
        self.address = address
        self.config_epoch = config_epoch
        self.latest: MasterChange | None = None
        """The newest change."""

        self.pending: MasterChange | None = None
        """The newest change, until it is published."""

        self.attempts = 0
        """Number of attempts that failed since the last one that succeeded."""

        self.error: str | None = None
        """Why the latest attempt failed, or what is in conflict."""

        self.outcome: PublishOutcome | None = None
        """How the latest attempt ended."""

        self.published_at: Instant | None = None
        self.pending_since: Instant | None = None
        self.changed_at = 0.0
        """When the newest change was seen, on the clock of the reactor."""

        self.running: Deferred[object] | None = None
        """The attempt, or the check, that is in progress."""

        self.retry: IDelayedCall | None = None
        """The next attempt."""

        self.is_queued = False
        """Whether it waits until fewer masters are published or checked."""

        self.verify_due = False

        self.adopted = False
        """Whether another Sentinel announced the address that is seen next."""

    def begin(self, change: MasterChange, at: float) -> None:
        """Have a change pending; ``at`` is the present time on the clock of the reactor."""
        self.latest = self.pending = change
        self.pending_since, self.changed_at = change.at, at

    def enqueue(self) -> bool:
        """Note that it waits; return whether it did not before."""
        before, self.is_queued = self.is_queued, True
        return not before

    def dequeue(self) -> None:
        """Note that it does not wait any more."""
        self.is_queued = False

    def check(self) -> None:
        """Have a check due."""
        self.verify_due = True

    def checked(self) -> None:
        """Have no check due: one begins, or an attempt makes up for it."""
        self.verify_due = False

    def end(self) -> None:
        """Have nothing pending."""
        self.pending = self.pending_since = None

    def succeeded(self, publication: Publication, at: Instant) -> None:
        """Record the end of an attempt that need not be made again."""
        self.attempts, self.outcome, self.error = 0, publication.outcome, publication.text or None
        self.published_at = at

    def failed(self, error: str) -> None:
        """Record the end of an attempt that has to be made again."""
        self.attempts += 1
        self.outcome, self.error = PublishOutcome.FAILED, error

    def publication(self, name: str) -> MasterPublication:
        """Return a copy for others."""
        return MasterPublication(
            name,
            self.address,
            self.config_epoch,
            self.outcome,
            self.published_at,
            self.pending_since,
            self.attempts,
            self.error,
        )


class PublishingService(Service):
    """
    Publishes the masters of a Sentinel.

    While it runs, metrics, HTTP, EXPLAIN and the doctor show what it has published.

    :param wanted: returns whether a master of that name is to be published.
    :param wall_clock: returns the seconds since 1970.
    :param random: returns a random number between two.
    :param verify_interval: seconds between two checks of what was published; 0 for none.
    :param name: the name of the extension, for the log and metrics.
    :param target: where it publishes, without passwords.
    :param timeout: seconds after which an attempt, or a check, has failed.
    :param max_running: how many attempts and checks may be in progress.
    :param follower_delay: the range of seconds by which a change is delayed that another Sentinel announced, if all
        of them publish in one place; that one publishes it at once.
    """

    log = Logger(namespace=__name__)

    def __init__(
        self,
        reactor: IReactorTime,
        view: ISentinelView,
        publisher: IPublisher,
        wanted: Callable[[str], bool] = lambda name: True,
        wall_clock: Callable[[], float] = time.time,
        random: Callable[[float, float], float] = uniform,
        verify_interval: float = VERIFY_INTERVAL,
        *,
        name: str = "publisher",
        target: str = "",
        timeout: float = PUBLISH_TIMEOUT,
        max_running: int = MAX_RUNNING,
        follower_delay: tuple[float, float] | None = None,
    ) -> None:
        self.publisher_name = name
        self._target = target
        self._timeout = timeout
        self._max_running = max_running
        self._running_count = 0
        self._queue: deque[tuple[str, PublishedMaster]] = deque()
        self._continuing = False
        self._failing: set[str] = set()
        """The masters whose latest attempt has failed."""

        self._follower_delay = follower_delay
        self._outcomes = dict.fromkeys((each.value for each in PublishOutcome), 0)
        self._lag = Histogram(LAG_BOUNDS)
        self._withdraw: Callable[[], None] | None = None
        self._reactor = reactor
        self._view = view
        self._publisher = publisher
        self._wanted = wanted
        self._wall_clock = wall_clock
        self._random = random
        self._verify_interval = verify_interval
        self._masters: dict[str, PublishedMaster] = {}
        self._unsubscribe: Callable[[], None] | None = None
        self._check: IDelayedCall | None = None

    def startService(self) -> None:
        """Publish the present address of each master, and every change from now on."""
        super().startService()  # type: ignore[no-untyped-call]
        self._withdraw = self._view.publishers.add(lambda master: [self.state(master)])
        self._unsubscribe = self._view.subscribe(self._changed)
        for snapshot in self._view.masters():
            self._compare(snapshot)
        self._schedule_check()

    def stopService(self) -> None:
        """Stop; what was not published yet is discarded."""
        super().stopService()  # type: ignore[no-untyped-call]
        for end in (self._unsubscribe, self._withdraw):
            if end is not None:
                end()
        self._unsubscribe = self._withdraw = None
        if self._check is not None:
            self._check.cancel()
            self._check = None
        self._queue.clear()
        for name in list(self._masters):
            self._forget(name)

    def unpublished(self) -> tuple[str, ...]:
        """Return the names of the masters whose newest change is not published yet."""
        return tuple(name for name, master in self._masters.items() if master.pending is not None)

    def state(self, only: str | None = None) -> PublisherState:
        """
        Return what was published, and what was not.

        :param only: the name of the only master to include; ``None`` for all.
        """
        known = self._masters
        wanted = known if only is None else {only: known[only]} if only in known else {}
        masters = tuple(each.publication(name) for name, each in wanted.items())
        return PublisherState(self.publisher_name, self._target, masters, dict(self._outcomes), self._lag.state())

    def _changed(self, change: ViewChange) -> None:
        name = change.master
        if name is None or not self._wanted(name):
            return
        known = self._masters.get(name)
        if change.event is not None:
            if known is not None and change.event.channel == "+config-update-from":
                known.adopted = True
        elif name in self._view.names():
            self._compare(self._view.master(name))
        else:
            self._forget(name)

    def _compare(self, snapshot: MasterSnapshot) -> None:
        """Publish a master if its address or its config epoch differs from what was last seen."""
        name, known = snapshot.name, self._masters.get(snapshot.name)
        if not self._wanted(name):
            return
        if known is None:
            known = self._masters[name] = PublishedMaster(snapshot.address, snapshot.config_epoch)
            self._publish(name, known, self._change(snapshot, None, "initial"))
        elif (snapshot.address, snapshot.config_epoch) != (known.address, known.config_epoch):
            kind = "config-update" if known.adopted or snapshot.address == known.address else "switch"
            change = self._change(snapshot, known.address, kind)
            known.address, known.config_epoch, known.adopted = snapshot.address, snapshot.config_epoch, False
            self._publish(name, known, change)

    def _change(self, snapshot: MasterSnapshot, previous: Endpoint | None, kind: str) -> MasterChange:
        return MasterChange(
            master=snapshot.name,
            address=snapshot.address,
            previous=previous,
            config_epoch=snapshot.config_epoch,
            kind=kind,
            at=self._now(),
            durable_generation=self._view.identity().storage.durable_generation,
            trace_id=trace_id(snapshot.name, snapshot.config_epoch),
        )

    def _now(self) -> Instant:
        return Instant(int(self._wall_clock() * 1000))

    def _publish(self, name: str, master: PublishedMaster, change: MasterChange) -> None:
        """Publish a change now, or when the attempt that is in progress has ended."""
        master.begin(change, self._reactor.seconds())
        if master.retry is not None:
            master.retry.cancel()
            master.retry = None
        if master.running is not None:
            return
        if self._follower_delay is not None and change.kind == "config-update":
            self._retry_after(self._random(*self._follower_delay), name, master)
        else:
            self._continue(name, master)

    def _retry_after(self, delay: float, name: str, master: PublishedMaster) -> None:
        def retry() -> None:
            master.retry = None
            self._continue(name, master)

        master.retry = self._reactor.callLater(delay, retry)

    def _continue(self, name: str, master: PublishedMaster) -> None:
        """Begin what is due for a master, or queue it if too much is in progress."""
        if self._masters.get(name) is not master or master.running is not None or master.retry is not None:
            return
        if master.pending is None and not master.verify_due:
            return
        if self._running_count >= self._max_running:
            if master.enqueue():
                self._queue.append((name, master))
        elif master.pending is not None:
            self._attempt(name, master, master.pending)
        else:
            self._verify(name, master)

    def _attempt(self, name: str, master: PublishedMaster, change: MasterChange) -> None:
        master.checked()

        def published(result: object) -> None:
            publication = result if isinstance(result, Publication) else Publication(PublishOutcome.PUBLISHED)
            self._ended(name, master, publication)
            if master.pending is change:
                self._lag.observe(int((self._reactor.seconds() - master.changed_at) * 1000))
                master.end()

        def failed(failure: Failure) -> None:
            if self._masters.get(name) is not master:
                return
            self._failed(name, master, failure)
            if master.pending is change:
                longest = min(MAX_DELAY, MIN_DELAY * 2 ** min(master.attempts, 16))
                self._retry_after(self._random(MIN_DELAY, longest), name, master)

        self._run(name, master, lambda: self._publisher.publish(change), published, failed)

    def _ended(self, name: str, master: PublishedMaster, publication: Publication) -> None:
        """Record an attempt that need not be made again."""
        outcome, log, publisher = publication.outcome, self.log, self.publisher_name
        self._outcomes[outcome.value] += 1
        if name in self._failing:
            self._failing.discard(name)
            if not self._failing:
                count = master.attempts
                log.info("{publisher}: publishes again after {count} failures", publisher=publisher, count=count)
        if outcome is PublishOutcome.CONFLICT and (master.outcome, master.error) != (outcome, publication.text):
            log.warn(
                "{publisher}: {name} is in conflict: {text}", publisher=publisher, name=name, text=publication.text
            )
        master.succeeded(publication, self._now())

    def _failed(self, name: str, master: PublishedMaster, failure: Failure) -> None:
        """Record an attempt that has to be made again."""
        error, publisher = failure_text(failure.value or Exception()), self.publisher_name
        if not self._failing:
            # What has failed usually concerns all masters; one line suffices.
            self.log.warn(
                "{publisher}: {name} cannot be published: {error}", publisher=publisher, name=name, error=error
            )
        self._failing.add(name)
        self._outcomes[PublishOutcome.FAILED.value] += 1
        master.failed(error)

    def _run(
        self,
        name: str,
        master: PublishedMaster,
        function: Callable[[], Deferred[Any]],
        succeeded: Callable[[object], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """Call a method of the publisher; it fails if it takes too long. Continue with what is due then."""

        def release(result: object) -> object:
            self._running_count -= 1
            master.running = None
            return result

        def go_on(_: object) -> None:
            self._continue(name, master)
            self._continue_queued()

        self._running_count += 1
        running: Deferred[Any] = maybeDeferred(function)
        master.running = running
        running.addTimeout(self._timeout, self._reactor)
        running.addBoth(release)
        running.addCallbacks(succeeded, failed)
        running.addErrback(lambda failure: self.log.failure("An attempt has ended with a bug", failure))
        running.addCallback(go_on)

    def _continue_queued(self) -> None:
        """Begin what is due for queued masters. Attempts that end at once call this again, which does nothing then."""
        if self._continuing:
            return
        self._continuing = True
        try:
            while self._queue and self._running_count < self._max_running:
                name, master = self._queue.popleft()
                master.dequeue()
                self._continue(name, master)
        finally:
            self._continuing = False

    def _forget(self, name: str) -> None:
        """Discard what is known of a master, and the attempt that is in progress."""
        master = self._masters.pop(name, None)
        self._failing.discard(name)
        if master is None:
            return
        if master.retry is not None:
            master.retry.cancel()
        if master.running is not None:
            master.end()
            master.running.cancel()

    def _schedule_check(self) -> None:
        if self._verify_interval:
            self._check = self._reactor.callLater(self._verify_interval, self._check_all)

    def _check_all(self) -> None:
        """Check what was published, and publish it again where it is not there any more."""
        self._schedule_check()
        for name, master in list(self._masters.items()):
            if master.pending is None and master.running is None:
                master.check()
                self._continue(name, master)

    def _verify(self, name: str, master: PublishedMaster) -> None:
        master.checked()

        def answered(result: object) -> None:
            if result is False and master.pending is None and master.latest is not None:
                master.begin(replace(master.latest, kind="resync", at=self._now()), self._reactor.seconds())

        # A check that fails is made again at its next time.
        self._run(name, master, lambda: self._publisher.verify(name), answered, lambda failure: None)
