"""
Tests use what is public. Where they access a private attribute of another object, a comment beside it has the reason.

A private name that a test module defines or assigns itself belongs to the test, and needs no reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TESTS = Path(__file__).resolve().parent
PATCHING = {"delattr", "getattr", "object", "patch", "setattr"}
"""The last words of functions that take the name of an attribute as their second argument."""


def own_names(tree: ast.AST) -> set[str]:
    """Return the names that a module defines, or assigns as attributes of ``self``."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _is_private(name: object) -> bool:
    # ``os._exit`` is documented.
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__") and name != "_exit"


def private_accesses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Return line and name of each private attribute of another object that a module names."""
    own = own_names(tree)
    for node in ast.walk(tree):
        name: object = None
        line = 0
        if isinstance(node, ast.Attribute) and not _is_self(node.value):
            name, line = node.attr, node.lineno
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            function, second = node.func, node.args[1]
            word = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if word in PATCHING and isinstance(second, ast.Constant):
                name, line = second.value, node.lineno
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if _is_private(alias.name):
                    yield node.lineno, alias.name
        if _is_private(name) and name not in own:
            yield line, str(name)


def unexplained(text: str) -> list[str]:
    """Return the accesses without a comment on the same line, or above it and others that follow each other."""
    lines = text.splitlines()
    found = []
    accesses = sorted(set(private_accesses(ast.parse(text))))
    numbers = {number for number, _ in accesses}
    for number, name in accesses:
        above = number - 1
        while above in numbers:
            above -= 1
        if "# " not in lines[number - 1] and not (above and lines[above - 1].lstrip().startswith("#")):
            found.append(f"{number}: {name}")
    return found


class PrivateAccessTests(SynchronousTestCase):
    """Each access to something private has a reason."""

    def test_every_access_is_explained(self) -> None:
        """A comment stands on the line or directly above it."""
        found = {str(path.relative_to(TESTS)): unexplained(path.read_text("utf-8")) for path in TESTS.rglob("*.py")}
        self.assertEqual({path: accesses for path, accesses in found.items() if accesses}, {})

    def test_accesses_are_found(self) -> None:
        """Attributes, patches and imports are found; own names and documented ones are not."""
        code = (
            "from a import _b, c\nd._e\nself._f = 1\ng._f\nself._h\npatch.object(i, '_j', 1)\nsetattr(k, '_l', 2)\n"
            "os._exit(1)\nm.__class__\nn._o._p\n"
        )
        found = {name for _, name in private_accesses(ast.parse(code))}
        self.assertEqual(found, {"_b", "_e", "_j", "_l", "_o", "_p"})

    def test_reasons(self) -> None:
        """A comment counts on the same line, and above one or several lines with accesses."""
        code = "a._b\n# Why.\nc._d\nc._d\ne._f  # Why.\n\ng._h\n"
        self.assertEqual(unexplained(code), ["1: _b", "7: _h"])
