"""
One set of permissions, with the rules that change and describe it.

A user has one such set, the *root*, and perhaps further ones, its *selectors*. A request is allowed if any one of
them allows all of it. A Sentinel has no keys: rules about keys are parsed, stored and shown, and have no effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from txsentinel.server.specification import Command
from txsentinel.server.table import CommandTable
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import data, text

CATEGORIES: Final = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo",
    "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
)  # fmt: skip
"""In the order of ``ACL CAT``."""

SYNTAX_ERROR: Final = "Syntax error"
NO_SUCH_WORD: Final = "Unknown command or category name in ACL"
TOO_MANY_WORDS: Final = "Too many first arguments of one command"
NO_THIRD_WORD: Final = "Allowing first-arg of a subcommand is not supported"
_AFTER_ALL: Final = (
    "Adding a pattern after the * pattern (or the '{flag}' flag) is not valid and does not have any effect."
    " Try '{reset}' to start with an empty list of {things}"
)
KEYS_AFTER_ALL: Final = _AFTER_ALL.format(flag="allkeys", reset="resetkeys", things="patterns")
CHANNELS_AFTER_ALL: Final = _AFTER_ALL.format(flag="allchannels", reset="resetchannels", things="channels")

MAX_FIRST_WORDS: Final = 256
"""Maximum number of first arguments with which one command is allowed."""

_UNPRINTABLE: Final = re.compile(r"[ \t\n\v\f\r\0]")
_DATABASES: Final = re.compile(r"[0-9]{1,9}(?:,[0-9]{1,9})*", re.ASCII)


class RuleError(ValueError):
    """
    An invalid rule; ``str()`` has the reason.

    ``unknown`` marks well-formed rules that name an unknown command or category.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.unknown = reason == NO_SUCH_WORD


class Reason(Enum):
    """The reason of a refusal, in the words of ``ACL LOG``; a later one is more specific."""

    COMMAND = "command"
    CHANNEL = "channel"
    AUTH = "auth"
    CERTIFICATE = "tls-cert"


class Refusal(NamedTuple):
    """The reason why a request is refused, and the index of the word that caused it."""

    reason: Reason
    position: int


class KeyUse(Enum):
    """The access to the keys of a pattern; the value is the prefix of the rule."""

    READ = "%R~"
    WRITE = "%W~"
    BOTH = "~"

    def joined(self, other: KeyUse) -> KeyUse:
        """Return the union of both."""
        return self if self is other else KeyUse.BOTH


class _Channels(NamedTuple):
    """The words of a request that are channels, and whether they are patterns."""

    until: int | None
    patterns: bool = False


CHANNELS_AT_ONCE: Final = 64
"""Number of channels of one request that are checked in one step."""

_CHANNEL_WORDS: Final = {"subscribe": _Channels(None), "psubscribe": _Channels(None, True), "publish": _Channels(2)}


def has_white_space(word: str) -> bool:
    """Whether it contains white space or a NUL byte, which would split the word in a file."""
    return _UNPRINTABLE.search(word) is not None


def lowered(word: str) -> str:
    """Return the word with its ASCII letters in lower case."""
    return text(data(word).lower())


