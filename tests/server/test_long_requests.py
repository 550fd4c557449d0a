"""
Tests that no command delays other clients, however many arguments it has.

Every command is run with growing lists of arguments and a clock that advances with the work: each executed line of
the server, the core and the readers counts, and each argument that is copied or inspected. The work between two
turns of the reactor must not grow with the list, and the total work must grow linearly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import txsentinel
from tests.server.harness import FakeHost, ServerHarness, ServerTestCase
from txsentinel.core.kept_text import KeptText
from txsentinel.model.timings import Millis
from txsentinel.server.all_commands import TABLE
from txsentinel.server.commands import pubsub as pubsub_commands
from txsentinel.server.specification import Argument, Command

SHORT: Final = 400
LONG: Final = 4 * SHORT
"""Lengths of the two lists whose costs are compared; the shorter one takes several slices already."""

UNITS_PER_MS: Final = 100
"""Units of work per millisecond of the fake clock."""

COPIES_PER_UNIT: Final = 16
"""Arguments copied in one operation that cost as much as one executed line."""

SOURCES: Final = os.path.dirname(txsentinel.__file__)


class Work:
    """Counts the work that is done."""

    def __init__(self) -> None:
        self.units = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the lines that are executed inside the block."""

        def line(frame: FrameType, event: str, argument: object) -> Any:
            self.units += event == "line"
            return line

        def call(frame: FrameType, event: str, argument: object) -> Any:
            return line if frame.f_code.co_filename.startswith(SOURCES) else None

        before = sys.gettrace()
        sys.settrace(call)
        try:
            yield
        finally:
            sys.settrace(before)


class CountedArguments(list[bytes]):
    """A request whose slices and iterations count as work."""

    work: Work

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        if isinstance(where, slice):
            self.work.units += len(found) / COPIES_PER_UNIT
            return counted_arguments(found, self.work)
        return found

    def __iter__(self) -> Iterator[bytes]:
        for each in super().__iter__():
            self.work.units += 1 / COPIES_PER_UNIT
            yield each


def counted_arguments(words: Iterable[bytes], work: Work) -> CountedArguments:
    """Return the arguments as a list that counts in ``work``."""
    counted = CountedArguments(words)
    counted.work = work
    return counted


class WorkingHost(FakeHost):
    """A host whose clock advances with the work."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def now(self) -> Millis:
        """Milliseconds of the reactor's clock, plus the work."""
        return super().now() + int(self.work.units / UNITS_PER_MS)

    def next_call(self) -> None:
        """Run the next due call, and no other."""
        call = self.reactor.calls.pop(0)
        call.called = 1
        call.func(*call.args, **call.kw)


class Cost:
    """Cost of one request: in total, the maximum between two turns of the reactor, and the number of turns."""

    def __init__(self) -> None:
        self.total = 0.0
        self.max_cost = 0.0
        self.turns = 0

    def add(self, units: float) -> None:
        """Add one turn."""
        self.turns += 1
        self.total += units
        self.max_cost = max(self.max_cost, units)


def repeated(*words: str) -> Callable[[int], list[bytes]]:
    """Return the same arguments repeated."""
    return lambda count: [words[at % len(words)].encode() for at in range(count)]


