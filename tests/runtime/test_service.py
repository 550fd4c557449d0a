"""Tests of the start and the end of the service: the order, failures in the middle, and the end during the start."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.config.disk import MemoryDisk
from tests.config.state import FakeFiles
from tests.links.fixture import FakeReactor
from tests.runtime.doubles import StepHost
from tests.runtime.test_listeners import FakePort, ListeningReactor
from txsentinel.config.configuration import load
from txsentinel.config.write_attempts import STOP_LIMIT
from txsentinel.interfaces import ISentinelListener
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.runtime.listeners import CannotStart
from txsentinel.runtime.restoring import load_users
from txsentinel.runtime.service import SentinelService
from txsentinel.server.process_info import version_and_build
from txsentinel.server.protocol import SentinelProtocol

if TYPE_CHECKING:
    from txsentinel.interfaces import IHost

MY_ID = "a" * 40
PORT = "127.0.0.1:26379"
PLAIN = "bind 127.0.0.1\nsentinel monitor m 10.0.0.1 6379 1\n"
WITH_ID = f"{PLAIN}sentinel myid {MY_ID}\n"


class ServiceReactor(ListeningReactor, FakeReactor):
    """A reactor that records ports and outgoing connections, and in which order they were opened."""

    def __init__(self, errors: dict[str, OSError]) -> None:
        super().__init__(errors)
        self.order: list[str] = []

    def listenTCP(self, port: int, factory: ServerFactory, backlog: int, interface: str) -> FakePort:
        """Open a port, or fail as ordered."""
        self.order.append("listen")
        return super().listenTCP(port, factory, backlog, interface)

    def connectTCP(
        self, host: str, port: int, factory: object, timeout: float = 30, bindAddress: object = None
    ) -> object:
        """Begin to connect."""
        self.order.append("connect")
        return super().connectTCP(host, port, factory, timeout, bindAddress)


class ServiceHost(StepHost):
    """A host whose disk and network do what a test demands."""

    def __init__(self, errors: dict[str, OSError]) -> None:
        super().__init__()
        self.reactor: ServiceReactor = ServiceReactor(errors)
        self.files = FakeFiles()


@implementer(ISentinelListener)
class RecordingListener:
    """Records events, and calls nobody."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event_published(self, event: SentinelEvent) -> None:
        """Record an event."""
        self.events.append(event.channel)


class ServiceCase(SynchronousTestCase):
    """The base of the tests: a service of one master, with a host that does nothing by itself."""

    def build(self, text: str = WITH_ID, error: OSError | None = None) -> None:
        """Build a service; its port cannot be opened if there is an ``error``."""
        self.host = ServiceHost({} if error is None else {PORT: error})
        self.reactor, self.files = self.host.reactor, self.host.files
        self.notes: list[tuple[Level, str]] = []
        self.listener = RecordingListener()
        self.ends = 0
        self.links_counted: list[int] = []
        self.service = SentinelService(
            cast("IHost", self.host),
            load("/sentinel.conf", text.encode(), disk=MemoryDisk()),
            note=lambda level, line: self.notes.append((level, line)),
            listeners=self.listener,
            shutdown=self.end,
            available_descriptors=self.available_descriptors,
        )

    def end(self) -> None:
        """Record the order to end the process."""
        self.ends += 1

    def available_descriptors(self, links: int) -> int:
        """Record the number of links; there are descriptors for ten clients."""
        self.links_counted.append(links)
        return 10

    def start(self, text: str = WITH_ID) -> None:
        """Build a service and start it."""
        self.build(text)
        self.service.startService()

    def seen(self) -> tuple[list[str], int, bool]:
        """Return the open ports, the number of outgoing connections, and whether the service serves."""
        return self.reactor.open(), len(self.reactor.connectors), self.service.serving.called

    def texts(self) -> list[str]:
        """Return the lines of the log."""
        return [text for _, text in self.notes]

    def connect(self) -> tuple[SentinelProtocol, StringTransport]:
        """Connect a client to the open port."""
        factory = self.reactor.ports[0].factory
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40_000))
        assert isinstance(protocol, SentinelProtocol)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport


NOTHING: tuple[list[str], int, bool] = ([], 0, False)


