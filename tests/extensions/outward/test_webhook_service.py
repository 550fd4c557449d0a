"""Tests of the service of webhooks: which Sentinel sends what, dead letters, and the history of failovers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.extensions.fixture import OWN_ID, PEER_IDS, FakeView, failover_record, healthy_master, instant
from tests.extensions.outward.harness import ImmediateReactor, RecordingClient
from txsentinel.extensions.finished_failovers import INTERVAL, PERIOD
from txsentinel.extensions.webhooks.service import FILES_INTERVAL, STAND_IN_DELAY, WebhookService
from txsentinel.extensions.webhooks.settings import read_targets
from txsentinel.interfaces import IStateDirectory
from txsentinel.model.extension_settings import ExtensionSetting
from txsentinel.model.history import ObserverRole

KEY = "whsec_" + b64encode(bytes(32)).decode()
PAYLOAD = "mymaster 10.0.0.9 6379 10.0.0.1 6379"
LOW_ID, HIGH_ID = "0" * 40, "f" * 40


@implementer(IStateDirectory)
class TemporaryDirectory:
    """A state directory that exists."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.usable = True

    def prepare(self) -> str | None:
        """Return the path."""
        return self.path if self.usable else None


class WebhookCase(SynchronousTestCase):
    """A service with one target."""

    lines: Sequence[str] = ("url ops https://a.example/x", "insecure ops yes", "events ops +switch-master *odown")

    def setUp(self) -> None:
        self.reactor = ImmediateReactor()
        self.view = FakeView(healthy_master())
        self.client = RecordingClient()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.state = TemporaryDirectory(str(self.directory))
        settings = [ExtensionSetting(words[0], tuple(words[1:])) for words in map(str.split, self.lines)]
        self.service = WebhookService(
            self.reactor,
            self.view,
            self.state,
            read_targets("", settings),
            lambda _: self.client,
            lambda: 1_800_000_010.0,
        )
        self.service.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop the service if it runs."""
        if self.service.running:
            self.successResultOf(self.service.stopService())

    def kinds(self) -> list[str]:
        """Return the types of all requests."""
        return [json.loads(each.body)["type"] for each in self.client.requests]

    def peers(self, *kinds: tuple[str, str]) -> None:
        """Set IDs and kinds of the other Sentinels."""
        peer = healthy_master().peers[0]
        found = tuple(replace(peer, sentinel_id=each, kind=kind) for each, kind in kinds)
        self.view.put(replace(self.view.master("mymaster"), peers=found))

    def switch(self, led: bool) -> None:
        """Publish the events of a failover that this Sentinel led, or another one."""
        if led:
            self.view.publish("+elected-leader", "master mymaster 10.0.0.9 6379", "mymaster")
        else:
            self.view.publish("+config-update-from", "sentinel x 10.0.0.8 26379", "mymaster")
        self.view.publish("+switch-master", PAYLOAD, "mymaster")

    def record(self, leader: str | None, role: ObserverRole | None = None) -> None:
        """Have the history contain the failover."""
        role = role or (ObserverRole.LEADER if leader == OWN_ID else ObserverRole.FOLLOWER)
        self.view.records = [replace(failover_record(), leader=leader, observer_role=role)]


class SenderTests(WebhookCase):
    """Which Sentinel sends a switch."""

    def test_leader_sends_at_once(self) -> None:
        """The leader sends, without a delay."""
        self.switch(led=True)
        self.assertEqual(self.kinds(), ["txsentinel.switch-master"])
        self.assertEqual(self.client.requests[0].headers["user-agent"], "txsentinel/0.1.0")

    def test_others_do_not_send(self) -> None:
        """Another Sentinel does not, if the leader is of our kind; not even with the lowest ID."""
        self.peers((HIGH_ID, "txsentinel"))
        self.record(HIGH_ID)
        self.switch(led=False)
        self.reactor.advance(STAND_IN_DELAY)
        self.assertEqual(self.kinds(), [])

    def test_leader_of_c(self) -> None:
        """For a C Sentinel the one of our kind with the lowest ID sends, after a delay."""
        self.peers((LOW_ID, "c"), (HIGH_ID, "txsentinel"))
        self.record(LOW_ID)
        self.switch(led=False)
        self.assertEqual(self.kinds(), [])
        self.reactor.advance(STAND_IN_DELAY)
        self.assertEqual(self.kinds(), ["txsentinel.switch-master"])

    def test_leader_not_known(self) -> None:
        """One that has voted for itself in vain sends only if a C Sentinel may have led."""
        self.peers((HIGH_ID, "txsentinel"))
        self.record(OWN_ID, ObserverRole.CANDIDATE)
        self.switch(led=False)
        self.reactor.advance(STAND_IN_DELAY)
        self.assertEqual(self.kinds(), [])
        self.peers((HIGH_ID, "txsentinel"), (LOW_ID, "c"))
        self.view.put(replace(self.view.master("mymaster"), config_epoch=8))
        self.switch(led=False)
        self.reactor.advance(STAND_IN_DELAY)
        self.assertEqual(self.kinds(), ["txsentinel.switch-master"])

    def test_not_the_lowest(self) -> None:
        """One with a higher ID does not."""
        self.peers((HIGH_ID, "c"), (LOW_ID, "txsentinel"))
        self.record(HIGH_ID)
        self.switch(led=False)
        self.reactor.advance(STAND_IN_DELAY)
        self.assertEqual(self.kinds(), [])

    def test_led_without_an_election(self) -> None:
        """What shows only in the record that this Sentinel led, as after an order of an operator, is enough."""
        self.peers((HIGH_ID, "txsentinel"))
        self.record(OWN_ID)
        self.view.publish("+switch-master", PAYLOAD, "mymaster")
        self.reactor.advance(STAND_IN_DELAY)
        self.assertEqual(self.kinds(), ["txsentinel.switch-master"])

    def test_former_leader(self) -> None:
        """Having led an earlier failover does not matter."""
        self.peers((LOW_ID, "txsentinel"))
        self.switch(led=True)
        self.client.requests[0].answer(200)
        self.record(LOW_ID)
        self.switch(led=False)
        self.reactor.advance(STAND_IN_DELAY)
        self.assertEqual(len(self.client.requests), 1)

    def test_promotion(self) -> None:
        """The leader sends the switch as soon as it gives clients the new address, and not again at the end."""
        old = "10.0.0.9 6379"
        self.view.publish("+elected-leader", f"master mymaster {old}", "mymaster")
        promoted = f"slave 10.0.0.1:6379 10.0.0.1 6379 @ mymaster {old}"
        self.view.publish("+promoted-slave", promoted, "mymaster")
        (request,) = self.client.requests
        data = json.loads(request.body)["data"]
        self.assertEqual((data["channel"], data["text"], data["from"]), ("+switch-master", PAYLOAD, "10.0.0.9:6379"))
        request.answer(200)
        self.view.publish("+switch-master", PAYLOAD, "mymaster")
        self.assertEqual(len(self.client.requests), 1)

    def test_promotion_that_clients_do_not_get(self) -> None:
        """While clients get the old address, nothing is sent."""
        self.view.publish("+elected-leader", "master mymaster 10.0.0.1 6379", "mymaster")
        promoted = "slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.1 6379"
        self.view.publish("+promoted-slave", promoted, "mymaster")
        self.assertEqual(self.client.requests, [])

    def test_observations(self) -> None:
        """What each Sentinel observes by itself, each one sends."""
        self.view.publish("+odown", "master mymaster 10.0.0.9 6379 #quorum 2/2", "mymaster")
        self.assertEqual(self.kinds(), ["txsentinel.odown"])

    def test_filters(self) -> None:
        """Other events are not sent."""
        self.view.publish("+sdown", "master mymaster 10.0.0.9 6379", "mymaster")
        self.assertEqual(self.kinds(), [])


class AllTests(WebhookCase):
    """Every Sentinel sends."""

    lines = (*WebhookCase.lines, "send ops all")

    def test_switch(self) -> None:
        """A switch that another one led is sent at once."""
        self.switch(led=False)
        self.assertEqual(self.kinds(), ["txsentinel.switch-master"])


class FailoverTests(WebhookCase):
    """Records of failovers."""

    lines = ("url ops https://a.example/x", "insecure ops yes", "events ops failover")

    def finish(self, leader: str) -> None:
        """Have a failover end, and its record appear a little later."""
        self.view.records = []
        self.switch(led=leader == OWN_ID)
        self.reactor.advance(INTERVAL)
        self.record(leader)
        self.reactor.advance(INTERVAL)

    def test_record(self) -> None:
        """The leader sends the record once it is there, once."""
        self.finish(OWN_ID)
        self.assertEqual(self.kinds(), ["txsentinel.failover"])
        self.client.requests[0].answer(200)
        self.reactor.pump([INTERVAL] * int(PERIOD / INTERVAL + 1))
        self.switch(led=True)
        self.reactor.advance(INTERVAL)
        self.assertEqual(len(self.client.requests), 1)

    def test_other_leader(self) -> None:
        """Another Sentinel does not."""
        self.finish(PEER_IDS[0])
        self.assertEqual(self.kinds(), [])

    def test_old_records(self) -> None:
        """Failovers before the start, which the history has read from its file, are not sent."""
        self.view.records = []
        self.switch(led=True)
        old = replace(failover_record(), phases=(replace(failover_record().phases[0], at=instant(-5)),))
        self.view.records = [old]
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.kinds(), [])

    def test_rest(self) -> None:
        """The history is looked at only for some seconds after a failover."""
        self.finish(OWN_ID)
        self.client.requests[0].answer(200)
        self.reactor.pump([INTERVAL] * int(PERIOD / INTERVAL + 2))
        waiting = [call for call in self.reactor.getDelayedCalls() if call.getTime() - self.reactor.seconds() < 1]
        self.assertEqual(waiting, [])


class LetterTests(WebhookCase):
    """What cannot be delivered."""

    def letters(self) -> list[str]:
        """Return the lines of the file of dead letters."""
        return (self.directory / "dead-letters.jsonl").read_text().splitlines()

    def give_up(self) -> None:
        """Have a notification refused."""
        self.switch(led=True)
        self.client.requests[-1].answer(404)

    def test_refused(self) -> None:
        """A refused notification is kept in a file that only the user of the process can read."""
        self.give_up()
        (line,) = self.letters()
        letter = json.loads(line)
        self.assertEqual((letter["target"], letter["reason"], letter["attempts"]), ("ops", "status 404", 1))
        self.assertEqual((self.directory / "dead-letters.jsonl").stat().st_mode & 0o777, 0o600)

    def test_doctor(self) -> None:
        """How many were given up, and the last reason, is what the doctor and HTTP show; nothing before the first."""
        (state,) = self.view.publishers.states()
        self.assertEqual((state.publisher, state.notices, dict(state.outcomes)), ("webhooks", (), {"failed": 0}))
        self.give_up()
        (state,) = self.view.publishers.states()
        self.assertEqual(
            state.notices,
            (
                "1 notification could not be delivered since the start, the last to ops: status 404;"
                " 'txsentinel webhooks list' has them",
            ),
        )
        self.assertEqual(dict(state.outcomes), {"failed": 1})
        self.assertEqual(self.view.publishers.warnings("mymaster"), ())
        self.service.stopService()
        self.assertEqual(self.view.publishers.states(), ())

    def test_retry(self) -> None:
        """The file is sent again when it is renamed, with the same ID; what is no letter is skipped."""
        self.give_up()
        first = self.client.requests[0].headers["webhook-id"]
        (self.directory / "dead-letters.jsonl").rename(self.directory / "retry.jsonl")
        with open(self.directory / "retry.jsonl", "a") as file:
            file.write('no letter\n{"target": "gone", "notification": ' + json.dumps(self.notification()) + "}\n")
        self.reactor.advance(FILES_INTERVAL)
        self.assertEqual([each.headers["webhook-id"] for each in self.client.requests], [first, first])
        self.assertFalse((self.directory / "retry.jsonl").exists())
        self.client.requests[-1].answer(200)
        self.assertEqual(self.service.queues["ops"].delivered, 1)

    def notification(self) -> object:
        """Return the notification of the first letter."""
        return json.loads((self.directory / "retry.jsonl").read_text().splitlines()[0])["notification"]

    def test_stop(self) -> None:
        """What waits at the stop is kept."""
        self.switch(led=True)
        self.view.publish("-odown", "master mymaster 10.0.0.1 6379", "mymaster")
        self.stop()
        reasons = [json.loads(line)["reason"] for line in self.letters()]
        self.assertEqual(reasons, ["the Sentinel has stopped; before that: not tried yet"] * 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_no_directory(self) -> None:
        """Without a state directory the Sentinel runs on, and stops."""
        self.state.usable = False
        self.give_up()
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_large_file(self) -> None:
        """A file that has grown is renamed."""
        (self.directory / "dead-letters.jsonl").write_bytes(b"\n" * (8 << 20))
        self.give_up()
        self.assertEqual(len(self.letters()), 1)
        self.assertTrue((self.directory / "dead-letters.jsonl.1").exists())
