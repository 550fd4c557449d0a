"""A proxy over servers and Sentinels in memory, and clients whose transports a test looks into."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.memorynet import MemoryNet, MemoryRedis, MemorySentinel
from txsentinel.client import MasterFollower
from txsentinel.client.links import Access
from txsentinel.proxy.server import MasterProxy, ProxyOptions
from txsentinel.proxy.session import ClientSide, ServerRoute

OLD, NEW, OTHER = 7001, 7002, 7003


class ClientTransport(StringTransport):
    """A transport whose end is delivered when the clock runs, as a reactor does."""

    def __init__(self, net: MemoryNet, protocol: ClientSide) -> None:
        super().__init__(
            IPv4Address("TCP", "10.0.0.9", 40000),  # the address of the port
            IPv4Address("TCP", "10.0.0.8", 50000),
        )
        self.net = net
        self.client = protocol
        self.aborted = False
        self.output_ended = False
        self.stalled = False
        """Whether the client takes nothing, so that a connection that is closed stays open."""

    def unregisterProducer(self) -> None:
        """Remove the producer, if there is one."""
        if self.producer is not None:
            super().unregisterProducer()

    def loseWriteConnection(self) -> None:
        """End the output."""
        self.output_ended = True

    def loseConnection(self) -> None:
        """Close, unless the client is stalled."""
        super().loseConnection()
        if not self.stalled:
            self.net.callLater(0, self.ended)

    def abortConnection(self) -> None:
        """Close at once."""
        self.aborted = True
        self.net.callLater(0, self.ended)

    def ended(self) -> None:
        """Notify the protocol, once."""
        if self.connected:
            self.connected = False
            self.client.connectionLost(Failure(ConnectionResetError()))


class ProxyCase(SynchronousTestCase):
    """Three Sentinels that agree on a master at port ``OLD``, with replicas at ``NEW`` and ``OTHER``."""

    def setUp(self) -> None:
        self.net = MemoryNet()
        self.old = MemoryRedis(self.net, OLD)
        self.new = MemoryRedis(self.net, NEW, "slave")
        self.other = MemoryRedis(self.net, OTHER, "slave")
        self.old.replicas = {NEW: 100, OTHER: 90}
        self.sentinels = [MemorySentinel(self.net, port, mymaster=(OLD, 1)) for port in (5001, 5002, 5003)]
        self.proxies: list[MasterProxy] = []
        self.addCleanup(self.assert_nothing_left)

    def assert_nothing_left(self) -> None:
        """Assert that stop leaves neither connections nor timers."""
        for proxy in self.proxies:
            stopping = proxy.stop()
            self.net.run(5)
            self.successResultOf(stopping)
            self.assertEqual((proxy.sessions, proxy.held), (set(), set()))
        self.assertEqual((self.net.open, self.net.pending()), ([], []))

    def proxy(self, password: str | None = None, **options: Any) -> MasterProxy:
        """Return a started proxy."""
        settings = ProxyOptions(**options)
        follower = MasterFollower(
            self.net,
            [("127.0.0.1", sentinel.port) for sentinel in self.sentinels],
            "mymaster",
            timeout=settings.hold + 1,
            reply_timeout=2.0,
            password=password,
        )
        proxy = MasterProxy(follower, Access(self.net, 2.0, password), settings)
        self.proxies.append(proxy)
        proxy.start()
        self.net.run_due()
        return proxy

    def connect(self, proxy: MasterProxy, route: ServerRoute | None = None) -> ClientTransport:
        """Return the transport of a new client of the proxy."""
        session = proxy.new_session(route or proxy.master_route, IPv4Address("TCP", "10.0.0.8", 50000))
        transport = ClientTransport(self.net, session.client)
        session.client.makeConnection(transport)
        self.net.run_due()
        return transport

    def send(self, transport: ClientTransport, data: bytes) -> bytes:
        """Send, and return all that the client has received since the last time."""
        transport.client.dataReceived(data)
        self.net.run_due()
        return self.received(transport)

    def received(self, transport: ClientTransport) -> bytes:
        """Return all that the client has received since the last time."""
        received: bytes = transport.value()
        transport.clear()
        return received

    def fail_over(self) -> None:
        """Promote the replica at ``NEW``, demote the master, and let all Sentinels announce it."""
        self.new.role, self.old.role = "master", "slave"
        self.new.replicas = {OTHER: 200}
        for sentinel in self.sentinels:
            sentinel.switch("mymaster", NEW, 2)
        self.net.run_due()
