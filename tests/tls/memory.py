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
class BufferedTransport(StringTransport):
    """A fake TCP transport with a buffer like that of a socket."""

    buffer_size = 64 * 1024
    """Bytes in the buffer at which the producer is paused."""

    def __init__(self) -> None:
        super().__init__(hostAddress=NEAR, peerAddress=FAR)
        self.protocol: Any = None
        self.aborted = False
        self.over = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None and len(self.value()) > self.buffer_size and not self.is_full:
            self.is_full = True
            self.producer.pauseProducing()

    is_full = False

    def take_output(self) -> bytes:
        """Empty the buffer."""
        value = bytes(self.value())
        self.clear()
        if self.is_full:
            self.is_full = False
            assert self.producer is not None
            self.producer.resumeProducing()
        return value

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Ignore the option."""

    def getTcpNoDelay(self) -> bool:
        """Return True."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Ignore the option."""

    def getTcpKeepAlive(self) -> bool:
        """Return True."""
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


class TlsPeer:
    """
    The TLS peer of one of our protocols.

    :param server: whether it is the server side of TLS.
    """

    def __init__(self, context: ssl.SSLContext, server: bool = False) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=server)
        self.handshake_done = False
        self.problem: str | None = None
        self.received = b""
        self.close_notify = False

    def next_output(self) -> bytes:
        """Continue the handshake and read; return the bytes to send."""
        try:
            if not self.handshake_done:
                self.tls.do_handshake()
                self.handshake_done = True
            while True:
                chunk = self.tls.read(65536)
                if not chunk:
                    self.close_notify = True
                    break
                self.received += chunk
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.close_notify = True
        except ssl.SSLError as error:
            self.problem = self.problem or error.reason
        return self._out.read()

    def receive(self, data: bytes) -> None:
        """Receive bytes."""
        self._in.write(data)

    def take(self) -> bytes:
        """Return the data received since the last call."""
        received, self.received = self.received, b""
        return received


def exchange(line: BufferedTransport, far: TlsPeer, rounds: int = 10) -> None:
    """Transfer bytes in both directions until there are no more."""
    for _ in range(rounds):
        output = far.next_output()
        if output and not line.over:
            line.protocol.dataReceived(output)
        reply = line.take_output()
        if reply:
            far.receive(reply)
        elif not output:
            break
    if line.disconnecting or line.aborted:
        line.end()
