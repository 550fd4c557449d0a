"""Tests of ``PING``, ``AUTH``, ``HELLO`` and ``QUIT``."""

from __future__ import annotations

from tests.server.harness import ServerHarness, ServerTestCase
from txsentinel.config.generic import GenericOptions
from txsentinel.core.options import SentinelOptions
from txsentinel.server.commands.connection import LOG_IN_FIRST, NO_PASSWORD_SET, WRONG_PASSWORD


class PingTests(ServerTestCase):
    """``PING`` in its forms."""

    def test_plain(self) -> None:
        """Without a message the reply is a status, with one it is the message as a bulk string."""
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")
        self.assertEqual(self.client.ask("ping", "hi"), b"$2\r\nhi\r\n")

    def test_two_messages(self) -> None:
        """Two messages are an arity error."""
        self.refused("ERR wrong number of arguments for 'ping' command", "PING", "a", "b")

    def test_subscribed(self) -> None:
        """A RESP2 subscriber gets an array, a RESP3 subscriber the ordinary reply."""
        self.client.ask("SUBSCRIBE", "x")
        self.assertEqual(self.client.ask("PING"), b"*2\r\n$4\r\npong\r\n$0\r\n\r\n")
        self.assertEqual(self.client.ask("PING", "m"), b"*2\r\n$4\r\npong\r\n$1\r\nm\r\n")
        modern = self.harness.connect()
        modern.ask("HELLO", 3)
        modern.ask("SUBSCRIBE", "x")
        self.assertEqual(modern.ask("PING"), b"+PONG\r\n")


class HelloTests(ServerTestCase):
    """``HELLO``."""

    def test_six_pairs(self) -> None:
        """The reply has six pairs in this order, in the requested protocol."""
        pairs = (
            b"$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:%d\r\n"
            b"$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n$7\r\nmodules\r\n*0\r\n"
        )
        self.assertEqual(self.client.ask("HELLO"), b"*12\r\n" + pairs % 2)
        self.assertEqual(self.client.ask("HELLO", 3), b"%6\r\n" + pairs % 3)
        self.assertEqual(self.client.ask("HELLO"), b"%6\r\n" + pairs % 3)
        self.assertEqual(self.client.ask("HELLO", "2"), b"*12\r\n" + pairs % 2)

    def test_availability_zone(self) -> None:
        """``availability-zone`` adds a seventh pair; ``INFO`` shows it always."""
        self.assertIn(b"\r\navailability_zone:\r\n", self.client.ask("INFO", "server"))
        self.harness = ServerHarness(GenericOptions(availability_zone="eu-1"))
        self.client = self.harness.connect()
        reply = self.client.ask("HELLO", 3)
        self.assertTrue(reply.startswith(b"%7\r\n"))
        self.assertTrue(reply.endswith(b"$17\r\navailability_zone\r\n$4\r\neu-1\r\n"))
        self.assertIn(b"\r\navailability_zone:eu-1\r\n", self.client.ask("INFO", "server"))

    def test_errors(self) -> None:
        """Invalid versions and options are named in the error and change nothing."""
        self.refused("NOPROTO unsupported protocol version", "HELLO", 4)
        self.refused("ERR Protocol version is not an integer or out of range", "HELLO", "x")
        self.refused("ERR Syntax error in HELLO option 'FoO'", "HELLO", 3, "FoO")
        self.refused("ERR Syntax error in HELLO option 'AUTH'", "HELLO", 3, "AUTH", "user")
        name = "ERR Client names cannot contain spaces, newlines or special characters."
        self.refused(name, "HELLO", 3, "SETNAME", "a b")
        self.refused(WRONG_PASSWORD, "HELLO", 3, "SETNAME", "me", "AUTH", "nobody", "pw")
        self.assertEqual(self.client.ask("CLIENT", "GETNAME"), b"$-1\r\n")

    def test_name_and_login(self) -> None:
        """Options may come in any order and letter case."""
        self.client.ask("HELLO", 3, "setname", "me", "auth", "default", "whatever")
        self.assertEqual(self.client.ask("CLIENT", "GETNAME"), b"$2\r\nme\r\n")


class AuthTests(ServerTestCase):
    """``AUTH``, with and without a password."""

    def locked(self) -> None:
        """Restart the server with a password."""
        self.harness = ServerHarness(sentinel=SentinelOptions(requirepass="secret"))
        self.client = self.harness.connect()

    def test_open_server(self) -> None:
        """Without a configured password, the short form is an error and any password fits the default user."""
        self.refused(NO_PASSWORD_SET, "AUTH", "pw")
        self.assertEqual(self.client.ask("AUTH", "default", "pw"), b"+OK\r\n")
        self.refused(WRONG_PASSWORD, "AUTH", "unknown", "pw")
        self.refused("ERR syntax error", "AUTH", "a", "b", "c")

    def test_locked_server(self) -> None:
        """Before authentication only ``AUTH`` and ``HELLO`` are answered; afterwards all commands are."""
        self.locked()
        self.refused("NOAUTH Authentication required.", "PING")
        self.refused("NOAUTH Authentication required.", "SENTINEL", "MASTERS")
        self.refused(LOG_IN_FIRST, "HELLO", 3)
        self.refused(WRONG_PASSWORD, "AUTH", "wrong")
        self.refused(WRONG_PASSWORD, "AUTH", "default", "wrong")
        self.assertEqual(self.client.ask("AUTH", "secret"), b"+OK\r\n")
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")
        self.refused(WRONG_PASSWORD, "AUTH", "wrong")
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")
        self.assertEqual(self.harness.context.statistics.denied_logins, 3)

    def test_hello_logs_in(self) -> None:
        """``HELLO`` can authenticate."""
        self.locked()
        self.assertTrue(self.client.ask("HELLO", 3, "AUTH", "default", "secret").startswith(b"%6\r\n"))

    def test_order_of_checks(self) -> None:
        """Existence and arity are checked before authentication."""
        self.locked()
        self.refused("ERR unknown command 'NOPE', with args beginning with: ", "NOPE")
        self.refused("ERR wrong number of arguments for 'role' command", "ROLE", "x")

    def test_limits_before_login(self) -> None:
        """The limits for unauthenticated clients end with the login, also for requests in the same packet."""
        self.locked()
        many = b"*12\r\n" + b"$4\r\nPING\r\n" * 12
        self.client.protocol.dataReceived(b"AUTH secret\r\n" + many)
        self.assertIn(b"+OK\r\n-ERR wrong number", self.client.raw())
        new_client = self.harness.connect()
        new_client.protocol.dataReceived(many)
        self.assertEqual(new_client.raw(), b"-ERR Protocol error: unauthenticated multibulk length\r\n")
        self.assertTrue(new_client.closed)


class QuitTests(ServerTestCase):
    """``QUIT``, which C Sentinels have deprecated and clients still send."""

    def test_ok_then_closed(self) -> None:
        """It is answered, the connection is closed, and later requests are not executed."""
        self.client.protocol.dataReceived(b"QUIT\r\nPING\r\n")
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        self.assertTrue(self.client.closed)
        self.assertEqual(len(self.harness.context.clients), 0)

    def test_not_listed(self) -> None:
        """``COMMAND`` does not list it."""
        self.assertEqual(self.client.ask("COMMAND", "INFO", "quit"), b"*1\r\n$-1\r\n")
