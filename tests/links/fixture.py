"""A stage for links: a network that does what a test says, and a core that writes down what it hears."""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.base import BaseConnector
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txsentinel.core.effects import Connect
from txsentinel.core.instances import Instance, Master
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.core.options import SentinelOptions
from txsentinel.links.pool import LinkPool
from txsentinel.model.address import Address
from txsentinel.model.timings import Limits, Millis, Timings

MY_ID = "0123456789abcdef0123456789abcdef01234567"
BOTH = (LinkKind.COMMANDS, LinkKind.PUBSUB)
NEAR_END = IPv4Address("TCP", "10.0.0.1", 50_000)


class StageTransport(StringTransport):
    """One of our ends: it counts writes, and closes in a later turn, as real ones do."""

    def __init__(self, connector: StageConnector) -> None:
        super().__init__(hostAddress=NEAR_END, peerAddress=IPv4Address("TCP", connector.host, connector.port))
        self.connector = connector
        self.protocol: Any = None
        self.writes: list[bytes] = []
        self.no_delay = False
        self.aborted = False
        self.hangs = False
        """The other side acknowledges nothing: a polite close takes for ever."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def loseConnection(self) -> None:
        self.disconnecting = True
        if not self.hangs:
            self.connector.reactor.callLater(0, self.lost, ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self.connector.reactor.callLater(0, self.lost, ConnectionAborted())

    def lost(self, error: Exception) -> None:
        """The connection ends, once."""
        if self.connected:
            self.connected = False
            reason = Failure(error)
            self.protocol.connectionLost(reason)
            self.connector.connectionLost(reason)

    def failIfNotConnected(self, error: Exception) -> None:
        self.connector.connectionFailed(Failure(error))

    def said(self) -> bytes:
        """What was written since the last call."""
        value: bytes = self.value()
        self.clear()
        return value


class StageConnector(BaseConnector):
    """A connector whose attempts end as the test says."""

    reactor: Any
    transport: Any

    def __init__(self, reactor: StageReactor, host: str, port: int, factory: Any, timeout: float, source: Any) -> None:
        super().__init__(factory, timeout, reactor)  # type: ignore[arg-type]
        self.host, self.port, self.source = host, port, source
        self.attempts = 0

    def _makeTransport(self) -> Any:
        self.attempts += 1
        return StageTransport(self)

    def accept(self) -> StageTransport:
        """The other side takes the connection."""
        transport: StageTransport = self.transport
        protocol = self.buildProtocol(transport.getPeer())
        assert protocol is not None
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def refuse(self) -> None:
        """Nobody listens there."""
        self.connectionFailed(Failure(ConnectionRefusedError()))


class StageReactor(Clock):
    """Time and TCP by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.connectors: list[StageConnector] = []

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        connector = StageConnector(self, host, port, factory, timeout, bindAddress)
        self.connectors.append(connector)
        connector.connect()
        return connector


class StageHost:
    """As much of a host as links use."""

    def __init__(self) -> None:
        self.reactor = StageReactor()

        self.breath: Millis = 0
        """How long others have the word between two steps."""

    nested_poll_active = False

    def yield_to_clients(self) -> bool:
        """Let others have the word."""
        self.reactor.rightNow += self.breath / 1000
        return bool(self.breath)

    def now(self) -> Millis:
        return round(self.reactor.seconds() * 1000)


class RecordingCore:
    """Writes down what it is told; ``reaction`` is called in the turn that follows."""

    def __init__(self) -> None:
        self.options = SentinelOptions(my_id=MY_ID)
        self.timings = Timings()
        self.received: list[tuple[Any, ...]] = []

    def told(self) -> list[tuple[Any, ...]]:
        """What it heard since the last call."""
        received, self.received = self.received, []
        return received

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        self.received.append(("up", kind, local_ip, now))

    def link_down(self, link: InstanceLink, kind: LinkKind, reason: str, now: Millis) -> None:
        self.received.append(("down", kind, reason, now))

    def ping_reply(self, link: InstanceLink, kind: LinkKind, reply: bytes | None, now: Millis) -> None:
        self.received.append(("ping", kind, reply, now))

    def info_reply(self, link: InstanceLink, text: bytes | None, now: Millis) -> None:
        self.received.append(("info", text, now))

    def promotion_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        self.received.append(("promotion refused", command, error, now))

    def role_reply(self, link: InstanceLink, role: bytes | None, refused: bool, now: Millis) -> None:
        self.received.append(("role", role, refused, now))

    def publish_reply(self, link: InstanceLink, instance: Instance, accepted: bool, now: Millis) -> None:
        self.received.append(("published", instance.name, accepted, now))

    def hello_received(self, payload: bytes, now: Millis, link: InstanceLink | None) -> None:
        self.received.append(("hello", payload, now))

    def id_reply(self, link: InstanceLink, reply: object, now: Millis) -> None:
        self.received.append(("id", reply, now))

    def pubsub_active(self, link: InstanceLink, now: Millis) -> None:
        self.received.append(("active", now))

    def handover_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        self.received.append(("refused", command, error))

    def master_down_reply(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> None:
        self.received.append(("opinion", master.name, reply, now))


class DialSettings:
    """How connections are made."""

    bind_source_addr: str | None = None


class Fixture:
    """A pool with everything around it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.host = StageHost()
        self.core = RecordingCore()
        self.settings = DialSettings()
        self.reaction: Callable[[], None] | None = None
        self.turns = 0
        self._others = 0
        self.pool = LinkPool(self.host, self.core, self.settings, self._turn, limits or Limits())  # type: ignore[arg-type]

    @property
    def reactor(self) -> StageReactor:
        return self.host.reactor

    def _turn(self) -> None:
        self.turns += 1
        if self.reaction is not None:
            self.reaction()

    def link(self, kinds: tuple[LinkKind, ...] = BOTH, ip: str = "10.0.0.9", port: int = 6379) -> InstanceLink:
        """A link with a master on it."""
        address = Address.literal(ip, port)
        link = InstanceLink(7, address, kinds, self.host.now())
        link.join(Master("mymaster", address, link, self.host.now()))
        return link

    def fail(self, count: int) -> None:
        """So many other servers cannot be reached."""
        for _ in range(count):
            link = self.link((LinkKind.COMMANDS,))
            self._others += 1
            link.link_id += self._others
            self.do(Connect(link))
            self.reactor.connectors[-1].refuse()

    def do(self, *effects: Any) -> None:
        """What the executor does with the decisions of one turn."""
        for effect in effects:
            self.pool.perform(effect)
        self.pool.flush()

    def pass_time(self, millis: Millis) -> None:
        """From event to event, so that nothing is late."""
        end = round(self.reactor.seconds() * 1000) + millis
        while (calls := self.reactor.getDelayedCalls()) and min(call.getTime() for call in calls) * 1000 <= end:
            self.reactor.advance(max(0.0, min(call.getTime() for call in calls) - self.reactor.seconds()))
        self.reactor.advance(max(0.0, end / 1000 - self.reactor.seconds()))

    def turn_over(self) -> None:
        """The reactor goes round once: what was put off until the next turn happens."""
        self.reactor.advance(0)


def log_lines_of(case: SynchronousTestCase) -> list[str]:
    """What txsentinel logs while ``case`` runs, as text."""
    lines: list[str] = []

    @implementer(ILogObserver)
    class Lines:
        """Collects the text of our own log events."""

        def __call__(self, event: LogEvent) -> None:
            if str(event.get("log_namespace", "")).startswith("txsentinel"):
                lines.append(event["log_format"].format(**event))

    observer = Lines()
    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)
    return lines
