"""Tests of the ACL commands, and of the effect of rights on connections."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import RawConnection, ServerHarness, ServerTestCase
from txsentinel.config.generic import GenericOptions
from txsentinel.model.events import Level
from txsentinel.server.access_control import BOTH_PLACES, CRITICAL, AccessControl, UnusableUsers
from txsentinel.server.acl.users import digest_of
from txsentinel.server.all_commands import TABLE
from txsentinel.server.pacing import MAX_UNSENT_UNAUTHENTICATED


class MemoryFiles:
    """A fake file store; a test completes or fails its writes."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.waiting: list[tuple[str, bytes, Deferred[None]]] = []
        self.reading: list[Callable[[], None]] | None = None
        """The pending :meth:`fetch`, for a test that delays it; ``None`` if fetches complete at once."""

    def read(self, path: str) -> bytes:
        """Return the contents, or raise the error of a missing file."""
        if path not in self.contents:
            raise FileNotFoundError(2, os.strerror(2), path)
        return self.contents[path]

    def fetch(self, path: str) -> Deferred[bytes]:
        """Return the contents at the time of the read."""
        if self.reading is None:
            return maybeDeferred(self.read, path)
        fetched: Deferred[bytes] = Deferred()

        def read() -> None:
            maybeDeferred(self.read, path).chainDeferred(fetched)

        self.reading.append(read)
        return fetched

    def replace(self, path: str, contents: bytes) -> Deferred[None]:
        """Queue the write until :meth:`write` or :meth:`fail`."""
        written: Deferred[None] = Deferred()
        self.waiting.append((path, contents, written))
        return written

    def write(self) -> None:
        """Complete the oldest write."""
        path, contents, written = self.waiting.pop(0)
        self.contents[path] = contents
        written.callback(None)

    def fail(self) -> None:
        """Fail the oldest write."""
        self.waiting.pop(0)[2].errback(OSError(28, "No space left on device"))


class AclTestCase(ServerTestCase):
    """A server, with an ACL file if ``acl_file`` has contents."""

    acl_file: bytes | None = None

    def setUp(self) -> None:
        """Start the server."""
        super().setUp()
        self.lines: list[list[str]] = []
        self.begin(GenericOptions(aclfile="users.acl" if self.acl_file is not None else "", dir="/etc"))

    def begin(self, options: GenericOptions) -> None:
        """Restart the server with these options."""
        self.harness = ServerHarness(options, keep_users=lambda lines: self.lines.append(list(lines)))
        self.files = MemoryFiles()
        if self.acl_file is not None:
            self.files.contents["/etc/users.acl"] = self.acl_file
        self.harness.host.files = self.files  # type: ignore[attr-defined]
        self.access = self.harness.context.access
        self.notes: list[tuple[Level, str]] = []
        self.access.start((), lambda level, line: self.notes.append((level, line)))
        self.client = self.harness.connect()

    def user(self, name: str, *rules: str, password: str = "x") -> RawConnection:
        """Create a user and return a connection that is authenticated as it."""
        self.assertEqual(self.client.ask("ACL", "SETUSER", name, *rules), b"+OK\r\n")
        connection = self.harness.connect()
        self.assertEqual(connection.ask("AUTH", name, password), b"+OK\r\n")
        return connection


