"""Tests of the proxy in memory: roles, waiting, switches, ends, backpressure, limits."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.memorynet import End, ServedConnection
from tests.proxy.fixture import NEW, OLD, OTHER, ClientTransport, ProxyCase
from txsentinel.client import MasterAddress
from txsentinel.extensions.metrics.format import Format
from txsentinel.model.proxy_header import SocketAddress, encoded
from txsentinel.proxy.page import page, summary
from txsentinel.proxy.routes import OnlineReplica, online_replicas, role_problem
from txsentinel.proxy.server import MasterProxy, with_backlog
from txsentinel.proxy.session import CLOSE_TIMEOUT, HEADER_TIMEOUT, MAX_EARLY_BYTES, RETRY_DELAY
from txsentinel.wire.resp import pack
from txsentinel.wire.values import ErrorLine

SET = pack("SET", "color", "blue")
GET = pack("GET", "color")


@implementer(IHalfCloseableProtocol)
class RecordingServer(Protocol):
    """A server that records, and sends what a test wants."""

    def __init__(self) -> None:
        self.data = b""
        self.input_ended = False
        self.closed = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def readConnectionLost(self) -> None:
        self.input_ended = True

    def writeConnectionLost(self) -> None:
        """Do nothing: this side has ended its output."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True

    def send(self, data: bytes) -> None:
        """Send to the client."""
        assert self.transport is not None
        self.transport.write(data)