class StartTests(ServiceCase):
    """The start."""

    def test_nothing_before_the_start(self) -> None:
        """The constructor opens, schedules and saves nothing, because the process forks after it."""
        self.build()
        self.assertEqual(self.seen(), NOTHING)
        self.assertEqual((self.reactor.getDelayedCalls(), self.files.writes, self.notes), ([], [], []))

    def test_the_order(self) -> None:
        """Ports are opened before masters are announced and connected to; each step is logged."""
        self.build()
        order = self.reactor.order
        self.service.serving.addCallback(lambda _: order.append("serving"))
        self.service.startService()
        self.assertEqual(order, ["listen", "connect", "connect", "serving"])
        texts = self.texts()
        self.assertEqual(texts[0], f"{version_and_build()} is starting.")
        self.assertEqual(texts[1:3], ["Running mode=sentinel, port=26379.", f"Sentinel ID is {MY_ID}"])
        self.assertTrue(texts[3].startswith("+monitor master m 10.0.0.1 6379"), texts)
        self.assertEqual(self.listener.events, ["+monitor"])
        self.assertEqual(self.seen(), ([PORT], 2, True))

    def test_sweeps(self) -> None:
        """The core is swept from the start on: a master that never answers becomes S_DOWN."""
        self.start(WITH_ID + "sentinel down-after-milliseconds m 1000\n")
        for _ in range(30):
            self.reactor.advance(0.1)
            self.assertFalse(self.host.exits)
        self.assertIn("+sdown", self.listener.events)

    def test_a_new_id(self) -> None:
        """Without an ID nothing is opened before the new one is durable."""
        self.start(PLAIN)
        self.assertEqual(self.seen(), NOTHING)
        self.reactor.advance(0)
        self.assertEqual(self.seen(), NOTHING)
        contents = self.files.done()
        own_id = self.service.core.options.my_id
        self.assertRegex(own_id, "^[0-9a-f]{40}$")
        self.assertIn(f"sentinel myid {own_id}\n", contents)
        self.assertEqual(self.seen(), ([PORT], 2, True))
        self.assertIn(f"Sentinel ID is {own_id}", self.texts())

    def test_a_new_id_that_cannot_be_saved(self) -> None:
        """A disk that is full does not prevent monitoring."""
        self.start(PLAIN)
        self.reactor.advance(0)
        self.files.fail()
        self.assertEqual(self.seen(), ([PORT], 2, True))
        self.assertTrue(self.service.core.state.storage_failing)

    def test_a_port_in_use(self) -> None:
        """The start fails with the reason, and nothing is monitored."""
        self.build(error=OSError(errno.EADDRINUSE, "Address already in use"))
        refusal = self.assertRaises(CannotStart, self.service.startService)
        self.assertEqual(str(refusal), "Failed listening on port 26379 (TCP), aborting.")
        self.assertIn((Level.WARNING, str(refusal)), self.notes)
        self.assertEqual((self.seen(), self.listener.events), (NOTHING, []))
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_port_in_use_after_the_first_save(self) -> None:
        """The start has returned then, so the process exits with status 1."""
        self.build(PLAIN, error=OSError(errno.EADDRINUSE, "Address already in use"))
        self.service.startService()
        self.reactor.advance(0)
        self.assertEqual(self.host.exits, [])
        self.files.done()
        ports, _, serving = self.seen()
        self.assertEqual((self.host.exits, ports, serving), ([1], [], False))

    def test_the_disk_is_checked(self) -> None:
        """Whether the file can be saved is checked at the start, and becomes known before a vote depends on it."""
        self.start()
        self.assertEqual(len(self.files.probes), 1)
        self.files.probes[0].errback(OSError(errno.EROFS, "Read-only file system"))
        self.assertTrue(self.service.core.state.storage_failing)

    def test_passwords_in_clear_text(self) -> None:
        """They are replaced by their digests at the start."""
        self.start(WITH_ID + "user a on >secret\n")
        self.reactor.advance(0)
        contents = self.files.done()
        self.assertIn("user a on", contents)
        self.assertNotIn("secret", contents)

    def test_a_recovered_file(self) -> None:
        """A file that was recovered is reported and saved, so that the recovery record goes."""
        self.build()
        self.service.configuration.recovered = "The file was recovered"
        self.service.startService()
        self.assertEqual(self.notes[0], (Level.WARNING, "The file was recovered"))
        self.reactor.advance(0)
        self.assertIn(f"sentinel myid {MY_ID}\n", self.files.done())

    def test_unusable_tls_files(self) -> None:
        """They end the start before any port is opened."""
        self.build(WITH_ID + "tls-port 26380\n")
        refusal = self.assertRaises(CannotStart, self.service.startService)
        self.assertIn("TLS", str(refusal))
        self.assertEqual(self.seen(), NOTHING)

    def test_view_before_the_start(self) -> None:
        """A view that was read before the start shows the masters of the file right after it, and has PING measured."""
        for text in (WITH_ID, PLAIN):
            self.build(text)
            measured = self.service.executor.measurements
            self.assertFalse(measured.observed)
            view = self.service.surface.view
            self.assertTrue(measured.observed)
            self.assertEqual(view.masters(), ())
            self.service.startService()
            self.assertEqual([each.name for each in view.masters()], ["m"])
            self.assertEqual(view.master("m").address.port, 6379)

    def test_users_before_the_start(self) -> None:
        """Extensions are built before the start; they see the users by then, who are declared once."""
        self.build(WITH_ID + "user a on >secret\n")
        self.assertFalse(self.service.surface.operator.has_passwords())
        load_users(self.service.context.access, self.service.configuration, lambda level, line: None)
        self.assertTrue(self.service.surface.operator.has_passwords())
        self.assertIsNotNone(self.service.surface.operator.authenticate("a", "secret", "test"))
        self.service.startService()
        self.assertEqual([user.name for user in self.service.context.access.all_users()], ["a", "default"])

    def test_unusable_users(self) -> None:
        """They end the start before the state is restored or anything is opened."""
        self.build(WITH_ID + 'user "bad name" on\n')
        refusal = self.assertRaises(CannotStart, self.service.startService)
        self.assertIn((Level.WARNING, str(refusal)), self.notes)
        self.assertEqual((self.seen(), self.service.core.registry.masters), (NOTHING, {}))
        self.successResultOf(self.service.stopService())

    def test_descriptors(self) -> None:
        """The number of clients that are possible depends on the number of links."""
        self.start()
        self.connect()
        self.assertEqual(self.links_counted, [1])


