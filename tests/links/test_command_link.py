"""Tests of the command connection: its commands, its writes, and the processing of replies."""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from tests.links.fixture import BOTH, FakeTransport, Fixture, log_lines_of
from txsentinel.core.effects import (
    AbortHandOver,
    AcceptWrites,
    AskMasterDown,
    Connect,
    DemoteHeld,
    Disconnect,
    FinishHandOver,
    HandOver,
    KillScript,
    PauseWrites,
    Ping,
    PublishHello,
    ReadWriteLimits,
    Reconfigure,
    RejectWrites,
    RequestInfo,
    ResumeWrites,
    SendCommand,
)
from txsentinel.core.instances import InstanceLink
from txsentinel.core.link import HandOverEnd, LinkKind
from txsentinel.core.switchover_state import WriteLimits
from txsentinel.model.timings import Limits
from txsentinel.wire.resp import pack

COMMANDS = (LinkKind.COMMANDS,)
SETNAME = pack("CLIENT", "SETNAME", "sentinel-01234567-cmd")
PING, INFO = pack("PING"), pack("INFO")


class CommandLinkCase(SynchronousTestCase):
    """A link to a master by its command connection only."""

    def setUp(self) -> None:
        self.log_lines = log_lines_of(self)
        self.fixture = Fixture()

    def connected(self, link: InstanceLink) -> FakeTransport:
        """Return a connection after its handshake."""
        self.fixture.do(Connect(link))
        transport = self.fixture.reactor.connectors[-1].accept()
        transport.protocol.dataReceived(b"+OK\r\n" * transport.take_written().count(b"*"))
        transport.writes.clear()
        self.fixture.core.take_inputs()
        return transport


