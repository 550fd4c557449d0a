"""
Run the Sentinel test suites of Redis and Valkey, in Tcl, with this Sentinel instead of theirs.

The sources are those of ``--source``, or are fetched from Debian's source packages into ``build/upstream``. Each
suite runs in a copy of its ``tests`` directory in which ``src`` holds links to a server installed here and a launcher
of the Sentinel under test. The exit status is 0 if every suite passed whole.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.upstream.sources import PACKAGES, SourceMissing, fetch, kind_of
from txsentinel.demo.programs import COMPILED, SOURCE, BinaryMissing, sentinel_command, server_binary

DIRECTORY: Final = SOURCE / "build" / "upstream"

CONFIG: Final = "CONFIG"
"""Placeholder in the command line for the configuration file of the suite."""

FACTOR: Final = 6
"""
How many times as often the suites try what they wait for. Theirs is for an idle machine: the start of a Sentinel, which
takes a Python a fraction of a second there, may take five seconds.
"""

_ATTEMPTS: Final = {
    "support/server.tcl": ("server_is_up", "retrynum"),
    "support/test.tcl": ("wait_for_condition", "maxtries"),
}
"""File below ``tests`` → a procedure that tries something repeatedly, and its parameter with the number of attempts."""

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_PASSED: Final = re.compile(r"\d\d:\d\d:\d\d> .*(: |\s)OK")
_FAILED_TEST: Final = re.compile(r"\d\d:\d\d:\d\d> .*FAILED: ")
_FAILED: Final = re.compile(r"FAILED: |ERROR: |WARNING: Aborting|\*\*\* Crash report found")


NO_OWN_VOTE: Final = "no Sentinel votes for itself at the request of a client"
CONTROL_CHARACTERS: Final = "passwords may contain them, as with the Redis of 2026: they are escaped in the file"

DELIBERATE: Final = {
    "SENTINEL IS-PRIMARY-DOWN-BY-ADDR checks if the primary is down": NO_OWN_VOTE,
    "SENTINEL IS-MASTER-DOWN-BY-ADDR checks if the primary is down": NO_OWN_VOTE,
    "SENTINEL SET rejects values containing control characters": CONTROL_CHARACTERS,
}
"""Test → the deliberate difference by which it fails. ``tests/differential`` tests these differences."""

SECOND_PROCESS: Final = "is in use by another txsentinel process"
"""
What the second process with one file writes to standard error; C Sentinels log that the port is in use. A unit starts a
Sentinel that the next one starts again, and the suites count everything on standard error as a failure.
"""


@dataclass
class Outcome:
    """The result of one run of a suite."""

    name: str
    status: int = 1
    """The exit status of the suite."""

    passed: int = 0
    """Number of tests that passed; a unit ends at its first failed one."""

    units: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    """One line for each failure."""

    deliberate: list[str] = field(default_factory=list)
    """The reason for each failure that is expected; the rest of its unit is not run."""

    _unit_failed: bool = False

    def read(self, line: str) -> None:
        """Count the results in a line of the suite's output."""
        if line.startswith("Testing unit: "):
            self.units += 1
            self._unit_failed = False
        elif _FAILED_TEST.match(line):
            reason = next((reason for name, reason in DELIBERATE.items() if name in line), None)
            if reason is None:
                self.failures.append(line)
            else:
                self.deliberate.append(reason)
            self._unit_failed = True
        elif _FAILED.match(line):
            # A failed test is reported once more, as the end of its unit.
            if not self._unit_failed:
                self.failures.append(line)
            self._unit_failed = True
        elif _PASSED.fullmatch(line):
            self.passed += 1
        elif SECOND_PROCESS in line:
            self.deliberate.append("a second process with the same file ends with a line on standard error")

    @property
    def complete(self) -> bool:
        """Whether everything passed, but for what fails deliberately."""
        return self.status == (1 if self.deliberate else 0) and not self.failures and self.passed > 0

    def __str__(self) -> str:
        """Return one line for readers."""
        passed = f"passed, {len(self.deliberate)} differ deliberately" if self.deliberate else "passed"
        verdict = passed if self.complete else f"FAILED ({len(self.failures)} failures, exit status {self.status})"
        return f"{self.name}: {self.passed} tests in {self.units} units {verdict}, {self.seconds:.0f} s"


