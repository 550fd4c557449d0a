"""Tests of the ``CLIENT`` commands."""

from __future__ import annotations

from twisted.internet.address import IPv6Address, UNIXAddress

from tests.server.harness import ServerHarness, ServerTestCase
from txsentinel.config.generic import GenericOptions

BAD_NAME = "ERR Client names cannot contain spaces, newlines or special characters."


def fields(line: bytes) -> dict[str, str]:
    """Parse the fields of a line of ``CLIENT LIST``."""
    return dict(pair.split("=", 1) for pair in line.decode().rstrip("\n").split(" "))


def first_line(reply: object) -> bytes:
    """Return the first line of a bulk string."""
    assert isinstance(reply, bytes), reply
    return reply.splitlines()[0]


class IdentityTests(ServerTestCase):
    """ID, name and library of a client."""

    def test_ids_grow(self) -> None:
        """IDs are never reused."""
        self.assertEqual(self.client.ask("CLIENT", "ID"), b":1\r\n")
        other = self.harness.connect()
        other.wire.loseConnection()
        self.assertEqual(self.harness.connect().ask("CLIENT", "ID"), b":3\r\n")

    def test_name(self) -> None:
        """A name is stored, an empty one removes it, blanks are refused."""
        self.assertEqual(self.client.ask("CLIENT", "GETNAME"), b"$-1\r\n")
        self.assertEqual(self.client.ask("CLIENT", "SETNAME", "me"), b"+OK\r\n")
        self.assertEqual(self.client.ask("CLIENT", "GETNAME"), b"$2\r\nme\r\n")
        self.refused(BAD_NAME, "CLIENT", "SETNAME", "a b")
        self.refused(BAD_NAME, "CLIENT", "SETNAME", b"\xc3\xa4")
        self.assertEqual(self.client.ask("CLIENT", "SETNAME", ""), b"+OK\r\n")
        self.assertEqual(self.client.ask("CLIENT", "GETNAME"), b"$-1\r\n")

    def test_library(self) -> None:
        """The list shows name and version of the library; an unknown option is echoed as it was sent."""
        self.assertEqual(self.client.ask("CLIENT", "SETINFO", "lib-name", "jedis"), b"+OK\r\n")
        self.assertEqual(self.client.ask("CLIENT", "SETINFO", "LIB-VER", "5.1"), b"+OK\r\n")
        self.refused("ERR Unrecognized option 'Lib-X'", "CLIENT", "SETINFO", "Lib-X", "1")
        error = "ERR lib-ver cannot contain spaces, newlines or special characters."
        self.refused(error, "CLIENT", "SETINFO", "lib-ver", "a b")
        reply = self.client.reply("CLIENT", "INFO")
        assert isinstance(reply, bytes)
        self.assertIn(b" lib-name=jedis lib-ver=5.1 ", reply)

    def test_unknown_subcommand(self) -> None:
        """An unknown subcommand is echoed with a hint at ``HELP``."""
        self.refused("ERR unknown subcommand 'noPe'. Try CLIENT HELP.", "CLIENT", "noPe")
        self.refused("ERR wrong number of arguments for 'client' command", "CLIENT")
        self.refused("ERR wrong number of arguments for 'client|id' command", "CLIENT", "ID", "x")

    def test_no_evict(self) -> None:
        """``CLIENT NO-EVICT`` sets a flag."""
        self.assertEqual(self.client.ask("CLIENT", "NO-EVICT", "on"), b"+OK\r\n")
        reply = self.client.reply("CLIENT", "INFO")
        assert isinstance(reply, bytes)
        self.assertEqual(fields(reply)["flags"], "e")
        self.refused("ERR syntax error", "CLIENT", "NO-EVICT", "maybe")


