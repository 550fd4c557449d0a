"""
The ``sentinel`` directives: one row each, serving reading, ``SENTINEL SET`` and rewriting.

A row of :data:`MASTER_DIRECTIVES` names the word of the file, the attribute of ``MasterOptions`` and
the kind of value; from it follow how the word is read (:meth:`Directive.read`), how ``SENTINEL SET``
checks and applies it (:func:`apply_set`) and when and how it is written (:meth:`Directive.line`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.config.document import NOTE_WORD, Line, Owner, Place
from txsentinel.config.elsewhere import NOTE, NOTHING_ELSEWHERE, REMOVED, UNSET, Elsewhere
from txsentinel.config.errors import DirectiveError, SettingRefused
from txsentinel.config.numbers import whole_number
from txsentinel.config.quoting import written
from txsentinel.core.options import MasterOptions

UNRECOGNIZED: Final = "Unrecognized sentinel configuration statement."

STATE_FILE: Final = "state-config-file"
"""Names the file that state is kept in, in place of the one that this stands in."""

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
"""Directives of the Sentinel itself, executed first; each with the number of its values."""

HEAD: Final = Owner("sentinel", "head")
"""Owner of the Sentinel's own lines that stand above those of the masters."""

TAIL: Final = Owner("sentinel", "tail")
"""Owner of those that stand below."""

HEAD_KINDS: Final = ("myid", "deny-scripts-reconfig", "resolve-hostnames", "announce-hostnames")

ALIASES: Final = {
    "known-slave": "known-replica",
    "primary-reboot-down-after-period": "master-reboot-down-after-period",
}
"""Spellings that are read, and what they are written as: the word that most versions understand."""

Executable = Callable[[str], bool]
"""Can this path be run? Asked of the host, this module being pure."""


class Value(Enum):
    """What kind of value a directive takes, and how strict reading and setting it are."""

    POSITIVE_MILLIS = "above zero"
    MILLIS = "zero or more"
    COUNT = "anything from a file, above zero by command"
    SCRIPT = "path of something executable"
    SECRET = "text that is not shown"
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
_CANONICAL: Final = re.compile(r"(?:0|-?[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Directive:
    """
    One setting of a master.

    ``relinks``: connections made with the old value must be made anew. ``default`` is what a start
    without this line assumes, whatever ``SENTINEL DEBUG`` made of it since.
    """

    word: str
    attribute: str
    value: Value
    default: int | None = None
    relinks: bool = False

    def read(self, options: MasterOptions, word: str, executable: Executable) -> None:
        """
        Take the value from a file.

        :raises Complaint: with the text that belongs under the quoted line.
        """
        if self.value in (Value.SECRET, Value.TEXT):
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
        Take the value from ``SENTINEL SET``, called ``option`` there.

        :raises SettingRefused: with the error line; ``options`` is unchanged then.
        """
        if self.value in (Value.SECRET, Value.TEXT):
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
        """The line that keeps the value, or ``None`` if a start without it comes to the same."""
        value = getattr(options, self.attribute)
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
    Directive("auth-pass", "auth_pass", Value.SECRET, relinks=True),
    Directive("auth-user", "auth_user", Value.TEXT, relinks=True),
    Directive("master-reboot-down-after-period", "reboot_down_after", Value.MILLIS, default=0),
)
"""In the order in which they are written."""

BY_WORD: Final = {row.word: row for row in MASTER_DIRECTIVES}

MASTER_KINDS: Final = frozenset(
    {"monitor", "config-epoch", "leader-epoch", "known-replica", "known-sentinel", "rename-command", *BY_WORD}
)
"""Every kind of line that belongs to a master, by its written word."""

SCRIPTS_DENIED: Final = (
    "ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig "
    "configuration directive in your Sentinel configuration"
)


MAX_RENAMED: Final = 1024
"""Commands that ``SENTINEL SET`` renames for one master; no server has half as many."""


def master_line(kind: str, master: str, *words: str, subject: str = "") -> Line:
    """``sentinel <kind> <master> <words>``."""
    text = " ".join([f"sentinel {kind} {written(master)}", *[written(word) for word in words]])
    return Line(kind, subject, text)


def unset_line(master: str, *words: str) -> Line:
    """The comment that a directive which another file has about a master does not hold."""
    return _note_line(UNSET, master, *words)


def removed_line(master: str) -> Line:
    """The comment that a master which another file has is not monitored."""
    return _note_line(REMOVED, master)


def _note_line(kind: str, master: str, *words: str) -> Line:
    text = NOTE + " ".join([kind, written(master), *[written(word) for word in words]])
    return Line(kind, " ".join(words), text)


def owner_of(master: str) -> Owner:
    """Who owns the lines of a master."""
    return Owner("master", master)


def classify(words: Sequence[str]) -> Place | None:
    """What a line of ``sentinel.conf`` stands for, so that its owner can take its place again."""
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
    if len(words) < 2 or words[0] not in (REMOVED, UNSET):
        return None
    return Place(owner_of(words[1]), words[0], " ".join(words[2:]))


def _subject(kind: str, values: Sequence[str]) -> str:
    """What tells this line of a master apart from the others of its kind."""
    if kind == "known-replica":
        return " ".join(values)
    if kind == "known-sentinel":
        return values[2] if len(values) > 2 else ""
    if kind == "rename-command":
        return values[0].upper() if values else ""
    return ""


@dataclass(frozen=True, slots=True)
class Applied:
    """What ``SENTINEL SET`` did with one option."""

    shown: str
    """The value as the event ``+set`` shows it."""

    relink: bool = False
    """Must the links to the master and its replicas be made anew?"""


def values_wanted(option: str) -> int:
    """How many words follow ``option`` in ``SENTINEL SET``; 0 if there is no such option."""
    word = ALIASES.get(option.lower(), option.lower())
    if word == "rename-command":
        return 2
    return 1 if word in BY_WORD or word == "quorum" else 0


def apply_set(
    options: MasterOptions, option: str, values: Sequence[str], *, deny_scripts: bool, executable: Executable
) -> Applied:
    """
    Apply one option of ``SENTINEL SET``.

    :param option: as the client spelled it, in any letter case.
    :param values: exactly the words that belong to it (:func:`values_wanted`).
    :param deny_scripts: the ``deny-scripts-reconfig`` setting.
    :param executable: asked whether a script could be run.
    :raises SettingRefused: ``str()`` is the whole RESP error line; ``options`` is unchanged then.
    """
    wanted = values_wanted(option)
    if not wanted or len(values) != wanted:
        raise SettingRefused(f"ERR Unknown option or number of arguments for SENTINEL SET '{option}'")
    word = ALIASES.get(option.lower(), option.lower())
    if word == "quorum":
        options.quorum = _number(option, values[0], at_least=1)
        return Applied(values[0])
    if word == "rename-command":
        _rename(options, option, values[0], values[1])
        return Applied(f"{values[0]} {values[1]}")
    row = BY_WORD[word]
    row.set(options, option, values[0], deny_scripts, executable)
    return Applied("******" if row.value is Value.SECRET else values[0], row.relinks)


def _rename(options: MasterOptions, option: str, old: str, new: str) -> None:
    """Map a command to another word; mapping it to itself forgets the mapping."""
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
    """A number in the one canonical spelling, within 64 bits."""
    if _CANONICAL.fullmatch(word) and at_least <= int(word) < 1 << 63:
        return int(word)
    raise SettingRefused(f"ERR Invalid argument '{word}' for SENTINEL SET '{option}'")
