"""The service: from events to the queues of the targets."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.building import DelayedCalls, ExtensionContext
from txsentinel.extensions.certificate_policy import CertificatePolicy
from txsentinel.extensions.finished_failovers import FinishedFailovers
from txsentinel.extensions.http_client import RequestClient
from txsentinel.extensions.leadership import Leadership
from txsentinel.extensions.notifications import FAILOVER, Notification, NotificationMaker
from txsentinel.extensions.secret_file import SecretReader
from txsentinel.extensions.webhooks.dead_letters import DeadLetter, append_letters, take_retries
from txsentinel.extensions.webhooks.formats import make_request
from txsentinel.extensions.webhooks.queue import DeliveryQueue
from txsentinel.extensions.webhooks.settings import WebhookTarget, read_targets
from txsentinel.model.measurements import Histogram
from txsentinel.model.publications import LAG_BOUNDS, PublisherState, PublishOutcome

if TYPE_CHECKING:
    from txsentinel.extensions.http_client import HttpReply, IRequestClient
    from txsentinel.interfaces import ISentinelView, IStateDirectory
    from txsentinel.model.events import SentinelEvent
    from txsentinel.model.history import FailoverRecord
    from txsentinel.model.snapshots import ViewChange


STAND_IN_DELAY: Final = 2.0
"""Seconds after a switch until a Sentinel that did not lead it knows who did, from the record of the failover."""

FILES_INTERVAL: Final = 5.0
"""Seconds between two looks for the file of what is to be tried again."""


class WebhookService(MultiService):
    """
    Sends what the targets want, each through a queue of its own.

    :param make_client: returns what sends the requests to a target.
    """

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        reactor: Any,
        view: ISentinelView,
        state_dir: IStateDirectory,
        targets: Sequence[WebhookTarget],
        make_client: Callable[[WebhookTarget], IRequestClient],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._view = view
        self._state_dir = state_dir
        self._wall_clock = wall_clock
        self._leadership = Leadership(view)
        self._maker = NotificationMaker(view, wall_clock)
        self._failovers = FinishedFailovers(reactor, view, self._finished)
        self._user_agent = f"txsentinel/{view.identity().version}"
        self._targets = tuple(targets)
        self.queues = {
            target.name: DeliveryQueue(
                reactor, target.name, self._sender(target, make_client(target)), self._given_up, wall_clock=wall_clock
            )
            for target in targets
        }
        self._unsubscribe: Callable[[], None] | None = None
        self._switches: dict[str, str] = {}
        """Name of a master → ID of the notification of its latest switch."""

        self._calls = DelayedCalls(reactor, lambda: bool(self.running))
        self._letters: list[DeadLetter] = []
        self._writing: Deferred[None] | None = None
        self._failing = False
        self._unreadable = False
        self._given_up_count = 0
        self._last_given_up: DeadLetter | None = None
        self._withdraw: Callable[[], None] | None = None
        files = [file for target in targets for file in target.files]
        SecretReader(reactor, files).setServiceParent(self)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Begin to send what happens from now on."""
        super().startService()  # type: ignore[no-untyped-call]
        self._unsubscribe = self._view.subscribe(self._changed, changes=False)
        self._withdraw = self._view.publishers.add(self._states)
        if any(target.wants(FAILOVER, None) for target in self._targets):
            self._failovers.start()
        self._calls.add(FILES_INTERVAL, self._look_for_retries)

    def stopService(self) -> Deferred[Any]:
        """Stop, and keep what was not delivered as dead letters."""
        stopped: Any = super().stopService()  # type: ignore[no-untyped-call]
        self._failovers.stop()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._withdraw is not None:
            self._withdraw()
            self._withdraw = None
        self._calls.cancel()
        for queue in self.queues.values():
            self._letters += queue.stop()
        written = self._write_letters()
        written.addCallback(lambda _: stopped)
        return written

    def _changed(self, change: ViewChange) -> None:
        event = change.event
        if event is None:
            return
        self._leadership.observe(event)
        if not event.published:
            return
        self._send(event)
        if event.channel == "+promoted-slave" and event.master is not None:
            switch = self._leadership.switch_of(event)
            if switch is not None:
                self._send(switch)

    def _send(self, event: SentinelEvent) -> None:
        """Send an event to all targets that want it."""
        master = event.master
        targets = [each for each in self._targets if each.wants(event.channel, master)]
        if not targets:
            return
        notification = self._maker.event(event)
        if event.channel == "+switch-master" and master is not None:
            if self._switches.get(master) == notification.notification_id:
                return  # It was sent when the replica was promoted.
            self._switches[master] = notification.notification_id
        waiting = []
        for target in targets:
            shared = event.channel == "+switch-master" and target.send == "leader"
            if not shared or master is None or self._leadership.leads(master):
                self.queues[target.name].put(notification)
            else:
                waiting.append(target.name)
        if waiting:
            self._calls.add(STAND_IN_DELAY, lambda: self._stand_in(waiting, notification))

    def _stand_in(self, names: Sequence[str], notification: Notification) -> None:
        """Send a switch that another Sentinel seems to have led, if that one does not."""
        master, epoch = notification.master, notification.data.get("config_epoch")
        if master is None or not isinstance(epoch, int):
            return
        record = self._leadership.record_of(master, epoch)
        if self._leadership.stands_in(master, None) if record is None else self._leadership.reports(record):
            for name in names:
                self.queues[name].put(notification)

    def _finished(self, record: FailoverRecord) -> None:
        notification = self._maker.failover(record)
        for target in self._targets:
            if not target.wants(FAILOVER, record.master):
                continue
            if target.send == "all" or self._leadership.reports(record):
                self.queues[target.name].put(notification)

    def _sender(
        self, target: WebhookTarget, client: IRequestClient
    ) -> Callable[[Notification], Deferred[HttpReply] | None]:
        def send(notification: Notification) -> Deferred[HttpReply] | None:
            request = make_request(target, notification, int(self._wall_clock()))
            if request is None:
                return None
            headers = {**request.headers, "user-agent": self._user_agent}
            return client.request("POST", target.url(), headers, request.body)

        return send

    def _states(self, master: str | None) -> Sequence[PublisherState]:
        """Return what the doctor and the metrics show; nothing about single masters."""
        if master is not None:
            return ()
        last = self._last_given_up
        notices: tuple[str, ...] = ()
        if last is not None:
            count = self._given_up_count
            notices = (
                f"{count} notification{'s' if count > 1 else ''} could not be delivered since the start, the last to"
                f" {last.target}: {last.reason}; 'txsentinel webhooks list' has them",
            )
        outcomes = {PublishOutcome.FAILED.value: self._given_up_count}
        return (PublisherState("webhooks", "", (), outcomes, Histogram(LAG_BOUNDS).state(), notices),)

    def _given_up(self, letter: DeadLetter) -> None:
        self._given_up_count += 1
        self._last_given_up = letter
        self._letters.append(letter)
        if self.running:
            self._write_letters()

    def _write_letters(self) -> Deferred[None]:
        """Write the letters in a thread; fires when nothing is left to write."""
        done: Deferred[None] = Deferred()
        if self._writing is not None:
            self._writing.addCallback(lambda _: self._write_letters()).chainDeferred(done)
            return done
        directory = self._state_dir.prepare() if self._letters else None
        if directory is None:
            self._letters.clear()
            return succeed(None)
        letters, self._letters = self._letters, []
        writing: Deferred[Any] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), append_letters, directory, letters
        )
        writing.addCallbacks(self._written, self._not_written)
        self._writing = writing

        def finish(_: object) -> None:
            self._writing = None

        writing.addBoth(finish)
        writing.chainDeferred(done)
        return done

    def _written(self, _: object) -> None:
        self._failing = False

    def _not_written(self, failure: Failure) -> None:
        if not self._failing:
            self._failing = True
            self._log.warn("Webhooks: dead letters cannot be written: {error}", error=failure.getErrorMessage())

    def _look_for_retries(self) -> None:
        reading: Deferred[Any] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), take_retries, self._state_dir.path
        )
        reading.addCallbacks(self._retry, self._no_retries)
        reading.addBoth(lambda _: self._calls.add(FILES_INTERVAL, self._look_for_retries))

    def _retry(self, taken: tuple[list[tuple[str, Notification]], int]) -> None:
        found, bad = taken
        self._unreadable = False
        unknown = 0
        for name, notification in found:
            queue = self.queues.get(name)
            if queue is None:
                unknown += 1
            else:
                queue.put(notification)
        if found or bad:
            self._log.info(
                "Webhooks: {count} dead letters are tried again; {bad} lines are none, and {unknown} have a target "
                "that is not set",
                count=len(found) - unknown,
                bad=bad,
                unknown=unknown,
            )

    def _no_retries(self, failure: Failure) -> None:
        if not failure.check(NotADirectoryError) and not self._unreadable:
            self._unreadable = True
            self._log.warn("Webhooks: dead letters cannot be read: {error}", error=failure.getErrorMessage())


def make_service(context: ExtensionContext) -> WebhookService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong, or a file of a secret cannot be used.
    """
    targets = read_targets(context.argument, context.settings)
    if not targets:
        raise ValueError("an address is needed, such as https://hooks.example.com/sentinel")

    def client(target: WebhookTarget) -> RequestClient:
        return RequestClient(context.reactor, policy=CertificatePolicy(target.authorities))

    return WebhookService(context.reactor, context.view, context.state_dir, targets, client)