class ListTests(ServerTestCase):
    """``CLIENT LIST``."""

    def test_line(self) -> None:
        """Fields are in the order of Redis 8.2 and Valkey 9, ages in seconds; the running command does not count."""
        self.harness.host.reactor.advance(7.5)
        self.client.ask("CLIENT", "SETNAME", "me")
        self.harness.host.reactor.advance(2)
        reply = self.client.reply("CLIENT", "LIST")
        self.assertEqual(
            reply,
            b"id=1 addr=127.0.0.1:40001 laddr=127.0.0.1:26379 fd=-1 name=me age=9 idle=0 flags=N capa= db=0 sub=0"
            b" psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0"
            b" tot-mem=0 events=r cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver="
            b" io-thread=0 tot-net-in=63 tot-net-out=5 tot-cmds=1\n",
        )

    def test_totals(self) -> None:
        """Input and output bytes are counted, and commands that ran, in any form of request."""
        sent = [b"PING\r\n", b"PING\r\n", b"FOO\r\n", b"GET\r\n" * 2 + b"PING\r\n", b"CLIENT ID x\r\n", b"PING x y\r\n"]
        received = 0
        for request in sent:
            self.client.protocol.dataReceived(request)
            received += len(self.client.raw())
        shown = fields(first_line(self.harness.connect().reply("CLIENT", "LIST")))
        self.assertEqual(
            [shown["tot-net-in"], shown["tot-net-out"], shown["tot-cmds"]],
            [str(len(b"".join(sent))), str(received), "4"],
        )

    def test_unknown_command(self) -> None:
        """An unknown command clears the last command; a refused one is recorded as the last command."""
        other = self.harness.connect()
        for words, shown in (
            (("FOO",), "NULL"),
            (("PING", "x", "y", "z"), "ping"),
            (("CLIENT", "UNKNOWN"), "NULL"),
            (("SENTINEL", "MASTERS", "x"), "sentinel|masters"),
        ):
            self.client.ask(*words)
            self.assertEqual(fields(first_line(other.reply("CLIENT", "LIST")))["cmd"], shown, words)

    def test_addresses(self) -> None:
        """IPv6 hosts are in brackets; a Unix socket is its path with port 0."""
        self.harness = ServerHarness(GenericOptions(unixsocket="/run/s.sock"))
        six = self.harness.connect(IPv6Address("TCP", "::1", 5))
        self.assertIn(b" addr=[::1]:5 ", six.ask("CLIENT", "INFO"))
        local = self.harness.connect(UNIXAddress(None))
        self.assertIn(b" addr=/run/s.sock:0 ", local.ask("CLIENT", "INFO"))
        self.assertIn(b" flags=U ", local.ask("CLIENT", "INFO"))

    def test_verbatim_in_resp3(self) -> None:
        """In RESP3 the reply is a verbatim string."""
        self.client.ask("HELLO", 3)
        self.assertRegex(self.client.ask("CLIENT", "LIST"), rb"^=\d+\r\ntxt:id=1 ")
        self.assertRegex(self.client.ask("CLIENT", "INFO"), rb"^=\d+\r\ntxt:id=1 ")

    def listed(self, *words: str) -> list[str]:
        """Return the IDs of the clients that match these filters."""
        reply = self.client.reply("CLIENT", "LIST", *words)
        assert isinstance(reply, bytes)
        return [fields(line)["id"] for line in reply.splitlines()]

    def test_filters(self) -> None:
        """Each option selects, its ``NOT-`` form selects the others, and all given filters must match."""
        listener, named = self.harness.connect(), self.harness.connect()
        listener.ask("SUBSCRIBE", "x")
        named.ask("CLIENT", "SETNAME", "me")
        named.ask("CLIENT", "SETINFO", "LIB-NAME", "lib")
        named.ask("CLIENT", "SETINFO", "LIB-VER", "2")
        for option, value, ids in (
            ("TYPE", "pubsub", "2"),
            ("type", "NORMAL", "13"),
            ("TYPE", "master", ""),
            ("ID", "3", "3"),
            ("NAME", "me", "3"),
            ("NAME", "", ""),
            ("LIB-NAME", "lib", "3"),
            ("LIB-VER", "2", "3"),
            ("LIB-VER", "", ""),
            ("USER", "default", "123"),
            ("ADDR", "127.0.0.1:40002", "2"),
            ("LADDR", "127.0.0.1:26379", "123"),
            ("LADDR", "127.0.0.1:1", ""),
            ("IP", "127.0.0.1", "123"),
            ("IP", "127.0.0.1:40002", ""),
            ("FLAGS", "P", "2"),
            ("FLAGS", "N", "13"),
            ("FLAGS", "NP", ""),
            ("FLAGS", "", "123"),
            ("DB", "0", "123"),
            ("DB", "15", ""),
            ("CAPA", "r", ""),
            ("CAPA", "", "123"),
        ):
            self.assertEqual("".join(self.listed(option, value)), ids, option)
            self.assertEqual(set(self.listed(f"not-{option}", value)), set("123") - set(ids), option)
        self.assertEqual(self.listed("TYPE", "normal", "NOT-NAME", "me"), ["1"])
        self.assertEqual(self.listed(), ["1", "2", "3"])

    def test_several_ids(self) -> None:
        """Several IDs select several clients, in the order of the list; no ID at all selects none."""
        self.harness.connect()
        self.harness.connect()
        self.assertEqual(self.listed("ID", "3", "99", "1", "3"), ["1", "3"])
        self.assertEqual(self.listed("ID", "3", "ID", "2"), ["2", "3"])
        self.assertEqual(self.listed("ID", "1", "2", "3", "NOT-ID", "1", "NOT-ID", "3"), ["2"])
        self.assertEqual(self.listed("ID", "TYPE", "normal"), [])
        self.assertEqual(self.listed("TYPE", "normal", "NOT-ID"), ["1", "2", "3"])

    def test_repeated_options(self) -> None:
        """A repeated option replaces the earlier one; the asking client is listed unless ``SKIPME`` is ``yes``."""
        self.harness.connect()
        self.assertEqual(self.listed("SKIPME", "no", "SKIPME", "yes"), ["2"])
        self.assertEqual(self.listed("TYPE", "pubsub", "TYPE", "normal"), ["1", "2"])

    def test_times(self) -> None:
        """``MAXAGE`` and ``IDLE`` select clients connected or idle for at least so many seconds."""
        self.harness.connect()
        self.harness.host.reactor.advance(4)
        self.harness.connect()
        self.harness.host.reactor.advance(4)
        self.assertEqual(self.listed("MAXAGE", "8"), ["1", "2"])
        self.assertEqual(self.listed("MAXAGE", "9"), [])
        self.assertEqual(self.listed("IDLE", "4"), ["2", "3"])
        self.assertEqual(self.listed("IDLE", "5"), ["2"])

    def test_hosts(self) -> None:
        """``IP`` filters by host, IPv6 without brackets; a Unix socket has none."""
        self.harness = ServerHarness(GenericOptions(unixsocket="/run/s.sock"))
        self.client = self.harness.connect(IPv6Address("TCP", "::1", 5))
        self.harness.connect(UNIXAddress(None))
        self.assertEqual(self.listed("IP", "::1"), ["1"])
        self.assertEqual(self.listed("IP", "/run/s.sock"), [])
        self.assertEqual(self.listed("NOT-IP", "::1"), ["2"])

    def test_databases(self) -> None:
        """A database above the configured number is refused; all clients are in database 0."""
        self.harness = ServerHarness(GenericOptions(others={"databases": ("4",)}))
        self.client = self.harness.connect()
        self.assertEqual(self.listed("DB", "3"), [])
        self.refused("ERR DB number should be between 0 and 3", "CLIENT", "LIST", "DB", "4")

    def test_invalid_filters(self) -> None:
        """Invalid filters are refused."""
        for line, words in (
            ("ERR Unknown client type 'x'", ("TYPE", "x")),
            ("ERR client-id should be greater than 0", ("ID", "1", "0")),
            ("ERR syntax error", ("ID",)),
            ("ERR syntax error", ("ID", "x")),
            ("ERR syntax error", ("NAME",)),
            ("ERR syntax error", ("NAME", "x", "IP")),
            ("ERR syntax error", ("NOT-IDLE", "1")),
            ("ERR syntax error", ("NOT-", "1")),
            ("ERR No such user 'x'", ("NOT-USER", "x")),
            ("ERR Unknown flags found in the provided filter: Nz", ("FLAGS", "Nz")),
            ("ERR Unknown flags found in the NOT-FLAGS filter: Nz", ("NOT-FLAGS", "Nz")),
            ("ERR Unknown capa found in the provided filter: rx", ("CAPA", "rx")),
            ("ERR DB number should be between 0 and 15", ("DB", "16")),
            ("ERR NOT-DB number should be between 0 and 15", ("NOT-DB", "-1")),
            ("ERR NOT-DB is not an integer or out of range", ("NOT-DB", "2147483648")),
            ("ERR idle should be greater than 0", ("IDLE", "0")),
            ("ERR idle is not an integer or out of range", ("IDLE", "01")),
        ):
            self.refused(line, "CLIENT", "LIST", *words)


