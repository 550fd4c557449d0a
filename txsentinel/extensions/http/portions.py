"""Writes a response in portions, as fast as the client reads it, without keeping the reactor busy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from txsentinel.extensions.http.limits import STALL_TIMEOUT_SECONDS, TIME_SLICE_SECONDS
from txsentinel.model.time_slice import TimeSlice

MAX_PORTION_BYTES: Final = 64 * 1024
"""Bytes that are passed to the transport in one turn at most."""


class IBodyWriter(Protocol):
    """The part of ``twisted.web.http.Request`` that takes a body."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Announce who is paused and resumed."""

    def unregisterProducer(self) -> None:
        """End that."""

    def notifyFinish(self) -> Deferred[None]:
        """Return what fails when the connection is closed."""

    def write(self, data: bytes) -> None:
        """Send a part of the body."""

    def finish(self) -> None:
        """End the response."""

    def abort(self) -> None:
        """Close the connection at once."""


def portion(parts: Iterator[bytes], clock: IReactorTime) -> tuple[bytes, bool]:
    """
    Return the next part of a body, and whether it was the last.

    It ends after ``TIME_SLICE_SECONDS`` or ``MAX_PORTION_BYTES``.
    """
    time_slice = TimeSlice(clock.seconds, TIME_SLICE_SECONDS)
    chunks: list[bytes] = []
    size = 0
    for chunk in parts:
        chunks.append(chunk)
        size += len(chunk)
        if size >= MAX_PORTION_BYTES or time_slice.over():
            return b"".join(chunks), False
    return b"".join(chunks), True


class StallTimer:
    """
    Closes a connection whose client does not read.

    :param close: closes it.
    """

    def __init__(self, clock: IReactorTime, close: Callable[[], None]) -> None:
        self._clock = clock
        self._close = close
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to wait for the client, if that was not begun already."""
        if self._call is None:
            self._call = self._clock.callLater(STALL_TIMEOUT_SECONDS, self._expire)

    def stop(self) -> None:
        """End the wait."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _expire(self) -> None:
        self._call = None
        self._close()


@implementer(IPushProducer)
class PortionProducer:
    """
    Sends the rest of a body, one portion in each turn of the reactor.

    If an iterator fails after the beginning was sent, the failure is logged and the connection closed: the client then
    sees that the body is not complete.
    """

    _log = Logger(namespace=__name__)

    def __init__(self, request: IBodyWriter, parts: Iterator[bytes], clock: IReactorTime) -> None:
        self._request = request
        self._parts = parts
        self._clock = clock
        self._paused = False
        self._scheduled = False
        self._ended = False
        self._stall = StallTimer(clock, request.abort)

    def start(self) -> None:
        """Begin with the next turn."""
        self._request.notifyFinish().addErrback(lambda _: self.stopProducing())
        self._request.registerProducer(self, True)
        self._schedule()

    def pauseProducing(self) -> None:
        """Wait until the client has read more."""
        self._paused = True
        self._stall.start()

    def resumeProducing(self) -> None:
        """Continue."""
        self._paused = False
        self._stall.stop()
        self._schedule()

    def stopProducing(self) -> None:
        """Send nothing more: the connection is closed."""
        self._ended = True
        self._stall.stop()

    def _schedule(self) -> None:
        if not (self._scheduled or self._paused or self._ended):
            self._scheduled = True
            self._clock.callLater(0, self._continue)

    def _continue(self) -> None:
        self._scheduled = False
        if self._ended or self._paused:
            return
        try:
            data, last = portion(self._parts, self._clock)
        except Exception:
            self._log.failure("HTTP: a response could not be completed")
            self.stopProducing()
            self._request.unregisterProducer()
            self._request.abort()
            return
        self._request.write(data)
        if last:
            # The transport may have paused this producer because of the last portion.
            self.stopProducing()
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._schedule()
