"""The events of several Sentinels: received in threads, and merged where several publish the same."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.reports import as_text
from txsentinel.wire.replies import NeedMore

RETRY_SECONDS: Final = 1.0
"""Between two attempts to connect."""

SILENCE_SECONDS: Final = 15.0
"""After that time without a message, PING is sent; a Sentinel that does not answer it is connected anew."""

LOST: Final = "connection lost"
CONNECTED: Final = "connected"


@dataclass(frozen=True)
class ReceivedEvent:
    """
    One message of one Sentinel.

    ``at`` is our wall clock in seconds. The channel is :data:`LOST` or :data:`CONNECTED` for the connection itself.
    """

    at: float
    sentinel: Endpoint
    channel: str
    payload: str

    @property
    def master(self) -> str | None:
        """The master that the event is about; ``None`` for events of the Sentinel itself."""
        return master_of(self.channel, self.payload)


def master_of(channel: str, payload: str) -> str | None:
    """Return the name of the master that an event is about, ``None`` if it is about none."""
    after = payload.partition(" @ ")[2]
    if after:
        return after.partition(" ")[0]
    if payload.startswith("master "):
        words = payload.split(" ")
        return words[1] if len(words) > 1 else None
    if channel == "+switch-master":
        return payload.partition(" ")[0]
    return None


@dataclass
class MergedEvent:
    """An event with the Sentinels that published it, in the order of arrival."""

    at: float
    channel: str
    payload: str
    sentinels: list[Endpoint]
    repeated: int = 0
    """How many more times the same Sentinels published it."""


class EventMerger:
    """
    Merges equal events that arrive within a time.

    :param window: seconds after the first one during which others are counted as the same.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._open: dict[tuple[str, str], MergedEvent] = {}

    def add(self, event: ReceivedEvent) -> None:
        """Add an event; those of connections are never merged with others."""
        key = (event.channel, event.payload)
        found = self._open.get(key)
        if found is None:
            self._open[key] = MergedEvent(event.at, event.channel, event.payload, [event.sentinel])
        elif event.sentinel in found.sentinels:
            found.repeated += 1
        else:
            found.sentinels.append(event.sentinel)

    def due(self, now: float) -> list[MergedEvent]:
        """Remove and return the events whose time is over, oldest first."""
        over = [key for key, event in self._open.items() if now - event.at >= self._window]
        return sorted((self._open.pop(key) for key in over), key=lambda event: event.at)


class EventStream:
    """Receives the events of Sentinels in one thread for each; the threads end with the process or :meth:`close`."""

    def __init__(self, sentinels: Iterable[Endpoint], settings: ConnectionSettings, pattern: str = "*") -> None:
        self._settings = settings
        self._pattern = pattern
        self._queue: queue.SimpleQueue[ReceivedEvent] = queue.SimpleQueue()
        self._closed = threading.Event()
        for each in sentinels:
            threading.Thread(target=self._receive, args=(each,), daemon=True, name=f"events of {each}").start()

    def close(self) -> None:
        """End the threads, each within the time of a read."""
        self._closed.set()

    def next_event(self, seconds: float) -> ReceivedEvent | None:
        """Return the next event; ``None`` if none arrives in time."""
        try:
            return self._queue.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return None

    def _put(self, sentinel: Endpoint, channel: str, payload: str) -> None:
        self._queue.put(ReceivedEvent(time.time(), sentinel, channel, payload))

    def _receive(self, sentinel: Endpoint) -> None:
        reported = ""
        while not self._closed.is_set():
            try:
                with RemoteConnection(sentinel, self._settings) as connection:
                    connection.send(("PSUBSCRIBE", self._pattern))
                    connection.read()
                    self._put(sentinel, CONNECTED, "")
                    reported = ""
                    self._receive_from(connection)
            except (ConnectionFailed, ErrorAnswer) as problem:
                # A Sentinel that stays away is reported once.
                if str(problem) != reported:
                    self._put(sentinel, LOST, str(problem))
                    reported = str(problem)
            self._closed.wait(RETRY_SECONDS)

    def _receive_from(self, connection: RemoteConnection) -> None:
        last = time.monotonic()
        pinged = False
        while not self._closed.is_set():
            reply = connection.received()
            if isinstance(reply, NeedMore):
                connection.receive_available(1.0)
                silent = time.monotonic() - last
                if silent > SILENCE_SECONDS * 2:
                    raise ConnectionFailed("no answer in time")
                if silent > SILENCE_SECONDS and not pinged:
                    connection.send(("PING",))
                    pinged = True
                continue
            last, pinged = time.monotonic(), False
            if isinstance(reply, list) and len(reply) == 4 and reply[0] == b"pmessage":
                self._put(connection.endpoint, as_text(reply[2]), as_text(reply[3]))