class KillTests(ServerTestCase):
    """``CLIENT KILL``."""

    def test_by_address(self) -> None:
        """A client killed by address is closed without a message."""
        target = self.harness.connect()
        self.assertEqual(self.client.ask("CLIENT", "KILL", "127.0.0.1:40002"), b"+OK\r\n")
        self.assertTrue(target.closed)
        self.assertEqual(target.raw(), b"")
        self.refused("ERR No such client", "CLIENT", "KILL", "127.0.0.1:40002")

    def test_asking_client(self) -> None:
        """A client that kills itself gets its reply first."""
        self.assertEqual(self.client.ask("CLIENT", "KILL", "127.0.0.1:40001"), b"+OK\r\n")
        self.assertTrue(self.client.closed)

    def test_filters_must_all_hold(self) -> None:
        """All filters must match; the asking client is excluded unless ``SKIPME`` is ``no``."""
        listener, other = self.harness.connect(), self.harness.connect()
        listener.ask("SUBSCRIBE", "x")
        self.assertEqual(self.client.ask("CLIENT", "KILL", "TYPE", "pubsub", "ID", "3"), b":0\r\n")
        self.assertEqual(self.client.ask("CLIENT", "KILL", "TYPE", "pubsub", "USER", "default"), b":1\r\n")
        self.assertTrue(listener.closed)
        self.assertEqual(self.client.ask("CLIENT", "KILL", "LADDR", "127.0.0.1:26379"), b":1\r\n")
        self.assertTrue(other.closed)
        self.assertEqual(self.client.ask("CLIENT", "KILL", "SKIPME", "no", "TYPE", "normal"), b":1\r\n")
        self.assertTrue(self.client.closed)

    def test_several_ids(self) -> None:
        """Several IDs close several clients, and other filters still apply."""
        targets = [self.harness.connect() for _ in range(3)]
        targets[1].ask("CLIENT", "SETNAME", "excluded")
        self.assertEqual(self.client.ask("CLIENT", "KILL", "ID", 1, 2, 3, 99, "NOT-NAME", "excluded"), b":1\r\n")
        self.assertEqual([each.closed for each in targets], [True, False, False])

    def test_by_age(self) -> None:
        """``MAXAGE`` selects clients at least so many seconds old."""
        self.harness.host.reactor.advance(10)
        self.harness.connect()
        self.assertEqual(self.client.ask("CLIENT", "KILL", "MAXAGE", 5, "SKIPME", "no"), b":1\r\n")
        self.assertEqual(len(self.harness.context.clients), 1)

    def test_invalid_filters(self) -> None:
        """Each invalid filter has its own error text."""
        for line, words in (
            ("ERR client-id should be greater than 0", ("ID", "0")),
            ("ERR syntax error", ("ID", "x")),
            ("ERR Unknown client type 'x'", ("TYPE", "x")),
            ("ERR No such user 'x'", ("USER", "x")),
            ("ERR maxage should be greater than 0", ("MAXAGE", "0")),
            ("ERR maxage is not an integer or out of range", ("MAXAGE", "x")),
            ("ERR syntax error", ("SKIPME", "x")),
            ("ERR syntax error", ("FOO", "x")),
            ("ERR syntax error", ("ID", "1", "TYPE")),
        ):
            self.refused(line, "CLIENT", "KILL", *words)


