"""Sends the same ACL commands to this server and to Valkey's Sentinel and compares the replies."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import RawConnection, ServerHarness
from tests.servers import SentinelProcess, free_port, missing
from txsentinel.model.timings import Limits
from txsentinel.wire.replies import NEED_MORE, ReplyReader
from txsentinel.wire.resp import pack
from txsentinel.wire.values import ErrorLine, Status

TIMEOUT = 5.0
"""Seconds to wait for a reply of Valkey."""

CLOSED = "(closed)"

SCRIPTS = """\
a new user
    ACL SETUSER a; ACL GETUSER a; ACL LIST; ACL USERS
no user
    ACL GETUSER nobody; ACL DELUSER nobody
everything
    ACL SETUSER a ON NoPass ALLKEYS AllChannels ALLCOMMANDS; ACL GETUSER a; ACL LIST
reset
    ACL SETUSER a on >p ~x &y +ping; ACL SETUSER a RESET; ACL LIST
keys
    ACL SETUSER a ~x %R~y %W~z %RW~q %wr~p %R~b %W~b; ACL GETUSER a; ACL SETUSER a resetkeys; ACL LIST
keys after all
    ACL SETUSER a ~* ~x; ACL SETUSER a allkeys %R~x; ACL GETUSER a
invalid keys
    ACL SETUSER a %~x; ACL SETUSER a %; ACL SETUSER a %X~y; ACL SETUSER a %RR~y; ACL GETUSER a
keys without pattern
    ACL SETUSER a %RW ~; ACL LIST
channels
    ACL SETUSER a &x &y* &x; ACL GETUSER a; ACL LIST; ACL SETUSER a &*; ACL SETUSER a &z; ACL LIST
passwords
    ACL SETUSER a >one >two >one <one; ACL LIST; ACL SETUSER a nopass; ACL LIST; ACL SETUSER a >three; ACL LIST;
    ACL SETUSER a resetpass; ACL LIST
hashes
    ACL SETUSER a #abababababababababababababababababababababababababababababababab; ACL LIST;
    ACL SETUSER a !abababababababababababababababababababababababababababababababab; ACL LIST;
    ACL SETUSER a #abc; ACL SETUSER a !abc;
    ACL SETUSER a #ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB
an unknown password
    ACL SETUSER a <nope; ACL SETUSER a !cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
commands
    ACL SETUSER a +ping +PING +client|list +client +client|id -client|id; ACL GETUSER a
categories
    ACL SETUSER a +@all -@dangerous +sentinel|masters; ACL LIST; ACL SETUSER a +@FAST -@fast; ACL LIST
rules that replace others
    ACL SETUSER a +sentinel|masters +sentinel -sentinel|masters; ACL LIST;
    ACL SETUSER a +@admin -@admin +@slow -sentinel; ACL LIST
first arguments
    ACL SETUSER a +ping|One +ping|one +ping|TWO; ACL LIST; ACL DRYRUN a ping ONE; ACL DRYRUN a ping x;
    ACL DRYRUN a ping; ACL SETUSER a -ping; ACL LIST; ACL SETUSER a +ping|x +ping; ACL LIST
unknown commands
    ACL SETUSER a +get; ACL SETUSER a -get; ACL SETUSER a +@nope; ACL SETUSER a -@nope; ACL SETUSER a +;
    ACL SETUSER a -; ACL SETUSER a +@; ACL SETUSER a +quit; ACL SETUSER a -ping|x
invalid subcommands
    ACL SETUSER a +client|; ACL SETUSER a +client|nope; ACL SETUSER a +client|list|x; ACL SETUSER a +sentinel|x;
    ACL SETUSER a +|x
invalid rules
    ACL SETUSER a bogus; ACL SETUSER a on bogus off; ACL GETUSER a; ACL SETUSER a )
all or nothing
    ACL SETUSER a on +ping; ACL SETUSER a off -ping bogus; ACL LIST
selectors
    ACL SETUSER a (~x +ping) (~y +@all &*) (  ~z   +info ) (); ACL GETUSER a; ACL LIST;
    ACL SETUSER a clearselectors; ACL LIST
