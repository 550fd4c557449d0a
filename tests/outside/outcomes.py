"""The outcome of each write: acknowledged and lost, unknown and present, refused and present nevertheless."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path


class Outcome(Enum):
    """The outcome of a write for its client."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"  # the server replied with an error
    UNKNOWN = "unknown"  # no reply; it may have been executed


@dataclass(frozen=True, slots=True)
class Write:
    """One write, as its client observed it; times are seconds of the machine's monotonic clock."""

    member: str
    """Unique text that was added to the set."""

    server: int
    """Port of the server."""

    sent: float
    answered: float
    """Time of the reply, or of the timeout."""

    outcome: Outcome
    error: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """One query for a member that had been acknowledged to some client before the query was sent."""

    member: str
    server: int
    sent: float
    found: bool


def save(path: Path, writes: Iterable[Write], reads: Iterable[Read]) -> None:
    """Write one JSON object per line, writes first."""
    with path.open("w") as stream:
        for write in writes:
            stream.write(json.dumps({**asdict(write), "outcome": write.outcome.value}) + "\n")
        for read in reads:
            stream.write(json.dumps(asdict(read)) + "\n")


def load(path: Path) -> tuple[list[Write], list[Read]]:
    """Read what :func:`save` wrote."""
    writes, reads = [], []
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        if "outcome" in fields:
            writes.append(Write(**{**fields, "outcome": Outcome(fields["outcome"])}))
        else:
            reads.append(Read(**fields))
    return writes, reads


@dataclass(frozen=True)
class WriteCounts:
    """The writes of a round compared to the data of the final master."""

    acknowledged: int
    failed: int
    unknown: int
    lost: list[Write]
    """Acknowledged, and not present. Replication is asynchronous, so a failover may lose some."""

    unknown_present: int
    """Not acknowledged, and present: permitted, as the reply may have been lost instead of the write."""

    refused_present: list[Write]
    """Refused with an error, and present nevertheless: a server must not do that."""

    unwritten: list[str]
    """Present, but written by no client."""


def count_writes(writes: Sequence[Write], held: Collection[str]) -> WriteCounts:
    """Compare the writes of a round with the members that the final master has."""
    counts = Counter(write.outcome for write in writes)
    return WriteCounts(
        counts[Outcome.ACKNOWLEDGED],
        counts[Outcome.FAILED],
        counts[Outcome.UNKNOWN],
        [write for write in writes if write.outcome is Outcome.ACKNOWLEDGED and write.member not in held],
        sum(write.outcome is Outcome.UNKNOWN and write.member in held for write in writes),
        [write for write in writes if write.outcome is Outcome.FAILED and write.member in held],
        sorted(set(held) - {write.member for write in writes}),
    )


def unwritable(writes: Iterable[Write], held: Collection[str], since: float, until: float, timeout: float) -> float:
    """
    Return the seconds between ``since`` and ``until`` without a successful write that is still present.

    Writes that an old master accepted and lost are not counted as successful.

    :param timeout: pauses up to this many seconds are caused by the clients.
    """
    moments = sorted(
        write.answered
        for write in writes
        if write.outcome is Outcome.ACKNOWLEDGED and write.member in held and since < write.answered < until
    )
    total, before = 0.0, since
    for moment in [*moments, until]:
        if moment - before > timeout:
            total += moment - before
        before = moment
    return total


@dataclass(frozen=True, slots=True)
class Span:
    """A fault that affected a server, in seconds of the machine's monotonic clock."""

    kind: str
    server: int
    since: float
    until: float


LEAD = 1.0
"""Seconds before a fault in which an acknowledged write may not have reached a replica yet."""


AFTER_FAULT = "afterwards"
"""A reachable old master accepts writes until a Sentinel makes it a replica, and these are lost too."""

UNAFFECTED = "untouched"


def count_lost_by_fault(lost: Iterable[Write], spans: Sequence[Span]) -> Counter[str]:
    """
    Count lost writes by the kinds of the faults that affected their server when they were acknowledged, or shortly
    after.

    Faults overlap, and a write is counted for each. :data:`AFTERWARDS` is for those whose server was reachable again
    after a fault, :data:`UNTOUCHED` for those whose server had no fault.
    """
    counts: Counter[str] = Counter()
    for write in lost:
        started = [span for span in spans if span.server == write.server and span.since - LEAD <= write.answered]
        fault_types = {span.kind for span in started if write.answered <= span.until}
        counts.update(fault_types or {AFTER_FAULT if started else UNAFFECTED})
    return counts