class ReplyTests(ServerTestCase):
    """``CLIENT REPLY``."""

    def test_skip(self) -> None:
        """``SKIP`` suppresses its own reply and the next one only."""
        self.client.protocol.dataReceived(b"CLIENT REPLY SKIP\r\nPING 1\r\nPING 2\r\n")
        self.assertEqual(self.client.raw(), b"$1\r\n2\r\n")

    def test_off_and_on(self) -> None:
        """``OFF`` suppresses errors too, until ``ON``, which is answered."""
        self.client.protocol.dataReceived(b"CLIENT REPLY OFF\r\nPING\r\nNOPE\r\nCLIENT REPLY SKIP\r\n")
        self.assertEqual(self.client.raw(), b"")
        self.assertEqual(self.client.ask("CLIENT", "REPLY", "ON"), b"+OK\r\n")
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")

    def test_on_behind_skip(self) -> None:
        """``ON`` behind ``SKIP`` is answered."""
        self.client.send("CLIENT", "REPLY", "SKIP")
        self.assertEqual(self.client.ask("CLIENT", "REPLY", "ON"), b"+OK\r\n")

    def test_events_are_not_suppressed(self) -> None:
        """Subscribers with replies switched off still receive events."""
        self.client.ask("SUBSCRIBE", "+sdown")
        self.client.ask("CLIENT", "REPLY", "OFF")
        muted = self.harness.connect()
        muted.ask("HELLO", 3)
        muted.ask("SUBSCRIBE", "+sdown")
        muted.ask("CLIENT", "REPLY", "OFF")
        self.harness.context.hub.publish("+sdown", "x")
        self.assertEqual(muted.raw(), b">3\r\n$7\r\nmessage\r\n$6\r\n+sdown\r\n$1\r\nx\r\n")


