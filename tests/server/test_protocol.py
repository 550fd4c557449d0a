"""Tests of a connection: order, chunks, admission, limits, and its end."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.testing import StringTransport
from zope.interface import alsoProvides

from tests.server.harness import MemoryTransport, RawConnection, ServerHarness, ServerTestCase
from txsentinel.config.generic import BufferLimit, GenericOptions
from txsentinel.core.options import SentinelOptions
from txsentinel.server.admission import TOO_MANY
from txsentinel.server.pacing import MAX_UNSENT, MAX_WAITING
from txsentinel.wire.resp import pack

PIPELINE = (
    b"PING\r\n"
    + pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
    + b'ping "a b"\r\n\r\n'
    + pack("NOPE", "x")
    + pack("CLIENT", "SETNAME", "me")
    + b"*0\r\n"
    + pack("CLIENT", "GETNAME")
)
REPLIES = (
    b"+PONG\r\n*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n$3\r\na b\r\n"
    b"-ERR unknown command 'NOPE', with args beginning with: 'x' \r\n+OK\r\n$2\r\nme\r\n"
)


class CountingTransport(MemoryTransport):
    """Counts its writes."""

    writes = 0

    def write(self, data: bytes) -> None:
        """Count the write."""
        self.writes += 1
        super().write(data)


class PipelineTests(ServerTestCase):
    """Order of requests and replies."""

    def test_chunking_is_invisible(self) -> None:
        """A pipeline that is cut into two chunks at any place gets the same replies."""
        for cut in range(len(PIPELINE)):
            client = self.harness.connect()
            client.protocol.dataReceived(PIPELINE[:cut])
            client.protocol.dataReceived(PIPELINE[cut:])
            self.assertEqual(client.raw(), REPLIES, cut)

    def test_byte_by_byte(self) -> None:
        """So does one that is sent byte by byte."""
        for index in range(len(PIPELINE)):
            self.client.protocol.dataReceived(PIPELINE[index : index + 1])
        self.assertEqual(self.client.raw(), REPLIES)

    def test_one_write(self) -> None:
        """Replies to requests that were read together are written together."""
        protocol = self.harness.factory.buildProtocol(None)
        wire = CountingTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        wire.protocol = protocol
        protocol.makeConnection(wire)
        protocol.dataReceived(PIPELINE)
        self.assertEqual((wire.writes, wire.value()), (1, REPLIES))

    def test_deferred_replies_of_another_connection(self) -> None:
        """Deferred replies of one connection do not delay other clients."""
        self.client.send("SENTINEL", "FLUSHCONFIG")
        self.assertEqual(self.harness.connect().ask("PING"), b"+PONG\r\n")

    def test_disconnect_before_deferred_reply(self) -> None:
        """Replies of a client that disconnected are dropped when the write completes."""
        self.client.send("SENTINEL", "FLUSHCONFIG")
        self.client.wire.loseConnection()
        self.harness.save()
        self.assertEqual(self.client.raw(), b"")

    def test_deferred_reply_keeps_its_protocol(self) -> None:
        """A deferred reply is encoded in the protocol at the time of its request."""
        peer = "b" * 40
        self.client.ask("PUBLISH", "__sentinel__:hello", f"127.0.0.1,26380,{peer},0,mymaster,127.0.0.1,6379,0")
        self.harness.save()
        self.client.send("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", 6379, 5, peer)
        self.client.send("HELLO", 3)
        self.harness.save()
        self.assertTrue(self.client.raw().startswith(b"*3\r\n:0\r\n"))


class ProtocolErrorTests(ServerTestCase):
    """Clients that violate the protocol."""

    def test_error_and_close(self) -> None:
        """Requests before the violation are answered, later ones are not executed."""
        for request, line in (
            (b'PING "x\r\nPING\r\n', b"unbalanced quotes in request"),
            (b"*x\r\nPING\r\n", b"invalid multibulk length"),
            (b"*1\r\n:1\r\nPING\r\n", b"expected '$', got ':'"),
            (b"*1\r\n$-1\r\nPING\r\n", b"invalid bulk length"),
        ):
            client = self.harness.connect()
            client.protocol.dataReceived(b"PING\r\n" + request)
            self.assertEqual(client.raw(), b"+PONG\r\n-ERR Protocol error: " + line + b"\r\n")
            self.assertTrue(client.closed)
            client.protocol.dataReceived(b"PING\r\n")
            self.assertEqual(client.raw(), b"")

    def test_closed_behind_deferred_replies(self) -> None:
        """The error comes behind deferred replies, and the connection closes behind the error."""
        self.client.protocol.dataReceived(b"SENTINEL FLUSHCONFIG\r\n*x\r\n")
        self.assertFalse(self.client.closed)
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n-ERR Protocol error: invalid multibulk length\r\n")
        self.assertTrue(self.client.closed)

    def test_browsers(self) -> None:
        """A request that looks like HTTP closes the connection without a reply, whatever came before it."""
        for word in (b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n", pack("Host:", "x")):
            client = self.harness.connect()
            client.protocol.dataReceived(b"PING\r\n" + word)
            self.assertEqual(client.raw(), b"")
            self.assertTrue(client.closed)


class AdmissionTests(ServerTestCase):
    """Which clients are accepted."""

    def connect(self, host: str = "10.0.0.1", **options: Any) -> RawConnection:
        """Connect a client from this address."""
        self.harness = ServerHarness(GenericOptions(protected_mode=True), SentinelOptions(**options))
        return self.harness.connect(IPv4Address("TCP", host, 1))

    def test_too_many(self) -> None:
        """Clients above ``maxclients`` get an error and are closed; another one is accepted after one leaves."""
        self.harness = ServerHarness(GenericOptions(maxclients=1))
        first = self.harness.connect()
        second = self.harness.connect()
        self.assertEqual(second.raw(), TOO_MANY)
        self.assertTrue(second.closed)
        self.assertEqual(self.harness.context.statistics.connections_rejected, 1)
        first.wire.loseConnection()
        self.assertEqual(self.harness.connect().ask("PING"), b"+PONG\r\n")

    def test_too_many_over_tls(self) -> None:
        """Before a TLS handshake nothing is written, because it could not be read."""
        self.harness = ServerHarness(GenericOptions(maxclients=0))
        protocol = self.harness.factory.buildProtocol(None)
        wire = MemoryTransport()
        alsoProvides(wire, ISSLTransport)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        self.assertEqual((wire.value(), wire.disconnecting), (b"", True))

    def test_rejected_and_half_closed(self) -> None:
        """A rejected client may close either half before the connection is closed."""
        self.harness = ServerHarness(GenericOptions(maxclients=0))
        for half in ("readConnectionLost", "writeConnectionLost"):
            protocol, transport = self.harness.factory.buildProtocol(None), StringTransport()
            protocol.makeConnection(transport)
            getattr(protocol, half)()
            self.assertEqual((transport.value(), transport.disconnecting), (TOO_MANY, True))
            protocol.connectionLost()

    def test_protected_mode(self) -> None:
        """Without a password other hosts are refused in protected mode, with a password they may log in."""
        new_client = self.connect()
        self.assertTrue(new_client.raw().startswith(b"-DENIED Redis is running in protected mode because protected"))
        self.assertTrue(new_client.closed)
        self.assertEqual(self.connect("127.0.0.9").ask("PING"), b"+PONG\r\n")
        self.assertIn(b"NOAUTH", self.connect(requirepass="pw").ask("PING"))
        self.harness = ServerHarness(GenericOptions(protected_mode=True))
        self.assertEqual(self.harness.connect(IPv6Address("TCP", "::1", 1)).ask("PING"), b"+PONG\r\n")
        self.assertEqual(self.harness.connect(UNIXAddress(None)).ask("PING"), b"+PONG\r\n")

    def test_off_by_default(self) -> None:
        """A Sentinel has protected mode off by default."""
        self.assertEqual(self.harness.connect(IPv4Address("TCP", "10.0.0.1", 1)).ask("PING"), b"+PONG\r\n")


class SlowReaderTests(ServerTestCase):
    """Clients that do not read what they are sent."""

    def stall(self, client: RawConnection) -> None:
        """Block the output of this client's connection."""
        client.block_output()

    def unstall(self, client: RawConnection) -> None:
        """Unblock it."""
        client.unblock_output()

    def limited(self, hard: int = 0, soft: int = 0, seconds: int = 0) -> RawConnection:
        """Connect a subscriber with this output buffer limit."""
        self.harness.context.options.client_output_buffer_limit["pubsub"] = BufferLimit(hard, soft, seconds)
        self.client.ask("SUBSCRIBE", "x")
        self.stall(self.client)
        return self.client

    def publish(self, size: int) -> None:
        """Publish an event of about this many bytes."""
        self.harness.context.hub.publish("x", "y" * size)
        self.harness.host.reactor.advance(0)

    def test_hard_limit(self) -> None:
        """A subscriber above the hard limit is dropped at once; others still receive events."""
        slow, quick = self.limited(hard=1000), self.harness.connect()
        quick.ask("SUBSCRIBE", "x")
        self.publish(900)
        self.assertFalse(slow.closed)
        self.publish(900)
        self.assertTrue(slow.wire.aborted)
        self.publish(1)
        self.assertIn(b"y", quick.raw())
        self.assertEqual(self.harness.context.hub.channels, 1)
        self.assertEqual(self.harness.context.statistics.output_limit_disconnections, 1)

    def test_soft_limit(self) -> None:
        """A subscriber may exceed the soft limit for some time, which starts again after it caught up."""
        slow = self.limited(soft=1000, seconds=10)
        self.publish(2000)
        self.harness.host.reactor.advance(9)
        self.unstall(slow)
        self.harness.factory.inspect()
        self.stall(slow)
        self.publish(2000)
        self.harness.host.reactor.advance(10)
        self.harness.factory.inspect()
        self.assertFalse(slow.closed)
        self.harness.host.reactor.advance(0.1)
        self.harness.factory.inspect()
        self.assertTrue(slow.wire.aborted)

    def test_everything_arrives_in_order(self) -> None:
        """Pending output is written when the transport accepts it, complete and in order."""
        slow = self.limited()
        for number in range(50):
            self.harness.context.hub.publish("x", f"{number}")
        self.assertEqual(slow.raw(), b"")
        self.unstall(slow)
        replies = slow.replies()
        self.assertEqual(replies, [[b"message", b"x", str(number).encode()] for number in range(50)])

    def test_slow_reader_is_not_read(self) -> None:
        """Normal clients have no output limit by default, so their requests are not read instead."""
        master = pack("SENTINEL", "MASTERS") * 1000
        self.stall(self.client)
        for _ in range(20):
            self.client.protocol.dataReceived(master)
        protocol = self.client.protocol
        self.assertEqual(self.client.wire.producerState, "paused")
        self.assertLess(protocol.unsent, MAX_UNSENT + 100_000)
        self.unstall(self.client)
        self.assertEqual(self.client.wire.producerState, "producing")
        self.assertEqual(protocol.unsent, 0)
        self.assertEqual(len(self.client.replies()), 20_000)

    def test_many_deferred_replies(self) -> None:
        """The number of deferred replies is limited; the client is not read until the write completes."""
        self.client.protocol.dataReceived(b"SENTINEL FLUSHCONFIG\r\n" + b"PING\r\n" * 2000)
        self.assertEqual(self.client.wire.producerState, "paused")
        self.assertEqual(self.client.protocol.queued, MAX_WAITING)
        self.harness.save()
        self.assertEqual(self.client.wire.producerState, "producing")
        self.assertEqual(self.client.replies(), [b"OK"] + [b"PONG"] * 2000)

    def test_large_reply_in_pieces(self) -> None:
        """A reply larger than the transport accepts at once waits in the server, where it is counted."""
        self.stall(self.client)
        self.client.send("PING", "x" * 300_000)
        self.harness.host.reactor.advance(0)
        self.assertEqual(self.client.protocol.unsent, 300_011)
        self.assertEqual(self.client.protocol.queued, 5)
        self.unstall(self.client)
        self.assertEqual(self.client.replies(), [b"x" * 300_000])

    def test_quit_waits_for_the_reader(self) -> None:
        """The connection closes after the last reply was written."""
        self.stall(self.client)
        self.client.protocol.dataReceived(b"PING\r\nQUIT\r\n")
        self.assertFalse(self.client.closed)
        self.unstall(self.client)
        self.assertEqual(self.client.raw(), b"+PONG\r\n+OK\r\n")
        self.assertTrue(self.client.closed)

    def test_quit_does_not_wait_forever(self) -> None:
        """A client that never reads its last replies is closed after a time."""
        self.stall(self.client)
        self.client.protocol.dataReceived(b"PING\r\nQUIT\r\n")
        self.harness.host.reactor.advance(61)
        self.harness.factory.inspect()
        self.assertTrue(self.client.wire.aborted)


