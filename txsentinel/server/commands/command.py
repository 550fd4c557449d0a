"""The COMMAND container: shows the table of commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server import helptexts
from txsentinel.server.arguments import syntax_error
from txsentinel.server.documentation import documentation
from txsentinel.server.replies import NO_REPLY, Reply, Steps, Stepwise
from txsentinel.server.steps import portions
from txsentinel.server.syntax import Argument, multiple, oneof, optional, text_argument
from txsentinel.server.table import Command, command
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import Raw, SetReply, Simple, Value, data, encode, text

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext

UNORDERED = ("nondeterministic_output_order",)
NAMES = (optional(multiple(text_argument("command-name"))),)

shown = partial(
    command,
    "COMMAND",
    flags=("loading", "stale"),
    categories=("slow", "connection"),
    group="server",
)


@shown(arity=-1, since="2.8.13", summary="Describes all commands", complexity="O(N)", tips=UNORDERED)
def describe_all(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return ten elements for each command."""
    entries = context.table.listed()
    return Raw(b"*%d\r\n" % len(entries) + b"".join(_encoded(entry, client.protocol) for entry in entries))


@shown(
    "INFO",
    arity=-2,
    since="2.8.13",
    summary="Describes commands",
    complexity="O(N)",
    tips=UNORDERED,
    arguments=NAMES,
    history=(("7.0.0", "Describes subcommands."),),
)
def command_info(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a description or null for each name; without names, all commands."""
    if len(request) == 2:
        return describe_all(context, client, request)
    protocol = client.protocol

    def steps() -> Steps:
        yield b"*%d\r\n" % (len(request) - 2)
        for portion in portions(request, 2):
            found = (context.table.named(name) for name in portion)
            yield b"".join(_encoded(entry, protocol) for entry in found)
        return NO_REPLY

    return Stepwise(steps())


@shown("COUNT", arity=2, since="2.8.13", summary="Counts the commands")
def command_count(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the number of commands, without subcommands."""
    return len(context.table.listed())


@shown(
    "LIST",
    arity=-2,
    since="7.0.0",
    summary="Lists the names of commands",
    complexity="O(N)",
    tips=UNORDERED,
    arguments=(
        optional(
            oneof(
                "filterby",
                text_argument("module-name", token="MODULE"),
                text_argument("category", token="ACLCAT"),
                Argument("pattern", "pattern", "PATTERN"),
                token="FILTERBY",
            )
        ),
    ),
)
def command_list(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return names, those of subcommands as ``container|sub``. There are no modules."""
    if len(request) == 2:
        return [entry.name for entry in context.table.everything()]
    if len(request) != 5 or request[2].lower() != b"filterby":
        raise syntax_error()
    criterion, value = request[3].lower(), request[4]
    if criterion == b"module":
        return []
    if criterion == b"aclcat":
        category = text(value).lower()
        return [entry.name for entry in context.table.everything() if category in entry.categories]
    if criterion == b"pattern":
        return [e.name for e in context.table.everything() if glob_match(value, data(e.name), nocase=True)]
    raise syntax_error()


@shown(
    "DOCS", arity=-2, since="7.0.0", summary="Documents commands", complexity="O(N)", tips=UNORDERED, arguments=NAMES
)
def command_docs(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map from names to documentation, without unknown names."""

    def steps() -> Steps:
        found: dict[str, Command] = {}
        for portion in portions(request, 2):
            for name in portion:
                entry = context.table.named(name)
                if entry is not None:
                    found[entry.name] = entry
            yield b""
        documented: dict[str, Value] = {}
        for entry in found.values() if len(request) > 2 else context.table.listed():
            documented.update(documentation([entry]))
            yield b""
        return documented

    return Stepwise(steps())


@shown(
    "GETKEYS",
    arity=-3,
    since="2.8.13",
    summary="Tells the keys in a command",
    arguments=(text_argument("command"), optional(multiple(text_argument("arg")))),
)
def getkeys(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Refuse every request, because no command has keys."""
    if context.table.find(request[2:]) is None:
        raise CommandError("ERR Invalid command specified")
    raise CommandError("ERR The command has no key arguments")


@shown(
    "GETKEYSANDFLAGS",
    arity=-3,
    since="7.0.0",
    summary="Tells the keys in a command, and what is done to them",
    arguments=(text_argument("command"), optional(multiple(text_argument("arg")))),
)
def getkeysandflags(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Refuse every request, because no command has keys."""
    return getkeys(context, client, request)


@shown("HELP", arity=2, since="5.0.0", summary="Explains the subcommands")
def command_help(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines of the help text."""
    return helptexts.COMMAND


_ENCODED: Final[dict[tuple[Command | None, int], bytes]] = {}
"""Cache: command and protocol version → the encoded description."""


def _encoded(entry: Command | None, protocol: int) -> bytes:
    """Return the encoded description of a command, null for an unknown one."""
    known = _ENCODED.get((entry, protocol))
    if known is None:
        known = _ENCODED[entry, protocol] = encode(None if entry is None else _description(entry), protocol)
    return known


def _description(entry: Command) -> Value:
    """Return name, arity, flags, three zeros for keys, categories, tips, no key specifications, subcommands."""
    inner = [_description(each) for each in entry.subcommands.values() if not each.hidden]
    return [
        entry.name,
        entry.arity,
        _words(entry.flags),
        0,
        0,
        0,
        _words(f"@{category}" for category in entry.categories),
        SetReply(entry.tips),
        SetReply([]),
        inner or SetReply([]),
    ]


def _words(words: Iterable[str]) -> SetReply:
    return SetReply([Simple(word) for word in words])
