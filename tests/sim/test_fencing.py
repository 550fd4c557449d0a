"""``fence-isolated`` in simulated fleets: only isolated masters are paused, and no pause is left."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.instances import Peer
from txsentinel.sim.faults import draw_plan
from txsentinel.sim.groups import Shape
from txsentinel.sim.redis.pauses import PauseReason
from txsentinel.sim.run import Run, draw_shape

FAULTS = (
    "isolate-with-minority",
    "isolate-server",
    "isolate-sentinel",
    "cut-pair",
    "split",
    "reset",
    "directional-block",
    "pause-sentinel",
    "kill-sentinel",
    "crash-sentinel",
    "full-disk",
    "wall-clock",
    "coordinated-failover",
    "manual-failover",
)
"""Faults that begin, disturb and end pauses."""


def shape_of(seed: int) -> Shape:
    """Return the fleet that a seed draws, with the guard."""
    drawn = draw_shape(seed)
    return replace(
        drawn,
        fence_isolated=True,
        down_after=max(6_000, drawn.down_after),
        failover_timeout=max(10_000, drawn.failover_timeout),
    )


def run(seed: int, kinds: tuple[str, ...], seconds: float = 60.0) -> tuple[int, list[str]]:
    """Return the number of pauses that were begun, and what was violated; a pause that is left is a violation."""
    current = Run(seed, seconds, draw_plan(seed, seconds, kinds), shape_of(seed))
    wrong = current.all().wrong
    wrong += [f"{each.host.name} is paused" for each in current.fleet.servers if each.pause(PauseReason.CLIENT_PAUSE)]
    return current.checker.fences.pauses, wrong


class FencingTests(SynchronousTestCase):
    """Whole runs of seeds."""

    def test_isolated_masters(self) -> None:
        """Masters that are isolated with a minority are paused, and nothing is violated."""
        total = 0
        for seed in range(7, 10):
            pauses, wrong = run(seed, ("isolate-with-minority",))
            self.assertEqual(wrong, [], seed)
            total += pauses
        self.assertGreater(total, 5)

    def test_all_faults(self) -> None:
        """The same among other faults, of Sentinels, disks, clocks and operators."""
        for seed in range(300, 303):
            self.assertEqual(run(seed, FAULTS)[1], [], seed)

    def test_returning_connections(self) -> None:
        """A Sentinel whose connection to the master returns before those to the others does not pause it meanwhile."""
        for kinds in (
            (*FAULTS, "crash-server"),
            ("isolate-with-minority", "kill-server", "crash-server", "pause-server"),
        ):
            self.assertEqual(run(9122, kinds)[1], [], kinds)

    def test_majority_on_another_path(self) -> None:
        """A Sentinel that only the others' hellos on the master reach does not pause it; without them it would."""
        for ignored in (False, True):
            if ignored:
                self.patch(Peer, "near_hello_at", property(lambda peer: -1, lambda peer, value: None))
            current = Run(1, 1.0, [], Shape(down_after=6_000, replicas=1, fence_isolated=True))
            current.start()
            fleet = current.fleet
            fleet.run(5.0)
            replica = fleet.masters[0].servers[1]
            first, *others = fleet.sentinels
            fleet.network.isolate(replica.host)
            for other in others:
                fleet.network.cut(first.host, other.host)
            fleet.run(20.0)
            self.assertEqual(bool(current.checker.fences.pauses), ignored)
            self.assertEqual(bool(current.checker.violations), ignored)

    def test_group_that_was_stopped(self) -> None:
        """A master that was stopped with its replicas is not paused before they can acknowledge again."""
        current = Run(1, 1.0, [], Shape(down_after=6_000, fence_isolated=True))
        current.start()
        fleet = current.fleet
        fleet.run(5.0)
        first, *others = fleet.sentinels
        for other in others:
            fleet.network.cut(first.host, other.host)
            for server in fleet.servers:
                fleet.network.cut(other.host, server.host)
        fleet.run(1.0)
        for server in fleet.servers:
            server.host.pause()
        fleet.run(4.0)
        for server in fleet.servers:
            server.host.resume()
            fleet.run(0.5)
        fleet.run(20.0)
        self.assertEqual(current.checker.fences.pauses, 0)
        self.assertEqual([str(each) for each in current.checker.violations], [])

    def test_rejected_sentinel(self) -> None:
        """A Sentinel whose connections to the master are rejected does not reach it, for the checker as well."""
        current = Run(1, 1.0, [], Shape(down_after=6_000, replicas=1, fence_isolated=True))
        current.start()
        fleet = current.fleet
        fleet.run(5.0)
        server, replica = fleet.masters[0].servers
        first, second, third = fleet.sentinels
        third.host.pause()
        fleet.network.cut(first.host, second.host)
        fleet.network.reject(second.host, server.host)
        fleet.network.isolate(replica.host)
        fleet.run(20.0)
        self.assertEqual(current.checker.fences.pauses, 1)
        self.assertEqual([str(each) for each in current.checker.violations], [])

    def test_dead_sentinel(self) -> None:
        """A pause ends by itself within its length when the Sentinel that ordered it loses its power."""
        current = Run(1, 1.0, [], Shape(down_after=6_000, fence_isolated=True))
        current.start()
        fleet = current.fleet
        fleet.run(5.0)
        server, sentinel = fleet.masters[0].servers[0], fleet.sentinels[0]
        hosts = [each.host for each in fleet.servers] + [each.host for each in fleet.sentinels]
        side = (server.host, sentinel.host)
        fleet.network.partition([*side], [host for host in hosts if host not in side])
        self.assertTrue(fleet.simulation.run_until(lambda: server.pause(PauseReason.CLIENT_PAUSE) is not None, 6.0))
        fleet.run(5.0)
        self.assertIsNotNone(server.pause(PauseReason.CLIENT_PAUSE))
        sentinel.host.crash()
        fleet.run(2.1)
        self.assertIsNone(server.pause(PauseReason.CLIENT_PAUSE))
        self.assertEqual([str(each) for each in current.checker.violations], [])
