"""Tests of the Pub/Sub connection: hellos, activity, and refused subscriptions."""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.links.fixture import FakeTransport, Fixture, log_lines_of
from txsentinel.core.effects import Connect, Ping
from txsentinel.core.link import LinkKind
from txsentinel.wire.resp import pack

HANDSHAKE = pack("CLIENT", "SETNAME", "sentinel-01234567-pubsub") + pack("SUBSCRIBE", "__sentinel__:hello")
CONFIRMED = b"*3\r\n$9\r\nsubscribe\r\n$18\r\n__sentinel__:hello\r\n:1\r\n"


def message(payload: bytes, channel: bytes = b"__sentinel__:hello") -> bytes:
    """Return a message frame."""
    return pack("message", channel, payload)


class PubSubLinkTests(SynchronousTestCase):
    """Tests of the Pub/Sub connection of one link."""

    def setUp(self) -> None:
        self.log_lines = log_lines_of(self)
        self.fixture = Fixture()
        self.link = self.fixture.link()
        self.fixture.do(Connect(self.link))
        commands, self.connector = self.fixture.reactor.connectors
        commands.accept()
        self.fixture.core.take_inputs()

    def subscribed(self) -> FakeTransport:
        """Return a connection with a confirmed subscription."""
        transport = self.connector.accept()
        transport.protocol.dataReceived(b"+OK\r\n" + CONFIRMED)
        transport.take_written()
        self.fixture.core.take_inputs()
        return transport

    def received(self, transport: FakeTransport, data: bytes) -> list[tuple[Any, ...]]:
        """Return the inputs of the core for some bytes."""
        transport.protocol.dataReceived(data)
        return self.fixture.core.take_inputs()

    def test_handshake(self) -> None:
        """Name and subscription leave in one write, and the core gets the connection at once."""
        transport = self.connector.accept()
        self.assertEqual(transport.writes, [HANDSHAKE])
        self.assertEqual(self.fixture.core.take_inputs(), [("up", LinkKind.PUBSUB, "10.0.0.1", 0)])

    def test_password(self) -> None:
        """The Pub/Sub connection authenticates as well."""
        self.link.password = "secret"
        self.assertEqual(self.connector.accept().take_written(), pack("AUTH", "secret") + HANDSHAKE)

    def test_renamed(self) -> None:
        """SUBSCRIBE and CLIENT may have other names."""
        self.link.renamed_commands = {"SUBSCRIBE": "sub", "CLIENT": "cli"}
        self.assertEqual(
            self.connector.accept().take_written(),
            pack("cli", "SETNAME", "sentinel-01234567-pubsub") + pack("sub", "__sentinel__:hello"),
        )

    def test_not_active_before_the_confirmation(self) -> None:
        """Replies before the confirmation do not count as activity."""
        transport = self.connector.accept()
        self.fixture.core.take_inputs()
        self.assertEqual(self.received(transport, b"+OK\r\n"), [])
        self.assertEqual(self.received(transport, CONFIRMED), [("active", 0)])

    def test_hello(self) -> None:
        """A hello is passed on, which counts as activity."""
        transport = self.subscribed()
        self.fixture.pass_time(40)
        self.assertEqual(self.received(transport, message(b"a,b,c")), [("hello", b"a,b,c", 40)])

    def test_many_hellos(self) -> None:
        """Every hello arrives once, however the input is split."""
        transport = self.subscribed()
        data = message(b"one") + message(b"two")
        for cut in range(len(data)):
            received = self.received(transport, data[:cut]) + self.received(transport, data[cut:])
            self.assertEqual([each[1] for each in received if each[0] == "hello"], [b"one", b"two"], cut)

    def test_other_channels(self) -> None:
        """A message of another channel is ignored."""
        self.assertEqual(self.received(self.subscribed(), message(b"x", b"other")), [("active", 0)])

    def test_invalid_messages(self) -> None:
        """A message without a bulk string as payload is ignored."""
        transport = self.subscribed()
        frame = b"*3\r\n$7\r\nmessage\r\n$18\r\n__sentinel__:hello\r\n:1\r\n"
        self.assertEqual(self.received(transport, frame), [("active", 0)])

    def test_ping(self) -> None:
        """The reply that subscribers get to PING counts as PONG."""
        transport = self.subscribed()
        self.fixture.do(Ping(self.link, LinkKind.PUBSUB))
        self.assertEqual(transport.take_written(), pack("PING"))
        self.assertEqual(
            self.received(transport, message(b"x") + b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
            [("hello", b"x", 0), ("ping", LinkKind.PUBSUB, b"PONG", 0), ("active", 0)],
        )

    def test_ping_refused(self) -> None:
        """An error reply to PING is passed on unchanged."""
        transport = self.subscribed()
        self.fixture.do(Ping(self.link, LinkKind.PUBSUB))
        self.assertEqual(
            self.received(transport, b"-LOADING\r\n"), [("ping", LinkKind.PUBSUB, b"LOADING", 0), ("active", 0)]
        )

    def test_pings_do_not_count_as_pending_commands(self) -> None:
        """Pending commands of this connection do not affect the command connection."""
        self.link.pending_commands = 3
        self.subscribed()
        self.fixture.do(Ping(self.link, LinkKind.PUBSUB))
        self.assertEqual(self.link.pending_commands, 3)

    def test_refused_subscription(self) -> None:
        """After a refused subscription the connection is closed at once; the next attempt is a ping period later."""
        transport = self.connector.accept()
        self.fixture.core.take_inputs()
        self.assertEqual(self.received(transport, b"-NOAUTH first\r\n-NOPERM no\r\n"), [])
        self.assertTrue(transport.aborted)
        self.fixture.run_turn()
        self.assertEqual(
            self.fixture.core.take_inputs(), [("down", LinkKind.PUBSUB, "SUBSCRIBE was answered by NOPERM no", 0)]
        )
        self.fixture.pass_time(999)
        self.assertEqual(self.connector.attempts, 1)
        self.fixture.pass_time(1)
        self.assertEqual(self.connector.attempts, 2)

    def test_refusal_is_logged_once(self) -> None:
        """The same refusal, second after second, makes one line; another one after a success makes a new line."""
        for _ in range(3):
            self.connector.accept().protocol.dataReceived(b"+OK\r\n-NOPERM no\r\n")
            self.fixture.run_turn()
            self.fixture.pass_time(1000)
        self.assertEqual(
            self.log_lines, ["No hellos are received through 10.0.0.9:6379: SUBSCRIBE was answered by NOPERM no"]
        )
        self.subscribed().protocol.reconnect("test")
        self.fixture.pass_time(1000)
        self.connector.accept().protocol.dataReceived(b"+OK\r\n-NOPERM no\r\n")
        refusal = "No hellos are received through 10.0.0.9:6379: SUBSCRIBE was answered by NOPERM no"
        accepted = "master mymaster 10.0.0.9 6379 accepts SUBSCRIBE again"
        self.assertEqual(self.log_lines, [refusal, accepted, refusal])

    def test_confirmation_of_another_channel(self) -> None:
        """A confirmation of another channel closes the connection."""
        transport = self.connector.accept()
        transport.protocol.dataReceived(b"+OK\r\n+OK\r\n")
        self.assertTrue(transport.aborted)
        self.assertEqual(len(self.log_lines), 1)

    def test_unsolicited_frame(self) -> None:
        """A frame that is neither message nor reply closes the connection."""
        transport = self.subscribed()
        transport.protocol.dataReceived(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n")
        self.assertTrue(transport.aborted)
        self.assertEqual(self.log_lines, ["Dropped the pubsub connection to 10.0.0.9:6379: a reply without a command"])