class RightsTests(AclTestCase):
    """Rights are checked for every way to send a command."""

    def test_all_request_forms_are_checked(self) -> None:
        """Rights are checked in pipelines, inline requests, both protocols, and behind a login in the same packet."""
        self.client.ask("ACL", "SETUSER", "u", "on", "nopass", "+ping")
        refusal = b"-NOPERM User u has no permissions to run the 'role' command\r\n"
        connection = self.harness.connect()
        connection.protocol.dataReceived(b"AUTH u x\r\nROLE\r\n*1\r\n$4\r\nROLE\r\nPING\r\n")
        self.assertEqual(connection.raw(), b"+OK\r\n" + refusal * 2 + b"+PONG\r\n")
        connection = self.harness.connect()
        connection.protocol.dataReceived(b"HELLO 3 AUTH u x\r\nrOlE\r\n")
        self.assertTrue(connection.raw().endswith(refusal))

    def test_change_of_rights_is_immediate(self) -> None:
        """A change of rights affects authenticated clients at once, whether it adds or removes rights."""
        connection = self.user("u", "on", "nopass", "+ping")
        self.client.ask("ACL", "SETUSER", "u", "-ping", "+role")
        self.assertTrue(connection.ask("PING").startswith(b"-NOPERM"))
        self.assertTrue(connection.ask("ROLE").startswith(b"*2"))
        self.client.ask("ACL", "SETUSER", "u", "+@all", "&*")
        self.assertEqual(connection.ask("PING"), b"+PONG\r\n")

    def test_default_can_be_limited(self) -> None:
        """The default user can be limited like any other; it only cannot be deleted."""
        self.client.ask("ACL", "SETUSER", "default", "-role")
        self.assertTrue(self.client.ask("ROLE").startswith(b"-NOPERM User default has no permissions to run"))

    def test_publish_is_checked_before_its_channel_is_known(self) -> None:
        """A hello published without the right to its channel is not processed."""
        connection = self.user("u", "on", "nopass", "+publish", "&x")
        self.assertEqual(
            connection.ask("PUBLISH", "__sentinel__:hello", "x"), b"-NOPERM No permissions to access a channel\r\n"
        )

    def test_order(self) -> None:
        """Existence and arity are checked before rights, rights before the restrictions of a RESP2 subscriber."""
        connection = self.user("u", "on", "nopass", "+subscribe", "&*")
        self.assertTrue(connection.ask("GET", "x").startswith(b"-ERR unknown command"))
        self.assertTrue(connection.ask("ROLE", "x").startswith(b"-ERR wrong number"))
        connection.ask("SUBSCRIBE", "x")
        self.assertTrue(connection.ask("ROLE").startswith(b"-NOPERM"))

    def test_renamed_commands(self) -> None:
        """Rules use the original names of commands, even if ``rename-command`` renamed them."""
        self.begin(GenericOptions(renamed_commands={"role": "part"}))
        connection = self.user("u", "on", "nopass", "+role")
        self.assertTrue(connection.ask("PART").startswith(b"*2"))
        self.assertTrue(self.client.ask("ACL", "SETUSER", "u", "+part").startswith(b"-ERR Error in ACL"))

    def test_refusals_are_counted(self) -> None:
        """INFO counts refusals by reason."""
        connection = self.user("u", "on", "nopass", "+subscribe")
        connection.ask("AUTH", "u2", "bad")
        connection.ask("INFO")
        connection.ask("SUBSCRIBE", "x")
        information = self.client.ask("INFO", "stats")
        for field in (b"auth:1", b"cmd:1", b"channel:1"):
            self.assertIn(b"acl_access_denied_" + field, information)


