"""Tests of ``txsentinel.extensions.http.membership``."""

from __future__ import annotations

from tests.extensions.http.test_acting import ActingCase
from txsentinel.model.snapshots import CommandRefusal

FORGET = "/v1/masters/mymaster/forget"


class MembershipTests(ActingCase):
    """Each route."""

    def test_forget(self) -> None:
        """A node is an address or an ID; the reply becomes the answer."""
        row = {b"id": b"b" * 40, b"address": None, b"result": b"removed"}
        self.server.operator.replies["txsentinel|forget"] = {b"until": 1_800_000_000_000, b"sentinels": [row]}
        reply = self.act("POST", FORGET, {"node": "10.0.0.7:6379", "for_ms": 5000, "force": True})
        self.assertEqual(reply.status, 200, reply.document)
        expected = {"id": "b" * 40, "address": None, "result": "removed"}
        self.assertEqual(reply.document, {"until": "2027-01-15T08:00:00.000Z", "sentinels": [expected]})
        self.act("POST", FORGET, {"node": "c" * 40, "reset_c_peers": True})
        words = ("TXSENTINEL", "FORGET", "mymaster")
        self.assertEqual(
            self.executed,
            [(*words, "NODE", "10.0.0.7", "6379", "FOR", "5000", "FORCE"), (*words, "ID", "c" * 40, "RESETC")],
        )

    def test_drain(self) -> None:
        """A host may have a port; what is only planned or undone has words of its own."""
        self.server.operator.replies["txsentinel|drain"] = {b"safe": True, b"moved": [], b"still": []}
        reply = self.act("POST", "/v1/drain", {"node": "10.0.0.7", "wait_ms": 1000, "park_ms": 60000})
        self.assertEqual((reply.status, reply.document["safe"]), (200, True))
        self.act("POST", "/v1/drain", {"node": "[2001:db8::1]:6379", "dry_run": True, "parallel": True, "wait_ms": 0})
        self.act("POST", "/v1/drain", {"node": "db-1", "undo": True})
        words = ("TXSENTINEL", "DRAIN")
        self.assertEqual(
            self.executed,
            [
                (*words, "10.0.0.7", "WAIT", "1000", "PARK", "60000"),
                (*words, "2001:db8::1", "6379", "DRYRUN", "PARALLEL"),
                (*words, "db-1", "UNDO"),
            ],
        )

    def test_acknowledge(self) -> None:
        """A record, or its group, is acknowledged with a comment."""
        reply = self.act("POST", "/v1/history/01JE/ack", {"comment": "disk was full"})
        self.assertEqual((reply.status, reply.document), (200, {"id": "01JE", "state": "acknowledged"}))
        self.assertEqual(self.executed, [("TXSENTINEL", "ACK", "01JE", "disk was full")])

    def test_refusals(self) -> None:
        """Each refusal has a code of its own, and the text of the Sentinel as reason."""
        for error, status, code in (
            ("STILLALIVE the replica answers", 409, "still_alive"),
            ("WOULDBREAKMAJORITY only 1 of 3", 409, "would_break_majority"),
            ("UNKNOWNNODE none", 404, "unknown_node"),
            ("DRAINING another host", 409, "drain_in_progress"),
            ("NOGOODSLAVE m: none", 412, "candidate_unfit"),
            ("MASTERDOWN m: down", 412, "master_not_healthy"),
            ("TILT Nothing is decided", 503, "tilt"),
        ):
            refusal = CommandRefusal(error.partition(" ")[0], error)
            self.server.operator.replies["txsentinel|drain"] = refusal
            reply = self.act("POST", "/v1/drain", {"node": "10.0.0.7"})
            self.assertEqual((reply.status, reply.code), (status, code), reply.document)
            self.assertEqual(reply.document["reasons"][0]["text"], error)
        self.server.operator.replies["txsentinel|ack"] = CommandRefusal("ERR", "ERR No such record")
        self.assertEqual(self.act("POST", "/v1/history/x/ack").code, "unknown_record")

    def test_wrong_bodies(self) -> None:
        """What is wrong is named, and nothing is executed."""
        for target, body, word in (
            (FORGET, {}, "node"),
            (FORGET, {"node": "10.0.0.7:"}, "address"),
            (FORGET, {"node": "[2001:db8::1]"}, "host:port"),
            (FORGET, {"node": "c" * 40, "for_ms": 0}, "for_ms"),
            (FORGET, {"node": "c" * 40, "reset_c_peers": 1}, "reset_c_peers"),
            ("/v1/drain", {"node": "10.0.0.7", "wait_ms": 3_600_001}, "wait_ms"),
            ("/v1/drain", {"node": "10.0.0.7", "undo": 1}, "undo"),
            ("/v1/history/x/ack", {"comment": 1}, "comment"),
        ):
            reply = self.act("POST", target, body)
            self.assertEqual((reply.status, reply.code), (400, "bad_request"), body)
            self.assertIn(word, reply.document["detail"])
        self.assertEqual(self.executed, [])