class HandshakeTests(CommandLinkCase):
    """Tests of the handshake."""

    def handshake_commands(self, link: InstanceLink) -> bytes:
        """Return the first bytes on a new connection."""
        self.fixture.do(Connect(link))
        return self.fixture.reactor.connectors[-1].accept().take_written()

    def test_name(self) -> None:
        """Without a password the first command sets the name for CLIENT LIST."""
        self.assertEqual(self.handshake_commands(self.fixture.link(COMMANDS)), SETNAME)

    def test_password(self) -> None:
        """A password alone is sent as such, before anything else."""
        link = self.fixture.link(COMMANDS)
        link.password = "secret"
        self.assertEqual(self.handshake_commands(link), pack("AUTH", "secret") + SETNAME)

    def test_user_and_password(self) -> None:
        """The user name precedes the password."""
        link = self.fixture.link(COMMANDS)
        link.username, link.password = "sentinel-user", "secret"
        self.assertEqual(self.handshake_commands(link), pack("AUTH", "sentinel-user", "secret") + SETNAME)

    def test_user_without_password(self) -> None:
        """No AUTH is sent for a user without a password."""
        link = self.fixture.link(COMMANDS)
        link.username = "sentinel-user"
        self.assertEqual(self.handshake_commands(link), SETNAME)

    def test_renamed_commands(self) -> None:
        """Every command name is renamed as configured; its arguments are not."""
        link = self.fixture.link(COMMANDS)
        link.password = "AUTH"
        link.renamed_commands = {"AUTH": "a1", "CLIENT": "c2", "SETNAME": "never"}
        self.assertEqual(
            self.handshake_commands(link), pack("a1", "AUTH") + pack("c2", "SETNAME", "sentinel-01234567-cmd")
        )

    def test_one_write(self) -> None:
        """The handshake and the first commands of the core leave in one write, without waiting for replies."""
        link = self.fixture.link(COMMANDS)
        link.password = "secret"

        def ping_at_once() -> None:
            self.fixture.reaction = None
            self.fixture.pool.perform(Ping(link, LinkKind.COMMANDS))
            self.fixture.pool.perform(RequestInfo(link))

        self.fixture.reaction = ping_at_once
        self.fixture.do(Connect(link))
        transport = self.fixture.reactor.connectors[-1].accept()
        self.assertEqual(transport.writes, [pack("AUTH", "secret") + SETNAME + PING + INFO])
        self.assertTrue(transport.no_delay)
        self.assertEqual(link.pending_commands, 4)

    def test_core_gets_the_local_address(self) -> None:
        """The core gets the local address in the turn in which the connection is established."""
        self.handshake_commands(self.fixture.link(COMMANDS))
        self.assertEqual(self.fixture.core.take_inputs(), [("up", LinkKind.COMMANDS, "10.0.0.1", 0)])

    def test_second_password(self) -> None:
        """
        If the first password is refused, the second one is tried on the same connection, and comes first on later ones.

        If that is refused as well, nothing else is tried.
        """
        link = self.fixture.link(COMMANDS)
        link.password, link.next_password = "old", "new"
        self.fixture.do(Connect(link))
        transport = self.fixture.reactor.connectors[-1].accept()
        self.assertEqual(transport.take_written(), pack("AUTH", "old") + SETNAME)
        for _ in range(2):
            transport.protocol.dataReceived(b"-WRONGPASS no\r\n-NOAUTH first\r\n")
            self.assertEqual((link.password, link.next_password), ("new", "old"))
        self.assertEqual(transport.take_written(), pack("AUTH", "new") + SETNAME)

    def test_second_password_of_two_connections(self) -> None:
        """Both connections of a link try the second password, and exchange the two once."""
        link = self.fixture.link(BOTH)
        link.password, link.next_password = "old", "new"
        self.fixture.do(Connect(link))
        for transport in [connector.accept() for connector in self.fixture.reactor.connectors[-2:]]:
            self.assertIn(pack("AUTH", "old"), transport.take_written())
            transport.protocol.dataReceived(b"-WRONGPASS no\r\n-NOAUTH first\r\n")
            self.fixture.reactor.advance(0)
            self.assertIn(pack("AUTH", "new"), transport.take_written())
        self.assertEqual(link.password, "new")

    def test_replies_to_the_handshake_are_ignored(self) -> None:
        """A refused AUTH or CLIENT changes nothing by itself; the replies to PING show its effect."""
        link = self.fixture.link(COMMANDS)
        link.password = "wrong"
        self.fixture.do(Connect(link))
        transport = self.fixture.reactor.connectors[-1].accept()
        self.fixture.core.take_inputs()
        self.fixture.do(Ping(link, LinkKind.COMMANDS))
        transport.protocol.dataReceived(b"-WRONGPASS no\r\n-NOAUTH first\r\n-NOAUTH first\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [("ping", LinkKind.COMMANDS, b"NOAUTH first", 0)])


class RefusalTests(CommandLinkCase):
    """Tests of the log lines about commands that are answered by errors."""

    WHO = "master mymaster 10.0.0.9 6379"

    def refused(self, transport: FakeTransport, *orders: tuple[Any, bytes]) -> list[str]:
        """Return the lines logged while commands are answered by errors, twice."""
        before = len(self.log_lines)
        for _ in range(2):
            for order, reply in orders:
                self.fixture.do(order)
                transport.protocol.dataReceived(reply)
        return self.log_lines[before:]

    def test_each_command(self) -> None:
        """Refused PING, INFO and PUBLISH are logged once, with the server's error and the consequence."""
        link = self.fixture.link(COMMANDS)
        transport = self.connected(link)
        hello = PublishHello(link, link.first, b"a,b")
        self.assertEqual(
            self.refused(
                transport,
                (Ping(link, LinkKind.COMMANDS), b"-NOPERM no ping\r\n"),
                (RequestInfo(link), b"-ERR no info\r\n"),
                (hello, b"-ERR no publish\r\n"),
            ),
            [
                f"{self.WHO} answered PING with NOPERM no ping: this does not count as a valid reply",
                f"{self.WHO} answered INFO with ERR no info: its role and its replicas are unknown",
                f"{self.WHO} answered PUBLISH with ERR no publish: other Sentinels cannot discover this one through it",
            ],
        )

    def test_one_line_for_one_reason(self) -> None:
        """A command that is refused with the same code as PING has no line of its own."""
        link = self.fixture.link(COMMANDS)
        transport = self.connected(link)
        lines = self.refused(
            transport,
            (Ping(link, LinkKind.COMMANDS), b"-NOPERM first\r\n"),
            (RequestInfo(link), b"-NOPERM first\r\n"),
            (PublishHello(link, link.first, b"a,b"), b"-NOPERM first\r\n"),
        )
        self.assertEqual(lines, [f"{self.WHO} answered PING with NOPERM first: this does not count as a valid reply"])

    def test_password_directive(self) -> None:
        """The line about ``NOAUTH`` names the directive to check, which differs for servers and Sentinels."""
        for kinds, setting in ((BOTH, "auth-pass"), (COMMANDS, "sentinel-pass, or requirepass of both,")):
            before = len(self.log_lines)
            link = self.fixture.link(kinds)
            link.link_id += len(kinds)
            self.fixture.do(Connect(link))
            transport = self.fixture.reactor.connectors[-len(kinds)].accept()
            self.fixture.do(Ping(link, LinkKind.COMMANDS))
            transport.protocol.dataReceived(b"-NOAUTH no\r\n" * 2)
            consequence = f"this does not count as a valid reply; is {setting} right?"
            self.assertEqual(self.log_lines[before:], [f"{self.WHO} answered PING with NOAUTH no: {consequence}"])

    def test_acceptable(self) -> None:
        """Nothing is logged about a server that loads its data or has lost its master, as it is up."""
        link = self.fixture.link(COMMANDS)
        ping = Ping(link, LinkKind.COMMANDS)
        self.assertEqual(
            self.refused(self.connected(link), (ping, b"-LOADING wait\r\n"), (ping, b"-MASTERDOWN gone\r\n")), []
        )

    def test_again(self) -> None:
        """A refusal is logged again after the command was accepted."""
        link = self.fixture.link(COMMANDS)
        ping = Ping(link, LinkKind.COMMANDS)
        lines = self.refused(self.connected(link), (ping, b"-MISCONF disk\r\n"), (ping, b"+PONG\r\n"))
        refusal = f"{self.WHO} answered PING with MISCONF disk: this does not count as a valid reply"
        self.assertEqual(lines, [refusal, f"{self.WHO} accepts PING again", refusal])

    def test_login(self) -> None:
        """A wrong password is logged at the first of many connections."""
        for kinds, setting in ((BOTH, "auth-pass"), (COMMANDS, "sentinel-pass, or requirepass of both,")):
            before = len(self.log_lines)
            link = self.fixture.link(kinds)
            link.password = "wrong"
            self.fixture.do(Connect(link))
            connector = self.fixture.reactor.connectors[-len(kinds)]
            for _ in range(3):
                transport = connector.accept()
                transport.protocol.dataReceived(b"-WRONGPASS no\r\n-NOAUTH first\r\n")
                transport.lost(ConnectionDone())
                self.fixture.pass_time(1_000)
            line = f"{self.WHO} answered AUTH with WRONGPASS no: is {setting} right?"
            self.assertEqual(self.log_lines[before:], [line])
            self.fixture.do(Disconnect(link))
            self.fixture.pass_time(2_000)

    def test_script_kill(self) -> None:
        """The reply to SCRIPT KILL is logged."""
        link = self.fixture.link(COMMANDS)
        kill = KillScript(link)
        self.assertEqual(
            self.refused(self.connected(link), (kill, b"-UNKILLABLE it wrote\r\n")),
            [f"{self.WHO} answers BUSY; SCRIPT KILL was answered by UNKILLABLE it wrote"],
        )


class ReplyTests(CommandLinkCase):
    """Tests of the processing of replies."""

    def setUp(self) -> None:
        super().setUp()
        self.link = self.fixture.link(COMMANDS)
        self.transport = self.connected(self.link)

    def answer(self, data: bytes) -> list[tuple[Any, ...]]:
        """Return the inputs of the core for a reply."""
        self.transport.protocol.dataReceived(data)
        return self.fixture.core.take_inputs()

    def test_command(self) -> None:
        """A command for a peer is sent as it is; its reply is passed on with its number, also an error."""
        self.link.renamed_commands["TXSENTINEL"] = "other"
        self.fixture.do(SendCommand(self.link, 7, (b"TXSENTINEL", b"PAUSED")))
        self.assertEqual(self.transport.take_written(), pack("TXSENTINEL", "PAUSED"))
        self.assertEqual(self.answer(b"*1\r\n$1\r\nm\r\n"), [("command", 7, [b"m"], 0)])
        self.fixture.do(SendCommand(self.link, 8, (b"TXSENTINEL", b"PAUSED")))
        self.assertEqual(self.answer(b"-ERR no\r\n"), [("command", 8, b"ERR no", 0)])
        self.transport.take_written()
        self.transport.lost(ConnectionDone())
        self.fixture.do(SendCommand(self.link, 9, (b"TXSENTINEL", b"PAUSED")))
        self.assertEqual(self.transport.take_written(), b"")

    def test_ping(self) -> None:
        """Status and error are passed on without their type byte, any other type as ``None``."""
        for reply, expected in (
            (b"+PONG\r\n", b"PONG"),
            (b"-LOADING wait\r\n", b"LOADING wait"),
            (b"$4\r\nPONG\r\n", None),
            (b":1\r\n", None),
            (b"*0\r\n", None),
        ):
            self.fixture.do(Ping(self.link, LinkKind.COMMANDS))
            self.assertEqual(self.transport.take_written(), PING)
            self.assertEqual(self.answer(reply), [("ping", LinkKind.COMMANDS, expected, 0)])

    def test_info(self) -> None:
        """Only a bulk string is passed on as INFO."""
        for reply, expected in (
            (b"$5\r\nhello\r\n", b"hello"),
            (b"-NOPERM\r\n", None),
            (b"+OK\r\n", None),
            (b"$-1\r\n", None),
        ):
            self.fixture.do(RequestInfo(self.link))
            self.assertEqual(self.transport.take_written(), INFO)
            self.assertEqual(self.answer(reply), [("info", expected, 0)])

    def test_hello(self) -> None:
        """A hello counts as published unless the reply is an error."""
        instance = self.link.first
        for reply, accepted in ((b":0\r\n", True), (b"-NOPERM\r\n", False)):
            self.fixture.do(PublishHello(self.link, instance, b"a,b"))
            self.assertEqual(self.transport.take_written(), pack("PUBLISH", "__sentinel__:hello", "a,b"))
            self.assertEqual(self.answer(reply), [("published", "mymaster", accepted, 0)])

    def test_opinion(self) -> None:
        """The reply of a peer is passed on unchanged, with the master of the query."""
        master: Any = self.link.first
        self.fixture.do(AskMasterDown(self.link, master, "10.0.0.9", 6379, 5, "*"))
        self.assertEqual(
            self.transport.take_written(), pack("SENTINEL", "is-master-down-by-addr", "10.0.0.9", "6379", "5", "*")
        )
        self.assertEqual(self.answer(b"*3\r\n:1\r\n$1\r\n*\r\n:0\r\n"), [("opinion", "mymaster", [1, b"*", 0], 0)])

    def test_kill_script(self) -> None:
        """SCRIPT KILL is sent, and its reply is not passed on."""
        self.fixture.do(KillScript(self.link))
        self.assertEqual(self.transport.take_written(), pack("SCRIPT", "KILL"))
        self.assertEqual(self.answer(b"-NOTBUSY\r\n"), [])

    def test_replies_in_order(self) -> None:
        """Replies are processed in order, however they are split; each chunk makes one turn."""
        replies = b"+PONG\r\n$2\r\nhi\r\n:1\r\n"
        for cut in range(len(replies)):
            self.fixture.do(
                Ping(self.link, LinkKind.COMMANDS),
                RequestInfo(self.link),
                PublishHello(self.link, self.link.first, b"x"),
            )
            turns = self.fixture.turns
            received = self.answer(replies[:cut]) + self.answer(replies[cut:])
            self.assertEqual([each[0] for each in received], ["ping", "info", "published"], cut)
            self.assertEqual(self.fixture.turns - turns, 2)

    def test_time_of_reply(self) -> None:
        """Replies get the time of their arrival by the host's clock."""
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS))
        self.fixture.pass_time(321)
        self.assertEqual(self.answer(b"+PONG\r\n"), [("ping", LinkKind.COMMANDS, b"PONG", 321)])

    def test_time_of_many_replies(self) -> None:
        """If a nested poll takes place between two replies, the later ones get a later time."""
        self.fixture.host.poll_duration = 7
        count = 20
        self.fixture.do(*(Ping(self.link, LinkKind.COMMANDS) for _ in range(count)))
        received = self.answer(b"+PONG\r\n" * count)
        began = received[0][3]
        self.assertEqual([each[3] for each in received], list(range(began, began + 7 * count, 7)))

    def test_pending_commands(self) -> None:
        """The number of pending commands is correct at every moment, also during inputs to the core."""
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS), RequestInfo(self.link))
        self.assertEqual(self.link.pending_commands, 2)
        seen = []
        self.fixture.core.ping_reply = lambda *_: seen.append(self.link.pending_commands)  # type: ignore[method-assign]
        self.answer(b"+PONG\r\n")
        self.assertEqual((seen, self.link.pending_commands), ([1], 1))
        self.transport.protocol.reconnect("enough")
        self.fixture.run_turn()
        self.assertEqual(self.link.pending_commands, 0)

    def test_one_write_per_turn(self) -> None:
        """All commands of one turn leave in one write."""
        self.fixture.do(
            RequestInfo(self.link),
            Ping(self.link, LinkKind.COMMANDS),
            PublishHello(self.link, self.link.first, b"x"),
        )
        self.assertEqual(self.transport.writes, [INFO + PING + pack("PUBLISH", "__sentinel__:hello", "x")])

    def test_renaming_takes_effect_at_once(self) -> None:
        """A command that is renamed during a connection is sent under its new name from then on."""
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS))
        self.link.renamed_commands["PING"] = "are-you-there"
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS))
        self.assertEqual(self.transport.take_written(), PING + pack("are-you-there"))

    def test_unsolicited_reply(self) -> None:
        """A reply without a command closes the connection, with one log line about the server and the reason."""
        self.assertEqual(self.answer(b"+PONG\r\n+PONG\r\n"), [])
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.log_lines, ["Dropped the cmd connection to 10.0.0.9:6379: a reply without a command"])
        self.fixture.run_turn()
        self.assertEqual(self.fixture.core.take_inputs(), [("down", LinkKind.COMMANDS, "a reply without a command", 0)])

    def test_invalid_reply(self) -> None:
        """Invalid RESP closes the connection after the earlier replies are processed."""
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS), RequestInfo(self.link))
        self.assertEqual(self.answer(b"+PONG\r\nHTTP/1.1\r\n"), [("ping", LinkKind.COMMANDS, b"PONG", 0)])
        self.assertTrue(self.transport.aborted)
        self.assertEqual(len(self.log_lines), 1)
        self.assertEqual(self.answer(b"$2\r\nhi\r\n"), [])

    def test_too_many_pending_commands(self) -> None:
        """The number of commands without a reply is limited."""
        fixture = Fixture(Limits(pending_commands=2))
        link = fixture.link(COMMANDS)
        fixture.do(Connect(link))
        transport = fixture.reactor.connectors[-1].accept()
        for _ in range(20):
            fixture.do(KillScript(link))
        self.assertTrue(transport.aborted)
        self.assertLessEqual(link.pending_commands, 9)
        self.assertEqual(len(self.log_lines), 1)

    def test_closed_link_has_no_input(self) -> None:
        """Input after the core closed the link is not passed on."""
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS), RequestInfo(self.link))
        self.link.closed = True
        self.assertEqual(self.answer(b"+PONG\r\n$2\r\nhi\r\n"), [])


