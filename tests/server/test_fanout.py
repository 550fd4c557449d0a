"""Promises of events that many hear: nobody waits for long, and nobody can tell that others were told first."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import BenchHost, RawConnection, ServerHarness
from txsentinel.model.timings import Limits
from txsentinel.server.pubsub import MAX_SHARED_SUBSCRIPTIONS, TIME_SLICE_MS
from txsentinel.wire.replies import NEED_MORE, ReplyReader


class SlowHost(BenchHost):
    """Time goes on a little whenever somebody looks at the clock, as if what was done meanwhile had taken that long."""

    step = 0.0
    """Milliseconds."""

    def now(self) -> int:
        """Later than the last time."""
        self.reactor.rightNow += self.step / 1000
        return super().now()


class FanOutTestCase(SynchronousTestCase):
    """A bench on which telling somebody of something takes time."""

    def setUp(self) -> None:
        """No client is there yet."""
        self.host = SlowHost()
        self.harness = ServerHarness(host=self.host)
        self.master = self.harness.watch()
        self.hub = self.harness.context.hub

    def subscriber(self, *patterns: str, protocol: int = 3) -> RawConnection:
        """One more client that hears these patterns."""
        client = self.harness.connect()
        client.ask("HELLO", protocol)
        client.ask("PSUBSCRIBE", *patterns)
        return client

    def payloads(self, client: RawConnection) -> list[bytes]:
        """What a client has got so far, though no turn of the reactor has gone by."""
        reader = ReplyReader(Limits(), resp3=True)
        reader.feed(client.wire.value())
        client.wire.clear()
        found = []
        while (reply := reader.next_reply()) is not NEED_MORE:
            if isinstance(reply, list) and reply[0] == b"pmessage":
                found.append(reply[-1])
        return found

    def turn(self) -> int:
        """One turn of the reactor; how many milliseconds it took."""
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
    """How long telling takes at a time."""

    def test_not_for_long(self) -> None:
        """A storm of events for many subscribers with many patterns is told in short turns, all of it, in order."""
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

    def test_what_comes_meanwhile(self) -> None:
        """Events that come while earlier ones are told reach everybody, once and in order."""
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
        """All events of a turn go to a subscriber in one piece."""
        client = self.subscriber("*")
        writes = self.harness.context.statistics.writes
        for number in range(30):
            self.hub.publish("+event", f"{number}")
        self.turn()
        self.assertEqual((len(self.payloads(client)), self.harness.context.statistics.writes - writes), (30, 1))

    def test_nobody_listens(self) -> None:
        """Without subscribers nothing is kept and nothing is scheduled; who leaves is waited for no longer."""
        self.hub.publish("+event", "x")
        self.assertEqual((self.hub.backlog, self.host.reactor.getDelayedCalls()), ([], []))
        client = self.subscriber("*")
        self.hub.publish("+event", "y")
        client.wire.loseConnection()
        self.turn()
        self.assertEqual((self.hub.backlog, self.host.reactor.getDelayedCalls()), ([], []))

    def test_one_fails(self) -> None:
        """A bug that shows with one subscriber keeps nothing from the others, now or later."""
        clients = [self.subscriber("+event", *[f"{one}{number}" for number in range(9)]) for one in "abc"]

        def stumble(encoded: bytes) -> None:
            raise ZeroDivisionError

        clients[0].protocol.push = stumble  # type: ignore[method-assign]
        self.hub.publish("+event", "1")
        self.assertRaises(ZeroDivisionError, self.turn)
        while self.hub.backlog:
            self.turn()
        self.assertEqual([self.payloads(client) for client in clients], [[], [b"1"], [b"1"]])


class OrderTests(FanOutTestCase):
    """What a subscriber hears, and when, in respect of what it says itself."""

    def setUp(self) -> None:
        """Somebody comes first and takes so long that all others have to wait for the next turn."""
        super().setUp()
        self.first = self.subscriber("+event", *[f"first{number}" for number in range(9)])
        self.client = self.subscriber("+event")
        self.host.step = TIME_SLICE_MS + 1

    def publish(self) -> None:
        """Events happen, of which the client has not heard."""
        for number in (1, 2):
            self.hub.publish("+event", f"{number}")
        self.turn()
        self.assertEqual(self.payloads(self.client), [])

    def finish(self) -> list[bytes]:
        """Everything that the client gets in the end."""
        self.host.step = 0
        while self.hub.backlog:
            self.turn()
        return self.payloads(self.client)

    def test_before_answers(self) -> None:
        """An answer comes after the events that happened before the question."""
        self.publish()
        self.client.send("CLIENT", "ID")
        self.host.step = 0
        while self.hub.backlog:
            self.turn()
        sent = self.client.wire.value()
        self.assertLess(sent.index(b"$1\r\n2\r\n"), sent.index(b":2\r\n"))

    def test_unsubscribing(self) -> None:
        """Who gives a subscription up has heard of all that happened until then, and of nothing that happens later."""
        self.publish()
        self.client.send("PUNSUBSCRIBE")
        self.hub.publish("+event", "3")
        self.assertIn(self.finish(), ([b"1", b"2"], [b"1", b"2", b"3"]))
        self.assertEqual(self.client.ask("CLIENT", "ID"), b":2\r\n")
        self.hub.publish("+event", "4")
        self.assertEqual(self.finish(), [])

    def test_subscribing(self) -> None:
        """Who subscribes hears of nothing that happened before."""
        late = self.harness.connect()
        self.publish()
        late.send("PSUBSCRIBE", "*")
        self.hub.publish("+event", "3")
        self.finish()
        self.assertEqual(self.payloads(late), [b"3"])

    def test_closing(self) -> None:
        """A connection that is closed in order is first told what happened before."""
        self.publish()
        self.host.step = 0
        self.client.protocol.finish()
        self.assertEqual(self.payloads(self.client), [b"1", b"2"])

    def test_at_once(self) -> None:
        """Who asks in the very turn in which something happens hears of it first."""
        self.host.step = 0
        self.hub.publish("+event", "1")
        self.client.protocol.dataReceived(b"PING\r\nPING\r\n")
        sent = self.client.wire.value()
        self.assertTrue(sent.endswith(b"$1\r\n1\r\n+PONG\r\n+PONG\r\n"), sent)
        self.turn()
        self.assertEqual(self.payloads(self.client), [b"1"])

    def test_as_if_at_once(self) -> None:
        """Over random conversations, a client that has to wait gets the very bytes that it gets without waiting."""
        waited = 0
        for seed in range(12):
            heard = []
            for step in (0, 3):
                dice = random.Random(seed)
                host = SlowHost()
                harness = ServerHarness(host=host)
                clients = [harness.connect() for _ in range(4)]
                for client in clients:
                    client.ask("HELLO", 3)
                host.step = step
                for number in range(60):
                    client, pattern = dice.choice(clients), dice.choice(["+*", "+event", "+e?ent", "-*", "x"])
                    words = dice.choice(
                        [("PSUBSCRIBE", pattern), ("PUNSUBSCRIBE", pattern), ("SUBSCRIBE", "+event"), ("PING",)]
                    )
                    client.send(*words)
                    waited += not client.protocol._reading
                    while not client.protocol._reading:
                        host.reactor.advance(0)
                    for event in range(dice.randrange(3)):
                        harness.context.hub.publish("+event", f"{number}.{event}")
                    for _ in range(dice.randrange(3)):
                        host.reactor.advance(0)
                while harness.context.hub.backlog:
                    host.reactor.advance(0)
                heard.append([client.raw() for client in clients])
            self.assertEqual(heard[0], heard[1], seed)
        self.assertGreater(waited, 5)