class LoginTests(AclTestCase):
    """``AUTH`` and ``HELLO`` with users."""

    def test_failure_changes_nothing(self) -> None:
        """A failed login leaves the connection as it was."""
        connection = self.user("u", "on", ">p", "+acl|whoami", password="p")
        self.assertTrue(connection.ask("AUTH", "default", "x").startswith(b"+OK"))
        self.assertTrue(connection.ask("AUTH", "u", "wrong").startswith(b"-WRONGPASS"))
        self.assertEqual(connection.ask("ACL", "WHOAMI"), b"$7\r\ndefault\r\n")

    def test_disabled_user(self) -> None:
        """A disabled user cannot log in; connections that are logged in stay so."""
        connection = self.user("u", "on", ">p", "+ping", password="p")
        self.client.ask("ACL", "SETUSER", "u", "off")
        self.assertEqual(connection.ask("PING"), b"+PONG\r\n")
        self.assertTrue(connection.ask("AUTH", "u", "p").startswith(b"-WRONGPASS"))

    def test_requirepass(self) -> None:
        """``requirepass`` sets the password of the default user for later connections."""
        self.begin(GenericOptions(requirepass="secret"))
        self.assertEqual(self.client.ask("PING"), b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(self.client.ask("AUTH", "default", "secret"), b"+OK\r\n")
        self.assertEqual(
            self.client.ask("ACL", "LIST"),
            b"*1\r\n$110\r\nuser default on sanitize-payload #%b ~* &* +@all\r\n" % digest_of(b"secret").encode(),
        )

    def test_user_line_wins_over_requirepass(self) -> None:
        """A ``user default`` line takes precedence over ``requirepass``, in either order, as in the C servers."""
        self.begin(GenericOptions(requirepass="secret", users=[("default", ("on", "nopass", "+@all"))]))
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")

    def test_unauthenticated_clients_are_limited(self) -> None:
        """The server stops reading from an unauthenticated client that does not read its refusals."""
        self.begin(GenericOptions(requirepass="secret"))
        connection = self.client
        connection.block_output()
        sent = 0
        while connection.wire.producerState == "producing" and sent < 10_000:
            connection.protocol.dataReceived(b"PING\r\n" * 10)
            sent += 10
        self.assertLess(connection.protocol.unsent, MAX_UNSENT_UNAUTHENTICATED + 1000)
        self.assertLess(sent, 1000)


class UserCommandTests(AclTestCase):
    """``ACL SETUSER`` and ``ACL DELUSER``, and the connections that they close."""

    def test_closed_with_its_user(self) -> None:
        """Deleting a user closes its connections without a message; the client that deleted it gets its reply first."""
        connection, other = self.user("u", "on", "nopass", "+@all"), self.user("v", "on", "nopass", "+ping")
        second = self.harness.connect()
        second.ask("AUTH", "u", "x")
        connection.protocol.dataReceived(b"ACL DELUSER u\r\nPING\r\n")
        self.assertEqual(connection.raw(), b":1\r\n")
        self.assertTrue(connection.closed)
        self.assertEqual((second.raw(), second.closed, second.wire.aborted), (b"", True, True))
        self.assertFalse(other.closed)

    def test_lost_channels(self) -> None:
        """Subscribers that lose a channel are closed; other connections of the same user are not."""
        rules = ("on", "nopass", "+@pubsub", "&one", "&two")
        one, two = self.user("u", *rules), self.user("u", *rules)
        one.ask("SUBSCRIBE", "one")
        two.ask("SUBSCRIBE", "two")
        self.client.ask("ACL", "SETUSER", "u", "resetchannels", "&two", "&three")
        self.assertEqual((one.closed, two.closed), (True, False))

    def test_lost_patterns(self) -> None:
        """A subscribed pattern must be among the user's patterns literally, unless all channels are allowed."""
        connection = self.user("u", "on", "nopass", "+@pubsub", "&*")
        connection.ask("PSUBSCRIBE", "a*")
        self.client.ask("ACL", "SETUSER", "u", "resetchannels", "&a*")
        self.assertFalse(connection.closed)
        self.client.ask("ACL", "SETUSER", "u", "resetchannels", "&a")
        self.assertTrue(connection.closed)

    def test_changes_are_saved(self) -> None:
        """Each change is saved in the configuration; the default user gets a line once it was changed."""
        self.client.ask("ACL", "SETUSER", "u", "on", '~"q', "(+ping &x)")
        self.assertEqual(
            self.lines[-1],
            ['user u on sanitize-payload "~\\"q" resetchannels -@all (resetchannels &x -@all +ping)'],
        )
        self.client.ask("ACL", "SETUSER", "default", "-info")
        self.assertEqual(self.lines[-1][0], "user default on nopass sanitize-payload ~* &* +@all -info")
        self.client.ask("ACL", "DELUSER", "u")
        self.assertEqual(len(self.lines[-1]), 1)

    def test_refusals_and_queries_save_nothing(self) -> None:
        """Refused changes and queries save nothing."""
        self.client.ask("ACL", "SETUSER", "u", "bogus")
        self.client.ask("ACL", "DELUSER", "nobody")
        self.client.ask("ACL", "LIST")
        self.assertEqual(self.lines, [])

    def test_users_of_included_files(self) -> None:
        """Users of included files get no second line, which would make the next start fail."""
        self.begin(GenericOptions(users=[("a", ("on",)), ("b", ("on",))]))
        self.access.start({"b"}, lambda level, line: None)
        self.client.ask("ACL", "SETUSER", "b", "+ping")
        self.assertEqual(self.lines[-1], ["user a on sanitize-payload resetchannels -@all"])

    def test_clear_passwords(self) -> None:
        """A password declared in clear text is rewritten as its digest, for the users declared in the file."""
        for rule, is_saved in ((">secret", True), ("#" + "0" * 64, False), ("nopass", False)):
            self.begin(GenericOptions(users=[("a", ("on", rule))]))
            self.lines.clear()
            self.access.hide_passwords()
            self.assertEqual(bool(self.lines), is_saved, rule)
            if is_saved:
                self.assertIn("#2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", self.lines[0][0])
                self.assertNotIn("secret", self.lines[0][0])
        self.begin(GenericOptions(users=[("b", ("on", ">secret"))]))
        self.access.start({"b"}, lambda level, line: None)
        self.lines.clear()
        self.access.hide_passwords()
        self.assertEqual(self.lines, [])

    def test_getuser_in_resp3(self) -> None:
        """In RESP3 the reply is a map and its flags are a set."""
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
        """``ACL HELP`` lists every subcommand."""
        lines = self.client.reply("ACL", "HELP")
        assert isinstance(lines, list)
        explained = {line.split(b" ")[0].lower() for line in lines[1:] if not line.startswith(b" ")}
        table = self.harness.context.table
        known = {entry.name.encode().split(b"|")[1] for entry in table.subcommands(table.by_word[b"acl"])}
        self.assertEqual(explained, known)


class LogTests(AclTestCase):
    """``ACL LOG``."""

    def entries(self, *words: str | int) -> list[dict[bytes, object]]:
        """Return the entries as maps."""
        shown = self.client.reply("ACL", "LOG", *words)
        assert isinstance(shown, list)
        return [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in shown]

    def test_merging(self) -> None:
        """Equal entries within a minute are merged; the entry moves to the front and keeps its ID and creation time."""
        connection = self.user("u", "on", "nopass")
        connection.ask("INFO")
        connection.ask("ROLE")
        self.harness.host.reactor.advance(60)
        connection.ask("INFO")
        first, second = self.entries()
        self.assertEqual((first[b"object"], first[b"count"], first[b"entry-id"]), (b"info", 2, 0))
        self.assertEqual((second[b"object"], second[b"age-seconds"]), (b"role", b"60"))
        self.assertEqual(first[b"timestamp-last-updated"] - first[b"timestamp-created"], 60_000)  # type: ignore[operator]
        self.harness.host.reactor.advance(60.001)
        connection.ask("INFO")
        self.assertEqual([entry[b"count"] for entry in self.entries()], [1, 2, 1])

    def test_bounds(self) -> None:
        """``acllog-max-len`` limits the entries, ten are shown, and the text from unauthenticated clients is cut."""
        self.begin(GenericOptions(acllog_max_len=12))
        for number in range(20):
            self.client.ask("AUTH", f"{number}" + "x" * 5000, "p")
        self.assertEqual([len(self.entries()), len(self.entries(50)), len(self.entries(0))], [10, 12, 0])
        self.assertLess(len(str(self.entries(1)[0][b"username"])), 1100)
        self.begin(GenericOptions(acllog_max_len=0))
        self.client.ask("AUTH", "u", "p")
        self.assertEqual(self.entries(), [])

    def test_names_of_failed_logins(self) -> None:
        """A failed login names the user it was tried for and the client line of its connection."""
        self.client.ask("aUTH", "u", "p")
        [entry] = self.entries()
        self.assertEqual((entry[b"object"], entry[b"username"], entry[b"reason"]), (b"aUTH", b"u", b"auth"))
        self.assertIn(b" user=default ", entry[b"client-info"])


class FileTests(AclTestCase):
    """``ACL LOAD`` and ``ACL SAVE``."""

    acl_file = b"user a on nopass ~* &* +@all\nuser b on nopass resetchannels &x +@pubsub +ping\n"

    def log_in(self, name: str) -> RawConnection:
        """Connect and authenticate as a user of the file."""
        connection = self.harness.connect()
        self.assertEqual(connection.ask("AUTH", name, "x"), b"+OK\r\n")
        return connection

    def change(self, contents: bytes) -> bytes:
        """Load new contents of the file."""
        self.files.contents["/etc/users.acl"] = contents
        return self.client.ask("ACL", "LOAD")

    def test_load(self) -> None:
        """``ACL LOAD`` adds, changes and removes users; only clients that lose a right are closed."""
        a, b, listening = self.log_in("a"), self.log_in("b"), self.log_in("b")
        listening.ask("SUBSCRIBE", "x")
        self.assertEqual(self.change(b"user b on nopass resetchannels &y +@pubsub\nuser c on\n"), b"+OK\r\n")
        self.assertEqual((a.closed, b.closed, listening.closed), (True, False, True))
        self.assertTrue(b.ask("PING").startswith(b"-NOPERM"))
        self.assertEqual(self.client.reply("ACL", "USERS"), [b"b", b"c", b"default"])

    def test_load_waits_for_the_disk(self) -> None:
        """Other clients are served with the old users during a load; loads run one after the other."""
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
        """All errors are reported together, and nothing changes."""
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
        """Replies behind ``ACL SAVE`` wait for it; a failure is reported and logged."""
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

    def test_load_and_save_are_serialized(self) -> None:
        """A ``LOAD`` behind a ``SAVE`` reads what was saved, and two ``SAVE`` commands keep their order."""
        self.client.ask("ACL", "SETUSER", "c", "on")
        self.client.protocol.dataReceived(b"ACL SAVE\r\nACL SETUSER d on\r\nACL SAVE\r\nACL LOAD\r\n")
        self.assertEqual(len(self.files.waiting), 1)
        self.files.write()
        self.files.write()
        self.assertEqual(self.client.raw(), b"+OK\r\n" * 4)
        self.assertEqual(self.client.reply("ACL", "USERS"), [b"a", b"b", b"c", b"d", b"default"])

    def test_client_disconnects_before_completion(self) -> None:
        """A client may disconnect before its load or save completes."""
        self.client.send("ACL", "SAVE")
        self.client.protocol.abort()
        self.files.write()
        self.assertEqual(self.harness.host.failures, [])

    def test_the_configuration_has_no_lines(self) -> None:
        """Changes are saved in the ACL file, not in the configuration, and only by ``ACL SAVE``."""
        self.client.ask("ACL", "SETUSER", "c", "on")
        self.client.ask("ACL", "DELUSER", "c")
        self.assertEqual((self.lines, self.files.waiting), ([], []))

    def test_default_is_not_opened(self) -> None:
        """A file that does not name the default user leaves it with the password of ``requirepass``."""
        self.begin(GenericOptions(aclfile="users.acl", dir="/etc", requirepass="secret"))
        self.assertTrue(self.client.ask("PING").startswith(b"-NOAUTH"))
        self.client.ask("AUTH", "secret")
        self.assertEqual(self.change(b"user default on nopass +acl\n"), b"+OK\r\n")
        self.assertEqual(self.harness.connect().ask("ACL", "WHOAMI"), b"$7\r\ndefault\r\n")
        self.assertEqual(self.change(b""), b"+OK\r\n")
        self.assertTrue(self.harness.connect().ask("PING").startswith(b"-NOAUTH"))


class StartTests(SynchronousTestCase):
    """User declarations that make the start fail."""

    def start_errors(self, files: dict[str, bytes] | None = None, **options: object) -> tuple[str, ...]:
        """Return what is logged before the start fails."""
        host = ServerHarness().host
        memory = host.files = MemoryFiles()  # type: ignore[attr-defined]
        memory.contents.update(files or {})
        access = AccessControl(GenericOptions(dir="/etc", **options), host, TABLE)  # type: ignore[arg-type]
        lines: tuple[str, ...] = self.assertRaises(UnusableUsers, access.start, (), lambda level, line: None).lines
        return lines

    def test_unknown_command(self) -> None:
        """The error names the rule and the user."""
        self.assertEqual(
            self.start_errors(users=[("a", ("on", "+foo"))]),
            (
                "Error loading ACL rule '+foo' for the user named 'a': Unknown command or category name in ACL",
                CRITICAL,
            ),
        )

    def test_name_with_blanks(self) -> None:
        """A name with blanks is refused: in an ACL file it could not be distinguished from rules."""
        self.assertEqual(self.start_errors(users=[("a b", ())]), ("Spaces not allowed in ACL usernames", CRITICAL))

    def test_two_places(self) -> None:
        """Users come either from the configuration or from the ACL file, never from both."""
        self.assertEqual(self.start_errors(users=[("a", ())], aclfile="u"), (BOTH_PLACES,))

    def test_file(self) -> None:
        """A missing or invalid ACL file is an error."""
        self.assertEqual(
            self.start_errors(aclfile="u"),
            (
                "Aborting Redis startup because of ACL errors: "
                "Error loading ACLs, opening file 'u': No such file or directory",
            ),
        )
        self.assertEqual(
            self.start_errors({"/etc/u": b"user"}, aclfile="u"),
            (
                "Aborting Redis startup because of ACL errors: u:1 should start with user keyword followed by the "
                "username. WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
            ),
        )

    def test_disabled_user(self) -> None:
        """A declared user without ``on`` is logged as a warning."""
        notes: list[str] = []
        options = GenericOptions(users=[("a", ()), ("b", ("on",))])
        access = AccessControl(options, ServerHarness().host, TABLE)  # type: ignore[arg-type]
        access.start((), lambda level, line: notes.append(line))
        self.assertEqual(len(notes), 1)
        self.assertIn("'a' is disabled", notes[0])