class RoleChangeTests(CommandLinkCase):
    """The role-change transaction."""

    def setUp(self) -> None:
        super().setUp()
        self.link = self.fixture.link(COMMANDS)
        self.transport = self.connected(self.link)

    def answer(self, *replies: bytes) -> None:
        """Answer what was sent."""
        self.transport.protocol.dataReceived(b"".join(replies))

    def test_promotion(self) -> None:
        """NO ONE and INFO are sent in one write."""
        self.fixture.do(Reconfigure(self.link, None))
        self.assertEqual(
            self.transport.writes,
            [
                pack("MULTI")
                + pack("SLAVEOF", "NO", "ONE")
                + pack("CONFIG", "REWRITE")
                + pack("CLIENT", "KILL", "TYPE", "normal")
                + pack("CLIENT", "KILL", "TYPE", "pubsub")
                + pack("EXEC")
                + INFO
            ],
        )

    def test_info_of_the_transaction(self) -> None:
        """Of the replies of the transaction the number of closed clients is passed to the core, besides INFO."""
        self.fixture.do(Reconfigure(self.link, "10.0.0.2", 6380))
        self.answer(b"+OK\r\n", b"+QUEUED\r\n" * 4, b"*4\r\n+OK\r\n-ERR no file\r\n:7\r\n:0\r\n", b"$2\r\nhi\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [("clients closed", 7), ("info", b"hi", 0)])
        self.assertEqual(self.log_lines, [])

    def test_following_and_abort(self) -> None:
        """The new master is given by host and port; a FAILOVER of the server is aborted first."""
        self.fixture.do(Reconfigure(self.link, "10.0.0.2", 6380, abort_failover=True))
        self.assertTrue(
            self.transport.take_written().startswith(
                pack("MULTI")
                + pack("FAILOVER", "ABORT")
                + pack("SLAVEOF", "10.0.0.2", "6380")
                + pack("CONFIG", "REWRITE")
            )
        )

    def test_renamed(self) -> None:
        """Each command name is renamed."""
        self.link.renamed_commands = {
            "MULTI": "m",
            "EXEC": "e",
            "SLAVEOF": "s",
            "CONFIG": "c",
            "CLIENT": "k",
            "INFO": "i",
        }
        self.fixture.do(Reconfigure(self.link, None))
        self.assertEqual(
            self.transport.take_written(),
            pack("m")
            + pack("s", "NO", "ONE")
            + pack("c", "REWRITE")
            + pack("k", "KILL", "TYPE", "normal")
            + pack("k", "KILL", "TYPE", "pubsub")
            + pack("e")
            + pack("i"),
        )

    def test_refused_command(self) -> None:
        """A refused command aborts the transaction; one warning names the command and the instance."""
        self.fixture.do(Reconfigure(self.link, None))
        self.answer(b"+OK\r\n", b"+QUEUED\r\n", b"-NOPERM no config\r\n", b"+QUEUED\r\n" * 2, b"-EXECABORT\r\n")
        self.assertEqual(
            self.log_lines,
            [
                "master mymaster 10.0.0.9 6379 refused to change its role: "
                "CONFIG REWRITE was answered by NOPERM no config"
            ],
        )
        refused = [call[:3] for call in self.fixture.core.take_inputs() if call[0] == "promotion refused"]
        self.assertEqual(refused, [("promotion refused", "CONFIG REWRITE", "NOPERM no config")])

    def test_refusals_that_leave_it_open(self) -> None:
        """A partly executed transaction, or one that does not promote, is no refused promotion."""
        queued, executed = b"+OK\r\n" + b"+QUEUED\r\n" * 4, b"*4\r\n+OK\r\n-ERR no file\r\n:1\r\n:0\r\n"
        aborted = b"+OK\r\n-NOPERM no\r\n" + b"+QUEUED\r\n" * 3 + b"-EXECABORT\r\n"
        without_multi = b"-NOPERM multi\r\n+OK\r\n+OK\r\n:1\r\n:0\r\n-ERR EXEC without MULTI\r\n"
        for order, replies in (
            (Reconfigure(self.link, None), queued + executed),
            (Reconfigure(self.link, None), without_multi),
            (
                Reconfigure(self.link, "10.0.0.2", 6379),
                aborted,
            ),
        ):
            self.fixture.do(order)
            self.answer(replies, b"-ERR no INFO\r\n")
            self.assertNotIn("promotion refused", [call[0] for call in self.fixture.core.take_inputs()])

    def test_refused_without_multi(self) -> None:
        """A refused SLAVEOF was not executed, whatever the reply to MULTI."""
        self.fixture.do(Reconfigure(self.link, None))
        refused = b"-NOPERM multi\r\n-NOPERM slaveof\r\n+OK\r\n:1\r\n:0\r\n-ERR EXEC without MULTI\r\n"
        self.answer(refused)
        self.assertIn("promotion refused", [call[0] for call in self.fixture.core.take_inputs()])

    def test_refused_slaveof(self) -> None:
        """A SLAVEOF that fails at its execution causes the same warning."""
        self.fixture.do(Reconfigure(self.link, "10.0.0.2", 6380, abort_failover=True))
        self.answer(b"+OK\r\n", b"+QUEUED\r\n" * 5, b"*5\r\n-ERR none\r\n-ERR not now\r\n-ERR no file\r\n:1\r\n:0\r\n")
        self.assertEqual(len(self.log_lines), 1)
        self.assertIn("SLAVEOF 10.0.0.2 6380 was answered by ERR not now", self.log_lines[0])
        refused = ("order refused", "SLAVEOF 10.0.0.2 6380", "ERR not now")
        self.assertEqual(self.fixture.core.take_inputs(), [("clients closed", 1), refused])

    def test_closing_waits_for_the_role_change(self) -> None:
        """A transaction that is sent in the turn in which the link is closed still reaches the server."""
        self.fixture.do(Reconfigure(self.link, "10.0.0.2", 6380), Disconnect(self.link))
        self.assertTrue(self.transport.take_written().endswith(pack("EXEC") + INFO))
        self.fixture.run_turn()
        self.assertTrue(self.transport.connected)
        self.answer(b"+OK\r\n", b"+QUEUED\r\n" * 4, b"*0\r\n")
        self.fixture.run_turn()
        self.assertFalse(self.transport.connected)
        self.assertFalse(self.transport.aborted)
        self.assertEqual(self.fixture.core.take_inputs(), [])
        self.assertEqual(self.fixture.reactor.getDelayedCalls(), [])

    def test_closing_has_a_timeout(self) -> None:
        """The connection to a server that does not reply is aborted after a second."""
        self.fixture.do(Reconfigure(self.link, None), Disconnect(self.link))
        self.fixture.pass_time(999)
        self.assertTrue(self.transport.connected)
        self.fixture.pass_time(1)
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.fixture.reactor.getDelayedCalls(), [])


