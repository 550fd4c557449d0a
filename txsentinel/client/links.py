"""Connections of the client to Sentinels: single queries, and subscriptions that begin with a query."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, ITCPTransport
from twisted.internet.protocol import ClientFactory, Protocol, ReconnectingClientFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from txsentinel.model.timings import Limits
from txsentinel.wire.replies import NEED_MORE, ReplyReader, ReplyViolation
from txsentinel.wire.resp import pack, text
from txsentinel.wire.values import ErrorLine

Reactor: TypeAlias = Any
"""An object that provides ``IReactorTCP`` and ``IReactorTime``; Twisted has no common type for both."""

KEEPALIVE_INTERVAL: Final = 10.0
"""Seconds between two PINGs on a subscription. A connection without input for so long after one is closed."""

SWITCH: Final = b"+switch-master"

REPLY_LIMITS: Final = Limits(reply_buffer=1024 * 1024)
"""The reply about one master has a few kilobytes; a megabyte does not come from a Sentinel."""


class MasterAddress(NamedTuple):
    """The address of a master: a host name or IP address as the Sentinels report it, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ReportedMaster:
    """
    The address of the master according to one Sentinel.

    ``epoch`` is its config-epoch, which is the only order between the answers of several Sentinels; ``None`` if the
    Sentinel does not report it. ``announced`` marks an answer from ``+switch-master`` instead of a query.
    """

    address: MasterAddress
    epoch: int | None = None
    announced: bool = False


class NoAnswer(Exception):
    """A Sentinel could not be queried, or has no address. ``str(error)`` has the reason."""


@dataclass(frozen=True, slots=True)
class Access:
    """
    The connection settings for one kind of server, Sentinels or data nodes.

    ``timeout`` is in seconds, above zero: for an attempt to connect, and again for the replies to its handshake.
    ``tls`` makes the connection creator for a host, as ``twisted.internet.ssl.optionsForClientTLS`` does; ``None`` for
    plain TCP.
    """

    reactor: Reactor
    timeout: float
    password: str | None = None
    username: str | None = None
    tls: Callable[[str], Any] | None = None

    @property
    def auth(self) -> tuple[str, ...] | None:
        """The AUTH command, or ``None`` without a password."""
        if self.password is None:
            return None
        return ("AUTH", self.password) if self.username is None else ("AUTH", self.username, self.password)

    def connect(self, address: MasterAddress, factory: ClientFactory) -> IConnector:
        """Connect; the factory is notified of the outcome within ``timeout`` seconds."""
        client_factory = factory
        if self.tls is not None:
            client_factory = TLSMemoryBIOFactory(self.tls(address.host), True, factory, clock=self.reactor)  # type: ignore[assignment]
        connector: IConnector = self.reactor.connectTCP(
            address.host, address.port, client_factory, timeout=self.timeout
        )
        return connector


