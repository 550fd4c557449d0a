"""One what-if from beginning to end: stable state, faults, their effects, and the return of what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from txsentinel.sim.whatif.client import AcknowledgedWrite, Writer
from txsentinel.sim.whatif.environment import CLIENT, Conditions, Fixture, InstalledGroup, InstalledServer
from txsentinel.sim.whatif.faults import Injector, RequestedFault
from txsentinel.sim.whatif.narrative import Change, Narrative, TimelineEntry
from txsentinel.sim.whatif.reasons import why_not
from txsentinel.sim.whatif.topology import Topology

REST_LIMIT: Final = 30.0
"""Seconds within which the members of a healthy fleet know each other."""

WARM_UP: Final = 2.0
"""Seconds of stable operation, with writes, before the first fault."""

STABLE_SECONDS: Final = 5.0
"""Seconds without an event after which none is expected."""

ELECTION: Final = 12.0
"""Longest time of an election in seconds, with a margin."""

RETURN_LIMIT: Final = 90.0
"""Seconds after the end of the last fault within which all is healthy again, TILT included."""

FRESH: Final = 1.0
"""A master counts as working if it acknowledged a write within so many seconds."""

MIN_OUTAGE: Final = 0.1
"""Seconds without an acknowledged write that are the pace of writing and no outage."""


@dataclass(frozen=True, slots=True)
class Outage:
    """Writes had no master between these two times; ``until`` is ``None`` if the end was not observed."""

    since: float
    until: float | None
    seconds: float


@dataclass(slots=True)
class MasterResult:
    """The outcome for one master; times in seconds since the first fault."""

    name: str
    before: str
    works: bool = False
    """Whether there was a master to write to once the faults had taken effect, and at the very end."""
    after: str | None = None
    """The server that took writes at the very end; ``None`` if none did once the faults had taken effect."""
    changes: list[Change] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    acknowledged: int = 0
    lost: int = 0
    lost_of: dict[str, int] = field(default_factory=dict)
    """Server → number of its acknowledged writes that are not in the final data."""
    why_not: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)

    @property
    def max_outage(self) -> float:
        """The longest outage in seconds."""
        return max((outage.seconds for outage in self.outages), default=0.0)


@dataclass(slots=True)
class SeedResult:
    """The outcome of one seed."""

    seed: int
    works: bool
    masters: list[MasterResult]
    timeline: list[TimelineEntry]
    unstable_reasons: list[str]
    """What was not healthy before the first fault."""
    scripts: dict[str, int]
    failures: list[str]
    """Uncaught exceptions: a bug of txsentinel, not of the installation."""


class WhatIf:
    """
    One run.

    :param seconds: how long to watch after the last fault; ``None`` for as long as it may have effects.
    :param returns: end all lasting faults in the end, and watch the effects of that too.
    """

    def __init__(
        self,
        topology: Topology,
        faults: Sequence[RequestedFault],
        conditions: Conditions,
        seed: int,
        seconds: float | None = None,
        returns: bool = True,
    ) -> None:
        self.fixture = Fixture(topology, seed, conditions)
        self.narrative = Narrative(self.fixture)
        self._faults = faults
        self._seed = seed
        self._seconds = seconds
        self._returns = returns
        self._injector = Injector(self.fixture, self.narrative.fault)
        self._signature: object = None
        self._stable_since = 0.0
        self._verdict_at = 0.0
        """When waiting stopped, in seconds since the first fault."""
        self._results: dict[str, MasterResult] = {}

    def run(self) -> SeedResult:
        """Run all phases, once."""
        fixture = self.fixture
        fixture.start()
        fixture.run_until(lambda: not fixture.unstable_reasons(), REST_LIMIT)
        unstable_reasons = fixture.unstable_reasons()
        fixture.simulation.run(WARM_UP)
        self._results = {
            group.name: MasterResult(group.name, fixture.master_of(group).name) for group in fixture.groups
        }
        zero = fixture.simulation.seconds() + min(fault.at for fault in self._faults)
        self._injector.plan(self._faults)
        self._wait_for_effects()
        self.narrative.stop_waiting()
        self._verdict_at = fixture.simulation.seconds() - zero
        for group in fixture.groups:
            result = self._results[group.name]
            server = self._serving(group)
            result.works, result.after = server is fixture.master_of(group), None if server is None else server.name
            if not result.works:
                result.why_not = why_not(fixture, group, server)
        if self._returns and self._injector.lasting:
            self._end_faults()
        for group in fixture.groups:
            self._evaluate(group, zero)
        timeline = sorted([*self.narrative.entries, *self._client_entries()], key=lambda entry: entry.at)
        masters = [*self._results.values()]
        return SeedResult(
            seed=self._seed,
            works=all(master.works for master in masters),
            masters=masters,
            timeline=timeline,
            unstable_reasons=unstable_reasons,
            scripts=self.narrative.scripts,
            failures=[str(failure) for failure in fixture.simulation.failures],
        )

    # Phases

    def _wait_for_effects(self) -> None:
        """Advance until the faults can have no more effects."""
        simulation, injector = self.fixture.simulation, self._injector
        options = [group.topology.options for group in self.fixture.groups]
        down_after = max(each.down_after for each in options) / 1000
        timeout = down_after + ELECTION + 2 * max(each.failover_timeout for each in options) / 1000 + ELECTION
        while True:
            simulation.run(0.25)
            self._note_stable()
            if injector.pending:
                continue
            since = simulation.seconds() - injector.changed_at
            if self._seconds is not None:
                if since >= self._seconds:
                    return
            elif since >= timeout or (since >= down_after + STABLE_SECONDS and self._stable()):
                return

    def _note_stable(self) -> None:
        signature = [
            (
                sentinel.name,
                name,
                view.published_address,
                view.config_epoch,
                view.failover_state,
                view.sdown_since is None,
                view.odown_since is None,
                sentinel.alive.core.tilt.active,
            )
            for sentinel in self.fixture.sentinels
            for name in sentinel.topology.masters
            if (view := sentinel.view(name)) is not None
        ]
        if signature != self._signature:
            self._signature, self._stable_since = signature, self.fixture.simulation.seconds()

    def _stable(self) -> bool:
        """Whether nothing has changed for a while, and nothing is pending that time alone resolves."""
        now = self.fixture.simulation.seconds()
        if now - self._stable_since < STABLE_SECONDS:
            return False
        for group in self.fixture.groups:
            works = self._serving(group) is not None
            for sentinel in self.fixture.monitors(group.name):
                view = sentinel.view(group.name)
                if view is None or sentinel.host.reactor.stalled:
                    continue
                if view.failover is not None:
                    return False
                if not works and self._may_change(
                    sentinel.alive.core.tilt.active, view.attempt_started_at, sentinel.host.now()
                ):
                    return False
        return True

    def _may_change(self, tilt: bool, started: int | None, now: int) -> bool:
        """Whether TILT will end, or an attempt made before the latest change may succeed when repeated."""
        if tilt:
            return True
        age = self.fixture.simulation.seconds() - self._injector.changed_at
        return started is not None and now - started > age * 1000

    def _serving(self, group: InstalledGroup) -> InstalledServer | None:
        """The server that took a write just now."""
        writes = self.fixture.application.writers[group.name].acknowledged
        if not writes or self.fixture.simulation.seconds() - writes[-1].at > FRESH:
            return None
        return self.fixture.server_at(*writes[-1].place)

    def _end_faults(self) -> None:
        """End the remaining faults, and observe the processes that return."""
        fixture = self.fixture
        back = [process.server for _, done in self._injector.lasting for process in done.hit]
        servers = [server for server in dict.fromkeys(back) if server is not None]
        self._injector.undo_lasting()
        began = fixture.simulation.seconds()
        fixture.simulation.run(0.05)
        returned_after: dict[str, float] = {}

        def done() -> bool:
            for group in fixture.groups:
                master = fixture.master_of(group)
                for server in group.servers:
                    if fixture.follows(server, master) and server.name not in returned_after:
                        returned_after[server.name] = fixture.simulation.seconds() - began
                    elif not fixture.follows(server, master):
                        returned_after.pop(server.name, None)
            return not fixture.unstable_reasons()

        well = fixture.run_until(done, RETURN_LIMIT, step=0.05)
        fixture.simulation.run(FRESH + 0.1)
        for group in fixture.groups:
            result = self._results[group.name]
            master = fixture.master_of(group)
            serving = self._serving(group)
            result.works = result.works and serving is master
            if result.after is not None and serving is not None:
                result.after = serving.name
            for server in servers:
                if server not in group.servers:
                    continue
                if server is master:
                    still = "still" if server.name == result.before else "now"
                    result.returned.append(f"{server.name} is back, and {still} the master")
                elif server.name in returned_after:
                    after = returned_after[server.name]
                    result.returned.append(f"{server.name} follows {master.name} {after:.1f} s after its return")
                else:
                    result.returned.append(f"{server.name} does not follow {master.name} {RETURN_LIMIT:g} s later")
            if not well:
                result.returned += [what for what in fixture.unstable_reasons() if group.name in what]

    # Results

    def _evaluate(self, group: InstalledGroup, zero: float) -> None:
        result = self._results[group.name]
        writer = self.fixture.application.writers[group.name]
        result.changes = self.narrative.changes[group.name]
        writes = [write for write in writer.acknowledged if write.at >= zero - WARM_UP]
        result.acknowledged = len(writes)
        result.outages = self._outages(writes, zero)
        data = self.fixture.master_of(group).redis.data
        if self._serving(group) is not None:
            for write in writes:
                if Writer.key(write.number) not in data:
                    result.lost += 1
                    server = self.fixture.server_at(*write.place)
                    name = "an unknown server" if server is None else server.name
                    result.lost_of[name] = result.lost_of.get(name, 0) + 1

    def _outages(self, writes: Sequence[AcknowledgedWrite], zero: float) -> list[Outage]:
        """Gaps between writes. A gap in which waiting stopped has no end: the end of the faults closed it."""
        least = max(MIN_OUTAGE, 5 * self.fixture.conditions.write_period)
        times = [write.at - zero for write in writes]
        end, verdict_at = self.fixture.simulation.seconds() - zero, self._verdict_at
        found = []
        for a, b in pairwise([*(times or [0.0]), end]):
            if b - a <= least:
                continue
            if a < verdict_at < b or b == end:
                found.append(Outage(a, None, (verdict_at if a < verdict_at else end) - a))
            else:
                found.append(Outage(a, b, b - a))
        return found

    def _client_entries(self) -> list[TimelineEntry]:
        """The application's entries in the timeline."""
        entries = []
        least = max(MIN_OUTAGE, 5 * self.fixture.conditions.write_period)
        zero = self.fixture.simulation.seconds() - self.narrative.now
        for name in self._results:
            writes = [w for w in self.fixture.application.writers[name].acknowledged if w.at >= zero - WARM_UP]
            for last, first in pairwise([*writes, None]):
                if last is None:
                    continue
                stopped = first is None and self.fixture.simulation.seconds() - last.at > least
                if stopped or (first is not None and first.at - last.at > least):
                    entries.append(
                        TimelineEntry(last.at - zero, CLIENT, "", f"has its last write to {name} acknowledged")
                    )
                if first is not None and first.at - last.at > least:
                    server = self.fixture.server_at(*first.place)
                    where = "" if server is None else f" by {server.name}"
                    gap = f"{first.at - last.at:.3f} s later"
                    text = f"has a write to {name} acknowledged again{where}, {gap}"
                    entries.append(TimelineEntry(first.at - zero, CLIENT, "", text))
                elif first is not None and first.place != last.place:
                    old, new = self.fixture.server_at(*last.place), self.fixture.server_at(*first.place)
                    if old is not None and new is not None:
                        text = f"writes to {name} at {new.name} from here on, after {old.name}"
                        entries.append(TimelineEntry(first.at - zero, CLIENT, "", text))
        return entries
