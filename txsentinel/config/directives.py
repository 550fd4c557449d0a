"""
The ``sentinel`` directives: one table row each for parsing, ``SENTINEL SET`` and rewriting.

A row of :data:`MASTER_DIRECTIVES` has the name of the directive, the attribute of ``MasterOptions`` and the kind of its
value. They determine how a value is parsed (:meth:`Directive.read`), how ``SENTINEL SET`` validates and applies it
(:func:`apply_set`), and when and how it is written (:meth:`Directive.line`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.config.document import NOTE_WORD, Line, Owner, Place
from txsentinel.config.elsewhere import NOTE, NOTHING_ELSEWHERE, REMOVED, UNSET, Elsewhere
from txsentinel.config.errors import DirectiveError
from txsentinel.config.guards import FENCE_AFTER, GUARDS_BY_WORD, GuardSetting, check_fence_after
from txsentinel.config.numbers import whole_number
from txsentinel.config.quoting import encoded, written
from txsentinel.config.records import RECORD_KINDS
from txsentinel.config.secrets import OF_MASTERS, is_reference, refused_beside_reference
from txsentinel.core.durable_records import ALL_MASTERS
from txsentinel.core.errors import SettingRefused
from txsentinel.core.options import MasterOptions
from txsentinel.wire.numbers import canonical_integer

UNRECOGNIZED: Final = "Unrecognized sentinel configuration statement."

STATE_FILE: Final = "state-config-file"
"""The directive with the path of the file to which state is saved, instead of the main file."""

PRE_MONITOR: Final = {
    "announce-ip": 1,
    "announce-port": 1,
    "deny-scripts-reconfig": 1,
    "sentinel-user": 1,
    "sentinel-pass": 1,
    "current-epoch": 1,
    "myid": 1,
    "resolve-hostnames": 1,
    "announce-hostnames": 1,
    STATE_FILE: 1,
}
"""Directive of the Sentinel itself → number of its values; these are executed before those of masters."""

HEAD: Final = Owner("sentinel", "head")
"""Owner of the Sentinel's own lines above those of the masters."""

TAIL: Final = Owner("sentinel", "tail")
"""Owner of the Sentinel's own lines below those of the masters."""

HEAD_KINDS: Final = ("myid", "deny-scripts-reconfig", "resolve-hostnames", "announce-hostnames")

ALIASES: Final = {
    "known-slave": "known-replica",
    "primary-reboot-down-after-period": "master-reboot-down-after-period",
}
"""Accepted spelling → spelling that is written, which most versions understand."""

Executable = Callable[[str], bool]
"""Returns whether a path is executable; passed in, as this module does no I/O."""


class Value(Enum):
    """The kind of a directive's value, which determines its validation."""

    POSITIVE_MILLIS = "above zero"
    MILLIS = "zero or more"
    COUNT = "anything from a file, above zero by command"
    SCRIPT = "path of something executable"
    TEXT = "text"


_ERROR_TEXTS: Final = {
    Value.POSITIVE_MILLIS: "negative or zero time parameter.",
    Value.MILLIS: "negative time parameter.",
}
_MEANINGS: Final = {
    Value.POSITIVE_MILLIS: "a whole number of milliseconds",
    Value.MILLIS: "a whole number of milliseconds",
    Value.COUNT: "a whole number",
}
_SCRIPT_NAMES: Final = {
    "notification-script": "Notification script",
    "client-reconfig-script": "Client reconfiguration script",
}


