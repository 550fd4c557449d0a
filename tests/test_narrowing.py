"""Code that only fails when it is compiled: stale or undefined attributes, interpreted subclasses, reversed slices."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from build_support.compiled_modules import compiled_modules
from tests.narrowing import stale_reads
from tests.test_tidy import SITE, Source, imports, sources

ORDERED_SLICES = {
    "wire.glob": {"low:high + 1"},  # the lower one of two bytes, and the higher one
    "wire.hello": {"head:line_end", "line_end + 2:end"},  # a line end was found; a length has no sign
    "server.request_executor": {"start:end"},  # a line end was found from the start on, or it is the size
    "links.command_link": {"1:-1"},  # of a list, where the order does not matter
    # Of `bytes | bytearray`, or lists, both of which are sliced as the interpreter does.
    "wire.replies": {"start + 1:end", "start:end"},
    "wire.requests": {
        "at + 2:end:2",
        "at + 1:end:2",
        "self._position:end",
        "start:end",
        "start + 1:end",
        "position:end",
    },
}
"""Slices whose bounds are ordered for a reason that cannot be derived from them."""

WEAK_REFERENCES = ("process.log_queue",)
"""Modules that make weak references to instances of interpreted classes."""


def _compiled() -> list[Source]:
    """Return the modules that are compiled."""
    compiled = {name for name, _ in compiled_modules(SITE, "sentinel")}
    return [source for source in sources() if f"txsentinel.{source.name}" in compiled]


def _slices(tree: ast.AST) -> Iterator[ast.Slice]:
    """Return all slices with two bounds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Slice) and node.lower is not None and node.upper is not None:
            yield node


