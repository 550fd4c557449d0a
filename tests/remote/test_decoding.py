"""Tests of making records from plain values."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions import fixture
from txsentinel.model.explanation import Explanation, JournalRecord
from txsentinel.model.plain import plain, unix_instant
from txsentinel.model.snapshots import Instant, MasterSnapshot
from txsentinel.remote.decoding import UnknownForm, decoded


class DecodingTests(SynchronousTestCase):
    """The records come back as they were, and nothing else is accepted."""

    def test_inverse(self) -> None:
        """Every record of a fake Sentinel is the same after it was converted to plain values and back."""
        view = fixture.three_masters()
        self.assertTrue(view.names())
        for name in view.names():
            for kind, record in ((MasterSnapshot, view.master(name)), (Explanation, view.explain(name))):
                self.assertEqual(decoded(kind, plain(record, unix_instant)), record)

    def test_fields_of_several_types(self) -> None:
        """The data of a journal record may be text, numbers or nothing."""
        record = JournalRecord(
            1, Instant(5), "sdown", "m", None, None, None, "x", (("ms", 1200), ("by", "a"), ("to", None))
        )
        self.assertEqual(decoded(JournalRecord, plain(record, unix_instant)), record)

    def test_wrong_types(self) -> None:
        """An error names the path to the value."""
        value = plain(JournalRecord(1, Instant(5), "sdown", "m", None, None, None, "x", (("ms", 1200),)), unix_instant)
        assert isinstance(value, dict)
        cases: tuple[tuple[dict[str, object], str], ...] = (
            ({**value, "sequence": "one"}, "JournalRecord.sequence: unexpected 'one'"),
            ({**value, "data": [["ms", [1]]]}, "JournalRecord.data[0]: unexpected [1]"),
            ({**value, "data": [["ms"]]}, "JournalRecord.data[0]: expected 2 values, got 1"),
            ({**value, "data": 5}, "JournalRecord.data: expected a list, got 5"),
        )
        for wrong, path in cases:
            refusal = self.assertRaises(UnknownForm, decoded, JournalRecord, wrong)
            self.assertEqual(str(refusal), path)
