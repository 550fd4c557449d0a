"""Tests of the queue of a target of webhooks."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import OWN_ID, instant
from tests.log_events import observe_log
from txsentinel.extensions.http_client import HttpReply
from txsentinel.extensions.notifications import Notification
from txsentinel.extensions.webhooks.dead_letters import DeadLetter
from txsentinel.extensions.webhooks.queue import (
    MAX_AGE,
    MAX_DELAY,
    MAX_QUEUED,
    DeliveryQueue,
)


def notification(name: str, master: str | None = "mymaster") -> Notification:
    """Return a notification with a short ID."""
    return Notification(name, "+odown", OWN_ID, master, instant(0), {})


class QueueCase(SynchronousTestCase):
    """A queue whose attempts the test ends; each delay is the longest."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts: list[tuple[str, Deferred[HttpReply]]] = []
        self.letters: list[DeadLetter] = []
        self.queue = DeliveryQueue(
            self.clock,
            "ops",
            self.send,
            self.letters.append,
            random=lambda low, high: high,
            wall_clock=lambda: 1_800_000_000.0,
        )
        self.warnings: list[str] = []
        observe_log(self, self.record)

    def record(self, event: LogEvent) -> None:
        """Keep the text of a warning."""
        if event.get("log_level") is LogLevel.warn:
            self.warnings.append(formatEvent(event))

    def send(self, sent: Notification) -> Deferred[HttpReply]:
        """Begin an attempt."""
        attempt: Deferred[HttpReply] = Deferred()
        self.attempts.append((sent.notification_id, attempt))
        return attempt

    def put(self, *names: str, master: str | None = "mymaster") -> None:
        """Queue notifications."""
        for name in names:
            self.queue.put(notification(name, master))

    def answer(self, status: int, **headers: str) -> None:
        """Answer the latest attempt."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.attempts[-1][1].callback(HttpReply(status, fields, b""))

    def refuse(self) -> None:
        """Have the latest attempt fail without a reply."""
        self.attempts[-1][1].errback(RefusedError())

    def sent(self) -> list[str]:
        """Return the IDs of all attempts in order."""
        return [name for name, _ in self.attempts]


class OrderTests(QueueCase):
    """What is sent when."""

    def test_one_at_a_time(self) -> None:
        """The next notification is sent when the one before is answered."""
        self.put("a", "b")
        self.assertEqual(self.sent(), ["a"])
        self.answer(204)
        self.assertEqual(self.sent(), ["a", "b"])
        self.answer(200)
        self.assertEqual((len(self.queue), self.queue.delivered, self.clock.getDelayedCalls()), (0, 2, []))

    def test_order_of_one_master(self) -> None:
        """What is tried again delays later notifications of the same master only."""
        self.put("a", "b")
        self.put("c", master="cache")
        self.answer(503)
        self.assertEqual(self.sent(), ["a", "c"])
        self.answer(200)
        self.assertEqual(self.sent(), ["a", "c"])
        self.clock.advance(1)
        self.assertEqual(self.sent(), ["a", "c", "a"])
        self.answer(200)
        self.assertEqual(self.sent(), ["a", "c", "a", "b"])

    def test_growing_delays(self) -> None:
        """The delays double up to 15 minutes."""
        self.put("a")
        delays = []
        for _ in range(13):
            self.refuse()
            (call,) = self.clock.getDelayedCalls()
            delays.append(call.getTime() - self.clock.seconds())
            self.clock.advance(delays[-1])
        self.assertEqual(delays, [min(2.0**number, MAX_DELAY) for number in range(13)])
        (warning,) = self.warnings
        self.assertIn("ConnectionRefusedError: Connection was refused", warning)

    def test_retry_after(self) -> None:
        """A reply can demand a longer delay, in seconds or as a date, but not above 15 minutes."""
        for value, expected in (
            ("30", 30.0),
            ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
            ("99999999", MAX_DELAY),
            ("-5", 1.0),
            ("soon", 1.0),
        ):
            queue, self.queue = (
                self.queue,
                DeliveryQueue(
                    self.clock, "ops", self.send, self.letters.append, lambda _, high: high, lambda: 1_800_000_000.0
                ),
            )
            self.put("a")
            self.answer(429, retry_after=value)
            (call,) = self.clock.getDelayedCalls()
            self.assertEqual(call.getTime() - self.clock.seconds(), expected, value)
            self.queue.stop()
            self.queue = queue

    def test_recovery(self) -> None:
        """When an unreachable target answers again, what waits for it is sent at once."""
        self.put("a")
        self.put("b", master="cache")
        self.refuse()
        self.assertEqual(self.sent(), ["a", "b"])
        self.refuse()
        self.clock.advance(1)
        self.refuse()
        self.assertEqual(len(self.sent()), 4)
        self.answer(200)
        self.assertEqual(len(self.sent()), 5)
        self.answer(200)
        self.assertEqual((len(self.queue), self.clock.seconds()), (0, 1))


class EndTests(QueueCase):
    """What is not delivered."""

    def test_refused(self) -> None:
        """A refusal or a redirection is not tried again."""
        for status, reason in ((400, "status 400"), (410, "status 410"), (302, "status 302, a redirection")):
            self.put(str(status))
            self.answer(status)
            self.assertIn(reason, self.letters[-1].reason)
            self.assertEqual(self.letters[-1].attempts, 1)
        self.assertEqual((len(self.queue), self.queue.delivered), (0, 0))

    def test_repeated_statuses(self) -> None:
        """What may pass is tried again."""
        for status in (408, 429, 500, 502, 503):
            before = len(self.attempts)
            self.put(str(status))
            self.answer(status)
            self.assertEqual(self.letters, [])
            self.clock.advance(1)
            self.assertEqual(len(self.attempts), before + 2)
            self.answer(200)

    def test_a_day(self) -> None:
        """After a day nothing is tried again."""
        self.put("a")
        while self.clock.seconds() < MAX_AGE:
            self.assertEqual(self.letters, [])
            self.answer(503)
            self.clock.advance(MAX_DELAY)
        self.answer(503)
        (letter,) = self.letters
        self.assertEqual(letter.reason, "status 503, after a day")
        self.assertGreater(letter.attempts, 90)

    def test_full(self) -> None:
        """Of too many the oldest that is not being sent is discarded, and counted."""
        self.put(*(str(number) for number in range(MAX_QUEUED + 2)))
        self.assertEqual((len(self.queue), self.queue.dropped, len(self.warnings)), (MAX_QUEUED, 2, 1))
        self.answer(200)
        self.assertEqual(self.sent(), ["0", "3"])

    def test_stop(self) -> None:
        """What is not delivered at the stop is returned, with the latest error; no call is left."""
        self.put("a", "b")
        self.answer(503)
        letters = self.queue.stop()
        self.assertEqual([each.notification.notification_id for each in letters], ["a", "b"])
        self.assertEqual(letters[0].reason, "the Sentinel has stopped; before that: status 503")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_while_sending(self) -> None:
        """The attempt that is in progress is cancelled."""
        self.put("a")
        self.assertEqual(len(self.queue.stop()), 1)
        self.clock.advance(MAX_AGE)
        self.assertEqual((self.sent(), self.letters, self.clock.getDelayedCalls()), (["a"], [], []))