@dataclass(frozen=True, slots=True)
class Directive:
    """
    One directive of a master.

    ``default`` is the value at a start without the line, regardless of ``SENTINEL DEBUG``.
    """

    word: str
    attribute: str
    value: Value
    default: int | None = None

    def read(self, options: MasterOptions, word: str, executable: Executable) -> None:
        """
        Set the option from a line in a file.

        :raises DirectiveError: with the error text, which follows the quoted line.
        """
        if self.value is Value.TEXT:
            setattr(options, self.attribute, word)
            return
        if self.value is Value.SCRIPT:
            if not executable(word):
                raise DirectiveError(f"{_SCRIPT_NAMES[self.word]} seems non existing or non executable.")
            setattr(options, self.attribute, word)
            return
        number = whole_number(word, _MEANINGS[self.value])
        if number < 0 and self.value is Value.MILLIS:
            raise DirectiveError(_ERROR_TEXTS[self.value])
        if number <= 0 and self.value is Value.POSITIVE_MILLIS:
            raise DirectiveError(_ERROR_TEXTS[self.value])
        setattr(options, self.attribute, number)

    def set(self, options: MasterOptions, option: str, word: str, deny_scripts: bool, executable: Executable) -> None:
        """
        Set the option by ``SENTINEL SET``; ``option`` is the spelling of the client.

        :raises SettingRefused: with the RESP error line; ``options`` is unchanged then.
        """
        if self.value is Value.TEXT:
            if self.word == OF_MASTERS and options.auth_pass_source:
                raise SettingRefused(refused_beside_reference(option, options.auth_pass_source))
            setattr(options, self.attribute, word or None)
            return
        if self.value is Value.SCRIPT:
            if deny_scripts:
                raise SettingRefused(SCRIPTS_DENIED)
            if word and not executable(word):
                raise SettingRefused(f"ERR {_SCRIPT_NAMES[self.word]} seems non existing or non executable")
            setattr(options, self.attribute, word or None)
            return
        setattr(options, self.attribute, _number(option, word, at_least=0 if self.value is Value.MILLIS else 1))

    def line(self, master: str, options: MasterOptions, elsewhere: Elsewhere = NOTHING_ELSEWHERE) -> Line | None:
        """Return the line that saves the value, or ``None`` if a start without it has the same result."""
        value = options.directive_auth_pass if self.word == OF_MASTERS else getattr(options, self.attribute)
        if not elsewhere.must_write(elsewhere.master(master), self.word, value, self.default):
            return None
        if value is None:
            return unset_line(master, self.word)
        return master_line(self.word, master, str(value))


MASTER_DIRECTIVES: Final = (
    Directive("down-after-milliseconds", "down_after", Value.POSITIVE_MILLIS, default=30_000),
    Directive("failover-timeout", "failover_timeout", Value.POSITIVE_MILLIS, default=180_000),
    Directive("parallel-syncs", "parallel_syncs", Value.COUNT, default=1),
    Directive("notification-script", "notification_script", Value.SCRIPT),
    Directive("client-reconfig-script", "client_reconfig_script", Value.SCRIPT),
    Directive("auth-pass", "auth_pass", Value.TEXT),
    Directive("auth-user", "auth_user", Value.TEXT),
    Directive("master-reboot-down-after-period", "reboot_down_after", Value.MILLIS, default=0),
)
"""The directives of a master, in the order in which they are written."""

BY_WORD: Final = {row.word: row for row in MASTER_DIRECTIVES}

MASTER_KINDS: Final = frozenset(
    {"monitor", "config-epoch", "leader-epoch", "known-replica", "known-sentinel", "rename-command", *BY_WORD}
)
"""All kinds of lines that belong to a master."""

SCRIPTS_DENIED: Final = (
    "ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig "
    "configuration directive in your Sentinel configuration"
)


MAX_RENAMED: Final = 1024
"""Maximum number of commands that ``SENTINEL SET`` renames for one master; no server has half as many."""


def master_line(kind: str, master: str, *words: str, subject: str = "") -> Line:
    """Return the line ``sentinel <kind> <master> <words>``."""
    text = " ".join([f"sentinel {kind} {written(master)}", *[written(word) for word in words]])
    return Line(kind, subject, text)


def unset_line(master: str, *words: str) -> Line:
    """Return the comment that a directive of a master in another file is not in force."""
    return _note_line(UNSET, master, *words)


def removed_line(master: str) -> Line:
    """Return the comment that a master in another file is not monitored."""
    return _note_line(REMOVED, master)


def _note_line(kind: str, master: str, *words: str) -> Line:
    text = NOTE + " ".join([kind, written(master), *[written(word) for word in words]])
    return Line(kind, " ".join(words), text)


def owner_of(master: str) -> Owner:
    """Return the owner of the lines of a master."""
    return Owner("master", master)


def classify(words: Sequence[str]) -> Place | None:
    """Return owner, kind and subject of a line, so that it can be rewritten in place; ``None`` if it has no owner."""
    name = words[0].lower()
    if name == NOTE_WORD:
        return _classify_note(words[1:])
    if name != "sentinel":
        return Place(Owner("generic", name), name, words[1] if name == "user" and len(words) > 1 else "")
    if len(words) < 3:
        return None
    kind = words[1].lower()
    kind = ALIASES.get(kind, kind)
    if kind in PRE_MONITOR:
        return Place(HEAD if kind in HEAD_KINDS else TAIL, kind, "")
    if kind in MASTER_KINDS:
        return Place(owner_of(words[2]), kind, _subject(kind, words[3:]))
    return None


