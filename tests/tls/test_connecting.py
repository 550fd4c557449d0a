"""Tests of links by TLS."""

# mypy: allow-untyped-calls
from __future__ import annotations

import ssl
from pathlib import Path

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from tests.links.fixture import FakeConnector, FakeTransport, Fixture
from tests.tls.authority import Authority, Issued
from tests.tls.memory import TlsPeer
from txsentinel.config.generic import GenericOptions
from txsentinel.core.effects import Connect, Disconnect, Ping, Reconnect
from txsentinel.core.link import LinkKind
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.tls.endpoints import Tls
from txsentinel.tls.handshakes import NO_ANSWER
from txsentinel.wire.resp import pack

COMMANDS = LinkKind.COMMANDS
HELLO = pack("CLIENT", "SETNAME", "sentinel-01234567-cmd")


class ConnectingCase(SynchronousTestCase):
    """The base of the tests: one command connection to a server with a certificate of the authority."""

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()).absolute())
        self.server = self.authority.issue("server", ip="10.0.0.9", dns="redis.example")
        self.own = self.authority.issue("sentinel")
        self.fixture = Fixture(secure=lambda *arguments: self.tls.connecting(*arguments))
        self.link = self.fixture.link((COMMANDS,))
        self.notes: list[tuple[Level, str]] = []
        self.secure()

    def secure(self, verify_hostnames: bool = False) -> None:
        """Use TLS for all links of the pool."""
        options = GenericOptions(
            tls_replication=True,
            tls_cert_file=str(self.own.certificate),
            tls_key_file=str(self.own.key),
            tls_ca_cert_file=str(self.authority.certificate),
        )
        note = lambda level, line: self.notes.append((level, line))  # noqa: E731
        self.tls = Tls(self.fixture.host, options, note, verify_hostnames)  # type: ignore[arg-type]

    def peer(self, issued: Issued | None = None, authority: Authority | None = None) -> TlsPeer:
        """Return a server that requires a certificate of ``authority`` and has ``issued``."""
        issued = issued or self.server
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        context.load_verify_locations((authority or self.authority).certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        return TlsPeer(context, server=True)

    def connect(self) -> tuple[FakeConnector, FakeTransport]:
        """Connect the link by TCP."""
        self.fixture.do(Connect(self.link))
        connector = self.fixture.reactor.connectors[-1]
        return connector, connector.accept()

    def exchange(self, transport: FakeTransport, far: TlsPeer) -> None:
        """Transfer bytes in both directions until there are no more, or the connection is closed."""
        for _ in range(10):
            output = transport.take_written()
            if output:
                far.receive(output)
            reply = far.next_output()
            if reply and transport.connected and not transport.aborted:
                transport.protocol.dataReceived(reply)
            if not output and not reply:
                break
        self.fixture.run_turn()

    def lines(self) -> list[str]:
        """Return the log lines since the last call."""
        lines = [line for _, line in self.notes]
        self.notes.clear()
        return lines


class HandshakeTests(ConnectingCase):
    """Tests of the handshake of links."""

    def test_up_after_the_handshake(self) -> None:
        """The core gets the connection, and the server its first command, after the handshake."""
        _, transport = self.connect()
        self.fixture.do(Ping(self.link, COMMANDS))
        self.assertEqual(self.fixture.core.take_inputs(), [])
        far = self.peer()
        self.exchange(transport, far)
        self.assertEqual(self.fixture.core.take_inputs(), [("up", COMMANDS, "10.0.0.1", 0)])
        self.assertEqual(far.take(), HELLO)
        self.assertEqual(self.fixture.reactor.getDelayedCalls(), [])
        self.assertTrue(transport.no_delay)

    def test_one_write_per_turn(self) -> None:
        """The commands of one turn leave in one write, and replies arrive."""
        _, transport = self.connect()
        far = self.peer()
        self.exchange(transport, far)
        before = len(transport.writes)
        self.fixture.do(Ping(self.link, COMMANDS), Ping(self.link, COMMANDS))
        self.assertEqual(len(transport.writes), before + 1)
        far.take()
        far.tls.write(b"+OK\r\n+PONG\r\n")
        self.fixture.core.take_inputs()
        self.exchange(transport, far)
        self.assertEqual(far.take(), pack("PING") * 2)
        self.assertEqual(self.fixture.core.take_inputs(), [("ping", COMMANDS, b"PONG", 0)])

    def test_untrusted_server(self) -> None:
        """A server of another authority is a failed attempt each ping period, and one line in the log."""
        other_client = Authority(Path(self.mktemp()).absolute(), "unknown").issue("server")
        connector, transport = self.connect()
        for attempt in range(1, 4):
            self.exchange(transport, self.peer(other_client))
            now = self.fixture.host.now()
            problem = "error:SSL routines::certificate verify failed"
            self.assertEqual(self.fixture.core.take_inputs(), [("down", COMMANDS, problem, now)])
            self.assertEqual(self.lines(), [f"No TLS connection to 10.0.0.9:6379: {problem}"] if attempt == 1 else [])
            self.fixture.pass_time(1000)
            self.assertEqual(connector.attempts, attempt + 1)
            transport = connector.accept()
        self.exchange(transport, self.peer())
        self.assertEqual([each[0] for each in self.fixture.core.take_inputs()], ["up"])

    def test_untrusted_client(self) -> None:
        """A server that refuses the own certificate reports it after the handshake, which causes one line."""
        other = Authority(Path(self.mktemp()).absolute(), "other")
        connector, transport = self.connect()
        for attempt in (1, 2):
            self.exchange(transport, self.peer(authority=other))
            self.assertEqual([each[0] for each in self.fixture.core.take_inputs()], ["up", "down"])
            self.assertEqual(len(self.lines()), 1 if attempt == 1 else 0)
            self.fixture.pass_time(1000)
            transport = connector.accept()

    def test_plain_server(self) -> None:
        """A server without TLS fails the handshake."""
        _, transport = self.connect()
        transport.protocol.dataReceived(b"-ERR Protocol error: unbalanced quotes in request\r\n")
        self.fixture.run_turn()
        self.assertEqual(self.lines(), ["No TLS connection to 10.0.0.9:6379: error:SSL routines::wrong version number"])
        self.assertEqual([each[0] for each in self.fixture.core.take_inputs()], ["down"])

    def test_silent_server(self) -> None:
        """A handshake has as much time as a connection: two ping periods."""
        connector, transport = self.connect()
        self.fixture.pass_time(2000)
        self.assertTrue(transport.aborted)
        self.assertEqual(self.lines(), [f"No TLS connection to 10.0.0.9:6379: the handshake took too long{NO_ANSWER}"])
        self.fixture.run_turn()
        self.assertEqual(self.fixture.core.take_inputs(), [("down", COMMANDS, "the handshake took too long", 2000)])
        self.fixture.pass_time(0)
        self.assertEqual(connector.attempts, 2)

    def test_hanging_up(self) -> None:
        """A connection that is closed during the handshake is logged only the second time in a row."""
        connector, transport = self.connect()
        for attempt in (1, 2, 3):
            transport.lost(ConnectionLost())
            self.assertEqual(len(self.lines()), 1 if attempt == 2 else 0, attempt)
            self.fixture.pass_time(1000)
            transport = connector.accept()

    def test_refused(self) -> None:
        """A refused connection fails the attempt as without TLS."""
        self.fixture.do(Connect(self.link))
        connector = self.fixture.reactor.connectors[-1]
        connector.refuse()
        self.assertEqual([each[0] for each in self.fixture.core.take_inputs()], ["down"])
        self.fixture.pass_time(1000)
        self.assertEqual((connector.attempts, self.lines()), (2, []))

    def test_lost(self) -> None:
        """An established connection that is lost is made again, without a line about TLS."""
        connector, transport = self.connect()
        self.exchange(transport, self.peer())
        self.fixture.core.take_inputs()
        transport.lost(ConnectionLost())
        self.assertEqual([each[0] for each in self.fixture.core.take_inputs()], ["down"])
        self.fixture.pass_time(1000)
        self.assertEqual((connector.attempts, self.lines()), (2, []))

    def test_recycling(self) -> None:
        """Reconnect reports the loss with the given reason."""
        connector, transport = self.connect()
        self.exchange(transport, self.peer())
        self.fixture.core.take_inputs()
        self.fixture.do(Reconnect(self.link, COMMANDS, "no answer"))
        self.fixture.run_turn()
        self.assertEqual(self.fixture.core.take_inputs(), [("down", COMMANDS, "no answer", 0)])
        self.fixture.run_turn()
        self.assertEqual((connector.attempts, self.lines()), (2, []))

    def test_closed_during_handshake(self) -> None:
        """A link that is closed during its handshake reports nothing."""
        _, transport = self.connect()
        self.link.closed = True
        self.fixture.do(Disconnect(self.link))
        far = self.peer()
        self.exchange(transport, far)
        self.assertTrue(transport.aborted)
        self.assertEqual((self.fixture.core.take_inputs(), far.take(), self.lines()), ([], b"", []))
        self.assertEqual(self.fixture.reactor.getDelayedCalls(), [])

    def test_stopping(self) -> None:
        """The pool stops when its last connection is closed, without waiting for a close_notify."""
        _, transport = self.connect()
        far = self.peer()
        self.exchange(transport, far)
        far.tls.write(b"+OK\r\n")
        self.exchange(transport, far)
        stopped = self.fixture.pool.stop()
        self.assertTrue(transport.disconnecting)
        self.fixture.run_turn()
        self.successResultOf(stopped)


class NameTests(ConnectingCase):
    """Tests of ``--tls-verify-hostnames``."""

    def reached(self, address: Address, verify: bool = True) -> bool:
        """Return whether the server is accepted as the one with this address."""
        self.link.address = address
        self.secure(verify)
        _, transport = self.connect()
        self.exchange(transport, self.peer())
        return [each[0] for each in self.fixture.core.take_inputs()] == ["up"]

    def test_not_checked_by_default(self) -> None:
        """Without the option any certificate of the authority is accepted, as by the C Sentinels."""
        self.assertTrue(self.reached(Address.literal("10.0.0.77", 6379), verify=False))

    def test_address(self) -> None:
        """A certificate with the IP address is accepted."""
        self.assertTrue(self.reached(Address.literal("10.0.0.9", 6379)))

    def test_name(self) -> None:
        """A server with a host name is verified by that name."""
        self.assertTrue(self.reached(Address("redis.example", "10.0.0.77", 6379)))

    def test_other_address(self) -> None:
        """The certificate of another server is refused."""
        self.assertFalse(self.reached(Address.literal("10.0.0.77", 6379)))
        problem = "its certificate is not for 10.0.0.77"
        self.assertEqual(self.lines(), [f"No TLS connection to 10.0.0.77:6379: {problem}"])

    def test_other_name(self) -> None:
        """A certificate with the right address and the wrong name is refused."""
        self.assertFalse(self.reached(Address("other.example", "10.0.0.9", 6379)))
        self.assertIn("its certificate is not for other.example", self.lines()[0])
