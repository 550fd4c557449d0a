"""Waiting until a real reactor has closed the connections of a test."""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

MAX_TURNS = 1000

real: Any = reactor


def open_connections() -> int:
    """Return how many descriptors the reactor reads or writes."""
    return len(real.getReaders()) + len(real.getWriters())


def close_connections_of(case: TestCase) -> None:
    """Have the end of a test wait until the reactor has no more connections than now; call this in ``setUp``."""
    before = open_connections()

    async def wait() -> None:
        for _ in range(MAX_TURNS):
            if open_connections() <= before:
                break
            await deferLater(real, 0.01)

    def cleanup() -> Deferred[None]:
        return ensureDeferred(wait())

    case.addCleanup(cleanup)
