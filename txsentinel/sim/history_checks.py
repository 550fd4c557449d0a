"""
The invariant ``history``: every failover has a record, in the right order and with the right outcome.

The checker keeps the events that each process of a Sentinel published, and compares them with the records at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from txsentinel.model.events import SentinelEvent
from txsentinel.model.history import FailoverRecord, ObserverRole, Outcome
from txsentinel.runtime.history import MAX_KEPT
from txsentinel.runtime.service import SentinelService
from txsentinel.sim.fleet import Observer, SimSentinel
from txsentinel.sim.records import Records

ABORTS: Final = {
    "-failover-abort-slave-timeout": Outcome.REPLICA_TIMEOUT,
    "-failover-abort-master-timeout": Outcome.MASTER_TIMEOUT,
    "-failover-abort-master-is-back": Outcome.CANCELLED,
}
"""The events that end every failover that they are published for."""

GRACE_PERIOD: Final = 3.0
"""Seconds after the end of a failover within which its record may be missing."""

MASS_FAILURE_GRACE_PERIOD: Final = 20.0
"""The same if masters failed together, whose records are made later."""

LED: Final = ("last_ok_ping", "sdown", "odown", "campaign", "elected", "selected", "promotion_ordered", "promoted")
"""The phases of a failover in their only order, up to the point where others may overlap."""


@dataclass(slots=True)
class _Ended:
    """A failover that ended, according to an event."""

    sentinel: str
    service: SentinelService
    master: str
    outcome: Outcome
    address: str
    led: bool
    at: float

    def __str__(self) -> str:
        return f"{self.outcome.value} of {self.master} to {self.address or 'nothing'} at {self.at:.3f}"


class HistoryChecker(Observer):
    """Compares the records of each Sentinel with the events that it published."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._ended: list[_Ended] = []
        self._led: dict[tuple[str, str], bool] = {}

    def event(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """Keep what shows that a failover has ended, and who led it."""
        words, channel, name = event.payload.split(), event.channel, event.master or ""
        place = sentinel.name, name
        if channel == "+failover-end":
            self._led[place] = True
        elif channel == "+config-update-from":
            self._led[place] = False
        elif channel == "+switch-master" and words[1:3] != words[3:5]:
            self._add(sentinel, name, Outcome.SWITCHED, f"{words[3]}:{words[4]}", self._led.get(place, False))
        elif channel in ABORTS:
            self._add(sentinel, name, ABORTS[channel], "", True)
        elif channel == "-monitor":
            self._ended = [each for each in self._ended if (each.sentinel, each.master) != place]

    def _add(self, sentinel: SimSentinel, name: str, outcome: Outcome, address: str, led: bool) -> None:
        now = self._records.fleet.simulation.seconds()
        self._ended.append(_Ended(sentinel.name, sentinel.alive, name, outcome, address, led, now))

    def finish(self) -> int:
        """Compare at the end of the run; return the number of failovers that were compared."""
        fleet, compared = self._records.fleet, 0
        for sentinel in fleet.sentinels:
            service = sentinel.service
            if not sentinel.running or service is None:
                continue
            made = list(reversed(service.history.records(None, MAX_KEPT)))
            for record in made:
                self._check_phases(sentinel.name, record)
            state = service.core.state
            together = len(state.recent_failures) >= state.limits.mass_failure
            over = fleet.simulation.seconds() - (MASS_FAILURE_GRACE_PERIOD if together else GRACE_PERIOD)
            for ended in self._ended:
                if ended.service is service and ended.at < over and len(made) < MAX_KEPT:
                    compared += 1
                    self._check(ended, made)
        return compared

    def _check(self, ended: _Ended, made: list[FailoverRecord]) -> None:
        """Check that there is a record of this failover; it is removed, so that each needs one of its own."""
        for record in made:
            to = "" if record.to_server is None or not ended.address else str(record.to_server.address)
            # An aborted failover is one that this Sentinel led or wanted to lead.
            led = record.observer_role is ObserverRole.LEADER or record.outcome is not Outcome.SWITCHED
            if (record.master, record.outcome, to, led) == (ended.master, ended.outcome, ended.address, ended.led):
                made.remove(record)
                return
        found = [(each.outcome.value, str(each.to_server and each.to_server.address)) for each in made]
        self._records.expect(False, "history", f"{ended.sentinel} has no record of {ended}, but of {found}")

    def _check_phases(self, who: str, record: FailoverRecord) -> None:
        expect, names = self._records.expect, [phase.phase for phase in record.phases]
        times = [phase.at for phase in record.phases]
        expect(times == sorted(times), "history", f"{who}: phases of {record.master} are not in order: {record.phases}")
        began = [name for name in names if name in LED]
        expect(began == sorted(began, key=LED.index), "history", f"{who}: phases of {record.master}: {names}")
        end = "switched" if record.outcome is Outcome.SWITCHED else "aborted"
        expect(end in names, "history", f"{who}: {record.outcome.value} without {end}: {names}")
        if record.observer_role is ObserverRole.LEADER and record.outcome is Outcome.SWITCHED:
            expect({"elected", "promoted"} <= set(names), "history", f"{who}: {record.master} led without {names}")
            expect(record.chosen_because is not None, "history", f"{who}: {record.master} was chosen without reason")
