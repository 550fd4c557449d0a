"""Tests of series that are interrupted, continued and summed up."""

from __future__ import annotations

import shlex
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.outside.__main__ import parser, settings_of
from tests.outside.cluster import Setting
from tests.outside.plan import FaultType
from tests.outside.report import summary, table
from tests.outside.rounds import Result
from tests.outside.series import Archive, FaultSettings, RoundSeries, WrongFile, name_of

MIXED = Setting(("txsentinel", "txsentinel", "redis"), min_replicas=1)


class ArchiveTests(SynchronousTestCase):
    """The file of results."""

    def test_continue_interrupted_series(self) -> None:
        """Saved results are loaded from the file, field by field."""
        path = Path(self.mktemp()) / "results.json"
        result = Result(2, {"kill": 1}, converged=True, lost=3, lost_by_kind={"kill": 3})
        Archive(path, {"seed": 1}).add("a", result)
        again = Archive(path, {"seed": 1})
        self.assertEqual(again.results("a"), [result])
        self.assertTrue(again.has("a", 2))
        self.assertFalse(again.has("a", 1) or again.has("b", 2))

    def test_another_series_is_refused(self) -> None:
        """A file of rounds with other faults is refused."""
        path = Path(self.mktemp())
        Archive(path, {"seed": 1}).add("a", Result(1, {}))
        self.assertRaises(WrongFile, Archive, path, {"seed": 2})


class NotationTests(SynchronousTestCase):
    """Names and commands."""

    def test_names(self) -> None:
        """The name of a setting has its Sentinels and the options of its servers."""
        self.assertEqual(name_of(MIXED), "txsentinel:2,redis:1 min 1")

    def test_guards(self) -> None:
        """Guards are in the name and in the command; groups of C Sentinels have none."""
        words = ["--sentinels", "txsentinel:3", "redis:3", "--guards", "off", "on"]
        settings = settings_of(parser().parse_args(words))
        names = ["txsentinel:3 min 0", "txsentinel:3 min 0 guards", "redis:3 min 0"]
        self.assertEqual([name_of(setting) for setting in settings], names)
        series = RoundSeries(FaultSettings(5), Archive(None, {}), lambda text: None)
        for setting in settings:
            command = shlex.split(series.command(setting, 17))[3:]
            self.assertEqual(settings_of(parser().parse_args(command)), [setting])

    def test_command_repeats_the_round(self) -> None:
        """The command printed for a failed round has the same setting, faults and number."""
        fault_settings = FaultSettings(5, 3, (FaultType.KILL, FaultType.OUTBOUND_BLOCKED))
        words = shlex.split(RoundSeries(fault_settings, Archive(None, {}), lambda text: None).command(MIXED, 17))
        self.assertEqual(words[:3], ["python", "-m", "tests.outside"])
        options = parser().parse_args(words[3:])
        self.assertEqual((options.seed, options.at_once, options.kind), (5, 3, ["kill", "outbound-blocked"]))
        self.assertEqual((options.first, options.rounds), (17, 1))
        self.assertEqual((options.sentinels, options.min_replicas_to_write), (["txsentinel:2,redis:1"], [1]))


class TableTests(SynchronousTestCase):
    """The final table."""

    def test_columns(self) -> None:
        """Each setting has its sums, medians and maxima, and its lost writes by kind of fault."""
        rounds = [
            Result(1, {"kill": 1, "outbound-blocked": 1}, converged=True, convergence=1.0, acknowledged=90, lost=9),
            Result(2, {"kill": 1}, ["broken"], converged=False, acknowledged=10, lost=1, lost_by_kind={"kill": 1}),
            Result(3, {}, converged=True, convergence=4.0),
        ]
        lines = {line[:60].split("  ")[0].strip(): line.split("  ")[-2:] for line in table({"a": rounds}).splitlines()}
        cells = {title: words[-1].strip() for title, words in lines.items()}
        self.assertEqual(cells["rounds"], "3")
        self.assertEqual(cells["... converged"], "2")
        self.assertEqual(cells["... with a violation"], "1")
        self.assertEqual(cells["seconds from healing to agreement, median (worst)"], "2.5 (4.0)")
        self.assertEqual(cells["writes acknowledged"], "100")
        self.assertEqual(cells["... of all"], "10.00 %")
        self.assertIn("1 (2)", table({"a": rounds}))

    def test_no_rounds(self) -> None:
        """A setting without rounds has a column, too."""
        self.assertIn("-", table({"a": []}))

    def test_summary(self) -> None:
        """Each setting has one row, with the lost writes first."""
        guarded = Setting(("txsentinel", "txsentinel", "redis"), guards=True)
        rounds = [
            Result(1, {}, converged=True, acknowledged=1_090, lost=9, lost_reached=3, without_master=1.5),
            Result(
                2, {}, ["a"], acknowledged=10, lost=1, needless_failovers=2, disagreements=1, servers_not_in_order=4
            ),
        ]
        text = summary([(guarded, rounds), (Setting(("redis",) * 3), [])])
        _, first, second = [[cell.strip() for cell in line.split("  ") if cell] for line in text.splitlines()]
        self.assertEqual(
            first, ["2 txsentinel, 1 redis", "on", "0", "10", "3", "1,100", "1.5 (1.5)", "2", "1", "4", "2"]
        )
        self.assertEqual(second, ["3 redis", "-", "0", "0", "0", "0", "-", "0", "0", "0", "0"])
