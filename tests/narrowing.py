"""
Attributes that mypyc compiles with a narrowed type, although a call may have changed them.

mypy narrows the type of ``self.name`` at an assignment and at a test, and keeps it narrow over calls of methods
that assign to it. The interpreter is not affected; mypyc compiles the narrow type, so a test of the attribute
becomes a constant, and its value is cast to the narrow type, which raises ``TypeError``. A constant test is
reported by mypy itself (``warn_unreachable``); this module finds the reads.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

State: TypeAlias = "dict[str, bool] | None"
"""Attribute that is ``None`` according to the code → whether there was a call since; ``None``: unreachable."""


@dataclass(frozen=True)
class StaleRead:
    """A read of an attribute that was set to ``None``, or tested to be, before a call that may have changed it."""

    line: int
    function: str
    attribute: str


def stale_reads(tree: ast.AST) -> list[StaleRead]:
    """Return all stale reads of a module, by line."""
    found: set[StaleRead] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(_Function(node).reads())
    return sorted(found, key=lambda read: (read.line, read.attribute))


class _Function:
    """One function, executed abstractly: each statement maps a state to the next one."""

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._node = node
        self._found: set[StaleRead] = set()
        self._loop_exits: list[State] = []

    def reads(self) -> set[StaleRead]:
        """Return the stale reads."""
        self._block(self._node.body, {})
        return self._found

    def _block(self, body: list[ast.stmt], state: State) -> State:
        for statement in body:
            if state is None:
                return None
            state = self._statement(statement, dict(state))
        return state

    def _statement(self, node: ast.stmt, state: dict[str, bool]) -> State:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return state
        if isinstance(node, ast.If):
            self._expression(node.test, state)
            here = self._block(node.body, {**state, **_found_none(node.test, True)})
            return _join(here, self._block(node.orelse, {**state, **_found_none(node.test, False)}))
        if isinstance(node, ast.While | ast.For | ast.AsyncFor):
            return self._loop(node, state)
        if isinstance(node, ast.Try):
            after = self._block(node.body, state)
            state = _join(state, after) or {}
            ends = [self._block(node.orelse, after)]
            ends += [self._block(handler.body, dict(state)) for handler in node.handlers]
            joined: State = None
            for end in ends:
                joined = _join(joined, end)
            if not node.finalbody:
                return joined
            finished = self._block(node.finalbody, _join(joined, state))
            return None if joined is None else finished
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                self._expression(item.context_expr, state)
            return self._block(node.body, state)
        if isinstance(node, ast.Break | ast.Continue):
            self._loop_exits.append(state)
            return None
        self._expression(node, state)
        return None if isinstance(node, ast.Return | ast.Raise) else state

    def _loop(self, node: ast.While | ast.For | ast.AsyncFor, state: dict[str, bool]) -> State:
        outer, self._loop_exits = self._loop_exits, []
        entered: State = state
        for _ in range(2):  # the state after the first iteration is that of the second
            assert entered is not None
            entered = dict(entered)
            self._expression(node.test if isinstance(node, ast.While) else node.iter, entered)
            turned = self._block(node.body, entered)
            for left in self._loop_exits:
                turned = _join(turned, left)
            entered = _join(entered, turned)
        self._loop_exits = outer
        return self._block(node.orelse, entered)

    def _expression(self, node: ast.AST, state: dict[str, bool]) -> None:
        """Apply the evaluation of an expression to ``state``; parts are evaluated before the whole."""
        if isinstance(node, ast.Lambda):
            return
        for part in _evaluated(node):
            self._expression(part, state)
        if isinstance(node, ast.Call | ast.Await | ast.Yield | ast.YieldFrom):
            for attribute in state:
                state[attribute] = True
        elif isinstance(node, ast.Attribute) and _is_own(node):
            name = node.attr
            if not isinstance(node.ctx, ast.Load):
                state.pop(name, None)
            elif state.pop(name, False):
                self._found.add(StaleRead(node.lineno, self._node.name, name))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                _assign(target, node.value, state)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            _assign(node.target, node.value, state)


def _is_own(node: ast.AST) -> bool:
    """Whether it is ``self.name``."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _assign(target: ast.AST, value: ast.AST, state: dict[str, bool]) -> None:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for each, its_value in zip(target.elts, value.elts, strict=False):
            _assign(each, its_value, state)
    elif isinstance(target, ast.Attribute) and _is_own(target) and _is_none(value):
        state[target.attr] = False


def _found_none(test: ast.AST, outcome: bool) -> dict[str, bool]:
    """Return the attributes that are ``None`` if ``test`` has that outcome."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _found_none(test.operand, not outcome)
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) is outcome:
        return {name: False for value in test.values for name in _found_none(value, outcome)}
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and _is_none(test.comparators[0]):
        if isinstance(test.ops[0], ast.Is if outcome else ast.IsNot) and _is_own(test.left):
            assert isinstance(test.left, ast.Attribute)
            return {test.left.attr: False}
    return {}


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """Return the parts of a statement or an expression in the order of evaluation."""
    if isinstance(node, ast.Assign):
        yield node.value
        yield from node.targets
    elif isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield node.value
        yield node.target
    else:
        yield from ast.iter_child_nodes(node)


def _join(first: State, second: State) -> State:
    """
    Return the state after two branches were joined.

    An attribute is ``None`` for the compiler only if it is in both of them.
    """
    if first is None or second is None:
        return second if first is None else first
    return {name: first[name] or second[name] for name in first if name in second}