class RunTests(ServiceCase):
    """What the service passes between its parts."""

    def test_commands(self) -> None:
        """A client is served; a change of the log level is applied and saved; SHUTDOWN ends the process."""
        self.start()
        protocol, transport = self.connect()
        protocol.dataReceived(b"PING\r\n")
        self.assertEqual(transport.value(), b"+PONG\r\n")
        transport.clear()
        protocol.dataReceived(b"SENTINEL CONFIG SET loglevel debug\r\n")
        self.assertEqual(transport.value(), b"")
        self.reactor.advance(0)
        self.assertIn("loglevel debug\n", self.files.done())
        self.assertEqual(transport.value(), b"+OK\r\n")
        protocol.dataReceived(b"SHUTDOWN\r\n")
        self.reactor.advance(0)
        self.assertEqual(self.ends, 1)

    def test_events(self) -> None:
        """An event reaches subscribers and listeners, once it is durable."""
        self.start()
        protocol, transport = self.connect()
        protocol.dataReceived(b"PSUBSCRIBE *\r\n")
        transport.clear()
        protocol_of_order, _ = self.connect()
        protocol_of_order.dataReceived(b"SENTINEL SET m quorum 2\r\n")
        self.reactor.advance(0)
        self.assertNotIn("+set", self.listener.events)
        self.files.done()
        self.reactor.advance(0)
        self.assertIn("+set", self.listener.events)
        self.assertIn(b"+set", transport.value())


class StopTests(ServiceCase):
    """The end, after the first probe of the disk, for which it would wait."""

    def start(self, text: str = WITH_ID) -> None:
        """Build a service, start it, and let its probe succeed."""
        super().start(text)
        self.files.probes[0].callback("")

    def test_everything_is_closed(self) -> None:
        """Ports, clients and links are closed, and no timer is left."""
        self.start()
        links = [connector.accept() for connector in self.reactor.connectors]
        _, transport = self.connect()
        stopped = self.service.stopService()
        self.assertEqual((self.reactor.open(), transport.disconnecting), ([], True))
        self.assertNoResult(stopped)
        while any(link.connected for link in links):
            self.reactor.advance(1.0)
        self.successResultOf(stopped)
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if call.active()], [])

    def test_no_more_decisions(self) -> None:
        """After the end nothing is evaluated, announced or connected to."""
        self.start(WITH_ID + "sentinel down-after-milliseconds m 1000\n")
        self.service.stopService()
        before = len(self.reactor.connectors)
        for _ in range(50):
            self.reactor.advance(0.1)
        self.assertEqual((self.listener.events, len(self.reactor.connectors)), (["+monitor"], before))

    def test_the_last_write(self) -> None:
        """The end waits for the write of the last change."""
        self.start()
        protocol, _ = self.connect()
        protocol.dataReceived(b"SENTINEL SET m quorum 2\r\n")
        stopped = self.service.stopService()
        self.reactor.advance(2.0)
        self.assertNoResult(stopped)
        self.assertIn("sentinel monitor m 10.0.0.1 6379 2\n", self.files.done())
        self.successResultOf(stopped)

    def test_a_disk_that_hangs(self) -> None:
        """The end waits for a write for a limited time."""
        self.start()
        protocol, _ = self.connect()
        protocol.dataReceived(b"SENTINEL SET m quorum 2\r\n")
        stopped = self.service.stopService()
        self.reactor.pump([0.1] * int(10 * STOP_LIMIT - 5))
        self.assertNoResult(stopped)
        self.reactor.pump([0.1] * 10)
        self.successResultOf(stopped)

    def test_while_the_first_save_is_awaited(self) -> None:
        """A service that is stopped before its ID is durable opens nothing any more."""
        self.start(PLAIN)
        self.reactor.advance(0)
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.files.done()
        self.successResultOf(stopped)
        self.assertEqual((self.seen(), self.listener.events, self.host.exits), (NOTHING, [], []))

    def test_twice(self) -> None:
        """A further call has the outcome of the first, before and after the end."""
        self.start()
        for connector in self.reactor.connectors:
            connector.accept()
        first, second = self.service.stopService(), self.service.stopService()
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.reactor.pump([1.0] * 3)
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(self.service.stopService())

    def test_without_a_start(self) -> None:
        """A service that was never started saves nothing and ends at once."""
        self.build()
        self.successResultOf(self.service.stopService())
        self.assertEqual((self.files.writes, self.reactor.getDelayedCalls()), ([], []))
