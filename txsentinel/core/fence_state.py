"""The state of the guard against writes to an isolated master: what ``fencing`` has observed and ordered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.model.timings import Millis

LEASE_PERIOD: Final[Millis] = 1_000
"""Interval at which a lease is renewed."""

LEASE_LENGTH: Final[Millis] = 2 * LEASE_PERIOD
"""
Timeout of the pause of writes. All Sentinels order the same length, as a server keeps the longest one. If its Sentinel
dies, the pause ends after this time.
"""


class LeaseEnd(Enum):
    """Why a lease is ended; the value is a clause for the log."""

    MAJORITY_ANSWERS = "a majority of Sentinels answers, and the address is unchanged"
    REPLICA_ACKNOWLEDGES = "a replica acknowledges writes"
    DEMOTED = "it is a replica now"
    SWITCHED_OFF = "fence-isolated is off"
    NOT_SAVED = "this Sentinel cannot save its votes"
    FAILOVER = "a failover was ordered here"
    NO_REPLICA = "no replica is known that could replace it"
    SERVER_BUSY = "it hands over its role, or has restarted"
    DISCARDED = "it was removed or reset"


@dataclass(frozen=True, slots=True)
class Isolation:
    """A majority of Sentinels that does not answer; ``str`` is a clause for the log."""

    since: Millis
    """When it was noticed, ``fence-after`` after the first unanswered PING."""

    silent: int
    """Number of peers that did not answer then."""

    voters: int
    """Number of Sentinels, this one included."""

    def __str__(self) -> str:
        """Return a clause that names the numbers."""
        return f"{self.silent} of {self.voters} Sentinels do not answer"


@dataclass(slots=True, eq=False)
class WriteLease:
    """A pause of the writes of one server, which this Sentinel renews."""

    began_at: Millis
    ordered_at: Millis
    """When it was last ordered."""

    until: Millis
    """When the server ends the pause unless it is renewed, as far as known here."""

    ending: LeaseEnd | None = None
    """Why the order to end it was sent; ``None`` while it is renewed."""

    ordered_on: Millis | None = None
    """``commands_since`` of the connection on which the last order was sent."""

    answering_since: Millis | None = None
    """Since when a majority answers again; the lease is kept until that has confirmed the address."""
