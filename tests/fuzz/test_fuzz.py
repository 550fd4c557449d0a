"""The fuzzer runs, finds what is wrong, and says so where it cannot run."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import __main__ as fuzzer
from tests.fuzz.properties import PROPERTIES, chunks


class FuzzTests(SynchronousTestCase):
    """Without any time to speak of."""

    def fuzz(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run the fuzzer over inputs of its own."""
        if importlib.util.find_spec("atheris") is None:
            raise SkipTest(fuzzer.NO_ATHERIS)
        command = [sys.executable, "-m", "tests.fuzz", "--directory", self.mktemp(), *words]
        return subprocess.run(command, capture_output=True, check=False, cwd=Path(__file__).parents[2])

    def test_names(self) -> None:
        """Every property is fuzzed."""
        self.assertEqual(fuzzer.READERS, tuple(PROPERTIES))

    def test_seeds_hold(self) -> None:
        """What the fuzzer begins with breaks nothing."""
        for name, holds in PROPERTIES.items():
            directory = Path(self.mktemp())
            fuzzer.seed(directory, name)
            inputs = [path.read_bytes() for path in directory.iterdir()]
            self.assertGreater(len(inputs), 20)
            for data in inputs:
                holds(*fuzzer.taken_apart(data))

    def test_taking_apart(self) -> None:
        """Any bytes are an input, and chunks are all of it."""
        self.assertEqual(fuzzer.taken_apart(b""), (b"", []))
        self.assertEqual(fuzzer.taken_apart(b"\2\0\4abc"), (b"abc", [1, 5]))
        self.assertEqual(list(chunks(b"abcdefgh", [1, 5])), [b"a", b"bcdef", b"g", b"h"])

    def test_a_round(self) -> None:
        """A short run tells how much it tried and that all is well."""
        ended = self.fuzz("--minutes", "0.5", "--runs", "300", "--property", "hello")
        self.assertEqual((ended.returncode, ended.stderr), (0, b""), ended.stdout)
        self.assertRegex(ended.stdout, rb"\Ahello: [0-9]+ inputs, holds\n\Z")

    def test_shown_again(self) -> None:
        """What broke a property can be shown again from its file."""
        path = Path(self.mktemp())
        path.write_bytes(b"\1\0a,b")
        told = io.StringIO()
        self.patch(sys, "stdout", told)
        self.assertEqual(fuzzer.main(["--property", "hello", str(path)]), 0)
        self.assertEqual(told.getvalue(), "hello of b'a,b', cut by [1]\n")
        self.patch(fuzzer, "show", self._raise)
        self.assertRaises(AssertionError, fuzzer.main, ["--property", "hello", str(path)])

    def _raise(self, name: str, path: Path) -> None:
        raise AssertionError(name)

    def test_without_atheris(self) -> None:
        """Where there is no atheris it says how to get it, and nothing has failed."""
        told = io.StringIO()
        self.patch(sys, "stdout", told)
        self.patch(importlib.util, "find_spec", lambda name: None)
        self.assertEqual(fuzzer.main([]), 0)
        self.assertEqual(told.getvalue(), fuzzer.NO_ATHERIS + "\n")
