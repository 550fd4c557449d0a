"""Tests of delivering events to many subscribers: in time slices, without reordering."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import FakeHost, RawConnection, ServerHarness
from txsentinel.model.timings import Limits
from txsentinel.server.pubsub import MAX_SHARED_SUBSCRIPTIONS, TIME_SLICE_MS
from txsentinel.wire.replies import NEED_MORE, ReplyReader


class SlowHost(FakeHost):
    """A host whose clock advances a little at each reading, as if the work in between took that long."""

    step = 0.0
    """Milliseconds."""

    def now(self) -> int:
        """Advance and return the clock."""
        self.reactor.rightNow += self.step / 1000
        return super().now()


class FanOutTestCase(SynchronousTestCase):
    """A server on which delivering an event takes time."""

    def setUp(self) -> None:
        """Start without clients."""
        self.host = SlowHost()
        self.harness = ServerHarness(host=self.host)
        self.master = self.harness.watch()
        self.hub = self.harness.context.hub

    def subscriber(self, *patterns: str, protocol: int = 3) -> RawConnection:
        """Connect a client that subscribes to these patterns."""
        client = self.harness.connect()
        client.ask("HELLO", protocol)
        client.ask("PSUBSCRIBE", *patterns)
        return client

    def payloads(self, client: RawConnection) -> list[bytes]:
        """Return the payloads that a client received so far, without another turn of the reactor."""
        reader = ReplyReader(Limits(), resp3=True)
        reader.feed(client.wire.value())
        client.wire.clear()
        found = []
        while (reply := reader.next_reply()) is not NEED_MORE:
            if isinstance(reply, list) and reply[0] == b"pmessage":
                found.append(reply[-1])
        return found

    def turn(self) -> int:
        """Run one turn of the reactor and return its duration in milliseconds."""
        began = self.host.reactor.rightNow
        calls, self.host.reactor.calls = self.host.reactor.calls, []
        for call in calls:
            if call.time <= began:
                call.called = 1
                call.func(*call.args, **call.kw)
            else:
                self.host.reactor.calls.append(call)
        self.host.reactor.calls.sort(key=lambda call: call.getTime())
        return round((self.host.reactor.rightNow - began) * 1000)


class SlicingTests(FanOutTestCase):
    """Duration of deliveries."""

    def test_turns_are_short(self) -> None:
        """Many events for many subscribers with many patterns are delivered completely, in order, in short turns."""
        names = [f"+e*{number}" for number in range(MAX_SHARED_SUBSCRIPTIONS + 1)]
        clients = [self.subscriber("+event", *names) for _ in range(20)]
        self.host.step = 0.1
        for number in range(30):
            self.hub.publish("+event", f"{number}")
        turns = []
        while self.hub.backlog:
            turns.append(self.turn())
        self.assertLess(max(turns), 2 * TIME_SLICE_MS)
        self.assertGreater(len(turns), 5)
        for client in clients:
            self.assertEqual(self.payloads(client), [b"%d" % number for number in range(30)])

    def test_events_during_deliveries(self) -> None:
        """Events that arrive during deliveries reach all subscribers once, in order."""
        clients = [self.subscriber("+event", *[f"{one}{number}" for number in range(9)]) for one in "abcdefgh"]
        self.host.step = 1
        for number in range(20):
            self.hub.publish("+event", f"{number}")
            self.turn()
        self.assertTrue(self.hub.backlog)
        while self.hub.backlog:
            self.turn()
        for client in clients:
            self.assertEqual(self.payloads(client), [b"%d" % number for number in range(20)])

    def test_one_write(self) -> None:
        """All events of a turn are written to a subscriber at once."""
        client = self.subscriber("*")
        writes = self.harness.context.statistics.writes
        for number in range(30):
            self.hub.publish("+event", f"{number}")
        self.turn()
        self.assertEqual((len(self.payloads(client)), self.harness.context.statistics.writes - writes), (30, 1))

    def test_no_subscribers(self) -> None:
        """Without subscribers nothing is kept or scheduled; a subscriber that leaves is not waited for."""
        self.hub.publish("+event", "x")
        self.assertEqual((self.hub.backlog, self.host.reactor.getDelayedCalls()), ([], []))
        client = self.subscriber("*")
        self.hub.publish("+event", "y")
        client.wire.loseConnection()
        self.turn()
        self.assertEqual((self.hub.backlog, self.host.reactor.getDelayedCalls()), ([], []))

    def test_one_fails(self) -> None:
        """An exception of one subscriber does not affect the others, now or later."""
        clients = [self.subscriber("+event", *[f"{one}{number}" for number in range(9)]) for one in "abc"]

        def failing_write(encoded: bytes) -> None:
            raise ZeroDivisionError

        clients[0].protocol.push = failing_write  # type: ignore[method-assign]
        self.hub.publish("+event", "1")
        self.assertRaises(ZeroDivisionError, self.turn)
        while self.hub.backlog:
            self.turn()
        self.assertEqual([self.payloads(client) for client in clients], [[], [b"1"], [b"1"]])


class OrderTests(FanOutTestCase):
    """Order of events and replies for a subscriber."""

    def setUp(self) -> None:
        """Connect a first subscriber whose deliveries delay all others to the next turn."""
        super().setUp()
        self.first = self.subscriber("+event", *[f"first{number}" for number in range(9)])
        self.client = self.subscriber("+event")
        self.host.step = TIME_SLICE_MS + 1

    def publish(self) -> None:
        """Publish events that the client has not received yet."""
        for number in (1, 2):
            self.hub.publish("+event", f"{number}")
        self.turn()
        self.assertEqual(self.payloads(self.client), [])

    def finish(self) -> list[bytes]:
        """Return all that the client receives in the end."""
        self.host.step = 0
        while self.hub.backlog:
            self.turn()
        return self.payloads(self.client)

    def test_events_precede_later_replies(self) -> None:
        """A reply comes after the events that were published before its request."""
        self.publish()
        self.client.send("CLIENT", "ID")
        self.host.step = 0
        while self.hub.backlog:
            self.turn()
        sent = self.client.wire.value()
        self.assertLess(sent.index(b"$1\r\n2\r\n"), sent.index(b":2\r\n"))

    def test_unsubscribing(self) -> None:
        """A client that unsubscribes receives all events until then, and none published later."""
        self.publish()
        self.client.send("PUNSUBSCRIBE")
        self.hub.publish("+event", "3")
        self.assertIn(self.finish(), ([b"1", b"2"], [b"1", b"2", b"3"]))
        self.assertEqual(self.client.ask("CLIENT", "ID"), b":2\r\n")
        self.hub.publish("+event", "4")
        self.assertEqual(self.finish(), [])

    def test_subscribing(self) -> None:
        """A client that subscribes receives no earlier events."""
        late = self.harness.connect()
        self.publish()
        late.send("PSUBSCRIBE", "*")
        self.hub.publish("+event", "3")
        self.finish()
        self.assertEqual(self.payloads(late), [b"3"])

    def test_closing(self) -> None:
        """A connection that is closed in order receives the earlier events first."""
        self.publish()
        self.host.step = 0
        self.client.protocol.finish()
        self.assertEqual(self.payloads(self.client), [b"1", b"2"])

    def test_request_in_the_same_turn(self) -> None:
        """A request in the turn of an event is answered after the event."""
        self.host.step = 0
        self.hub.publish("+event", "1")
        self.client.protocol.dataReceived(b"PING\r\nPING\r\n")
        sent = self.client.wire.value()
        self.assertTrue(sent.endswith(b"$1\r\n1\r\n+PONG\r\n+PONG\r\n"), sent)
        self.turn()
        self.assertEqual(self.payloads(self.client), [b"1"])

    def test_delay_does_not_change_bytes(self) -> None:
        """Over random requests, a delayed client receives the same bytes as one that is served at once."""
        waited = 0
        for seed in range(12):
            received = []
            for step in (0, 3):
                rng = random.Random(seed)
                host = SlowHost()
                harness = ServerHarness(host=host)
                clients = [harness.connect() for _ in range(4)]
                for client in clients:
                    client.ask("HELLO", 3)
                host.step = step
                for number in range(60):
                    client, pattern = rng.choice(clients), rng.choice(["+*", "+event", "+e?ent", "-*", "x"])
                    words = rng.choice(
                        [("PSUBSCRIBE", pattern), ("PUNSUBSCRIBE", pattern), ("SUBSCRIBE", "+event"), ("PING",)]
                    )
                    client.send(*words)
                    # Whether input waits for the next turn is not visible from outside.
                    waited += not client.protocol.executor._reading
                    while not client.protocol.executor._reading:
                        host.reactor.advance(0)
                    for event in range(rng.randrange(3)):
                        harness.context.hub.publish("+event", f"{number}.{event}")
                    for _ in range(rng.randrange(3)):
                        host.reactor.advance(0)
                while harness.context.hub.backlog:
                    host.reactor.advance(0)
                received.append([client.raw() for client in clients])
            self.assertEqual(received[0], received[1], seed)
        self.assertGreater(waited, 5)
