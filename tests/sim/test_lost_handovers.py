"""A leader that dies after the servers exchanged their roles: the others detect the new master and publish it."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.faults import FAULT_TYPES
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape


class LostHandoverTests(SynchronousTestCase):
    """One master with two replicas under three Sentinels, whose failover-timeout is a minute."""

    def test_published_soon(self) -> None:
        """
        Within down-after and some seconds, though the others have just voted, the leader publishes the promoted
        replica.
        """
        for seed in range(12):
            fleet = Fleet(seed, Shape(down_after=1_000 + 500 * (seed % 3), failover_timeout=60_000))
            checker = InvariantChecker(fleet)
            fleet.start()
            self.assertTrue(fleet.converge(), fleet.disagreements())
            fleet.run(seed * 0.137)
            old = next(server for server in fleet.servers if server.is_master)
            _, end = FAULT_TYPES["lost-handover"](fleet, Random(seed))
            lost = fleet.simulation.run_until(lambda: any(not each.running for each in fleet.sentinels), 5.0)  # noqa: B023
            self.assertTrue(lost, f"nobody led, seed {seed}")
            new = next(server for server in fleet.servers if server.is_master)
            self.assertIsNot(new, old)

            def published() -> bool:
                return all(
                    sentinel.alive.core.master(fleet.masters[0].name).published_address.ip == new.host.ip  # noqa: B023
                    for sentinel in fleet.sentinels  # noqa: B023
                    if sentinel.running
                )

            self.assertTrue(fleet.simulation.run_until(published, 5.0 + seed % 3), f"not published, seed {seed}")
            end()
            self.assertTrue(fleet.converge(), fleet.disagreements())
            self.assertEqual([str(violation) for violation in checker.violations], [])
            self.assertTrue(new.is_master)
