"""The output buffer of a connection: writes as fast as the transport accepts, and counts the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from zope.interface import classImplements

CHUNK: Final = 64 * 1024
"""
Maximum size in bytes of one write to the transport.

A transport pauses its producer when it buffers more than about this much. It therefore never holds more than two
chunks, and ``Output.unsent`` is accurate except for those.
"""


def no_callback() -> None:
    """Replace the callback of a lost connection."""


class Output:
    """
    A push producer for the transport of one connection.

    ``unsent`` is the number of bytes that the transport has not accepted, which measures a slow reader.

    :param drained: called each time ``unsent`` has become zero.
    """

    def __init__(self, transport: Any, drained: Callable[[], None]) -> None:
        self._transport = transport
        self._drained = drained
        self._chunks: deque[bytes] = deque()
        self._stopped = False
        self._gone = False
        self._detached = False
        self.closing = False
        self.unsent = 0

    def start(self) -> None:
        """Register as the producer of the transport."""
        self._transport.registerProducer(self, True)

    @property
    def pieces(self) -> int:
        """Number of chunks that wait for the transport."""
        return len(self._chunks)

    def write(self, encoded: bytes) -> None:
        """Write the bytes, or buffer them until the transport accepts them."""
        if self.closing:
            return
        if not self._stopped and not self._chunks and len(encoded) <= CHUNK:
            self._transport.write(encoded)
            return
        self.unsent += len(encoded)
        if len(encoded) <= CHUNK:
            self._chunks.append(encoded)
        else:
            self._chunks.extend(encoded[start : start + CHUNK] for start in range(0, len(encoded), CHUNK))
        self._pump()

    def close(self) -> None:
        """Close the connection when all output has been sent."""
        if not self.closing:
            self.closing = True
            self._close_if_done()

    def abort(self) -> None:
        """Close the connection now, even if it is closing already; unsent output is lost."""
        if not self._detached:
            self.closing = True
            if not self._gone:
                self._transport.unregisterProducer()
            self.discard()
            self._transport.abortConnection()

    def discard(self) -> None:
        """Drop the buffer after the connection is lost."""
        self._gone = self._detached = True
        self._chunks.clear()
        self.unsent = 0
        # The callback refers to this object: break the cycle.
        self._drained = no_callback

    def pauseProducing(self) -> None:
        """Stop writing: the buffer of the transport is full."""
        self._stopped = True

    def resumeProducing(self) -> None:
        """Continue writing: the buffer of the transport has space."""
        self._stopped = False
        self._pump()
        if not self._stopped and not self._chunks and not self.closing:
            self._drained()

    def stopProducing(self) -> None:
        """Drop the buffer: the transport accepts no more output."""
        self.closing = True
        self.discard()

    def _pump(self) -> None:
        while self._chunks and not self._stopped:
            chunk = self._chunks.popleft()
            self.unsent -= len(chunk)
            self._transport.write(chunk)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.closing and not self._chunks and not self._gone:
            self._gone = True
            self._transport.unregisterProducer()
            self._transport.loseConnection()


classImplements(Output, IPushProducer)
