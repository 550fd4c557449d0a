"""Promises of the ACL commands, and of what rights come to on connections."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import RawConnection, ServerHarness, ServerTestCase
from txsentinel.config.generic import GenericOptions
from txsentinel.model.events import Level
from txsentinel.server.acl.control import BOTH_PLACES, CRITICAL, AccessControl, UnusableUsers
from txsentinel.server.acl.users import digest_of
from txsentinel.server.pacing import MAX_UNSENT_UNAUTHENTICATED


class MemoryFiles:
    """Files that are written when a test says so."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.waiting: list[tuple[str, bytes, Deferred[None]]] = []
        self.reading: list[Callable[[], None]] | None = None
        """What :meth:`fetch` was asked for, for a test that makes it wait; ``None`` while it does not."""

    def read(self, path: str) -> bytes:
        """A file that is there, or the error of one that is not."""
        if path not in self.contents:
            raise FileNotFoundError(2, os.strerror(2), path)
        return self.contents[path]

    def fetch(self, path: str) -> Deferred[bytes]:
        """What the file has when the disk gets to it."""
        if self.reading is None:
            return maybeDeferred(self.read, path)
        fetched: Deferred[bytes] = Deferred()
        self.reading.append(lambda: maybeDeferred(self.read, path).chainDeferred(fetched))
        return fetched

    def replace(self, path: str, contents: bytes) -> Deferred[None]:
        """Wait for :meth:`write` or :meth:`fail`."""
        written: Deferred[None] = Deferred()
        self.waiting.append((path, contents, written))
        return written

    def write(self) -> None:
        """The disk has done the oldest of what it was asked for."""
        path, contents, written = self.waiting.pop(0)
        self.contents[path] = contents
        written.callback(None)

    def fail(self) -> None:
        """The disk could not."""
        self.waiting.pop(0)[2].errback(OSError(28, "No space left on device"))


class AclTestCase(ServerTestCase):
    """A bench with an ACL file, if ``acl_file`` has contents."""

    acl_file: bytes | None = None

    def setUp(self) -> None:
        """Connect."""
        super().setUp()
        self.lines: list[list[str]] = []
        self.begin(GenericOptions(aclfile="users.acl" if self.acl_file is not None else "", dir="/etc"))

    def begin(self, options: GenericOptions) -> None:
        """Start anew with these options."""
        self.harness = ServerHarness(options)
        self.files = MemoryFiles()
        if self.acl_file is not None:
            self.files.contents["/etc/users.acl"] = self.acl_file
        self.harness.host.files = self.files  # type: ignore[attr-defined]
        self.access = self.harness.context.access
        self.access.keep = lambda lines: self.lines.append(list(lines))
        self.notes: list[tuple[Level, str]] = []
        self.access.start((), lambda level, line: self.notes.append((level, line)))
        self.client = self.harness.connect()

    def user(self, name: str, *rules: str, password: str = "x") -> RawConnection:
        """Make a user, and a connection that is logged in as it."""
        self.assertEqual(self.client.ask("ACL", "SETUSER", name, *rules), b"+OK\r\n")
        talk = self.harness.connect()
        self.assertEqual(talk.ask("AUTH", name, password), b"+OK\r\n")
        return talk


