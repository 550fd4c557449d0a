"""
One set of permissions, and the words that change and describe it.

A user has one such set, the *root*, and perhaps more, its *selectors*; a request is allowed if any one of
them allows all of it. A Sentinel has no keys: rules about them are understood, kept and shown, and decide nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from txsentinel.server.table import TABLE, Command
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
"""First arguments by which one command may be allowed."""

_UNPRINTABLE: Final = re.compile(r"[ \t\n\v\f\r\0]")
_DATABASES: Final = re.compile(r"[0-9]{1,9}(?:,[0-9]{1,9})*", re.ASCII)


class RuleError(ValueError):
    """
    A rule that makes no sense; ``str()`` says why.

    ``unknown`` marks rules that are well formed and name a command or category that is not there.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.unknown = reason == NO_SUCH_WORD


class Reason(Enum):
    """Why something was refused, by the words of ``ACL LOG``; a later one is the more specific."""

    COMMAND = "command"
    CHANNEL = "channel"
    AUTH = "auth"
    CERTIFICATE = "tls-cert"


class Refusal(NamedTuple):
    """Why a request may not be run, and which word of it is to blame."""

    reason: Reason
    position: int


class KeyUse(Enum):
    """What may be done to the keys of a pattern; the value is what stands before it."""

    READ = "%R~"
    WRITE = "%W~"
    BOTH = "~"

    def joined(self, other: KeyUse) -> KeyUse:
        """Both permissions together."""
        return self if self is other else KeyUse.BOTH


class _Channels(NamedTuple):
    """Which words of a request are channels, and whether they are patterns themselves."""

    until: int | None
    patterns: bool = False


CHANNELS_AT_ONCE: Final = 64
"""Channels of one request that are compared with the channels of a user in one step."""

_CHANNEL_WORDS: Final = {"subscribe": _Channels(None), "psubscribe": _Channels(None, True), "publish": _Channels(2)}


def has_blank(word: str) -> bool:
    """Does it hold a blank, a line end or a NUL byte, any of which would make several words of it in a file?"""
    return _UNPRINTABLE.search(word) is not None


def lowered(word: str) -> str:
    """ASCII letters in lower case, everything else as it stands."""
    return text(data(word).lower())


