"""What became of each write: acknowledged and lost, unknown and there, refused and there all the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path


class Outcome(Enum):
    """What the writer knows of a write."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"  # the server answered that it refuses
    UNKNOWN = "unknown"  # no answer; it may have counted


@dataclass(frozen=True, slots=True)
class Write:
    """One write, as its writer saw it; times are seconds of the machine's monotonic clock."""

    member: str
    """Unique text that was added to the set."""

    server: int
    """Port of the server that was asked."""

    sent: float
    answered: float
    """When the answer came, or was given up."""

    outcome: Outcome
    error: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """One look for a member that some writer had been acknowledged before the question was sent."""

    member: str
    server: int
    sent: float
    found: bool


def save(path: Path, writes: Iterable[Write], reads: Iterable[Read]) -> None:
    """One JSON object a line, writes first."""
    with path.open("w") as stream:
        for write in writes:
            stream.write(json.dumps({**asdict(write), "outcome": write.outcome.value}) + "\n")
        for read in reads:
            stream.write(json.dumps(asdict(read)) + "\n")


def load(path: Path) -> tuple[list[Write], list[Read]]:
    """What :func:`save` wrote."""
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
    """The writes of a round against what the final master holds."""

    acknowledged: int
    failed: int
    unknown: int
    lost: list[Write]
    """Acknowledged, and not there. Replication is asynchronous, so a failover may lose some."""

    unknown_present: int
    """Not acknowledged, and there: allowed, as the answer may have been lost instead of the write."""

    refused_present: list[Write]
    """Answered with an error, and there all the same: a server must not do that."""

    unwritten: list[str]
    """There, and nobody wrote it."""


def count_writes(writes: Sequence[Write], held: Collection[str]) -> WriteCounts:
    """Compare the writes of a round with the members that the final master holds."""
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
    Seconds between ``since`` and ``until`` in which no write came through that is still there.

    What an old master accepted and lost is no service, so such writes do not count.

    :param timeout: pauses up to this many seconds are the writers' own.
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
    """A fault that touched a server, in seconds of the machine's monotonic clock."""

    kind: str
    server: int
    since: float
    until: float


LEAD = 1.0
"""Seconds before a fault in which an acknowledged write may not yet have reached a replica, or may be overtaken."""


AFTERWARDS = "afterwards"
"""An old master that is in reach again takes writes until the Sentinels make it a replica, and these are lost too."""

UNTOUCHED = "untouched"


def blame(lost: Iterable[Write], spans: Sequence[Span]) -> Counter[str]:
    """
    Lost writes by kind of the faults that touched their server when they were acknowledged, or right after.

    Faults overlap, and a write is counted for each. :data:`AFTERWARDS` stands for those whose server was well again
    after a fault, :data:`UNTOUCHED` for those whose server never had any.
    """
    counts: Counter[str] = Counter()
    for write in lost:
        begun = [span for span in spans if span.server == write.server and span.since - LEAD <= write.answered]
        fault_types = {span.kind for span in begun if write.answered <= span.until}
        counts.update(fault_types or {AFTERWARDS if begun else UNTOUCHED})
    return counts
