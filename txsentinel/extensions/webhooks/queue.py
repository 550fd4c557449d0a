"""The queue of one target: order, repetitions, and what becomes of what cannot be delivered."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from random import uniform
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.webhooks.dead_letters import DeadLetter

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from txsentinel.extensions.http_client import HttpReply
    from txsentinel.extensions.notifications import Notification

MAX_QUEUED: Final = 1_000
"""How many notifications wait for one target; of more the oldest is discarded."""

MIN_DELAY: Final = 1.0
MAX_DELAY: Final = 900.0
"""Seconds between two attempts for one notification: they double, and are shortened at random by up to a half."""

MAX_AGE: Final = 86_400.0
"""Seconds after which a notification is not tried again."""

REPEATABLE: Final = (408, 429)
"""The statuses below 500 after which a request is made again."""


@dataclass(slots=True)
class Delivery:
    """One notification on its way."""

    notification: Notification
    queued_at: float
    due: float
    attempts: int = 0
    unreachable: bool = False
    """Whether the latest attempt got no reply at all."""

    error: str = "not tried yet"

    def begin(self) -> None:
        """Count an attempt."""
        self.attempts += 1

    def failed(self, reason: str, unreachable: bool) -> None:
        """Keep why an attempt failed."""
        self.error, self.unreachable = reason, unreachable

    def schedule(self, due: float) -> None:
        """Set when it is tried again."""
        self.due = due


class DeliveryQueue:
    """
    Delivers notifications one at a time, those of one master in their order.

    Others pass a notification that waits for its next attempt.

    :param send: makes one attempt; ``None`` if the target has no use for the notification.
    :param discard: receives what is given up.
    :param random: returns a random number between two.
    """

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        reactor: IReactorTime,
        name: str,
        send: Callable[[Notification], Deferred[HttpReply] | None],
        discard: Callable[[DeadLetter], None],
        random: Callable[[float, float], float] = uniform,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._name = name
        self._send = send
        self._discard = discard
        self._random = random
        self._wall_clock = wall_clock
        self._waiting: list[Delivery] = []
        self._current: Delivery | None = None
        self._attempt: Deferred[object] | None = None
        self._call: IDelayedCall | None = None
        self._failing = False
        self._overflowing = False
        self._stopped = False
        self.delivered = 0
        self.dropped = 0
        """How many were discarded because the queue was full."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, notification: Notification) -> None:
        """Queue a notification; it is sent at once if nothing is in front of it."""
        now = self._reactor.seconds()
        self._waiting.append(Delivery(notification, now, now))
        if len(self._waiting) > MAX_QUEUED:
            oldest = next(each for each in self._waiting if each is not self._current)
            self._waiting.remove(oldest)
            self.dropped += 1
            if not self._overflowing:
                self._overflowing = True
                self._log.warn(
                    "Webhook {name}: {count} notifications wait; the oldest are discarded from now on",
                    name=self._name,
                    count=MAX_QUEUED,
                )
        self._next()

    def stop(self) -> list[DeadLetter]:
        """Stop, and return what was not delivered."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._attempt is not None:
            self._attempt.cancel()
        waiting, self._waiting = self._waiting, []
        reason = "the Sentinel has stopped; before that: "
        return [DeadLetter(self._name, each.notification, each.attempts, reason + each.error) for each in waiting]

    def _next(self) -> None:
        """Begin the next attempt, or schedule it."""
        if self._current is not None or self._stopped:
            return
        if self._call is not None:
            self._call.cancel()
            self._call = None
        heads: dict[str | None, Delivery] = {}
        for each in self._waiting:
            heads.setdefault(each.notification.master, each)
        if not heads:
            return
        chosen = min(heads.values(), key=lambda each: each.due)
        delay = chosen.due - self._reactor.seconds()
        if delay > 0:
            self._call = self._reactor.callLater(delay, self._wake)
        else:
            self._try(chosen)

    def _wake(self) -> None:
        self._call = None
        self._next()

    def _try(self, delivery: Delivery) -> None:
        self._current = delivery
        delivery.begin()
        attempt: Deferred[object] = maybeDeferred(self._send, delivery.notification)
        self._attempt = attempt
        attempt.addCallbacks(self._answered, self._unanswered, callbackArgs=(delivery,), errbackArgs=(delivery,))
        attempt.addErrback(self._unexpected, delivery)

    def _answered(self, reply: HttpReply | None, delivery: Delivery) -> None:
        if reply is None:
            self._remove(delivery)
        elif 200 <= reply.status < 300:
            self.delivered += 1
            if self._failing:
                self._failing = self._overflowing = False
                self._log.info("Webhook {name}: notifications are delivered again", name=self._name)
                for each in self._waiting:
                    if each.unreachable:
                        each.schedule(min(each.due, self._reactor.seconds()))
            self._remove(delivery)
        elif reply.status in REPEATABLE or reply.status >= 500:
            delay = self._retry_after(reply.headers.get("retry-after", ""))
            self._failed(delivery, f"status {reply.status}", False, delay)
        else:
            redirected = ", a redirection, which is not followed" if 300 <= reply.status < 400 else ""
            self._give_up(delivery, f"status {reply.status}{redirected}")

    def _unanswered(self, failure: Failure, delivery: Delivery) -> None:
        self._failed(delivery, reason_of(failure), True, 0.0)

    def _failed(self, delivery: Delivery, reason: str, unreachable: bool, at_least: float) -> None:
        if self._stopped:
            return
        now = self._reactor.seconds()
        delivery.failed(reason, unreachable)
        if now - delivery.queued_at >= MAX_AGE:
            self._give_up(delivery, f"{reason}, after a day")
            return
        if not self._failing:
            self._failing = True
            self._log.warn(
                "Webhook {name}: cannot be delivered: {reason}; it is tried again", name=self._name, reason=reason
            )
        longest = min(MAX_DELAY, MIN_DELAY * 2 ** min(delivery.attempts - 1, 16))
        delivery.schedule(now + max(at_least, self._random(longest / 2, longest)))
        self._current = self._attempt = None
        self._next()

    def _give_up(self, delivery: Delivery, reason: str) -> None:
        self._log.warn("Webhook {name}: a notification is given up: {reason}", name=self._name, reason=reason)
        self._discard(DeadLetter(self._name, delivery.notification, delivery.attempts, reason))
        self._remove(delivery)

    def _remove(self, delivery: Delivery) -> None:
        self._current = self._attempt = None
        if delivery in self._waiting:
            self._waiting.remove(delivery)
        self._next()

    def _unexpected(self, failure: Failure, delivery: Delivery) -> None:
        self._log.failure("Webhook {name}: a reply could not be processed", failure, name=self._name)
        self._remove(delivery)

    def _retry_after(self, value: str) -> float:
        """Return the seconds of the header ``Retry-After``, at most ``MAX_DELAY``; 0 if it has none that is valid."""
        try:
            if value.isascii() and value.isdigit():
                return min(float(value[:9]), MAX_DELAY)
            moment = parsedate_to_datetime(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=timezone.utc)
            return max(0.0, min(moment.timestamp() - self._wall_clock(), MAX_DELAY))
        except (TypeError, ValueError, OverflowError):
            return 0.0


def reason_of(failure: Failure) -> str:
    """Return why there was no reply, without the address."""
    text = failure.getErrorMessage().rstrip(".")
    kind = type(failure.value).__name__
    return f"{kind}: {text}" if text else kind
