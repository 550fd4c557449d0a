"""``crash-failover`` in simulated fleets: crashes are found at once, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.faults import draw_plan
from txsentinel.sim.groups import Shape
from txsentinel.sim.needless import NO_CRASHES
from txsentinel.sim.run import Run, draw_shape


def run(seed: int, kinds: tuple[str, ...], seconds: float) -> tuple[int, list[str]]:
    """Return the number of masters that were taken for crashed while the faults lasted, and what was violated."""
    shape = replace(draw_shape(seed), crash_failover=True)
    current = Run(seed, seconds, draw_plan(seed, seconds, kinds), shape)
    current.start()
    current.inject_faults()
    verdicts = current.checker.crashes.verdicts
    outcome = Run(seed, seconds, draw_plan(seed, seconds, kinds), shape).all()
    return verdicts, outcome.wrong


class CrashTests(SynchronousTestCase):
    """Whole runs of seeds."""

    def test_crashes(self) -> None:
        """Killed masters are taken for crashed, in most runs before down-after, and nothing is violated."""
        total = 0
        for seed in range(1, 6):
            verdicts, wrong = run(seed, ("kill-server", "masters-die", "flap"), 30.0)
            self.assertEqual(wrong, [], seed)
            total += verdicts
        self.assertGreater(total, 4)

    def test_everything_else(self) -> None:
        """No fault in which the processes of the servers live on is taken for a crash."""
        for seed in range(1, 6):
            verdicts, wrong = run(seed, NO_CRASHES, 60.0)
            self.assertEqual((verdicts, wrong), (0, []), seed)

    def test_speed(self) -> None:
        """A master that dies in a healthy group is replaced long before down-after has passed."""
        current = Run(3, 1.0, [], Shape(down_after=30_000, crash_failover=True))
        current.start()
        fleet = current.fleet
        fleet.run(5.0)
        began = fleet.simulation.seconds()
        dying = next(server for server in fleet.masters[0].servers if server.is_master)
        dying.host.kill()
        self.assertTrue(
            fleet.simulation.run_until(lambda: any(s.is_master and s is not dying for s in fleet.servers), 1.0)
        )
        self.assertLess(fleet.simulation.seconds() - began, 0.5)
