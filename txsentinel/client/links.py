"""How an application speaks with Sentinels: one question, or a standing subscription that begins with it."""

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
"""``IReactorTCP`` and ``IReactorTime`` in one: Twisted has no single name for that."""

KEEPALIVE: Final = 10.0
"""Seconds between two PINGs on a subscription; a Sentinel silent for as long after one is given up."""

SWITCH: Final = b"+switch-master"

REPLY_LIMITS: Final = Limits(reply_buffer=1024 * 1024)
"""What a Sentinel tells about one master fits a few kilobytes; a megabyte is somebody else talking."""


class MasterAddress(NamedTuple):
    """Where a master is: a host name or literal IP as the Sentinels spell it, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """``host:port``, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a Sentinel holds to be the master.

    ``epoch`` is the config-epoch of that belief, the only order in which beliefs of several Sentinels can be put;
    ``None`` if the Sentinel would not tell. ``announced`` marks a ``+switch-master``: news, not memory.
    """

    address: MasterAddress
    epoch: int | None = None
    announced: bool = False


class NoAnswer(Exception):
    """A Sentinel could not be asked, or had no address to give. ``str(error)`` says why."""


@dataclass(frozen=True, slots=True)
class Access:
    """
    How to reach one kind of server, Sentinels or data nodes.

    ``patience`` is in seconds, above zero: for a dial, and again for the answers to its greeting. ``tls`` makes the
    connection creator for a host, as ``twisted.internet.ssl.optionsForClientTLS`` does; ``None`` for plain TCP.
    """

    reactor: Reactor
    timeout: float
    password: str | None = None
    username: str | None = None
    tls: Callable[[str], Any] | None = None

    @property
    def auth(self) -> tuple[str, ...] | None:
        """The AUTH command, or ``None`` where there is nothing to log in with."""
        if self.password is None:
            return None
        return ("AUTH", self.password) if self.username is None else ("AUTH", self.username, self.password)

    def connect(self, address: MasterAddress, factory: ClientFactory) -> IConnector:
        """Dial; the factory hears of the outcome, within ``patience`` seconds."""
        client_factory = factory
        if self.tls is not None:
            client_factory = TLSMemoryBIOFactory(self.tls(address.host), True, factory, clock=self.reactor)  # type: ignore[assignment]
        connector: IConnector = self.reactor.connectTCP(
            address.host, address.port, client_factory, timeout=self.timeout
        )
        return connector


class SentinelConversation(Protocol):
    """
    Log in, ask for the address and the config-epoch; the answers come as a queue of callables.

    A refused AUTH is not yet the end: a Sentinel that wants no password answers the questions all the same, and one
    that does refuses them.
    """

    transport: ITCPTransport

    def __init__(
        self, name: str, access: Access, told: Callable[[Answer], None], failed: Callable[[str], None]
    ) -> None:
        self._name = name
        self._access = access
        self._told = told
        self._failed = failed
        self._reader = ReplyReader(REPLY_LIMITS)
        self._awaiting: deque[Callable[[object], None]] = deque()
        self._address: MasterAddress | None = None
        self._trouble = ""

    def questions(self) -> list[tuple[Callable[[object], None], tuple[str, ...]]]:
        """The greeting: what to send, and who takes each reply."""
        auth = self._access.auth
        return [
            *([(self._authenticated, auth)] if auth is not None else []),
            (self._address_received, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)),
            (self._details_received, ("SENTINEL", "MASTER", self._name)),
        ]

    def connectionMade(self) -> None:
        """Send the whole greeting in one write, so that no switch fits between its commands."""
        questions = self.questions()
        self._awaiting.extend(taker for taker, _ in questions)
        self.transport.write(b"".join(pack(*words) for _, words in questions))

    def dataReceived(self, data: bytes) -> None:
        """Hand every complete reply to the one who waits for it."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.next_reply()) is not NEED_MORE:
                self.reply_received(reply)
        except ReplyViolation as violation:
            self._failed(f"speaks nonsense: {violation}")
            self.transport.abortConnection()

    def reply_received(self, reply: object) -> None:
        """
        One reply, in the order of the commands.

        :raises ReplyViolation: if nobody asked for it.
        """
        if not self._awaiting:
            raise ReplyViolation("a reply without a command")
        self._awaiting.popleft()(reply)

    def _authenticated(self, reply: object) -> None:
        if isinstance(reply, ErrorLine):
            self._trouble = text(reply)

    def _address_received(self, reply: object) -> None:
        if isinstance(reply, ErrorLine):
            self._trouble = self._trouble or text(reply)
        elif reply is None:
            self._trouble = f"does not monitor {self._name}"
        else:
            self._address = parse_address(reply)
            if self._address is None:
                self._trouble = f"gave no usable address: {reply!r}"

    def _details_received(self, reply: object) -> None:
        if self._address is None:
            self._failed(self._trouble)
        else:
            self._told(Answer(self._address, parse_epoch(reply)))


