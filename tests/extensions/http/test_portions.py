"""Responses that are written in portions."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.extensions.http.limits import STALL_TIMEOUT_SECONDS
from txsentinel.extensions.http.portions import MAX_PORTION_BYTES, PortionProducer


class FullRequest:
    """A request whose transport has its producer pause after each write, until :meth:`drain`."""

    def __init__(self) -> None:
        self.producer: PortionProducer | None = None
        self.written = 0
        self.finished = False
        self.aborted = False

    def notifyFinish(self) -> Deferred[None]:
        """Return a result that never fires."""
        return Deferred()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Take the producer."""
        assert isinstance(producer, PortionProducer)
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self.producer = None

    def write(self, data: bytes) -> None:
        """Take data, and be full."""
        self.written += len(data)
        if self.producer is not None:
            self.producer.pauseProducing()

    def drain(self) -> None:
        """The client has read everything."""
        if self.producer is not None:
            self.producer.resumeProducing()

    def finish(self) -> None:
        """End the response."""
        self.finished = True

    def abort(self) -> None:
        """Close the connection."""
        self.aborted = True


class StallTests(SynchronousTestCase):
    """Clients that do not read."""

    def begin(self, portions: int) -> None:
        """Begin a response of so many portions."""
        self.clock, self.request = Clock(), FullRequest()
        parts: Iterator[bytes] = iter([b"x" * MAX_PORTION_BYTES] * (portions - 1) + [b"end"])
        PortionProducer(self.request, parts, self.clock).start()
        self.clock.advance(0)

    def test_stalled(self) -> None:
        """The connection of a client that reads nothing for a while is closed."""
        self.begin(3)
        self.clock.advance(STALL_TIMEOUT_SECONDS + 1)
        self.assertTrue(self.request.aborted)
        self.assertEqual(self.request.written, MAX_PORTION_BYTES)

    def test_finished(self) -> None:
        """A response whose last portion filled the transport is finished: no timer remains."""
        self.begin(3)
        while not self.request.finished:
            self.request.drain()
            self.clock.advance(0)
        self.assertEqual(self.request.written, 2 * MAX_PORTION_BYTES + len(b"end"))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.request.aborted)
