"""A network in memory for tests of clients: real connectors, a fake clock, servers that a test can stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.base import BaseConnector, ReactorBase
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Client
from twisted.python.failure import Failure

from txsentinel.model.timings import Limits
from txsentinel.wire.requests import RequestParser
from txsentinel.wire.resp import NULL_ARRAY, ErrorReply, Simple, Value, data, encode


class End:
    """One end of a connection. Data and the end of the connection arrive at the other end in a later turn, in order."""

    disconnecting = False
    producer: object = None

    def __init__(self, net: MemoryNet, address: IPv4Address, ended: Callable[[Failure], None]) -> None:
        self._net = net
        self._address = address
        self._ended = ended
        self.protocol: Protocol
        self.peer: End
        self.connected = True

    def write(self, chunk: bytes) -> None:
        """Send, unless the connection is closed."""
        if self.connected and not self.disconnecting and chunk:
            self._net.callLater(0, self.peer.deliver, chunk)

    def writeSequence(self, chunks: list[bytes]) -> None:
        """Send everything in one write."""
        self.write(b"".join(chunks))

    def deliver(self, chunk: bytes) -> None:
        """Pass received data to the protocol."""
        if self.connected:
            self.protocol.dataReceived(chunk)

    def loseConnection(self) -> None:
        """Close after sending the data."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._net.callLater(0, self._over, ConnectionDone())
            self._net.callLater(0, self.peer._over, ConnectionDone())

    def abortConnection(self) -> None:
        """Close at once."""
        if self.connected:
            self.disconnecting = True
            self._net.callLater(0, self._over, ConnectionAborted())
            self._net.callLater(0, self.peer._over, ConnectionLost())

    def pauseProducing(self) -> None:
        """Ignore the call: a transport may deliver data that it has read already."""

    resumeProducing = pauseProducing

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Record the producer, which a test pauses and resumes: there is no limit of what may be on its way."""
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Remove the producer."""
        self.producer = None

    def loseWriteConnection(self) -> None:
        """End the output; an end of another protocol is closed by it."""
        self._net.callLater(0, self.peer.output_ended)

    def output_ended(self) -> None:
        """Notify the protocol that no more data arrives, or close."""
        if self.connected:
            if IHalfCloseableProtocol.providedBy(self.protocol):
                cast(Any, self.protocol).readConnectionLost()
            else:
                self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """Return the address of the server."""
        return self._address

    getHost = getPeer

    def _over(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            failure = Failure(reason)
            self.protocol.connectionLost(failure)
            self._ended(failure)


class PendingAttempt:
    """The pending attempt of a connector."""

    def __init__(self, connector: MemoryConnector) -> None:
        self._connector = connector

    def failIfNotConnected(self, reason: Exception) -> None:
        """Cancel the attempt."""
        self._connector.connectionFailed(Failure(reason))


class MemoryConnector(BaseConnector):
    """Twisted's connector over this network."""

    def __init__(self, net: MemoryNet, port: int, factory: ClientFactory, timeout: float) -> None:
        super().__init__(factory, timeout, cast(ReactorBase, net))
        self._net = net
        self._port = port

    def _makeTransport(self) -> Client:
        self._net.attempts.append(self._port)
        pending = PendingAttempt(self)
        if self._port not in self._net.black_holes:
            self._net.callLater(0, self._reach, pending)
        return cast(Client, pending)

    def getDestination(self) -> IAddress:
        """Return the destination."""
        return IPv4Address("TCP", "127.0.0.1", self._port)

    def _reach(self, pending: PendingAttempt) -> None:
        if self.state != "connecting":
            return
        current: object = self.transport
        if current is not pending:
            return
        listener = self._net.listeners.get(self._port)
        if listener is None:
            self.connectionFailed(Failure(ConnectionRefusedError()))
            return
        address = IPv4Address("TCP", "127.0.0.1", self._port)
        near = End(self._net, address, self.connectionLost)
        far = End(self._net, address, lambda reason: self._net.open.remove(far))
        near.peer, far.peer = far, near
        self._net.open.append(far)
        far.protocol = listener(address)
        protocol: object = self.buildProtocol(address)
        assert isinstance(protocol, Protocol)
        near.protocol = protocol
        self.transport = cast(Client, near)
        far.protocol.makeConnection(far)
        near.protocol.makeConnection(near)


class MemoryNet(Clock):
    """
    A reactor for clients: a test advances the clock, and connections are distinguished by port only.

    ``listeners`` has the server side by port; a port without one refuses, one in ``black_holes`` never answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listeners: dict[int, Callable[[IAddress], Protocol]] = {}
        self.black_holes: set[int] = set()
        self.attempts: list[int] = []
        self.open: list[End] = []

    def connectTCP(self, host: str, port: int, factory: ClientFactory, timeout: float = 30) -> IConnector:
        """Start an attempt, as a reactor does."""
        connector = MemoryConnector(self, port, factory, timeout)
        connector.connect()
        return connector

    def run_due(self) -> None:
        """Run all calls that are due now."""
        while any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
            self.advance(0)

    def run(self, seconds: float) -> None:
        """Advance the clock from call to call."""
        end = self.seconds() + seconds
        self.run_due()
        while due := [call.getTime() for call in self.getDelayedCalls() if call.getTime() <= end]:
            self.advance(max(0.0, min(due) - self.seconds()))
            self.run_due()
        self.advance(max(0.0, end - self.seconds()))

    def pending(self) -> list[IDelayedCall]:
        """Return the pending timers."""
        return list(self.getDelayedCalls())


class ServedConnection(Protocol):
    """The server's side of a connection."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.authenticated = server.password is None
        self.database = 0
        self._parser = RequestParser(Limits())
        self._unanswered: deque[list[bytes]] = deque()

    def connectionMade(self) -> None:
        self.server.connections.append(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.server.connections.remove(self)

    def dataReceived(self, data: bytes) -> None:
        self._parser.feed(data)
        while (request := self._parser.next_request()) is not None:
            self.server.received.append(request)
            self._unanswered.append(request)
        self.catch_up()

    def catch_up(self) -> None:
        """Answer the requests that arrived while the server was hung."""
        while self._unanswered and not self.server.hung:
            self.reply(self.server.answer(self, self._unanswered.popleft()))

    def reply(self, value: Value) -> None:
        """Send one reply or message."""
        assert self.transport is not None
        self.transport.write(encode(value))


class MemoryServer:
    """The common part of data servers and Sentinels: a port, a password, and failures."""

    def __init__(self, net: MemoryNet, port: int) -> None:
        self.net = net
        self.port = port
        self.password: str | None = None
        self.username: str | None = None
        self._hung = False
        self.received: list[list[bytes]] = []
        self.connections: list[ServedConnection] = []
        self.start()

    def start(self) -> None:
        """Listen."""
        self.net.listeners[self.port] = lambda address: ServedConnection(self)

    @property
    def hung(self) -> bool:
        """Whether it listens without answering, as a stopped process."""
        return self._hung

    @hung.setter
    def hung(self, hung: bool) -> None:
        self._hung = hung
        for connection in list(self.connections):
            connection.catch_up()

    def crash(self) -> None:
        """Refuse connections from now on, and close the present ones."""
        del self.net.listeners[self.port]
        for connection in list(self.connections):
            cast(End, connection.transport).abortConnection()

    def words(self, name: str) -> list[list[bytes]]:
        """Return all requests with this first word."""
        return [request for request in self.received if request[0].upper() == data(name)]

    def answer(self, connection: ServedConnection, request: list[bytes]) -> Value:
        """Return the reply to one request."""
        command = request[0].upper()
        if command == b"AUTH":
            return self._authenticate(connection, request)
        if not connection.authenticated:
            return ErrorReply("NOAUTH Authentication required.")
        return self.execute(connection, command, request)

    def execute(self, connection: ServedConnection, command: bytes, request: list[bytes]) -> Value:
        """Return the reply to a request of an authenticated client."""
        raise NotImplementedError

    def _authenticate(self, connection: ServedConnection, request: list[bytes]) -> Value:
        if self.password is None:
            return ErrorReply("ERR AUTH <password> called without any password configured for the default user.")
        expected = [self.password] if self.username is None else [self.username, self.password]
        if request[1:] != [data(word) for word in expected]:
            return ErrorReply("WRONGPASS invalid username-password pair or user is disabled.")
        connection.authenticated = True
        return Simple("OK")


class MemoryRedis(MemoryServer):
    """A data server with a role and a few keys."""

    def __init__(self, net: MemoryNet, port: int, role: str = "master") -> None:
        super().__init__(net, port)
        self.role = role
        self.link_state = "connected"
        self.replicas: dict[int, int] = {}
        """Port → offset, of the replicas that this master lists."""

        self.keys: dict[bytes, bytes] = {}

    def execute(self, connection: ServedConnection, command: bytes, request: list[bytes]) -> Value:
        if command == b"ROLE" and self.role == "slave":
            return [b"slave", b"127.0.0.1", 0, self.link_state.encode(), 0]
        if command == b"ROLE":
            replicas: list[Value] = [
                [b"127.0.0.1", str(port).encode(), str(offset).encode()] for port, offset in self.replicas.items()
            ]
            return [self.role.encode(), 0, replicas]
        if command == b"SELECT":
            connection.database = int(request[1])
            return Simple("OK")
        if command == b"SET":
            if self.role != "master":
                return ErrorReply("READONLY You can't write against a read only replica.")
            self.keys[request[1]] = request[2]
            return Simple("OK")
        if command == b"GET":
            return self.keys.get(request[1])
        if command == b"BLPOP":
            return [request[1], b"item"]
        return ErrorReply(f"ERR unknown command '{request[0].decode()}'")


class MemorySentinel(MemoryServer):
    """A Sentinel with ``(port, config-epoch)`` per master."""

    def __init__(self, net: MemoryNet, port: int, **masters: tuple[int, int]) -> None:
        super().__init__(net, port)
        self.masters = masters
        self.reports_epochs = True
        self.subscribers: deque[ServedConnection] = deque()
        self.permits_subscription = True

    def execute(self, connection: ServedConnection, command: bytes, request: list[bytes]) -> Value:
        if command == b"SUBSCRIBE":
            if not self.permits_subscription:
                return ErrorReply("NOPERM this user has no permissions to access one of the channels")
            self.subscribers.append(connection)
            return [b"subscribe", request[1], 1]
        if command == b"PING":
            return [b"pong", b""]
        if command != b"SENTINEL":
            return ErrorReply("ERR unknown command")
        known = self.masters.get(request[2].decode())
        if request[1].upper() == b"GET-MASTER-ADDR-BY-NAME":
            return NULL_ARRAY if known is None else [b"127.0.0.1", str(known[0]).encode()]
        if known is None:
            return ErrorReply("ERR No such master with that name")
        if not self.reports_epochs:
            return ErrorReply("NOPERM this user has no permissions to run the 'sentinel|master' command")
        fields: dict[str, Value] = {"name": request[2], "flags": "master", "config-epoch": str(known[1])}
        return fields

    def switch(self, name: str, port: int, epoch: int) -> None:
        """Adopt a new master, then announce it."""
        old = self.masters[name][0]
        self.masters[name] = (port, epoch)
        self.announce(f"{name} 127.0.0.1 {old} 127.0.0.1 {port}")

    def announce(self, payload: str) -> None:
        """Publish on ``+switch-master``."""
        for connection in self.subscribers:
            if connection in self.connections:
                connection.reply([b"message", b"+switch-master", data(payload)])
