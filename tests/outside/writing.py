"""
Writers and readers that behave as plain clients: they query any Sentinel, keep to one server while it replies, and
query again when it does not. They know nothing of the faults.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.outside.outcomes import Outcome, Read, Write
from tests.servers import Connection, ReplyError

ANSWER_SECONDS = 1.0
"""Timeout of a Sentinel; that of a server is :data:`WRITE_SECONDS`."""

WRITE_SECONDS = 1.5
"""Longer than a round trip over slow routes."""


class ClientConnection(Protocol):
    """The connection of a client; ``tests.servers.Connection`` is one."""

    def call(self, *words: str | int) -> object:
        """Send a command and wait; raises ``ReplyError`` for an error reply, ``OSError`` if there is none."""

    def close(self) -> None:
        """Close the connection."""


Connect = Callable[[str, int, float], ClientConnection]
"""Host, port, and timeout of each reply in seconds. Raises ``OSError``."""


def connecting_from(source: str) -> Connect:
    """Return a function that connects from this address."""
    return lambda host, port, seconds: Connection(port, None, seconds, host, source)


class Histories:
    """The actions of all clients of one process in the present round."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes: list[Write] = []
        self._acknowledged: list[str] = []
        self._reads: list[Read] = []

    def wrote(self, write: Write) -> None:
        """Record a write."""
        with self._lock:
            self._writes.append(write)
            if write.outcome is Outcome.ACKNOWLEDGED:
                self._acknowledged.append(write.member)

    def read(self, read: Read) -> None:
        """Record a read."""
        with self._lock:
            self._reads.append(read)

    def some_acknowledged(self, rng: random.Random) -> str | None:
        """Return a member that a reader may query; recent ones are the most likely to be missing."""
        with self._lock:
            return rng.choice(self._acknowledged[-200:]) if self._acknowledged else None

    def take(self) -> tuple[list[Write], list[Read]]:
        """Return everything; the next round begins empty."""
        with self._lock:
            taken = self._writes, self._reads
            self._writes, self._reads, self._acknowledged = [], [], []
            return taken


class Client:
    """Finds the master and keeps a connection to it."""

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
        self._connection: ClientConnection | None = None
        self._port = 0
        self._clock = clock
        self._used = 0

    def step(self, key: str) -> bool:
        """
        Find the master if needed and use it once.

        :returns: false if it did not reply as expected: wait a little.
        """
        if self._connection is None:
            self._connection = self._find()
        return self._connection is not None and self._use(self._connection, key)

    def disconnect(self) -> None:
        """Close the connection; the next step queries the Sentinels first."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _use(self, connection: ClientConnection, key: str) -> bool:
        raise NotImplementedError

    def _find(self) -> ClientConnection | None:
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
    """Adds unique members to a set, each of them once."""

    def _use(self, connection: ClientConnection, key: str) -> bool:
        self._used += 1
        member = f"{self.name}:{self._used}"
        sent = self._clock()
        outcome, error = Outcome.ACKNOWLEDGED, ""
        try:
            connection.call("SADD", key, member)
        except ReplyError as problem:
            outcome, error = Outcome.FAILED, str(problem)
        except OSError as problem:
            outcome, error = Outcome.UNKNOWN, str(problem) or type(problem).__name__
        self._histories.wrote(Write(member, self._port, sent, self._clock(), outcome, error))
        if outcome is not Outcome.ACKNOWLEDGED:
            self.disconnect()
        return outcome is Outcome.ACKNOWLEDGED


class Reader(Client):
    """Queries acknowledged members."""

    def _use(self, connection: ClientConnection, key: str) -> bool:
        member = self._histories.some_acknowledged(self._rng)
        if member is None:
            return False
        sent = self._clock()
        try:
            found = connection.call("SISMEMBER", key, member) == 1
        except (OSError, ReplyError):
            self.disconnect()
            return False
        self._histories.read(Read(member, self._port, sent, found))
        if not found:
            self.disconnect()
        return found