invalid selectors
    ACL SETUSER a (~x +get; ACL SETUSER a (~x +ping (; ACL SETUSER a (+nope); ACL SETUSER a (on);
    ACL SETUSER a (>pw); ACL GETUSER a
databases
    ACL SETUSER a db=0,1; ACL LIST; ACL SETUSER a db=3,3,02; ACL LIST; ACL SETUSER a db=; ACL SETUSER a db=x;
    ACL GETUSER a; ACL SETUSER a resetdbs; ACL LIST; ACL GETUSER a; ACL SETUSER a ALLDBS (db=7 +ping) (resetdbs);
    ACL LIST; ACL GETUSER a
names
    ACL SETUSER a\tb on; ACL SETUSER a\0b on; ACL SETUSER ä on; ACL LIST; ACL GETUSER ä; ACL DELUSER ä
deleting
    ACL SETUSER a; ACL SETUSER b; ACL DELUSER a default b; ACL USERS; ACL DELUSER a a nope b; ACL USERS
categories shown
    ACL CAT; ACL CAT PubSub; ACL CAT transaction; ACL CAT nope; ACL CAT a b
generated passwords
    ACL GENPASS 5; ACL GENPASS 4096; ACL GENPASS 0; ACL GENPASS 4097; ACL GENPASS x; ACL GENPASS 1 2;
    ACL GENPASS -1
without a file
    ACL SAVE; ACL LOAD
wrong arguments
    ACL; ACL nope; ACL WHOAMI x; ACL SETUSER; ACL DELUSER; ACL GETUSER; ACL DRYRUN a; ACL LIST x; ACL LOG 1 2;
    ACL LOG x; ACL LOG -1; ACL LOG RESET x; ACL LOG reset
dry runs
    ACL SETUSER a +@all -info; ACL DRYRUN nobody ping; ACL DRYRUN a nope; ACL DRYRUN a client nope;
    ACL DRYRUN a sentinel; ACL DRYRUN a sentinel masters; ACL DRYRUN a info; ACL DRYRUN a auth;
    ACL DRYRUN a hello; ACL DRYRUN a subscribe x; ACL DRYRUN a psubscribe x y; ACL DRYRUN a publish x y;
    ACL DRYRUN a unsubscribe x
dry runs of selectors
    ACL SETUSER a +subscribe &one (+psubscribe &two*) (+ping &*); ACL DRYRUN a subscribe one;
    ACL DRYRUN a subscribe one two; ACL DRYRUN a psubscribe two*; ACL DRYRUN a psubscribe two;
    ACL DRYRUN a subscribe two
everything by another name
    ACL SETUSER a %RW~* ~x; ACL SETUSER a resetkeys %R~* %W~*; ACL GETUSER a
a selector inside another
    ACL SETUSER a (~x)·+ping)
before the login
    ACL SETUSER default >pw; 1 NOPE x; 1 PING; 1 ROLE x; 1 SENTINEL MASTERS; ACL SETUSER default nopass
logging in
    ACL SETUSER a on >p -@all +ping; 1 AUTH a bad; 1 ACL WHOAMI; 1 AUTH a p; 1 PING; 1 ACL WHOAMI; 1 AUTH a bad;
    1 PING; 1 AUTH nobody p; 1 AUTH p; 1 AUTH a p x; 1 AUTH; ACL SETUSER a off; 1 PING; 1 AUTH a p; 1 PING
logging in by HELLO
    ACL SETUSER a on >p -@all +ping; 1 HELLO 2 AUTH a bad; 1 HELLO 2 AUTH a p; 1 ACL WHOAMI; 1 PING
default needs a password
    ACL SETUSER default >pw; 1 PING; 1 ACL WHOAMI; 1 HELLO; 1 HELLO 2 AUTH default bad; 1 AUTH bad; 1 AUTH pw;
    1 PING; ACL SETUSER default nopass
default is disabled
    ACL SETUSER default off; PING; 1 PING; 1 AUTH x; 1 AUTH default x; 1 HELLO 2; ACL SETUSER default on;
    1 PING; 1 AUTH x; 1 HELLO 2
default needs a password again
    ACL SETUSER default >pw; 1 PING; ACL SETUSER default nopass; 1 PING; ACL SETUSER default >pw; 1 PING;
    ACL SETUSER default nopass
refused commands
    ACL SETUSER a on nopass +client|id +ping|x; 1 AUTH a x; 1 INFO; 1 sentinel MASTERS; 1 CLIENT LIST; 1 PING;
    1 PING X; 1 SUBSCRIBE x; 1 PUBLISH x y; 1 GET x; 1 CLIENT NOPE; 1 SENTINEL MASTER
refused channels
    ACL SETUSER a on nopass +@pubsub +ping &ok* &exact; 1 AUTH a x; 1 SUBSCRIBE okay no other;
    1 PSUBSCRIBE okay; 1 PSUBSCRIBE ok*; 1 PUBLISH no x; 1 PUBLISH okay x; 1 SUBSCRIBE exact okay;
    1 UNSUBSCRIBE no
publishing to another channel
    ACL SETUSER a on nopass +publish &x; 1 AUTH a x; 1 PUBLISH x y; 1 PUBLISH __sentinel__:hello y
losing a channel
    ACL SETUSER a on nopass +@pubsub &one &two; 1 AUTH a x; 2 AUTH a x; 1 SUBSCRIBE one; 2 SUBSCRIBE two;
    ACL SETUSER a resetchannels &two; 1 PING; 2 PING
losing a pattern
    ACL SETUSER a on nopass +@pubsub &*; 1 AUTH a x; 1 PSUBSCRIBE p*; ACL SETUSER a resetchannels &p; 1 PING
keeping channels
    ACL SETUSER a on nopass +@pubsub &one; 1 AUTH a x; 1 SUBSCRIBE one; ACL SETUSER a &two -@all; 1 PING
deleting the own user
    ACL SETUSER a on nopass +@all; 1 AUTH a x; 2 AUTH a x; 1 ACL DELUSER a; 1 PING; 2 PING
deleting the own user among others
    ACL SETUSER a on nopass +@all; ACL SETUSER b on nopass +@all; 1 AUTH a x; 2 AUTH b x; 1 ACL DELUSER b;
    2 PING; 1 PING
the log
    ACL SETUSER a on >p -@all +subscribe; 1 AUTH a bad; 1 auth a bad; 1 AUTH a bad; 1 HELLO 2 AUTH nobody x;
    1 AUTH a p; 1 INFO; 1 info; 1 SENTINEL masters; 1 SUBSCRIBE x y; ACL LOG; ACL LOG 2; ACL LOG 0;
    ACL LOG RESET; ACL LOG
the log merges
    ACL SETUSER a on nopass -@all; 1 AUTH a x; 1 INFO; 1 PING; 1 INFO; 1 PING; 1 INFO; ACL LOG
killing by user
    ACL SETUSER a on nopass +@all; 1 AUTH a x; CLIENT KILL USER nobody; CLIENT KILL USER a; 1 PING
the minimal rights of a client
    ACL SETUSER a on nopass +sentinel|get-master-addr-by-name +sentinel|replicas
    +sentinel|sentinels +ping +subscribe +psubscribe +client|setname +client|setinfo &*;
    1 AUTH a x; 1 SENTINEL GET-MASTER-ADDR-BY-NAME nope; 1 SENTINEL REPLICAS nope; 1 CLIENT SETNAME me;
    1 CLIENT ID; 1 SUBSCRIBE +x
the minimal rights of a peer
    ACL SETUSER a on nopass +ping +publish +client|setname +sentinel|is-master-down-by-addr &__sentinel__:hello;
    1 AUTH a x; 1 SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *; 1 PUBLISH __sentinel__:hello x;
    1 SENTINEL MASTERS; 1 SUBSCRIBE __sentinel__:hello
"""
"""
Names of cases and, indented, their commands; all but the last end with a semicolon.

A leading digit selects another connection, which is opened on first use. The arguments of a command are
separated by single blanks; ``·`` is a blank within one.
"""

DELIBERATE: dict[tuple[str, str], str] = {
    ("everything by another name", "ACL SETUSER a %RW~* ~x"): "in a file, ~* cannot be followed by ~x",
    (
        "a selector inside another",
        "ACL SETUSER a (~x)·+ping)",
    ): "among other rules, the argument would end the selector",
    ("before the login", "1 NOPE x"): "an unknown command is reported before the login is checked, as in Redis 7",
    ("before the login", "1 ROLE x"): "the number of arguments is checked before the login, too",
}
"""Case and command → the reason for the different reply."""


def cases() -> Iterator[tuple[str, list[str]]]:
    """Return the names of the cases with their commands."""
    for name, script in re.findall(r"^(\S.*)\n((?: {4}.*\n)+)", SCRIPTS, re.MULTILINE):
        commands = " ".join(line[4:] for line in script.splitlines()).split(";")
        yield name, [command.strip(" ") for command in commands if command.strip(" ")]


class ValkeyConnection:
    """A connection to Valkey."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._reader = ReplyReader(Limits(), resp3=True)

    def reply(self, *words: str) -> object:
        """Send a command and return its reply."""
        try:
            self._socket.sendall(pack(*words))
            while (reply := self._reader.next_reply()) is NEED_MORE:
                received = self._socket.recv(65536)
                if not received:
                    return CLOSED
                self._reader.feed(received)
        except ConnectionError:
            return CLOSED
        return reply

    def replies(self, count: int, *words: str) -> list[object]:
        """Send a command and return this many replies."""
        first = self.reply(*words)
        if first == CLOSED or isinstance(first, ErrorLine):
            return [first]
        rest: list[object] = []
        while len(rest) < count - 1:
            reply = self._reader.next_reply()
            if reply is NEED_MORE:
                self._reader.feed(self._socket.recv(65536))
            else:
                rest.append(reply)
        return [first, *rest]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class OwnConnection:
    """A connection to this server, in memory."""

    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection

    def replies(self, count: int, *words: str) -> list[object]:
        """Send a command and return all its replies."""
        if self._connection.closed:
            return [CLOSED]
        self._connection.send(*words)
        return self._connection.replies()


def masked(reply: object) -> object:
    """Remove what differs by nature: addresses, times, products, and flags that only one version shows."""
    if isinstance(reply, ErrorLine):
        return "-" + _masked_text(reply)
    if isinstance(reply, Status):
        return "+" + _masked_text(reply)
    if isinstance(reply, bytes):
        return _masked_text(reply)
    if isinstance(reply, list):
        return _masked_list([masked(each) for each in reply])
    return reply


def _masked_text(raw: bytes) -> str:
    shown = raw.decode("utf-8", "replace").replace(" sanitize-payload", "")
    shown = shown.replace("This Redis instance", "This instance").replace(" a Redis conf", " a conf")
    shown = shown.replace("in the Redis configuration", "in the configuration")
    if re.fullmatch("[0-9a-f]{2}|[0-9a-f]{1024}", shown):
        return f"({len(shown)} digits)"
    return "(a client)" if shown.startswith("id=") else shown


def _masked_list(items: list[object]) -> list[object]:
    """Keep the keys that both have in maps, and the commands that this server has in lists."""
    common: list[object] = []
    skip = False
    for name in items:
        if skip:
            skip = False
        elif name in ("age-seconds", "timestamp-created", "timestamp-last-updated", "entry-id", "id",
                      "server", "version"):  # fmt: skip
            skip = True
        elif name != "sanitize-payload":
            common.append(name)
    return common


class DifferentialTests(SynchronousTestCase):
    """All cases run against one Valkey."""

    if missing("valkey"):
        skip = missing("valkey")

    valkey: SentinelProcess

    @classmethod
    def setUpClass(cls) -> None:
        """Start Valkey."""
        directory = Path(cls("test_all").mktemp()).absolute()
        directory.mkdir(parents=True)
        cls.valkey = SentinelProcess("valkey", free_port(), directory)
        cls.valkey.start()

    @classmethod
    def tearDownClass(cls) -> None:
        """Stop Valkey."""
        cls.valkey.stop()

    def test_all(self) -> None:
        """Each command of each case has the same reply, or its difference is listed."""
        different: list[str] = []
        unused = set(DELIBERATE)
        for case, script in cases():
            for command, expected, actual in self.run_case(script):
                if expected == actual:
                    continue
                if (case, command) in DELIBERATE:
                    unused.discard((case, command))
                    continue
                different.append(f"{case}: {command}\n  Valkey {expected}\n  actual {actual}")
        self.assertEqual(different, [], "\n" + "\n".join(different))
        self.assertEqual(unused, set(), "listed differences that did not occur")

    def run_case(self, script: list[str]) -> list[tuple[str, object, object]]:
        """Run a case; return its commands with both replies."""
        harness = ServerHarness()
        port = self.valkey.port
        valkey: dict[str, ValkeyConnection] = {}
        own: dict[str, OwnConnection] = {}
        results: list[tuple[str, object, object]] = []
        try:
            for command in script:
                number, _, rest = command.partition(" ")
                number, rest = (number, rest) if number in ("1", "2", "3") else ("0", command)
                if number not in valkey:
                    valkey[number], own[number] = ValkeyConnection(port), OwnConnection(harness.connect())
                words = [word.replace("·", " ") for word in rest.split(" ")]
                several = words[0].lower() in ("subscribe", "psubscribe", "unsubscribe")
                count = max(len(words) - 1, 1) if several else 1
                expected, actual = valkey[number].replies(count, *words), own[number].replies(count, *words)
                if words[:2] == ["ACL", "CAT"] and len(words) == 3:
                    expected, actual = self.common(expected, actual)
                results.append((command, masked(expected), masked(actual)))
        finally:
            # It authenticates by itself, because ``default`` may be disabled.
            cleaner = valkey.setdefault("0", ValkeyConnection(port))
            names = cleaner.reply("ACL", "USERS")
            assert isinstance(names, list), names
            cleaner.reply("ACL", "SETUSER", "default", "on", "nopass")
            cleaner.reply("ACL", "DELUSER", "nobody", *(name.decode() for name in names if name != b"default"))
            cleaner.reply("ACL", "LOG", "RESET")
            for connection in valkey.values():
                connection.close()
        return results

    @staticmethod
    def common(expected: list[object], actual: list[object]) -> tuple[list[object], list[object]]:
        """Sort two lists of names, without names that this server lacks."""
        if isinstance(expected[0], list) and isinstance(actual[0], list):
            names = sorted(actual[0])
            return [sorted(name for name in expected[0] if name in names)], [names]
        return expected, actual