class SentinelSubscription(SentinelConversation):
    """The same conversation, going on with ``SUBSCRIBE +switch-master`` and a PING now and then."""

    _keepalive: IDelayedCall | None = None
    _received_since_ping = True

    def __init__(
        self,
        name: str,
        access: Access,
        told: Callable[[Answer], None],
        failed: Callable[[str], None],
        subscribed: Callable[[], None],
    ) -> None:
        super().__init__(name, access, told, failed)
        self._subscribed = subscribed

    def questions(self) -> list[tuple[Callable[[object], None], tuple[str, ...]]]:
        """As before, then subscribe: in this order, since a subscribed RESP2 connection may ask nothing more."""
        return [*super().questions(), (self._subscription_confirmed, ("SUBSCRIBE", text(SWITCH)))]

    def connectionMade(self) -> None:
        """Begin, and begin to watch for silence."""
        super().connectionMade()
        self._keepalive = self._access.reactor.callLater(KEEPALIVE, self._ping)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """No more PINGs."""
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None

    def dataReceived(self, data: bytes) -> None:
        """Whatever comes is a sign of life."""
        self._received_since_ping = True
        super().dataReceived(data)

    def reply_received(self, reply: object) -> None:
        """Messages come when they like; everything else is in turn."""
        if isinstance(reply, list) and len(reply) == 3 and reply[:2] == [b"message", SWITCH]:
            address = parse_switch(self._name, reply[2])
            if address is not None:
                self._told(Answer(address, announced=True))
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
            self._failed("fell silent")
            self.transport.abortConnection()
            return
        self._received_since_ping = False
        self._awaiting.append(self._ponged)
        self.transport.write(pack("PING"))
        self._keepalive = self._access.reactor.callLater(KEEPALIVE, self._ping)

    def _ponged(self, reply: object) -> None:
        """Any reply will do, an error too: the Sentinel is alive, which was noted as the bytes came in."""


