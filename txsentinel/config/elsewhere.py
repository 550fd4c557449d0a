"""
The settings in files that are read at start but never written: included files, and the main file with a state file.

A setting that differs from the one in these files must be written even if it is the default, or the next start would
use theirs. A setting in these files that is no longer in force is written as a comment, which C Sentinels ignore:
``#: txsentinel removed <master>`` or ``#: txsentinel unset <master> <directive> [<command>]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

NOTE: Final = "#: txsentinel "
"""Beginning of the comments that txsentinel interprets."""

REMOVED: Final = "removed"
UNSET: Final = "unset"


@dataclass(slots=True)
class Elsewhere:
    """
    The settings in those files, by directive; ``masters`` has an entry for each master that they monitor.

    With ``separate``, the file that is written is a state file, which has only the settings that differ.
    """

    separate: bool = False
    own: dict[str, object] = field(default_factory=dict)
    masters: dict[str, dict[str, object]] = field(default_factory=dict)
    renamed: dict[str, dict[str, str]] = field(default_factory=dict)
    generic: set[str] = field(default_factory=set)

    def master(self, name: str) -> Mapping[str, object]:
        """Return the settings of one master."""
        return self.masters.get(name, {})

    def must_write(self, stated: Mapping[str, object], word: str, value: object, default: object) -> bool:
        """Whether a line is needed so that the next start finds ``value`` for the directive ``word``."""
        differs = value != stated.get(word, default)
        return differs or (value != default and not self.separate)


NOTHING_ELSEWHERE: Final = Elsewhere()
"""Used if there is only one file."""
