"""
Work in small steps, so that a command with a hundred thousand words does not keep anybody else waiting.

A command yields between its steps; :class:`~txsentinel.server.protocol.SentinelProtocol` runs as many of them as fit
into a time slice and goes on in the next turn of the reactor.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PORTION: Final = 32
"""Words of a request that are dealt with in one step: some microseconds each."""

FEW: Final = 64
"""What has no more items than that is done at once."""


def portions(items: Sequence[Item], start: int = 0, size: int = PORTION) -> Iterator[Sequence[Item]]:
    """The items from ``start`` on, ``size`` at a time."""
    for at in range(start, len(items), size):
        yield items[at : at + size]


def finished(steps: Generator[Any, None, Result]) -> Result:
    """Run all steps at once, for those who know that there are few; what they yield is dropped."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