class Selector:
    """
    A set of permissions, empty at first.

    :param table: the commands that rules can name.
    :param all_channels: whether it begins with all Pub/Sub channels, for ``acl-pubsub-default allchannels``.
    """

    __slots__ = (
        "_allowed", "_commands", "_everything", "_first_word_rules", "_first_words", "_rules",
        "_table",
        "all_channels", "all_keys", "channels", "databases", "keys",
    )  # fmt: skip

    def __init__(self, table: CommandTable, all_channels: bool = False) -> None:
        self._table = table
        self.all_keys = False
        self.keys: dict[str, KeyUse] = {}
        self.all_channels = all_channels
        self.channels: dict[bytes, None] = {}
        self.databases: tuple[int, ...] | None = None
        """Numbers of the allowed databases, ``None`` for all; only Valkey 9 has such rules."""

        self._everything = False
        """Whether ``+@all`` was applied, and no command was forbidden since."""

        self._commands = False
        """Whether ``+@all`` was applied after ``-@all``."""

        self._allowed: set[str] = set()
        """Full names of the allowed commands; an alias has the rules of its command."""

        self._first_words: dict[str, list[bytes]] = {}
        """Commands that are allowed only with certain first arguments."""

        self._rules: dict[str, bool] = {}
        """The rules since ``+@all`` or ``-@all``, in the order of their output, and whether each allows or forbids."""

        self._first_word_rules: dict[str, None] = {}
        """Commands with rules about first arguments."""

    def copy(self) -> Selector:
        """Return an independent copy."""
        copy = Selector(self._table)
        copy.all_keys, copy.keys = self.all_keys, dict(self.keys)
        copy.all_channels, copy.channels = self.all_channels, dict(self.channels)
        copy.databases = self.databases
        copy._everything, copy._commands = self._everything, self._commands
        copy._allowed = set(self._allowed)
        copy._first_words = {name: list(words) for name, words in self._first_words.items()}
        copy._rules = dict(self._rules)
        copy._first_word_rules = dict(self._first_word_rules)
        return copy

    @property
    def size(self) -> int:
        """Number of keys, channels and rules about commands."""
        return len(self.keys) + len(self.channels) + len(self._rules)

    @property
    def unlimited(self) -> bool:
        """Whether all commands and all channels are allowed."""
        return self._everything and self.all_channels

    # Authorization of requests.

    def refusal(self, command: Command, request: Sequence[bytes]) -> Refusal | None:
        """
        Return why these permissions do not allow ``request``, which names ``command``; ``None`` if they do.

        Only the first :data:`CHANNELS_AT_ONCE` channels are checked. The command calls this again for the other
        channels of a longer request.
        """
        if not (self._everything or command.no_auth or self._permits(command, request)):
            return Refusal(Reason.COMMAND, 0)
        where = _CHANNEL_WORDS.get(command.name)
        if where is not None and not self.all_channels:
            for index, channel in enumerate(request[1 : where.until or CHANNELS_AT_ONCE + 1], 1):
                if not self.can_receive(channel, where.patterns):
                    return Refusal(Reason.CHANNEL, index)
        return None

    def _permits(self, command: Command, request: Sequence[bytes]) -> bool:
        if command.acl_name in self._allowed:
            return True
        words = self._first_words.get(command.name)
        return words is not None and len(request) > 1 and request[1].lower() in words

    def can_receive(self, channel: bytes, is_pattern: bool) -> bool:
        """Whether the channel is allowed. A pattern is allowed only if it equals a rule, or if all channels are."""
        if self.all_channels:
            return True
        if is_pattern:
            return channel in self.channels
        return any(glob_match(permitted, channel) for permitted in self.channels)

    # Changes by rules.

    def apply(self, rule: str) -> None:
        """
        Apply one rule.

        :raises RuleError: if it is invalid; nothing is changed then.
        """
        if not rule:
            return
        change = _WORDS.get(lowered(rule))
        if change is not None:
            change(self)
        elif rule[0] in "~%":
            self._add_keys(rule)
        elif rule[0] == "&":
            self._add_channel(rule[1:])
        elif rule[0] in "+-":
            self._change_commands(rule[1:], rule[0] == "+")
        elif lowered(rule).startswith("db="):
            self._choose_databases(rule[3:])
        else:
            raise RuleError(SYNTAX_ERROR)

    def allow_keys(self) -> None:
        """``allkeys``"""
        self.all_keys, self.keys = True, {}

    def reset_keys(self) -> None:
        """``resetkeys``"""
        self.all_keys, self.keys = False, {}

    def allow_channels(self) -> None:
        """``allchannels``"""
        self.all_channels, self.channels = True, {}

    def reset_channels(self) -> None:
        """``resetchannels``"""
        self.all_channels, self.channels = False, {}

    def allow_commands(self) -> None:
        """``+@all``"""
        self._everything = self._commands = True
        self._allowed = {entry.acl_name for entry in self._table.all_commands()}
        self._first_words, self._rules, self._first_word_rules = {}, {}, {}

    def reset_commands(self) -> None:
        """``-@all``"""
        self._everything = self._commands = False
        self._allowed, self._first_words, self._rules, self._first_word_rules = set(), {}, {}, {}

    def allow_databases(self) -> None:
        """``alldbs``"""
        self.databases = None

    def reset_databases(self) -> None:
        """``resetdbs``"""
        self.databases = ()

    def _choose_databases(self, numbers: str) -> None:
        if not _DATABASES.fullmatch(numbers):
            raise RuleError(SYNTAX_ERROR)
        self.databases = tuple(sorted({int(number) for number in numbers.split(",")}))

    def _add_keys(self, rule: str) -> None:
        if self.all_keys:
            raise RuleError(KEYS_AFTER_ALL)
        use, pattern = KeyUse.BOTH, rule[1:]
        if rule[0] == "%":
            letters, _, pattern = pattern.partition("~")
            found = {"r": KeyUse.READ, "w": KeyUse.WRITE, "rw": KeyUse.BOTH, "wr": KeyUse.BOTH}.get(letters.lower())
            if found is None:
                raise RuleError(SYNTAX_ERROR)
            use = found
        if has_white_space(pattern):
            raise RuleError(SYNTAX_ERROR)
        use = self.keys.get(pattern, use).joined(use)
        if pattern == "*" and use is KeyUse.BOTH:
            # ``%R~*`` and ``%W~*`` together are shown as ``~*``, so they must have the effect of ``~*``.
            self.allow_keys()
        else:
            self.keys[pattern] = use

    def _add_channel(self, pattern: str) -> None:
        if self.all_channels:
            raise RuleError(CHANNELS_AFTER_ALL)
        if has_white_space(pattern):
            raise RuleError(SYNTAX_ERROR)
        self.channels[data(pattern)] = None

    def _change_commands(self, word: str, allow: bool) -> None:
        if word.startswith("@"):
            self._change_category(lowered(word[1:]), allow)
            return
        entry = self._table.named(data(word))
        if entry is not None:
            self._change(entry, allow)
            self._note(entry.name, allow, entry)
        elif allow and "|" in word:
            self._allow_first_word(*word.rpartition("|")[::2])
        else:
            raise RuleError(NO_SUCH_WORD)

    def _allow_first_word(self, name: str, word: str) -> None:
        """Apply ``+command|word`` where the word is no subcommand: allow the command with this first argument."""
        entry = self._table.named(data(name))
        if entry is None:
            raise RuleError(NO_SUCH_WORD)
        if "|" in entry.name:
            raise RuleError(NO_THIRD_WORD)
        if not word or has_white_space(word):
            raise RuleError(SYNTAX_ERROR)
        if self._table.subcommands(entry):
            raise RuleError(NO_SUCH_WORD)
        words = self._first_words.setdefault(entry.name, [])
        if data(word).lower() not in words:
            if len(words) >= MAX_FIRST_WORDS:
                raise RuleError(TOO_MANY_WORDS)
            words.append(data(word).lower())
        self._first_word_rules[entry.name] = None
        self._note(f"{entry.name}|{lowered(word)}", True)

    def _change_category(self, category: str, allow: bool) -> None:
        if category not in CATEGORIES:
            raise RuleError(NO_SUCH_WORD)
        for entry in self._table.all_commands():
            if category in entry.categories:
                self._change(entry, allow)
        self._note(f"@{category}", allow)

    def _change(self, entry: Command, allow: bool) -> None:
        """Allow or forbid a command and all its subcommands."""
        if not allow:
            self._everything = False
        for each in (entry, *self._table.subcommands(entry)):
            self._first_words.pop(each.name, None)
            if allow:
                self._allowed.add(each.acl_name)
            else:
                self._allowed.discard(each.acl_name)

    def _note(self, subject: str, allow: bool, entry: Command | None = None) -> None:
        """
        Store a rule for output, and remove the rules that it replaces.

        A rule is shown with the name that it was given with, because the program that wrote the file knows this name.

        :param entry: the command that the rule names as a whole.
        """
        rules = self._rules
        if entry is not None:
            for name in self._table.names_of(entry.acl_name):
                rules.pop(name, None)
            if self._table.subcommands(entry) or entry.name in self._first_word_rules:
                self._first_word_rules.pop(entry.name, None)
                within = f"{entry.name}|"
                for name in [name for name in rules if name.startswith(within)]:
                    del rules[name]
        rules.pop(subject, None)
        rules[subject] = allow

    # Output.

    def command_rules(self) -> str:
        """Return the rules about commands, beginning with ``+@all`` or ``-@all``."""
        rules = [f"{'+' if allow else '-'}{subject}" for subject, allow in self._rules.items()]
        return " ".join(["+@all" if self._commands else "-@all", *rules])

    def key_rules(self) -> str:
        """Return the rules about keys; empty if there are none."""
        return "~*" if self.all_keys else " ".join(f"{use.value}{pattern}" for pattern, use in self.keys.items())

    def channel_rules(self) -> str:
        """Return the rules about channels; empty if there are none."""
        return "&*" if self.all_channels else " ".join(f"&{text(pattern)}" for pattern in self.channels)

    def database_rules(self) -> str:
        """Return the rule about databases, ``alldbs`` for all; empty if none is allowed."""
        if self.databases is None:
            return "alldbs"
        return f"db={','.join(map(str, self.databases))}" if self.databases else ""

    def words(self) -> list[str]:
        """Return the rules that give a new selector the same permissions."""
        words = self.key_rules().split(" ") if self.all_keys or self.keys else []
        words += [] if self.all_channels else ["resetchannels"]
        words += self.channel_rules().split(" ") if self.all_channels or self.channels else []
        if self.databases is not None:
            words.append(self.database_rules() or "resetdbs")
        return [*words, *self.command_rules().split(" ")]


_WORDS: Final[dict[str, Callable[[Selector], None]]] = {
    "allkeys": Selector.allow_keys,
    "~*": Selector.allow_keys,
    "resetkeys": Selector.reset_keys,
    "allchannels": Selector.allow_channels,
    "&*": Selector.allow_channels,
    "resetchannels": Selector.reset_channels,
    "allcommands": Selector.allow_commands,
    "+@all": Selector.allow_commands,
    "nocommands": Selector.reset_commands,
    "-@all": Selector.reset_commands,
    "alldbs": Selector.allow_databases,
    "resetdbs": Selector.reset_databases,
}
"""Rules that consist of one fixed word, in any letter case."""
