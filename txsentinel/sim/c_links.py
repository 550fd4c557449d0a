"""The connections of a modelled C Sentinel. Its ticks open them, at most one attempt a second."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone

from txsentinel.sim.values import Word
from txsentinel.sim.wiretap import HELLO, Frames
from txsentinel.wire.resp import Value, encode, pack

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector, ITransport
    from twisted.python.failure import Failure

    from txsentinel.sim.host import SimHost

RETRY: Final = 1_000
"""Milliseconds between two connection attempts."""

OnReply = Callable[[Word], None]


class CLink:
    """
    One connection to a server or a peer. With ``subscribes`` it subscribes to the hello channel and sends no requests.
    """

    def __init__(
        self, host: SimHost, place: tuple[str, int], hello_received: Callable[[bytes], None] | None = None
    ) -> None:
        self._host = host
        self.place = place
        self.hello_received = hello_received
        self.conversation: _Conversation | None = None
        self._connecting = False
        self._tried_at = -RETRY
        self._closed = False

    @property
    def up(self) -> bool:
        """Whether a command can be sent."""
        return self.conversation is not None

    def connect(self, now: int) -> bool:
        """Try to connect if an attempt is due; return True if one began."""
        if self.up or self._connecting or self._closed or now - self._tried_at < RETRY:
            return False
        self._tried_at, self._connecting = now, True
        self._host.reactor.connectTCP(*self.place, _LinkFactory(self), timeout=1.0)
        return True

    def ask(self, words: tuple[str | int | bytes, ...], on_reply: OnReply) -> None:
        """Send a command."""
        if self.conversation is not None:
            self.conversation.awaiting.append(on_reply)
            cast("ITransport", self.conversation.transport).write(pack(*words))

    def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        if self.conversation is not None:
            cast("ITransport", self.conversation.transport).loseConnection()

    def made(self, conversation: _Conversation) -> None:
        """The connection is established."""
        self._connecting = False
        self.conversation = conversation
        if self._closed:
            self.close()
        elif self.hello_received is not None:
            cast("ITransport", conversation.transport).write(pack("SUBSCRIBE", "__sentinel__:hello"))

    def lost(self) -> None:
        """A connection, or an attempt to connect, ended."""
        self._connecting = False
        self.conversation = None


class _Conversation(Protocol):
    def __init__(self, link: CLink) -> None:
        self._link = link
        self._frames = Frames()
        self.awaiting: deque[OnReply] = deque()

    def connectionMade(self) -> None:
        """Report the connection to its link."""
        self._link.made(self)

    def dataReceived(self, data: bytes) -> None:
        """Parse hellos or replies."""
        hello_received = self._link.hello_received
        if hello_received is not None:
            for payload in HELLO.findall(data):
                hello_received(payload)
            return
        for reply in self._frames.feed(data):
            if self.awaiting:
                self.awaiting.popleft()(reply)


class _LinkFactory(ClientFactory[_Conversation]):
    noisy = False

    def __init__(self, link: CLink) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> _Conversation:
        """Build the protocol of this connection."""
        return _Conversation(self._link)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Do nothing: a later tick tries again."""
        self._link.lost()

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Do nothing: a later tick tries again."""
        self._link.lost()


class CPort(Factory):
    """The listening port: ``answer`` replies to each command at once."""

    noisy = False

    def __init__(self, answer: Callable[[list[bytes]], Value]) -> None:
        self.answer = answer

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Build the protocol of one client."""
        return _Asked(self)


class _Asked(Protocol):
    def __init__(self, port: CPort) -> None:
        self._port = port
        self._frames = Frames()

    def dataReceived(self, data: bytes) -> None:
        """Parse and answer commands."""
        for words in self._frames.feed(data):
            if isinstance(words, list):
                answer = self._port.answer([word for word in words if isinstance(word, bytes)])
                cast("ITransport", self.transport).write(encode(answer))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Do nothing: no state is kept for clients."""
