"""The count of needless failovers: which failovers are taken for needless, and that there are none."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape
from txsentinel.sim.needless import OUTDATED_SECONDS, MasterAvailability, NeedlessTotals, run_seed


class NeedlessTests(SynchronousTestCase):
    """Whole runs of seeds, and single failovers."""

    def test_seeds(self) -> None:
        """No failover of these seeds is needless, no master is taken for crashed, and nothing is violated."""
        totals = NeedlessTotals()
        for seed in (4, 7):
            totals.add(run_seed(seed, 20.0))
        self.assertEqual((totals.needless, totals.verdicts, totals.violations), (0, 0, 0), totals)
        self.assertGreater(totals.attempts, 0)

    def test_kinds(self) -> None:
        """A failover is justified, late or needless by how long a majority could use the master."""
        fleet = Fleet(1, Shape())
        found = MasterAvailability(fleet)
        fleet.start()
        self.assertTrue(fleet.converge())
        fleet.network.isolate(fleet.sentinels[2].host)
        fleet.servers[0].host.pause_for(1.0)
        counted = []
        for seconds in (0.5, 1.0, 2.0, OUTDATED_SECONDS):
            fleet.run(seconds)
            found.begun(fleet.simulation.seconds(), "s1", "m1", fleet.servers[0].host.ip)
            counted.append((found.attempts, len(found.late), len(found.needless)))
        self.assertEqual(counted, [(1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 1, 1)])
