"""
Records of operators with an end, as comments: reading, checking and writing.

A line is ``#: txsentinel <kind> <master> [<subject>] <end> at=<request> id=<request ID> [<name>=<value> …]``; both
times are in milliseconds since 1970. Further words are ``by``, ``reason``, ``withdrawn=yes`` and the settings of the
kind. ``*`` stands for all masters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from txsentinel.config.document import Line
from txsentinel.config.elsewhere import NOTE
from txsentinel.config.errors import DirectiveError
from txsentinel.config.quoting import encoded, in_quotes, written
from txsentinel.core.durable_records import (
    MAX_RECORD_PERIOD,
    DurableRecord,
    RecordKey,
    RecordKind,
)
from txsentinel.core.pause_rules import REQUIREMENTS, SCOPES
from txsentinel.model.operations import SwitchoverMethod
from txsentinel.wire.numbers import canonical_integer

RECORD_KINDS: Final = {kind.value: kind for kind in RecordKind}

RECORD_SETTINGS: Final[Mapping[RecordKind, Mapping[str, tuple[str, ...]]]] = {
    RecordKind.PAUSE: {"scope": SCOPES, "require": REQUIREMENTS, "for": ()},
    RecordKind.FORGOTTEN: {"address": ()},
    RecordKind.PARKED: {"run-id": ()},
    RecordKind.BLOCKED: {"epoch": ()},
    RecordKind.SCHEDULED: {
        "run": (),
        "method": ("auto", *(each.value for each in SwitchoverMethod)),
        "timeout": (),
        "max-lag": (),
        "max-pause": (),
        "to": (),
        "expect": (),
    },
    RecordKind.OPERATION: {
        "run": (),
        "method": ("auto", *(each.value for each in SwitchoverMethod)),
        "timeout": (),
        "max-lag": (),
        "max-pause": (),
        "to": (),
        "expect": (),
        "old": (),
        "new": (),
        "key": (),
        "outcome": (),
        "code": (),
        "text": (),
    },
    RecordKind.REJECTING: {"to-write": (), "max-lag": (), "hold": ()},
}
"""The settings of each kind, with the words that each may have; an empty tuple permits any."""

MAX_WORD: Final = 1_000
"""Maximum number of characters of a value."""

_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_PLAIN: Final = re.compile(r"[0-9A-Za-z.:_-]*")
"""Values that need no quotes."""

_ALWAYS: Final = ("at", "id", "by", "reason", "withdrawn")


def read_record(words: Sequence[str]) -> DurableRecord:
    """
    Return the record that a comment describes.

    :param words: those after ``txsentinel``; the first is the kind.
    :raises DirectiveError: with what is wrong.
    """
    kind = RECORD_KINDS[words[0].lower()]
    count = 3 if kind.has_subject else 2
    rest = list(words[1:])
    if len(rest) < count or any(not word for word in rest[:count]):
        subject = ", a subject" if kind.has_subject else ""
        raise DirectiveError(f"'{kind.value}' must be followed by a master{subject} and its end")
    subject = rest[1] if kind.has_subject else ""
    until = _time(kind, "the end", rest[count - 1])
    named = _named(kind, rest[count:])
    for name in ("at", "id"):
        if name not in named:
            raise DirectiveError(f"'{kind.value}' lacks {name}=")
    requested = _time(kind, "at=", named["at"])
    if abs(until - requested) > MAX_RECORD_PERIOD:
        raise DirectiveError(f"the end of '{kind.value}' must be at most {MAX_RECORD_PERIOD} ms from at=")
    if not _REQUEST_ID.fullmatch(named["id"]):
        raise DirectiveError(f"id= of '{kind.value}' must be 1 to 64 letters, digits and hyphens")
    if named.get("withdrawn", "yes") != "yes":
        raise DirectiveError(f"withdrawn= of '{kind.value}' must be yes")
    return DurableRecord(
        RecordKey(kind, rest[0], subject),
        until,
        requested,
        named["id"],
        named.get("by", ""),
        named.get("reason", ""),
        "withdrawn" in named,
        tuple((name, named[name]) for name in RECORD_SETTINGS[kind] if name in named),
    )


def _time(kind: RecordKind, what: str, word: str) -> int:
    number = canonical_integer(encoded(word))
    if number is None or not 0 < number < 1 << 53:
        raise DirectiveError(f"{what} of '{kind.value}' must be a time in milliseconds since 1970")
    return number


def _named(kind: RecordKind, words: Sequence[str]) -> dict[str, str]:
    """Return the words of the form ``name=value`` by name."""
    settings, found = RECORD_SETTINGS[kind], {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or (name not in _ALWAYS and name not in settings):
            allowed = ", ".join(f"{each}=" for each in (*_ALWAYS, *settings))
            raise DirectiveError(f"the words at the end of '{kind.value}' may be {allowed}")
        if name in found:
            raise DirectiveError(f"'{kind.value}' has {name}= twice")
        if len(value) > MAX_WORD:
            raise DirectiveError(f"{name}= of '{kind.value}' is longer than {MAX_WORD} characters")
        if name == "for" and not value.isdecimal():
            raise DirectiveError(f"for= of '{kind.value}' must be a number of milliseconds")
        choices = settings.get(name, ())
        if choices and value not in choices:
            raise DirectiveError(f"{name}= of '{kind.value}' must be one of {', '.join(choices)}")
        found[name] = value
    return found


def record_lines(records: Sequence[DurableRecord]) -> list[Line]:
    """Return the comments that save records."""
    return [_line(record) for record in records]


def _line(record: DurableRecord) -> Line:
    kind, master, subject = record.key
    words = [kind.value, written(master), *([written(subject)] if kind.has_subject else []), str(record.until_unix)]
    words += [f"at={record.requested_unix}", f"id={record.request_id}"]
    words += [f"{name}={value if _PLAIN.fullmatch(value) else in_quotes(value)}" for name, value in record.settings]
    words += [f"{name}={in_quotes(value)}" for name, value in (("by", record.by), ("reason", record.reason)) if value]
    if record.withdrawn:
        words.append("withdrawn=yes")
    return Line(kind.value, subject, NOTE + " ".join(words))
