"""The other ends of TLS connections, in memory and by Python's ``ssl``, which is independent of the tested code."""

from __future__ import annotations

import ssl
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

NEAR = IPv4Address("TCP", "127.0.0.1", 26380)
FAR = IPv4Address("TCP", "127.0.0.1", 40_001)


@implementer(ITCPTransport)
class Line(StringTransport):
    """A fake TCP transport with a buffer like that of a socket."""

    available_descriptors = 64 * 1024
    """Bytes in the buffer at which the producer is paused."""

    def __init__(self) -> None:
        super().__init__(hostAddress=NEAR, peerAddress=FAR)
        self.protocol: Any = None
        self.aborted = False
        self.over = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None and len(self.value()) > self.available_descriptors and not self.held_up:
            self.held_up = True
            self.producer.pauseProducing()

    held_up = False

    def taken(self) -> bytes:
        """Empty the buffer."""
        value = bytes(self.value())
        self.clear()
        if self.held_up:
            self.held_up = False
            assert self.producer is not None
            self.producer.resumeProducing()
        return value

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As it should be."""

    def getTcpNoDelay(self) -> bool:
        """As it should be."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """As it should be."""

    def getTcpKeepAlive(self) -> bool:
        """As it should be."""
        return True

    def loseWriteConnection(self) -> None:
        """Refuse: TLS does not close one direction only."""
        raise NotImplementedError

    def getHandle(self) -> None:
        """Return no socket."""

    def abortConnection(self) -> None:
        self.aborted = True

    def end(self, error: Exception | None = None) -> None:
        """End the connection."""
        if not self.over:
            self.over = True
            closed = ConnectionAborted() if self.aborted else ConnectionDone()
            self.protocol.connectionLost(Failure(error or closed))


class FarEnd:
    """
    Somebody who speaks TLS with one of our protocols.

    :param server: is it the side that shows its certificate first?
    """

    def __init__(self, context: ssl.SSLContext, server: bool = False) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=server)
        self.handshake_done = False
        self.problem: str | None = None
        self.heard = b""
        self.farewell = False

    def speak(self) -> bytes:
        """Continue the handshake and read; return the bytes to send."""
        try:
            if not self.handshake_done:
                self.tls.do_handshake()
                self.handshake_done = True
            while True:
                chunk = self.tls.read(65536)
                if not chunk:
                    self.farewell = True
                    break
                self.heard += chunk
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.farewell = True
        except ssl.SSLError as error:
            self.problem = self.problem or error.reason
        return self._out.read()

    def listen(self, data: bytes) -> None:
        """Receive bytes."""
        self._in.write(data)

    def take(self) -> bytes:
        """Return the data received since the last call."""
        heard, self.heard = self.heard, b""
        return heard


def converse(line: Line, far: FarEnd, rounds: int = 10) -> None:
    """Transfer bytes in both directions until there are no more."""
    for _ in range(rounds):
        said = far.speak()
        if said and not line.over:
            line.protocol.dataReceived(said)
        answered = line.taken()
        if answered:
            far.listen(answered)
        elif not said:
            break
    if line.disconnecting or line.aborted:
        line.end()
