"""What a server permits this Sentinel, found out without an effect: in a transaction that cannot be executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from txsentinel.model.operations import SwitchoverMethod
from txsentinel.model.timings import Millis

RIGHTS_AGE: Final[Millis] = 600_000
"""How long a report is valid, on the same connection."""

CHECKED: Final = (
    "CLIENT PAUSE",
    "CLIENT UNPAUSE",
    "CLIENT KILL",
    "CONFIG GET",
    "CONFIG REWRITE",
    "CONFIG SET",
    "FAILOVER",
    "INFO",
    "SLAVEOF",
)
"""The commands that are tested."""

NEEDED: Final = {
    SwitchoverMethod.HANDOVER: (
        ("CLIENT PAUSE", "CLIENT UNPAUSE", "FAILOVER", "INFO"),
        ("INFO",),
    ),
    SwitchoverMethod.FENCE: (
        ("CLIENT PAUSE", "CLIENT UNPAUSE", "CLIENT KILL", "CONFIG REWRITE", "INFO", "SLAVEOF"),
        ("CLIENT KILL", "CONFIG REWRITE", "INFO", "SLAVEOF"),
    ),
    SwitchoverMethod.REJECT: (
        ("CLIENT KILL", "CONFIG GET", "CONFIG REWRITE", "CONFIG SET", "INFO", "SLAVEOF"),
        ("CLIENT KILL", "CONFIG REWRITE", "INFO", "SLAVEOF"),
    ),
}
"""Method → the commands that it sends to the old master and to the candidate."""


@dataclass(frozen=True, slots=True)
class ServerRights:
    """The tested commands that a server denies, with its errors."""

    tested_at: Millis
    connected_at: Millis
    """``commands_since`` of the connection."""

    denied: dict[str, str]