class PauseTests(ServerTestCase):
    """``CLIENT PAUSE``."""

    def test_all_commands_wait(self) -> None:
        """Commands of all clients, including ``PING``, are answered in order when the pause ends."""
        other = self.harness.connect()
        self.assertEqual(self.client.ask("CLIENT", "PAUSE", 500), b"+OK\r\n")
        other.protocol.dataReceived(b"PING 1\r\nPING 2\r\n")
        self.client.send("PING")
        self.assertEqual((other.raw(), self.client.raw()), (b"", b""))
        self.harness.host.reactor.advance(0.4)
        self.assertEqual(other.raw(), b"")
        self.harness.host.reactor.advance(0.1)
        self.assertEqual(other.raw(), b"$1\r\n1\r\n$1\r\n2\r\n")
        self.assertEqual(self.client.raw(), b"+PONG\r\n")
        self.assertEqual(self.harness.host.reactor.getDelayedCalls(), [])

    def test_waiting_clients_are_not_read(self) -> None:
        """A paused client is not read; its requests stay in the network."""
        self.client.ask("CLIENT", "PAUSE", 500, "ALL")
        self.client.send("PING")
        self.assertEqual(self.client.wire.producerState, "paused")
        self.harness.host.reactor.advance(0.5)
        self.assertEqual(self.client.wire.producerState, "producing")

    def test_events_are_not_paused(self) -> None:
        """Subscribers receive events during a pause."""
        listener = self.harness.connect()
        listener.ask("SUBSCRIBE", "+sdown")
        self.client.ask("CLIENT", "PAUSE", 500)
        self.harness.context.hub.publish("+sdown", "x")
        self.assertIn(b"message", listener.raw())
        self.harness.context.clients.close_all()

    def test_shorter_pause(self) -> None:
        """A shorter pause does not end a longer one."""
        self.client.protocol.dataReceived(b"CLIENT PAUSE 500\r\n")
        self.harness.context.clients.pause(
            self.harness.host.now() + 10, self.harness.host.now(), self.harness.host.reactor
        )
        self.client.raw()
        self.client.send("PING")
        self.harness.host.reactor.advance(0.49)
        self.assertEqual(self.client.raw(), b"")
        self.harness.host.reactor.advance(0.01)
        self.assertEqual(self.client.raw(), b"+PONG\r\n")

    def test_write_pauses_nothing(self) -> None:
        """``CLIENT PAUSE WRITE`` pauses nothing, because no command of a Sentinel writes data."""
        self.assertEqual(self.client.ask("CLIENT", "PAUSE", 500, "write"), b"+OK\r\n")
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")
        self.assertEqual(self.client.ask("CLIENT", "UNPAUSE"), b"+OK\r\n")

    def test_invalid_times(self) -> None:
        """Invalid times are refused and pause nothing."""
        self.refused("ERR timeout is not an integer or out of range", "CLIENT", "PAUSE", "x")
        self.refused("ERR timeout is negative", "CLIENT", "PAUSE", "-1")
        self.refused("ERR CLIENT PAUSE mode must be WRITE or ALL", "CLIENT", "PAUSE", "1", "x")


