"""Tests of the suite, its tables and its charts; no server is started."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.__main__ import ALL, SCENARIOS, main
from benchmarks.clients import Entry, requests, table
from benchmarks.load import picked
from benchmarks.pictures import draw
from benchmarks.report import shown, spread

FAILURE: dict[str, Any] = {
    "title": "2 of 3 masters die, down-after 1000 ms",
    "curves": {"redis": [[1.5, 1], [2.5, 2]], "txsentinel": [[1.0, 1], [1.1, 2]]},
    "agreement curves": {"redis": [[3.5, 1]], "txsentinel": []},
}


class SuiteTests(SynchronousTestCase):
    """One command for all scenarios."""

    def setUp(self) -> None:
        """Prepare files, and scenarios that only record their arguments."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.results = directory / "results.json"
        self.places = ["--results", str(self.results), "--pictures", str(directory / "pictures")]
        self.calls: list[tuple[str, list[str]]] = []
        self.broken: set[str] = set()
        patched = patch("benchmarks.__main__.import_module", self.module)
        patched.start()
        self.addCleanup(patched.stop)

    def module(self, name: str) -> ModuleType:
        """Return a fake module of a scenario."""
        found = ModuleType(name)

        def run(arguments: list[str]) -> None:
            self.calls.append((name, arguments[:-2]))
            if name in self.broken:
                raise RuntimeError("no luck")
            Path(arguments[-1]).write_text(json.dumps({"calls": len(self.calls)}))

        found.main = run  # type: ignore[attr-defined]
        return found

    def test_everything(self) -> None:
        """All scenarios are run one after the other, and all results are in the file."""
        self.assertEqual(main([ALL, *self.places]), 0)
        self.assertEqual(self.calls, [(scenario.module, []) for scenario in SCENARIOS.values()])
        self.assertEqual(list(json.loads(self.results.read_text())), list(SCENARIOS))

    def test_one_scenario(self) -> None:
        """A single scenario takes the options behind its name, and leaves the results of the others unchanged."""
        self.results.write_text(json.dumps({"quiet": "as before"}))
        self.assertEqual(main(["mass-failure", "--masters", "100", *self.places]), 0)
        self.assertEqual(self.calls, [("benchmarks.mass_failure", ["--masters", "100"])])
        self.assertEqual(json.loads(self.results.read_text()), {"quiet": "as before", "mass-failure": {"calls": 1}})

    def test_quick(self) -> None:
        """A quick run has small numbers everywhere."""
        main([ALL, "--quick", *self.places])
        self.assertEqual([given for _, given in self.calls], [each.quick.split() for each in SCENARIOS.values()])

    def test_one_fails(self) -> None:
        """A scenario that fails does not affect the others, and sets the exit status."""
        self.broken = {"benchmarks.start"}
        self.assertEqual(main([ALL, *self.places]), 1)
        self.assertEqual(list(json.loads(self.results.read_text())), [name for name in SCENARIOS if name != "start"])

    def test_unknown_options(self) -> None:
        """Options of no scenario are refused before anything is run."""
        self.assertRaises(SystemExit, main, [ALL, "--masters", "100", *self.places])
        self.assertEqual(self.calls, [])

    def test_figures(self) -> None:
        """Everything that does not begin with a scenario is for the paired figures."""
        for words in ([], ["quiet-1", "--pairs", "7"], ["--check"]):
            with patch("benchmarks.figures.main", return_value=5) as figures:
                self.assertEqual(main(words), 5)
            figures.assert_called_once_with(words)
        self.assertEqual(self.calls, [])


class ChartTests(SynchronousTestCase):
    """The charts."""

    def setUp(self) -> None:
        """Skip without matplotlib."""
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise SkipTest("pictures need matplotlib") from None
        self.directory = Path(self.mktemp())

    def test_mass_failure(self) -> None:
        """A mass failure has a chart with a line for each contender; one without promotions is left out."""
        nothing = {**FAILURE, "title": "nothing", "curves": {"redis": []}}
        (path,) = draw({"mass-failure": {"mass failures": [FAILURE, nothing]}}, self.directory)
        picture = path.read_text()
        self.assertIn("<svg", picture)
        self.assertIn("redis-sentinel", picture)
        self.assertEqual(path.name, "mass-failure-2-of-3-masters-die-down-after-1000-ms.svg")

    def test_growth(self) -> None:
        """Each measured figure has a chart; contenders that failed are left out of it."""
        quiet = [{"masters": 10, "contenders": {"redis": {"cpu": [1.0]}, "valkey": {"problem": "not stable"}}}]
        failures = [
            {"masters": 10, "contenders": {"redis": {"figures": {"agreed_last": [5.0]}}, "valkey": {"problem": "x"}}}
        ]
        names = [path.name for path in draw({"growth": {"quiet": quiet, "mass failures": failures}}, self.directory)]
        self.assertEqual(names, ["growth-cpu.svg", "growth-agreed-last.svg"])

    def test_rates(self) -> None:
        """The rates of clients are bars, for every contender and load."""
        entries = [
            {"title": "address, 1 connection", "contenders": {"redis": {"rate": [1.0]}, "bare": {"rate": [2.0]}}},
            {"title": "address, 50 connections", "contenders": {"redis": {"rate": [9.0, 7.0]}}},
        ]
        (path,) = draw({"clients": {"clients": {"requests": entries}}}, self.directory)
        self.assertEqual(path.name, "clients-rates.svg")


class TableTests(SynchronousTestCase):
    """The printed tables."""

    def test_digits(self) -> None:
        """Small numbers have decimals, whole and large ones have none."""
        self.assertEqual(
            [shown(value) for value in (0.0, 0.047, 7.0, 12.34, 1168.4)], ["0", "0.05", "7", "12.3", "1168"]
        )
        self.assertEqual(spread([3.0, 1.25, 250.0]), "3 (1.25–250)")
        self.assertEqual(spread([]), "–")

    def test_clients(self) -> None:
        """Each figure has a table, each load a row, and all but the first contender their ratio."""
        entry = Entry("address", {})
        entry.add("redis", {"rate": 100.0, "cpu": 10.0})
        entry.add("txsentinel", {"rate": 50.0, "cpu": 20.0})
        result = {"requests": [vars(entry)], "connections": [], "fan-out": [], "events": 10}
        lines = table(result).splitlines()
        self.assertTrue(any(line.startswith("address") and "0.50×" in line for line in lines), lines)
        self.assertTrue(any(line.startswith("address") and "2.00×" in line for line in lines), lines)

    def test_loads(self) -> None:
        """Each load has enough requests for its connections; pipelines of long replies are left out."""
        for masters in (1, 1000):
            for connections in (1, 500):
                for pipeline in (1, 16):
                    loads = requests(masters, connections, pipeline, 0.01)
                    self.assertTrue(all(load.requests >= connections for _, load in loads))
        self.assertEqual(requests(1000, 50, 16, 1.0), [])

    def test_program(self) -> None:
        """The figures of redis-benchmark are found by the names of its columns."""
        row = {"rps": "64000.00", "p50_latency_ms": "0.4", "p99_latency_ms": "1.5", "max_latency_ms": "9", "test": "x"}
        self.assertEqual(picked(row), {"rate": 64000.0, "p50": 0.4, "p99": 1.5, "slowest": 9.0})