class HandOverTests(CommandLinkCase):
    """Tests of the commands of a coordinated failover."""

    NEW_ROLE = (
        pack("CONFIG", "REWRITE")
        + pack("CLIENT", "KILL", "TYPE", "normal")
        + pack("CLIENT", "KILL", "TYPE", "pubsub")
        + pack("CLIENT", "UNPAUSE")
    )

    def setUp(self) -> None:
        super().setUp()
        self.link = self.fixture.link(COMMANDS)
        self.link.handover_end = HandOverEnd.FINISH
        self.transport = self.connected(self.link)

    def answer(self, *replies: bytes) -> None:
        """Answer what was sent."""
        self.transport.protocol.dataReceived(b"".join(replies))

    def test_order(self) -> None:
        """The pause and the FAILOVER have their own times; success is not reported."""
        self.fixture.do(HandOver(self.link, "10.0.0.2", 6380, 60_000, 3_000))
        self.assertEqual(
            self.transport.take_written(),
            pack("MULTI")
            + pack("CLIENT", "PAUSE", "3000", "WRITE")
            + pack("FAILOVER", "TO", "10.0.0.2", "6380", "TIMEOUT", "60000")
            + pack("EXEC"),
        )
        self.answer(b"+OK\r\n", b"+QUEUED\r\n" * 2, b"*2\r\n+OK\r\n+OK\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [])

    def test_order_is_refused(self) -> None:
        """The core gets the refused command and the error."""
        self.fixture.do(HandOver(self.link, "10.0.0.2", 6380, 60_000, 3_000))
        self.answer(b"+OK\r\n", b"+QUEUED\r\n" * 2, b"*2\r\n+OK\r\n-ERR no replica\r\n")
        refused = ("refused", "FAILOVER TO 10.0.0.2 6380 TIMEOUT 60000", "ERR no replica")
        self.assertEqual(self.fixture.core.take_inputs(), [refused])

    def test_end_of_handover(self) -> None:
        """One transaction ends the handover when its EXEC is answered."""
        self.fixture.do(FinishHandOver(self.link))
        self.assertEqual(self.transport.take_written(), pack("MULTI") + self.NEW_ROLE + pack("EXEC") + INFO)
        self.answer(b"+OK\r\n", b"+QUEUED\r\n" * 4)
        self.assertIs(self.link.handover_end, HandOverEnd.FINISH)
        self.answer(b"*4\r\n-ERR no file\r\n:1\r\n:0\r\n+OK\r\n")
        self.assertIsNone(self.link.handover_end)
        self.assertEqual(self.fixture.core.take_inputs(), [("clients closed", 1)])
        self.assertEqual(self.log_lines, [])

    def test_end_of_handover_is_refused(self) -> None:
        """After a refusal the permitted commands are still executed, above all the end of the pause."""
        self.fixture.do(FinishHandOver(self.link))
        self.transport.take_written()
        denied = b"-NOPERM no rights\r\n"
        self.answer(b"+OK\r\n", denied, b"+QUEUED\r\n" * 3, b"-EXECABORT\r\n", b"$2\r\nhi\r\n")
        self.assertEqual(self.transport.take_written(), self.NEW_ROLE)
        self.assertEqual(self.fixture.core.take_inputs(), [("info", b"hi", 0)])
        self.answer(denied, b":1\r\n:0\r\n+OK\r\n")
        self.assertIsNone(self.link.handover_end)
        self.assertEqual(len(self.log_lines), 1)
        self.assertIn("CONFIG REWRITE was answered by NOPERM no rights", self.log_lines[0])

    def test_abort(self) -> None:
        """Both commands are sent separately; the handover ends with the reply to the last one, even an error."""
        self.fixture.do(AbortHandOver(self.link))
        self.assertEqual(self.transport.take_written(), pack("FAILOVER", "ABORT") + pack("CLIENT", "UNPAUSE"))
        self.answer(b"-ERR No failover in progress.\r\n")
        self.assertIs(self.link.handover_end, HandOverEnd.FINISH)
        self.answer(b"+OK\r\n")
        self.assertIsNone(self.link.handover_end)

    def test_end_is_lost(self) -> None:
        """The handover does not end if the connection breaks first."""
        self.fixture.do(FinishHandOver(self.link))
        self.transport.lost(ConnectionError())
        self.assertIs(self.link.handover_end, HandOverEnd.FINISH)


class WriteRejectionTests(CommandLinkCase):
    """The settings by which a master rejects writes."""

    def setUp(self) -> None:
        super().setUp()
        self.link = self.fixture.link(COMMANDS)
        self.transport = self.connected(self.link)

    def set_both(self, to_write: int, max_lag: int) -> bytes:
        """Return the commands that set both."""
        first = pack("CONFIG", "SET", "min-replicas-max-lag", max_lag)
        return first + pack("CONFIG", "SET", "min-replicas-to-write", to_write)

    def test_read(self) -> None:
        """Both values are reported, or the error of the server."""
        self.fixture.do(ReadWriteLimits(self.link))
        asked = pack("CONFIG", "GET", "min-replicas-to-write") + pack("CONFIG", "GET", "min-replicas-max-lag")
        self.assertEqual(self.transport.take_written(), asked)
        self.transport.protocol.dataReceived(b"*2\r\n$1\r\na\r\n$1\r\n2\r\n*2\r\n$1\r\nb\r\n$2\r\n10\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [("limits", WriteLimits(2, 10))])
        for replies, error in (
            (b"-NOPERM no\r\n-NOPERM no\r\n", "NOPERM no"),
            (b"*0\r\n*0\r\n", "an answer without a number"),
            (b"*2\r\n$1\r\na\r\n$1\r\nx\r\n:1\r\n", "an answer without a number"),
        ):
            self.fixture.do(ReadWriteLimits(self.link))
            self.transport.protocol.dataReceived(replies)
            self.assertEqual(self.fixture.core.take_inputs(), [("limits", error)])

    def test_reject(self) -> None:
        """One transaction, whose INFO is reported; a command that is refused is, too."""
        self.fixture.do(RejectWrites(self.link, WriteLimits(999_999, 10)))
        expected = pack("MULTI") + self.set_both(999_999, 10) + pack("INFO", "replication") + pack("EXEC")
        self.assertEqual(self.transport.take_written(), expected)
        self.transport.protocol.dataReceived(b"+OK\r\n" + b"+QUEUED\r\n" * 3 + b"*3\r\n+OK\r\n+OK\r\n$2\r\nhi\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [("held", b"hi")])
        self.fixture.do(RejectWrites(self.link, WriteLimits(999_999, 10)))
        self.transport.protocol.dataReceived(b"+OK\r\n" + b"-NOPERM no\r\n" * 2 + b"+QUEUED\r\n-EXECABORT\r\n")
        refused = ("refused", "CONFIG SET min-replicas-max-lag 10", "NOPERM no")
        self.assertEqual(self.fixture.core.take_inputs(), [refused])

    def test_accept(self) -> None:
        """The values are restored, and written to the file if they may be in it."""
        for rewrite in (False, True):
            self.fixture.do(AcceptWrites(self.link, WriteLimits(1, 0), rewrite))
            written = pack("CONFIG", "REWRITE") if rewrite else b""
            expected = pack("MULTI") + self.set_both(1, 0) + written + pack("EXEC")
            self.assertEqual(self.transport.take_written(), expected)
            self.transport.protocol.dataReceived(b"+OK\r\n" + b"+QUEUED\r\n" * (2 + rewrite) + b"*0\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [])

    def test_demote(self) -> None:
        """The values are restored behind SLAVEOF and before the file is written; what they were is reported."""
        self.fixture.do(DemoteHeld(self.link, "10.0.0.2", 6380, WriteLimits(1, 0)))
        order = pack("SLAVEOF", "10.0.0.2", 6380) + self.set_both(1, 0)
        asked = pack("INFO", "replication") + pack("CONFIG", "GET", "min-replicas-to-write")
        rest = pack("CONFIG", "REWRITE") + pack("CLIENT", "KILL", "TYPE", "normal")
        rest += pack("CLIENT", "KILL", "TYPE", "pubsub")
        self.assertEqual(self.transport.take_written(), pack("MULTI") + asked + order + rest + pack("EXEC") + INFO)
        values = b"$2\r\nhi\r\n*2\r\n$1\r\na\r\n$6\r\n999999\r\n" + b"+OK\r\n" * 4 + b":1\r\n:0\r\n"
        self.transport.protocol.dataReceived(b"+OK\r\n" + b"+QUEUED\r\n" * 8 + b"*8\r\n" + values)
        self.assertEqual(self.fixture.core.take_inputs(), [("demoted", b"hi", 999_999), ("clients closed", 1)])


class WritePauseTests(CommandLinkCase):
    """The pause of the writes of an isolated master."""

    def setUp(self) -> None:
        super().setUp()
        self.link = self.fixture.link(COMMANDS)
        self.transport = self.connected(self.link)

    def test_accepted(self) -> None:
        """Both commands are reported when they are answered."""
        self.fixture.do(PauseWrites(self.link, 2_000))
        self.assertEqual(self.transport.take_written(), pack("CLIENT", "PAUSE", "2000", "WRITE"))
        self.assertEqual(self.fixture.core.take_inputs(), [])
        self.transport.protocol.dataReceived(b"+OK\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [("paused", 0)])
        self.fixture.do(ResumeWrites(self.link))
        self.assertEqual(self.transport.take_written(), pack("CLIENT", "UNPAUSE"))
        self.transport.protocol.dataReceived(b"+OK\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [("resumed",)])
        self.assertEqual(self.log_lines, [])

    def test_refused(self) -> None:
        """A refusal is logged once, with its consequence, and reported each time."""
        for _ in range(3):
            self.fixture.do(PauseWrites(self.link, 2_000))
            self.transport.protocol.dataReceived(b"-NOPERM User x has no permissions\r\n")
            self.assertEqual(self.fixture.core.take_inputs(), [("pause refused",)])
        self.assertEqual(len(self.log_lines), 1)
        self.assertIn("CLIENT PAUSE WRITE with NOPERM User x has no permissions", self.log_lines[0])

    def test_end_is_refused(self) -> None:
        """The core need not wait for the end of a pause that the server ends by itself."""
        self.fixture.do(ResumeWrites(self.link))
        self.transport.protocol.dataReceived(b"-NOPERM User x has no permissions\r\n")
        self.assertEqual(self.fixture.core.take_inputs(), [("resumed",)])
        self.assertEqual(len(self.log_lines), 1)

    def test_renamed(self) -> None:
        """The configured name of CLIENT is used."""
        self.link.renamed_commands["CLIENT"] = "klient"
        self.fixture.do(PauseWrites(self.link, 2_000))
        self.fixture.do(ResumeWrites(self.link))
        expected = pack("klient", "PAUSE", "2000", "WRITE") + pack("klient", "UNPAUSE")
        self.assertEqual(self.transport.take_written(), expected)

    def test_without_connection(self) -> None:
        """Nothing is sent, and nothing fails."""
        self.transport.lost(ConnectionDone())
        self.fixture.do(PauseWrites(self.link, 2_000))
        self.fixture.do(ResumeWrites(self.link))
        self.assertEqual(self.transport.take_written(), b"")
