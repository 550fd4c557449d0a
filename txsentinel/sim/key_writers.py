"""Clients of a simulated fleet that ask the Sentinels for the master and write there, and what was acknowledged."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from twisted.internet.protocol import ClientFactory, Protocol, connectionDone

from txsentinel.sim.fleet import REDIS_PORT, SENTINEL_PORT, Fleet
from txsentinel.sim.host import SimHost
from txsentinel.sim.wiretap import Frames
from txsentinel.wire.resp import pack

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector, ITCPTransport, ITransport
    from twisted.python.failure import Failure

WRITE_PERIOD: Final = 0.004
"""Seconds between two writes of one client."""

SLOW_WRITE_PERIOD: Final = 0.1
"""The same when the fault is a while ago."""

FAST_SECONDS: Final = 2.0

REPLY_TIMEOUT: Final = 25.0
"""Seconds after which a client gives a connection up."""


class _WriterConnection(Protocol):
    def __init__(self, writer: KeyWriter) -> None:
        self._writer = writer
        self._frames = Frames()

    def connectionMade(self) -> None:
        """Send the first request."""
        self._writer.connected(self)

    def send(self, *words: bytes) -> None:
        """Send one request."""
        cast("ITransport", self.transport).write(pack(*words))

    def dataReceived(self, data: bytes) -> None:
        """Pass the replies on."""
        for reply in self._frames.feed(data):
            self._writer.replied(self, reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Look the master up again."""
        self._writer.lost(self)


class _WriterFactory(ClientFactory[_WriterConnection]):
    noisy = False

    def __init__(self, writer: KeyWriter) -> None:
        self._writer = writer

    def buildProtocol(self, addr: IAddress | None) -> _WriterConnection:
        """Build the protocol of a connection."""
        return _WriterConnection(self._writer)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Ask the next Sentinel."""
        self._writer.lost(None)


class KeyWriter:
    """A client that asks the Sentinels in turn for the master, and sets one new key after the other there."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet = fleet
        self._name = fleet.masters[0].name
        self._number = number
        self._sent = 0
        self._asked = number
        self._asking = False
        self._connection: _WriterConnection | None = None
        self._replied_at = 0.0
        self.acknowledged: dict[bytes, tuple[float, str]] = {}
        """Key → when it was acknowledged, and the IP of the server."""

        self.acknowledged_at = 0.0
        """When the last write was acknowledged."""

        self.server = ""
        self.fast_until = 0.0
        self.stopped = False
        self.host = SimHost(
            fleet.simulation, fleet.network, f"writer{number}", f"10.0.8.{number + 1}", lambda host: self._look_up()
        )

    def _look_up(self) -> None:
        if self.stopped:
            return
        self._asking = True
        self._asked += 1
        sentinel = self._fleet.sentinels[self._asked % len(self._fleet.sentinels)]
        factory = _WriterFactory(self)
        self.host.reactor.connectTCP(sentinel.host.ip, SENTINEL_PORT, factory, timeout=0.5)

    def connected(self, connection: _WriterConnection) -> None:
        """A connection is established: ask, or write."""
        self._connection = connection
        self._replied_at = self._fleet.simulation.seconds()
        if self._asking:
            connection.send(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._name.encode())
        else:
            self._write()
        self.host.reactor.callLater(REPLY_TIMEOUT, self._expire, connection)

    def _expire(self, connection: _WriterConnection) -> None:
        if connection is not self._connection:
            return
        if self._fleet.simulation.seconds() - self._replied_at >= REPLY_TIMEOUT - 1:
            cast("ITCPTransport", connection.transport).abortConnection()
        else:
            self.host.reactor.callLater(REPLY_TIMEOUT, self._expire, connection)

    def _key(self) -> bytes:
        return b"%b:w%d:%d" % (self._name.encode(), self._number, self._sent)

    def _write(self) -> None:
        if self._connection is not None and not self.stopped:
            self._sent += 1
            self._connection.send(b"SET", self._key(), b"1")

    def replied(self, connection: _WriterConnection, reply: object) -> None:
        """Handle a reply: an address, or the acknowledgement of a write."""
        self._replied_at = self._fleet.simulation.seconds()
        if self._asking:
            self._asking = False
            self._connection = None
            cast("ITCPTransport", connection.transport).abortConnection()
            if isinstance(reply, list) and isinstance(reply[0], bytes):
                self.server = reply[0].decode()
                self.host.reactor.connectTCP(self.server, REDIS_PORT, _WriterFactory(self), timeout=0.5)
            else:
                self.host.reactor.callLater(0.05, self._look_up)
            return
        if reply == b"OK":
            self.acknowledged[self._key()] = (self._replied_at, self.server)
            self.acknowledged_at = self._replied_at
            fast = self._replied_at < self.fast_until
            self.host.reactor.callLater(WRITE_PERIOD if fast else SLOW_WRITE_PERIOD, self._write)
        else:
            cast("ITCPTransport", connection.transport).abortConnection()

    def lost(self, connection: _WriterConnection | None) -> None:
        """A connection ended, or was not established: ask the next Sentinel."""
        if connection is self._connection:
            self._connection = None
            self.host.reactor.callLater(0.02, self._look_up)
