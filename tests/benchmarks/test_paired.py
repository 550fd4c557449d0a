"""Tests of paired measurements and their history: the arithmetic, the file, and what is marked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import figures, paired
from benchmarks.history import (
    HISTORY,
    BadHistory,
    Entry,
    bounds,
    compare,
    documented,
    entries,
    read_history,
    replace_table,
    write_history,
)
from benchmarks.paired import Beside, Contender, Experiment, Figure, Result, Values, contender, in_turn, run, table
from txsentinel.demo.programs import SOURCE

REDIS, OURS, COMPILED = (Contender(name, name) for name in ("redis", "txsentinel", "compiled"))
BESIDE = Beside(0.5, 1.5, 0.25, 0.0, "make 0.20")
ENTRY = Entry(
    date="2026-12-01T10:00:00Z",
    commit="12345678",
    cores=2,
    cpu="AMD EPYC",
    python="3.11.7",
    figure="quiet.cpu",
    unit="%",
    more_is_better=False,
    contender="compiled",
    value=15.0,
    value_min=14.0,
    value_max=16.0,
    baseline="redis 7.0.15",
    baseline_value=20.0,
    ratio=0.75,
    ratio_min=0.7,
    ratio_max=0.8,
    pairs=5,
    load_before=0.5,
    load_during=1.5,
    other_cores=0.25,
)


def at(ratio: float, **changes: object) -> Entry:
    """Return an entry with this ratio and 0.05 on either side."""
    return replace(ENTRY, ratio=ratio, ratio_min=ratio - 0.05, ratio_max=ratio + 0.05, **changes)  # type: ignore[arg-type]


def result(*pairs: Mapping[str, float], more_is_better: bool = False) -> Result:
    """Return a measured result with these pairs."""
    return Result("quiet.cpu", Figure("CPU", "%", more_is_better), list(pairs), BESIDE)


class PairTests(SynchronousTestCase):
    """How experiments are run, and their ratios."""

    def setUp(self) -> None:
        """Prepare an experiment that records the order of the contenders."""
        self.orders: list[list[str]] = []
        self.progress: list[str] = []

    def measure(self, contenders: Sequence[Contender]) -> dict[str, Values]:
        """Return twice, and three times, the value of the first one, which is the number of the pair."""
        self.orders.append([each.name for each in contenders])
        number = float(len(self.orders))
        return {"redis": {"cpu": number}, "txsentinel": {"cpu": 2 * number}, "compiled": {"cpu": 3.0}}

    def test_order_alternates(self) -> None:
        """Each pair measures all contenders once, every other one in the opposite order."""
        experiment = Experiment("x", {"cpu": Figure("CPU", "%"), "never": Figure("never", "s")}, self.measure)
        (found,) = run(["quiet"], {"quiet": experiment}, [REDIS, OURS, COMPILED], 3, self.progress.append)
        names = ["redis", "txsentinel", "compiled"]
        self.assertEqual(self.orders, [names, names[::-1], names])
        self.assertEqual(found.name, "quiet.cpu")
        self.assertEqual(found.ratios("txsentinel", "redis"), [2.0, 2.0, 2.0])
        self.assertEqual(found.ratios("compiled", "redis"), [3.0, 1.5, 1.0])
        self.assertIn("quiet.never: nothing was measured", self.progress)

    def test_ratio_of_the_same_pair(self) -> None:
        """A machine that is twice as slow for a whole pair does not change a ratio."""
        found = result({"redis": 10.0, "compiled": 9.0}, {"redis": 20.0, "compiled": 18.0})
        self.assertEqual(found.ratios("compiled", "redis"), [0.9, 0.9])

    def test_missing_values(self) -> None:
        """A pair in which one of the two has no value has no ratio; the values of the others are kept."""
        found = result({"redis": 10.0, "compiled": 9.0}, {"compiled": 8.0}, {"redis": 0.0, "compiled": 7.0})
        self.assertEqual(found.ratios("compiled", "redis"), [0.9])
        self.assertEqual(found.values("compiled"), [9.0, 8.0, 7.0])

    def test_in_turn(self) -> None:
        """Contenders that are measured one at a time are measured in the order of the pair."""
        seen: list[str] = []

        def measure(each: Contender) -> Values:
            seen.append(each.name)
            return {"cpu": 1.0}

        self.assertEqual(in_turn(measure)([OURS, REDIS]), {"txsentinel": {"cpu": 1.0}, "redis": {"cpu": 1.0}})
        self.assertEqual(seen, ["txsentinel", "redis"])

    def test_table(self) -> None:
        """The table has the values, the median of the ratios with its extremes, and what ran beside."""
        text = table([result({"redis": 10.0, "compiled": 9.0}, {"redis": 20.0, "compiled": 10.0})], [REDIS, COMPILED])
        self.assertIn("redis        15 (10–20)\n", text)
        self.assertIn("compiled     9.50 (9–10)   0.70 (0.50–0.90)× of 2 pairs", text)
        self.assertIn("load 0.5 before, 1.5 during; others used 0.25", text)
        self.assertIn("(make 0.20)", text)
        self.assertIn("txsentinel   not measured", table([result({"redis": 1.0})], [REDIS, OURS]))

    def test_beside(self) -> None:
        """What this process used is not counted as that of others."""
        with paired.Watch() as watch:
            until = os.times().user + 0.2
            while os.times().user < until:
                pass
        self.assertLess(watch.beside.other_cores, os.cpu_count() or 1)
        self.assertGreaterEqual(watch.beside.other_cores, 0.0)

    def test_contenders(self) -> None:
        """A contender is a kind of Sentinel, or another copy of the package; all else is refused with the reason."""
        root = Path(paired.__file__).parent.parent
        other = contender(f"old={root}")
        self.assertEqual((other.name, other.kind, other.variables), ("old", "txsentinel", {"PYTHONPATH": str(root)}))
        self.assertEqual(contender("txsentinel"), OURS)
        for text, reason in (
            ("other", "neither the kind of a Sentinel nor NAME=DIRECTORY"),
            (f"old={root}/docs", "with a package txsentinel"),
            (f"={root}", "is not NAME=DIRECTORY"),
        ):
            problem = self.assertRaises(ValueError, contender, text)
            self.assertIn(reason, str(problem))


class HistoryTests(SynchronousTestCase):
    """The file of the history."""

    def setUp(self) -> None:
        """Prepare a path."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / "history.json"

    def refused(self, text: str) -> str:
        """Return why this file is refused."""
        self.path.write_text(text)
        return str(self.assertRaises(BadHistory, read_history, self.path)).replace(str(self.path), "FILE")

    def test_round_trip(self) -> None:
        """What is written is read again, one line per entry; without a file there are no entries."""
        self.assertEqual(read_history(self.path), [])
        nothing = replace(ENTRY, baseline_value=None, ratio=None, ratio_min=None, ratio_max=None)
        write_history(self.path, [ENTRY, nothing])
        self.assertEqual(read_history(self.path), [ENTRY, nothing])
        self.assertEqual(len(self.path.read_text().splitlines()), 4)

    def test_bad_files(self) -> None:
        """A file that is no history is refused with the place and the reason."""
        good = vars(ENTRY)
        self.assertRegex(self.refused("{"), r"^FILE: .*line 1 column 2")
        self.assertEqual(self.refused("{}"), "FILE has no list of entries")
        self.assertEqual(self.refused("[7]"), "FILE, entry 1 is not an object")
        lacking = {name: value for name, value in good.items() if name != "ratio"}
        self.assertEqual(self.refused(json.dumps([good, lacking])), "FILE, entry 2 lacks 'ratio'")
        unknown = {**good, "when": 1}
        self.assertEqual(self.refused(json.dumps([unknown])), "FILE, entry 1 has the unknown field 'when'")
        for name, value, expected in (
            ("pairs", 5.5, "a whole number"),
            ("pairs", True, "a whole number"),
            ("ratio", "0.9", "a number or null"),
            ("value", None, "a number"),
            ("commit", 7, "text"),
            ("more_is_better", 0, "true or false"),
        ):
            reason = self.refused(json.dumps([{**good, name: value}]))
            self.assertEqual(reason, f"FILE, entry 1: {name!r} is {value!r}, not {expected}")

    def test_not_a_number(self) -> None:
        """Figures that are not finite are refused: nothing could be compared with them."""
        for word in ("NaN", "Infinity"):
            text = json.dumps([vars(ENTRY)]).replace('"ratio": 0.75', f'"ratio": {word}')
            self.assertIn("'ratio' is", self.refused(text))

    def test_kept_file(self) -> None:
        """The history in the repository can be read, and has no entry twice."""
        kept = read_history(SOURCE / "benchmarks" / "history.json")
        self.assertEqual(len({(each.date, *each.series) for each in kept}), len(kept))

    def test_entries(self) -> None:
        """Contenders of this checkout have an entry with medians and extremes; the baseline and others have none."""
        other = Contender("old", "txsentinel", SOURCE)
        pairs = [{"redis": 20.0, "compiled": value, "old": 1.0} for value in (10.0, 14.0, 11.0)]
        (found,) = entries([result(*pairs)], [REDIS, COMPILED, other])
        self.assertEqual((found.contender, found.baseline_value, found.pairs), ("compiled", 20.0, 3))
        self.assertEqual((found.value, found.value_min, found.value_max), (11.0, 10.0, 14.0))
        self.assertEqual((found.ratio, found.ratio_min, found.ratio_max), (0.55, 0.5, 0.7))
        self.assertEqual((found.load_before, found.load_during, found.other_cores), (0.5, 1.5, 0.25))

    def test_entry_without_a_baseline(self) -> None:
        """If the baseline could not be measured, the values are kept without ratios."""
        (found,) = entries([result({"compiled": 10.0}, {"compiled": 12.0})], [REDIS, COMPILED])
        self.assertEqual((found.value, found.baseline_value, found.ratio, found.pairs), (11.0, None, None, 2))
        self.assertEqual(found.compared, (11.0, 10.0, 12.0))


