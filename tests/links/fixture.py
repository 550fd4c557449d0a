"""A fixture for links: a fake network that tests control, and a core that records its inputs."""

# mypy: allow-untyped-calls
from __future__ import annotations

from bisect import insort
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
from txsentinel.core.instances import Instance, InstanceLink, Master
from txsentinel.core.link import LinkKind
from txsentinel.core.options import SentinelOptions
from txsentinel.core.switchover_state import WriteLimits
from txsentinel.links.context import Secure
from txsentinel.links.pool import LinkPool
from txsentinel.model.address import Address
from txsentinel.model.failure import FailureClass
from txsentinel.model.measurements import Measurements
from txsentinel.model.timings import Limits, Millis, Timings

MY_ID = "0123456789abcdef0123456789abcdef01234567"
BOTH = (LinkKind.COMMANDS, LinkKind.PUBSUB)
LOCAL_ADDRESS = IPv4Address("TCP", "10.0.0.1", 50_000)


class FakeTransport(StringTransport):
    """A fake transport that counts writes and closes in a later turn, as real ones do."""

    def __init__(self, connector: FakeConnector) -> None:
        super().__init__(hostAddress=LOCAL_ADDRESS, peerAddress=IPv4Address("TCP", connector.host, connector.port))
        self.connector = connector
        self.protocol: Any = None
        self.writes: list[bytes] = []
        self.no_delay = False
        self.aborted = False
        self.hangs = False
        """Whether the other side acknowledges nothing, so that an orderly close never finishes."""

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
        """End the connection, once."""
        if self.connected:
            self.connected = False
            reason = Failure(error)
            self.protocol.connectionLost(reason)
            self.connector.connectionLost(reason)

    def failIfNotConnected(self, error: Exception) -> None:
        self.connector.connectionFailed(Failure(error))

    def take_written(self) -> bytes:
        """Return the bytes written since the last call."""
        value: bytes = self.value()
        self.clear()
        return value


class FakeConnector(BaseConnector):
    """A connector whose attempts end as the test demands."""

    reactor: Any
    transport: Any

    def __init__(self, reactor: FakeReactor, host: str, port: int, factory: Any, timeout: float, source: Any) -> None:
        super().__init__(factory, timeout, reactor)  # type: ignore[arg-type]
        self.host, self.port, self.source = host, port, source
        self.attempts = 0

    def _makeTransport(self) -> Any:
        self.attempts += 1
        return FakeTransport(self)

    def accept(self) -> FakeTransport:
        """Establish the connection."""
        transport: FakeTransport = self.transport
        protocol = self.buildProtocol(transport.getPeer())
        assert protocol is not None
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def refuse(self) -> None:
        """Refuse the connection."""
        self.connectionFailed(Failure(ConnectionRefusedError()))


class FakeReactor(Clock):
    """A fake reactor with clock and TCP."""

    def __init__(self) -> None:
        super().__init__()
        self.connectors: list[FakeConnector] = []

    def _sortCalls(self) -> None:
        """Put the latest call in its place; to sort thousands anew for each of them takes minutes."""
        if self.calls:
            insort(self.calls, self.calls.pop())

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        connector = FakeConnector(self, host, port, factory, timeout, bindAddress)
        self.connectors.append(connector)
        connector.connect()
        return connector


class FakeHost:
    """The part of a host that links use."""

    def __init__(self) -> None:
        self.reactor = FakeReactor()

        self.poll_duration: Millis = 0
        """Milliseconds that each nested poll takes."""

    nested_poll_active = False

    def yield_to_clients(self) -> bool:
        """Advance the clock as a nested poll does."""
        self.reactor.rightNow += self.poll_duration / 1000
        return bool(self.poll_duration)

    def now(self) -> Millis:
        return round(self.reactor.seconds() * 1000)