class Selector:
    """
    Permissions; without any for a start.

    :param all_channels: start with all Pub/Sub channels, as ``acl-pubsub-default allchannels`` has it.
    """

    __slots__ = (
        "_allowed", "_commands", "_everything", "_first_word_rules", "_first_words", "_rules",
        "all_channels", "all_keys", "channels", "databases", "keys",
    )  # fmt: skip

    def __init__(self, all_channels: bool = False) -> None:
        self.all_keys = False
        self.keys: dict[str, KeyUse] = {}
        self.all_channels = all_channels
        self.channels: dict[bytes, None] = {}
        self.databases: tuple[int, ...] | None = None
        """Numbers of databases, which only Valkey 9 distinguishes; ``None`` for all."""

        self._everything = False
        """Were all commands allowed, and none taken back since?"""

        self._commands = False
        """Was ``+@all`` later than ``-@all``?"""

        self._allowed: set[str] = set()
        """Full names of commands; other names of a command have the rights of the command."""

        self._first_words: dict[str, list[bytes]] = {}
        """Commands that are allowed with some first arguments only."""

        self._rules: dict[str, bool] = {}
        """What was changed since ``+@all`` or ``-@all``, in the order in which it is shown: allowed or forbidden."""

        self._first_word_rules: dict[str, None] = {}
        """Commands about whose first arguments there are such rules."""

    def copy(self) -> Selector:
        """The same permissions, to be changed without harm."""
        twin = Selector()
        twin.all_keys, twin.keys = self.all_keys, dict(self.keys)
        twin.all_channels, twin.channels = self.all_channels, dict(self.channels)
        twin.databases = self.databases
        twin._everything, twin._commands = self._everything, self._commands
        twin._allowed = set(self._allowed)
        twin._first_words = {name: list(words) for name, words in self._first_words.items()}
        twin._rules = dict(self._rules)
        twin._first_word_rules = dict(self._first_word_rules)
        return twin

    @property
    def size(self) -> int:
        """How many keys, channels and rules about commands it has."""
        return len(self.keys) + len(self.channels) + len(self._rules)

    @property
    def unlimited(self) -> bool:
        """Every command, on every channel?"""
        return self._everything and self.all_channels

    # What is asked for each request.

    def refusal(self, command: Command, request: Sequence[bytes]) -> Refusal | None:
        """
        Why ``request``, which names ``command``, may not be run by these permissions; ``None`` if it may.

        Of its channels the first :data:`CHANNELS_AT_ONCE` are looked at. Whoever executes a longer request asks again
        about the others, a few at a time.
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
        if command.rights in self._allowed:
            return True
        words = self._first_words.get(command.name)
        return words is not None and len(request) > 1 and request[1].lower() in words

    def can_receive(self, channel: bytes, is_pattern: bool) -> bool:
        """May this channel be used? A pattern may only if it is permitted literally, or everything is."""
        if self.all_channels:
            return True
        if is_pattern:
            return channel in self.channels
        return any(glob_match(permitted, channel) for permitted in self.channels)

    # How rules change it.

    def apply(self, rule: str) -> None:
        """
        Obey one rule.

        :raises RuleError: if it makes no sense; nothing has changed then.
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

    def forget_keys(self) -> None:
        """``resetkeys``"""
        self.all_keys, self.keys = False, {}

    def allow_channels(self) -> None:
        """``allchannels``"""
        self.all_channels, self.channels = True, {}

    def forget_channels(self) -> None:
        """``resetchannels``"""
        self.all_channels, self.channels = False, {}

    def allow_commands(self) -> None:
        """``+@all``"""
        self._everything = self._commands = True
        self._allowed = {entry.rights for entry in _all_commands()}
        self._first_words, self._rules, self._first_word_rules = {}, {}, {}

    def forget_commands(self) -> None:
        """``-@all``"""
        self._everything = self._commands = False
        self._allowed, self._first_words, self._rules, self._first_word_rules = set(), {}, {}, {}

    def allow_databases(self) -> None:
        """``alldbs``"""
        self.databases = None

    def forget_databases(self) -> None:
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
        if has_blank(pattern):
            raise RuleError(SYNTAX_ERROR)
        use = self.keys.get(pattern, use).joined(use)
        if pattern == "*" and use is KeyUse.BOTH:
            # By whatever way it came about: what is shown as ``~*`` must be what ``~*`` makes.
            self.allow_keys()
        else:
            self.keys[pattern] = use

    def _add_channel(self, pattern: str) -> None:
        if self.all_channels:
            raise RuleError(CHANNELS_AFTER_ALL)
        if has_blank(pattern):
            raise RuleError(SYNTAX_ERROR)
        self.channels[data(pattern)] = None

    def _change_commands(self, word: str, allow: bool) -> None:
        if word.startswith("@"):
            self._change_category(lowered(word[1:]), allow)
            return
        entry = TABLE.named(data(word))
        if entry is not None:
            self._change(entry, allow)
            self._note(entry.name, allow, entry)
        elif allow and "|" in word:
            self._allow_first_word(*word.rpartition("|")[::2])
        else:
            raise RuleError(NO_SUCH_WORD)

    def _allow_first_word(self, name: str, word: str) -> None:
        """``+command|word``, which is not a subcommand: the command, but with this first argument only."""
        entry = TABLE.named(data(name))
        if entry is None:
            raise RuleError(NO_SUCH_WORD)
        if "|" in entry.name:
            raise RuleError(NO_THIRD_WORD)
        if not word or has_blank(word):
            raise RuleError(SYNTAX_ERROR)
        if entry.subcommands:
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
        for entry in _all_commands():
            if category in entry.categories:
                self._change(entry, allow)
        self._note(f"@{category}", allow)

    def _change(self, entry: Command, allow: bool) -> None:
        """Allow or forbid a command with all its subcommands."""
        if not allow:
            self._everything = False
        for each in (entry, *entry.subcommands.values()):
            self._first_words.pop(each.name, None)
            if allow:
                self._allowed.add(each.rights)
            else:
                self._allowed.discard(each.rights)

    def _note(self, subject: str, allow: bool, entry: Command | None = None) -> None:
        """
        Remember a rule as it will be shown, in place of those that it makes pointless.

        A rule is shown with the name that it was given with, which the Sentinel knows that the file came from.

        :param entry: the command that the rule names as a whole.
        """
        rules = self._rules
        if entry is not None:
            for name in _names_of(entry.rights):
                rules.pop(name, None)
            if entry.subcommands or entry.name in self._first_word_rules:
                self._first_word_rules.pop(entry.name, None)
                within = f"{entry.name}|"
                for name in [name for name in rules if name.startswith(within)]:
                    del rules[name]
        rules.pop(subject, None)
        rules[subject] = allow

    # How it is shown.

    def command_rules(self) -> str:
        """The commands, beginning with ``+@all`` or ``-@all``."""
        rules = [f"{'+' if allow else '-'}{subject}" for subject, allow in self._rules.items()]
        return " ".join(["+@all" if self._commands else "-@all", *rules])

    def key_rules(self) -> str:
        """The keys; empty if there are none."""
        return "~*" if self.all_keys else " ".join(f"{use.value}{pattern}" for pattern, use in self.keys.items())

    def channel_rules(self) -> str:
        """The channels; empty if there are none."""
        return "&*" if self.all_channels else " ".join(f"&{text(pattern)}" for pattern in self.channels)

    def database_rules(self) -> str:
        """The databases, ``alldbs`` being all of them; empty if there are none."""
        if self.databases is None:
            return "alldbs"
        return f"db={','.join(map(str, self.databases))}" if self.databases else ""

    def words(self) -> list[str]:
        """The rules that make a new selector the same as this one."""
        words = self.key_rules().split(" ") if self.all_keys or self.keys else []
        words += [] if self.all_channels else ["resetchannels"]
        words += self.channel_rules().split(" ") if self.all_channels or self.channels else []
        if self.databases is not None:
            words.append(self.database_rules() or "resetdbs")
        return [*words, *self.command_rules().split(" ")]


_WORDS: Final[dict[str, Callable[[Selector], None]]] = {
    "allkeys": Selector.allow_keys,
    "~*": Selector.allow_keys,
    "resetkeys": Selector.forget_keys,
    "allchannels": Selector.allow_channels,
    "&*": Selector.allow_channels,
    "resetchannels": Selector.forget_channels,
    "allcommands": Selector.allow_commands,
    "+@all": Selector.allow_commands,
    "nocommands": Selector.forget_commands,
    "-@all": Selector.forget_commands,
    "alldbs": Selector.allow_databases,
    "resetdbs": Selector.forget_databases,
}
"""Rules that are one fixed word, in any letter case."""


def _all_commands() -> Iterator[Command]:
    for entry in TABLE.by_word.values():
        yield entry
        yield from entry.subcommands.values()


def _names_of(rights: str) -> tuple[str, ...]:
    """All names of a command, by the one that stands for its rights."""
    if not _NAMES:
        for entry in _all_commands():
            _NAMES[entry.rights] = (*_NAMES.get(entry.rights, ()), entry.name)
    return _NAMES.get(rights, (rights,))


_NAMES: Final[dict[str, tuple[str, ...]]] = {}
"""Filled when it is first asked for, as the table of commands is complete by then."""