class Inquiry(ClientFactory):
    """
    One question to one Sentinel over a connection of its own.

    ``result`` fires with an :class:`Answer` or fails with :class:`NoAnswer`, within twice the patience of ``access``;
    ``gone`` fires with ``None`` once nothing is left of the connection.
    """

    noisy = False

    def __init__(self, name: str, sentinel: MasterAddress, access: Access) -> None:
        self.sentinel = sentinel
        self.result: Deferred[Answer] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self._name = name
        self._access = access
        self._connector: IConnector | None = None
        self._deadline: IDelayedCall | None = None
        self._settled = False

    def start(self) -> None:
        """Dial."""
        self._connector = self._access.connect(self.sentinel, self)

    def cancel(self) -> None:
        """Give up; ``result`` fails at once unless it has fired."""
        self._fail("was not waited for")
        if self._connector is not None:
            self._connector.disconnect()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """The conversation, which must come to its end in time."""
        conversation = SentinelConversation(self._name, self._access, self._told, self._failed)
        self._deadline = self._access.reactor.callLater(self._access.timeout, self._too_late, conversation)
        return conversation

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """There is nobody to ask."""
        self._end(reason.getErrorMessage())

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Our own doing if there was an answer."""
        self._end(f"hung up: {reason.getErrorMessage()}")

    def _told(self, answer: Answer) -> None:
        if not self._settled:
            self._settled = True
            self.result.callback(answer)
        self._hang_up()

    def _failed(self, why: str) -> None:
        self._fail(why)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connector is not None:
            self._connector.disconnect()

    def _too_late(self, conversation: SentinelConversation) -> None:
        self._deadline = None
        self._fail("did not answer in time")
        conversation.transport.abortConnection()

    def _fail(self, why: str) -> None:
        if not self._settled:
            self._settled = True
            self.result.errback(NoAnswer(f"{self.sentinel} {why}"))

    def _end(self, why: str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._fail(why)
        self.gone.callback(None)


class SubscriptionFactory(ReconnectingClientFactory):
    """
    A subscription that comes back for as long as it is wanted, and asks anew each time it does.

    :param received: told of every answer and announcement.
    :param on_error: told, as a text for people, what keeps this Sentinel from being heard.
    """

    noisy, jitter, factor, maxDelay = False, 0.0, 2.0, 10

    def __init__(
        self,
        name: str,
        sentinel: MasterAddress,
        access: Access,
        received: Callable[[Answer], None],
        on_error: Callable[[str], None],
    ) -> None:
        self.clock = access.reactor
        self.initialDelay = self.delay = 0.1
        self.sentinel = sentinel
        self._name = name
        self._access = access
        self._received = received
        self._on_error = on_error
        self._engaged = False
        self._gone: Deferred[None] | None = None

    def start(self) -> None:
        """Dial for the first time."""
        self.connector = self._access.connect(self.sentinel, self)

    def stop(self) -> Deferred[None]:
        """
        Hang up for good.

        :returns: fires once nothing is left of the connection.
        """
        self.stopTrying()  # type: ignore[no-untyped-call]
        if not self._engaged or self.connector is None:
            return succeed(None)
        self._gone = Deferred()
        self.connector.disconnect()
        return self._gone

    def startedConnecting(self, connector: IConnector) -> None:
        """Remember that there is something to hang up."""
        self._engaged = True

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """The next conversation."""
        return SentinelSubscription(self._name, self._access, self._told, self._failed, self.resetDelay)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Try again, later each time."""
        self._failed(reason.getErrorMessage())
        self._disengaged()
        super().clientConnectionFailed(connector, reason)  # type: ignore[no-untyped-call]

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Try again, at once if the subscription had been in force."""
        self._disengaged()
        super().clientConnectionLost(connector, reason)  # type: ignore[no-untyped-call]

    def _disengaged(self) -> None:
        self._engaged = False
        if self._gone is not None:
            gone, self._gone = self._gone, None
            gone.callback(None)

    def _told(self, answer: Answer) -> None:
        if self.continueTrying:
            self._received(answer)

    def _failed(self, why: str) -> None:
        if self.continueTrying:
            self._on_error(f"{self.sentinel} {why}")


def parse_address(reply: object) -> MasterAddress | None:
    """The address in a reply of two bulk strings, or ``None`` if it is anything else."""
    if not (isinstance(reply, list) and len(reply) == 2 and all(isinstance(word, bytes) for word in reply)):
        return None
    return usable_address(text(reply[0]), text(reply[1]))


def usable_address(host: str, port: str) -> MasterAddress | None:
    """``None`` for what cannot be dialled: no host (a name the Sentinel failed to resolve), no port of 1..65535."""
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return None
    return MasterAddress(host, int(port))


def parse_epoch(reply: object) -> int | None:
    """The config-epoch in the field list of a master; ``None`` where it is missing or was refused."""
    if not isinstance(reply, list):
        return None
    for field, value in zip(reply[::2], reply[1::2], strict=False):
        if field == b"config-epoch" and isinstance(value, bytes) and value.isdigit():
            return int(value)
    return None


def parse_switch(name: str, payload: object) -> MasterAddress | None:
    """The new address in ``<name> <old-ip> <old-port> <new-ip> <new-port>``; ``None`` if it is of another master."""
    if not isinstance(payload, bytes):
        return None
    words = text(payload).rsplit(" ", 4)
    if len(words) != 5 or words[0] != name:
        return None
    return usable_address(words[3], words[4])