class RecordingCore:
    """Records its inputs; ``reaction`` is called in the turn that follows."""

    def __init__(self) -> None:
        self.options = SentinelOptions(my_id=MY_ID)
        self.timings = Timings()
        self.received: list[tuple[Any, ...]] = []
        self.failures: list[FailureClass | None] = []
        """The classes of the lost connections and failed attempts, in order."""

        self.refusals: list[tuple[str, str]] = []

    def take_inputs(self) -> list[tuple[Any, ...]]:
        """Return the inputs since the last call."""
        received, self.received = self.received, []
        return received

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        self.received.append(("up", kind, local_ip, now))

    def link_down(
        self, link: InstanceLink, kind: LinkKind, reason: str, now: Millis, failure: FailureClass | None
    ) -> None:
        self.received.append(("down", kind, reason, now))
        self.failures.append(failure)

    def command_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        self.refusals.append((command, error))

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

    def command_reply(self, link: InstanceLink, number: int, reply: object, now: Millis) -> None:
        self.received.append(("command", number, reply, now))

    def pubsub_active(self, link: InstanceLink, now: Millis) -> None:
        self.received.append(("active", now))

    def follow_order_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        self.received.append(("order refused", command, error))

    def handover_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        self.received.append(("refused", command, error))

    def clients_closed(self, link: InstanceLink, clients: int, now: Millis) -> None:
        self.received.append(("clients closed", clients))

    def write_limits_read(self, link: InstanceLink, limits: WriteLimits | None, error: str, now: Millis) -> None:
        self.received.append(("limits", limits or error))

    def writes_held(self, link: InstanceLink, info: bytes, now: Millis) -> None:
        self.received.append(("held", info))

    def old_master_demoted(self, link: InstanceLink, info: bytes | None, to_write: int | None, now: Millis) -> None:
        self.received.append(("demoted", info, to_write))

    def rights_checked(self, link: InstanceLink, denied: dict[str, str], now: Millis) -> None:
        self.received.append(("rights", denied))

    def writes_paused(self, link: InstanceLink, now: Millis) -> None:
        self.received.append(("paused", now))

    def write_pause_refused(self, link: InstanceLink) -> None:
        self.received.append(("pause refused",))

    def writes_resumed(self, link: InstanceLink) -> None:
        self.received.append(("resumed",))

    def master_down_reply(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> None:
        self.received.append(("opinion", master.name, reply, now))


class FakeOptions:
    """The options for outgoing connections."""

    bind_source_addr: str | None = None


class Fixture:
    """A pool with all its dependencies."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        connect_server: Callable[..., object] | None = None,
        connect_peer: Callable[..., object] | None = None,
        secure: Secure | None = None,
    ) -> None:
        self.host = FakeHost()
        self.core = RecordingCore()
        self.settings = FakeOptions()
        self.reaction: Callable[[], None] | None = None
        self.turns = 0
        self.measurements = Measurements()
        self._others = 0
        self.pool = LinkPool(
            self.host,  # type: ignore[arg-type]
            self.core,
            self.settings,
            self._turn,
            limits or Limits(),
            connect_server=connect_server,
            connect_peer=connect_peer,
            secure=secure,
            measurements=self.measurements,
        )

    @property
    def reactor(self) -> FakeReactor:
        return self.host.reactor

    def _turn(self) -> None:
        self.turns += 1
        if self.reaction is not None:
            self.reaction()

    def link(self, kinds: tuple[LinkKind, ...] = BOTH, ip: str = "10.0.0.9", port: int = 6379) -> InstanceLink:
        """Return a link with a master on it."""
        address = Address.literal(ip, port)
        link = InstanceLink(7, address, kinds, self.host.now())
        link.join(Master("mymaster", address, link, self.host.now()))
        return link

    def fail(self, count: int) -> None:
        """Have so many other servers refuse connections."""
        for _ in range(count):
            link = self.link((LinkKind.COMMANDS,))
            self._others += 1
            link.link_id += self._others
            self.do(Connect(link))
            self.reactor.connectors[-1].refuse()

    def do(self, *effects: Any) -> None:
        """Execute effects as the executor does in one turn."""
        for effect in effects:
            self.pool.perform(effect)
        self.pool.flush()

    def pass_time(self, millis: Millis) -> None:
        """Advance the clock from call to call, so that no call is late."""
        end = round(self.reactor.seconds() * 1000) + millis
        while (calls := self.reactor.getDelayedCalls()) and calls[0].getTime() * 1000 <= end:
            self.reactor.advance(max(0.0, calls[0].getTime() - self.reactor.seconds()))
        self.reactor.advance(max(0.0, end / 1000 - self.reactor.seconds()))

    def run_turn(self) -> None:
        """Run one turn of the reactor."""
        self.reactor.advance(0)


def log_lines_of(case: SynchronousTestCase) -> list[str]:
    """Return a list that collects the log lines of txsentinel while ``case`` runs."""
    lines: list[str] = []

    @implementer(ILogObserver)
    class Lines:
        """Collects the text of the log events of txsentinel."""

        def __call__(self, event: LogEvent) -> None:
            if str(event.get("log_namespace", "")).startswith("txsentinel"):
                lines.append(event["log_format"].format(**event))

    observer = Lines()
    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)
    return lines
