"""
Keeps the addresses of masters up to date elsewhere: what all publishers have in common.

A publisher only makes one change known, or checks whether it still is. This service finds the changes, in the order in
which they become durable, tries again with growing random delays, and publishes only the newest change of each master.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from random import uniform
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

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

        self.adopted = False
        """Whether another Sentinel announced the address that is seen next."""

    def begin(self, change: MasterChange, at: float) -> None:
        """Have a change pending; ``at`` is the present time on the clock of the reactor."""
        self.latest = self.pending = change
        self.pending_since, self.changed_at = change.at, at

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
        follower_delay: tuple[float, float] | None = None,
    ) -> None:
        self.publisher_name = name
        self._target = target
        self._timeout = timeout
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
        self._withdraw = self._view.publishers.add(lambda: [self.state()])
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
        for name in list(self._masters):
            self._forget(name)

    def unpublished(self) -> tuple[str, ...]:
        """Return the names of the masters whose newest change is not published yet."""
        return tuple(name for name, master in self._masters.items() if master.pending is not None)

    def state(self) -> PublisherState:
        """Return what was published, and what was not."""
        masters = tuple(each.publication(name) for name, each in self._masters.items())
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
            delay = self._random(*self._follower_delay)
            master.retry = self._reactor.callLater(delay, self._attempt, name, master)
        else:
            self._attempt(name, master)

    def _attempt(self, name: str, master: PublishedMaster) -> None:
        change = master.pending
        master.retry = None
        if change is None:
            return

        def published(result: object) -> None:
            master.running = None
            publication = result if isinstance(result, Publication) else Publication(PublishOutcome.PUBLISHED)
            self._ended(name, master, publication)
            if master.pending is change:
                self._lag.observe(int((self._reactor.seconds() - master.changed_at) * 1000))
                master.end()
            else:
                self._attempt(name, master)

        def failed(failure: Failure) -> None:
            master.running = None
            if self._masters.get(name) is not master:
                return
            self._failed(name, master, failure)
            longest = min(MAX_DELAY, MIN_DELAY * 2 ** min(master.attempts, 16))
            if master.pending is not change:
                self._attempt(name, master)
                return
            master.retry = self._reactor.callLater(self._random(MIN_DELAY, longest), self._attempt, name, master)

        self._run(master, lambda: self._publisher.publish(change), published, failed)

    def _ended(self, name: str, master: PublishedMaster, publication: Publication) -> None:
        """Record an attempt that need not be made again."""
        outcome, log = publication.outcome, self.log
        self._outcomes[outcome.value] += 1
        publisher = self.publisher_name
        if master.attempts:
            count = master.attempts
            log.info(
                "{publisher}: {name} is published again after {count} failures",
                publisher=publisher,
                name=name,
                count=count,
            )
        if outcome is PublishOutcome.CONFLICT and (master.outcome, master.error) != (outcome, publication.text):
            log.warn(
                "{publisher}: {name} is in conflict: {text}", publisher=publisher, name=name, text=publication.text
            )
        master.succeeded(publication, self._now())

    def _failed(self, name: str, master: PublishedMaster, failure: Failure) -> None:
        """Record an attempt that has to be made again."""
        error = failure.getErrorMessage() or type(failure.value).__name__
        if isinstance(failure.value, TimeoutError):
            error = f"no answer for {self._timeout:g} s"
        if not master.attempts:
            publisher = self.publisher_name
            self.log.warn(
                "{publisher}: {name} cannot be published: {error}", publisher=publisher, name=name, error=error
            )
        self._outcomes[PublishOutcome.FAILED.value] += 1
        master.failed(error)

    def _run(
        self,
        master: PublishedMaster,
        function: Callable[[], Deferred[Any]],
        succeeded: Callable[[object], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """Call a method of the publisher; it fails if it takes too long."""
        running: Deferred[Any] = maybeDeferred(function)
        master.running = running
        running.addTimeout(self._timeout, self._reactor)
        running.addCallbacks(succeeded, failed)

    def _forget(self, name: str) -> None:
        """Discard what is known of a master, and the attempt that is in progress."""
        master = self._masters.pop(name, None)
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
                self._verify(name, master)

    def _verify(self, name: str, master: PublishedMaster) -> None:
        def answered(result: object) -> None:
            master.running = None
            if result is False and master.pending is None and master.latest is not None:
                master.begin(replace(master.latest, kind="resync", at=self._now()), self._reactor.seconds())
            self._attempt(name, master)

        def unanswered(failure: Failure) -> None:
            # It will be checked again. A newer change is published with repetitions.
            master.running = None
            if self._masters.get(name) is master:
                self._attempt(name, master)

        self._run(master, lambda: self._publisher.verify(name), answered, unanswered)
