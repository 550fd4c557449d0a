"""Tests with servers and peers that send invalid data: log lines, reconnects, and inputs to the core."""

# mypy: allow-untyped-calls
from __future__ import annotations

import random

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.links.fixture import FakeTransport, Fixture, log_lines_of
from txsentinel.core.effects import AskMasterDown, Connect, KillScript, Ping, PublishHello, Reconfigure, RequestInfo
from txsentinel.core.instances import InstanceLink, Master
from txsentinel.core.link import LinkKind
from txsentinel.model.log_text import MAX_EXCERPT
from txsentinel.model.log_throttle import DistinctLineThrottle
from txsentinel.model.timings import Limits
from txsentinel.wire.hello import HELLO_CHANNEL

MINUTE = 60_000

SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$18\r\n" + HELLO_CHANNEL + b"\r\n:1\r\n"
MESSAGE = b"*3\r\n$7\r\nmessage\r\n$18\r\n" + HELLO_CHANNEL + b"\r\n$1\r\nx\r\n"

WHOLE = (
    b"+PONG\r\n",
    b"-LOADING x\r\n",
    b":1\r\n",
    b"$-1\r\n",
    b"$5\r\nhello\r\n",
    b"*3\r\n:1\r\n$1\r\n*\r\n:0\r\n",
    b"*2\r\n*0\r\n-ERR no\r\n",
    b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    b"%1\r\n:1\r\n:2\r\n",
    b"~1\r\n#t\r\n",
    b"!3\r\nERR\r\n",
    b"_\r\n",
    SUBSCRIBED,
    SUBSCRIBED,
    SUBSCRIBED,
    MESSAGE + b"+OK\r\n",
)
"""Replies, each of them valid for some command."""

PIECES = (
    b"+PONG\r\n",
    b"+",
    b"-ERR no\r\n",
    b"-LOADING x\r\n",
    b":1\r\n",
    b":-9223372036854775809\r\n",
    b"$-1\r\n",
    b"$-2\r\n",
    b"$5\r\nhello\r\n",
    b"$5\r\nhelloX\r\n",
    b"$99999999999\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*3\r\n",
    b"*3\r\n:1\r\n$1\r\n*\r\n:0\r\n",
    b"*1\r\n" * 40,
    b"*1048577\r\n",
    SUBSCRIBED,
    MESSAGE,
    b"*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n",
    b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    b">3\r\n+message\r\n+x\r\n+y\r\n",
    b"%2\r\n:1\r\n:2\r\n:3\r\n:4\r\n",
    b"%1\r\n*0\r\n:1\r\n",
    b"~1\r\n#t\r\n",
    b"|1\r\n+a\r\n+b\r\n",
    b",inf\r\n",
    b"(123456789012345678901234567890\r\n",
    b"!3\r\nERR\r\n",
    b"=7\r\ntxt:abc\r\n",
    b"_\r\n",
    b"\0",
    b"\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
)


class InvalidRepliesCase(SynchronousTestCase):
    """A link that reconnects after each loss."""

    def setUp(self) -> None:
        self.lines = log_lines_of(self)
        self.fixture = Fixture()
        self.link = self.fixture.link()
        self.fixture.do(Connect(self.link))

    def attempts(self) -> list[FakeTransport]:
        """Return the present attempts: those for commands and for Pub/Sub, if there are both."""
        return [each.accept() for each in self.fixture.reactor.connectors if each.state == "connecting"]


