"""
Which failovers were needed: of a master that most could not use, according to the plan of the faults.

A failover that is not needed costs connections and, as replication is asynchronous, writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.outside.plan import SENTINEL_ERRORS, SIGNALS, Fault, FaultType

COMPLETION_SECONDS: Final = 3.0
"""
Seconds after a fault in which a failover may still be due to it: a server that was killed or emptied must first start
and be noticed, and the promotion of a replica be observed.
"""

_NO_SEPARATION: Final = (*SIGNALS, FaultType.DELAY, FaultType.RESET, FaultType.CLOSE_PORT, FaultType.REJECT)


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a server could not be used. Times are in seconds since the first fault could start."""

    role: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Promotion:
    """A replica that was promoted."""

    at: float
    """Time of day, in seconds since 1970."""

    replaced: int
    """Port of the old master."""


def is_usable(role: str, active: Iterable[Fault], sentinels: Collection[str], quorum: int) -> bool:
    """
    Return whether a server serves clients, and fewer than ``quorum`` of the Sentinels are separated from it.

    Delays, and connections that are reset but can be made again, separate nobody. Neither does a server that rejects
    the Sentinels only: they cannot log in, but it serves its clients.
    """
    separated: set[str] = set()
    for fault in active:
        stopped = fault.kind in SIGNALS or fault.kind is FaultType.CLOSE_PORT
        rejecting = fault.kind is FaultType.REJECT and fault.error not in SENTINEL_ERRORS
        if (stopped or rejecting) and role in fault.nodes:
            return False
        if fault.kind not in _NO_SEPARATION:
            separated.update(
                sentinel for sentinel in sentinels if {(sentinel, role), (role, sentinel)} & set(fault.routes)
            )
    return len(separated) < quorum


def is_reached(role: str, active: Iterable[Fault], sentinels: Collection[str]) -> bool:
    """
    Return whether at least one Sentinel that runs can exchange messages with a server.

    Only such a Sentinel can keep the server from accepting writes. Delays, and connections that are reset but can be
    made again, do not prevent that; a rejection does, as the Sentinel's orders are rejected as well.
    """
    able = set(sentinels)
    for fault in active:
        if fault.kind in SIGNALS or fault.kind is FaultType.CLOSE_PORT:
            if role in fault.nodes:
                return False
            if fault.kind in SIGNALS:
                able.difference_update(fault.nodes)
        elif fault.kind not in (FaultType.DELAY, FaultType.RESET):
            able = {each for each in able if not {(each, role), (role, each)} & set(fault.routes)}
    return bool(able)


def outages(plan: Sequence[Fault], servers: Iterable[str], sentinels: Collection[str], quorum: int) -> list[Outage]:
    """Return the times in which servers could not be used; an outage may consist of several that adjoin."""
    bounds = sorted({bound for fault in plan for bound in (fault.starts, fault.ends)})
    found = []
    for since, until in pairwise(bounds):
        active = [fault for fault in plan if fault.starts <= since and until <= fault.ends]
        found += [Outage(role, since, until) for role in servers if not is_usable(role, active, sentinels, quorum)]
    return found


def needless(promotions: Iterable[Promotion], found: Sequence[Outage], ports: dict[int, str], began: float) -> int:
    """
    Count the promotions that replaced a master without an outage at that time or shortly before.

    :param ports: the role of each server at the begin of the round, by its port.
    :param began: time of day at which the first fault could start.
    """
    return sum(
        not any(
            outage.role == ports.get(promotion.replaced)
            and outage.since <= promotion.at - began <= outage.until + COMPLETION_SECONDS
            for outage in found
        )
        for promotion in promotions
    )
