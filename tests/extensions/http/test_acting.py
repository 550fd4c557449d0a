"""Tests of ``txsentinel.extensions.http.acting`` and of requests that are repeated."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import healthy_master, instant
from tests.extensions.http.harness import HttpHarness, Reply
from txsentinel.extensions.http.idempotency import KEPT_SECONDS, MAX_KEYS
from txsentinel.model.snapshots import CommandRefusal, Instant

FAILOVER = "/v1/masters/mymaster/failover"
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"alice:secret").decode()}
ROUTES = (
    ("POST", FAILOVER),
    ("POST", "/v1/masters/mymaster/reset"),
    ("POST", "/v1/masters"),
    ("DELETE", "/v1/masters/mymaster"),
    ("PATCH", "/v1/config/mymaster"),
    ("PUT", "/v1/masters/mymaster/pause"),
    ("DELETE", "/v1/masters/mymaster/pause"),
    ("PUT", "/v1/pause"),
    ("POST", "/v1/reload"),
    ("DELETE", "/v1/pause"),
)


class ActingCase(SynchronousTestCase):
    """A server with one user, who has logged in."""

    def setUp(self) -> None:
        self.server = HttpHarness()
        self.server.operator.passwords["alice"] = "secret"

    def act(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        """Send a request with a JSON body."""
        sent = {**LOGIN, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.server.ask(method, target, sent, b"" if body is None else json.dumps(body).encode())

    @property
    def executed(self) -> list[tuple[str, ...]]:
        """The commands that were executed."""
        found = self.server.operator.executed
        return [tuple(word.decode("utf-8", "surrogateescape") for word in words) for _, words in found]


class OperationTests(ActingCase):
    """Each operation."""

    def test_reload(self) -> None:
        """The files are read again as SIGHUP does; what is wrong in them is the detail of an error."""
        reply = self.act("POST", "/v1/reload")
        self.assertEqual((reply.status, reply.document), (200, {"state": "reloaded"}))
        self.assertEqual(self.executed, [("TXSENTINEL", "RELOAD")])
        refusal = CommandRefusal("RELOADFAILED", "RELOADFAILED /etc/users.acl:1: unknown command")
        self.server.operator.replies["txsentinel|reload"] = refusal
        reply = self.act("POST", "/v1/reload")
        self.assertEqual((reply.status, reply.document["code"]), (422, "reload_failed"))
        self.assertIn("/etc/users.acl:1", reply.document["reasons"][0]["text"])

    def test_failover(self) -> None:
        """A failover is started as the user, forced or coordinated."""
        reply = self.act("POST", FAILOVER)
        self.assertEqual((reply.status, reply.document["state"]), (202, "started"))
        self.assertEqual(reply.headers["location"], "/v1/masters/mymaster/explain")
        self.act("POST", FAILOVER, {"coordinated": True, "comment": "maintenance"})
        self.assertEqual(
            self.executed, [("SENTINEL", "FAILOVER", "mymaster"), ("SENTINEL", "FAILOVER", "mymaster", "COORDINATED")]
        )
        principal = self.server.operator.executed[0][0]
        self.assertEqual((principal.user, principal.method, principal.origin), ("alice", "password", "127.0.0.1"))

    def test_pause(self) -> None:
        """One master or all are paused, with an end by duration or time; the answer is the reply, as a document."""
        reply = {b"master": b"mymaster", b"until": 1_800_000_000_000, b"guaranteed": True, b"masters": [{b"why": None}]}
        self.server.operator.replies["txsentinel|pause"] = reply
        answer = self.act("PUT", "/v1/masters/mymaster/pause", {"for_ms": 1000, "reason": "new kernel"})
        expected: dict[str, Any] = {"master": "mymaster", "until": "2027-01-15T08:00:00.000Z", "guaranteed": True}
        expected["masters"] = [{"why": None}]
        self.assertEqual((answer.status, answer.document), (200, expected))
        self.act("PUT", "/v1/pause", {"for_ms": 1, "scope": "hands-off", "require": "best-effort"})
        words = ("TXSENTINEL", "PAUSE", "mymaster", "FOR", "1000", "REASON", "new kernel")
        all_words = ("TXSENTINEL", "PAUSE", "*", "FOR", "1", "SCOPE", "hands-off", "REQUIRE", "best-effort")
        self.assertEqual(self.executed, [words, all_words])

    def test_pause_until(self) -> None:
        """A time with a zone may be given; one in the past, or without a zone, is none."""
        identity = self.server.view.identity()
        now = identity.started_at.unix_ms + identity.uptime_ms
        for later, zone in ((60_000, "+00:00"), (60_000, "Z")):
            until = str(Instant(now + later)).replace("Z", zone)
            self.act("PUT", "/v1/pause", {"until": until})
            self.assertEqual(self.executed[-1], ("TXSENTINEL", "PAUSE", "*", "FOR", "60000"))
        bad: list[tuple[object, str]] = [
            (str(Instant(now)), "schedule_in_past"),
            (str(Instant(now + 1)).replace("Z", ""), "schedule_without_zone"),
            ("tomorrow", "schedule_without_zone"),
            (5, "schedule_without_zone"),
        ]
        for wrong, code in bad:
            answer = self.act("PUT", "/v1/pause", {"until": wrong})
            self.assertEqual((answer.status, answer.code), (422, code))

    def test_resume(self) -> None:
        """The answer has what was ended, and what is left of the leases."""
        reply = {b"resumed": 1, b"residual_until": 1_800_000_000_000, b"sentinels": []}
        self.server.operator.replies["txsentinel|resume"] = reply
        answer = self.act("DELETE", "/v1/masters/mymaster/pause")
        expected = {"resumed": 1, "residual_until": "2027-01-15T08:00:00.000Z", "sentinels": []}
        self.assertEqual((answer.status, answer.document), (200, expected))
        self.act("DELETE", "/v1/pause")
        self.assertEqual(self.executed, [("TXSENTINEL", "RESUME", name) for name in ("mymaster", "*")])

    def test_no_guarantee(self) -> None:
        """What cannot be guaranteed is a conflict, with the reason."""
        text = "CANNOTGUARANTEE a failover of mymaster would still be possible"
        self.server.operator.replies["txsentinel|pause"] = CommandRefusal("CANNOTGUARANTEE", text)
        answer = self.act("PUT", "/v1/masters/mymaster/pause", {"for_ms": 1000})
        self.assertEqual((answer.status, answer.code), (409, "cannot_guarantee"))
        self.assertEqual(answer.document["reasons"][0]["text"], text)

    def test_monitor_and_remove(self) -> None:
        """Masters are added and removed."""
        body = {"name": "new one", "host": "10.0.0.5", "port": 6379, "quorum": 2}
        reply = self.act("POST", "/v1/masters", body)
        self.assertEqual((reply.status, reply.headers["location"]), (201, "/v1/masters/new%20one"))
        self.assertEqual(self.act("DELETE", "/v1/masters/queue").status, 200)
        self.assertEqual(
            self.executed,
            [("SENTINEL", "MONITOR", "new one", "10.0.0.5", "6379", "2"), ("SENTINEL", "REMOVE", "queue")],
        )

    def test_unencodable_name(self) -> None:
        """Half of a character is refused; what stands for a byte that is no UTF-8 is that byte."""
        body = {"name": "n\ud800", "host": "10.0.0.5", "port": 6379, "quorum": 2}
        reply = self.act("POST", "/v1/masters", body)
        self.assertEqual((reply.status, self.executed), (400, []))
        self.assertEqual(self.act("POST", "/v1/masters", body | {"name": "n\udcff"}).status, 201)

    def test_reset(self) -> None:
        """The name of a master is no pattern."""
        self.server.view.put(healthy_master("a*b[c]?\\d"))
        self.assertEqual(self.act("POST", "/v1/masters/a*b%5Bc%5D%3F%5Cd/reset").status, 200)
        self.assertEqual(self.executed, [("SENTINEL", "RESET", "a\\*b\\[c\\]\\?\\\\d")])

    def test_set(self) -> None:
        """Settings become options of one command; the answer has the new ones."""
        body = {"quorum": 3, "down_after_ms": 1500, "auth_pass": None, "guards": {"crash-failover": True}}
        reply = self.act("PATCH", "/v1/config/mymaster", body)
        self.assertEqual((reply.status, reply.document["down_after_ms"]), (200, 5000))
        words = ("SENTINEL", "SET", "mymaster", "quorum", "3", "down-after-milliseconds", "1500", "auth-pass", "")
        self.assertEqual(self.executed, [(*words, "crash-failover", "on")])

    def test_wrong_bodies(self) -> None:
        """What is wrong is named, and nothing is executed."""
        good = {"name": "n", "host": "h", "port": 1, "quorum": 1}
        for method, target, body, word in (
            ("POST", FAILOVER, {"coordinated": "yes"}, "coordinated"),
            ("POST", FAILOVER, {"comment": 1}, "comment"),
            ("POST", FAILOVER, {"comment": "x" * 1025}, "comment"),
            ("POST", FAILOVER, {"force": True}, "force"),
            ("POST", FAILOVER, {"expect": 1}, "expect"),
            ("POST", FAILOVER, {"expect": {"epoch": 1}}, "expect"),
            ("POST", FAILOVER, [], "object"),
            ("POST", "/v1/masters", {}, "name"),
            ("POST", "/v1/masters", {**good, "port": "1"}, "port"),
            ("POST", "/v1/masters", {**good, "port": True}, "port"),
            ("POST", "/v1/masters", {**good, "quorum": 1.5}, "quorum"),
            ("POST", "/v1/masters", {**good, "host": ""}, "host"),
            ("PATCH", "/v1/config/mymaster", {}, "no setting"),
            ("PUT", "/v1/pause", {}, "a pause has an end"),
            ("PUT", "/v1/pause", {"for_ms": 1, "until": "x"}, "for_ms and until"),
            ("PUT", "/v1/pause", {"for_ms": "1h"}, "for_ms"),
            ("PUT", "/v1/pause", {"for_ms": True}, "for_ms"),
            ("PUT", "/v1/pause", {"for_ms": 0}, "for_ms"),
            ("PUT", "/v1/pause", {"for_ms": 1, "scope": "all"}, "scope"),
            ("PUT", "/v1/pause", {"for_ms": 1, "require": 1}, "require"),
            ("PUT", "/v1/pause", {"for_ms": 1, "reason": "x" * 501}, "reason"),
            ("PUT", "/v1/pause", {"for_ms": 1, "expect": {}}, "expect"),
            ("PATCH", "/v1/config/mymaster", {"quorum": []}, "quorum"),
            ("PATCH", "/v1/config/mymaster", {"guards": []}, "guards"),
            ("PATCH", "/v1/config/mymaster", {"guards": {"x": {}}}, "'x'"),
            ("PATCH", "/v1/config/mymaster", {"down-after": 1}, "down-after"),
        ):
            reply = self.act(method, target, body)
            self.assertEqual((reply.status, reply.code), (400, "bad_request"), body)
            self.assertIn(word, reply.document["detail"])
        self.assertEqual(self.executed, [])

    def test_unknown_master(self) -> None:
        """An unknown master is 404."""
        for method, target in ROUTES:
            if "mymaster" in target:
                reply = self.act(
                    method, target.replace("mymaster", "nobody"), {"quorum": 1} if method == "PATCH" else None
                )
                self.assertEqual((reply.status, reply.code), (404, "unknown_master"), target)

    def test_expectation(self) -> None:
        """A master in another state than expected is left alone."""
        for expected, status in (
            ({"master": "10.0.0.1:6379", "config_epoch": 7}, 202),
            ({"config_epoch": 7}, 202),
            ({"config_epoch": 6}, 412),
            ({"master": "10.0.0.2:6379"}, 412),
        ):
            reply = self.act("POST", FAILOVER, {"expect": expected})
            self.assertEqual(reply.status, status, expected)
        self.assertEqual((reply.code, reply.document["reasons"][0]["subject"]), ("expectation_failed", "master"))
        self.assertEqual(len(self.executed), 2)

    def test_refusals(self) -> None:
        """Each error reply of the Sentinel has its code; its text is the reason."""
        for text, status, code in (
            ("INPROG Failover already in progress", 409, "failover_in_progress"),
            ("NOGOODSLAVE No suitable replica to promote", 412, "candidate_unfit"),
            ("NOPERM User alice has no permissions", 403, "not_permitted"),
            ("ERR No such master with that name", 404, "unknown_master"),
            ("ERR Duplicate master name.", 409, "exists"),
            ("ERR Invalid argument", 400, "bad_request"),
            ("CLOSED The session ended", 409, "refused"),
        ):
            self.server.operator.replies["sentinel"] = CommandRefusal(text.split()[0], text)
            reply = self.act("POST", FAILOVER)
            self.assertEqual((reply.status, reply.code), (status, code))
            self.assertEqual(reply.document["reasons"][0]["text"], text)

    def test_states(self) -> None:
        """Nothing is ordered in TILT, while storage fails, or while the process stops."""
        sentinel = self.server.view.sentinel
        for code, state in (
            ("stopping", replace(sentinel, stopping=True)),
            ("tilt", replace(sentinel, tilt=replace(sentinel.tilt, active=True, until=instant(90)))),
            ("storage_failing", replace(sentinel, storage=replace(sentinel.storage, state="failing"))),
        ):
            self.server.view.sentinel = state
            for method, target in ROUTES:
                reply = self.act(method, target, {})
                self.assertEqual((reply.status, reply.code), (503, code), target)
        self.assertEqual(self.executed, [])


class PermissionTests(ActingCase):
    """Who may act."""

    def test_login(self) -> None:
        """Without a login nobody acts, also where the Sentinel port would allow it."""
        for method, target in ROUTES:
            reply = self.server.ask(method, target)
            self.assertEqual((reply.status, reply.code), (401, "login_required"), target)
        self.assertEqual(self.executed, [])

    def test_rights(self) -> None:
        """Each operation needs the right of its command."""
        names = [f"sentinel|{word}" for word in ("failover", "reset", "monitor", "remove", "set")]
        pause, resume = "txsentinel|pause", "txsentinel|resume"
        names += [pause, resume, pause, "txsentinel|reload", resume]
        for (method, target), command in zip(ROUTES, names, strict=True):
            self.server.operator.denied = {("alice", command)}
            self.assertEqual(self.act(method, target, {}).code, "not_permitted")
        self.assertEqual(self.executed, [])

    def test_other_sites(self) -> None:
        """A page of another site cannot act, even if the browser knows the password."""
        for method, target in ROUTES:
            for headers in (
                {"Sec_Fetch_Site": "cross-site"},
                {"Sec_Fetch_Site": "same-site"},
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Host": "evil.example"},
            ):
                self.assertIn(self.act(method, target, {}, **headers).status, (403, 421), headers)
            if method != "DELETE":
                self.assertEqual(self.act(method, target, {}, Content_Type="text/plain").status, 415)
            self.assertEqual(self.act("GET", FAILOVER).status, 405)
        self.assertEqual(self.executed, [])


class RepetitionTests(ActingCase):
    """``Idempotency-Key``."""

    def test_repeated(self) -> None:
        """The same request is executed once, and answered as the first time."""
        replies = [self.act("POST", FAILOVER, {}, Idempotency_Key="k1") for _ in range(3)]
        self.assertEqual(
            {(each.status, each.body, each.headers["location"]) for each in replies},
            {(202, replies[0].body, "/v1/masters/mymaster/explain")},
        )
        self.assertEqual(len(self.executed), 1)
        self.act("POST", FAILOVER, {}, Idempotency_Key="k2")
        self.act("POST", FAILOVER, {})
        self.assertEqual(len(self.executed), 3)

    def test_other_request(self) -> None:
        """A key is for one request of one user."""
        self.act("POST", FAILOVER, {}, Idempotency_Key="k")
        for target, body in ((FAILOVER, {"coordinated": True}), ("/v1/masters/queue/failover", {})):
            reply = self.act("POST", target, body, Idempotency_Key="k")
            self.assertEqual((reply.status, reply.code), (409, "key_reused"))
        self.server.operator.passwords["bob"] = "secret"
        headers = {"Authorization": "Basic " + base64.b64encode(b"bob:secret").decode(), "Idempotency-Key": "k"}
        self.assertEqual(self.server.ask("POST", FAILOVER, headers, b'{"coordinated": true}').status, 202)

    def test_concurrent(self) -> None:
        """A request that is repeated before its answer waits for that answer."""
        pending: Deferred[object] = Deferred()
        self.server.operator.replies["sentinel"] = pending
        connections = [self.server.connect() for _ in range(3)]
        for each in connections:
            each.request("POST", FAILOVER, {**LOGIN, "Idempotency-Key": "k"}, b"{}")
        connections[0].close()
        pending.callback(b"OK")
        self.server.run_due_calls()
        self.assertEqual([each.reply().status for each in connections[1:]], [202, 202])
        self.assertEqual(len(self.executed), 1)

    def test_refused(self) -> None:
        """A refusal is kept, but not a state that passes."""
        self.server.operator.replies["sentinel"] = CommandRefusal("INPROG", "INPROG Failover already in progress")
        self.assertEqual(self.act("POST", FAILOVER, {}, Idempotency_Key="k").status, 409)
        sentinel = self.server.view.sentinel
        self.server.view.sentinel = replace(sentinel, stopping=True)
        self.assertEqual(self.act("POST", FAILOVER, {}, Idempotency_Key="j").status, 503)
        self.server.view.sentinel = sentinel
        del self.server.operator.replies["sentinel"]
        self.assertEqual(self.act("POST", FAILOVER, {}, Idempotency_Key="k").status, 409)
        self.assertEqual(self.act("POST", FAILOVER, {}, Idempotency_Key="j").status, 202)

    def test_limits(self) -> None:
        """Keys are forgotten after a day, or when there are too many, and must not be long."""
        self.act("POST", FAILOVER, {}, Idempotency_Key="k")
        self.server.advance(KEPT_SECONDS)
        self.act("POST", FAILOVER, {}, Idempotency_Key="k")
        self.assertEqual(len(self.executed), 2)
        for number in range(MAX_KEYS):
            self.act("POST", FAILOVER, {}, Idempotency_Key=f"n{number}")
        self.act("POST", FAILOVER, {}, Idempotency_Key="k")
        self.assertEqual(len(self.executed), MAX_KEYS + 3)
        self.assertEqual(self.act("POST", FAILOVER, {}, Idempotency_Key="x" * 256).code, "bad_request")
