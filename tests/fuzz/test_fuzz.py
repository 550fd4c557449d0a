"""The fuzzer runs, reports violations, and reports why it cannot run."""

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
    """Very short runs."""

    def fuzz(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run the fuzzer with inputs of its own."""
        if importlib.util.find_spec("atheris") is None:
            raise SkipTest(fuzzer.NO_ATHERIS)
        command = [sys.executable, "-m", "tests.fuzz", "--directory", self.mktemp(), *words]
        return subprocess.run(command, capture_output=True, check=False, cwd=Path(__file__).parents[2])

    def test_names(self) -> None:
        """Every property is fuzzed."""
        self.assertEqual(fuzzer.READERS, tuple(PROPERTIES))

    def test_seeds(self) -> None:
        """The seeds violate nothing."""
        for name, holds in PROPERTIES.items():
            directory = Path(self.mktemp())
            fuzzer.seed(directory, name)
            inputs = [path.read_bytes() for path in directory.iterdir()]
            self.assertGreater(len(inputs), 20)
            for data in inputs:
                holds(*fuzzer.split_input(data))

    def test_split_input(self) -> None:
        """Any bytes can be split into an input and its cuts."""
        self.assertEqual(fuzzer.split_input(b""), (b"", []))
        self.assertEqual(fuzzer.split_input(b"\2\0\4abc"), (b"abc", [1, 5]))
        self.assertEqual(list(chunks(b"abcdefgh", [1, 5])), [b"a", b"bcdef", b"g", b"h"])

    def test_a_round(self) -> None:
        """A short run reports the number of inputs and no violation."""
        ended = self.fuzz("--minutes", "0.5", "--runs", "300", "--property", "hello")
        self.assertEqual((ended.returncode, ended.stderr), (0, b""), ended.stdout)
        self.assertRegex(ended.stdout, rb"\Ahello: [0-9]+ inputs, holds\n\Z")

    def test_repeated_from_file(self) -> None:
        """An input that violated a property can be repeated from its file."""
        path = Path(self.mktemp())
        path.write_bytes(b"\1\0a,b")
        printed = io.StringIO()
        self.patch(sys, "stdout", printed)
        self.assertEqual(fuzzer.main(["--property", "hello", str(path)]), 0)
        self.assertEqual(printed.getvalue(), "hello of b'a,b', cut by [1]\n")
        self.patch(fuzzer, "show", self._raise)
        self.assertRaises(AssertionError, fuzzer.main, ["--property", "hello", str(path)])

    def _raise(self, name: str, path: Path) -> None:
        raise AssertionError(name)

    def test_without_atheris(self) -> None:
        """Without atheris it prints how to install it, and fails nothing."""
        printed = io.StringIO()
        self.patch(sys, "stdout", printed)
        self.patch(importlib.util, "find_spec", lambda name: None)
        self.assertEqual(fuzzer.main([]), 0)
        self.assertEqual(printed.getvalue(), fuzzer.NO_ATHERIS + "\n")
