"""The COMMAND container: shows the table of commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server import helptexts
from txsentinel.server.arguments import syntax_error
from txsentinel.server.documentation import documentation
from txsentinel.server.handlers import CommandModule
from txsentinel.server.replies import NO_REPLY, Reply, Steps, Stepwise
from txsentinel.server.specification import Argument, Command, multiple, oneof, optional, text_argument
from txsentinel.server.steps import portions
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import Raw, SetReply, Simple, Value, data, encode, text

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.services import TableServices
    from txsentinel.server.table import CommandTable

UNORDERED = ("nondeterministic_output_order",)
NAMES = (optional(multiple(text_argument("command-name"))),)

table_command = partial(
    Command,
    flags=("loading", "stale"),
    categories=("slow", "connection"),
    group="server",
)


def describe_all(services: TableServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return ten elements for each command."""
    entries = services.table.listed()
    return Raw(
        b"*%d\r\n" % len(entries) + b"".join(_encoded(services.table, entry, client.protocol) for entry in entries)
    )


def command_info(services: TableServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a description or null for each name; without names, all commands."""
    if len(request) == 2:
        return describe_all(services, client, request)
    table, protocol = services.table, client.protocol

    def steps() -> Steps:
        yield b"*%d\r\n" % (len(request) - 2)
        for portion in portions(request, 2):
            yield b"".join(_encoded(table, table.named(name), protocol) for name in portion)
        return NO_REPLY

    return Stepwise(steps())


def command_count(services: TableServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the number of commands, without subcommands."""
    return len(services.table.listed())


def command_list(services: TableServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return names, those of subcommands as ``container|sub``. There are no modules."""
    if len(request) == 2:
        return [entry.name for entry in services.table.everything()]
    if len(request) != 5 or request[2].lower() != b"filterby":
        raise syntax_error()
    criterion, value = request[3].lower(), request[4]
    if criterion == b"module":
        return []
    if criterion == b"aclcat":
        category = text(value).lower()
        return [entry.name for entry in services.table.everything() if category in entry.categories]
    if criterion == b"pattern":
        return [e.name for e in services.table.everything() if glob_match(value, data(e.name), nocase=True)]
    raise syntax_error()


def command_docs(services: TableServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map from names to documentation, without unknown names."""

    def steps() -> Steps:
        found: dict[str, Command] = {}
        for portion in portions(request, 2):
            for name in portion:
                entry = services.table.named(name)
                if entry is not None:
                    found[entry.name] = entry
            yield b""
        documented: dict[str, Value] = {}
        for entry in found.values() if len(request) > 2 else services.table.listed():
            documented.update(documentation(services.table, [entry]))
            yield b""
        return documented

    return Stepwise(steps())


def getkeys(services: TableServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Refuse every request, because no command has keys."""
    if services.table.find(request[2:]) is None:
        raise CommandError("ERR Invalid command specified")
    raise CommandError("ERR The command has no key arguments")


def command_help(services: TableServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines of the help text."""
    return helptexts.COMMAND


def _encoded(table: CommandTable, entry: Command | None, protocol: int) -> bytes:
    """Return the encoded description of a command, null for an unknown one."""
    known = table.descriptions.get((entry, protocol))
    if known is None:
        known = encode(None if entry is None else _description(table, entry), protocol)
        table.descriptions[entry, protocol] = known
    return known


def _description(table: CommandTable, entry: Command) -> Value:
    """Return name, arity, flags, three zeros for keys, categories, tips, no key specifications, subcommands."""
    inner = [_description(table, each) for each in table.subcommands(entry) if not each.hidden]
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


COMMANDS: Final[CommandModule[TableServices]] = {
    table_command(
        "command",
        arity=-1,
        since="2.8.13",
        summary="Returns information about all commands",
        complexity="O(N)",
        tips=UNORDERED,
    ): describe_all,
    table_command(
        "command|info",
        arity=-2,
        since="2.8.13",
        summary="Returns information about commands",
        complexity="O(N)",
        tips=UNORDERED,
        arguments=NAMES,
        history=(("7.0.0", "Accepts names of subcommands."),),
    ): command_info,
    table_command("command|count", arity=2, since="2.8.13", summary="Returns the number of commands"): command_count,
    table_command(
        "command|list",
        arity=-2,
        since="7.0.0",
        summary="Returns the names of commands",
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
    ): command_list,
    table_command(
        "command|docs",
        arity=-2,
        since="7.0.0",
        summary="Returns the documentation of commands",
        complexity="O(N)",
        tips=UNORDERED,
        arguments=NAMES,
    ): command_docs,
    table_command(
        "command|getkeys",
        arity=-3,
        since="2.8.13",
        summary="Extracts the key names from a command; no command of a Sentinel has any",
        arguments=(text_argument("command"), optional(multiple(text_argument("arg")))),
    ): getkeys,
    table_command(
        "command|getkeysandflags",
        arity=-3,
        since="7.0.0",
        summary="Extracts the key names and their access flags; no command of a Sentinel has any",
        arguments=(text_argument("command"), optional(multiple(text_argument("arg")))),
    ): getkeys,
    table_command(
        "command|help", arity=2, since="5.0.0", summary="Returns the help text of the subcommands"
    ): command_help,
}
