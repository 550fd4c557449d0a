"""Conversion of frozen records to plain values."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.history import LossVerdict, PhaseTime
from txsentinel.model.plain import plain, unix_instant
from txsentinel.model.snapshots import Endpoint, FailureReport, Instant, ViewChange

AT = Instant(1_795_240_000_007)


class PlainTests(SynchronousTestCase):
    """What becomes of each type."""

    def test_record(self) -> None:
        """A record becomes a dictionary of its fields, with instants as RFC 3339 in UTC."""
        record = FailureReport("refused", "connection refused", AT)
        self.assertEqual(
            plain(record),
            {"failure_class": "refused", "error": "connection refused", "at": "2026-11-21T05:46:40.007Z"},
        )

    def test_instants_of_the_protocol(self) -> None:
        """Instants anywhere in a record are rendered by the given function."""
        phases = (PhaseTime("sdown", AT, None), PhaseTime("odown", AT, 12))
        self.assertEqual(
            plain({"phases": phases}, unix_instant),
            {
                "phases": [
                    {"phase": "sdown", "at": 1_795_240_000_007, "took_ms": None},
                    {"phase": "odown", "at": 1_795_240_000_007, "took_ms": 12},
                ]
            },
        )

    def test_endpoints(self) -> None:
        """An endpoint has host, port and both in one; an IPv6 host is in brackets there."""
        self.assertEqual(plain(Endpoint("::1", 6379)), {"host": "::1", "port": 6379, "address": "[::1]:6379"})
        self.assertEqual(plain((Endpoint("r", 1),)), [{"host": "r", "port": 1, "address": "r:1"}])

    def test_words_and_numbers(self) -> None:
        """An enumeration becomes its value; numbers, booleans and texts stay; pairs stay lists."""
        self.assertEqual(
            plain([LossVerdict.NONE, 1, 1.5, True, "x", None, (("a", 1),)]),
            ["none", 1, 1.5, True, "x", None, [["a", 1]]],
        )

    def test_json(self) -> None:
        """The result can be written as JSON."""
        self.assertEqual(json.loads(json.dumps(plain(ViewChange("m")))), {"master": "m", "event": None})

    def test_other_types(self) -> None:
        """Objects that are no records are refused by the name of their type, also inside of records."""
        self.assertRaisesRegex(TypeError, "not a plain record: object", plain, ViewChange("m", object()))
        self.assertRaisesRegex(TypeError, "not a plain record: type", plain, Endpoint)
        self.assertRaisesRegex(TypeError, "not a plain record: bytes", plain, b"x")
