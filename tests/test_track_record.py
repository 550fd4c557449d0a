"""The page of the faults that were found names tests that exist, and all simulated runs that once failed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.sim import test_regressions
from tests.test_tidy import ROOT

PAGE: Final = Path(ROOT, "docs", "track-record.rst")
REGRESSIONS: Final = "tests/sim/test_regressions.py::RegressionTests::"


class TrackRecordTests(SynchronousTestCase):
    """``docs/track-record.rst``."""

    def setUp(self) -> None:
        self.named = re.findall(r"^     - ``(tests/\S+)``$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    def test_every_row_has_a_test(self) -> None:
        """Each fault has one test, and a way in which it was found."""
        text = PAGE.read_text(encoding="utf-8")
        ways = set(re.findall(r"^\*([a-z ]+)\*$", text, re.MULTILINE))
        rows = re.findall(r"^   \* - (?!Fault$)(?:.|\n       )+\n     - (.+)\n     - ``tests/", text, re.MULTILINE)
        self.assertEqual(len(rows), len(self.named))
        self.assertEqual(set(rows) - ways, set())
        self.assertEqual(len(re.findall(r"^   \* - (?!Fault$)", text, re.MULTILINE)), len(rows))

    def test_tests_exist(self) -> None:
        """pytest finds every test that the page names."""
        self.assertGreater(len(self.named), 100)
        # Without the variable that leaves tests out on a compiled build.
        environment = {name: value for name, value in os.environ.items() if name != "TXSENTINEL_TESTS_COMPILED"}
        words = [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-q",
            "-n0",
            "-p",
            "no:cacheprovider",
            *set(self.named),
        ]
        found = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        self.assertEqual(found.returncode, 0, found.stdout[-3000:] + found.stderr[-3000:])

    def test_all_regressions(self) -> None:
        """Every simulated run that once failed is on the page."""
        runs = {REGRESSIONS + name for name in dir(test_regressions.RegressionTests) if name.startswith("test_")}
        self.assertEqual(runs - set(self.named), set())
