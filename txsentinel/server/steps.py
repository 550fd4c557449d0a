"""
Execution in small steps, so that a command with a hundred thousand words does not delay other clients.

A command yields between its steps. :class:`~txsentinel.server.request_executor.RequestExecutor` executes as many of
them as fit into a time slice and continues in the next turn of the reactor.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PORTION: Final = 32
"""Number of words that are processed in one step; each takes some microseconds."""

MAX_WITHOUT_STEPS: Final = 64
"""Maximum number of items that are processed without steps."""


def portions(items: Sequence[Item], start: int = 0, size: int = PORTION) -> Iterator[Sequence[Item]]:
    """Yield the items from ``start`` on, ``size`` at a time."""
    for at in range(start, len(items), size):
        yield items[at : at + size]


def run_all(steps: Generator[Any, None, Result]) -> Result:
    """Execute all steps at once and drop the yielded values; for requests with few steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
