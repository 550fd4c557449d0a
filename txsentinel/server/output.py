"""The way out of a connection: hands bytes on as fast as the transport takes them, and counts the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from zope.interface import classImplements

CHUNK: Final = 64 * 1024
"""
Bytes handed to the transport at a time.

A transport stops its producer when it holds more than about this much, so what it has taken and not
sent is never more than two chunks, and ``Output.unsent`` is the truth but for those.
"""


def _no_callback() -> None:
    """Stands in for whoever wanted to know of room."""


class Output:
    """
    A producer for the transport of one connection.

    ``unsent`` counts the bytes that the transport has no room for, the measure of a slow reader;
    ``drained`` is called whenever it has come down to zero.
    """

    def __init__(self, transport: Any, drained: Callable[[], None]) -> None:
        self._transport = transport
        self._drained = drained
        self._chunks: deque[bytes] = deque()
        self._stopped = False
        self._gone = False
        self._over = False
        self.closing = False
        self.unsent = 0

    def start(self) -> None:
        """Ask the transport to tell when it has enough."""
        self._transport.registerProducer(self, True)

    @property
    def pieces(self) -> int:
        """How many pieces wait for the transport."""
        return len(self._chunks)

    def write(self, encoded: bytes) -> None:
        """Send, or keep until there is room."""
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
        """Close the connection once everything written so far has been sent."""
        if not self.closing:
            self.closing = True
            self._close_if_done()

    def abort(self) -> None:
        """Close the connection now, even if it is closing already; what is unsent is lost."""
        if not self._over:
            self.closing = True
            if not self._gone:
                self._transport.unregisterProducer()
            self.forget()
            self._transport.abortConnection()

    def forget(self) -> None:
        """The connection is gone: drop what is left."""
        self._gone = self._over = True
        self._chunks.clear()
        self.unsent = 0
        # Whoever wanted to know holds us, too.
        self._drained = _no_callback

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self._stopped = True

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._stopped = False
        self._pump()
        if not self._stopped and not self._chunks and not self.closing:
            self._drained()

    def stopProducing(self) -> None:
        """The transport will take no more."""
        self.closing = True
        self.forget()

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
