"""
What files say that are read at the start but never written: included files, and the main file beside a state file.

A setting that differs from what they say must be written even if it is the default, or the next start would not know
it; that something which they say no longer holds is written as a comment that C Sentinels pass over:
``#: txsentinel removed <master>`` and ``#: txsentinel unset <master> <directive> [<command>]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

NOTE: Final = "#: txsentinel "
"""Begins the comments that mean something to us."""

REMOVED: Final = "removed"
UNSET: Final = "unset"


@dataclass(slots=True)
class Elsewhere:
    """
    The settings of those files, by directive; per master only for those masters that they have monitored.

    With ``separate`` the file that is written is a state file: settings are in it only if they differ.
    """

    separate: bool = False
    own: dict[str, object] = field(default_factory=dict)
    masters: dict[str, dict[str, object]] = field(default_factory=dict)
    renamed: dict[str, dict[str, str]] = field(default_factory=dict)
    generic: set[str] = field(default_factory=set)

    def master(self, name: str) -> Mapping[str, object]:
        """The settings of one master."""
        return self.masters.get(name, {})

    def must_write(self, stated: Mapping[str, object], word: str, value: object, default: object) -> bool:
        """Whether a line is needed so that the next start finds ``value`` for the directive ``word``."""
        differs = value != stated.get(word, default)
        return differs or (value != default and not self.separate)


NOTHING_ELSEWHERE: Final = Elsewhere()
"""There is but one file."""
