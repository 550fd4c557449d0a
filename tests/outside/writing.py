"""
Writers and readers that behave as plain clients do: they ask any Sentinel, keep to one server while it answers, and
ask again when it does not. They know nothing of the faults.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.outside.ledger import Outcome, Read, Write
from tests.servers import Connection, ReplyError

ANSWER_SECONDS = 1.0
"""How long a Sentinel may take; a server gets :data:`WRITE_SECONDS`."""

WRITE_SECONDS = 1.5
"""Longer than a round over slow ways."""


class Line(Protocol):
    """What a client needs of a connection; that of the harness is one."""

    def call(self, *words: str | int) -> object:
        """Ask and wait; raises ``ReplyError`` for an error answer, ``OSError`` if there is none."""

    def close(self) -> None:
        """Hang up."""


Connect = Callable[[str, int, float], Line]
"""Host, port, seconds that each answer may take. Raises ``OSError``."""


def connecting_from(source: str) -> Connect:
    """Connections that come from this address."""
    return lambda host, port, seconds: Connection(port, None, seconds, host, source)


class Histories:
    """What all clients of one process did in the present round."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes: list[Write] = []
        self._acknowledged: list[str] = []
        self._reads: list[Read] = []

    def wrote(self, write: Write) -> None:
        """Remember a write."""
        with self._lock:
            self._writes.append(write)
            if write.outcome is Outcome.ACKNOWLEDGED:
                self._acknowledged.append(write.member)

    def read(self, read: Read) -> None:
        """Remember a look."""
        with self._lock:
            self._reads.append(read)

    def some_acknowledged(self, rng: random.Random) -> str | None:
        """A member that a reader may look for; the youngest are the likeliest to be missing."""
        with self._lock:
            return rng.choice(self._acknowledged[-200:]) if self._acknowledged else None

    def take(self) -> tuple[list[Write], list[Read]]:
        """All of it; the next round begins empty."""
        with self._lock:
            taken = self._writes, self._reads
            self._writes, self._reads, self._acknowledged = [], [], []
            return taken


class Client:
    """Finds the master and holds a connection to it."""

    def __init__(
        self,
        name: str,
        sentinels: Sequence[tuple[str, int]],
        master: str,
        connect: Connect,
        histories: Histories,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._sentinels = list(sentinels)
        self._master = master
        self._connect = connect
        self._histories = histories
        self._rng = random.Random(name)
        self._line: Line | None = None
        self._port = 0
        self._clock = clock
        self._used = 0

    def step(self, key: str) -> bool:
        """
        Find the master if need be and use it once.

        :returns: false if it did not answer as wanted: wait a little.
        """
        if self._line is None:
            self._line = self._find()
        return self._line is not None and self._use(self._line, key)

    def hang_up(self) -> None:
        """The next step begins with a question to the Sentinels."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _use(self, line: Line, key: str) -> bool:
        raise NotImplementedError

    def _find(self) -> Line | None:
        for host, port in self._rng.sample(self._sentinels, len(self._sentinels)):
            try:
                sentinel = self._connect(host, port, ANSWER_SECONDS)
                try:
                    address = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
                finally:
                    sentinel.close()
                if isinstance(address, list):
                    self._port = int(address[1])
                    return self._connect(str(address[0]), self._port, WRITE_SECONDS)
            except (OSError, ReplyError):
                continue
        return None


class Writer(Client):
    """Adds one unique member after the other to a set, and never the same one twice."""

    def _use(self, line: Line, key: str) -> bool:
        self._used += 1
        member = f"{self.name}:{self._used}"
        sent = self._clock()
        outcome, error = Outcome.ACKNOWLEDGED, ""
        try:
            line.call("SADD", key, member)
        except ReplyError as problem:
            outcome, error = Outcome.FAILED, str(problem)
        except OSError as problem:
            outcome, error = Outcome.UNKNOWN, str(problem) or type(problem).__name__
        self._histories.wrote(Write(member, self._port, sent, self._clock(), outcome, error))
        if outcome is not Outcome.ACKNOWLEDGED:
            self.hang_up()
        return outcome is Outcome.ACKNOWLEDGED


class Reader(Client):
    """Looks for what was acknowledged."""

    def _use(self, line: Line, key: str) -> bool:
        member = self._histories.some_acknowledged(self._rng)
        if member is None:
            return False
        sent = self._clock()
        try:
            found = line.call("SISMEMBER", key, member) == 1
        except (OSError, ReplyError):
            self.hang_up()
            return False
        self._histories.read(Read(member, self._port, sent, found))
        if not found:
            self.hang_up()
        return found