class SentinelQuery(Protocol):
    """
    Authenticates and queries the address and the config-epoch; a queue has the callback of each reply.

    A refused AUTH is not an error by itself: a Sentinel without a password answers the queries, and one with a password
    refuses them.
    """

    transport: ITCPTransport

    def __init__(
        self, name: str, access: Access, received: Callable[[ReportedMaster], None], failed: Callable[[str], None]
    ) -> None:
        self._name = name
        self._access = access
        self._answer_received = received
        self._failed = failed
        self._reader = ReplyReader(REPLY_LIMITS)
        self._awaiting: deque[Callable[[object], None]] = deque()
        self._address: MasterAddress | None = None
        self._error = ""

    def handshake(self) -> list[tuple[Callable[[object], None], tuple[str, ...]]]:
        """Return the commands of the handshake, each with the callback for its reply."""
        auth = self._access.auth
        return [
            *([(self._authenticated, auth)] if auth is not None else []),
            (self._address_received, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)),
            (self._details_received, ("SENTINEL", "MASTER", self._name)),
        ]

    def connectionMade(self) -> None:
        """Send the whole handshake in one write, so that no switch can happen between its commands."""
        handshake = self.handshake()
        self._awaiting.extend(callback for callback, _ in handshake)
        self.transport.write(b"".join(pack(*words) for _, words in handshake))

    def dataReceived(self, data: bytes) -> None:
        """Pass every complete reply to its callback."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.next_reply()) is not NEED_MORE:
                self.reply_received(reply)
        except ReplyViolation as violation:
            self._failed(f"violates the protocol: {violation}")
            self.transport.abortConnection()

    def reply_received(self, reply: object) -> None:
        """
        Process one reply, in the order of the commands.

        :raises ReplyViolation: if no command waits for it.
        """
        if not self._awaiting:
            raise ReplyViolation("a reply without a command")
        self._awaiting.popleft()(reply)

    def _authenticated(self, reply: object) -> None:
        if isinstance(reply, ErrorLine):
            self._error = text(reply)

    def _address_received(self, reply: object) -> None:
        if isinstance(reply, ErrorLine):
            self._error = self._error or text(reply)
        elif reply is None:
            self._error = f"does not monitor {self._name}"
        else:
            self._address = parse_address(reply)
            if self._address is None:
                self._error = f"gave no usable address: {reply!r}"

    def _details_received(self, reply: object) -> None:
        if self._address is None:
            self._failed(self._error)
        else:
            self._answer_received(ReportedMaster(self._address, parse_epoch(reply)))


class SentinelSubscription(SentinelQuery):
    """The same query, followed by ``SUBSCRIBE +switch-master`` and periodic PINGs."""

    _keepalive: IDelayedCall | None = None
    _received_since_ping = True

    def __init__(
        self,
        name: str,
        access: Access,
        received: Callable[[ReportedMaster], None],
        failed: Callable[[str], None],
        subscribed: Callable[[], None],
    ) -> None:
        super().__init__(name, access, received, failed)
        self._subscribed = subscribed

    def handshake(self) -> list[tuple[Callable[[object], None], tuple[str, ...]]]:
        """Return the handshake with SUBSCRIBE at its end, because a subscribed RESP2 connection cannot query."""
        return [*super().handshake(), (self._subscription_confirmed, ("SUBSCRIBE", text(SWITCH)))]

    def connectionMade(self) -> None:
        """Send the handshake, and start the keepalive timer."""
        super().connectionMade()
        self._keepalive = self._access.reactor.callLater(KEEPALIVE_INTERVAL, self._ping)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop the keepalive timer."""
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None

    def dataReceived(self, data: bytes) -> None:
        """Record that there was input, and process it."""
        self._received_since_ping = True
        super().dataReceived(data)

    def reply_received(self, reply: object) -> None:
        """Process messages, which arrive at any time, and replies in order."""
        if isinstance(reply, list) and len(reply) == 3 and reply[:2] == [b"message", SWITCH]:
            address = parse_switch(self._name, reply[2])
            if address is not None:
                self._answer_received(ReportedMaster(address, announced=True))
        else:
            super().reply_received(reply)

    def _subscription_confirmed(self, reply: object) -> None:
        if isinstance(reply, ErrorLine):
            self._failed(f"refuses the subscription: {text(reply)}")
            self.transport.loseConnection()
        else:
            self._subscribed()

    def _ping(self) -> None:
        self._keepalive = None
        if not self._received_since_ping:
            self._failed("stopped responding")
            self.transport.abortConnection()
            return
        self._received_since_ping = False
        self._awaiting.append(self._ping_answered)
        self.transport.write(pack("PING"))
        self._keepalive = self._access.reactor.callLater(KEEPALIVE_INTERVAL, self._ping)

    def _ping_answered(self, reply: object) -> None:
        """Ignore the reply; its arrival was recorded before, and an error counts, too."""


