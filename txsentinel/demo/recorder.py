"""Record the events of many Sentinels, with the time at which each arrived."""

from __future__ import annotations

import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from txsentinel.demo.blocking import (
    MAX_WAIT_SECONDS,
    REPLY_TIMEOUT_SECONDS,
    Connection,
    DeadlineExpired,
    ReplyError,
)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One published event; ``at`` is its arrival in ``time.monotonic()`` seconds."""

    at: float
    sentinel: str
    channel: str
    payload: str


class EventRecorder:
    """
    Subscribes to every event of every given Sentinel, in one thread; reconnects after each loss.

    :param ports: port by name of the Sentinel.
    :param on_event: called in that thread for every event; must return at once and not raise.
    :param password: required by the Sentinels.
    :param limit: how many events are kept, the newest; by default all.
    """

    _RETRY_SECONDS = 0.05
    _CONNECT_SECONDS = 0.5

    def __init__(
        self,
        ports: Mapping[str, int],
        on_event: Callable[[RecordedEvent], None] | None = None,
        limit: int | None = None,
        password: str | None = None,
    ) -> None:
        self._ports = dict(ports)
        self._event_received = on_event
        self._password = password
        self._events: deque[RecordedEvent] = deque(maxlen=limit)
        self._changed = threading.Condition()
        self._subscriptions: dict[str, Connection] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-recorder", daemon=True)

    def start(self, seconds: float = MAX_WAIT_SECONDS) -> EventRecorder:
        """
        Begin, and return once every Sentinel has confirmed the subscription.

        :raises DeadlineExpired: if one of them does not within ``seconds``.
        """
        self._thread.start()
        self.wait_subscribed(seconds)
        return self

    def stop(self) -> None:
        """End the thread and close the connections."""
        self._stopping.set()
        self._thread.join()

    def wait_subscribed(self, seconds: float = MAX_WAIT_SECONDS) -> None:
        """
        Wait until there is a subscription to every Sentinel (again).

        :raises DeadlineExpired: after ``seconds``.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._subscriptions) == len(self._ports), seconds):
                missing = sorted(set(self._ports) - set(self._subscriptions))
                raise DeadlineExpired(f"waited {seconds:g} s in vain for a subscription to {missing}")

    @property
    def events(self) -> list[RecordedEvent]:
        """The events so far, in order of arrival; a copy."""
        with self._changed:
            return list(self._events)

    def since(self, at: float, channel: str | None = None, sentinel: str | None = None) -> list[RecordedEvent]:
        """Events that arrived at ``at`` or later, of one channel or one Sentinel if these are given."""
        return [
            event
            for event in self.events
            if event.at >= at and channel in (None, event.channel) and sentinel in (None, event.sentinel)
        ]

    def wait_for(self, found: Callable[[list[RecordedEvent]], bool], seconds: float, what: str) -> None:
        """
        Wait until ``found`` returns a true value for the list of all events.

        :raises DeadlineExpired: after ``seconds``.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: found(list(self._events)), seconds):
                tail = [f"{event.sentinel} {event.channel} {event.payload}" for event in list(self._events)[-8:]]
                raise DeadlineExpired(f"waited {seconds:g} s in vain for {what}; last events: {tail}")

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            retry_at = 0.0
            while not self._stopping.is_set():
                if time.monotonic() >= retry_at:
                    self._subscribe_missing(selector)
                    retry_at = time.monotonic() + self._RETRY_SECONDS
                for key, _ in selector.select(self._RETRY_SECONDS):
                    self._read(selector, key.data)
            for connection in self._subscriptions.values():
                connection.close()

    def _subscribe_missing(self, selector: selectors.BaseSelector) -> None:
        for name, port in self._ports.items():
            if name in self._subscriptions:
                continue
            try:
                connection = Connection(port, self._password, timeout=self._CONNECT_SECONDS)
            except (OSError, ReplyError):
                continue
            try:
                connection.call("PSUBSCRIBE", "*")
                connection.set_timeout(REPLY_TIMEOUT_SECONDS)  # The rest of an event may be late.
            except Exception:
                # Refused or gone during its start: the next round tries again.
                connection.close()
                continue
            selector.register(connection, selectors.EVENT_READ, name)
            with self._changed:
                self._subscriptions[name] = connection
                self._changed.notify_all()

    def _read(self, selector: selectors.BaseSelector, name: str) -> None:
        connection = self._subscriptions[name]
        try:
            frames = [connection.read_reply()]
            while connection.has_buffered:
                frames.append(connection.read_reply())
        except (OSError, ValueError):
            selector.unregister(connection)
            connection.close()
            with self._changed:
                del self._subscriptions[name]
            return
        arrived = time.monotonic()
        on_event = [
            RecordedEvent(arrived, name, str(frame[2]), str(frame[3]))
            for frame in frames
            if isinstance(frame, list) and len(frame) == 4 and frame[0] == "pmessage"
        ]
        with self._changed:
            self._events += on_event
            self._changed.notify_all()
        if self._event_received is not None:
            for event in on_event:
                self._event_received(event)