class TrackingTests(ServerTestCase):
    """Client-side caching, which has no effect in a Sentinel."""

    def test_options_are_shown(self) -> None:
        """``CLIENT TRACKINGINFO`` and ``GETREDIR`` show the options that were set."""
        self.assertEqual(self.client.ask("CLIENT", "GETREDIR"), b":-1\r\n")
        self.assertEqual(self.client.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", "NOLOOP"), b"+OK\r\n")
        self.assertEqual(
            self.client.reply("CLIENT", "TRACKINGINFO"),
            [b"flags", [b"on", b"bcast", b"noloop"], b"redirect", 0, b"prefixes", [b"a"]],
        )
        self.assertEqual(self.client.ask("CLIENT", "TRACKING", "OFF"), b"+OK\r\n")
        self.assertEqual(self.client.ask("CLIENT", "GETREDIR"), b":-1\r\n")

    def test_contradictions(self) -> None:
        """Contradicting options are refused with the errors of a data server."""
        both = "ERR OPTIN and OPTOUT are not compatible with BCAST"
        self.refused(both, "CLIENT", "TRACKING", "ON", "BCAST", "OPTIN")
        self.refused(
            "ERR You can't specify both OPTIN mode and OPTOUT mode", "CLIENT", "TRACKING", "ON", "OPTIN", "OPTOUT"
        )
        missing = "ERR The client ID you want redirect to does not exist"
        self.refused(missing, "CLIENT", "TRACKING", "ON", "REDIRECT", "99")
        self.refused("ERR PREFIX option requires BCAST mode to be enabled", "CLIENT", "TRACKING", "ON", "PREFIX", "a")
        self.assertTrue(self.client.ask("CLIENT", "CACHING", "YES").startswith(b"-ERR CLIENT CACHING can be called"))

    def test_unblock(self) -> None:
        """``CLIENT UNBLOCK`` finds no blocked client."""
        self.assertEqual(self.client.ask("CLIENT", "UNBLOCK", 5), b":0\r\n")
        self.refused("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR", "CLIENT", "UNBLOCK", "5", "x")
