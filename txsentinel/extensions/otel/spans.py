"""
The spans of one failover, as one Sentinel saw it.

All Sentinels give one failover the same trace ID and the same ID of the root span, which depend on the name of the
master and the epoch only. So their spans meet in one trace, though nothing is passed between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from txsentinel.model.history import FailoverRecord, Outcome, trace_id
from txsentinel.model.snapshots import Instant

_ROOT: Final = "root"


def span_id(master: str, epoch: int, *words: str) -> int:
    """Return the ID of a span of a failover: ``words`` are the Sentinel, the role and the phase; none for the root."""
    text = "\0".join(["txsentinel", master, str(epoch), *(words or (_ROOT,))])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big") or 1


def failover_spans(record: FailoverRecord, resource: Resource, version: str, *, with_root: bool) -> list[ReadableSpan]:
    """
    Return the spans of a record: that of the Sentinel, and one for each phase that it took time to reach.

    :param with_root: whether this Sentinel makes the root, which is done by one only.
    """
    if not record.phases:
        return []
    builder = _Builder(record, resource, version)
    first, last = record.phases[0].at, record.phases[-1].at
    own = builder.own_id
    spans = []
    if with_root:
        spans.append(builder.span(f"failover {record.master}", builder.root_id, None, first, last))
    role = record.observer_role.value
    spans.append(builder.span(role, own, builder.root_id, first, last, _votes(record)))
    before = first
    for phase in record.phases[1:]:
        identifier = span_id(record.master, record.epoch, record.observer, role, phase.phase)
        start = before if before <= phase.at else phase.at
        spans.append(builder.span(phase.phase, identifier, own, start, phase.at))
        before = phase.at
    return spans


class _Builder:
    """Makes the spans of one record."""

    def __init__(self, record: FailoverRecord, resource: Resource, version: str) -> None:
        self._record = record
        self._resource = resource
        self._scope = InstrumentationScope("txsentinel", version)
        self._trace_id = int(trace_id(record.master, record.epoch), 16)
        self._attributes = _attributes(record)
        self.root_id = span_id(record.master, record.epoch)
        self.own_id = span_id(record.master, record.epoch, record.observer, record.observer_role.value)

    def span(
        self,
        name: str,
        identifier: int,
        parent: int | None,
        start: Instant,
        end: Instant,
        events: Iterable[Event] = (),
    ) -> ReadableSpan:
        """Return one span. The attributes of the failover are part of the root and of the span of the Sentinel."""
        whole = parent is None or identifier == self.own_id
        switched = self._record.outcome is Outcome.SWITCHED
        if switched or not whole:
            status = Status(StatusCode.UNSET)
        else:
            status = Status(StatusCode.ERROR, self._record.outcome.value)
        return ReadableSpan(
            name=name,
            context=self._context(identifier),
            parent=None if parent is None else self._context(parent, remote=parent == self.root_id),
            resource=self._resource,
            attributes=self._attributes if whole else {"txsentinel.master": self._record.master},
            events=tuple(events),
            kind=SpanKind.INTERNAL,
            status=status,
            start_time=_nanoseconds(start),
            end_time=_nanoseconds(end),
            instrumentation_scope=self._scope,
        )

    def _context(self, identifier: int, remote: bool = False) -> SpanContext:
        return SpanContext(self._trace_id, identifier, remote, TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(instant: Instant) -> int:
    return instant.unix_ms * 1_000_000


def _votes(record: FailoverRecord) -> list[Event]:
    """Return an event for each Sentinel that was asked for its vote."""
    events = []
    for voter in record.voters:
        at = voter.answered_at or voter.asked_at
        if at is None:
            continue
        values: dict[str, AttributeValue | None] = {
            "txsentinel.voter": voter.sentinel_id,
            "txsentinel.voter.kind": voter.kind,
            "txsentinel.vote": voter.vote,
            "txsentinel.vote.epoch": voter.epoch,
            "txsentinel.vote.reason": voter.reason,
            "txsentinel.vote.answered": voter.answered_at is not None,
        }
        known = {name: value for name, value in values.items() if value is not None}
        events.append(Event("vote", known, _nanoseconds(at)))
    return events


def _attributes(record: FailoverRecord) -> dict[str, AttributeValue]:
    values: dict[str, AttributeValue | None] = {
        "db.system.name": "redis",
        "txsentinel.master": record.master,
        "txsentinel.group": record.group,
        "txsentinel.epoch": record.epoch,
        "txsentinel.config_epoch": record.config_epoch,
        "txsentinel.kind": record.kind.value,
        "txsentinel.outcome": record.outcome.value,
        "txsentinel.cause": record.cause,
        "txsentinel.failure_class": record.failure_class,
        "txsentinel.from": str(record.from_server.address),
        "txsentinel.to": None if record.to_server is None else str(record.to_server.address),
        "txsentinel.observer": record.observer,
        "txsentinel.observer_role": record.observer_role.value,
        "txsentinel.leader": record.leader,
        "txsentinel.chosen_because": record.chosen_because,
        "txsentinel.loss": record.loss.verdict.value,
        "txsentinel.lost_bytes": record.loss.lost_bytes,
        "txsentinel.clients_closed": record.clients_closed,
        "txsentinel.operator": record.operator,
    }
    return {name: value for name, value in values.items() if value is not None}