class SentinelQueryFactory(ClientFactory):
    """
    One query to one Sentinel over a connection of its own.

    ``result`` fires with a :class:`ReportedMaster` or fails with :class:`NoAnswer`, within twice the timeout of
    ``access``; ``gone`` fires with ``None`` when the connection is closed.
    """

    noisy = False

    def __init__(self, name: str, sentinel: MasterAddress, access: Access) -> None:
        self.sentinel = sentinel
        self.result: Deferred[ReportedMaster] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self._name = name
        self._access = access
        self._connector: IConnector | None = None
        self._deadline: IDelayedCall | None = None
        self._fired = False

    def start(self) -> None:
        """Connect."""
        self._connector = self._access.connect(self.sentinel, self)

    def cancel(self) -> None:
        """Cancel the query; ``result`` fails at once unless it has fired."""
        self._fail("was cancelled")
        if self._connector is not None:
            self._connector.disconnect()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return the protocol, and start the timeout for its replies."""
        protocol = SentinelQuery(self._name, self._access, self._answer_received, self._failed)
        self._deadline = self._access.reactor.callLater(self._access.timeout, self._timed_out, protocol)
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Fail the query."""
        self._end(reason.getErrorMessage())

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Fail the query, unless it was answered and closed by this side."""
        self._end(f"closed the connection: {reason.getErrorMessage()}")

    def _answer_received(self, answer: ReportedMaster) -> None:
        if not self._fired:
            self._fired = True
            self.result.callback(answer)
        self._disconnect()

    def _failed(self, why: str) -> None:
        self._fail(why)
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connector is not None:
            self._connector.disconnect()

    def _timed_out(self, protocol: SentinelQuery) -> None:
        self._deadline = None
        self._fail("did not answer in time")
        protocol.transport.abortConnection()

    def _fail(self, why: str) -> None:
        if not self._fired:
            self._fired = True
            self.result.errback(NoAnswer(f"{self.sentinel} {why}"))

    def _end(self, why: str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._fail(why)
        self.gone.callback(None)


class SubscriptionFactory(ReconnectingClientFactory):
    """
    A subscription that reconnects until it is stopped, and queries the address after each reconnect.

    :param received: called with every answer and announcement.
    :param on_error: called with the text of each error of this Sentinel's connection.
    """

    noisy, jitter, factor, maxDelay = False, 0.0, 2.0, 10

    def __init__(
        self,
        name: str,
        sentinel: MasterAddress,
        access: Access,
        received: Callable[[ReportedMaster], None],
        on_error: Callable[[str], None],
    ) -> None:
        self.clock = access.reactor
        self.initialDelay = self.delay = 0.1
        self.sentinel = sentinel
        self._name = name
        self._access = access
        self._received = received
        self._on_error = on_error
        self._connected = False
        self._gone: Deferred[None] | None = None

    def start(self) -> None:
        """Connect for the first time."""
        self.connector = self._access.connect(self.sentinel, self)

    def stop(self) -> Deferred[None]:
        """
        Disconnect for good.

        :returns: fires when the connection is closed.
        """
        self.stopTrying()  # type: ignore[no-untyped-call]
        if not self._connected or self.connector is None:
            return succeed(None)
        self._gone = Deferred()
        self.connector.disconnect()
        return self._gone

    def startedConnecting(self, connector: IConnector) -> None:
        """Record that there is an attempt or a connection to close."""
        self._connected = True

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return the protocol of the next connection."""
        return SentinelSubscription(self._name, self._access, self._answer_received, self._failed, self.resetDelay)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Retry with a growing delay."""
        self._failed(reason.getErrorMessage())
        self._connection_ended()
        super().clientConnectionFailed(connector, reason)  # type: ignore[no-untyped-call]

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Retry; at once if the subscription was confirmed."""
        self._connection_ended()
        super().clientConnectionLost(connector, reason)  # type: ignore[no-untyped-call]

    def _connection_ended(self) -> None:
        self._connected = False
        if self._gone is not None:
            gone, self._gone = self._gone, None
            gone.callback(None)

    def _answer_received(self, answer: ReportedMaster) -> None:
        if self.continueTrying:
            self._received(answer)

    def _failed(self, why: str) -> None:
        if self.continueTrying:
            self._on_error(f"{self.sentinel} {why}")


def parse_address(reply: object) -> MasterAddress | None:
    """Return the address in a reply of two bulk strings, ``None`` for any other reply."""
    if not (isinstance(reply, list) and len(reply) == 2 and all(isinstance(word, bytes) for word in reply)):
        return None
    return usable_address(text(reply[0]), text(reply[1]))


def usable_address(host: str, port: str) -> MasterAddress | None:
    """Return the address; ``None`` without a host (if the Sentinel failed to resolve it) or a port of 1..65535."""
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return None
    return MasterAddress(host, int(port))


def parse_epoch(reply: object) -> int | None:
    """Return the config-epoch in the field list of a master; ``None`` if it is missing or the query was refused."""
    if not isinstance(reply, list):
        return None
    for field, value in zip(reply[::2], reply[1::2], strict=False):
        if field == b"config-epoch" and isinstance(value, bytes) and value.isdigit():
            return int(value)
    return None


def parse_switch(name: str, payload: object) -> MasterAddress | None:
    """Return the new address in ``<name> <old-ip> <old-port> <new-ip> <new-port>``; ``None`` for another master."""
    if not isinstance(payload, bytes):
        return None
    words = text(payload).rsplit(" ", 4)
    if len(words) != 5 or words[0] != name:
        return None
    return usable_address(words[3], words[4])
