"""Tests of the requests of webhooks: the signature, the three formats, and the settings."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import OWN_ID, START_MS, FakeView, failover_record, healthy_master
from txsentinel.extensions.notifications import Notification, NotificationMaker, decode_notification
from txsentinel.extensions.webhooks.formats import WebhookRequest, event_type, make_request, sentence
from txsentinel.extensions.webhooks.settings import WebhookTarget, read_targets
from txsentinel.model.events import SentinelEvent
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

KEYS = tuple("whsec_" + b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
ROUTING_KEY = "R0123456789ABCDEF0123456789ABCDE"
SWITCH = SentinelEvent("+switch-master", "mymaster 10.0.0.9 6379 10.0.0.1 6379", "mymaster")


def lines(*texts: str) -> list[ExtensionSetting]:
    """Return the lines of a file of extensions."""
    split = [text.split() for text in texts]
    return [
        ExtensionSetting(words[0], tuple(words[1:]), f"/etc/ext, line {number}")
        for number, words in enumerate(split, 1)
    ]


class RequestCase(SynchronousTestCase):
    """Files with secrets, and notifications of a view."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        for number, key in enumerate(KEYS):
            self.file(f"key{number}", key)
        self.view = FakeView(healthy_master())
        self.wall = START_MS / 1000 + 10
        self.maker = NotificationMaker(self.view, lambda: self.wall)

    def file(self, name: str, contents: str) -> str:
        """Write a file and return its path."""
        path = self.directory / name
        path.write_text(contents + "\n")
        return str(path)

    def path(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.directory / name)

    def target(self, *texts: str) -> WebhookTarget:
        """Return the target that lines define."""
        (target,) = read_targets("", lines(*texts))
        return target

    def request(self, notification: Notification, *texts: str) -> WebhookRequest:
        """Return the request for a notification at a target that lines define."""
        request = make_request(self.target(*texts), notification, 1_800_000_010)
        assert request is not None
        return request


class CloudEventTests(RequestCase):
    """The default format."""

    def test_signature(self) -> None:
        """The reference implementation accepts the signature with either of two secrets, and with no other one."""
        files = [f"secret-file ops {self.path(name)}" for name in ("key0", "key1")]
        target = self.target("url ops https://a.example/x", *files)
        request = make_request(target, self.maker.event(SWITCH), int(time.time()))  # The library has no other clock.
        assert request is not None
        for key in KEYS[:2]:
            verified: Any = Webhook(key).verify(request.body, request.headers)
            self.assertEqual(verified["subject"], "mymaster")
        self.assertRaises(WebhookVerificationError, Webhook(KEYS[2]).verify, request.body, request.headers)
        changed = request.body.replace(b"10.0.0.1", b"10.0.0.6")
        self.assertRaises(WebhookVerificationError, Webhook(KEYS[0]).verify, changed, request.headers)

    def test_switch(self) -> None:
        """A switch has all that a receiver needs; its ID is that of the failover and the observer."""
        notification = self.maker.event(SWITCH)
        request = self.request(notification, "url ops https://a.example", f"secret-file ops {self.path('key0')}")
        document = json.loads(request.body)
        data = document.pop("data")
        self.assertEqual(
            document,
            {
                "specversion": "1.0",
                "id": f"{failover_record().group}-{OWN_ID}-switch",
                "source": f"/sentinels/{OWN_ID}",
                "type": "txsentinel.switch-master",
                "time": "2027-01-15T08:00:10.000Z",
                "datacontenttype": "application/json",
                "subject": "mymaster",
            },
        )
        self.assertEqual((data["from"], data["to"]), ("10.0.0.9:6379", "10.0.0.1:6379"))
        self.assertEqual((data["config_epoch"], data["address"]["port"]), (7, 6379))
        self.assertEqual(request.headers["webhook-id"], document["id"])
        self.assertEqual(request.headers["webhook-timestamp"], "1800000010")

    def test_ids(self) -> None:
        """Two events never have one ID; the ID of a switch does not depend on what was sent before."""
        first = self.maker.event(SentinelEvent("+tilt", "#tilt mode entered"))
        second = self.maker.event(SentinelEvent("+tilt", "#tilt mode entered"))
        self.assertNotEqual(first.notification_id, second.notification_id)
        self.assertEqual(self.maker.event(SWITCH).notification_id, self.maker.event(SWITCH).notification_id)

    def test_ipv6(self) -> None:
        """An IPv6 address is written in brackets."""
        event = replace(SWITCH, payload="mymaster ::1 6379 2001:db8::2 6380")
        data = self.maker.event(event).data
        self.assertEqual((data["from"], data["to"]), ("[::1]:6379", "[2001:db8::2]:6380"))

    def test_types(self) -> None:
        """The end of a state has a type of its own."""
        self.assertEqual(event_type("+odown"), "txsentinel.odown")
        self.assertEqual(event_type("-odown"), "txsentinel.odown.ended")
        self.assertEqual(event_type("-failover-abort-not-elected"), "txsentinel.failover-abort-not-elected")

    def test_failover(self) -> None:
        """A finished failover is sent with its whole record."""
        record = failover_record()
        notification = self.maker.failover(record)
        self.assertEqual(notification.data["outcome"], "switched")
        self.assertIn(record.group, notification.notification_id)
        self.assertIn("switched", sentence(notification))

    def test_file_form(self) -> None:
        """What is written to a file is read as the same; anything else is refused."""
        notification = self.maker.event(SWITCH)
        self.assertEqual(decode_notification(json.loads(json.dumps(notification.encode()))), notification)
        for damage in ({"at": "now"}, {"data": None}, {"kind": 1}, {"master": 2}):
            self.assertRaises(ValueError, decode_notification, {**notification.encode(), **damage})


