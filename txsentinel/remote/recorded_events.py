"""
Records of failovers that are made from events, for Sentinels that keep none.

The input is what ``txsentinel watch --record`` has written: one JSON object for each event, merged over all Sentinels.
Times are those at which the events arrived; what no event reports, such as the reasons of a vote, stays unknown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from txsentinel.model.history import (
    DataLoss,
    FailoverKind,
    FailoverRecord,
    LossVerdict,
    ObserverRole,
    Outcome,
    PhaseTime,
    ServerRecord,
    VoterRecord,
    failover_group,
)
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.model.ulid import new_ulid

PHASES: Final = {
    "+sdown": "sdown",
    "+odown": "odown",
    "+try-failover": "campaign",
    "+elected-leader": "elected",
    "+selected-slave": "selected",
    "+failover-state-wait-promotion": "promotion_ordered",
    "+promoted-slave": "promoted",
    "+switch-master": "switched",
    "+failover-end": "replicas_done",
    "+failover-end-for-timeout": "replicas_done",
}
"""Events → phases. The first event of each counts."""

OF_REPLICAS: Final = frozenset(("+selected-slave", "+failover-state-wait-promotion", "+promoted-slave"))
"""Those of them that are about the new master while it is a replica."""

ABORTS: Final = {
    "-failover-abort-not-elected": Outcome.NOT_ELECTED,
    "-failover-abort-no-good-slave": Outcome.NO_GOOD_REPLICA,
    "-failover-abort-slave-timeout": Outcome.REPLICA_TIMEOUT,
    "-failover-abort-master-timeout": Outcome.MASTER_TIMEOUT,
}

NO_LOSS: Final = DataLoss(LossVerdict.UNKNOWN, None, None, None, "events do not report it")


class BadRecording(Exception):
    """A file that ``watch --record`` has not written; ``str(error)`` has the line and the reason."""


@dataclass(frozen=True)
class EventLine:
    """One line of the file."""

    at: Instant
    channel: str
    payload: str
    master: str | None
    sentinels: tuple[str, ...]


def recorded_events(lines: Iterable[str]) -> Iterator[EventLine]:
    """
    Read a file.

    :raises BadRecording: at the first line that is no event. A last line without its end is skipped: the writer was
        interrupted there.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _event(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            if line.endswith("\n"):
                raise BadRecording(f"line {number} is no event of 'txsentinel watch --record'") from None


def _event(entry: Any) -> EventLine:
    at = datetime.fromisoformat(entry["at"])
    if at.tzinfo is None or not all(isinstance(entry[name], str) for name in ("event", "payload")):
        raise ValueError(entry)
    master = entry["master"]
    sentinels = tuple(str(each) for each in entry["sentinels"])
    return EventLine(Instant(round(at.timestamp() * 1000)), entry["event"], entry["payload"], master, sentinels)


@dataclass
class _Failover:
    """A failover of one master that is not over, or may still get its last phases."""

    master: str
    epoch: int = 0
    leader_address: str | None = None
    phases: list[tuple[str, Instant]] = field(default_factory=list)
    voters: list[VoterRecord] = field(default_factory=list)
    old: Endpoint | None = None
    new: Endpoint | None = None
    outcome: Outcome | None = None
    down: bool = False

    def reached(self, phase: str, at: Instant) -> None:
        if phase not in [name for name, _ in self.phases]:
            self.phases.append((phase, at))

    def _leader(self) -> str | None:
        """Return the ID of the leader: its own vote names it."""
        return next((each.vote for each in self.voters if each.sentinel_id == self.leader_address), None)

    def record(self) -> FailoverRecord | None:
        """Return the record; ``None`` for a master that was down without a failover."""
        if self.outcome is None or self.old is None:
            return None
        phases = []
        before: Instant | None = None
        for name, at in sorted(self.phases, key=lambda phase: phase[1]):
            phases.append(PhaseTime(name, at, None if before is None else at.unix_ms - before.unix_ms))
            before = at
        end = self.phases[-1][1].unix_ms
        noise = hashlib.sha256(f"{self.master}\0{self.epoch}".encode("utf-8", "surrogateescape")).digest()[:10]
        return FailoverRecord(
            record_id=new_ulid(end, noise),
            group=failover_group(self.master, self.epoch),
            master=self.master,
            kind=FailoverKind.AUTOMATIC if self.down else FailoverKind.FORCED,
            outcome=self.outcome,
            observer=self.leader_address or "events",
            observer_role=ObserverRole.LEADER if self.leader_address else ObserverRole.BYSTANDER,
            leader=self._leader(),
            cause="down" if self.down else "operator",
            failure_class=None,
            from_server=ServerRecord(self.old, None, None, None, None),
            to_server=None if self.new is None else ServerRecord(self.new, None, None, None, None),
            epoch=self.epoch,
            config_epoch=self.epoch if self.outcome is Outcome.SWITCHED else 0,
            phases=tuple(phases),
            voters=tuple(self.voters),
            replicas=(),
            chosen_because=None,
            loss=NO_LOSS,
            resyncs=None,
            clients_closed=None,
            operator=None,
        )


class FailoverCollector:
    """Makes records from events in the order of their arrival."""

    def __init__(self) -> None:
        self.records: list[FailoverRecord] = []
        self._open: dict[str, _Failover] = {}
        self._epoch = 0

    def add(self, event: EventLine) -> None:
        """Add an event."""
        if event.channel == "+new-epoch":
            self._epoch = _number(event.payload)
        elif event.channel == "+vote-for-leader":
            self._vote(event)
        elif event.master is not None:
            self._of_master(event, event.master)

    def close(self) -> list[FailoverRecord]:
        """Return the records of all failovers; one without an end in the file is left out."""
        for name in list(self._open):
            self._finish(name)
        return self.records

    def _of_master(self, event: EventLine, name: str) -> None:
        about_master = event.payload.startswith("master ") or event.channel == "+switch-master"
        found = self._open.get(name)
        if event.channel == "+sdown" and about_master:
            found = self._next(name, found)
            found.down = True
        elif event.channel == "-sdown" and about_master and found is not None and not found.epoch:
            del self._open[name]
            return
        elif event.channel == "+try-failover":
            found = self._next(name, found)
            found.epoch = self._epoch
        if found is None:
            return
        if event.channel in PHASES and (about_master or event.channel in OF_REPLICAS):
            found.reached(PHASES[event.channel], event.at)
        if event.channel in ("+sdown", "+try-failover") and about_master:
            found.old = _address(event.payload.split(" ")[2:4]) or found.old
        elif event.channel == "+elected-leader" and event.sentinels:
            found.leader_address = event.sentinels[0]
        elif event.channel == "+switch-master":
            words = event.payload.split(" ")
            found.old, found.new = _address(words[1:3]), _address(words[3:5])
            found.outcome = Outcome.SWITCHED
        elif event.channel in ABORTS:
            found.reached("aborted", event.at)
            found.outcome = ABORTS[event.channel]

    def _next(self, name: str, found: _Failover | None) -> _Failover:
        """Return the failover that is not over, or a new one; the master of an aborted one is still down."""
        if found is not None and found.outcome is None:
            return found
        self._finish(name)
        self._open[name] = _Failover(name, down=found is not None and found.down and found.new is None)
        return self._open[name]

    def _vote(self, event: EventLine) -> None:
        """Add votes to the failover of their epoch, one for each Sentinel."""
        candidate, _, epoch = event.payload.partition(" ")
        for found in self._open.values():
            if found.epoch and found.epoch == _number(epoch):
                voted = {each.sentinel_id for each in found.voters}
                found.voters += [
                    VoterRecord(sentinel, "unknown", None, event.at, candidate, found.epoch, None)
                    for sentinel in event.sentinels
                    if sentinel not in voted
                ]

    def _finish(self, name: str) -> None:
        found = self._open.pop(name, None)
        record = None if found is None else found.record()
        if record is not None:
            self.records.append(record)


def _number(words: str) -> int:
    return int(words) if words.isascii() and words.isdigit() else 0


def _address(words: list[str]) -> Endpoint | None:
    return Endpoint(words[0], int(words[1])) if len(words) == 2 and words[1].isdigit() else None


def recorded_failovers(lines: Iterable[str]) -> list[FailoverRecord]:
    """
    Return the failovers in a file of ``watch --record``, oldest first.

    :raises BadRecording: see :func:`recorded_events`.
    """
    collector = FailoverCollector()
    for event in sorted(recorded_events(lines), key=lambda event: event.at):
        collector.add(event)
    return collector.close()
