"""The latest events in memory, and their delivery as server-sent events."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from txsentinel.extensions.http.limits import MAX_STREAMS
from txsentinel.extensions.http.portions import StallTimer
from txsentinel.extensions.http.problem import Problem, bad_request, shown
from txsentinel.extensions.http.protocol import HttpRequest
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, json_response
from txsentinel.interfaces import ISentinelView
from txsentinel.model.snapshots import Instant, ViewChange

MAX_EVENTS: Final = 1000
"""Events that are kept for clients that come back."""

KEEPALIVE_SECONDS: Final = 15.0
"""Interval of comment lines, by which proxies and clients know that the connection is alive."""

MAX_BATCH: Final = 100
"""Events that are written in one turn."""

EVENT_STREAM: Final = "text/event-stream"

_EVENT_ID: Final = re.compile("(?:([0-9a-f]{8})-)?([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event of the Sentinel; ``sequence`` counts from 1 in each process."""

    sequence: int
    at: Instant
    channel: str
    payload: str
    master: str | None


class EventLog:
    """
    Keeps the latest events of a Sentinel and notifies streams of new ones.

    The ID of an event contains the run ID: after a restart, clients learn that they may have missed events.
    """

    def __init__(self, view: ISentinelView, wall_clock: Callable[[], float]) -> None:
        self._view = view
        self._wall_clock = wall_clock
        self._run = view.identity().run_id[:8]
        self._events: deque[PublishedEvent] = deque(maxlen=MAX_EVENTS)
        self._observers: list[Callable[[], None]] = []
        self._cancel: Callable[[], None] | None = None
        self.last = 0
        """The sequence number of the latest event."""

    def start(self) -> None:
        """Begin to receive events."""
        self._cancel = self._view.subscribe(self._changed, changes=False)

    def stop(self) -> None:
        """Receive nothing more."""
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def observe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after each event; the function that is returned ends that."""
        self._observers.append(callback)
        return lambda: self._observers.remove(callback)

    def event_id(self, sequence: int) -> str:
        """Return the ID of an event for clients."""
        return f"{self._run}-{sequence}"

    def position(self, text: str) -> tuple[int, bool]:
        """
        Return the sequence number in an ID, and whether events between it and the first one to come are missing.

        :raises Problem: if the text is no ID.
        """
        match = _EVENT_ID.fullmatch(text)
        if match is None:
            raise bad_request(f"{shown(text)} is not the ID of an event")
        sequence = int(match[2])
        if (match[1] is not None and match[1] != self._run) or sequence > self.last:
            return self.first - 1, True
        return (self.first - 1, True) if sequence < self.first - 1 else (sequence, False)

    @property
    def first(self) -> int:
        """The sequence number of the oldest event that is kept, or of the next one if there is none."""
        return self._events[0].sequence if self._events else self.last + 1

    def after(self, sequence: int, limit: int = MAX_EVENTS) -> Iterator[PublishedEvent]:
        """Return the oldest events with a greater sequence number."""
        start = max(sequence + 1 - self.first, 0)
        for place in range(start, min(start + limit, len(self._events))):
            yield self._events[place]

    def _changed(self, change: ViewChange) -> None:
        event = change.event
        if event is None:
            return
        self.last += 1
        at = Instant(int(self._wall_clock() * 1000))
        self._events.append(PublishedEvent(self.last, at, event.channel, event.payload, event.master))
        for observer in list(self._observers):
            observer()


@implementer(IPushProducer)
class EventResponse:
    """
    Sends the events of a log to one client until it disconnects.

    A client that reads slowly gets what is still in the log when it reads on, after an event ``gap`` if something is
    not. ``is_allowed`` is called at each keepalive; without permission the stream ends.

    :param streams: the open streams; this one is among them from its start to its end.
    """

    def __init__(
        self,
        log: EventLog,
        clock: IReactorTime,
        position: int,
        gap: bool,
        master: str | None,
        is_allowed: Callable[[], bool],
        streams: list[EventResponse],
    ) -> None:
        self._log = log
        self._clock = clock
        self._position = position
        self._gap = gap
        self._master = master
        self._is_allowed = is_allowed
        self._streams = streams
        self._request: HttpRequest | None = None
        self._paused = False
        self._scheduled = False
        self._keepalive: IDelayedCall | None = None
        self._stop_observing: Callable[[], None] | None = None
        self._stall: StallTimer | None = None

    def start(self, request: HttpRequest) -> None:
        """Send the headers and what is in the log."""
        self._request = request
        self._streams.append(self)
        self._stall = StallTimer(self._clock, request.abort)
        request.notifyFinish().addBoth(lambda _: self._finished())
        request.start_response(ApiResponse(content_type=EVENT_STREAM, headers=(("X-Accel-Buffering", "no"),)))
        if request.method == b"HEAD":
            request.finish()
            return
        request.registerProducer(self, True)
        request.write(b"retry: 1000\n\n")
        self._stop_observing = self._log.observe(self._schedule)
        self._keepalive = self._clock.callLater(KEEPALIVE_SECONDS, self._keep_alive)
        self._schedule()

    def close(self) -> None:
        """End the response."""
        request = self._request
        if request is not None and request.is_connected and self._stop_observing is not None:
            request.unregisterProducer()
            request.finish()

    def pauseProducing(self) -> None:
        """Wait until the client has read more."""
        self._paused = True
        if self._stall is not None:
            self._stall.start()

    def resumeProducing(self) -> None:
        """Continue."""
        self._paused = False
        if self._stall is not None:
            self._stall.stop()
        self._schedule()

    def stopProducing(self) -> None:
        """Send nothing more: the connection is closed."""
        self._paused = True

    def _finished(self) -> None:
        self._request = None
        if self._stall is not None:
            self._stall.stop()
        if self._keepalive is not None and self._keepalive.active():
            self._keepalive.cancel()
        if self._stop_observing is not None:
            self._stop_observing()
            self._stop_observing = None
        self._streams.remove(self)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._send)

    def _send(self) -> None:
        self._scheduled = False
        request = self._request
        if request is None or self._paused:
            return
        lines = []
        if self._gap or self._position < self._log.first - 1:
            self._gap = False
            self._position = max(self._position, self._log.first - 1)
            lines.append('event: gap\ndata: {"text": "events may be missing before the next one"}\n\n')
        for event in self._log.after(self._position, MAX_BATCH):
            self._position = event.sequence
            if self._master in (None, event.master):
                lines.append(
                    f"id: {self._log.event_id(event.sequence)}\nevent: {event.channel}\n"
                    f"data: {json.dumps(event_document(event))}\n\n"
                )
        if lines:
            request.write("".join(lines).encode())
        if self._position < self._log.last:
            self._schedule()

    def _keep_alive(self) -> None:
        request = self._request
        if request is None:
            return
        if not self._is_allowed():
            self.close()
            return
        self._keepalive = self._clock.callLater(KEEPALIVE_SECONDS, self._keep_alive)
        if not self._paused:
            request.write(b":\n\n")


def event_document(event: PublishedEvent) -> dict[str, object]:
    """Return an event as it is shown to clients."""
    return {
        "sequence": event.sequence,
        "at": event.at.rfc3339(),
        "channel": event.channel,
        "payload": event.payload,
        "master": event.master,
    }


class Streams:
    """The open streams, and the handler of their route."""

    def __init__(self, log: EventLog, clock: IReactorTime, may_read: Callable[[ApiRequest], bool]) -> None:
        self._log = log
        self._clock = clock
        self._may_read = may_read
        self._streams: list[EventResponse] = []

    def __len__(self) -> int:
        """Return how many streams are open."""
        return len(self._streams)

    def events(self, request: ApiRequest) -> ApiResponse | EventResponse:
        """Answer by a stream, or by a list of the latest events if the client accepts only JSON."""
        text = request.headers.get("last-event-id") or request.query.get("after")
        position, gap = (self._log.last, False) if text is None else self._log.position(text)
        master = request.query.get("master")
        accept = request.headers.get("accept", "")
        if "application/json" in accept and EVENT_STREAM not in accept:
            if text is None:
                position = self._log.first - 1
            found = [each for each in self._log.after(position) if master in (None, each.master)]
            return json_response(event_document(each) for each in found)
        if len(self._streams) >= MAX_STREAMS:
            headers = [("Retry-After", "5")]
            raise Problem(503, "too_many_streams", f"{MAX_STREAMS} clients receive events already", headers=headers)
        return EventResponse(
            self._log, self._clock, position, gap, master, lambda: self._may_read(request), self._streams
        )

    def close(self) -> None:
        """End all streams."""
        for stream in list(self._streams):
            stream.close()
