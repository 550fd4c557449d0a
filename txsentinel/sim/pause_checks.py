"""
The invariant of pauses of automatic failovers, checked on all Sentinels together.

====== ===============================================================================================
pause  no server is promoted by a Sentinel of its own accord, ours or of C, while a Sentinel that runs states that
       this cannot happen, because failovers of the master are paused. A Sentinel in a pause votes for others only if
       that was admitted, and for itself only if an operator has ordered the failover.
====== ===============================================================================================

What a Sentinel states about a pause that was ended or replaced by a later order, which may not have reached it, does
not count. Nor does it if the wall clock of another one was changed, and that one was started again: the pause may be
shorter there, by as much as the clock was changed.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import Final

from txsentinel.core.durable_records import RecordKind
from txsentinel.core.instances import Master
from txsentinel.core.pause_rules import pauses_of
from txsentinel.sim.fleet import SimSentinel
from txsentinel.sim.records import Records

CHECK_INTERVAL: Final = 0.02
"""Seconds between two inspections of the C Sentinels."""

CLOCK_TOLERANCE: Final = 0.05
"""Seconds by which the clock of a Sentinel may drift."""


class PauseChecker:
    """Check the promotions of one fleet. It costs nothing until the first pause."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._fleet = records.fleet
        self._fleet.pause_ordered = self._ordered
        self._void: set[str] = set()
        """IDs of the orders that were ended or replaced."""

        self._clocks: dict[str, tuple[int, float]] = {}
        """Sentinel → its process and the offset of its clock, at the last order."""

        self._c_attempts: dict[tuple[str, str], int] = {}
        self._watching = False
        self.guaranteed = 0
        """The number of inspections in which a pause was guaranteed."""

        self.promotions = 0
        """The number of promotions while a pause was in force, guaranteed or not."""

    def _ordered(self) -> None:
        """An operator pauses failovers or ends pauses: from now on earlier orders do not count."""
        for sentinel in self._fleet.sentinels:
            if sentinel.running:
                core = sentinel.alive.core
                for held in core.records.in_force(RecordKind.PAUSE, sentinel.host.now()):
                    self._void.add(held.record.request_id)
                self._clocks[sentinel.name] = id(core), sentinel.host.wall_offset
            else:
                self._clocks[sentinel.name] = 0, sentinel.host.wall_offset
        if not self._watching:
            self._watching = True
            self._inspect()

    def _clock_changed(self) -> bool:
        for sentinel in self._fleet.sentinels:
            process, offset = self._clocks[sentinel.name]
            restarted = not sentinel.running or id(sentinel.alive.core) != process
            if restarted and abs(sentinel.host.wall_offset - offset) > CLOCK_TOLERANCE:
                return True
        return False

    def claims(self, name: str) -> list[str]:
        """Return the Sentinels that state that no failover of a master can happen now."""
        found: list[str] = []
        if not self._watching or self._clock_changed():
            return found
        for sentinel in self._fleet.sentinels:
            if not sentinel.running:
                continue
            core, now = sentinel.alive.core, sentinel.host.now()
            master = core.registry.masters.get(name)
            held = [] if master is None else pauses_of(core.state, name, now)
            valid = [each for each in held if each.record.request_id not in self._void]
            if master is not None and valid and core.pauses.guarantee(master, now).guaranteed:
                found.append(sentinel.name)
        return found

    def promoted(self, who: str, name: str) -> None:
        """A Sentinel orders a promotion of its own accord."""
        claims = self.claims(name)
        self.promotions += self._watching
        self._records.expect(not claims, "pause", f"{who} promotes a replica of {name}, which {claims} excluded")

    def voted(self, sentinel: SimSentinel, master: Master, candidate: str, epoch: int) -> None:
        """A Sentinel gives a vote."""
        core, now = sentinel.alive.core, sentinel.host.now()
        if not self._watching or not pauses_of(core.state, master.name, now):
            return
        failover, admission = master.failover, core.state.admissions.get(master.name)
        if candidate == core.options.my_id:
            allowed = failover is not None and not failover.automatic
        else:
            allowed = admission is not None and (admission.candidate, admission.epoch) == (candidate, epoch)
        self._records.expect(allowed, "pause", f"{sentinel.name} votes for {candidate} in a pause of {master.name}")

    def _inspect(self) -> None:
        for peer in self._fleet.c_peers:
            for name, master in peer.masters.items():
                before = self._c_attempts.get((peer.name, name))
                if master.state == "promotion" and before != master.entered_at:
                    self._c_attempts[peer.name, name] = master.entered_at
                    self.promoted(peer.name, name)
        self.guaranteed += any(self.claims(group.name) for group in self._fleet.masters)
        self._fleet.simulation.call_later(CHECK_INTERVAL, self._inspect)