class LogTests(InvalidRepliesCase):
    """Tests of the log lines."""

    def reply_for_some_time(self, answer: bytes, millis: int = 10 * MINUTE) -> list[str]:
        """Accept each connection and answer its first command; return the log lines."""
        end = self.fixture.host.now() + millis
        while self.fixture.host.now() < end:
            for transport in self.attempts():
                transport.protocol.dataReceived(answer)
            self.fixture.pass_time(200)
        return self.lines

    def test_http_server(self) -> None:
        """A web server at the address of a Redis costs two lines a minute, one for each connection."""
        lines = self.reply_for_some_time(b"HTTP/1.1 400 Bad Request\r\n")
        self.assertEqual(len(set(lines)), 2)
        self.assertLessEqual(len(lines), 22)
        self.assertGreaterEqual(len(lines), 10)

    def test_changing_refusals(self) -> None:
        """Refusals with different or very long texts do not cause more log output."""
        end = self.fixture.host.now() + 2 * MINUTE
        while self.fixture.host.now() < end:
            for transport in self.attempts():
                words = b"-ERR %d " % self.fixture.host.now() + b"x" * 1_000_000 + b"\r\n"
                transport.protocol.dataReceived(b"+OK\r\n" + words)
            self.fixture.pass_time(500)
        self.assertLessEqual(len(self.lines), 15)
        self.assertLess(max(map(len, self.lines)), 2 * MAX_EXCERPT)

    def test_replies_without_their_end(self) -> None:
        """Of two connections with long replies that do not end the one with more is lost, and the other goes on."""
        self.fixture = Fixture(Limits(unfinished_replies=500_000))
        self.fixture.do(Connect(self.fixture.link()))
        first, second = self.attempts()
        for transport in (first, second):
            transport.protocol.dataReceived(b"$4000000\r\n")
        first.protocol.dataReceived(b"x" * 300_000)
        for _ in range(3):
            self.assertFalse(first.aborted)
            second.protocol.dataReceived(b"x" * 90_000)
        self.assertEqual((True, False), (first.aborted, second.aborted))
        self.fixture.pass_time(1)
        # What a connection holds is not visible from outside.
        self.assertEqual(0, first.protocol._reader.held)
        # What all connections hold is not visible from outside.
        unfinished = second.protocol._context.unfinished
        # What a connection holds is not visible from outside.
        self.assertEqual(second.protocol._reader.held, unfinished.total)
        self.assertGreaterEqual(unfinished.total, 270_000)
        second.lost(ConnectionDone())
        self.assertEqual(0, unfinished.total)

    def test_log_throttle(self) -> None:
        """Each text once a minute, and no more than a few different ones."""
        budget = DistinctLineThrottle(2)
        output = [budget.allow(text, MINUTE) for text in ("a", "a", "b", "c")]
        self.assertEqual(output, [True, False, True, False])
        self.assertTrue(budget.allow("c", 2 * MINUTE))
        budget.reset("c")
        self.assertTrue(budget.allow("c", 2 * MINUTE))
        budget.reset("c")
        self.assertFalse(budget.allow("c", 2 * MINUTE))


class RandomRepliesTests(InvalidRepliesCase):
    """Tests with arbitrary input in place of replies."""

    def random_step(self, rng: random.Random) -> None:
        """Make one random step: send, reply, close, or advance the clock."""
        master = self.link.first
        assert isinstance(master, Master)
        self.fixture.do(
            *rng.sample(
                [
                    Ping(self.link, LinkKind.COMMANDS),
                    Ping(self.link, LinkKind.PUBSUB),
                    RequestInfo(self.link),
                    PublishHello(self.link, master, b"hello"),
                    AskMasterDown(self.link, master, "10.0.0.9", 6379, 1, "*"),
                    Reconfigure(self.link, "10.0.0.8", 6379, abort_failover=False),
                    KillScript(self.link),
                ],
                rng.randrange(4),
            )
        )
        self.attempts()
        for connector in self.fixture.reactor.connectors:
            transport = connector.transport
            if connector.state != "connected" or not transport.connected:
                continue
            # Mostly as many complete replies as there were commands, so that the connection lasts.
            commands = transport.take_written().count(b"*")
            reply = b"".join(rng.choices(WHOLE, k=commands))
            if rng.random() < 0.05:
                reply += rng.choice((*PIECES, rng.randbytes(rng.randrange(50))))
            chunk = 7 if rng.random() < 0.3 else 10_000
            for start in range(0, len(reply), chunk):
                if transport.connected:
                    transport.protocol.dataReceived(reply[start : start + chunk])
            if rng.random() < 0.05 and transport.connected:
                transport.lost(ConnectionError())
        self.fixture.pass_time(rng.choice((0, 0, 10, 500)))

    def test_random_replies(self) -> None:
        """No input causes an exception, the core gets valid types only, and the link reconnects."""
        rng = random.Random(20261121)
        received = set()
        for _ in range(3_000):
            self.random_step(rng)
            for what, *details in self.fixture.core.take_inputs():
                received.add(what)
                if what == "ping":
                    self.assertIn(type(details[1]).__name__, ("Status", "ErrorLine", "NoneType"))
                elif what == "info":
                    self.assertIn(type(details[0]).__name__, ("bytes", "NoneType"))
                elif what == "hello":
                    self.assertIs(type(details[0]), bytes)
                elif what == "clients closed":
                    self.assertIs(type(details[0]), int)
        self.assertEqual(
            received, {"up", "down", "ping", "info", "published", "hello", "active", "opinion", "clients closed"}
        )
        for _ in range(50):
            self.fixture.pass_time(1_000)
            last_attempts = self.attempts()
            for transport in last_attempts:
                transport.protocol.dataReceived(b"+OK\r\n")
        connected = [each for each in self.fixture.reactor.connectors if each.state == "connected"]
        self.assertEqual(len(connected), 2)
        self.assertEqual([error for error in self.flushLoggedErrors() if isinstance(error, Failure)], [])
        self.assertIsInstance(self.link, InstanceLink)