def _declared_late(node: ast.ClassDef) -> Iterator[str]:
    """Return the attributes that methods other than the constructor declare, as ``self.name``."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name != "__init__":
            for each in ast.walk(method):
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Attribute):
                    yield ast.unparse(each.target)


def _is_ordered(piece: ast.Slice) -> bool:
    """Whether the upper bound is visibly not below the lower one: two constants, or a sum with the lower one."""
    lower, upper = piece.lower, piece.upper
    if isinstance(lower, ast.Constant) and isinstance(upper, ast.Constant):
        first, last = lower.value, upper.value
        return isinstance(first, int) and isinstance(last, int) and 0 <= first <= last
    if not (isinstance(upper, ast.BinOp) and isinstance(upper.op, ast.Add)):
        return False
    if isinstance(lower, ast.BinOp) and isinstance(lower.op, ast.Add):
        ends = lower.right, upper.right
        return ast.dump(lower.left) == ast.dump(upper.left) and all(isinstance(end, ast.Constant) for end in ends)
    return lower is not None and ast.dump(lower) == ast.dump(upper.left)


def _reads(body: str) -> list[str]:
    """Return the stale attributes of a method with that body."""
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
        """A test narrows like an assignment."""
        self.assertEqual(_reads("if self.a is None:\n    self.fill()\n    return self.a"), ["a"])
        self.assertEqual(_reads("if self.a is not None:\n    return\nself.fill()\nuse(self.a)"), ["a"])

    def test_in_a_loop(self) -> None:
        """The state at the end of an iteration is read in the next one."""
        loop = "for each in things:\n    use(self.a)\n    self.a = None\n    self.fill()"
        self.assertEqual(_reads(f"self.a = None\n{loop}"), ["a"])

    def test_nothing_called(self) -> None:
        """Without a call in between the compiled type is right."""
        self.assertEqual(_reads("self.a = None\nif self.a is None:\n    self.fill()"), [])

    def test_assigned_again(self) -> None:
        """An assignment replaces the state."""
        self.assertEqual(_reads("self.a = None\nself.a = self.make()\nuse(self.a)"), [])

    def test_other_branches(self) -> None:
        """A branch that ends, or the other branch, has no effect."""
        self.assertEqual(_reads("if self.x():\n    self.a = None\n    return\nself.fill()\nuse(self.a)"), [])
        self.assertEqual(_reads("if self.x():\n    self.a = None\nelse:\n    self.fill()\n    use(self.a)"), [])


class PackageTests(SynchronousTestCase):
    """The package can be compiled."""

    def test_no_stale_reads(self) -> None:
        """No method reads what mypyc takes for ``None``; moving the assignment into a method of its own avoids that."""
        found = [f"{source.name}:{read}" for source in sources() for read in stale_reads(source.tree)]
        self.assertEqual(found, [])

    def test_no_interpreted_subclasses(self) -> None:
        """
        A class outside of the compiled modules has no base in them.

        Compiled code fails with ``TypeError`` for instances of such a class: each SENTINEL SET with an invalid value
        closed the connection.
        """
        compiled = {source.name for source in _compiled()}
        found = []
        for source in sources():
            if source.name in compiled:
                continue
            taken = {}
            for each in imports(source.tree):
                module, _, name = each.target.removeprefix("txsentinel.").rpartition(".")
                if module in compiled:
                    taken[name] = module
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ClassDef):
                    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                    found += [f"{source.name}:{node.name}({base})" for base in bases if base in taken]
        self.assertEqual(found, [])

    def test_slices_are_ordered(self) -> None:
        """
        No slice has its end before its beginning.

        In the interpreter that is empty; for compiled bytes it is a ``SystemError``: a hello whose first packet ended
        within its length closed its connection.
        """
        found = []
        for source in _compiled():
            allowed = ORDERED_SLICES.get(source.name, set())
            pieces = [piece for piece in _slices(source.tree) if not _is_ordered(piece)]
            found += [f"{source.name}:{piece.lineno}" for piece in pieces if ast.unparse(piece) not in allowed]
        self.assertEqual(found, [])

    def test_ordered_slices(self) -> None:
        """Bounds that count as ordered, and others."""
        for text, ordered in (
            ("a[2:4]", True),
            ("a[4:2]", False),
            ("a[1:-1]", False),
            ("a[n:n + 2]", True),
            ("a[n + 2:n + 4]", True),
            ("a[n:m]", False),
            ("a[n + k:n + 4]", False),
        ):
            (piece,) = _slices(ast.parse(text))
            self.assertIs(_is_ordered(piece), ordered, text)

    def test_no_attribute_of_type_object(self) -> None:
        """
        No attribute of a class is declared as ``object``: mypyc looks for that in the module, and loading it fails.

        The compiled Sentinel did not start.
        """
        found = []
        for source in _compiled():
            for each in ast.walk(source.tree):
                if isinstance(each, ast.ClassDef):
                    declared = (line for line in each.body if isinstance(line, ast.AnnAssign))
                    names = [ast.unparse(line) for line in declared if ast.unparse(line.annotation) == "object"]
                    found += [f"{source.name}:{each.name}: {name}" for name in names]
        self.assertEqual(found, [])

    def test_loggers_are_named(self) -> None:
        """Without a name a logger uses that of the frame that makes it, and compiled modules have no frame."""
        found = []
        for source in sources():
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Logger":
                    if not any(keyword.arg == "namespace" for keyword in node.keywords):
                        found.append(f"{source.name}:{node.lineno}")
        self.assertEqual(found, [])

    def test_no_weak_references(self) -> None:
        """
        A weak reference to an instance of a compiled class is left dangling, and crashes the process when it is used.
        """
        found = [
            source.name
            for source in sources()
            if any(each.target.partition(".")[0] == "weakref" for each in imports(source.tree))
        ]
        self.assertEqual(found, list(WEAK_REFERENCES))

    def test_attributes_are_initialized(self) -> None:
        """
        No method but the constructor declares an attribute of a class with bases.

        Until it is assigned, the compiled attribute hides the default of an interpreted base: a link that was retired
        while its first attempt was queued raised ``AttributeError``.
        """
        found = []
        for source in _compiled():
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ClassDef) and node.bases:
                    found += [f"{source.name}:{node.name}.{each}" for each in _declared_late(node)]
        self.assertEqual(found, [])

    def test_late_declarations(self) -> None:
        """Declarations that are found, and others."""
        for name, declared in (("__init__", []), ("connect", ["self.peer"])):
            (node,) = ast.parse(f"class C(B):\n    def {name}(self):\n        self.peer: Any = None").body
            assert isinstance(node, ast.ClassDef)
            self.assertEqual(list(_declared_late(node)), declared, name)