class ChatTests(RequestCase):
    """Slack and PagerDuty."""

    def test_slack(self) -> None:
        """Slack gets a sentence in which its markup is escaped."""
        event = SentinelEvent("+sdown", "master <!channel> 10.0.0.1 6379", "<!channel>")
        request = self.request(self.maker.event(event), "url ops https://hooks.slack.example/s", "format ops slack")
        text = json.loads(request.body)["text"]
        self.assertIn("&lt;!channel&gt;", text)
        self.assertNotIn("<", text)

    def pagerduty(self, event: SentinelEvent) -> dict[str, Any]:
        """Return what PagerDuty gets."""
        routing = self.file("routing", ROUTING_KEY)
        notification = self.maker.event(event)
        request = self.request(notification, "format ops pagerduty", f"secret-file ops {routing}")
        self.assertNotIn(ROUTING_KEY, repr(request))
        document: dict[str, Any] = json.loads(request.body)
        return document

    def test_pagerduty_incident(self) -> None:
        """An objectively down master opens an incident, which the switch ends, whichever Sentinel reports it."""
        opened = self.pagerduty(SentinelEvent("+odown", "master mymaster 10.0.0.9 6379 #quorum 2/2", "mymaster"))
        ended = self.pagerduty(SWITCH)
        self.assertEqual((opened["event_action"], ended["event_action"]), ("trigger", "resolve"))
        self.assertEqual(opened["dedup_key"], ended["dedup_key"])
        self.assertEqual(opened["routing_key"], ROUTING_KEY)
        self.assertEqual(opened["payload"]["severity"], "critical")
        self.assertLessEqual({"summary", "source", "severity"}, set(opened["payload"]))

    def test_no_incident_for_a_record(self) -> None:
        """PagerDuty gets no records of failovers."""
        routing = self.file("routing", ROUTING_KEY)
        target = self.target("format ops pagerduty", f"secret-file ops {routing}", "events ops *")
        self.assertIsNone(make_request(target, self.maker.failover(failover_record()), 0))


