"""What the interpreter runs and a compiled copy does not: attributes that are read after a call changed them."""

from __future__ import annotations

import ast
import os
from configparser import ConfigParser
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from tests.narrowing import stale_reads
from tests.test_tidy import ROOT, sources


def _reads(body: str) -> list[str]:
    """The attributes that are found in a method with that body."""
    source = "def method(self):\n" + "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
    return [read.attribute for read in stale_reads(ast.parse(source))]


class CheckerTests(SynchronousTestCase):
    """The checker finds what mypyc miscompiles, and nothing else."""

    def test_reset_in_a_tuple(self) -> None:
        """The case that closed the connection of every request that was postponed."""
        self.assertEqual(
            _reads(
                """
                while True:
                    request, self._postponed = self._postponed or parse(), None
                    self.execute(request)
                    if self._postponed is not None:
                        return
                """
            ),
            ["_postponed"],
        )

    def test_found_to_be_none(self) -> None:
        """A test narrows as an assignment does."""
        self.assertEqual(_reads("if self.a is None:\n    self.fill()\n    return self.a"), ["a"])
        self.assertEqual(_reads("if self.a is not None:\n    return\nself.fill()\nuse(self.a)"), ["a"])

    def test_in_a_loop(self) -> None:
        """What one turn of a loop leaves behind is read in the next one."""
        loop = "for each in things:\n    use(self.a)\n    self.a = None\n    self.fill()"
        self.assertEqual(_reads(f"self.a = None\n{loop}"), ["a"])

    def test_nothing_called(self) -> None:
        """Without a call in between the compiler is right."""
        self.assertEqual(_reads("self.a = None\nif self.a is None:\n    self.fill()"), [])

    def test_assigned_again(self) -> None:
        """Whoever assigns knows what is there."""
        self.assertEqual(_reads("self.a = None\nself.a = self.make()\nuse(self.a)"), [])

    def test_other_branches(self) -> None:
        """What happens in a branch that ends, or in the other one, does not count."""
        self.assertEqual(_reads("if self.x():\n    self.a = None\n    return\nself.fill()\nuse(self.a)"), [])
        self.assertEqual(_reads("if self.x():\n    self.a = None\nelse:\n    self.fill()\n    use(self.a)"), [])


class PackageTests(SynchronousTestCase):
    """The package can be compiled."""

    def test_no_stale_reads(self) -> None:
        """No method reads what mypyc takes for ``None``; a method of its own for the assignment mends it."""
        found = [f"{source.name}:{read}" for source in sources() for read in stale_reads(source.tree)]
        self.assertEqual(found, [])

    def test_compiler_is_pinned(self) -> None:
        """What is believed of narrowed types changes from release to release, so it is one release that is used."""
        configuration = ConfigParser()
        configuration.read(os.path.join(ROOT, "setup.cfg"))
        for extra in ("bench", "test"):
            wanted = configuration["options.extras_require"][extra].split("\n")
            self.assertTrue(any(line.startswith("mypy[mypyc] == ") for line in wanted), f"{extra}: {wanted}")
