"""
The specification of a command: what COMMAND shows, ACL rules name and the arity check reads.

It is plain data. The modules in ``commands/`` map each specification to the function that executes the command.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Argument:
    """
    One argument, or a group of them.

    ``kind`` is the word of COMMAND DOCS: string, integer, pattern, pure-token, oneof or block.
    """

    name: str
    kind: str = "string"
    token: str = ""
    since: str = ""
    deprecated_since: str = ""
    optional: bool = False
    multiple: bool = False
    multiple_token: bool = False
    display: str = ""
    """The name to display, if it is not ``name``."""

    parts: tuple[Argument, ...] = ()

    @property
    def is_group(self) -> bool:
        """Whether it consists of other arguments."""
        return self.kind in ("oneof", "block")

    @property
    def flags(self) -> list[str]:
        """The flags in wire order."""
        named = (
            (self.optional, "optional"),
            (self.multiple, "multiple"),
            (self.multiple_token, "multiple_token"),
        )
        return [word for holds, word in named if holds]


def text_argument(name: str, *, token: str = "", since: str = "", display: str = "") -> Argument:
    """Return an argument with any text."""
    return Argument(name, token=token, since=since, display=display)


def integer_argument(name: str, *, token: str = "", since: str = "") -> Argument:
    """Return an integer argument."""
    return Argument(name, "integer", token, since)


def word(token: str, *, since: str = "") -> Argument:
    """Return a fixed word, in any letter case."""
    return Argument(token.lower(), "pure-token", token, since)


def oneof(name: str, *parts: Argument, token: str = "", since: str = "") -> Argument:
    """Return a group of which exactly one part is given."""
    return Argument(name, "oneof", token, since, parts=parts)


def block(name: str, *parts: Argument, token: str = "", since: str = "") -> Argument:
    """Return a group of which all parts are given, in order."""
    return Argument(name, "block", token, since, parts=parts)


def optional(argument: Argument) -> Argument:
    """Return a copy of the argument that may be omitted."""
    return replace(argument, optional=True)


def multiple(argument: Argument) -> Argument:
    """Return a copy of the argument that may be repeated."""
    return replace(argument, multiple=True)


WHILE_SUBSCRIBED: Final = frozenset({"subscribe", "psubscribe", "unsubscribe", "punsubscribe", "ping", "quit"})
"""Names of the commands that a RESP2 client with subscriptions may send."""


@dataclass(slots=True, eq=False)
class Command:
    """
    The specification of one command or subcommand.

    ``arity`` counts all words of the request, the container's included; a negative one is a minimum.
    ``categories`` are ACL categories without the ``@``. ``acts`` marks a command that can cause decisions of the core;
    ``hidden`` one that COMMAND does not list.
    """

    name: str
    """In lower case; ``container|sub`` for a subcommand."""

    arity: int
    since: str
    summary: str
    flags: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    group: str = "connection"
    complexity: str = "O(1)"
    tips: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    deprecated_since: str = ""
    replaced_by: str = ""
    acts: bool = False
    hidden: bool = False
    max_words: int = 0
    """The maximum number of words of the request, 0 for any: its options are processed in one step."""

    alias_of: str = ""
    """The full name of the command of which this is an alias, with the same ACL rules."""

    special: bool = field(init=False)
    """Whether the connection must check for a login or for decisions of the core after the command."""

    acl_name: str = field(init=False)
    """The name that ACL rules use for it: its own, or that of the command of which it is an alias."""

    no_auth: bool = field(init=False)
    allowed_while_subscribed: bool = field(init=False)
    """Whether a RESP2 client with subscriptions may execute it."""

    def __post_init__(self) -> None:
        """Compute the properties that every request reads."""
        self.acl_name = self.alias_of or self.name
        self.no_auth = "no_auth" in self.flags
        self.special = self.acts or self.no_auth
        self.allowed_while_subscribed = self.name in WHILE_SUBSCRIBED

    def accepts(self, count: int) -> bool:
        """Whether ``count`` is a valid number of words, the command's own included."""
        if self.arity >= 0:
            return count == self.arity
        return count >= -self.arity and not 0 < self.max_words < count


def container(
    name: str,
    *,
    arity: int,
    since: str,
    summary: str,
    flags: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    group: str = "connection",
    hidden: bool = False,
) -> Command:
    """Return the specification of a command that consists of subcommands only."""
    return Command(name, arity, since, summary, flags, categories, group, "Depends on subcommand.", hidden=hidden)