class RightsTests(AclTestCase):
    """Who may run what, by whichever way it comes in."""

    def test_every_way_in_is_checked(self) -> None:
        """Pipelines, inline requests, both protocols, and what follows a login in the same packet."""
        self.client.ask("ACL", "SETUSER", "u", "on", "nopass", "+ping")
        refusal = b"-NOPERM User u has no permissions to run the 'role' command\r\n"
        talk = self.harness.connect()
        talk.protocol.dataReceived(b"AUTH u x\r\nROLE\r\n*1\r\n$4\r\nROLE\r\nPING\r\n")
        self.assertEqual(talk.raw(), b"+OK\r\n" + refusal * 2 + b"+PONG\r\n")
        talk = self.harness.connect()
        talk.protocol.dataReceived(b"HELLO 3 AUTH u x\r\nrOlE\r\n")
        self.assertTrue(talk.raw().endswith(refusal))

    def test_a_change_counts_at_once(self) -> None:
        """Whoever is logged in notices, in both directions."""
        talk = self.user("u", "on", "nopass", "+ping")
        self.client.ask("ACL", "SETUSER", "u", "-ping", "+role")
        self.assertTrue(talk.ask("PING").startswith(b"-NOPERM"))
        self.assertTrue(talk.ask("ROLE").startswith(b"*2"))
        self.client.ask("ACL", "SETUSER", "u", "+@all", "&*")
        self.assertEqual(talk.ask("PING"), b"+PONG\r\n")

    def test_default_can_be_limited(self) -> None:
        """Nothing is special about default but that it cannot be deleted."""
        self.client.ask("ACL", "SETUSER", "default", "-role")
        self.assertTrue(self.client.ask("ROLE").startswith(b"-NOPERM User default has no permissions to run"))

    def test_publish_is_checked_before_its_channel_is_known(self) -> None:
        """A hello without the right to its channel reaches nobody."""
        talk = self.user("u", "on", "nopass", "+publish", "&x")
        self.assertEqual(
            talk.ask("PUBLISH", "__sentinel__:hello", "x"), b"-NOPERM No permissions to access a channel\r\n"
        )

    def test_order(self) -> None:
        """Existence and length come before rights, rights before the restrictions of a subscriber."""
        talk = self.user("u", "on", "nopass", "+subscribe", "&*")
        self.assertTrue(talk.ask("GET", "x").startswith(b"-ERR unknown command"))
        self.assertTrue(talk.ask("ROLE", "x").startswith(b"-ERR wrong number"))
        talk.ask("SUBSCRIBE", "x")
        self.assertTrue(talk.ask("ROLE").startswith(b"-NOPERM"))

    def test_renamed_commands(self) -> None:
        """Rules know commands by their own names, however they are called here."""
        self.begin(GenericOptions(renamed_commands={"role": "part"}))
        talk = self.user("u", "on", "nopass", "+role")
        self.assertTrue(talk.ask("PART").startswith(b"*2"))
        self.assertTrue(self.client.ask("ACL", "SETUSER", "u", "+part").startswith(b"-ERR Error in ACL"))

    def test_counted(self) -> None:
        """INFO tells how often somebody was refused, by reason."""
        talk = self.user("u", "on", "nopass", "+subscribe")
        talk.ask("AUTH", "u2", "bad")
        talk.ask("INFO")
        talk.ask("SUBSCRIBE", "x")
        information = self.client.ask("INFO", "stats")
        for field in (b"auth:1", b"cmd:1", b"channel:1"):
            self.assertIn(b"acl_access_denied_" + field, information)


