"""What all publishers have in common: which changes they get, and what happens after failures."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.extensions.fixture import FakeView, healthy_master, instant
from txsentinel.extensions.publishing import MAX_DELAY, PUBLISH_TIMEOUT, VERIFY_INTERVAL, PublishingService
from txsentinel.interfaces import IPublisher
from txsentinel.model.history import trace_id
from txsentinel.model.publications import MasterPublication, Publication, PublishOutcome
from txsentinel.model.snapshots import Endpoint, MasterChange

NEW = Endpoint("10.0.0.2", 6379)


@implementer(IPublisher)
class RecordingPublisher:
    """A publisher whose attempts a test ends."""

    def __init__(self) -> None:
        self.changes: list[MasterChange] = []
        self.attempts: list[Deferred[Publication | None]] = []
        self.checks: list[Deferred[bool]] = []

    def publish(self, change: MasterChange) -> Deferred[Publication | None]:
        """Begin an attempt."""
        attempt: Deferred[Publication | None] = Deferred()
        self.changes.append(change)
        self.attempts.append(attempt)
        return attempt

    def verify(self, name: str) -> Deferred[bool]:
        """Begin a check."""
        check: Deferred[bool] = Deferred()
        self.checks.append(check)
        return check


class PublishingCase(SynchronousTestCase):
    """The base of the tests: a service with one master."""

    follower_delay: tuple[float, float] | None = None

    def setUp(self) -> None:
        """Start the service; its first attempt is in progress. Each delay is the longest."""
        self.clock = Clock()
        self.view = FakeView(healthy_master())
        self.publisher = RecordingPublisher()
        self.ranges: list[tuple[float, float]] = []
        self.service = PublishingService(
            self.clock,
            self.view,
            self.publisher,
            wanted=lambda name: name != "unwanted",
            wall_clock=lambda: 1_800_000_000.5 + self.clock.seconds(),
            random=self.random,
            name="etcd",
            follower_delay=self.follower_delay,
        )
        self.service.startService()

    def random(self, low: float, high: float) -> float:
        """Return the highest value."""
        self.ranges.append((low, high))
        return high

    def succeed(self) -> None:
        """End the latest attempt."""
        self.publisher.attempts[-1].callback(None)

    def fail_attempt(self) -> None:
        """Have the latest attempt fail."""
        self.publisher.attempts[-1].errback(OSError("no route"))

    def move(self, address: Endpoint = NEW, epoch: int = 8) -> None:
        """Move the master."""
        self.view.put(replace(self.view.master("mymaster"), address=address, config_epoch=epoch))

    def published(self) -> list[tuple[str, str, int]]:
        """Return kind, address and epoch of each attempt."""
        return [(each.kind, str(each.address), each.config_epoch) for each in self.publisher.changes]


class ChangeTests(PublishingCase):
    """Which changes are published."""

    def test_initial(self) -> None:
        """At the start the present address is published, with all that identifies the change."""
        master = self.view.master("mymaster")
        (change,) = self.publisher.changes
        self.assertEqual((change.kind, change.address, change.previous), ("initial", master.address, None))
        self.assertEqual(change.at.unix_ms, 1_800_000_000_500)
        self.assertEqual(change.durable_generation, self.view.identity().storage.durable_generation)
        self.assertEqual(change.trace_id, trace_id("mymaster", master.config_epoch))
        self.assertEqual(len(change.trace_id), 32)
        self.assertEqual(self.service.unpublished(), ("mymaster",))
        self.succeed()
        self.assertEqual(self.service.unpublished(), ())

    def test_kinds(self) -> None:
        """A failover of our own is a switch, one that another Sentinel announced an update, also of the epoch alone."""
        self.succeed()
        first = self.view.master("mymaster").address
        self.move(NEW, 8)
        self.assertEqual(self.publisher.changes[-1].previous, first)
        self.succeed()
        self.view.publish("+config-update-from", "sentinel ...", "mymaster")
        self.move(first, 9)
        self.succeed()
        self.move(NEW, 10)
        self.succeed()
        self.move(NEW, 11)
        self.assertEqual(
            [kind for kind, _, _ in self.published()[1:]], ["switch", "config-update", "switch", "config-update"]
        )

    def test_irrelevant(self) -> None:
        """Changes that do not concern the address, and masters that are not wanted, are not published."""
        self.succeed()
        self.view.put(replace(self.view.master("mymaster"), status="sdown"))
        self.view.put(healthy_master("unwanted"))
        self.view.publish("+tilt", "#tilt mode entered")
        self.assertEqual(len(self.publisher.changes), 1)

    def test_added_and_removed(self) -> None:
        """A new master is published; one that is removed is forgotten, with its attempt."""
        self.view.put(healthy_master("other"))
        self.assertEqual([each.master for each in self.publisher.changes], ["mymaster", "other"])
        self.view.remove("other")
        self.assertEqual(self.service.unpublished(), ("mymaster",))
        self.clock.advance(PUBLISH_TIMEOUT)
        self.assertEqual([each.master for each in self.publisher.changes], ["mymaster", "other"])


class FailureTests(PublishingCase):
    """Repetition of attempts."""

    def test_growing_delays(self) -> None:
        """A change is tried again after random delays, which grow up to a limit, until it is published."""
        for attempt in range(10):
            self.fail_attempt()
            self.assertEqual(len(self.publisher.changes), attempt + 1)
            self.clock.advance(self.ranges[-1][1])
            self.assertEqual(len(self.publisher.changes), attempt + 2)
        self.assertEqual([high for _, high in self.ranges], [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0])
        self.assertEqual({low for low, _ in self.ranges}, {0.2})
        self.succeed()
        self.fail_again()

    def fail_again(self) -> None:
        """After a success the delays are short again."""
        self.move()
        self.fail_attempt()
        self.assertEqual(self.ranges[-1], (0.2, 0.4))

    def test_newest_only(self) -> None:
        """While an attempt is in progress, only the newest change waits; it follows at once."""
        for epoch in (8, 9, 10):
            self.move(Endpoint("10.0.0.2", epoch), epoch)
        self.assertEqual(len(self.publisher.changes), 1)
        self.fail_attempt()
        self.assertEqual([epoch for _, _, epoch in self.published()], [self.publisher.changes[0].config_epoch, 10])
        self.move(Endpoint("10.0.0.2", 11), 11)
        self.succeed()
        self.assertEqual(self.published()[-1][2], 11)
        self.succeed()
        self.assertEqual(self.service.unpublished(), ())

    def test_superseded_repetition(self) -> None:
        """A newer change does not wait for the repetition of an older one."""
        self.fail_attempt()
        self.move()
        self.assertEqual(self.published()[-1][2], 8)
        self.succeed()
        self.clock.advance(40.0)
        self.assertEqual(len(self.publisher.changes), 2)

    def test_timeout(self) -> None:
        """An attempt without an end fails after a while."""
        self.clock.advance(PUBLISH_TIMEOUT)
        self.clock.advance(0.4)
        self.assertEqual(len(self.publisher.changes), 2)

    def test_stop(self) -> None:
        """After the end nothing is in progress, scheduled or subscribed."""
        self.view.put(healthy_master("other"))
        self.fail_attempt()
        self.service.stopService()
        self.assertEqual((self.clock.getDelayedCalls(), self.view.subscribers), ([], []))


class VerificationTests(PublishingCase):
    """Checks of what was published."""

    def test_missing(self) -> None:
        """What is not there any more is published again; what is there is not."""
        self.succeed()
        self.clock.advance(VERIFY_INTERVAL)
        self.publisher.checks[0].callback(True)
        self.assertEqual(len(self.publisher.changes), 1)
        self.clock.advance(VERIFY_INTERVAL)
        self.publisher.checks[1].callback(False)
        change = self.publisher.changes[-1]
        self.assertEqual((change.kind, change.at.unix_ms), ("resync", 1_800_000_120_500))
        self.succeed()

    def test_failed_check(self) -> None:
        """A check that fails is made again at the next time; a change during a check is published after it."""
        self.succeed()
        self.clock.advance(VERIFY_INTERVAL)
        self.move()
        self.assertEqual(len(self.publisher.changes), 1)
        self.publisher.checks[0].errback(OSError("no route"))
        self.assertEqual(self.published()[-1][2], 8)

    def test_not_while_publishing(self) -> None:
        """What is being published is not checked."""
        self.clock.advance(VERIFY_INTERVAL)
        self.assertEqual(self.publisher.checks, [])


class StateTests(PublishingCase):
    """What others see of a publisher."""

    def one(self) -> MasterPublication:
        """Return the state of the only master in the registry."""
        (publisher,) = self.view.publishers.states()
        (master,) = publisher.masters
        return master

    def outcomes(self) -> dict[str, int]:
        """Return the outcomes that have occurred."""
        return {word: count for word, count in self.service.state().outcomes.items() if count}

    def test_success(self) -> None:
        """A change is pending until it is published; the time until then is measured."""
        self.assertEqual((self.one().pending_since, self.one().published_at), (instant(0.5), None))
        self.clock.advance(0.3)
        self.succeed()
        self.assertEqual((self.one().pending_since, self.one().published_at), (None, instant(0.8)))
        state = self.service.state()
        self.assertEqual((state.pending, state.lag.count, state.lag.sum_ms), (0, 1, 300))
        self.assertEqual(self.outcomes(), {"published": 1})

    def test_failure(self) -> None:
        """Failures are counted and explained until an attempt succeeds; the lag includes them."""
        self.fail_attempt()
        self.clock.advance(0.4)
        self.clock.advance(PUBLISH_TIMEOUT)
        self.assertEqual((self.one().attempts, self.one().error), (2, "no answer for 10 s"))
        (warning,) = self.view.publishers.warnings("mymaster")
        self.assertIn("2 attempts failed, the last with: no answer for 10 s", warning)
        self.clock.advance(0.8)
        self.succeed()
        self.assertEqual((self.one().attempts, self.one().error), (0, None))
        self.assertEqual(self.view.publishers.warnings("mymaster"), ())
        self.assertEqual(self.service.state().lag.sum_ms, 11_200)
        self.assertEqual(self.outcomes(), {"failed": 2, "published": 1})

    def test_conflict(self) -> None:
        """A conflict is no failure that is repeated; it is shown until it has ended."""
        conflict = Publication(PublishOutcome.CONFLICT, "there is 10.0.0.9:6379")
        self.publisher.attempts[-1].callback(conflict)
        self.clock.advance(MAX_DELAY)
        self.assertEqual(len(self.publisher.attempts), 1)
        (warning,) = self.view.publishers.warnings("mymaster")
        self.assertIn("refuses the address 10.0.0.1:6379 with config epoch 7: there is 10.0.0.9:6379", warning)
        self.move()
        self.succeed()
        self.assertEqual(self.view.publishers.warnings("mymaster"), ())
        self.assertEqual(self.outcomes(), {"conflict": 1, "published": 1})

    def test_stopped(self) -> None:
        """After the stop nothing is shown, and nothing is left to be called."""
        self.fail_attempt()
        self.service.stopService()
        self.assertEqual(self.view.publishers.states(), ())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FollowerTests(PublishingCase):
    """Where all Sentinels publish, one does so first."""

    follower_delay = (1.0, 3.0)

    def test_delay(self) -> None:
        """What another Sentinel announced is published with a delay, a failover of our own at once."""
        self.succeed()
        self.view.publish("+config-update-from", "sentinel ...", "mymaster")
        self.move(NEW, 8)
        self.clock.advance(2.9)
        self.assertEqual(len(self.publisher.attempts), 1)
        self.clock.advance(0.2)
        self.assertEqual(self.published()[-1], ("config-update", "10.0.0.2:6379", 8))
        self.succeed()
        self.assertIn((1.0, 3.0), self.ranges)
        self.move(Endpoint("10.0.0.3", 6379), 9)
        self.assertEqual(self.published()[-1], ("switch", "10.0.0.3:6379", 9))

    def test_superseded(self) -> None:
        """A switch of our own during the delay is published at once, and only once."""
        self.succeed()
        self.view.publish("+config-update-from", "sentinel ...", "mymaster")
        self.move(NEW, 8)
        self.move(Endpoint("10.0.0.3", 6379), 9)
        self.succeed()
        self.clock.advance(5)
        self.assertEqual([each[2] for each in self.published()], [7, 9])


class LimitTests(SynchronousTestCase):
    """Many masters at once."""

    def make(self, publisher: IPublisher, count: int) -> PublishingService:
        """Start a service with many masters, whose publisher may be called four times at once."""
        self.clock = Clock()
        self.view = FakeView(*(healthy_master(f"m{number}") for number in range(count)))
        service = PublishingService(self.clock, self.view, publisher, random=lambda low, high: high, max_running=4)
        service.startService()
        return service

    def test_limit(self) -> None:
        """No more attempts and checks than permitted are in progress; all masters have their turn."""
        publisher = RecordingPublisher()
        service = self.make(publisher, 10)
        self.assertEqual(len(publisher.attempts), 4)
        self.assertEqual([each.master for each in service.state("m3").masters], ["m3"])
        self.assertEqual((len(service.state().masters), service.state("x").masters), (10, ()))
        self.view.put(replace(self.view.master("m9"), address=NEW, config_epoch=8))
        for number in range(10):
            self.assertEqual(len(publisher.attempts), min(number + 4, 10))
            publisher.attempts[number].callback(None)
        self.assertEqual([each.master for each in publisher.changes], [f"m{number}" for number in range(10)])
        self.assertEqual(publisher.changes[-1].address, NEW)
        self.assertEqual(service.unpublished(), ())
        self.clock.advance(VERIFY_INTERVAL)
        self.assertEqual(len(publisher.checks), 4)
        self.view.put(replace(self.view.master("m9"), address=NEW, config_epoch=9))
        publisher.checks[0].callback(False)
        self.assertEqual((len(publisher.attempts), publisher.changes[-1].kind), (11, "resync"))
        for number in range(1, 9):
            publisher.checks[number].callback(True)
            self.assertEqual(len(publisher.checks), min(number + 4, 9))
        self.assertEqual([each.master for each in publisher.changes[10:]], ["m0", "m9"])

    def test_stop(self) -> None:
        """The stop ends the attempts, and begins none of those that wait."""
        publisher = RecordingPublisher()
        service = self.make(publisher, 10)
        service.stopService()
        self.assertEqual((len(publisher.attempts), self.clock.getDelayedCalls()), (4, []))

    def test_one_line(self) -> None:
        """If the other side is down, the log has one line, not one for each master, and one when it is back."""
        publisher = RecordingPublisher()
        service = self.make(publisher, 10)
        events: list[LogEvent] = []
        self.patch(service, "log", Logger(observer=cast(ILogObserver, events.append)))
        for attempt in publisher.attempts[:4]:
            attempt.errback(OSError("no route"))
        self.assertEqual(len(publisher.attempts), 8)
        self.assertEqual([each["name"] for each in events], ["m0"])
        self.clock.advance(0.5)
        while service.unpublished():
            next(each for each in publisher.attempts if not each.called).callback(None)
        self.assertEqual([each["log_level"].name for each in events], ["warn", "info"])

    def test_ended_at_once(self) -> None:
        """Attempts of very many masters may end at once."""

        @implementer(IPublisher)
        class ImmediatePublisher:
            """A publisher that has always published."""

            def publish(self, change: MasterChange) -> Deferred[Publication | None]:
                """Succeed."""
                return succeed(None)

            def verify(self, name: str) -> Deferred[bool]:
                """Find that it is not there."""
                return succeed(False)

        service = self.make(ImmediatePublisher(), 2_000)
        self.clock.advance(VERIFY_INTERVAL)
        self.assertEqual(service.state().outcomes["published"], 4_000)