class SettingTests(RequestCase):
    """The argument and the lines of the file."""

    def test_filters(self) -> None:
        """Events and masters are chosen by patterns; an event without a master passes the filter of masters."""
        target = self.target(
            "url ops https://a.example",
            "events ops +switch-master *odown",
            "masters ops my* cache",
            f"secret-file ops {self.path('key0')}",
        )
        self.assertTrue(target.wants("+odown", "mymaster"))
        self.assertTrue(target.wants("-odown", None))
        self.assertFalse(target.wants("+odown", "sessions"))
        self.assertFalse(target.wants("+sdown", "mymaster"))

    def test_defaults(self) -> None:
        """The default is one signed request for each switch, from the leader."""
        target = self.target("url ops https://a.example", f"secret-file ops {self.path('key0')}")
        self.assertEqual((target.format, target.events, target.send), ("cloudevents", ("+switch-master",), "leader"))

    def test_argument(self) -> None:
        """The argument defines one target."""
        (target,) = read_targets(
            f"https://a.example/x;secret-file={self.path('key0')};events=+odown,-odown;send=all", []
        )
        self.assertEqual(
            (target.url(), target.events, target.send), ("https://a.example/x", ("+odown", "-odown"), "all")
        )

    def test_secret_address(self) -> None:
        """An address can be in a file; neither it nor a key is part of the repr."""
        path = self.file("address", "https://hooks.slack.example/T000/B000/XXXX")
        target = self.target("format ops slack", f"url-file ops {path}")
        self.assertTrue(target.url().endswith("XXXX"))
        self.assertNotIn("XXXX", repr(target))
        self.assertNotIn(
            KEYS[0][6:], repr(self.target("url o https://a.example", f"secret-file o {self.path('key0')}"))
        )

    def refusal(self, texts: Sequence[str], argument: str = "") -> str:
        """Return the error text of lines."""
        return str(self.assertRaises(ValueError, read_targets, argument, lines(*texts)))

    def test_refusals(self) -> None:
        """Each wrong setting is refused by a text with the line and the reason."""
        key = f"secret-file ops {self.path('key0')}"
        url = "url ops https://a.example"
        bad = f"secret-file ops {self.file('bad', 'whsec_AAAA')}"
        for texts, place, reason in (
            (["colour ops red"], 1, "unknown setting 'colour'"),
            (["url"], 1, "name of a target"),
            (["url ops"], 1, "needs a value"),
            (["url o/ps https://a.example"], 1, "no name of a target"),
            (["url ops https://a.example https://b.example"], 1, "one value"),
            ([url, url], 2, "set twice"),
            (["url ops http://a.example", key], 1, "insecure yes allows"),
            (["url ops ftp://a.example", key], 1, "https"),
            (["url ops https://user:geheim@a.example", key], 1, "user or password"),
            (["url ops https:///x", key], 1, "no URL"),
            ([key], 1, "no url"),
            ([url], 1, "nothing would be signed"),
            ([url, "secret-file ops /nowhere"], 2, "No such file"),
            ([url, bad], 2, "it must have 24 to 64"),
            ([url, key, key, key], 4, "two secret-file"),
            ([url, key, f"ca-file ops {self.path('key1')}"], 3, "no certificate in PEM"),
            ([url, key, "format ops xml"], 3, "must be cloudevents, slack or pagerduty"),
            ([url, key, "send ops some"], 3, "must be leader or all"),
            ([url, key, "insecure ops maybe"], 3, "yes or no"),
            ([url, key, "events ops +switchmaster"], 3, "fits no channel"),
            ([url, key, f"url-file ops {self.path('key1')}"], 3, "both url and url-file"),
            ([f"url-file ops {self.path('key1')}", key], 1, "no URL"),
            (["format ops pagerduty"], 1, "routing key"),
            ([url, key, "format ops slack"], 2, "use url-file"),
        ):
            text = self.refusal(texts)
            self.assertIn(reason, text)
            self.assertTrue(text.startswith(f"/etc/ext, line {place}: "), text)
            self.assertNotIn("geheim", text)

    def test_refusal_has_the_setting(self) -> None:
        """The exception has the line that is wrong."""
        error = self.assertRaises(SettingError, read_targets, "", lines("url ops elsewhere"))
        self.assertEqual(error.setting.name, "url")
        self.assertIn("name=value", self.refusal([], "https://a.example;x"))
