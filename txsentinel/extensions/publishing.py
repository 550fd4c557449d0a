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
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.model.history import trace_id
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

        self.running: Deferred[object] | None = None
        """The attempt, or the check, that is in progress."""

        self.retry: IDelayedCall | None = None
        self.adopted = False
        """Whether another Sentinel announced the address that is seen next."""


class PublishingService(Service):
    """
    Publishes the masters of a Sentinel.

    :param wanted: returns whether a master of that name is to be published.
    :param wall_clock: returns the seconds since 1970.
    :param random: returns a random number between two.
    :param verify_interval: seconds between two checks of what was published; 0 for none.
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
    ) -> None:
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
        self._unsubscribe = self._view.subscribe(self._changed)
        for snapshot in self._view.masters():
            self._compare(snapshot)
        self._schedule_check()

    def stopService(self) -> None:
        """Stop; what was not published yet is discarded."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._check is not None:
            self._check.cancel()
            self._check = None
        for name in list(self._masters):
            self._forget(name)

    def unpublished(self) -> tuple[str, ...]:
        """Return the names of the masters whose newest change is not published yet."""
        return tuple(name for name, master in self._masters.items() if master.pending is not None)

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
            at=Instant(int(self._wall_clock() * 1000)),
            durable_generation=self._view.identity().storage.durable_generation,
            trace_id=trace_id(snapshot.name, snapshot.config_epoch),
        )

    def _publish(self, name: str, master: PublishedMaster, change: MasterChange) -> None:
        """Publish a change now, or when the attempt that is in progress has ended."""
        master.latest = master.pending = change
        if master.retry is not None:
            master.retry.cancel()
            master.retry = None
        if master.running is None:
            self._attempt(name, master)

    def _attempt(self, name: str, master: PublishedMaster) -> None:
        change = master.pending
        master.retry = None
        if change is None:
            return

        def published(result: object) -> None:
            master.running = None
            if master.attempts:
                self.log.info("{name} is published again after {count} failures", name=name, count=master.attempts)
            master.attempts = 0
            if master.pending is change:
                master.pending = None
            else:
                self._attempt(name, master)

        def failed(failure: Failure) -> None:
            master.running = None
            if self._masters.get(name) is not master:
                return
            if not master.attempts:
                self.log.warn("{name} cannot be published: {error}", name=name, error=failure.getErrorMessage())
            longest = min(MAX_DELAY, MIN_DELAY * 2 ** min(master.attempts + 1, 16))
            master.attempts += 1
            if master.pending is not change:
                self._attempt(name, master)
                return
            master.retry = self._reactor.callLater(self._random(MIN_DELAY, longest), self._attempt, name, master)

        self._run(master, lambda: self._publisher.publish(change), published, failed)

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
        running.addTimeout(PUBLISH_TIMEOUT, self._reactor)
        running.addCallbacks(succeeded, failed)

    def _forget(self, name: str) -> None:
        """Discard what is known of a master, and the attempt that is in progress."""
        master = self._masters.pop(name, None)
        if master is None:
            return
        if master.retry is not None:
            master.retry.cancel()
        if master.running is not None:
            master.pending = None
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
                now = Instant(int(self._wall_clock() * 1000))
                master.latest = master.pending = replace(master.latest, kind="resync", at=now)
            self._attempt(name, master)

        def unanswered(failure: Failure) -> None:
            # It will be checked again. A newer change is published with repetitions.
            master.running = None
            if self._masters.get(name) is master:
                self._attempt(name, master)

        self._run(master, lambda: self._publisher.verify(name), answered, unanswered)
