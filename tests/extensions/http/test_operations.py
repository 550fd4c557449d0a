"""Tests of ``txsentinel.extensions.http.operations``: switchovers are ordered, followed and cancelled."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, succeed

from tests.extensions.http.test_acting import LOGIN, ActingCase
from txsentinel.model.snapshots import CommandRefusal

SWITCHOVER = "/v1/masters/mymaster/switchover"
ONE = "/v1/operations/01JE"


def reply(state: str, **fields: object) -> dict[bytes, object]:
    """Return an operation as a command returns it."""
    found: dict[bytes, object] = {
        b"operation_id": b"01JE",
        b"state": state.encode(),
        b"requested_at": 1_790_000_000_123,
        b"reasons": [],
        b"steps": [{b"at": 1_790_000_000_125, b"after_ms": 2, b"step": b"checked", b"text": b"fine"}],
        b"receipt": None,
    }
    found.update((name.encode(), value) for name, value in fields.items())
    return found


class SwitchoverTests(ActingCase):
    """POST of a switchover, and the operation."""

    def answer(self, command: str, *replies: object) -> None:
        """Set the replies to a command, one after the other; the last one is repeated."""
        waiting = list(replies)

        def next_reply() -> object:
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

        run = self.server.operator.run

        def answered(principal: Any, words: Any) -> Deferred[object]:
            found = run(principal, words)
            asked = b" ".join(words[:2]).decode().lower()
            return succeed(next_reply()) if asked == command else found

        self.server.operator.run = answered  # type: ignore[method-assign]

    def test_order(self) -> None:
        """The members become the words of the command; the answer names the operation."""
        self.answer("txsentinel switchover", reply("running"))
        body = {
            "to": "[::1]:6380",
            "method": "fence",
            "timeout_ms": 5000,
            "max_lag_bytes": 100,
            "max_pause_ms": 300,
            "comment": "new disk",
            "expect": {"config_epoch": 7},
        }
        found = self.act("POST", SWITCHOVER, body)
        self.assertEqual((found.status, found.headers["location"]), (202, ONE))
        self.assertEqual(found.document["requested_at"], "2026-09-21T14:13:20.123Z")
        self.assertEqual(found.document["steps"][0]["at"], "2026-09-21T14:13:20.125Z")
        address = self.server.view.master("mymaster").address
        words = ("TO", "::1", "6380", "METHOD", "fence", "COMMENT", "new disk", "TIMEOUT", "5000", "MAXLAG", "100")
        expect = ("MAXPAUSE", "300", "EXPECT", address.host, str(address.port), "7")
        self.assertEqual(self.executed, [("TXSENTINEL", "SWITCHOVER", "mymaster", *words, *expect)])

    def test_wait(self) -> None:
        """The answer waits for the end, at most for the given time."""
        self.answer("txsentinel switchover", reply("running"))
        self.answer("txsentinel operation", reply("running"), reply("done", receipt={b"verdict": b"proven"}))
        connection = self.server.connect()
        connection.request("POST", f"{SWITCHOVER}?wait=1000", LOGIN, b"{}")
        self.assertEqual(connection.transport.value(), b"")
        for _ in range(3):
            self.server.advance(0.05)
        found = connection.reply()
        self.assertEqual((found.status, found.document["receipt"]), (200, {"verdict": "proven"}))

    def test_conditions(self) -> None:
        """What is not met is an error with all reasons."""
        reasons: list[dict[bytes, bytes | None]] = [
            {b"code": b"no_majority", b"text": b"1 of 3", b"subject": None},
            {b"code": b"lag", b"text": b"it is behind", b"subject": b"10.0.0.2:6379"},
        ]
        for first, status in (("no_majority", 412), ("operation_pending", 409), ("tilt", 503)):
            reasons[0][b"code"] = first.encode()
            self.answer("txsentinel switchover", reply("failed", reasons=reasons))
            found = self.act("POST", SWITCHOVER)
            self.assertEqual((found.status, found.code), (status, first))
            shown = [(each["code"], each["subject"]) for each in found.document["reasons"]]
            self.assertEqual(shown, [(first, ""), ("lag", "10.0.0.2:6379")])
        self.answer("txsentinel switchover", reply("done", reasons=reasons, dry_run=1))
        self.assertEqual(self.act("POST", SWITCHOVER, {"dry_run": True}).status, 200)

    def test_refusals(self) -> None:
        """Error replies have a status and a code."""
        for text, status, code in (
            ("INPROG operation 01 of this master has not ended", 409, "operation_pending"),
            ("KEYREUSED this idempotency key was used for another order", 409, "key_reused"),
            ("ERR No such master with that name", 404, "unknown_master"),
            ("ERR MAXLAG must be between 0 and 5", 400, "bad_request"),
        ):
            self.server.operator.replies["txsentinel|switchover"] = CommandRefusal(text.split()[0], text)
            found = self.act("POST", SWITCHOVER)
            self.assertEqual((found.status, found.code), (status, code))
        text = "TOOLATE the operation has ended: done"
        self.server.operator.replies["txsentinel|cancel"] = CommandRefusal("TOOLATE", text)
        self.assertEqual(self.act("DELETE", ONE).status, 409)
        text = "NOSUCHOPERATION no operation with that ID is known here"
        self.server.operator.replies["txsentinel|operation"] = CommandRefusal("NOSUCHOPERATION", text)
        self.assertEqual(self.act("GET", ONE).status, 404)

    def test_reading_and_cancelling(self) -> None:
        """Operations are listed and cancelled."""
        self.server.operator.replies["txsentinel|operations"] = [reply("done"), reply("running")]
        self.assertEqual([each["state"] for each in self.act("GET", "/v1/operations").document], ["done", "running"])
        self.server.operator.replies["txsentinel|operation"] = reply("done")
        self.assertEqual(self.act("GET", f"{ONE}?wait=60000").document["state"], "done")
        self.server.operator.replies["txsentinel|cancel"] = reply("cancelled")
        self.assertEqual(self.act("DELETE", ONE).document["state"], "cancelled")
        self.assertEqual(self.executed[-1], ("TXSENTINEL", "CANCEL", "01JE"))

    def test_schedule(self) -> None:
        """A time has a zone, and is not in the past."""
        self.answer("txsentinel switchover", reply("scheduled", scheduled_at=1_800_000_000_000))
        found = self.act("POST", SWITCHOVER, {"at": "2027-01-15T09:00:00+01:00"})
        self.assertEqual((found.status, found.document["scheduled_at"]), (202, "2027-01-15T08:00:00.000Z"))
        self.assertEqual(self.executed[-1][-2:], ("AT", "1800000000000"))
        found = self.act("POST", SWITCHOVER, {"at": "2027-01-15T09:00:00"})
        self.assertEqual((found.status, found.code), (422, "schedule_without_zone"))
        self.assertEqual(self.act("POST", SWITCHOVER, {"at": "tomorrow"}).status, 400)

    def test_past(self) -> None:
        """A time that has passed is refused."""
        text = "SCHEDULEINPAST the time passed 5 ms ago"
        self.server.operator.replies["txsentinel|switchover"] = CommandRefusal("SCHEDULEINPAST", text)
        found = self.act("POST", SWITCHOVER, {"at": "2020-01-15T09:00:00Z"})
        self.assertEqual((found.status, found.code), (422, "schedule_in_past"))

    def test_wrong_bodies(self) -> None:
        """What is wrong is named, and nothing is executed."""
        for body, word in (
            ({"to": "10.0.0.1"}, "to"),
            ({"to": 7}, "to"),
            ({"method": 1}, "method"),
            ({"timeout_ms": "1"}, "timeout_ms"),
            ({"max_lag_bytes": True}, "max_lag_bytes"),
            ({"dry_run": 1}, "dry_run"),
            ({"force": True}, "force"),
            ({"expect": 1}, "expect"),
            ({"expect": {"config_epoch": "x"}}, "expect.config_epoch"),
        ):
            found = self.act("POST", SWITCHOVER, body)
            self.assertEqual(found.status, 400, body)
            self.assertIn(word, json.dumps(found.document))
        self.assertEqual(self.act("GET", f"{ONE}?wait=61000").status, 400)
        self.assertEqual(self.executed, [])

    def test_idempotency(self) -> None:
        """A request that is repeated is executed once."""
        self.answer("txsentinel switchover", reply("running"))
        for _ in range(2):
            self.assertEqual(self.act("POST", SWITCHOVER, {}, Idempotency_Key="k1").status, 202)
        self.assertEqual(len(self.executed), 1)
        self.assertEqual(self.act("POST", SWITCHOVER, {"method": "fence"}, Idempotency_Key="k1").code, "key_reused")