class SocketTransport(MemoryTransport):
    """A transport over a real, unconnected socket."""

    def __init__(self, family: int) -> None:
        """Open the socket."""
        super().__init__(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.settings: list[str] = []
        alsoProvides(self, ITCPTransport)

    def getHandle(self) -> socket.socket:
        """Return the socket."""
        return self.socket

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Record the call."""
        self.settings.append(f"no delay {enabled}")

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Record the call."""
        self.settings.append(f"keep alive {enabled}")


class KeepAliveTests(ServerTestCase):
    """TCP keepalive."""

    def accepted(self, family: int) -> SocketTransport:
        """Accept a connection over a socket of this family."""
        protocol = self.harness.factory.buildProtocol(None)
        wire = SocketTransport(family)
        self.addCleanup(wire.socket.close)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return wire

    def test_period(self) -> None:
        """The first probe is sent after the configured seconds, three more within the same time again."""
        wire = self.accepted(socket.AF_INET)
        self.assertEqual(wire.settings, ["no delay True", "keep alive True"])
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        self.assertEqual([wire.socket.getsockopt(socket.IPPROTO_TCP, each) for each in options], [300, 100, 3])

    def test_unix_socket(self) -> None:
        """A Unix socket is not configured, though its transport claims to be one of TCP."""
        self.accepted(socket.AF_UNIX)

    def test_off(self) -> None:
        """0 disables keepalive."""
        self.harness.context.options.tcp_keepalive = 0
        self.assertEqual(self.accepted(socket.AF_INET).settings, ["no delay True"])


class EndTests(ServerTestCase):
    """How connections end."""

    def test_half_closed(self) -> None:
        """A client that sends its requests and closes its half gets all replies."""
        self.client.protocol.dataReceived(b"PING\r\nSENTINEL FLUSHCONFIG\r\nPING\r\n")
        self.client.protocol.readConnectionLost()
        self.assertFalse(self.client.closed)
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+PONG\r\n+OK\r\n+PONG\r\n")
        self.assertTrue(self.client.closed)

    def test_idle(self) -> None:
        """Idle clients are closed without a message; subscribers may be idle."""
        self.harness.context.options.timeout = 10
        listener = self.harness.connect()
        listener.ask("SUBSCRIBE", "x")
        self.harness.host.reactor.advance(6)
        busy = self.harness.connect()
        self.harness.host.reactor.advance(5)
        self.harness.factory.inspect()
        self.assertEqual((self.client.closed, listener.closed, busy.closed), (True, False, False))
        self.assertEqual(self.client.raw(), b"")

    def test_no_timeout_by_default(self) -> None:
        """By default, a client may be idle without limit."""
        self.harness.host.reactor.advance(1_000_000)
        self.harness.factory.inspect()
        self.assertFalse(self.client.closed)

    def test_inspection_runs_with_the_ports(self) -> None:
        """The periodic inspection runs once a second while a port is open, and not longer."""
        self.harness.context.options.timeout = 2
        clock = self.harness.host.reactor
        self.harness.factory.doStart()
        self.harness.factory.doStart()
        clock.pump([1.0] * 4)
        self.assertTrue(self.client.closed)
        self.harness.factory.doStop()
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        self.harness.factory.doStop()
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(self.harness.host.failures, [])

    def test_close_all(self) -> None:
        """At shutdown all clients are closed after their replies, and no timer is left."""
        self.client.send("SENTINEL", "FLUSHCONFIG")
        other = self.harness.connect()
        other.ask("CLIENT", "PAUSE", 1000)
        self.harness.context.clients.close_all()
        self.assertEqual((self.client.closed, other.closed), (False, True))
        self.harness.save()
        self.assertEqual((self.client.raw(), self.client.closed), (b"+OK\r\n", True))
        self.assertEqual(self.harness.host.reactor.getDelayedCalls(), [])
