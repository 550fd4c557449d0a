"""What the checks of a group find."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from txsentinel.model.snapshots import Instant


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


@dataclass(frozen=True)
class GroupHealth:
    """What the checks have found in the group of one master, errors first, and how much of the group was read."""

    master: str
    at: Instant
    active: bool
    """Whether rights and round trips were tested, too."""

    findings: tuple[Finding, ...]
    checks: int
    """The number of checks."""

    sentinels: int
    sentinels_read: int
    servers: int
    servers_read: int