class ComparisonTests(SynchronousTestCase):
    """What is marked."""

    def changes(self, new: Entry, *history: Entry) -> str:
        """Return how a new entry compares with these."""
        (verdict,) = compare([new], history)
        return verdict.change

    def test_bounds(self) -> None:
        """The spread of several entries is that of all their pairs."""
        self.assertEqual(bounds([at(0.5), at(0.75)]), (0.45, 0.8))

    def test_outside_the_spread(self) -> None:
        """A median outside all earlier pairs is marked, in the direction of the figure."""
        self.assertEqual(self.changes(at(0.5), at(0.75)), "better")
        self.assertEqual(self.changes(at(0.79), at(0.75)), "same")
        self.assertEqual(self.changes(at(0.85), at(0.75)), "worse")
        rate = {"more_is_better": True}
        self.assertEqual(self.changes(at(0.5, **rate), at(0.75, **rate)), "worse")
        self.assertEqual(self.changes(at(0.85, **rate), at(0.75, **rate)), "better")

    def test_within_the_tolerance(self) -> None:
        """A figure that hardly spreads is not marked for less than one per cent."""
        exact = replace(ENTRY, ratio=1.0, ratio_min=1.0, ratio_max=1.0)
        self.assertEqual(self.changes(replace(exact, ratio=1.009), exact), "same")
        self.assertEqual(self.changes(replace(exact, ratio=1.011), exact), "worse")

    def test_only_the_same(self) -> None:
        """Another figure, contender or machine is not compared with."""
        for name, value in (("figure", "x"), ("contender", "txsentinel"), ("cores", 4), ("cpu", "Intel")):
            self.assertEqual(self.changes(at(2.0), at(0.75, **{name: value})), "new", name)

    def test_only_the_last(self) -> None:
        """The last three entries count, so that a gain is not lost again unnoticed."""
        old, new = at(1.5), at(0.75)
        self.assertEqual(self.changes(at(1.4), old, new, new), "same")
        self.assertEqual(self.changes(at(1.4), old, new, new, new), "worse")

    def test_values_and_ratios(self) -> None:
        """An entry without ratios is compared by its values, with others without ratios."""
        without = replace(ENTRY, baseline_value=None, ratio=None, ratio_min=None, ratio_max=None)
        self.assertEqual(self.changes(without, ENTRY), "new")
        self.assertEqual(self.changes(replace(without, value=30.0), ENTRY, without), "worse")
        (verdict,) = compare([without], [without])
        self.assertIn("15 (14–16) %, before 14–16 % (12345678)", str(verdict))