def _classify_note(words: Sequence[str]) -> Place | None:
    if len(words) > 1 and words[0] in (REMOVED, UNSET):
        return Place(owner_of(words[1]), words[0], " ".join(words[2:]))
    if len(words) > 1 and words[0].lower() in GUARDS_BY_WORD:
        return Place(owner_of(words[1]), words[0].lower(), "")
    kind = RECORD_KINDS.get(words[0].lower()) if len(words) > 2 else None
    if kind is not None:
        owner = TAIL if words[1] == ALL_MASTERS else owner_of(words[1])
        return Place(owner, kind.value, words[2] if kind.has_subject else "")
    if len(words) > 2 and is_reference(words[0]) and words[1].lower() == OF_MASTERS:
        return Place(owner_of(words[2]), words[0].lower(), OF_MASTERS)
    return None


def _subject(kind: str, values: Sequence[str]) -> str:
    """Return what distinguishes a line of a master from others of its kind."""
    if kind == "known-replica":
        return " ".join(values)
    if kind == "known-sentinel":
        return values[2] if len(values) > 2 else ""
    if kind == "rename-command":
        return values[0].upper() if values else ""
    return ""


def values_wanted(option: str) -> int:
    """Return how many words follow ``option`` in ``SENTINEL SET``; 0 if there is no such option."""
    word = ALIASES.get(option.lower(), option.lower())
    if word == "rename-command":
        return 2
    return 1 if word in BY_WORD or word in GUARDS_BY_WORD or word == "quorum" else 0


def apply_set(
    options: MasterOptions, option: str, values: Sequence[str], *, deny_scripts: bool, executable: Executable
) -> None:
    """
    Apply one option of ``SENTINEL SET``.

    :param option: in the client's spelling, in any letter case.
    :param values: exactly the words that belong to it (:func:`values_wanted`).
    :param deny_scripts: the ``deny-scripts-reconfig`` setting.
    :param executable: returns whether a script is executable.
    :raises SettingRefused: ``str()`` is the whole RESP error line; ``options`` is unchanged then.
    """
    wanted = values_wanted(option)
    if not wanted or len(values) != wanted:
        raise SettingRefused(f"ERR Unknown option or number of arguments for SENTINEL SET '{option}'")
    word = ALIASES.get(option.lower(), option.lower())
    if word == "quorum":
        options.quorum = _number(option, values[0], at_least=1)
    elif word == "rename-command":
        _rename(options, option, values[0], values[1])
    elif word in GUARDS_BY_WORD:
        _set_guard(options, option, GUARDS_BY_WORD[word], values[0])
    else:
        BY_WORD[word].set(options, option, values[0], deny_scripts, executable)


def _set_guard(options: MasterOptions, option: str, setting: GuardSetting, word: str) -> None:
    """Set an option that C Sentinels do not have."""
    try:
        value = setting.read(word)
        if setting.word == FENCE_AFTER:
            check_fence_after(value, options.down_after)
    except DirectiveError as problem:
        raise SettingRefused(f"ERR Invalid argument '{word}' for SENTINEL SET '{option}': {problem}") from None
    options.guards = setting.changed(options.guards, value)


def _rename(options: MasterOptions, option: str, old: str, new: str) -> None:
    """Rename a command; a command renamed to its own name is no longer renamed."""
    if not old or not new:
        raise SettingRefused(f"ERR Invalid argument '' for SENTINEL SET '{option}'")
    key = old.upper()
    if len(options.renamed_commands) >= MAX_RENAMED and key not in options.renamed_commands:
        raise SettingRefused(f"ERR No more than {MAX_RENAMED} commands can be renamed")
    options.renamed_commands.pop(key, None)
    options.rename_spellings.pop(key, None)
    if new.upper() != key:
        options.renamed_commands[key] = new
        options.rename_spellings[key] = old


def _number(option: str, word: str, at_least: int) -> int:
    """Parse a canonical integer within 64 bits."""
    number = canonical_integer(encoded(word))
    if number is not None and number >= at_least:
        return number
    raise SettingRefused(f"ERR Invalid argument '{word}' for SENTINEL SET '{option}'")
