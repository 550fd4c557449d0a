"""The table of commands, in which requests, COMMAND and ACL rules look a command up by its words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from txsentinel.config.errors import ConfigError
from txsentinel.server.specification import Command
from txsentinel.wire.resp import data

BOTH_WORDS: Final = 2
"""Number of words that name a subcommand: its container's and its own."""


class CommandTable:
    """Commands by their lower-case words."""

    def __init__(self) -> None:
        self.by_word: dict[bytes, Command] = {}
        self._subcommands: dict[Command, dict[bytes, Command]] = {}
        """Command → its subcommands by their second word; none unless it is a container."""

        self._found: dict[bytes, tuple[Command, dict[bytes, Command]]] = {}
        """The command and its subcommands by its first word, for :meth:`find`."""

        self._names: dict[str, list[str]] = {}
        """Name that ACL rules use → all names of the command."""

        self.descriptions: dict[tuple[Command | None, int], bytes] = {}
        """Cache of COMMAND: command and protocol version → the encoded description, that of ``None`` for no command."""

    def add(self, entry: Command) -> None:
        """
        Add a command, or a subcommand to its container, which must have been added before.

        :raises ValueError: if there is a command with this name, or no such container.
        """
        words = data(entry.name).split(b"|")
        if len(words) < BOTH_WORDS:
            keywords = self.by_word
        elif words[0] in self.by_word:
            keywords = self._subcommands[self.by_word[words[0]]]
        else:
            raise ValueError(f"{entry.name} has no container")
        if words[-1] in keywords:
            raise ValueError(f"two commands are called {entry.name}")
        keywords[words[-1]] = entry
        if len(words) < BOTH_WORDS:
            self._subcommands[entry] = {}
            self._found[words[0]] = entry, self._subcommands[entry]
        self._names.setdefault(entry.acl_name, []).append(entry.name)

    def find(self, request: Sequence[bytes]) -> Command | None:
        """Return the command or subcommand that the first words of a request name, or ``None``."""
        found = self._found.get(request[0].lower())
        if found is None:
            return None
        entry, subcommands = found
        if not subcommands or len(request) < BOTH_WORDS:
            return entry
        return subcommands.get(request[1].lower())

    def renamed(self, words: Mapping[str, str]) -> CommandTable:
        """
        Return a table with the same commands under other names, as ``rename-command`` demands.

        :param words: command → its new name; an empty one removes the command.
        :raises ConfigError: if there is no such command.
        """
        table = CommandTable()
        table.by_word = dict(self.by_word)
        table._subcommands, table._names = self._subcommands, self._names
        for old, new in words.items():
            entry = table.by_word.pop(data(old.lower()), None)
            if entry is None:
                raise ConfigError("No such command in rename-command")
            if new:
                table.by_word[data(new.lower())] = entry
        table._found = {word: (entry, self._subcommands[entry]) for word, entry in table.by_word.items()}
        return table

    def named(self, name: bytes) -> Command | None:
        """Return the command with a name as in COMMAND INFO, ``ping`` or ``sentinel|masters``, in any letter case."""
        words = name.lower().split(b"|")
        entry = self.by_word.get(words[0])
        if len(words) == BOTH_WORDS and entry is not None:
            entry = self._subcommands[entry].get(words[1])
        return None if entry is None or entry.hidden or len(words) > BOTH_WORDS else entry

    def subcommands(self, entry: Command) -> Collection[Command]:
        """Return the subcommands of a command, none unless it is a container."""
        return self._subcommands.get(entry, {}).values()

    def listed(self) -> list[Command]:
        """Return the commands that COMMAND lists, without subcommands."""
        return [entry for entry in self.by_word.values() if not entry.hidden]

    def everything(self) -> Iterator[Command]:
        """Yield the commands that COMMAND lists, each followed by its subcommands."""
        for entry in self.listed():
            yield entry
            yield from (each for each in self.subcommands(entry) if not each.hidden)

    def all_commands(self) -> Iterator[Command]:
        """Yield all commands, those that COMMAND does not list included, each followed by its subcommands."""
        for entry in self.by_word.values():
            yield entry
            yield from self.subcommands(entry)

    def names_of(self, acl_name: str) -> Sequence[str]:
        """Return all names of a command, its aliases included, given the name that ACL rules use."""
        return self._names.get(acl_name, [acl_name])


def build_table(*modules: Iterable[Command]) -> CommandTable:
    """
    Return the table with the commands of all modules, in their order.

    :raises ValueError: if two commands have the same name, or a subcommand precedes its container.
    """
    table = CommandTable()
    for module in modules:
        for entry in module:
            table.add(entry)
    return table