class PageTests(SynchronousTestCase):
    """The table in the documentation."""

    def test_last_entries(self) -> None:
        """Each figure has a row with the last entry of each contender, on the machine of the last one."""
        history = [
            at(0.5, contender="txsentinel", value=1.0),
            at(0.6, cores=64, value=2.0),
            at(0.7, value=3.0),
            at(0.8, value=4.0, commit="89abcdef", date="2026-12-02T10:00:00Z"),
            at(0.9, figure="unknown", value=5.0),
        ]
        found = documented(history, {"quiet.cpu": "CPU", "never": "never"})
        row = "CPU, %|20|1|0.50 (0.45–0.55)|4|0.80 (0.75–0.85)|2026-12-02, 89abcdef, 5 pairs, others 0.25 cores"
        cells = row.split("|")
        self.assertEqual(
            found.splitlines()[-len(cells) :], [f"   * - {cells[0]}", *(f"     - {each}" for each in cells[1:])]
        )
        self.assertEqual(found.count("   * - "), 2)

    def test_replaced(self) -> None:
        """Only what is between the two comments is replaced; a page without them is refused."""
        page = figures.PAGE.read_text()
        begin, end = (page.index(each) for each in (".. The table until", ".. End of the table"))
        changed = replace_table(page, "new\n")
        self.assertTrue(changed.startswith(page[:begin]))
        self.assertTrue(changed.endswith(page[end:]))
        self.assertNotEqual(changed, page)
        self.assertEqual(replace_table(changed, "new\n"), changed)
        self.assertRaises(ValueError, replace_table, page[:end], "new\n")

    def test_page_is_current(self) -> None:
        """The page has what the history has."""
        page = figures.PAGE.read_text()
        self.assertEqual(replace_table(page, documented(read_history(HISTORY), figures.titles())), page)