def numbered(form: str, before: Sequence[str] = ()) -> Callable[[int], list[bytes]]:
    """Return arguments that are all different, each preceded by ``before``."""
    return lambda count: [
        word.encode() for at in range(1, count // (1 + len(before)) + 1) for word in (*before, form.format(at))
    ]


SHAPES: Final[tuple[Callable[[int], list[bytes]], ...]] = (
    repeated("x"),
    repeated(""),
    repeated("1"),
    numbered("{}"),
    numbered("word{}"),
)
"""Lists of arguments that every command is run with."""

OWN_SHAPES: Final[dict[str, tuple[tuple[tuple[str, ...], Callable[[int], list[bytes]]], ...]]] = {
    "hello": ((("3",), repeated("SETNAME", "me")), (("3",), repeated("AUTH", "default", "x"))),
    "info": (((), repeated("server", "clients", "everything")),),
    "client|list": (
        (("ID",), numbered("{}")),
        ((), numbered("{}", ("ID",))),
        ((), numbered("{}", ("NOT-ID",))),
        ((), repeated("NAME", "x", "IDLE", "1")),
    ),
    "client|kill": ((("ID",), numbered("99{}")), ((), numbered("99{}", ("ID",)))),
    "client|tracking": ((("on", "bcast"), numbered("p{}-", ("PREFIX",))), (("on",), repeated("NOLOOP", "OPTIN"))),
    "command|info": (((), repeated("sentinel", "ping", "client|list")),),
    "command|docs": (((), repeated("sentinel", "ping", "client|list")),),
    "sentinel|set": ((("mymaster",), repeated("quorum", "2", "parallel-syncs", "3")),),
    "sentinel|config": ((("GET",), repeated("*", "a*")), (("SET",), repeated("announce-ip", "1.2.3.4"))),
    "sentinel|debug": (((), repeated("info-period", "10000")),),
    "sentinel|simulate-failure": (((), repeated("crash-after-election")),),
    "sentinel|info-cache": (((), repeated("mymaster", "other")),),
    "acl|setuser": (
        (("u",), repeated("+ping", "-@all", "+sentinel", "+client|list")),
        (("u",), numbered("&c{}")),
        (("u",), numbered("+ping|w{}")),
        (("u",), repeated("(+ping)")),
        (("u", "(+ping"), repeated("+ping")),
    ),
    "acl|deluser": (((), repeated("u", "v")), ((), repeated("default"))),
    "acl|dryrun": ((("limited", "subscribe"), repeated("a")), (("limited", "psubscribe"), repeated("p*"))),
    "shutdown": (((), repeated("nosave", "now")),),
}
"""Argument lists of single commands: leading arguments, and the list behind them."""


def name_parts(command: Command) -> list[bytes]:
    """Return the parts of the command's name."""
    return [word.encode() for word in command.name.split("|")]


def takes_lists(command: Command) -> bool:
    """Whether the command takes a list without limit."""
    return command.arity < 0


class LongRequestTests(ServerTestCase):
    """All commands of the table."""

    def setUp(self) -> None:
        self.host = WorkingHost()
        self.harness = ServerHarness(host=self.host)
        self.harness.watch()
        self.admin = self.harness.connect()
        self.admin.ask("ACL", "SETUSER", "limited", "on", "nopass", "&a", "&b*", "+@all")

    def cost(self, words: Sequence[bytes], user: str = "") -> Cost:
        """Run a request on a new connection until it is answered; return its cost."""
        client = self.harness.connect()
        if user:
            client.ask("AUTH", user, "x")
        cost, work = Cost(), self.host.work
        request = counted_arguments(words, work)
        protocol = client.protocol

        def turn(call: Callable[[], object]) -> None:
            before = work.units
            with work.counted():
                call()
            cost.add(work.units - before)

        received = 0
        # The steps are counted, so the parsing of the request must not be among them.
        protocol.executor._turn_began = self.host.now()
        protocol.executor._postponed = request
        turn(protocol.executor._execute_all)
        # Whether a command continues in a later turn is not visible from outside.
        while protocol.executor._execution is not None and not client.closed:
            self.assertTrue(self.host.reactor.getDelayedCalls(), f"nobody goes on with {words[:3]!r}")
            received += len(client.wire.value())
            client.wire.clear()
            turn(self.host.next_call)
        self.harness.executor.drain()
        self.harness.save()
        received += len(client.wire.value())
        self.assertTrue(received or client.closed, words[:3])
        protocol.abort()
        return cost

    def check(self, name: str, head: Sequence[bytes], shape: Callable[[int], list[bytes]], **how: Any) -> Cost:
        """A list four times as long makes no turn longer, and multiplies the total by no more than its share."""
        short, long = (self.cost([*head, *shape(count)], **how) for count in (SHORT, LONG))
        label = f"{name} {[*head, *shape(4)]!r} {how}: {short.max_cost:.0f}, then {long.max_cost:.0f} units in one turn"
        # The ends of slices may differ, and so may the copies of arguments.
        self.assertLess(long.max_cost, 1.3 * short.max_cost + 400 + LONG / 8, label)
        self.assertLess(long.total, 6 * short.total + 3_000, f"{label}; {short.total:.0f}, then {long.total:.0f}")
        return long

    def commands(self) -> Iterator[Command]:
        """Return all commands, including hidden ones."""
        return TABLE.all_commands()

    def test_arbitrary_arguments(self) -> None:
        """Arbitrary arguments, numbers and empty ones: each command refuses them or works in slices."""
        for command in self.commands():
            for shape in SHAPES:
                self.check(command.name, name_parts(command), shape)

    def test_valid_arguments(self) -> None:
        """The same with arguments that are valid for the command."""
        for name, shapes in OWN_SHAPES.items():
            command = TABLE.named(name.encode())
            assert command is not None, name
            for front, shape in shapes:
                self.check(name, [*name_parts(command), *(word.encode() for word in front)], shape)

    def test_every_list_is_tried(self) -> None:
        """Every command whose documentation has a list is tried with valid arguments."""

        def has_list(arguments: Iterable[Argument]) -> bool:
            return any(each.multiple or has_list(each.parts) for each in arguments)

        unlimited = [command for command in self.commands() if not command.max_words]
        with_lists = {command.name for command in unlimited if has_list(command.arguments)}
        # Any arguments are valid for these.
        general = {"subscribe", "psubscribe", "unsubscribe", "punsubscribe", "command|getkeys"}
        general |= {"command|getkeysandflags", "acl|dryrun"}
        self.assertEqual(with_lists - general - set(OWN_SHAPES), set())

    def test_limited_users(self) -> None:
        """The channels of a limited user are checked in slices."""
        for command in (b"SUBSCRIBE", b"PSUBSCRIBE"):
            long = self.check("limited", [command], repeated("a"), user="limited")
            self.assertGreater(long.turns, 1 if command == b"SUBSCRIBE" else 0)

    def test_replies_off(self) -> None:
        """A client with replies switched off gets no part of a reply, but its subscription confirmations."""
        for mode in ("OFF", "SKIP"):
            client = self.harness.connect()
            client.send("CLIENT", "REPLY", mode)
            client.send("COMMAND", "INFO", *["ping"] * 500)
            self.assertEqual(client.raw(), b"")
            client.send("CLIENT", "REPLY", mode)
            client.send("UNSUBSCRIBE", *["a"] * 500)
            self.assertEqual(client.raw().count(b"unsubscribe"), 500)

    def test_lines_count(self) -> None:
        """A command that processes all its arguments at once is detected."""
        self.patch(pubsub_commands, "MAX_WITHOUT_STEPS", sys.maxsize)
        self.assertRaises(self.failureException, self.check, "at once", [b"UNSUBSCRIBE"], repeated("x"))

    def test_copies_count(self) -> None:
        """A command that copies the list repeatedly is detected."""

        def copying_handler(client: object, request: Sequence[bytes]) -> int:
            return len([word for word in request if word in request[:]])

        command = TABLE.named(b"command|count")
        assert command is not None
        self.harness.factory.handlers[command] = copying_handler
        self.patch(command, "arity", -2)
        self.assertRaises(self.failureException, self.check, "careless", [b"COMMAND", b"COUNT"], repeated("x"))


class LongReportTests(ServerTestCase):
    """Reports about many clients, masters, replicas and users."""

    def setUp(self) -> None:
        self.host = WorkingHost()
        self.harness = ServerHarness(host=self.host)

    def max_cost(self, *words: str) -> tuple[float, bytes]:
        """Return the most work in one turn, and the reply."""
        client = self.harness.connect()
        work, max_cost = self.host.work, 0.0
        before = work.units
        with work.counted():
            client.send(*words)
        max_cost = work.units - before
        # Whether a command continues in a later turn is not visible from outside.
        while client.protocol.executor._execution is not None:
            before = work.units
            with work.counted():
                self.host.next_call()
            max_cost = max(max_cost, work.units - before)
        reply = client.raw()
        client.protocol.abort()
        return max_cost, reply

    def compare(self, fill: Callable[[int], object], *requests: tuple[str, ...]) -> None:
        """Four times as many of what ``fill`` creates do not make a turn longer."""
        fill(100)
        before = {words: self.max_cost(*words) for words in requests}
        fill(300)
        for words, (units, reply) in before.items():
            more, longer = self.max_cost(*words)
            self.assertNotEqual(longer, reply, words)
            self.assertLess(more, 1.3 * units + 900, f"{words}: {units:.0f}, then {more:.0f} units in one turn")

    def test_clients(self) -> None:
        """``CLIENT LIST`` and ``INFO``."""

        def connect(count: int) -> None:
            for _ in range(count):
                self.harness.connect()

        self.compare(connect, ("CLIENT", "LIST"), ("INFO", "clients"))

    def test_masters(self) -> None:
        """``SENTINEL MASTERS``, ``INFO``, and ``SENTINEL RESET`` that matches none."""
        self.count = 0

        def watch(count: int) -> None:
            for _ in range(count):
                self.count += 1
                self.harness.core.administration.monitor(f"m{self.count}", "127.0.0.1", self.count, 2, self.host.now())
            self.harness.commit_all()

        self.compare(watch, ("SENTINEL", "MASTERS"), ("SENTINEL", "PRIMARIES"), ("INFO", "sentinel"))

    def test_reset(self) -> None:
        """``SENTINEL RESET`` resets one master after the other."""
        for number in range(1, 200):
            self.harness.core.administration.monitor(f"m{number}", "127.0.0.1", number, 2, self.host.now())
        self.harness.commit_all()
        units, reply = self.max_cost("SENTINEL", "RESET", "*")
        self.assertEqual(reply, b":199\r\n")
        self.assertLess(units, 9 * UNITS_PER_MS + 2_000)

    def test_replicas(self) -> None:
        """``SENTINEL REPLICAS`` and ``INFO-CACHE``."""
        master = self.harness.watch()
        self.count = 0

        def add(count: int) -> None:
            for _ in range(count):
                self.count += 1
                address = self.harness.core.registry.address("127.0.0.1", 10_000 + self.count)
                assert address is not None
                replica = self.harness.core.registry.add_replica(master, address, self.host.now())
                assert replica is not None
                replica.info_kept = KeptText(b"role:slave\r\n" * 10)
            self.harness.commit_all()

        self.compare(add, ("SENTINEL", "REPLICAS", "mymaster"), ("SENTINEL", "INFO-CACHE", "mymaster"))

    def test_users(self) -> None:
        """``ACL LIST``."""
        self.count = 0

        def add(count: int) -> None:
            client = self.harness.connect()
            for _ in range(count):
                self.count += 1
                client.ask("ACL", "SETUSER", f"u{self.count}", "on", "nopass", "+@all")

        self.compare(add, ("ACL", "LIST"))