class PassingTests(ProxyCase):
    """Connections while there is a master."""

    def recorded(self) -> RecordingServer:
        """Return what clients are connected to; the first connection, that of the follower, is answered as usual."""
        server = RecordingServer()
        connections = iter(range(100))

        def made(address: IAddress) -> Protocol:
            return ServedConnection(self.old) if next(connections) == 0 else server

        self.net.listeners[OLD] = made
        return server

    def test_commands_pass(self) -> None:
        """A client reads and writes as if it were connected to the master."""
        client = self.connect(self.proxy())
        self.assertEqual(self.send(client, SET), b"+OK\r\n")
        self.assertEqual(self.send(client, GET), b"$4\r\nblue\r\n")

    def test_role_is_confirmed_before_the_first_byte(self) -> None:
        """No byte reaches a server that has been demoted without an announcement."""
        proxy = self.proxy()
        self.old.role = "slave"
        client = self.connect(proxy)
        self.assertEqual(self.send(client, SET), b"")
        self.assertEqual((self.old.words("SET"), client.disconnecting), ([], False))
        self.assertIsNone(proxy.follower.address)

    def test_clients_share_questions(self) -> None:
        """Clients that arrive together share the questions for the role."""
        proxy = self.proxy()
        before = len(self.old.words("ROLE"))
        sessions = [proxy.new_session(proxy.master_route, None) for _ in range(50)]
        for session in sessions:
            session.client.makeConnection(ClientTransport(self.net, session.client))
        self.net.run_due()
        self.assertTrue(all(session.server is not None for session in sessions))
        self.assertIn(len(self.old.words("ROLE")) - before, (1, 2))

    def test_clients_log_in_themselves(self) -> None:
        """The password of the proxy is used for its own connection only."""
        self.old.password = "secret"
        client = self.connect(self.proxy(password="secret"))
        self.assertEqual(self.send(client, GET), b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(self.send(client, pack("AUTH", "secret") + GET), b"+OK\r\n$-1\r\n")

    def test_end_of_the_server(self) -> None:
        """When the server closes, the connection of the client is closed."""
        proxy = self.proxy()
        client = self.connect(proxy)
        self.old.crash()
        self.net.run_due()
        self.assertTrue(client.disconnecting)
        self.assertEqual((proxy.sessions, proxy.counters.closed["server"]), (set(), 1))

    def test_end_of_the_client(self) -> None:
        """When the client is gone, its connection to the server is closed."""
        proxy = self.proxy()
        client = self.connect(proxy)
        connections = len(self.old.connections)
        client.ended()
        self.net.run_due()
        self.assertEqual(len(self.old.connections), connections - 1)
        self.assertEqual((proxy.sessions, proxy.counters.closed["client"]), (set(), 1))

    def test_half_close_of_the_client(self) -> None:
        """A client that ends its output still gets the replies, and then the end."""
        server = self.recorded()
        client = self.connect(self.proxy())
        self.send(client, b"request")
        client.client.readConnectionLost()
        self.net.run_due()
        self.assertEqual((server.data, server.input_ended, client.disconnecting), (b"request", True, False))
        server.send(b"late reply")
        self.net.run_due()
        self.assertEqual((self.received(client), client.disconnecting), (b"late reply", False))
        assert server.transport is not None
        server.transport.loseConnection()
        self.net.run_due()
        self.assertTrue(client.disconnecting)

    def test_half_close_of_both(self) -> None:
        """When both sides have ended their output, both are closed."""
        server = self.recorded()
        proxy = self.proxy()
        client = self.connect(proxy)
        (session,) = proxy.sessions
        assert session.server is not None
        session.server.readConnectionLost()
        self.assertEqual((client.output_ended, client.disconnecting), (True, False))
        client.client.readConnectionLost()
        self.net.run_due()
        self.assertEqual((client.disconnecting, server.closed, proxy.sessions), (True, True, set()))

    def test_half_close_before_there_is_a_server(self) -> None:
        """A client that sends a request and ends its output while it waits is served when there is a server."""
        proxy = self.proxy()
        self.old.crash()
        self.net.run_due()
        client = self.connect(proxy)
        self.send(client, GET)
        client.client.readConnectionLost()
        self.fail_over()
        self.net.run(1)
        self.assertEqual(self.received(client), b"$-1\r\n")

    def test_backpressure(self) -> None:
        """A side that cannot take more pauses the other one, in both directions."""
        server = self.recorded()
        proxy = self.proxy()
        client = self.connect(proxy)
        (session,) = proxy.sessions
        assert session.server is not None
        transport = session.server.transport
        assert isinstance(transport, End)
        self.assertIs(transport.producer, client)
        self.assertIs(client.producer, transport)
        self.assertTrue(client.streaming)
        client.client.readConnectionLost()
        self.assertIsNone(transport.producer)
        self.assertIs(client.producer, transport)
        self.assertFalse(server.closed)

    def test_early_bytes_are_bounded(self) -> None:
        """Nothing more is read from a client that has sent too much before there is a server; nothing is lost."""
        server = self.recorded()
        proxy = self.proxy()
        sessions = proxy.new_session(proxy.master_route, None)
        client = ClientTransport(self.net, sessions.client)
        sessions.client.makeConnection(client)
        sessions.client.dataReceived(b"x" * (MAX_EARLY_BYTES - 1))
        self.assertEqual(client.producerState, "producing")
        sessions.client.dataReceived(b"yy")
        self.assertEqual(client.producerState, "paused")
        self.net.run_due()
        self.assertEqual(client.producerState, "producing")
        self.assertEqual(server.data, b"x" * (MAX_EARLY_BYTES - 1) + b"yy")

    def test_connections_are_limited(self) -> None:
        """A client above the limit is closed, and the others are not."""
        proxy = self.proxy(max_connections=2)
        clients = [self.connect(proxy) for _ in range(3)]
        self.assertEqual([each.disconnecting for each in clients], [False, False, True])
        self.assertEqual(proxy.counters.closed["limit"], 1)

    def test_backlog(self) -> None:
        """Ports have a backlog for clients that connect all at once, unless another one is given."""
        self.assertEqual(with_backlog("tcp:6379:interface=127.0.0.1"), "tcp:6379:interface=127.0.0.1:backlog=4096")
        for description in ("tcp:6379:backlog=5", "systemd:domain=INET:index=0"):
            self.assertEqual(with_backlog(description), description)

    def test_stop_aborts_stalled_clients(self) -> None:
        """A client that takes nothing does not hold up the end."""
        proxy = self.proxy()
        client = self.connect(proxy)
        client.stalled = True
        stopping = proxy.stop()
        self.net.run(CLOSE_TIMEOUT / 2)
        self.assertNoResult(stopping)
        self.net.run(CLOSE_TIMEOUT)
        self.assertTrue(client.aborted)


class WaitingTests(ProxyCase):
    """Connections while there is no master."""

    def lost(self, **options: Any) -> MasterProxy:
        """Return a proxy whose master has crashed."""
        proxy = self.proxy(**options)
        self.old.crash()
        self.net.run_due()
        return proxy

    def test_waits_for_the_new_master(self) -> None:
        """A connection that is made during a failover is served by the new master."""
        proxy = self.lost()
        client = self.connect(proxy)
        self.assertEqual(self.send(client, SET), b"")
        self.assertEqual(len(proxy.held), 1)
        self.net.run(2)
        self.fail_over()
        self.net.run(1)
        self.assertEqual((self.received(client), proxy.held), (b"+OK\r\n", set()))
        self.assertEqual(self.new.keys, {b"color": b"blue"})

    def test_closes_after_the_hold(self) -> None:
        """A connection is closed when the time is over, not before."""
        proxy = self.lost(hold=5.0)
        client = self.connect(proxy)
        self.net.run(4.9)
        self.assertFalse(client.disconnecting)
        self.net.run(0.2)
        self.assertTrue(client.disconnecting)
        self.assertEqual(proxy.counters.closed["hold_expired"], 1)

    def test_waiting_connections_are_limited(self) -> None:
        """One more than may wait is closed at once."""
        proxy = self.lost(max_held=2)
        clients = [self.connect(proxy) for _ in range(3)]
        self.assertEqual([each.disconnecting for each in clients], [False, False, True])
        self.assertEqual(proxy.counters.closed["hold_full"], 1)
        clients[0].ended()
        self.net.run_due()
        self.assertFalse(self.connect(proxy).disconnecting)

    def test_no_limit_with_a_master(self) -> None:
        """Connections to a master that can be used do not count as waiting."""
        proxy = self.proxy(max_held=0)
        self.assertEqual(self.send(self.connect(proxy), GET), b"$-1\r\n")

    def test_client_that_gives_up(self) -> None:
        """A client that closes while it waits is forgotten."""
        proxy = self.lost()
        client = self.connect(proxy)
        client.client.readConnectionLost()
        self.net.run_due()
        self.assertEqual((proxy.sessions, proxy.held), (set(), set()))

    def test_restarted_master(self) -> None:
        """A master that comes back at its address is used again."""
        proxy = self.lost()
        client = self.connect(proxy)
        self.send(client, GET)
        self.old.start()
        self.net.run(2)
        self.assertEqual(self.received(client), b"$-1\r\n")

    def test_hung_master(self) -> None:
        """A master that accepts and does not answer ROLE gets no byte; the client is served after the switch."""
        proxy = self.proxy()
        self.old.hung = True
        client = self.connect(proxy)
        self.send(client, SET)
        self.net.run(1)
        self.fail_over()
        self.net.run(RETRY_DELAY)
        self.assertEqual((self.received(client), self.old.words("SET")), (b"+OK\r\n", []))

    def test_unreachable_master(self) -> None:
        """An attempt to connect to a host that does not answer ends at the switch, not after its timeout."""
        proxy = self.proxy()
        self.net.black_holes.add(OLD)
        client = self.connect(proxy)
        self.send(client, SET)
        self.fail_over()
        self.assertEqual(self.received(client), b"+OK\r\n")

    def test_sentinels_are_gone(self) -> None:
        """Without Sentinels the known master is still used."""
        proxy = self.proxy()
        for sentinel in self.sentinels:
            sentinel.crash()
        self.net.run(30)
        self.assertEqual(self.send(self.connect(proxy), GET), b"$-1\r\n")


class SwitchTests(ProxyCase):
    """What happens to connections when the master changes."""

    def test_both_sides_are_closed(self) -> None:
        """Connections to the former master are closed on both sides at once, although it still runs."""
        proxy = self.proxy()
        clients = [self.connect(proxy) for _ in range(10)]
        self.send(clients[0], SET)
        self.fail_over()
        self.assertTrue(all(client.disconnecting for client in clients))
        self.assertEqual(self.old.connections, [])
        self.assertEqual((proxy.counters.closed["switch"], proxy.counters.cut, proxy.counters.switches), (10, 10, 1))
        self.assertEqual(self.send(self.connect(proxy), GET), b"$-1\r\n")

    def test_drain(self) -> None:
        """With a time to drain, replies still arrive, nothing more is sent, and then both sides are closed."""
        proxy = self.proxy(drain=2.0)
        client = self.connect(proxy)
        self.old.hung = True
        self.send(client, GET)
        self.fail_over()
        self.assertEqual((client.producerState, client.disconnecting), ("paused", False))
        self.old.hung = False
        self.net.run(1)
        self.assertEqual(self.received(client), b"$-1\r\n")
        self.net.run(1.1)
        self.assertTrue(client.disconnecting)
        self.assertEqual(self.old.connections, [])

    def test_stop_while_draining(self) -> None:
        """The proxy can stop while connections are drained."""
        proxy = self.proxy(drain=2.0)
        client = self.connect(proxy)
        self.fail_over()
        proxy.stop()
        self.net.run_due()
        self.assertTrue(client.disconnecting)

    def test_one_sentinel_with_an_old_view(self) -> None:
        """A Sentinel that announces the former master again changes nothing."""
        proxy = self.proxy()
        self.fail_over()
        client = self.connect(proxy)
        self.sentinels[0].switch("mymaster", OLD, 1)
        self.net.run(5)
        self.assertEqual(self.send(client, GET), b"$-1\r\n")
        self.assertEqual(proxy.master, MasterAddress("127.0.0.1", NEW))


class ReadOnlyTests(ProxyCase):
    """The read-only port."""

    def server_of(self, proxy: MasterProxy) -> int:
        """Connect a client, and return the port of its server."""
        client = self.connect(proxy, proxy.replica_route)
        (session,) = [each for each in proxy.sessions if each.client is client.client]
        assert session.server is not None
        return session.server.address.port

    def test_least_lag(self) -> None:
        """The replica with the highest offset is used; of equal ones the one with fewer clients."""
        proxy = self.proxy()
        self.assertEqual([self.server_of(proxy) for _ in range(2)], [NEW, NEW])
        self.old.replicas = {NEW: 100, OTHER: 101}
        self.assertEqual(self.server_of(proxy), OTHER)
        self.old.replicas = {NEW: 101, OTHER: 101}
        self.assertEqual([self.server_of(proxy) for _ in range(3)], [OTHER, NEW, OTHER])

    def test_unusable_replicas(self) -> None:
        """A replica that has lost its master, or does not answer, is passed over."""
        proxy = self.proxy()
        self.new.link_state = "connect"
        self.assertEqual(self.server_of(proxy), OTHER)
        self.new.crash()
        self.assertEqual(self.server_of(proxy), OTHER)

    def test_no_replica(self) -> None:
        """Without a usable replica it is the master, which is counted."""
        proxy = self.proxy()
        self.old.replicas = {}
        self.assertEqual(self.server_of(proxy), OLD)
        self.assertEqual(proxy.counters.fallbacks, 1)

    def test_switch(self) -> None:
        """At a switch the connections to the promoted replica and to the former master end; others stay."""
        proxy = self.proxy()
        promoted = self.connect(proxy, proxy.replica_route)
        self.old.replicas = {OTHER: 100}
        other = self.connect(proxy, proxy.replica_route)
        self.old.replicas = {}
        master = self.connect(proxy, proxy.replica_route)
        self.fail_over()
        self.assertEqual([each.disconnecting for each in (promoted, other, master)], [True, False, True])
        self.assertEqual((proxy.counters.closed["promotion"], proxy.counters.closed["switch"]), (1, 1))
        self.assertEqual(self.server_of(proxy), OTHER)

    def test_role_replies(self) -> None:
        """Replicas without a usable address are left out; the reasons against a replica are named."""
        reply = [b"master", 7, [[b"10.0.0.1", b"6379", b"5"], ["", 6379, "5"], [b"10.0.0.2", 70000, 1]]]
        self.assertEqual(online_replicas(reply), [OnlineReplica(MasterAddress("10.0.0.1", 6379), 5)])
        self.assertEqual(online_replicas([b"master"]), [])
        self.assertEqual(role_problem([b"slave", b"h", 1, b"connected", 9]), "")
        self.assertEqual(role_problem([b"slave", b"h", 1, b"sync", 9]), "has no link to its master: sync")
        self.assertEqual(role_problem([b"master", 1, []]), "reports that it is a master")
        self.assertEqual(role_problem(ErrorLine(b"NOPERM no")), "refuses ROLE: NOPERM no")


class HeaderTests(ProxyCase):
    """The PROXY protocol at both sides."""

    def test_sent(self) -> None:
        """The server gets the header before the bytes of the client."""
        server = PassingTests.recorded(self)  # type: ignore[arg-type]
        client = self.connect(self.proxy(send_proxy=True))
        self.send(client, b"PING\r\n")
        expected = encoded(SocketAddress("10.0.0.8", 50000), SocketAddress("10.0.0.9", 40000))
        self.assertEqual(server.data, expected + b"PING\r\n")

    def test_passed_on(self) -> None:
        """The addresses of a received header are those that are sent."""
        server = PassingTests.recorded(self)  # type: ignore[arg-type]
        proxy = self.proxy(send_proxy=True, accept_proxy=True)
        header = encoded(SocketAddress("192.0.2.1", 1), SocketAddress("192.0.2.2", 2))
        client = self.connect(proxy)
        self.send(client, header[:10])
        self.assertEqual(server.data, b"")
        self.send(client, header[10:] + b"PING\r\n")
        self.assertEqual(server.data, header + b"PING\r\n")

    def test_missing(self) -> None:
        """A client without a header is closed at once, a silent one after a while."""
        proxy = self.proxy(accept_proxy=True)
        client, silent = self.connect(proxy), self.connect(proxy)
        self.send(client, b"PING\r\n")
        self.assertEqual((client.disconnecting, silent.disconnecting), (True, False))
        self.net.run(HEADER_TIMEOUT + 0.1)
        self.assertTrue(silent.disconnecting)
        self.assertEqual(proxy.counters.closed["header"], 2)


class PageTests(ProxyCase):
    """The metrics."""

    def test_counts(self) -> None:
        """Open and closed connections, bytes and the address are on the page."""
        proxy = self.proxy()
        self.send(self.connect(proxy), GET)
        self.connect(proxy).ended()
        self.net.run_due()
        text = page(proxy, Format.TEXT).decode()
        for line in (
            'txsentinel_proxy_master_up{master="mymaster"} 1',
            f'txsentinel_proxy_master_info{{master="mymaster",address="127.0.0.1:{OLD}"}} 1',
            'txsentinel_proxy_connections{port="master"} 1',
            'txsentinel_proxy_accepted_connections_total{port="master"} 2',
            'txsentinel_proxy_closed_connections_total{reason="client"} 1',
            f'txsentinel_proxy_bytes_total{{direction="to_server"}} {len(GET)}',
            'txsentinel_proxy_bytes_total{direction="to_client"} 5',
        ):
            self.assertIn(f"{line}\n", text)
        self.assertTrue(page(proxy, Format.OPEN_METRICS).endswith(b"# EOF\n"))
        self.assertIn("2 accepted, 1 open, 0 held; closed: client 1; 0 switches", summary(proxy))
