"""What clients can make the server remember is bounded, and each bound is said to whoever meets it."""

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
    """What clients call themselves."""

    def test_names(self) -> None:
        """Long names of clients and libraries are refused, and the old one is kept."""
        most = Limits().name_length
        self.assertEqual(self.client.ask("CLIENT", "SETNAME", "n" * most), b"+OK\r\n")
        self.refused("ERR Client names cannot be longer than 1024 bytes.", "CLIENT", "SETNAME", "x" * (most + 1))
        self.refused("ERR Client names cannot be longer than 1024 bytes.", "HELLO", 3, "SETNAME", "x" * (most + 1))
        self.assertEqual(self.client.reply("CLIENT", "GETNAME"), b"n" * most)
        for option in ("lib-name", "LIB-VER"):
            self.refused(
                f"ERR {option} cannot be longer than 1024 bytes.", "CLIENT", "SETINFO", option, "x" * (most + 1)
            )

    def test_log_of_refusals(self) -> None:
        """An entry of ACL LOG is some kilobytes, whatever the client's name and whatever it tried."""
        self.client.ask("CLIENT", "SETNAME", "n" * 1024)
        for number in range(200):
            self.client.ask("AUTH", f"{number}" + "u" * 60_000, "wrong")
        entries = self.client.reply("ACL", "LOG", 1000)
        assert isinstance(entries, list)
        self.assertEqual(len(entries), 128)
        for entry in entries:
            texts = [word for word in entry if isinstance(word, bytes)]
            self.assertLess(sum(map(len, texts)), MAX_DESCRIPTION + 4 * KILOBYTE)


class LongWordTests(ServerTestCase):
    """Arguments that no command has a use for."""

    def test_refused(self) -> None:
        """They are refused with both lengths; the connection stays."""
        most = Limits().word_length
        for command in (
            ("SENTINEL", "MASTER"),
            ("ACL", "GETUSER"),
            ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "1.2.3.4", "1", "1"),
        ):
            name = "|".join(command[:2]).lower()
            self.refused(
                f"ERR '{name}' was given an argument of {most + 1} bytes, the limit is {most}",
                *command,
                b"\xff" * (most + 1),
            )
            self.assertNotIn(b"the limit is", self.client.ask(*command, b"\xff" * most))

    def test_echo(self) -> None:
        """PING gives back more, as it does not look at it."""
        most = Limits().kept_word
        self.assertEqual(self.client.reply("PING", "x" * most), b"x" * most)
        self.refused(
            f"ERR 'ping' was given an argument of {most + 1} bytes, the limit is {most}", "PING", "x" * (most + 1)
        )

    def test_not_kept(self) -> None:
        """A word of megabytes is passed over as it comes, however it is cut; what follows is read."""
        request = pack("GET", b"x" * 3_000, "y") + pack("PING")
        for size in (1, 7, 100, 1_000, 2_999, len(request)):
            parser = RequestParser(Limits(kept_word=2_000))
            parser.authenticated = True
            found = []
            for start in range(0, len(request), size):
                parser.feed(request[start : start + size])
                while (words := parser.next_request()) is not None:
                    found.append((words, parser.longest > 2_000))
                self.assertLess(len(parser._buffer), 2_000 if size < 2_000 else len(request) + 1)
            self.assertEqual(found, [([b"GET", b"", b"y"], True), ([b"PING"], False)], size)

    def test_login(self) -> None:
        """Not even the length of a password is looked into by strangers: they are limited before that."""
        self.assertEqual(self.client.ask("AUTH", "default", "x" * 60_000), b"+OK\r\n")


class UserTests(ServerTestCase):
    """Users made by command."""

    def test_rules(self) -> None:
        """More rules than any user has are refused, all of them."""
        most = Limits().user_rules
        complaint = f"ERR Error in ACL SETUSER: more than {most} rules for one user"
        self.refused(complaint, "ACL", "SETUSER", "u", *(f"&{number}" for number in range(most + 1)))
        self.assertIsNone(self.client.reply("ACL", "GETUSER", "u"))
        self.refused(
            "ERR Error in ACL SETUSER modifier '+ping|256': Too many first arguments of one command",
            "ACL", "SETUSER", "u", *(f"+ping|{number}" for number in range(257)),
        )  # fmt: skip

    def test_users(self) -> None:
        """So is one user too many; known ones can still be changed."""
        self.harness.context.limits = Limits(users=3)
        self.client.ask("ACL", "SETUSER", "a")
        self.client.ask("ACL", "SETUSER", "b")
        self.refused("ERR Error in ACL SETUSER: more than 3 users", "ACL", "SETUSER", "c")
        self.assertEqual(self.client.ask("ACL", "SETUSER", "b", "on"), b"+OK\r\n")


class EventTests(SynchronousTestCase):
    """Those who hear of events."""

    def setUp(self) -> None:
        self.host = SlowHost()
        self.harness = ServerHarness(host=self.host)
        self.hub = self.harness.context.hub

    def test_many_patterns(self) -> None:
        """One event for one subscriber with many patterns takes several slices; every frame comes once, in order."""
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
        heard = [reply[1] for reply in client.replies() if isinstance(reply, list)]
        self.assertEqual(heard, [b"+s*", b"*n", b"[-+]sdown", b"+sd*"])

    def test_hopeless(self) -> None:
        """Who cannot be told as fast as things happen is dropped, and the memory is free; the others hear all."""
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
