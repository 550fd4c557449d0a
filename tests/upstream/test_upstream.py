"""Parsing the output of the suites, and preparing their trees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.servers import missing
from tests.upstream.__main__ import Outcome, prepare
from tests.upstream.sources import SourceMissing, fetch, kind_of

PASSED = """\
Starting sentinel #0 at port 20000
Testing unit: 00-base.tcl
22:43:06> (init) Restart killed instances: OK
22:43:07> (init) Restart killed instances: sentinel/0 redis/2 OK
Testing unit: 01-conf-update.tcl
22:43:08> New master 127.0.0.1:30004 role matches: OK
GOOD! No errors."""

FAILED = """\
Testing unit: 03-runtime-reconf.tcl
22:34:31> Sentinels (re)connection: FAILED: Expected to be disconnected
(Jumping to next unit after error)
FAILED: caught an error in the test
assertion:Expected to be disconnected
Testing unit: 05-manual.tcl
22:34:36> (init) Sentinels can start: FAILED: caught an error in the test ERR Failed to save config file.
Testing unit: 06-ckquorum.tcl
22:34:36> (init) Restart killed instances: OK
FAILED: caught an error in the test couldn't read file
WARNING 3 test(s) failed."""

SERVER_IS_UP = "proc server_is_up {host port retrynum} {"
WAIT_FOR_CONDITION = "proc wait_for_condition {maxtries delay e _else_ elsescript} {"


class OutcomeTests(SynchronousTestCase):
    """Counting."""

    def outcome(self, text: str, status: int) -> Outcome:
        """Return the result for an output."""
        outcome = Outcome("suite", status=status)
        for line in text.splitlines():
            outcome.read(line)
        return outcome

    def test_passed(self) -> None:
        """Each test that passed counts, however its line ends."""
        outcome = self.outcome(PASSED, 0)
        self.assertEqual((True, 3, 2), (outcome.complete, outcome.passed, outcome.units))

    def test_failed(self) -> None:
        """A failure counts once, in a test or outside of one, and the run is not complete."""
        outcome = self.outcome(FAILED, 1)
        self.assertEqual((False, 1, 3, 3), (outcome.complete, outcome.passed, outcome.units, len(outcome.failures)))
        self.assertFalse(self.outcome(FAILED, 0).complete)

    def test_deliberate(self) -> None:
        """A failure by a deliberate difference is none, unless another one ends the run."""
        line = "18:25:49> SENTINEL IS-PRIMARY-DOWN-BY-ADDR checks if the primary is down: FAILED: Expected 'a'"
        text = f"{PASSED}\n{line}\nFAILED: caught an error in the test"
        outcome = self.outcome(text, 1)
        self.assertEqual(
            (True, 3, 1, []), (outcome.complete, outcome.passed, len(outcome.deliberate), outcome.failures)
        )
        self.assertIn("passed, 1 differ deliberately", str(outcome))
        self.assertFalse(self.outcome(text, 2).complete)
        line = "Sentinel config file /x/sentinel.conf is in use by another txsentinel process. Exiting..."
        self.assertTrue(self.outcome(f"{PASSED}\n{line}", 1).complete)
        self.assertFalse(self.outcome(f"{text}\n{FAILED}", 1).complete)

    def test_no_tests(self) -> None:
        """A suite that ran nothing did not pass."""
        self.assertFalse(self.outcome("GOOD! No errors.", 0).complete)
        self.assertFalse(self.outcome(PASSED, 1).complete)


class PrepareTests(SynchronousTestCase):
    """A tree to run in."""

    def tree(self, *files: str) -> Path:
        """Create source files without contents."""
        tree = Path(self.mktemp()).resolve()
        for file in files:
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).write_text("")
        return tree

    def test_kinds(self) -> None:
        """The two projects are distinguished; anything else is refused by name."""
        run = "tests/sentinel/run.tcl"
        self.assertEqual("redis", kind_of(self.tree(run)))
        self.assertEqual("valkey", kind_of(self.tree(run, "tests/support/set_executable_path.tcl")))
        refused = self.assertRaises(SourceMissing, kind_of, self.tree("README"))
        self.assertIn("has no tests/sentinel/run.tcl", str(refused))

    def test_present_sources(self) -> None:
        """Sources that were unpacked before are not fetched again."""
        directory = self.tree("valkey-9.1.2/tests/x", "valkey_9.1.2.dsc", "redis-8.0.6/tests/x", "valkey-9.9/half")
        self.assertEqual(directory / "valkey-9.1.2", fetch("valkey", directory))

    def test_programs(self) -> None:
        """The server is a link; the launcher becomes the Sentinel, with the given file."""
        into = Path(self.mktemp()).resolve()
        prepare(self.waiting_tree(), "redis", "txsentinel", into)
        self.assertTrue(os.access(into / "src" / "redis-server", os.X_OK))
        launcher = into / "src" / "redis-sentinel"
        done = subprocess.run([launcher, "/no/such/sentinel.conf"], capture_output=True, text=True)
        self.assertEqual(1, done.returncode, done)
        self.assertIn("/no/such/sentinel.conf", done.stderr)
        self.assertIn(f"exec {sys.executable} ", launcher.read_text())

    def waiting_tree(self) -> Path:
        """Create a suite that consists of the two procedures that wait."""
        tree = self.tree("tests/sentinel/run.tcl", "tests/support/x")
        for name, line in (("server", SERVER_IS_UP), ("test", WAIT_FOR_CONDITION)):
            (tree / "tests" / "support" / f"{name}.tcl").write_text(f"{line}\n    body\n}}\n")
        return tree

    def test_attempts(self) -> None:
        """What the suite waits for is tried more often; a suite that waits in another way is refused."""
        tree, into = self.waiting_tree(), Path(self.mktemp()).resolve()
        prepare(tree, "redis", "redis", into, 7)
        expected = f"{SERVER_IS_UP}\n    set retrynum [expr {{$retrynum * 7}}]\n    body\n}}\n"
        self.assertEqual((into / "tests" / "support" / "server.tcl").read_text(), expected)
        self.assertIn("set maxtries [expr {$maxtries * 7}]", (into / "tests" / "support" / "test.tcl").read_text())
        (tree / "tests" / "support" / "test.tcl").write_text("proc wait_for_something {} {\n}\n")
        refused = self.assertRaises(SourceMissing, prepare, tree, "redis", "redis", into, 7)
        self.assertIn("wait_for_condition", str(refused))

    if missing("redis"):
        test_attempts.skip = missing("redis")  # type: ignore[attr-defined]
        test_programs.skip = missing("redis")  # type: ignore[attr-defined]
