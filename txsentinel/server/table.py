"""
The table of commands. COMMAND, the arity check, the ACL and the execution of requests use it.

A command states its words, arity, flags and categories beside its body, with :func:`command`;
importing the module enters it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from txsentinel.config.errors import ConfigError
from txsentinel.core.errors import CommandError
from txsentinel.server.replies import Reply
from txsentinel.server.syntax import Argument
from txsentinel.wire.resp import data

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext

CommandFunction: TypeAlias = "Callable[[ServerContext, Client, Sequence[bytes]], Reply]"
"""
Takes the whole request, ``request[0]`` being the command word as it was sent.

Returns a value for ``resp.encode``, a :class:`~txsentinel.server.replies.DurableReply`, or ``NO_REPLY``;
raises ``CommandError`` to refuse.
"""

BOTH_WORDS: Final = 2
"""Number of words that name a subcommand: its container's and its own."""


@dataclass(slots=True, eq=False)
class Command:
    """
    One command or subcommand.

    ``arity`` counts all words of the request, the container's included; a negative one is a minimum.
    ``acts`` marks a command that can cause decisions of the core; ``hidden`` one that COMMAND does not list.
    """

    name: str
    """In lower case; ``container|sub`` for a subcommand."""

    function: CommandFunction
    arity: int
    flags: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    since: str = "1.0.0"
    summary: str = ""
    group: str = "connection"
    complexity: str = "O(1)"
    tips: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    deprecated_since: str = ""
    replaced_by: str = ""
    acts: bool = False
    hidden: bool = False
    alias_of: str = ""
    """The full name of the command of which this is an alias, with the same ACL rules."""

    subcommands: dict[bytes, Command] = field(default_factory=dict)
    """Lower-case second word → subcommand; empty unless the command is a container."""

    special: bool = field(init=False)
    """Whether the connection must check for a login or for decisions of the core after the command."""

    rights: str = field(init=False)
    """The name that ACL rules use for it: its own, or that of the command of which it is an alias."""

    no_auth: bool = field(init=False)
    allowed_while_subscribed: bool = field(init=False)
    """Whether a RESP2 client with subscriptions may execute it."""

    def __post_init__(self) -> None:
        """Compute the properties that every request reads."""
        self.rights = self.alias_of or self.name
        self.no_auth = "no_auth" in self.flags
        self.special = self.acts or self.no_auth
        self.allowed_while_subscribed = self.name in WHILE_SUBSCRIBED

    def accepts(self, count: int) -> bool:
        """Whether ``count`` is a valid number of words, the command's own included."""
        return count == self.arity if self.arity >= 0 else count >= -self.arity


WHILE_SUBSCRIBED: Final = frozenset({"subscribe", "psubscribe", "unsubscribe", "punsubscribe", "ping", "quit"})


class CommandTable:
    """Commands by their lower-case words."""

    def __init__(self) -> None:
        self.by_word: dict[bytes, Command] = {}

    def add(self, words: Sequence[str], entry: Command) -> None:
        """
        Add a command, or a subcommand to its container, which must have been added before.

        :raises ValueError: if there is a command with these words.
        """
        keys = [data(word.lower()) for word in words]
        keywords = self.by_word if len(keys) < BOTH_WORDS else self.by_word[keys[0]].subcommands
        if keys[-1] in keywords:
            raise ValueError(f"two commands are called {entry.name}")
        keywords[keys[-1]] = entry

    def find(self, request: Sequence[bytes]) -> Command | None:
        """Return the command or subcommand that the first words of a request name, or ``None``."""
        entry = self.by_word.get(request[0].lower())
        if entry is None or not entry.subcommands or len(request) < BOTH_WORDS:
            return entry
        return entry.subcommands.get(request[1].lower())

    def renamed(self, words: Mapping[str, str]) -> CommandTable:
        """
        Return a table with the same commands under other names, as ``rename-command`` demands.

        :param words: command → its new name; an empty one removes the command.
        :raises ConfigError: if there is no such command.
        """
        table = CommandTable()
        table.by_word = dict(self.by_word)
        for old, new in words.items():
            entry = table.by_word.pop(data(old.lower()), None)
            if entry is None:
                raise ConfigError("No such command in rename-command")
            if new:
                table.by_word[data(new.lower())] = entry
        return table

    def named(self, name: bytes) -> Command | None:
        """Return the command with a name as in COMMAND INFO, ``ping`` or ``sentinel|masters``, in any letter case."""
        words = name.lower().split(b"|")
        if not words[1:]:
            entry = self.by_word.get(words[0])
        elif len(words) == BOTH_WORDS:
            container = self.by_word.get(words[0])
            entry = None if container is None else container.subcommands.get(words[1])
        else:
            return None
        return None if entry is None or entry.hidden else entry

    def listed(self) -> list[Command]:
        """Return the commands that COMMAND lists, without subcommands."""
        return [entry for entry in self.by_word.values() if not entry.hidden]

    def everything(self) -> Iterator[Command]:
        """Yield the commands that COMMAND lists, each followed by its subcommands."""
        for entry in self.listed():
            yield entry
            yield from (each for each in entry.subcommands.values() if not each.hidden)


TABLE: Final = CommandTable()


def command(
    *words: str,
    arity: int,
    since: str,
    summary: str,
    flags: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    group: str = "connection",
    complexity: str = "O(1)",
    tips: tuple[str, ...] = (),
    arguments: tuple[Argument, ...] = (),
    history: tuple[tuple[str, str], ...] = (),
    deprecated_since: str = "",
    replaced_by: str = "",
    acts: bool = False,
    hidden: bool = False,
    alias_of: str = "",
) -> Callable[[CommandFunction], CommandFunction]:
    """
    Add the decorated function to :data:`TABLE` under its words.

    :param words: the command's word, or its container's and its own.
    :param categories: ACL categories without the ``@``.
    :param alias_of: the full name of the command of which this is an alias, with the same ACL rules.
    """

    def enter(function: CommandFunction) -> CommandFunction:
        entry = Command(
            "|".join(words).lower(),
            function,
            arity,
            flags,
            categories,
            since,
            summary,
            group,
            complexity,
            tips,
            arguments,
            history,
            deprecated_since,
            replaced_by,
            acts,
            hidden,
            alias_of,
        )
        TABLE.add(words, entry)
        return function

    return enter


def _only_subcommands(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Refuse a container without a subcommand. The arity check refuses it before."""
    raise CommandError("ERR syntax error")


def container(
    word: str,
    *,
    arity: int,
    since: str,
    summary: str,
    flags: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    group: str = "connection",
) -> None:
    """Add a command that consists of subcommands only."""
    complexity = "Depends on subcommand."
    TABLE.add(
        (word,), Command(word.lower(), _only_subcommands, arity, flags, categories, since, summary, group, complexity)
    )
