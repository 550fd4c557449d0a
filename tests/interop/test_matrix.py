"""A few cells of the matrix over real processes, and the table that it prints."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.matrix import BEGIN, DISRUPTIONS, END, HEADINGS, Row, mixes_of, run_row, table, written
from tests.interop.rounds import Disruption
from tests.servers import missing


class CellTests(SynchronousTestCase):
    """Makes of servers and of C Sentinels that no other test puts together."""

    def check(self, kind: str, mix: str, disruptions: Sequence[Disruption]) -> None:
        """The fleet survives all of it."""
        if missing(kind):
            raise SkipTest(missing(kind))
        row = run_row(kind, mix, disruptions)
        self.assertEqual(row.problem, "")
        self.assertEqual(len([cell for cell in row.cells if cell.endswith(" s")]), len(disruptions), row.cells)

    def test_redis_82_under_a_majority_of_ours(self) -> None:
        """Two of ours and one Sentinel of Redis 8.2."""
        self.check("redis-8.2", "txsentinel:2,redis-8.2:1", [Disruption.KILL, Disruption.COORDINATED, Disruption.KILL])

    def test_valkey_81_under_a_minority_of_ours(self) -> None:
        """One of ours and two Sentinels of Valkey 8.1."""
        self.check("valkey-8.1", "txsentinel:1,valkey-8.1:2", [Disruption.SHUTDOWN, Disruption.MANUAL])

    def test_redis_62_under_a_majority_of_ours(self) -> None:
        """Two of ours and one Sentinel of Redis 6.2, which has no ``SENTINEL MYID`` and no ``REPLICAS`` by name."""
        self.check("redis-6.2", "txsentinel:2,redis-6.2:1", [Disruption.KILL, Disruption.COORDINATED])


class TableTests(SynchronousTestCase):
    """What is printed and written."""

    def test_mixes(self) -> None:
        """All ours, a majority of ours and a minority of ours."""
        self.assertEqual(mixes_of("redis"), ["txsentinel:3", "txsentinel:2,redis:1", "txsentinel:1,redis:2"])

    def test_headings_match_disruptions(self) -> None:
        """There is a heading for each trouble."""
        self.assertEqual(len(HEADINGS), len(DISRUPTIONS))

    def test_columns_are_aligned(self) -> None:
        """Every column is as wide as its widest text."""
        rows = [Row("redis (7.0.15)", "txsentinel:3", ["1.5 s", "failed"])]
        self.assertEqual(
            table(rows, ["A", "B"]).splitlines(),
            [
                "==============  ============  =====  ======",
                "Server          Sentinels     A      B",
                "==============  ============  =====  ======",
                "redis (7.0.15)  txsentinel:3  1.5 s  failed",
                "==============  ============  =====  ======",
            ],
        )

    def test_written_between_the_marks(self) -> None:
        """What stood between the marks is replaced, what stands around them is kept."""
        page = f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n"
        self.assertEqual(written(page, "new"), f"before\n\n{BEGIN}\n\nnew\n\n{END}\n\nafter\n")

    def test_page_without_marks(self) -> None:
        """A page that has no marks, or has them twice, is refused."""
        self.assertRaises(ValueError, written, "nothing", "new")
        self.assertRaises(ValueError, written, f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n", "new")
        self.assertRaises(ValueError, written, f"{END}\n{BEGIN}\n", "new")
