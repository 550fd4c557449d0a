"""Tests that ``docs/http.rst`` is complete."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import txsentinel.extensions.http
from tests.extensions.http.harness import HttpHarness
from txsentinel.extensions.http.acting import REFUSALS, SETTINGS
from txsentinel.extensions.http.settings import parse_argument

PACKAGE = Path(txsentinel.extensions.http.__file__).parent
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "http.rst").read_text(encoding="utf-8")

POSITIONS = {"Problem": 1, "unavailable": 0, "ProblemReason": 1, "login_required": 1}
"""Functions that make errors → the position of the code among their arguments."""


def codes() -> Iterator[str]:
    """Return the codes of all errors in the package."""
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in POSITIONS:
                place = POSITIONS[node.func.id]
                argument = node.args[place] if len(node.args) > place else None
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)
    yield from (code for _, _, code in REFUSALS)


class DocumentTests(SynchronousTestCase):
    """The page of the manual."""

    def test_codes(self) -> None:
        """Each code is listed."""
        found = set(codes())
        self.assertGreater(len(found), 30)
        listed = set(re.findall(r"``([a-z_]+)(?::<master>)?``", PAGE))
        self.assertEqual(sorted(found - listed), [])

    def test_routes(self) -> None:
        """Each path is there, with the names of its parameters."""
        for route in HttpHarness().application.router.routes:
            words = re.sub(r"\{[a-z]+\}.*", "", route.pattern).rstrip("/").removeprefix("/livez")
            if words and words not in ("/primary", "/readyz"):
                self.assertIn(f"``{words}", PAGE)
            for name in route.query:
                self.assertRegex(PAGE, rf"\b{name}\b", route.pattern)

    def test_settings(self) -> None:
        """Each setting is described; so is each that can be changed."""
        with self.assertRaises(ValueError) as caught:
            parse_argument("tcp:1;unknown=x")
        for name in str(caught.exception).partition("known: ")[2].split(", "):
            self.assertIn(f"``{name}``\n", PAGE)
        for member in SETTINGS:
            self.assertIn(f"``{member}``", PAGE)
