"""The reply of COMMAND DOCS: nested maps without empty fields."""

from __future__ import annotations

from collections.abc import Iterable

from txsentinel.server.specification import Argument, Command
from txsentinel.server.table import CommandTable
from txsentinel.wire.resp import SetReply, Simple, Value


def documentation(table: CommandTable, entries: Iterable[Command]) -> dict[str, Value]:
    """Return the documentation of commands by name."""
    return {entry.name: _entry(table, entry) for entry in entries}


def _entry(table: CommandTable, entry: Command) -> dict[str, Value]:
    deprecated = bool(entry.deprecated_since)
    subcommands = [each for each in table.subcommands(entry) if not each.hidden]
    return _without_empty(
        {
            "summary": entry.summary,
            "since": entry.since,
            "group": entry.group,
            "complexity": entry.complexity,
            "doc_flags": SetReply([Simple("deprecated")]) if deprecated else None,
            "deprecated_since": entry.deprecated_since,
            "replaced_by": entry.replaced_by,
            "history": SetReply(entry.history) if entry.history else None,
            "arguments": [_argument(each) for each in entry.arguments],
            "subcommands": documentation(table, subcommands),
        }
    )


def _argument(argument: Argument) -> dict[str, Value]:
    flags = argument.flags
    return _without_empty(
        {
            "name": argument.name,
            "type": argument.kind,
            "display_text": "" if argument.is_group else argument.display or argument.name,
            "token": argument.token,
            "since": argument.since,
            "deprecated_since": argument.deprecated_since,
            "flags": SetReply([Simple(flag) for flag in flags]) if flags else None,
            "arguments": [_argument(each) for each in argument.parts],
        }
    )


def _without_empty(pairs: dict[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in pairs.items() if value}