def prepare(tree: Path, kind: str, sentinel: str, into: Path, factor: int = FACTOR) -> None:
    """
    Copy the tests of ``tree`` to ``into`` and put the programs where they expect them.

    :param factor: see :data:`FACTOR`.
    :raises BinaryMissing: if there is no server, or no Sentinel, of that kind on this machine.
    :raises SourceMissing: if the suite waits in another way than is known here.
    """
    server = server_binary(kind)
    command = sentinel_command(sentinel, CONFIG)
    if into.exists():
        shutil.rmtree(into)
    shutil.copytree(tree / "tests", into / "tests", symlinks=True)
    for name, (procedure, attempts) in _ATTEMPTS.items():
        _multiply(into / "tests" / name, procedure, attempts, factor)
    programs = into / "src"
    programs.mkdir()
    (programs / f"{kind}-server").symlink_to(server)
    source = COMPILED if sentinel == "compiled" else SOURCE
    words = " ".join('"$@"' if word == CONFIG else shlex.quote(word) for word in command)
    launcher = programs / f"{kind}-sentinel"
    # The process ID must be that of the Sentinel: the suite stops and kills it.
    launcher.write_text(f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(source))}\nexport PYTHONPATH\nexec {words}\n")
    launcher.chmod(0o755)


def _multiply(path: Path, procedure: str, parameter: str, factor: int) -> None:
    """Have a procedure in Tcl multiply a parameter first."""
    text = path.read_text(errors="surrogateescape") if path.exists() else ""
    first_line = re.compile(rf"^proc {procedure} \{{.*\b{parameter}\b.*\{{$", re.MULTILINE)
    line = f"    set {parameter} [expr {{${parameter} * {factor}}}]"
    changed, count = first_line.subn(lambda match: f"{match[0]}\n{line}", text)
    if count != 1:
        raise SourceMissing(f"{path} has no procedure {procedure} with the parameter {parameter}")
    path.write_text(changed, errors="surrogateescape")


def run(into: Path, outcome: Outcome, single: list[str]) -> None:
    """Run the suite that was prepared in ``into``, print its output, and count."""
    tclsh = next((found for name in ("tclsh8.6", "tclsh") if (found := shutil.which(name))), None)
    if tclsh is None:
        raise BinaryMissing("no tclsh: the suites are written in Tcl (the package is named tcl)")
    chosen = [word for unit in single for word in ("--single", unit)]
    began = time.monotonic()
    with subprocess.Popen(
        [tclsh, "tests/sentinel/run.tcl", "--dont-clean", *chosen],
        cwd=into,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as suite:
        assert suite.stdout is not None
        for coloured in suite.stdout:
            line = _COLOUR.sub("", coloured).rstrip("\n")
            print(line, flush=True)
            outcome.read(line)
    outcome.status = suite.returncode
    outcome.seconds = time.monotonic() - began


def main() -> int:
    """Parse the command line, run the suites one after the other, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--source", action="append", type=Path, help="unpacked source tree of Redis or Valkey")
    parser.add_argument("--suite", action="append", choices=sorted(PACKAGES), help="fetch and run these only")
    parser.add_argument("--single", action="append", default=[], help="only units whose path contains this")
    parser.add_argument(
        "--sentinel", default="txsentinel", help="whose Sentinel to test: txsentinel, compiled, redis or valkey"
    )
    parser.add_argument(
        "--factor",
        type=int,
        default=FACTOR,
        help="how many times as often to try what the suites wait for (%(default)s)",
    )
    arguments = parser.parse_args()
    outcomes: list[Outcome] = []
    try:
        trees = [tree.resolve() for tree in arguments.source or ()]
        if not trees or arguments.suite:
            DIRECTORY.mkdir(parents=True, exist_ok=True)
            trees += [fetch(name, DIRECTORY) for name in arguments.suite or sorted(PACKAGES)]
        for tree in trees:
            outcome = Outcome(tree.name)
            outcomes.append(outcome)
            into = DIRECTORY / "run" / tree.name
            prepare(tree, kind_of(tree), arguments.sentinel, into, arguments.factor)
            run(into, outcome, arguments.single)
    except (SourceMissing, BinaryMissing) as missing:
        print(missing, file=sys.stderr)
        return 2
    for outcome in outcomes:
        print(f"== {outcome}")
        for line in (*outcome.failures, *outcome.deliberate):
            print(f"    {line}")
    return 0 if all(outcome.complete for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
