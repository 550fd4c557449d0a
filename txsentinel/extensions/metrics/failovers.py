"""The metrics of failovers, counted from their records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from txsentinel.extensions.metrics import catalogue
from txsentinel.extensions.metrics.format import Family, HistogramTexts
from txsentinel.interfaces import ISentinelView
from txsentinel.model.history import FailoverKind, FailoverRecord, LossVerdict, ObserverRole, Outcome
from txsentinel.model.measurements import Histogram
from txsentinel.model.receipt import Receipt

PHASES: Final = (
    ("detect", "last_ok_ping", "sdown"),
    ("agree", "sdown", "odown"),
    ("elect", "odown", "elected"),
    ("select", "elected", "selected"),
    ("promote", "selected", "promoted"),
    ("announce", "promoted", "durable"),
    ("reconfigure", "durable", "replicas_done"),
)
"""The value of the label, with the times in the record at which the phase begins and ends."""

TOTAL: Final = "total"
"""The phase from the first time in the record to the switch."""

VERDICTS: Final = {LossVerdict.NONE: "proven", LossVerdict.UNKNOWN: "unproven", LossVerdict.LOST: "lost"}
"""The words for receipts."""

ORDERED: Final = (FailoverKind.COORDINATED, FailoverKind.SWITCHOVER)
"""The kinds that have a receipt."""

MAX_RECORDS: Final = 5_000
"""How many records are read at once; more than a Sentinel makes between two readings."""


class FailoverCounters:
    """
    Counts the records that this process makes. Records of earlier processes, which the history keeps, do not count.

    Each master has a series for automatic failovers from the start on: with a series that begins at 1, ``increase()``
    misses the first failover.
    """

    def __init__(self, view: ISentinelView) -> None:
        self._view = view
        self._began_ms = view.identity().started_at.unix_ms
        self._counted: set[str] = set()
        self._failovers: Counter[tuple[str, str, str, str]] = Counter()
        self._receipts = Counter(dict.fromkeys(VERDICTS.values(), 0))
        self._lost: Counter[str] = Counter()
        self._phases = {phase: Histogram(catalogue.PHASE_BOUNDS) for phase in (*(each[0] for each in PHASES), TOTAL)}
        self._judged: set[str] = set()
        """IDs of the records whose loss was counted."""

        self._with_receipt: set[str] = set()
        """IDs of the records whose receipt was counted; it may be known later than the failover."""

        self._holds: dict[str, Histogram] = {}
        self._records: tuple[FailoverRecord, ...] = ()
        """The records at the last call of :meth:`update`."""

        self._histograms = HistogramTexts()
        self._basis: tuple[tuple[str, ...], int] | None = None
        self._samples = b""
        """The samples of ``FAILOVERS``, made from the masters and the number of records in ``_basis``."""

    def update(self) -> None:
        """Count the records since the last call."""
        records = self._view.history(None, MAX_RECORDS)
        if records == self._records:
            return
        self._records = records
        for record in records:
            if record.record_id not in self._counted:
                if max((each.at.unix_ms for each in record.phases), default=self._began_ms) < self._began_ms:
                    continue
                self._counted.add(record.record_id)
                self._count(record)
            if record.receipt is not None and record.record_id not in self._with_receipt:
                self._with_receipt.add(record.record_id)
                self._count_receipt(record.receipt)
            # The loss is known later than the failover: once the old master is back.
            if record.record_id not in self._judged and is_judged(record):
                self._judged.add(record.record_id)
                self._count_loss(record)

    def _count(self, record: FailoverRecord) -> None:
        self._failovers[record.master, record.kind.value, record.outcome.value, record.observer_role.value] += 1
        if record.outcome is Outcome.SWITCHED and record.observer_role is not ObserverRole.BYSTANDER:
            times = {each.phase: each.at.unix_ms for each in record.phases}
            for phase, begin, end in PHASES:
                if begin in times and end in times:
                    self._phases[phase].observe(max(0, times[end] - times[begin]))
            if "switched" in times:
                self._phases[TOTAL].observe(times["switched"] - min(times.values()))

    def _count_loss(self, record: FailoverRecord) -> None:
        if record.receipt is None and record.kind in ORDERED and record.outcome is Outcome.SWITCHED:
            self._receipts[VERDICTS[record.loss.verdict]] += 1
        if record.loss.lost_bytes:
            self._lost[record.master] += record.loss.lost_bytes

    def _count_receipt(self, receipt: Receipt) -> None:
        self._receipts[receipt.verdict.value] += 1
        if receipt.fence.held_ms is not None:
            self._holds.setdefault(receipt.method, Histogram(catalogue.PHASE_BOUNDS)).observe(receipt.fence.held_ms)

    def families(self) -> Iterator[tuple[Family, bytes]]:
        """Yield each family with its samples."""
        basis = (self._view.names(), len(self._counted))
        if basis != self._basis:
            self._basis, self._samples = basis, self._failover_samples(basis[0])
        yield catalogue.FAILOVERS, self._samples
        text = self._histograms.text
        phases = [text(catalogue.PHASE_SECONDS, (phase,), each.state()) for phase, each in self._phases.items()]
        yield catalogue.PHASE_SECONDS, "".join(phases).encode()
        yield catalogue.RECEIPTS, _samples(catalogue.RECEIPTS, {(word,): n for word, n in self._receipts.items()})
        holds = [text(catalogue.WRITE_HOLD, (method,), each.state()) for method, each in self._holds.items()]
        yield catalogue.WRITE_HOLD, "".join(holds).encode()
        yield catalogue.LOST_BYTES, _samples(catalogue.LOST_BYTES, {(name,): n for name, n in self._lost.items()})
        yield catalogue.RECORDS, catalogue.RECORDS.line((), str(len(self._counted))).encode()

    def _failover_samples(self, names: tuple[str, ...]) -> bytes:
        counts = dict(self._failovers)
        for name in names:
            for role in (ObserverRole.LEADER, ObserverRole.FOLLOWER):
                counts.setdefault((name, FailoverKind.AUTOMATIC.value, Outcome.SWITCHED.value, role.value), 0)
        return _samples(catalogue.FAILOVERS, counts)


def is_judged(record: FailoverRecord) -> bool:
    """Whether the old master has shown what is lost, or that this cannot be known."""
    return record.loss.verdict is not LossVerdict.UNKNOWN or record.loss.from_offset is not None


def _samples(family: Family, counts: dict[tuple[str, str, str, str], int] | dict[tuple[str], int]) -> bytes:
    return "".join(family.line(values, str(count)) for values, count in counts.items()).encode()