class LoginTests(AclTestCase):
    """AUTH and HELLO with users."""

    def test_failure_changes_nothing(self) -> None:
        """The connection stays what it was."""
        talk = self.user("u", "on", ">p", "+acl|whoami", password="p")
        self.assertTrue(talk.ask("AUTH", "default", "x").startswith(b"+OK"))
        self.assertTrue(talk.ask("AUTH", "u", "wrong").startswith(b"-WRONGPASS"))
        self.assertEqual(talk.ask("ACL", "WHOAMI"), b"$7\r\ndefault\r\n")

    def test_switched_off(self) -> None:
        """No new logins; who is in stays in."""
        talk = self.user("u", "on", ">p", "+ping", password="p")
        self.client.ask("ACL", "SETUSER", "u", "off")
        self.assertEqual(talk.ask("PING"), b"+PONG\r\n")
        self.assertTrue(talk.ask("AUTH", "u", "p").startswith(b"-WRONGPASS"))

    def test_requirepass(self) -> None:
        """It is the password of default, for whoever connects from then on."""
        self.begin(GenericOptions(requirepass="secret"))
        self.assertEqual(self.client.ask("PING"), b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(self.client.ask("AUTH", "default", "secret"), b"+OK\r\n")
        self.assertEqual(
            self.client.ask("ACL", "LIST"),
            b"*1\r\n$110\r\nuser default on sanitize-payload #%b ~* &* +@all\r\n" % digest_of(b"secret").encode(),
        )

    def test_user_line_wins_over_requirepass(self) -> None:
        """As in the C servers, in whatever order they stand."""
        self.begin(GenericOptions(requirepass="secret", users=[("default", ("on", "nopass", "+@all"))]))
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")

    def test_strangers_cost_little(self) -> None:
        """Who has not logged in and does not read its refusals is read no further after a few of them."""
        self.begin(GenericOptions(requirepass="secret"))
        talk = self.client
        talk.protocol._output.pauseProducing()
        sent = 0
        while talk.wire.producerState == "producing" and sent < 10_000:
            talk.protocol.dataReceived(b"PING\r\n" * 10)
            sent += 10
        self.assertLess(talk.protocol.unsent, MAX_UNSENT_UNAUTHENTICATED + 1000)
        self.assertLess(sent, 1000)


class UserCommandTests(AclTestCase):
    """SETUSER and DELUSER, and who is sent away by them."""

    def test_closed_with_its_user(self) -> None:
        """A deleted user's connections are closed without a word; the one who asked hears of it first."""
        talk, other = self.user("u", "on", "nopass", "+@all"), self.user("v", "on", "nopass", "+ping")
        second = self.harness.connect()
        second.ask("AUTH", "u", "x")
        talk.protocol.dataReceived(b"ACL DELUSER u\r\nPING\r\n")
        self.assertEqual(talk.raw(), b":1\r\n")
        self.assertTrue(talk.closed)
        self.assertEqual((second.raw(), second.closed, second.wire.aborted), (b"", True, True))
        self.assertFalse(other.closed)

    def test_lost_channels(self) -> None:
        """Subscribers that lose a channel are closed, the others of the same user are not."""
        rules = ("on", "nopass", "+@pubsub", "&one", "&two")
        one, two = self.user("u", *rules), self.user("u", *rules)
        one.ask("SUBSCRIBE", "one")
        two.ask("SUBSCRIBE", "two")
        self.client.ask("ACL", "SETUSER", "u", "resetchannels", "&two", "&three")
        self.assertEqual((one.closed, two.closed), (True, False))

    def test_lost_patterns(self) -> None:
        """A pattern must stand in the list literally, or everything be allowed."""
        talk = self.user("u", "on", "nopass", "+@pubsub", "&*")
        talk.ask("PSUBSCRIBE", "a*")
        self.client.ask("ACL", "SETUSER", "u", "resetchannels", "&a*")
        self.assertFalse(talk.closed)
        self.client.ask("ACL", "SETUSER", "u", "resetchannels", "&a")
        self.assertTrue(talk.closed)

    def test_lines_are_kept(self) -> None:
        """Each change goes to the configuration; default has a line once it was changed itself."""
        self.client.ask("ACL", "SETUSER", "u", "on", '~"q', "(+ping &x)")
        self.assertEqual(
            self.lines[-1],
            ['user u on sanitize-payload "~\\"q" resetchannels -@all (resetchannels &x -@all +ping)'],
        )
        self.client.ask("ACL", "SETUSER", "default", "-info")
        self.assertEqual(self.lines[-1][0], "user default on nopass sanitize-payload ~* &* +@all -info")
        self.client.ask("ACL", "DELUSER", "u")
        self.assertEqual(len(self.lines[-1]), 1)

    def test_nothing_is_kept_without_need(self) -> None:
        """Neither refused changes nor questions write anything."""
        self.client.ask("ACL", "SETUSER", "u", "bogus")
        self.client.ask("ACL", "DELUSER", "nobody")
        self.client.ask("ACL", "LIST")
        self.assertEqual(self.lines, [])

    def test_kept_elsewhere(self) -> None:
        """Users of included files get no second line, which would keep the next start from succeeding."""
        self.begin(GenericOptions(users=[("a", ("on",)), ("b", ("on",))]))
        self.access.start({"b"}, lambda level, line: None)
        self.client.ask("ACL", "SETUSER", "b", "+ping")
        self.assertEqual(self.lines[-1], ["user a on sanitize-payload resetchannels -@all"])

    def test_clear_passwords(self) -> None:
        """Where the file declares a password in clear text, it is made to say the digest, for the users it declares."""
        for rule, kept in ((">secret", True), ("#" + "0" * 64, False), ("nopass", False)):
            self.begin(GenericOptions(users=[("a", ("on", rule))]))
            self.lines.clear()
            self.access.keep_in_file(self.access.keep)
            self.assertEqual(bool(self.lines), kept, rule)
            if kept:
                self.assertIn("#2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", self.lines[0][0])
                self.assertNotIn("secret", self.lines[0][0])
        self.begin(GenericOptions(users=[("b", ("on", ">secret"))]))
        self.access.start({"b"}, lambda level, line: None)
        self.lines.clear()
        self.access.keep_in_file(self.access.keep)
        self.assertEqual(self.lines, [])

    def test_getuser_in_resp3(self) -> None:
        """A map, its flags a set."""
        self.client.ask("ACL", "SETUSER", "u", "(+ping)")
        self.client.ask("HELLO", 3)
        self.assertEqual(
            self.client.ask("ACL", "GETUSER", "u"),
            b"%7\r\n$5\r\nflags\r\n~2\r\n$3\r\noff\r\n$16\r\nsanitize-payload\r\n$9\r\npasswords\r\n*0\r\n"
            b"$8\r\ncommands\r\n$5\r\n-@all\r\n$4\r\nkeys\r\n$0\r\n\r\n$8\r\nchannels\r\n$0\r\n\r\n"
            b"$9\r\ndatabases\r\n$6\r\nalldbs\r\n"
            b"$9\r\nselectors\r\n*1\r\n%4\r\n$8\r\ncommands\r\n$11\r\n-@all +ping\r\n$4\r\nkeys\r\n$0\r\n\r\n"
            b"$8\r\nchannels\r\n$0\r\n\r\n$9\r\ndatabases\r\n$6\r\nalldbs\r\n",
        )
        self.assertEqual(self.client.ask("ACL", "GETUSER", "nobody"), b"_\r\n")

    def test_help(self) -> None:
        """Every subcommand is explained."""
        lines = self.client.reply("ACL", "HELP")
        assert isinstance(lines, list)
        explained = {line.split(b" ")[0].lower() for line in lines[1:] if not line.startswith(b" ")}
        known = self.harness.context.table.by_word[b"acl"].subcommands
        self.assertEqual(explained, set(known))


class LogTests(AclTestCase):
    """ACL LOG."""

    def entries(self, *words: str | int) -> list[dict[bytes, object]]:
        """The entries, as maps."""
        shown = self.client.reply("ACL", "LOG", *words)
        assert isinstance(shown, list)
        return [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in shown]

    def test_merging(self) -> None:
        """Alike within a minute is one entry, which comes to the front; its number and first time stay."""
        talk = self.user("u", "on", "nopass")
        talk.ask("INFO")
        talk.ask("ROLE")
        self.harness.host.reactor.advance(60)
        talk.ask("INFO")
        first, second = self.entries()
        self.assertEqual((first[b"object"], first[b"count"], first[b"entry-id"]), (b"info", 2, 0))
        self.assertEqual((second[b"object"], second[b"age-seconds"]), (b"role", b"60"))
        self.assertEqual(first[b"timestamp-last-updated"] - first[b"timestamp-created"], 60_000)  # type: ignore[operator]
        self.harness.host.reactor.advance(60.001)
        talk.ask("INFO")
        self.assertEqual([entry[b"count"] for entry in self.entries()], [1, 2, 1])

    def test_bounds(self) -> None:
        """No more entries than acllog-max-len has it, ten are shown, and strangers cannot fill them with text."""
        self.begin(GenericOptions(acllog_max_len=12))
        for number in range(20):
            self.client.ask("AUTH", f"{number}" + "x" * 5000, "p")
        self.assertEqual([len(self.entries()), len(self.entries(50)), len(self.entries(0))], [10, 12, 0])
        self.assertLess(len(str(self.entries(1)[0][b"username"])), 1100)
        self.begin(GenericOptions(acllog_max_len=0))
        self.client.ask("AUTH", "u", "p")
        self.assertEqual(self.entries(), [])

    def test_whom_it_names(self) -> None:
        """A failed login names whom it was tried for, the client line whose connection it was."""
        self.client.ask("aUTH", "u", "p")
        [entry] = self.entries()
        self.assertEqual((entry[b"object"], entry[b"username"], entry[b"reason"]), (b"aUTH", b"u", b"auth"))
        self.assertIn(b" user=default ", entry[b"client-info"])  # type: ignore[arg-type]


class FileTests(AclTestCase):
    """ACL LOAD and ACL SAVE."""

    acl_file = b"user a on nopass ~* &* +@all\nuser b on nopass resetchannels &x +@pubsub +ping\n"

    def log_in(self, name: str) -> RawConnection:
        """A connection of a user of the file."""
        talk = self.harness.connect()
        self.assertEqual(talk.ask("AUTH", name, "x"), b"+OK\r\n")
        return talk

    def change(self, contents: bytes) -> bytes:
        """Load other contents."""
        self.files.contents["/etc/users.acl"] = contents
        return self.client.ask("ACL", "LOAD")

    def test_load(self) -> None:
        """Users come, change and go; only those who lose something are closed."""
        a, b, listening = self.log_in("a"), self.log_in("b"), self.log_in("b")
        listening.ask("SUBSCRIBE", "x")
        self.assertEqual(self.change(b"user b on nopass resetchannels &y +@pubsub\nuser c on\n"), b"+OK\r\n")
        self.assertEqual((a.closed, b.closed, listening.closed), (True, False, True))
        self.assertTrue(b.ask("PING").startswith(b"-NOPERM"))
        self.assertEqual(self.client.reply("ACL", "USERS"), [b"b", b"c", b"default"])

    def test_load_waits_for_the_disk(self) -> None:
        """Others are served meanwhile, by the old users; one LOAD is done before the next begins."""
        self.files.reading = []
        self.files.contents["/etc/users.acl"] = b"user c on\n"
        self.client.protocol.dataReceived(b"ACL LOAD\r\nPING\r\n")
        other = self.harness.connect()
        other.protocol.dataReceived(b"ACL USERS\r\nACL LOAD\r\n")
        self.assertEqual((self.client.raw(), len(self.files.reading)), (b"", 1))
        self.assertEqual(other.raw(), b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$7\r\ndefault\r\n")
        self.files.reading.pop()()
        self.assertEqual(self.client.raw(), b"+OK\r\n+PONG\r\n")
        del self.files.contents["/etc/users.acl"]
        self.files.reading.pop()()
        self.assertTrue(other.raw().startswith(b"-ERR Error loading ACLs, opening file 'users.acl': No such"))
        self.assertEqual(self.client.reply("ACL", "USERS"), [b"c", b"default"])
        self.assertEqual(self.harness.host.failures, [])

    def test_load_is_all_or_nothing(self) -> None:
        """Every error is told at once, and nothing has changed."""
        before = self.client.ask("ACL", "LIST")
        self.assertEqual(
            self.change(b"#\nuser a on +foo bogus bogus2 +bar\nuser a on\nuser\n\nuser d (+ping\nUSER e on\n"),
            b"-ERR users.acl:1 should start with user keyword followed by the username. "
            b"users.acl:2: Error in applying operation '+foo': Unknown command or category name in ACL. "
            b"users.acl:2: Syntax error. "
            b"users.acl:2: Error in applying operation '+bar': Unknown command or category name in ACL. "
            b"WARNING: Duplicate user 'a' found on line 3. "
            b"users.acl:4 should start with user keyword followed by the username. "
            b"users.acl:6: Unmatched parenthesis in selector definition. "
            b"users.acl:7 should start with user keyword followed by the username. "
            b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed\r\n",
        )
        self.assertEqual(self.client.ask("ACL", "LIST"), before)
        del self.files.contents["/etc/users.acl"]
        self.assertEqual(
            self.client.ask("ACL", "LOAD"),
            b"-ERR Error loading ACLs, opening file 'users.acl': No such file or directory\r\n",
        )

    def test_save_waits_for_the_disk(self) -> None:
        """What is answered behind it waits, too; a failure is told and logged."""
        self.client.ask("ACL", "SETUSER", "c", "on")
        self.client.protocol.dataReceived(b"ACL SAVE\r\nPING\r\n")
        self.assertEqual(self.client.raw(), b"")
        self.files.write()
        self.assertEqual(self.client.raw(), b"+OK\r\n+PONG\r\n")
        lines = self.client.reply("ACL", "LIST")
        assert isinstance(lines, list)
        self.assertEqual(self.files.contents["/etc/users.acl"], b"".join(line + b"\n" for line in lines))
        self.client.send("ACL", "SAVE")
        self.files.fail()
        self.assertEqual(
            self.client.raw(),
            b"-ERR There was an error trying to save the ACLs. Please check the server logs for more information\r\n",
        )
        self.assertEqual(self.harness.host.failures, [])

    def test_one_after_the_other(self) -> None:
        """A LOAD behind a SAVE reads what was saved, and two SAVEs cannot overtake each other."""
        self.client.ask("ACL", "SETUSER", "c", "on")
        self.client.protocol.dataReceived(b"ACL SAVE\r\nACL SETUSER d on\r\nACL SAVE\r\nACL LOAD\r\n")
        self.assertEqual(len(self.files.waiting), 1)
        self.files.write()
        self.files.write()
        self.assertEqual(self.client.raw(), b"+OK\r\n" * 4)
        self.assertEqual(self.client.reply("ACL", "USERS"), [b"a", b"b", b"c", b"d", b"default"])

    def test_hung_up_meanwhile(self) -> None:
        """Nobody minds that the one who asked is gone when the disk is done."""
        self.client.send("ACL", "SAVE")
        self.client.protocol.abort()
        self.files.write()
        self.assertEqual(self.harness.host.failures, [])

    def test_the_configuration_has_no_lines(self) -> None:
        """Changes go to the file, and only when they are saved."""
        self.client.ask("ACL", "SETUSER", "c", "on")
        self.client.ask("ACL", "DELUSER", "c")
        self.assertEqual((self.lines, self.files.waiting), ([], []))

    def test_default_is_not_opened(self) -> None:
        """A file that does not name default leaves it with the password of requirepass."""
        self.begin(GenericOptions(aclfile="users.acl", dir="/etc", requirepass="secret"))
        self.assertTrue(self.client.ask("PING").startswith(b"-NOAUTH"))
        self.client.ask("AUTH", "secret")
        self.assertEqual(self.change(b"user default on nopass +acl\n"), b"+OK\r\n")
        self.assertEqual(self.harness.connect().ask("ACL", "WHOAMI"), b"$7\r\ndefault\r\n")
        self.assertEqual(self.change(b""), b"+OK\r\n")
        self.assertTrue(self.harness.connect().ask("PING").startswith(b"-NOAUTH"))


class StartTests(SynchronousTestCase):
    """Users that a Sentinel cannot start with."""

    def log_throttle(self, files: dict[str, bytes] | None = None, **options: object) -> tuple[str, ...]:
        """What is logged before the end."""
        host = ServerHarness().host
        memory = host.files = MemoryFiles()  # type: ignore[attr-defined]
        memory.contents.update(files or {})
        access = AccessControl(GenericOptions(dir="/etc", **options), host)  # type: ignore[arg-type]
        return self.assertRaises(UnusableUsers, access.start, (), lambda level, line: None).lines

    def test_unknown_command(self) -> None:
        """The rule and the user are named."""
        self.assertEqual(
            self.log_throttle(users=[("a", ("on", "+foo"))]),
            (
                "Error loading ACL rule '+foo' for the user named 'a': Unknown command or category name in ACL",
                CRITICAL,
            ),
        )

    def test_name_with_blanks(self) -> None:
        """It could not be told from rules in an ACL file."""
        self.assertEqual(self.log_throttle(users=[("a b", ())]), ("Spaces not allowed in ACL usernames", CRITICAL))

    def test_two_places(self) -> None:
        """Users come from the configuration or from the ACL file."""
        self.assertEqual(self.log_throttle(users=[("a", ())], aclfile="u"), (BOTH_PLACES,))

    def test_file(self) -> None:
        """It must be there and be right."""
        self.assertEqual(
            self.log_throttle(aclfile="u"),
            (
                "Aborting Redis startup because of ACL errors: "
                "Error loading ACLs, opening file 'u': No such file or directory",
            ),
        )
        self.assertEqual(
            self.log_throttle({"/etc/u": b"user"}, aclfile="u"),
            (
                "Aborting Redis startup because of ACL errors: u:1 should start with user keyword followed by the "
                "username. WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
            ),
        )

    def test_switched_off(self) -> None:
        """A user without ``on`` may be a mistake, and is said."""
        notes: list[str] = []
        access = AccessControl(GenericOptions(users=[("a", ()), ("b", ("on",))]), ServerHarness().host)  # type: ignore[arg-type]
        access.start((), lambda level, line: notes.append(line))
        self.assertEqual(len(notes), 1)
        self.assertIn("'a' is disabled", notes[0])
