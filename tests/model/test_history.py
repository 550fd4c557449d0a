"""Records of failovers: as lines of JSON, and merged."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.model.records import BEGIN, RECORD, UNKNOWN
from tests.test_tidy import ROOT
from txsentinel.model.history import (
    DataLoss,
    FailoverKind,
    FailoverRecord,
    LossVerdict,
    ObserverRole,
    Outcome,
    PhaseTime,
    Resyncs,
    failover_group,
)
from txsentinel.model.history_json import BadRecord, decode_record, decode_records, encode_record, record_of
from txsentinel.model.history_merge import ended_at, merge
from txsentinel.model.receipt import (
    AddressKnown,
    Fence,
    NewMaster,
    OldMaster,
    Receipt,
    ReceiptVerdict,
    ResyncCount,
)
from txsentinel.model.snapshots import Endpoint, Instant


class JsonTests(SynchronousTestCase):
    """Lines of the history file."""

    def test_round_trip(self) -> None:
        """A record is the same after it was written and read, with names that need care."""
        for master in ("mymaster", 'a"b\\c', "caf\xe9", "with\nnewline", "\udcff"):
            record = replace(RECORD, master=master, resyncs=None if master == "mymaster" else RECORD.resyncs)
            line = encode_record(record)
            self.assertEqual(1, line.count(b"\n"))
            if master != "\udcff":
                self.assertEqual(record, decode_record(line))
        bare = replace(RECORD, to_server=None, ack=None, clients_closed=None, failure_class=None, leader=None)
        self.assertEqual(bare, decode_record(encode_record(bare)))

    def test_torn_line(self) -> None:
        """A last line that is cut anywhere is skipped and not counted; the lines before it are read."""
        line = encode_record(RECORD)
        for size in range(0, len(line) - 1, 7):
            found, bad = decode_records(line + line[:size])
            self.assertEqual(([RECORD], []), (found, bad), size)

    def test_amended(self) -> None:
        """The latest line with an ID replaces the earlier ones, at their place."""
        other = replace(RECORD, record_id="01JF", epoch=8)
        amended = replace(RECORD, loss=DataLoss(LossVerdict.LOST, 10, 490, 500, "10 bytes"))
        found, bad = decode_records(b"".join(map(encode_record, (RECORD, other, amended))))
        self.assertEqual(([amended, other], []), (found, bad))

    def test_bad_lines(self) -> None:
        """What is no record is an error that names what is wrong; in a file it is skipped, with its line."""
        fields = json.loads(encode_record(RECORD))
        for change, named in (
            ({"epoch": "7"}, "not a number"),
            ({"epoch": True}, "not a number"),
            ({"kind": "odd"}, "odd"),
            ({"phases": [{"phase": "sdown", "at": "yesterday", "took_ms": None}]}, "yesterday"),
            ({"loss": None}, "TypeError"),
            ({"from_server": {"address": "x"}}, "TypeError"),
            ({"clients_closed": 1.5}, "not of type int"),
        ):
            line = json.dumps({**fields, **change}).encode()
            error = self.assertRaises(BadRecord, decode_record, line)
            self.assertIn(named, str(error))
        del fields["group"]
        for line in (
            b"",
            b"[]",
            b"3",
            b"{}",
            b"\xff\xfe",
            b"[" * 100_000,
            json.dumps(fields).encode(),
            b"1" * 2_000_000,
        ):
            self.assertRaises(BadRecord, decode_record, line)
        found, bad = decode_records(b"junk\n" + encode_record(RECORD) + b"{}\n\n")
        self.assertEqual(([RECORD], [1, 3]), (found, [number for number, _ in bad]))
        self.assertIn("KeyError", bad[1][1])

    def test_documented_record(self) -> None:
        """The record in the documentation is a valid one, and its numbers fit together."""
        page = Path(ROOT, "docs", "history.rst").read_text(encoding="utf-8")
        _, _, after = page.partition("::\n\n    {\n")
        text, _, _ = after.partition("\n    }\n")
        record = record_of(json.loads("{" + text + "}"))
        loss, phases = record.loss, record.phases
        assert loss.lost_bytes is not None and loss.from_offset is not None and loss.to_offset is not None
        self.assertEqual(loss.lost_bytes, loss.to_offset - loss.from_offset)
        for before, phase in pairwise(phases):
            self.assertEqual(phase.at.unix_ms - before.at.unix_ms, phase.took_ms)
        for phase in phases:
            self.assertIn(f"``{phase.phase}``", page)

    def test_fields_are_documented(self) -> None:
        """The documentation has every field of a record."""
        page = Path(ROOT, "docs", "history.rst").read_text(encoding="utf-8")
        _, _, fields_of_page = page.partition("\nFields\n")
        for field in fields(FailoverRecord):
            self.assertIn(f"``{field.name}``", fields_of_page)
        for word in (*FailoverKind, *Outcome, *ObserverRole, *LossVerdict):
            if word is not FailoverKind.SWITCHOVER:
                self.assertIn(f"``{word.value}``", fields_of_page)

    def test_receipts(self) -> None:
        """A receipt is kept as it is, complete or with everything unknown."""
        old, new = Endpoint("10.0.0.1", 6379), Endpoint("10.0.0.2", 6379)
        complete = Receipt(
            "01JE0000000000000000000001",
            "fence",
            "mymaster",
            OldMaster(old, "f" * 40, 1000, 1000),
            NewMaster(new, "f" * 40, 1000),
            Fence("client-pause-write", Instant(BEGIN), 12, Instant(BEGIN + 400)),
            Instant(BEGIN + 12),
            ReceiptVerdict.PROVEN,
            "all that the old master had",
            None,
            ResyncCount(2, 0),
            3,
            (AddressKnown(Endpoint("10.0.0.3", 26379), 15, "b" * 40),),
        )
        bare = replace(
            complete, old=OldMaster(old, "f" * 40, 1000, None), new=NewMaster(new, None, None), demoted_at=None,
            fence=replace(complete.fence, held_ms=None), verdict=ReceiptVerdict.UNPROVEN, resyncs=None,
            clients_closed=None, sentinels=(),
        )  # fmt: skip
        for receipt in (complete, bare):
            record = replace(RECORD, kind=FailoverKind.SWITCHOVER, receipt=receipt, operation="01JE", comment="disk")
            self.assertEqual(decode_record(encode_record(record)), record)

    def test_records_without_later_fields(self) -> None:
        """A record of an earlier version has no receipt, no comment and no operation."""
        fields = json.loads(encode_record(RECORD))
        for name in ("receipt", "comment", "operation"):
            del fields[name]
        self.assertEqual(RECORD, decode_record(json.dumps(fields).encode()))

    def test_later_fields(self) -> None:
        """Fields of later versions are ignored."""
        fields = {**json.loads(encode_record(RECORD)), "severity": 5}
        self.assertEqual(RECORD, decode_record(json.dumps(fields).encode()))


class MergeTests(SynchronousTestCase):
    """Records of several Sentinels."""

    def follower(self, letter: str, **changes: object) -> FailoverRecord:
        """Return the record of a follower."""
        follower = replace(
            RECORD, record_id=f"01JE{letter}", observer=letter * 40, observer_role=ObserverRole.FOLLOWER, resyncs=None
        )
        return replace(follower, **changes)  # type: ignore[arg-type]

    def test_leader_first(self) -> None:
        """The leader's record is the one that counts, in whatever order they come; the others are observations."""
        others = self.follower("b"), self.follower("c", observer_role=ObserverRole.BYSTANDER)
        for records in ((RECORD, *others), (*others, RECORD), (others[1], RECORD, others[0])):
            (merged,) = merge(records)
            self.assertEqual(RECORD, merged.record)
            self.assertEqual(["b" * 40, "c" * 40], [each.observer for each in merged.others])
            self.assertEqual(RECORD.phases, merged.others[0].phases)

    def test_without_leader(self) -> None:
        """Without the leader, as of a C Sentinel, the record of a follower counts."""
        bystander = self.follower("a", observer_role=ObserverRole.BYSTANDER)
        (merged,) = merge([bystander, self.follower("b")])
        self.assertEqual("b" * 40, merged.record.observer)

    def test_evidence_of_others(self) -> None:
        """What another Sentinel found out about the lost data replaces ignorance, and the highest bound counts."""

        def lost(count: int) -> DataLoss:
            return DataLoss(LossVerdict.LOST, count, 490, 490 + count, "bytes")

        restarted = replace(UNKNOWN, from_offset=490)
        none = DataLoss(LossVerdict.NONE, 0, 490, 490, "all")
        for losses, expected in (
            ((UNKNOWN, restarted), restarted),
            ((restarted, UNKNOWN), restarted),
            ((UNKNOWN, none), none),
            ((none, UNKNOWN), none),
            ((lost(5), lost(9)), lost(9)),
            ((none, lost(9)), lost(9)),
        ):
            (merged,) = merge([replace(RECORD, loss=losses[0]), self.follower("b", loss=losses[1])])
            self.assertEqual(expected, merged.record.loss)
            self.assertEqual("a" * 40, merged.record.observer)

    def test_acknowledged_elsewhere(self) -> None:
        """An acknowledgement that another Sentinel has is shown."""
        (merged,) = merge([replace(RECORD, ack=None), self.follower("b")])
        self.assertEqual(RECORD.ack, merged.record.ack)

    def test_resyncs_of_others(self) -> None:
        """Numbers that only another Sentinel has are taken over."""
        (merged,) = merge([replace(RECORD, resyncs=None), self.follower("b", resyncs=Resyncs(4, 1))])
        self.assertEqual(Resyncs(4, 1), merged.record.resyncs)

    def test_rival(self) -> None:
        """Of two candidates in one epoch the one that switched comes first."""
        rival = self.follower("0", outcome=Outcome.NOT_ELECTED, observer_role=ObserverRole.LEADER)
        (merged,) = merge([rival, RECORD])
        self.assertEqual(RECORD, merged.record)

    def test_order(self) -> None:
        """The newest failover comes first, by the time of the switch; an amended record counts once."""
        later = replace(
            RECORD,
            record_id="01JA",
            group=failover_group("mymaster", 9),
            phases=(PhaseTime("aborted", Instant(BEGIN + 9_000), None),),
        )
        found = merge([RECORD, replace(RECORD, clients_closed=9), later])
        self.assertEqual([later.record_id, RECORD.record_id], [each.record.record_id for each in found])
        self.assertEqual(9, found[1].record.clients_closed)
        self.assertEqual(Instant(BEGIN + 1_900), ended_at(found[1].record))
        self.assertEqual(Instant(0), ended_at(replace(RECORD, phases=())))
