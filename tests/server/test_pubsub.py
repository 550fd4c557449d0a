"""Tests of subscriptions, of ``PUBLISH``, and of the frames of events."""

from __future__ import annotations

from tests.server.harness import MY_ID, PEER_ID, ServerTestCase

ONLY = (
    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)


class SubscriptionTests(ServerTestCase):
    """Confirmations and their counts."""

    def test_one_confirmation_each(self) -> None:
        """Repeated subscriptions are confirmed too; the number counts channels and patterns together."""
        self.client.send("SUBSCRIBE", "a", "b", "a")
        self.client.send("PSUBSCRIBE", "x*")
        self.assertEqual(
            self.client.replies(),
            [
                [b"subscribe", b"a", 1],
                [b"subscribe", b"b", 2],
                [b"subscribe", b"a", 2],
                [b"psubscribe", b"x*", 3],
            ],
        )

    def test_unsubscribing(self) -> None:
        """Each is confirmed, subscribed or not; without names all subscriptions end, or a null if there are none."""
        self.client.ask("SUBSCRIBE", "a", "b", "c")
        self.client.ask("PSUBSCRIBE", "x*")
        self.client.send("UNSUBSCRIBE", "b", "zz")
        self.client.send("UNSUBSCRIBE")
        self.client.send("UNSUBSCRIBE")
        self.client.send("PUNSUBSCRIBE")
        self.client.send("PUNSUBSCRIBE")
        self.assertEqual(
            self.client.replies(),
            [
                [b"unsubscribe", b"b", 3],
                [b"unsubscribe", b"zz", 3],
                [b"unsubscribe", b"a", 2],
                [b"unsubscribe", b"c", 1],
                [b"unsubscribe", None, 1],
                [b"punsubscribe", b"x*", 0],
                [b"punsubscribe", None, 0],
            ],
        )

    def test_frames_of_both_protocols(self) -> None:
        """RESP2 sends arrays, RESP3 pushes, each with its own null."""
        self.assertEqual(self.client.ask("UNSUBSCRIBE"), b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n")
        self.client.ask("HELLO", 3)
        self.assertEqual(self.client.ask("SUBSCRIBE", "a"), b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")
        self.assertEqual(self.client.ask("PUNSUBSCRIBE"), b">3\r\n$12\r\npunsubscribe\r\n_\r\n:1\r\n")

    def test_arity(self) -> None:
        """Subscribing without a name is an arity error."""
        self.refused("ERR wrong number of arguments for 'subscribe' command", "SUBSCRIBE")

    def test_restriction(self) -> None:
        """A RESP2 subscriber is limited to a few commands; the error has the full name, unknown commands come first."""
        self.client.ask("SUBSCRIBE", "a")
        self.refused(ONLY.format("client|id"), "CLIENT", "ID")
        self.refused(ONLY.format("sentinel|masters"), "SENTINEL", "MASTERS")
        self.refused(ONLY.format("hello"), "HELLO", 3)
        self.refused("ERR unknown command 'NOPE', with args beginning with: ", "NOPE")
        self.client.ask("UNSUBSCRIBE")
        self.assertEqual(self.client.ask("CLIENT", "ID"), b":1\r\n")

    def test_no_restriction_in_resp3(self) -> None:
        """A RESP3 subscriber is not limited."""
        self.client.ask("HELLO", 3)
        self.client.ask("SUBSCRIBE", "a")
        self.assertEqual(self.client.ask("CLIENT", "ID"), b":1\r\n")


class DeliveryTests(ServerTestCase):
    """Delivery of events."""

    def test_channels_before_patterns(self) -> None:
        """A client that matches in several ways gets one frame for each, that of the channel first."""
        self.client.ask("PSUBSCRIBE", "*", "+s[dx]own", "-*")
        self.client.ask("SUBSCRIBE", "+sdown")
        self.harness.context.hub.publish("+sdown", "master m")
        self.assertEqual(
            self.client.replies(),
            [
                [b"message", b"+sdown", b"master m"],
                [b"pmessage", b"*", b"+sdown", b"master m"],
                [b"pmessage", b"+s[dx]own", b"+sdown", b"master m"],
            ],
        )

    def test_resp3_push(self) -> None:
        """RESP3 clients get pushes."""
        self.client.ask("HELLO", 3)
        self.client.ask("PSUBSCRIBE", "*")
        self.harness.context.hub.publish("+a", "b")
        self.assertEqual(self.client.raw(), b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$2\r\n+a\r\n$1\r\nb\r\n")

    def test_closed_clients_are_forgotten(self) -> None:
        """Neither channels nor patterns of a closed client remain."""
        hub = self.harness.context.hub
        self.client.ask("SUBSCRIBE", "a")
        self.client.ask("PSUBSCRIBE", "b")
        self.assertEqual((hub.channels, hub.patterns), (1, 1))
        self.client.wire.loseConnection()
        self.assertEqual((hub.channels, hub.patterns), (0, 0))
        hub.publish("a", "x")
        self.assertEqual(hub.backlog, [])

    def test_bytes_are_unchanged(self) -> None:
        """Bytes that are not UTF-8 are delivered unchanged."""
        self.client.ask("SUBSCRIBE", b"\xff")
        self.harness.context.hub.publish("\udcff", "\udcfe")
        self.assertEqual(self.client.raw(), b"*3\r\n$7\r\nmessage\r\n$1\r\n\xff\r\n$1\r\n\xfe\r\n")

    def test_reply_before_events(self) -> None:
        """A client gets the reply of its command before the events that it caused."""
        self.client.ask("HELLO", 3)
        self.client.ask("SUBSCRIBE", "+reset-master", "+monitor")
        self.client.send("SENTINEL", "RESET", "*")
        self.harness.save()
        self.client.send("SENTINEL", "MONITOR", "other", "127.0.0.1", 6380, 1)
        self.harness.save()
        replies = self.client.replies()
        self.assertEqual(replies[0], 1)
        self.assertEqual(replies[1], [b"message", b"+reset-master", b"master mymaster 127.0.0.1 6379"])
        self.assertEqual(replies[2], b"OK")
        self.assertEqual(replies[3], [b"message", b"+monitor", b"master other 127.0.0.1 6380 quorum 1"])


class PublishTests(ServerTestCase):
    """``PUBLISH`` accepts only hellos."""

    def test_other_channels(self) -> None:
        """Other channels are refused; letter case matters."""
        for channel in ("x", "__SENTINEL__:hello"):
            self.refused("ERR Only HELLO messages are accepted by Sentinel instances.", "PUBLISH", channel, "y")

    def test_hello_is_processed(self) -> None:
        """The sender of a hello is asked for its ID, then known; the reply is 1, and nothing is delivered."""
        self.client.ask("SUBSCRIBE", "__sentinel__:hello")
        peer = self.harness.connect()
        hello = f"127.0.0.1,26380,{PEER_ID},0,mymaster,127.0.0.1,6379,0"
        self.assertEqual(peer.ask("PUBLISH", "__sentinel__:hello", hello), b":1\r\n")
        self.assertEqual(list(self.master.peers), [])
        self.harness.confirm(PEER_ID)
        self.assertEqual(list(self.master.peers), [PEER_ID])
        self.assertEqual(self.client.raw(), b"")

    def test_invalid_hello(self) -> None:
        """An invalid hello is ignored and gets the same reply."""
        for payload in ("", "x", f"127.0.0.1,26380,{MY_ID},0,nope,127.0.0.1,6379,0"):
            self.assertEqual(self.client.ask("PUBLISH", "__sentinel__:hello", payload), b":1\r\n")
        self.assertEqual(list(self.master.peers), [])
