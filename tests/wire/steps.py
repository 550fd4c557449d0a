"""
The work of a parser, counted instead of timed: the lines it executes, and the bytes it touches.

Lines alone do not suffice, since a single one may search a megabyte. So the measured modules get byte strings
that count what is copied, compared, split and searched. The count is the same on every run.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any
from unittest.mock import patch


class Steps:
    """Return the count so far."""

    def __init__(self) -> None:
        self.lines = 0
        self.touched = 0

    @property
    def all(self) -> int:
        """Return the number of lines and bytes."""
        return self.lines + self.touched


class _SubstitutedType(type):
    """A counting type that is accepted in place of the original one."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])


def _counting(base: Any, steps: Steps) -> Any:
    def touching(name: str, size: Callable[..., int]) -> Callable[..., Any]:
        original = getattr(base, name)

        def counted(self: Any, *arguments: Any) -> Any:
            steps.touched += size(self, *arguments)
            result = original(self, *arguments)
            # Slices are inspected further, and count too.
            return kind(result) if type(result) is base and result else result

        return counted

    def searched(self: Any, wanted: Any, start: int = 0, stop: int | None = None) -> int:
        stop = len(self) if stop is None else min(stop, len(self))
        found = base.find(self, wanted, start, stop)
        return max(0, (stop if found < 0 else found) - start)

    def sliced(self: Any, where: Any) -> int:
        return len(range(*where.indices(len(self)))) if isinstance(where, slice) else 1

    def whole(self: Any, *arguments: Any) -> int:
        return len(self)

    def compared(self: Any, with_what: Any, *where: int) -> int:
        return len(with_what)

    def created(cls: Any, source: Any = b"") -> Any:
        steps.touched += len(source)
        return base.__new__(cls, source)

    names: dict[str, Any] = {
        "__new__": created,
        "find": touching("find", searched),
        "__getitem__": touching("__getitem__", sliced),
        **{name: touching(name, whole) for name in ("split", "partition", "removesuffix")},
        **{name: touching(name, compared) for name in ("startswith", "endswith")},
    }
    if base is bytearray:

        def grown(self: Any, more: Any) -> Any:
            steps.touched += len(more)
            self.extend(more)
            return self

        names["__iadd__"] = grown
    kind: Any = _SubstitutedType(f"Counting{base.__name__}", (base,), names)
    return kind


@contextmanager
def counting(*modules: ModuleType) -> Iterator[Steps]:
    """Count the lines that the code of these modules executes, and the bytes that it reads."""
    steps = Steps()
    files = {module.__file__ for module in modules}

    def line(frame: FrameType, event: str, argument: object) -> Any:
        steps.lines += event == "line"
        return line

    def call(frame: FrameType, event: str, argument: object) -> Any:
        return line if frame.f_code.co_filename in files else None

    patches = [
        patch.object(module, name, _counting(getattr(builtins, name), steps), create=True)
        for module in modules
        for name in ("bytes", "bytearray")
    ]
    for each in patches:
        each.start()
    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield steps
    finally:
        sys.settrace(before)
        for each in patches:
            each.stop()