class CommandTests(SynchronousTestCase):
    """The command line of the figures, with an experiment that measures nothing."""

    def setUp(self) -> None:
        """Prepare a history, and an experiment whose ratio can be set."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / "history.json"
        self.value = 2.0
        experiment = Experiment(
            "one master",
            {"cpu": Figure("CPU", "%")},
            lambda _: {"redis": {"cpu": 1.0}, "txsentinel": {"cpu": self.value}},
        )
        for name, new in (("experiments", lambda _: {"one": experiment, "two": experiment}), ("present", self.present)):
            patched = patch.object(figures, name, new)
            patched.start()
            self.addCleanup(patched.stop)
        self.printed = ""

    def present(self, names: Sequence[str]) -> list[Contender]:
        """Return contenders without looking for their programs."""
        return [Contender(name, name) for name in names]

    def main(self, *words: str) -> int:
        """Run the command line with this history."""
        output = StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            try:
                return figures.main([*words, "--contenders", "redis", "txsentinel", "--history", str(self.path)])
            finally:
                self.printed = output.getvalue()

    def test_recorded(self) -> None:
        """Each run adds its entries, and compares them with those before."""
        self.assertEqual(self.main("one", "--check"), 0)
        self.assertIn("one.cpu txsentinel: 2 (2–2)×, the first entry", self.printed)
        self.value = 3.0
        self.assertEqual(self.main("--check"), 1)
        self.assertIn("one.cpu txsentinel: 3 (3–3)×, before 2–2×", self.printed)
        self.assertIn("WORSE", self.printed)
        self.assertEqual([each.figure for each in read_history(self.path)], ["one.cpu", "one.cpu", "two.cpu"])

    def test_one_fails(self) -> None:
        """An experiment that fails does not affect those after it, and sets the exit status."""

        def broken(_: Sequence[Contender]) -> dict[str, Values]:
            raise RuntimeError("no luck")

        found = {"broken": Experiment("x", {"cpu": Figure("CPU", "%")}, broken), **figures.experiments(False)}
        with patch.object(figures, "experiments", lambda _=False: found):
            self.assertEqual(self.main(), 1)
        self.assertIn("no luck", self.printed)
        self.assertIn("failed: broken", self.printed)
        self.assertEqual([each.figure for each in read_history(self.path)], ["one.cpu", "two.cpu"])

    def test_status_only_if_asked_for(self) -> None:
        """Without ``--check`` a worse result is marked, and the status is 0."""
        self.main("one")
        self.value = 3.0
        self.assertEqual(self.main("one"), 0)
        self.assertIn("WORSE", self.printed)

    def test_not_recorded(self) -> None:
        """Small runs are not compared, and none are recorded on demand."""
        for words in (["--quick"], ["--pairs", "4"]):
            self.assertEqual(self.main(*words), 0)
            self.assertIn("not recorded", self.printed)
        self.assertEqual(self.main("--no-record"), 0)
        self.assertFalse(self.path.exists())

    def test_refused(self) -> None:
        """A bad history and an unknown experiment are refused before anything is measured."""
        self.assertRaises(SystemExit, self.main, "three")
        self.assertIn("no experiment is named three; there are one, two", self.printed)
        self.assertRaises(SystemExit, self.main, "--pairs", "0")
        self.path.write_text("[7]")
        self.assertRaises(SystemExit, self.main)
        self.assertIn("entry 1 is not an object", self.printed)
        self.assertNotIn("pair 1", self.printed)
        self.assertEqual(self.path.read_text(), "[7]")
