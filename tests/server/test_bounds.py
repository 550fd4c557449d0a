"""Tests that all memory that clients can occupy is bounded, and that each bound is reported to the client."""

from __future__ import annotations

from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import ServerHarness, ServerTestCase
from tests.server.test_fanout import SlowHost
from txsentinel.model.timings import Limits
from txsentinel.server import pubsub
from txsentinel.server.acl.log import MAX_DESCRIPTION
from txsentinel.wire.requests import RequestParser
from txsentinel.wire.resp import pack

KILOBYTE = 1024


class NameTests(ServerTestCase):
    """Names that clients set."""

    def test_names(self) -> None:
        """Long names of clients and libraries are refused, and the previous name is kept."""
        limit = Limits().name_length
        self.assertEqual(self.client.ask("CLIENT", "SETNAME", "n" * limit), b"+OK\r\n")
        self.refused("ERR Client names cannot be longer than 1024 bytes.", "CLIENT", "SETNAME", "x" * (limit + 1))
        self.refused("ERR Client names cannot be longer than 1024 bytes.", "HELLO", 3, "SETNAME", "x" * (limit + 1))
        self.assertEqual(self.client.reply("CLIENT", "GETNAME"), b"n" * limit)
        for option in ("lib-name", "LIB-VER"):
            self.refused(
                f"ERR {option} cannot be longer than 1024 bytes.", "CLIENT", "SETINFO", option, "x" * (limit + 1)
            )

    def test_log_of_refusals(self) -> None:
        """An entry of ``ACL LOG`` is a few kilobytes at most, whatever the client sent."""
        self.client.ask("CLIENT", "SETNAME", "n" * 1024)
        for number in range(200):
            self.client.ask("AUTH", f"{number}" + "u" * 60_000, "wrong")
        entries = self.client.reply("ACL", "LOG", 1000)
        assert isinstance(entries, list)
        self.assertEqual(len(entries), 128)
        for entry in entries:
            texts = [word for word in entry if isinstance(word, bytes)]
            self.assertLess(sum(map(len, texts)), MAX_DESCRIPTION + 4 * KILOBYTE)


class LongArgumentTests(ServerTestCase):
    """Arguments that are longer than any command needs."""

    def test_refused(self) -> None:
        """They are refused with the actual and the permitted length; the connection stays open."""
        limit = Limits().word_length
        for command in (
            ("SENTINEL", "MASTER"),
            ("ACL", "GETUSER"),
            ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "1.2.3.4", "1", "1"),
        ):
            name = "|".join(command[:2]).lower()
            self.refused(
                f"ERR '{name}' was given an argument of {limit + 1} bytes, the limit is {limit}",
                *command,
                b"\xff" * (limit + 1),
            )
            self.assertNotIn(b"the limit is", self.client.ask(*command, b"\xff" * limit))

    def test_echo(self) -> None:
        """``PING`` echoes longer arguments, because it does not interpret them."""
        limit = Limits().kept_word
        self.assertEqual(self.client.reply("PING", "x" * limit), b"x" * limit)
        self.refused(
            f"ERR 'ping' was given an argument of {limit + 1} bytes, the limit is {limit}",
            "PING",
            "x" * (limit + 1),
        )

    def test_skipped_while_received(self) -> None:
        """An argument of megabytes is skipped as it arrives, in any chunking; the next request is read."""
        request = pack("GET", b"x" * 3_000, "y") + pack("PING")
        for size in (1, 7, 100, 1_000, 2_999, len(request)):
            parser = RequestParser(Limits(kept_word=2_000))
            parser.authenticated = True
            found = []
            for start in range(0, len(request), size):
                parser.feed(request[start : start + size])
                while (words := parser.next_request()) is not None:
                    found.append((words, parser.longest > 2_000))
                # How much is kept is not visible from outside.
                self.assertLess(len(parser._buffer), 2_000 if size < 2_000 else len(request) + 1)
            self.assertEqual(found, [([b"GET", b"", b"y"], True), ([b"PING"], False)], size)

    def test_password(self) -> None:
        """An unauthenticated client cannot use long passwords either: its requests are limited before that."""
        self.assertEqual(self.client.ask("AUTH", "default", "x" * 60_000), b"+OK\r\n")


class UserTests(ServerTestCase):
    """Users created by command."""

    def test_rules(self) -> None:
        """Too many rules for one user are refused as a whole."""
        limit = Limits().user_rules
        error = f"ERR Error in ACL SETUSER: more than {limit} rules for one user"
        self.refused(error, "ACL", "SETUSER", "u", *(f"&{number}" for number in range(limit + 1)))
        self.assertIsNone(self.client.reply("ACL", "GETUSER", "u"))
        self.refused(
            "ERR Error in ACL SETUSER modifier '+ping|256': Too many first arguments of one command",
            "ACL", "SETUSER", "u", *(f"+ping|{number}" for number in range(257)),
        )  # fmt: skip

    def test_users(self) -> None:
        """A user above the limit is refused; existing users can still be changed."""
        self.harness = ServerHarness(limits=Limits(users=3))
        self.client = self.harness.connect()
        self.client.ask("ACL", "SETUSER", "a")
        self.client.ask("ACL", "SETUSER", "b")
        self.refused("ERR Error in ACL SETUSER: more than 3 users", "ACL", "SETUSER", "c")
        self.assertEqual(self.client.ask("ACL", "SETUSER", "b", "on"), b"+OK\r\n")


class EventTests(SynchronousTestCase):
    """Subscribers of events."""

    def setUp(self) -> None:
        self.host = SlowHost()
        self.harness = ServerHarness(host=self.host)
        self.hub = self.harness.context.hub

    def test_many_patterns(self) -> None:
        """An event for one subscriber with many patterns takes several time slices; each frame arrives once."""
        client = self.harness.connect()
        names = [f"+{letter}*" for letter in "sxs"] + ["*n", "[-+]sdown"]
        names += [f"nothing{number}*" for number in range(1_000)]
        names += ["+s*", "+sd*"]  # the first of them for the second time
        client.ask("PSUBSCRIBE", *names)
        client.raw()
        self.host.step = 1.0
        turns = 0
        self.hub.publish("+sdown", "x")
        while self.hub.backlog and turns < 1_000:
            call = self.host.reactor.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)
            turns += 1
        self.host.step = 0.0
        self.assertGreater(turns, 2)
        received = [reply[1] for reply in client.replies() if isinstance(reply, list)]
        self.assertEqual(received, [b"+s*", b"*n", b"[-+]sdown", b"+sd*"])

    def test_slow_subscriber_is_dropped(self) -> None:
        """A subscriber that is too slow is dropped and its memory released; the others receive all events."""
        slow, fast = self.harness.connect(), self.harness.connect()
        fast.ask("SUBSCRIBE", "+sdown")
        slow.ask("SUBSCRIBE", "+sdown")
        self.addCleanup(patch.stopall)
        patch.object(pubsub, "MAX_BACKLOG", 100).start()
        for number in range(101):
            self.hub.publish("+sdown", str(number))
            if number % 10 == 0:
                self.assertTrue(self.hub.catch_up(fast.protocol.client))
        self.assertTrue(slow.closed)
        self.assertFalse(fast.closed)
        self.assertLessEqual(len(self.hub.backlog), 100)
        self.assertEqual(fast.raw().count(b"message"), 101)
