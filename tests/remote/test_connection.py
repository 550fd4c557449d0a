"""The blocking connection, over a pair of sockets."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.reading import Scope, describe_self, read_sentinel
from txsentinel.wire.resp import pack
from txsentinel.wire.values import ErrorLine

HERE = Endpoint("10.0.0.11", 26379)
INFO = b"# Server\r\nredis_version:7.0.15\r\nredis_mode:sentinel\r\nserver_time_usec:1000000\r\n"


def bulk(raw: bytes) -> bytes:
    """Encode a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


class ConnectionTests(SynchronousTestCase):
    """The other side is written in advance."""

    def setUp(self) -> None:
        ours, self.other = socket.socketpair()
        self.addCleanup(self.other.close)

        class Unix:
            """A socket without TCP options."""

            def __init__(self, inner: socket.socket) -> None:
                self.inner = inner

            def setsockopt(self, *options: Any) -> None:
                """Options of TCP are accepted."""
                assert options

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

        self.patch(socket, "create_connection", lambda address, timeout: Unix(ours))

    def connect(self, replies: bytes, end: bool = False, **settings: Any) -> RemoteConnection:
        """Connect to a server that sends ``replies``, and then, with ``end``, nothing more ever."""
        self.other.sendall(replies)
        if end:
            self.other.shutdown(socket.SHUT_WR)
        connection = RemoteConnection(HERE, ConnectionSettings(timeout=0.05, **settings))
        self.addCleanup(connection.close)
        return connection

    def sent(self) -> bytes:
        """Return what was sent so far."""
        return self.other.recv(65536)

    def test_call(self) -> None:
        """A command is sent and its answer returned."""
        connection = self.connect(b"+PONG\r\n")
        self.assertEqual(connection.call("PING"), b"PONG")
        self.assertEqual(self.sent(), pack("PING"))

    def test_login(self) -> None:
        """User and password are sent first; a refusal ends the connection."""
        self.connect(b"+OK\r\n", user="ops", password="geheim")
        self.assertEqual(self.sent(), pack("AUTH", "ops", "geheim"))

    def test_refused_login(self) -> None:
        """The error has the text of the server, and not the password."""
        error = self.assertRaises(ErrorAnswer, self.connect, b"-WRONGPASS invalid\r\n", password="geheim")
        self.assertEqual((str(error), error.code), ("WRONGPASS invalid", "WRONGPASS"))

    def test_pipeline(self) -> None:
        """Errors of single commands are values; the commands are sent at once."""
        connection = self.connect(b":1\r\n-ERR no\r\n$-1\r\n")
        self.assertEqual(connection.pipeline([["A"], ["B"], ["C"]]), [1, ErrorLine(b"ERR no"), None])
        self.assertEqual(self.sent(), pack("A") + pack("B") + pack("C"))

    def test_failures(self) -> None:
        """The end of the connection, silence and bytes that are not RESP have different texts."""
        connection = self.connect(b"+OK")
        self.assertIn("no answer in time", str(self.assertRaises(ConnectionFailed, connection.call, "A")))
        self.other.shutdown(socket.SHUT_WR)
        self.assertIn("was closed", str(self.assertRaises(ConnectionFailed, connection.call, "A")))

    def test_garbage(self) -> None:
        """What is not RESP is reported as that."""
        connection = self.connect(b"HTTP/1.1 400\r\n\r\n")
        self.assertIn("not RESP", str(self.assertRaises(ConnectionFailed, connection.call, "A")))

    def test_resp3(self) -> None:
        """Maps are understood after HELLO 3, and out-of-band data is skipped."""
        connection = self.connect(b"%1\r\n+proto\r\n:3\r\n>1\r\n+x\r\n%1\r\n+a\r\n#t\r\n")
        connection.use_resp3()
        self.assertEqual(connection.call("A"), {b"a": True})

    def test_no_resp3(self) -> None:
        """An old server refuses; the connection stays usable in RESP2."""
        connection = self.connect(b"-ERR unknown command 'HELLO'\r\n")
        self.assertRaises(ErrorAnswer, connection.use_resp3)
        self.other.sendall(b"+PONG\r\n")
        self.assertEqual(connection.call("PING"), b"PONG")

    def test_description(self) -> None:
        """Kind, version and clock come from INFO; an old Sentinel without MYID has no ID."""
        found = describe_self(self.connect(bulk(INFO) + b"-ERR Unknown sentinel subcommand 'MYID'\r\n"))
        self.assertEqual(str(found.identity), "redis 7.0.15")
        self.assertIsNone(found.identity.sentinel_id)
        self.assertLess(found.clock_offset_ms or 0, -1_000_000)

    def test_a_server_is_no_sentinel(self) -> None:
        """The address of a data server is refused."""
        connection = self.connect(bulk(INFO.replace(b"sentinel", b"standalone")) + b"-ERR unknown command\r\n")
        self.assertIn("no Sentinel", str(self.assertRaises(ErrorAnswer, describe_self, connection)))

    def test_reading(self) -> None:
        """One Sentinel is read with four commands; a master that it does not monitor is left out."""
        master = b"*4\r\n" + bulk(b"name") + bulk(b"my\xffmaster") + bulk(b"port") + bulk(b"6379")
        self.other.sendall(
            bulk(INFO) + bulk(b"a" * 40) + b"-ERR No such master with that name\r\n" + master + b"*1\r\n" + master
        )
        report = read_sentinel(HERE, ConnectionSettings(timeout=0.05), Scope(["x", "my\udcffmaster"], details=False))
        self.assertIsNone(report.problem)
        self.assertEqual(list(report.masters), ["my\udcffmaster"])
        self.assertEqual(len(report.masters["my\udcffmaster"].peers), 1)
        self.assertTrue(self.sent().endswith(pack("SENTINEL", "SENTINELS", b"my\xffmaster")))

    def test_not_permitted(self) -> None:
        """A Sentinel whose commands are refused is reported with the error."""
        self.other.sendall(bulk(INFO) + bulk(b"a" * 40) + b"-NOPERM no permissions\r\n")
        report = read_sentinel(HERE, ConnectionSettings(timeout=0.05), Scope(["x"]))
        self.assertEqual((report.problem, report.reachable), ("NOPERM no permissions", False))
