"""Some cells of the matrix with real processes, and the table that it prints."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.matrix import (
    BEGIN,
    DISRUPTIONS,
    END,
    HEADINGS,
    Row,
    mixes_of,
    replace_between_markers,
    run_row,
    table,
)
from tests.interop.rounds import Disruption
from tests.servers import missing


class CellTests(SynchronousTestCase):
    """Versions of servers and of C Sentinels that no other test combines."""

    def check(self, kind: str, mix: str, disruptions: Sequence[Disruption]) -> None:
        """The fleet passes all rounds."""
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
    """The printed and written table."""

    def test_mixes(self) -> None:
        """All of ours, a majority of ours and a minority of ours."""
        self.assertEqual(mixes_of("redis"), ["txsentinel:3", "txsentinel:2,redis:1", "txsentinel:1,redis:2"])

    def test_headings_match_disruptions(self) -> None:
        """There is a heading for each disruption."""
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

    def test_replaced_between_the_markers(self) -> None:
        """The text between the markers is replaced, the text around them is kept."""
        page = f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n"
        self.assertEqual(replace_between_markers(page, "new"), f"before\n\n{BEGIN}\n\nnew\n\n{END}\n\nafter\n")

    def test_page_without_markers(self) -> None:
        """A page without the markers, or with two of them, is refused."""
        self.assertRaises(ValueError, replace_between_markers, "nothing", "new")
        self.assertRaises(ValueError, replace_between_markers, f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n", "new")
        self.assertRaises(ValueError, replace_between_markers, f"{END}\n{BEGIN}\n", "new")
