"""An application that writes all the time, finds its masters through the Sentinels, and counts acknowledged writes."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from twisted.internet.protocol import ClientFactory, Protocol, connectionDone

from txsentinel.model.timings import Limits
from txsentinel.wire.replies import NeedMore, ReplyReader
from txsentinel.wire.resp import pack, text
from txsentinel.wire.values import ErrorLine

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector, ITCPTransport
    from twisted.python.failure import Failure

    from txsentinel.sim.host import SimHost

_LIMITS: Final = Limits()

RETRY: Final = 0.05
"""Seconds between two queries of the Sentinels, and between two connection attempts."""

CONNECT_TIMEOUT: Final = 1.0
"""Seconds after which a connection attempt is ended."""

Credentials: TypeAlias = "tuple[str, ...]"
"""The arguments of AUTH; empty for no AUTH."""

OnReply: TypeAlias = "Callable[[Any], None]"
Made: TypeAlias = "Callable[[_Conversation], None]"
Lost: TypeAlias = "Callable[[_Conversation | None], None]"
"""Called with a connection that was lost, or with ``None`` for an attempt that failed."""


class _Conversation(Protocol):
    """One connection: a FIFO of expected replies; other replies go to ``pushed``."""

    def __init__(self, made: Made, lost: Lost, credentials: Credentials) -> None:
        self._made, self._lost, self._credentials = made, lost, credentials
        self._reader = ReplyReader(_LIMITS)
        self._awaiting: deque[OnReply] = deque()
        self.pushed: OnReply = lambda reply: None

    def connectionMade(self) -> None:
        """Log in and begin."""
        if self._credentials:
            self.send(lambda reply: None, "AUTH", *self._credentials)
        self._made(self)

    def send(self, on_reply: OnReply | None, *words: str) -> None:
        """Send a command; ``None`` for one whose reply arrives as a push."""
        if on_reply is not None:
            self._awaiting.append(on_reply)
        cast("ITCPTransport", self.transport).write(pack(*words))

    def close(self) -> None:
        """Close at once."""
        cast("ITCPTransport", self.transport).abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Match replies to commands."""
        self._reader.feed(data)
        while True:
            reply = self._reader.next_reply()
            if isinstance(reply, NeedMore):
                return
            (self._awaiting.popleft() if self._awaiting else self.pushed)(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Drop the commands that were not answered."""
        self._lost(self)


class _Factory(ClientFactory[_Conversation]):
    noisy = False

    def __init__(self, made: Made, lost: Lost, credentials: Credentials) -> None:
        self._made, self._lost, self._credentials = made, lost, credentials

    def buildProtocol(self, addr: IAddress | None) -> _Conversation:
        """Build the protocol."""
        return _Conversation(self._made, self._lost, self._credentials)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Report the attempt as lost."""
        self._lost(None)


class SentinelLine:
    """The application's two connections to one Sentinel: one for queries, one for events."""

    def __init__(self, app: Application, ip: str, port: int, credentials: Credentials) -> None:
        self._app = app
        self._place = (ip, port)
        self._credentials = credentials
        self._asking: _Conversation | None = None
        self._unanswered_since: float | None = None

    def start(self) -> None:
        """Connect, and reconnect when a connection is lost; start again in each new process."""
        self._asking = self._unanswered_since = None
        self._connect(self._may_ask, self._cannot_ask)
        self._connect(self._subscribe, self._unsubscribed)

    def ask(self, on_reply: OnReply, *words: str) -> None:
        """Send a command if there is a connection. A connection that timed out is closed."""
        if self._asking is None:
            return
        now = self._app.host.simulation.seconds()
        if self._unanswered_since is None:
            self._unanswered_since = now
        elif now - self._unanswered_since > self._app.timeout:
            self._asking.close()
            return

        def answered(reply: Any) -> None:
            self._unanswered_since = None
            on_reply(reply)

        self._asking.send(answered, *words)

    def _connect(self, made: Made, lost: Lost) -> None:
        factory = _Factory(made, lost, self._credentials)
        self._app.host.reactor.connectTCP(*self._place, factory, timeout=CONNECT_TIMEOUT)

    def _may_ask(self, conversation: _Conversation) -> None:
        self._asking = conversation

    def _cannot_ask(self, conversation: _Conversation | None) -> None:
        self._asking = self._unanswered_since = None
        self._app.host.reactor.callLater(RETRY, self._connect, self._may_ask, self._cannot_ask)

    def _subscribe(self, conversation: _Conversation) -> None:
        conversation.pushed = self._message_received
        conversation.send(None, "SUBSCRIBE", "+switch-master")

    def _unsubscribed(self, conversation: _Conversation | None) -> None:
        self._app.host.reactor.callLater(RETRY, self._connect, self._subscribe, self._unsubscribed)

    def _message_received(self, message: Any) -> None:
        if isinstance(message, list) and message[0] == b"message":
            name, _, _, host, port = text(message[2]).split(" ")
            self._app.moved(name, (host, int(port)))


@dataclass(frozen=True, slots=True)
class AcknowledgedWrite:
    """One write that a server acknowledged; ``at`` in simulated seconds."""

    number: int
    at: float
    place: tuple[str, int]


class Writer:
    """Writes to one master, a new key each time, and remembers what was acknowledged."""

    def __init__(self, app: Application, name: str, credentials: Credentials) -> None:
        self.name = name
        self.acknowledged: list[AcknowledgedWrite] = []
        self.refusals: Counter[str] = Counter()
        """First word of an error → the number of writes answered with it."""
        self._app = app
        self._credentials = credentials
        self._link: _Conversation | None = None
        self._place: tuple[str, int] | None = None
        self._trying: tuple[str, int] | None = None
        self._answers: list[tuple[str, int]] = []
        self._searching = False
        self._number = 0
        self._sent: deque[float] = deque()

    @staticmethod
    def key(number: int) -> bytes:
        """The key of write ``number``."""
        return b"what-if:%d" % number

    def beat(self) -> None:
        """Write if there is a master; close a connection that does not answer in time."""
        link, now = self._link, self._app.host.simulation.seconds()
        if link is None:
            self._search()
        elif self._sent and now - self._sent[0] > self._app.timeout:
            self._give_up()
        else:
            self._number += 1
            self._sent.append(now)
            link.send(self._answered(self._number), "SET", self.key(self._number).decode(), "1")

    def start(self) -> None:
        """Start in a new process, without the state of the former one."""
        self._link = self._place = self._trying = None
        self._searching = False
        self._sent.clear()

    def moved(self, place: tuple[str, int]) -> None:
        """A Sentinel announced the address of the master."""
        if place != self._place:
            self._drop()
            self._try(place)

    def _answered(self, number: int) -> OnReply:
        link, place = self._link, self._place

        def on_reply(reply: Any) -> None:
            if self._link is not link or place is None:
                return
            self._sent.popleft()
            if isinstance(reply, ErrorLine):
                self.refusals[text(reply.partition(b" ")[0])] += 1
                self._give_up()
            else:
                self.acknowledged.append(AcknowledgedWrite(number, self._app.host.simulation.seconds(), place))

        return on_reply

    def _give_up(self) -> None:
        self._drop()
        self._search()

    def _drop(self) -> None:
        link, self._link, self._place = self._link, None, None
        self._sent.clear()
        if link is not None:
            link.close()

    # Finding the master

    def _search(self) -> None:
        """Ask every Sentinel, and try the address that most of them answer."""
        if self._searching:
            return
        self._searching = True
        self._answers = []
        for line in self._app.lines:
            line.ask(self._address_received, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        self._app.host.reactor.callLater(RETRY, self._decide)

    def _address_received(self, reply: Any) -> None:
        if isinstance(reply, list):
            self._answers.append((text(reply[0]), int(reply[1])))

    def _decide(self) -> None:
        self._searching = False
        if self._link is None and self._trying is None and self._answers:
            self._try(Counter(self._answers).most_common(1)[0][0])

    def _try(self, place: tuple[str, int]) -> None:
        self._trying = place
        factory = _Factory(lambda link: self._connected(link, place), self._lost(place), self._credentials)
        self._app.host.reactor.connectTCP(*place, factory, timeout=self._app.timeout)

    def _connected(self, link: _Conversation, place: tuple[str, int]) -> None:
        def on_reply(role: Any) -> None:
            if self._trying != place:
                link.close()
            elif isinstance(role, list) and role[0] == b"master":
                self._trying, self._link, self._place = None, link, place
            else:
                self._trying = None
                link.close()

        link.send(on_reply, "ROLE")
        # The kernel of a frozen server still accepts connections.
        self._app.host.reactor.callLater(self._app.timeout, self._still_silent, link, place)

    def _still_silent(self, link: _Conversation, place: tuple[str, int]) -> None:
        if self._trying == place and self._link is not link:
            self._trying = None
            link.close()

    def _lost(self, place: tuple[str, int]) -> Lost:
        def lost(link: _Conversation | None) -> None:
            if self._trying == place:
                self._trying = None
            if link is not None and self._link is link:
                self._drop()

        return lost


class Application:
    """
    One machine with a writer for each master.

    :param period: seconds between two writes to each master.
    :param timeout: seconds that a write may take before its connection is closed.
    """

    def __init__(self, host: SimHost, period: float, timeout: float) -> None:
        self.host = host
        self.timeout = timeout
        self.lines: list[SentinelLine] = []
        self.writers: dict[str, Writer] = {}
        self._period = period
        host.program = self._program

    def configure(self, sentinels: Sequence[tuple[str, int]], credentials: Credentials) -> None:
        """The Sentinels in its configuration."""
        self.lines = [SentinelLine(self, ip, port, credentials) for ip, port in sentinels]

    def serve(self, name: str, credentials: Credentials) -> None:
        """Write to the master of that name, logging in to its servers with ``credentials``."""
        self.writers[name] = Writer(self, name, credentials)

    def moved(self, name: str, place: tuple[str, int]) -> None:
        """A Sentinel announced a new address."""
        if name in self.writers:
            self.writers[name].moved(place)

    def _program(self, host: SimHost) -> None:
        for line in self.lines:
            line.start()
        for writer in self.writers.values():
            writer.start()
        self._beat()

    def _beat(self) -> None:
        self.host.reactor.callLater(self._period, self._beat)
        for writer in self.writers.values():
            writer.beat()
