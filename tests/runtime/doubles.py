"""Test doubles for the neighbours of the executor and of the service."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txsentinel.core.effects import Effect
from txsentinel.model.timings import Millis


class RecordingLinks:
    """Links that record the effects, and call ``performed`` with each."""

    def __init__(self, performed: Callable[[Effect], None] = lambda effect: None) -> None:
        self.effects: list[Effect] = []
        self.flushes = 0
        self._performed = performed

    def perform(self, effect: Effect) -> None:
        """Record an effect."""
        self.effects.append(effect)
        self._performed(effect)

    def flush(self) -> None:
        """Count the call."""
        self.flushes += 1


class RecordingStore:
    """A store that records what it has to save, and saves nothing by itself."""

    def __init__(self) -> None:
        self.dirty: set[str | None] = set()
        self.wanted = 0

    def note_dirty(self, names: Iterable[str | None]) -> None:
        """Record the names."""
        self.dirty |= set(names)

    def commit_soon(self, generation: int) -> None:
        """Record the generation."""
        self.wanted = max(self.wanted, generation)


class RecordingScripts:
    """A script queue that records the scripts and runs none."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, ...]] = []

    def enqueue(self, path: str, arguments: Sequence[str]) -> None:
        """Record a script."""
        self.queued.append((path, *arguments))


class StepHost:
    """A host whose time advances only by a test, with a resolver that answers when a test demands it."""

    pid = 4242
    nested_poll_active = False

    def __init__(self) -> None:
        self.reactor = Clock()
        self.random = random.Random(1)
        self.lookups: list[tuple[str, Deferred[str]]] = []
        self.exits: list[int] = []
        self.yields = 0

    @property
    def slack_clock(self) -> Clock:
        """The reactor: calls are never late here."""
        return self.reactor

    def now(self) -> Millis:
        """Milliseconds since the start of the test."""
        return round(self.reactor.seconds() * 1000)

    def wall_clock(self) -> float:
        """Seconds since 1970."""
        return 1_795_240_000.0 + self.reactor.seconds()

    def scheduled(self) -> tuple[int, int] | None:
        """Report no processor times."""
        return None

    def yield_to_clients(self) -> bool:
        """Count the call; there are no clients."""
        self.yields += 1
        return False

    def resolve(self, hostname: str) -> Deferred[str]:
        """Begin a lookup."""
        answer: Deferred[str] = Deferred()
        self.lookups.append((hostname, answer))
        return answer

    def answer_lookups(self, ip: str | None) -> int:
        """Answer all pending lookups, with an error for ``None``; return their number."""
        lookups, self.lookups = self.lookups, []
        for _, waiting in lookups:
            if ip is None:
                waiting.errback(DNSLookupError())
            else:
                waiting.callback(ip)
        return len(lookups)

    def exit(self, status: int) -> None:
        """Record the exit status."""
        self.exits.append(status)

    def fail_stop(self, failure: Failure, what: str) -> None:
        """Raise the failure."""
        failure.raiseException()
