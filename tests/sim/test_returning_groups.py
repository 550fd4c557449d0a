"""Groups that are paused and continue: no server is replaced that returns in time, in any order."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape

OFFSETS = (-1.0, -0.5, -0.2, -0.05, 0.0, 0.05, 0.2, 0.5, 1.0)
"""Seconds by which the master continues after its replicas, or before them."""


class ReturningGroupTests(SynchronousTestCase):
    """A master and its two replicas under three Sentinels with a down-after of two seconds."""

    def pause(self, seed: int, seconds: float, offset: float) -> int:
        """Pause the group; return the number of promotions until it was stable again."""
        fleet = Fleet(seed, Shape(down_after=2_000))
        checker = InvariantChecker(fleet)
        fleet.start()
        self.assertTrue(fleet.converge(), fleet.disagreements())
        # PINGs, INFOs and hellos are at another point of their periods in each run.
        fleet.run(seed * 0.137)
        master, *replicas = fleet.servers
        for server in fleet.servers:
            server.host.pause()
        fleet.run(seconds)
        first, last = (replicas, [master]) if offset > 0 else ([master], replicas)
        for server in first:
            server.host.resume()
        fleet.run(abs(offset))
        for server in last:
            server.host.resume()
        self.assertTrue(fleet.converge(), fleet.disagreements())
        self.assertEqual([str(violation) for violation in checker.violations], [])
        return checker.failovers

    def test_no_failover(self) -> None:
        """Whichever continues first, after a pause that was just noticed or a long one."""
        for number, offset in enumerate(OFFSETS):
            for seconds in (2.2, 3.0, 4.0, 20.0):
                seed = 1 + 4 * number + int(seconds)
                self.assertEqual(self.pause(seed, seconds, offset), 0, f"{offset} s after {seconds} s, seed {seed}")

    def test_master_that_does_not_return(self) -> None:
        """A master that does not return is replaced soon after the delay."""
        fleet = Fleet(1, Shape(down_after=2_000))
        checker = InvariantChecker(fleet)
        fleet.start()
        self.assertTrue(fleet.converge(), fleet.disagreements())
        master, *replicas = fleet.servers
        for server in fleet.servers:
            server.host.pause()
        fleet.run(4.0)
        for server in replicas:
            server.host.resume()
        self.assertTrue(fleet.simulation.run_until(lambda: any(server.is_master for server in replicas), 3.0))
        master.host.resume()
        self.assertTrue(fleet.converge(), fleet.disagreements())
        self.assertEqual([str(violation) for violation in checker.violations], [])
