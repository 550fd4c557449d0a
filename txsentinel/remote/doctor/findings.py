"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Severity(Enum):
    """An error breaks a failover now, a warning is a surprise to come, a note is information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """
    One problem. ``text`` is one sentence about ``subject``; ``fix`` a command, or what to do.

    ``figures`` has the numbers in the sentence by their names.
    """

    check: str
    severity: Severity
    subject: str
    text: str
    fix: str | None = None
    figures: dict[str, int | float | str] = field(default_factory=dict)
