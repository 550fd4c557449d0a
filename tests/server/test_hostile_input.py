"""Tests that one misbehaving client does not affect the others: bounded memory, turns and log."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.links.fixture import log_lines_of
from tests.server.harness import FakeHost, RawConnection, ServerHarness, ServerTestCase
from txsentinel.config.generic import GenericOptions
from txsentinel.model.log_throttle import MAX_LINES, THROTTLE_PERIOD, LogThrottle
from txsentinel.model.timings import Limits
from txsentinel.server.admission import TOO_MANY
from txsentinel.server.eviction import EVICTED, EVICTED_BY_FIXED_LIMIT
from txsentinel.server.pacing import LARGE_CHUNK, TIME_SLICE_MS
from txsentinel.wire.resp import pack

KILOBYTE = 1024


class BusyHost(FakeHost):
    """A host whose clock advances at each reading."""

    step = 0

    def now(self) -> int:
        """Advance and return the clock."""
        self.reactor.rightNow += self.step / 1000
        return super().now()


class SubscriptionTests(ServerTestCase):
    """Number and length of subscriptions."""

    def test_too_long(self) -> None:
        """Channels and patterns of megabytes are refused with their whole command; earlier subscriptions stay."""
        self.client.ask("PSUBSCRIBE", "+*")
        for command in ("SUBSCRIBE", "PSUBSCRIBE"):
            names = [letter * 60 * KILOBYTE for letter in "yz"]
            self.refused("ERR too many or too long subscriptions for one client", command, "x", *names, "w" * 9_000)
        self.assertEqual(self.harness.context.hub.channels, 0)
        self.harness.context.hub.publish("+sdown", "x")
        self.assertEqual(self.client.replies(), [[b"pmessage", b"+*", b"+sdown", b"x"]])

    def test_too_many(self) -> None:
        """Too many short ones are refused as well; unsubscribing permits others."""
        names = [f"p{number}*" for number in range(1700)]
        self.client.ask("PSUBSCRIBE", *names)
        self.assertNotIn(b"ERR", self.client.ask("PSUBSCRIBE", *names))
        self.refused("ERR too many or too long subscriptions for one client", "SUBSCRIBE", *names)
        self.client.ask("PUNSUBSCRIBE", *names)
        self.assertNotIn(b"ERR", self.client.ask("SUBSCRIBE", *names))
        self.client.ask("UNSUBSCRIBE")
        self.assertEqual(self.client.protocol.client.subscription_memory, 0)

    def test_all_events(self) -> None:
        """A client that subscribes to every event, by name and by pattern, stays below the limit."""
        names = [f"+some-event-of-a-long-name-{number}" for number in range(100)]
        self.client.ask("SUBSCRIBE", *names)
        self.client.ask("PSUBSCRIBE", *names)
        self.assertLess(self.client.protocol.client.subscription_memory, Limits().subscription_memory // 4)


class Lifetime:
    """
    Record the lifetime of an object by the lifetime of its attributes.

    A weak reference to the object itself stays dangling if its class is compiled.
    """


class MemoryTests(ServerTestCase):
    """Memory of all clients together."""

    def begin(self, size: int, *no_evict: str) -> RawConnection:
        """Connect a client that sets ``NO-EVICT`` and then sends this much of a request that it never completes."""
        client = self.harness.connect()
        for switch in no_evict:
            self.assertEqual(client.ask("CLIENT", "NO-EVICT", switch), b"+OK\r\n")
        client.protocol.dataReceived(b"*2\r\n$4\r\nPING\r\n$%d\r\n" % (size + 1) + b"x" * size)
        return client

    def test_largest_clients_are_dropped(self) -> None:
        """When all clients together hold too much, the largest are dropped until the rest is below the limit."""
        self.harness.context.limits = Limits(clients_memory=1000 * KILOBYTE)
        small = [self.begin(100 * KILOBYTE) for _ in range(5)]
        largest = [self.begin(600 * KILOBYTE), self.begin(500 * KILOBYTE)]
        self.harness.factory.inspect()
        self.assertEqual([client.closed for client in largest], [True, True])
        self.assertEqual([client.closed for client in small], [False] * 5)
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")
        self.assertIn(b"evicted_clients:2\r\n", self.client.ask("INFO", "stats"))

    def evicted(self, line: str) -> int:
        """Inspect the clients; return the number of evictions, each logged by this line."""
        logged: list[str] = []
        self.patch(self.harness.context.log_throttle, "warn", lambda now, text, **values: logged.append(text))
        before = self.harness.context.statistics.evicted_clients
        self.harness.factory.inspect()
        self.assertEqual(set(logged), {line} if logged else set())
        self.assertEqual(self.harness.context.statistics.evicted_clients - before, len(logged))
        return len(logged)

    def test_directive(self) -> None:
        """``maxmemory-clients`` limits the memory of all clients; the largest are evicted."""
        for maxmemory, limit in ((0, 1001 * KILOBYTE), (2002 * KILOBYTE, -50)):
            options = GenericOptions(maxmemory=maxmemory, maxmemory_clients=limit)
            self.harness = ServerHarness(options)
            clients = [self.begin(size * KILOBYTE) for size in (300, 400, 100, 500, 200)]
            self.assertEqual(self.evicted(EVICTED), 1)
            self.assertEqual([client.closed for client in clients], [False, False, False, True, False])
            self.assertEqual(self.evicted(EVICTED), 0)

    def test_no_limit(self) -> None:
        """Neither 0 nor a percentage of a ``maxmemory`` that is not set is a limit."""
        for limit in (0, -50):
            self.harness = ServerHarness(GenericOptions(maxmemory_clients=limit))
            self.begin(900 * KILOBYTE)
            self.assertEqual(self.evicted(EVICTED), 0)

    def test_no_evict(self) -> None:
        """Clients with ``NO-EVICT`` are kept, but they count: the others are evicted in their place."""
        self.harness = ServerHarness(GenericOptions(maxmemory_clients=1000 * KILOBYTE))
        kept, other = self.begin(900 * KILOBYTE, "ON"), self.begin(200 * KILOBYTE)
        self.assertEqual(self.evicted(EVICTED), 1)
        self.assertEqual((kept.closed, other.closed), (False, True))
        again = self.begin(900 * KILOBYTE, "ON")
        self.assertEqual(self.evicted(EVICTED), 0)
        self.assertEqual((kept.closed, again.closed), (False, False))

    def test_no_evict_ends(self) -> None:
        """``NO-EVICT OFF`` ends the protection."""
        self.harness = ServerHarness(GenericOptions(maxmemory_clients=1000 * KILOBYTE))
        client = self.begin(2000 * KILOBYTE, "ON", "OFF")
        self.assertEqual(self.evicted(EVICTED), 1)
        self.assertTrue(client.closed)

    def test_no_evict_and_fixed_limit(self) -> None:
        """The fixed limit holds for clients with ``NO-EVICT`` too; they are evicted last."""
        self.harness = ServerHarness(limits=Limits(clients_memory=1000 * KILOBYTE))
        kept, other = self.begin(900 * KILOBYTE, "ON"), self.begin(200 * KILOBYTE)
        self.assertEqual(self.evicted(EVICTED_BY_FIXED_LIMIT), 1)
        self.assertEqual((kept.closed, other.closed), (False, True))
        larger = self.begin(950 * KILOBYTE, "ON")
        self.assertEqual(self.evicted(EVICTED_BY_FIXED_LIMIT), 1)
        self.assertEqual((kept.closed, larger.closed), (False, True))

    def test_names_count(self) -> None:
        """Memory of names counts too."""
        many = 2000 * KILOBYTE
        self.harness.context.limits = Limits(clients_memory=800 * KILOBYTE, name_length=many, word_length=many)
        self.client.ask("CLIENT", "SETNAME", "x" * 900 * KILOBYTE)
        self.harness.factory.inspect()
        self.assertTrue(self.client.closed)

    def test_memory_of_closed_connection(self) -> None:
        """The unfinished request of a closed connection is released at once."""
        client = self.begin(100 * KILOBYTE)
        client.wire.abortConnection()
        self.assertEqual(client.protocol.buffered, 0)

    def test_memory_is_released_without_collector(self) -> None:
        """The memory of a closed client is released without the garbage collector."""
        for last in (("PSUBSCRIBE", "*"), ("CLIENT", "TRACKING", "on"), ("PING",)):
            client = self.harness.connect()
            client.ask("HELLO", "3")
            client.ask(*last)
            attribute = Lifetime()
            setattr(client.protocol, "attribute", attribute)  # noqa: B010 - it has no such attribute of its own
            gone = weakref.ref(attribute)
            gc.collect()
            gc.disable()
            self.addCleanup(gc.enable)
            client.wire.abortConnection()
            client.raw()
            client.wire.producer = None
            client.wire.forget_protocol()  # as transports do
            del client, attribute
            self.assertIsNone(gone(), last)


class TurnTests(SynchronousTestCase):
    """Long pipelines of expensive commands."""

    def setUp(self) -> None:
        self.host = BusyHost()
        self.harness = ServerHarness(host=self.host)
        self.client = self.harness.connect()
        self.host.step = TIME_SLICE_MS

    def test_pipeline_in_slices(self) -> None:
        """A pipeline is executed in time slices, without reading more meanwhile, and completely in the end."""
        self.client.protocol.dataReceived(pack("PING") * 100)
        answered = self.client.wire.value().count(b"PONG")
        self.assertLess(answered, 5)
        self.assertEqual(self.client.wire.producerState, "paused")
        for _ in range(100):
            self.host.reactor.advance(0)
        self.assertEqual(self.client.raw().count(b"PONG"), 100)
        self.assertEqual(self.client.wire.producerState, "producing")

    def test_disconnected_meanwhile(self) -> None:
        """Nothing more is executed for a client that disconnected."""
        self.client.protocol.dataReceived(pack("PING") * 100)
        self.client.raw()
        self.client.wire.abortConnection()
        self.host.reactor.advance(0)
        self.assertEqual(self.client.raw(), b"")


class LogThrottleTests(SynchronousTestCase):
    """Log lines that clients cause."""

    def setUp(self) -> None:
        self.lines = log_lines_of(self)
        self.log_throttle = LogThrottle()

    def log_repeatedly(self, now: int, times: int, **fields: Any) -> list[str]:
        """Return the lines logged for this many equal messages."""
        for _ in range(times):
            self.log_throttle.warn(now, "Bad {who}", who="client {curly}")
        lines = self.lines[:]
        self.lines.clear()
        return lines

    def test_bounded(self) -> None:
        """A limited number per kind is logged in a minute, and then the number of suppressed ones."""
        self.assertEqual(self.log_repeatedly(0, 1000), ["Bad client {curly}"] * MAX_LINES)
        self.log_throttle.flush(THROTTLE_PERIOD - 1)
        self.assertEqual(self.lines, [])
        self.log_throttle.flush(THROTTLE_PERIOD)
        self.log_throttle.flush(THROTTLE_PERIOD)
        self.assertEqual(self.lines, [f"{1000 - MAX_LINES} more lines were left out like: Bad {{who}}"])
        self.lines.clear()
        self.assertEqual(len(self.log_repeatedly(THROTTLE_PERIOD + 1, 1000)), MAX_LINES)

    def test_rare(self) -> None:
        """Rare messages are logged each time."""
        for minute in range(5):
            self.assertEqual(len(self.log_repeatedly(minute * THROTTLE_PERIOD, 2)), 2)

    def test_browsers(self) -> None:
        """A thousand HTTP requests cause only a few log lines."""
        harness = ServerHarness()
        for _ in range(1000):
            harness.connect().protocol.dataReceived(b"POST / HTTP/1.1\r\n")
        self.assertEqual(len(self.lines), MAX_LINES)


class DescriptorTests(ServerTestCase):
    """Descriptors for clients, with a reserve for links and files."""

    def test_no_descriptors(self) -> None:
        """When no descriptors are left for clients, they get the ``maxclients`` error."""
        lines = log_lines_of(self)
        self.harness = ServerHarness(GenericOptions(maxclients=1000))
        self.harness.context.available_descriptors = lambda: 3
        connections = [self.harness.connect() for _ in range(100)]
        self.assertEqual([connection.closed for connection in connections], [False] * 3 + [True] * 97)
        self.assertEqual(connections[-1].raw(), TOO_MANY)
        self.assertEqual(len(lines), MAX_LINES)
        self.assertIn("allows only 3 clients", lines[0])


class RoundRobinTests(SynchronousTestCase):
    """Many clients with long requests at the same time."""

    def setUp(self) -> None:
        self.host = BusyHost()
        self.harness = ServerHarness(host=self.host)
        self.clients = [self.harness.connect() for _ in range(20)]

    def next_turn(self) -> None:
        """Run one turn of the reactor: the calls that were due at its beginning."""
        calls = self.host.reactor.calls
        due = calls[:]
        del calls[:]
        for call in due:
            call.called = 1
            call.func(*call.args, **call.kw)

    def test_turns_are_short(self) -> None:
        """However many clients there are, a turn takes two slices at most, and each client is served."""
        self.host.step = 1
        for client in self.clients:
            client.send("UNSUBSCRIBE", *["x"] * 2_000)
            client.wire.clear()
        for _ in range(len(self.clients)):
            before = self.host.reactor.seconds()
            self.next_turn()
            self.assertLess(self.host.reactor.seconds() - before, 3 * TIME_SLICE_MS / 1000)
        self.assertEqual([client for client in self.clients if not client.wire.value()], [])

    def test_large_chunks(self) -> None:
        """Input in large chunks is read when its client is served, in order."""
        client = self.clients[0]
        client.protocol.dataReceived(pack("PING", "x" * LARGE_CHUNK) + pack("PING"))
        self.assertEqual(client.wire.value(), b"")
        self.assertEqual(client.wire.producerState, "paused")
        self.next_turn()
        self.assertEqual(client.replies(), [b"x" * LARGE_CHUNK, b"PONG"])
        self.assertEqual(client.wire.producerState, "producing")

    def test_memory(self) -> None:
        """A long request counts as memory while it is executed."""
        self.host.step = TIME_SLICE_MS
        client = self.clients[0]
        client.protocol.dataReceived(pack("UNSUBSCRIBE", *(f"{number}" for number in range(500))))
        self.assertGreater(client.protocol.buffered, 500 * 64)
        client.wire.abortConnection()
        self.assertEqual(client.protocol.buffered, 0)
