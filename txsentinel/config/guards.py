"""
The settings of a master that C Sentinels do not have: one table row each for parsing, ``SENTINEL SET`` and rewriting.

A C Sentinel does not load a file with unknown directives, but keeps comments in their places. So these settings are
comments, ``#: txsentinel <setting> <master> <value>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from txsentinel.config.document import Line
from txsentinel.config.elsewhere import NOTE, NOTHING_ELSEWHERE, Elsewhere
from txsentinel.config.errors import DirectiveError
from txsentinel.config.quoting import encoded, written
from txsentinel.core.options import NEUTRAL_GUARDS, FailureClasses, GuardOptions, Lineage
from txsentinel.model.timings import Millis
from txsentinel.wire.numbers import canonical_integer

MAX_PERIOD: Final[Millis] = 1 << 53
"""Maximum value of a setting in milliseconds."""

SWITCH: Final[Mapping[str, object]] = {"on": True, "off": False, "yes": True, "no": False}
FENCE_AFTER: Final = "fence-after"


@dataclass(frozen=True, slots=True)
class GuardSetting:
    """
    One setting.

    It has one of ``words``, of which the first with a value is the one that is written; or, without ``words``, a number
    of milliseconds, at least ``minimum``. Zero is stored as ``None``, for a value that depends on other settings.
    """

    word: str
    attribute: str
    words: Mapping[str, object] = field(default_factory=dict)
    minimum: Millis = 1
    zero: str = "never"
    """What a value of 0 stands for, if it is permitted."""

    always_shown: bool = True
    """Whether ``SENTINEL MASTER`` has it even if it is neutral."""

    @property
    def allowed(self) -> str:
        """The permitted values, as the end of a sentence."""
        if self.words:
            return f"one of {', '.join(self.words)}"
        zero = f", 0 for {self.zero}" if not self.minimum else ""
        return f"a whole number of milliseconds from {self.minimum} to {MAX_PERIOD}{zero}"

    def read(self, word: str) -> object:
        """
        Return the value for a word.

        :raises DirectiveError: with the permitted values.
        """
        if self.words:
            if word.lower() in self.words:
                return self.words[word.lower()]
        else:
            number = canonical_integer(encoded(word))
            if number is not None and self.minimum <= number <= MAX_PERIOD:
                return number or None
        raise DirectiveError(f"{self.word} must be {self.allowed}")

    def text(self, value: object) -> str:
        """Return the word that is written for a value."""
        for word, meaning in self.words.items():
            if meaning is value:
                return word
        return "0" if value is None else str(value)

    def value(self, guards: GuardOptions) -> object:
        """Return the value in ``guards``."""
        return getattr(guards, self.attribute)

    def changed(self, guards: GuardOptions, value: object) -> GuardOptions:
        """Return a copy of ``guards`` with another value."""
        change: dict[str, Any] = {self.attribute: value}
        return replace(guards, **change)


GUARD_SETTINGS: Final = (
    GuardSetting("crash-failover", "crash_failover", SWITCH),
    GuardSetting("crash-confirm", "crash_confirm"),
    GuardSetting("failure-classes", "failure_classes", {each.value: each for each in FailureClasses}),
    GuardSetting("empty-restart-failover", "empty_restart_failover", SWITCH),
    GuardSetting("data-lost-event", "data_lost_event", SWITCH),
    GuardSetting("lineage", "lineage", {each.value: each for each in Lineage}),
    GuardSetting("fence-isolated", "fence_isolated", SWITCH),
    GuardSetting(FENCE_AFTER, "fence_after", minimum=0, zero="half of down-after-milliseconds"),
    GuardSetting("forget-sentinels-after", "forget_sentinels_after", minimum=0, always_shown=False),
    GuardSetting("forget-replicas-after", "forget_replicas_after", minimum=0, always_shown=False),
    GuardSetting("failover-block-period", "failover_block_period", minimum=0, zero="none", always_shown=False),
    GuardSetting("pause-events", "pause_events", SWITCH, always_shown=False),
)
"""The settings in the order in which they are written and shown."""

GUARDS_BY_WORD: Final = {setting.word: setting for setting in GUARD_SETTINGS}


def guard_lines(master: str, guards: GuardOptions, elsewhere: Elsewhere = NOTHING_ELSEWHERE) -> list[Line]:
    """Return the comments that save the settings of a master; none for those that a start without them has as well."""
    stated = elsewhere.master(master)
    if guards is NEUTRAL_GUARDS and not stated:
        return []  # As for nearly every master.
    lines = []
    for setting in GUARD_SETTINGS:
        value = setting.value(guards)
        if elsewhere.must_write(stated, setting.word, value, setting.value(NEUTRAL_GUARDS)):
            text = f"{NOTE}{setting.word} {written(master)} {setting.text(value)}"
            lines.append(Line(setting.word, "", text))
    return lines


def check_fence_after(value: object, down_after: Millis) -> None:
    """
    Check a value of ``fence-after``.

    :raises DirectiveError: if it is not less than ``down-after-milliseconds``.
    """
    if isinstance(value, int) and value >= down_after:
        raise DirectiveError(f"{FENCE_AFTER} must be less than down-after-milliseconds, which is {down_after}")


@lru_cache(maxsize=256)
def guard_fields(guards: GuardOptions, down_after: Millis) -> Mapping[str, str | Millis]:
    """Return the settings for ``SENTINEL MASTER``, by name; ``fence-after`` as it takes effect."""
    fields: dict[str, str | Millis] = {
        setting.word: setting.text(setting.value(guards))
        for setting in GUARD_SETTINGS
        if setting.always_shown or setting.value(guards) != setting.value(NEUTRAL_GUARDS)
    }
    fields[FENCE_AFTER] = guards.fence_delay(down_after)
    return fields
