"""The view of a Sentinel in simulated fleets: its cached snapshots are those that would be made anew."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, cast

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.state import SentinelState
from txsentinel.model.snapshots import MasterSnapshot, ViewChange
from txsentinel.runtime.view import SentinelView
from txsentinel.sim.faults import FaultInjector, draw_plan, heal
from txsentinel.sim.fleet import Observer, SimSentinel
from txsentinel.sim.host import SimHost
from txsentinel.sim.run import Run, draw_shape

if TYPE_CHECKING:
    from txsentinel.interfaces import IHost

SEEDS = range(900, 908)
SECONDS = 40.0
RECOVERY_SECONDS = 20


class SteadyClock:
    """A host whose wall clock differs from the monotonic one by a fixed number of milliseconds."""

    def __init__(self, host: SimHost, offset: int) -> None:
        self.reactor = host.reactor
        self.now = host.now
        self.yield_to_clients = host.yield_to_clients
        self._offset = offset

    def wall_clock(self) -> float:
        """Seconds since 1970."""
        return self.reactor.seconds() + self._offset / 1000


class ViewChecker(Observer):
    """Compares, in every simulated second, the view of each Sentinel with a new one; follows its changes."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.compared = 0
        self.reused = 0
        self.changes = 0
        self.followed: dict[str, dict[str, MasterSnapshot]] = {}

    def born(self, sentinel: SimSentinel) -> None:
        """Subscribe to the view of a new process."""
        view = sentinel.alive.surface.view
        followed = self.followed[sentinel.name] = {each.name: each for each in view.masters()}

        def changed(change: ViewChange) -> None:
            self.changes += 1
            if change.event is None and change.master is not None:
                followed.pop(change.master, None)
                if change.master in view.names():
                    followed[change.master] = view.master(change.master)

        view.subscribe(changed)

    def check(self, sentinel: SimSentinel) -> None:
        """Compare the cached snapshots with those of a new view."""
        service = sentinel.alive
        cached = service.surface.view
        before = self.followed[sentinel.name]
        anew = SentinelView(
            cast("IHost", SteadyClock(sentinel.host, cached.clock_offset)),
            service.core,
            service.context,
            service.surface,
        )
        at = f"{sentinel.fleet.simulation.seconds():.1f} {sentinel.name}"
        pairs = zip(cached.masters(), anew.masters(), strict=True)
        for ours, expected in pairs:
            self.compared += 1
            self.reused += before.get(ours.name) is ours
            explained = cached.explain(ours.name).verdict.code.value
            # Right after an outage of a whole group, explanations of a master that is up again have one reason more.
            if ours.verdict != explained and (ours.verdict, explained) != ("healthy", "resting"):
                self.wrong.append(f"{at}: the verdict is {ours.verdict} instead of {explained}")
            expected = replace(expected, revision=ours.revision)
            if ours != expected:
                for each in fields(ours):
                    mine, right = getattr(ours, each.name), getattr(expected, each.name)
                    if mine != right:
                        self.wrong.append(f"{at}: {each.name}: {mine} instead of {right}")


def run(seed: int) -> ViewChecker:
    """Run one seed with the faults that it draws, and check the views each second."""
    current = Run(seed, SECONDS, draw_plan(seed, SECONDS), draw_shape(seed))
    checker = ViewChecker()
    current.fleet.observers.append(checker)
    current.start()
    FaultInjector(current.fleet, current.plan)
    for second in range(int(SECONDS) + RECOVERY_SECONDS):
        if second == SECONDS:
            heal(current.fleet)
        current.fleet.run(1.0)
        for sentinel in current.fleet.sentinels:
            if sentinel.running:
                checker.check(sentinel)
    return checker


class ViewInFleetsTests(SynchronousTestCase):
    """Whole runs of seeds with faults."""

    def test_cached_snapshots_are_current(self) -> None:
        """After whatever happened, a cached snapshot equals a new one; most are reused."""
        compared = reused = changes = 0
        for seed in SEEDS:
            checker = run(seed)
            self.assertEqual(checker.wrong, [], seed)
            compared, reused = compared + checker.compared, reused + checker.reused
            changes += checker.changes
        self.assertGreater(compared, 1_000)
        self.assertGreater(reused, compared // 2)
        self.assertGreater(changes, 1_000)

    def test_missing_reports_are_found(self) -> None:
        """If the core reported no changes of links, the comparison would fail."""
        self.patch(SentinelState, "touch_link", lambda state, link: None)
        self.assertTrue(any(run(seed).wrong for seed in SEEDS))
