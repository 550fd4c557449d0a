"""Tests of masters that restart without their data in simulated fleets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core import observation
from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape
from txsentinel.sim.redis.instance import RedisInstance
from txsentinel.sim.redis.persistence import Persistence


class EmptyRestartTests(SynchronousTestCase):
    """Three Sentinels over a master and two replicas; each restart is watched by the checker."""

    def start(self, **options: object) -> RedisInstance:
        """Start a fleet, and return its master once it has data."""
        self.fleet = Fleet(7, Shape(down_after=5_000, **options))  # type: ignore[arg-type]
        self.checker = InvariantChecker(self.fleet)
        self.fleet.start()
        self.assertTrue(self.fleet.converge())
        self.fleet.run(15)
        (group,) = self.fleet.masters
        self.servers = group.servers
        return self.master()

    def master(self) -> RedisInstance:
        """Return the server that is a master."""
        return next(server for server in self.servers if server.is_master)

    def restart(self, server: RedisInstance, seconds: float) -> None:
        """Kill a server, and start it again after that time."""
        server.host.kill()
        self.fleet.run(seconds)
        server.host.restart()
        self.fleet.run(3)
        self.assertTrue(self.fleet.converge())

    def test_restart_delays(self) -> None:
        """However soon the empty master is back, a replica has replaced it and all data is kept."""
        for seconds in (0.1, 0.2, 0.5, 1.0, 2.0):
            master = self.start()
            keys = set(master.data)
            self.assertGreater(len(keys), 20)
            master.storage.erase()
            self.restart(master, seconds)
            self.assertIsNot(self.master(), master)
            for server in self.servers:
                self.assertLessEqual(keys, server.data.keys(), f"{server} after {seconds} s")
            self.assertEqual(self.checker.violations, [])

    def test_persistence(self) -> None:
        """A master that has persisted its data keeps its role, and nothing is lost."""
        for mode in (Persistence.LOG, Persistence.SNAPSHOT):
            master = self.start(persistence=mode)
            keys = set(master.data)
            if mode is Persistence.SNAPSHOT:
                master.save()
            self.restart(master, 0.5)
            self.assertIs(self.master(), master)
            self.assertTrue(all(keys <= server.data.keys() for server in self.servers))
            self.assertFalse([line for line in self.fleet.lines if "+sdown master" in line.text])
            self.assertEqual(self.checker.violations, [])

    def test_all_replicas_emptied(self) -> None:
        """If the Sentinels could not act, the data is lost, and every Sentinel logs that."""
        master = self.start()
        for sentinel in self.fleet.sentinels:
            sentinel.host.pause()
        master.storage.erase()
        master.host.kill()
        self.fleet.run(0.1)
        master.host.restart()
        self.fleet.run(1.6)
        self.assertFalse([server for server in self.servers if len(server.data) > 25])
        for sentinel in self.fleet.sentinels:
            sentinel.host.resume()
        self.fleet.run(3)
        reports = [line.who for line in self.fleet.lines if "DATA LOST" in line.text]
        self.assertEqual(sorted(reports), ["s1", "s2", "s3"])
        self.assertEqual(self.checker.violations, [])

    def test_reports_from_before_the_copies(self) -> None:
        """A Sentinel to which no replica has reported its copy yet may go on; it learns that with the next INFO."""
        master = self.start()
        master.storage.erase()
        master.host.kill()
        self.fleet.run(0.3)
        master.host.restart()
        sentinel = self.fleet.sentinels[0]
        record, view = self.checker.records.sentinels["s1"], sentinel.alive.core.master("m1")
        self.assertTrue(self.fleet.simulation.run_until(lambda: view.data_missing_since is not None, 1.0))
        for each in self.fleet.sentinels:
            each.host.pause()
        self.fleet.run(1.9)
        self.assertFalse(self.checker.data.is_missing_at(master.host.ip))
        self.assertTrue(self.checker.data.was_missing_to(record, view))
        for each in self.fleet.sentinels:
            each.host.resume()
        self.fleet.run(3)
        self.assertFalse(self.checker.data.was_missing_to(record, view))


class OtherGroupTests(SynchronousTestCase):
    """A server that once followed the master of another group, and is listed there still, becomes a master."""

    def promote(self, c_peers: int) -> tuple[Fleet, InvariantChecker]:
        """Have such a server promoted in its own group, and return what happened half a minute later."""
        fleet = Fleet(1, Shape(masters=2, replicas=1, c_peers=c_peers))
        checker = InvariantChecker(fleet)
        fleet.start()
        self.assertTrue(fleet.converge())
        own, other = fleet.masters
        server = own.servers[1]
        server.replication.follow(other.servers[0].address)
        fleet.run(12.0)
        server.replication.follow(own.servers[0].address)
        fleet.run(4.0)
        fleet.clients[0].order("SENTINEL", "FAILOVER", own.name)
        fleet.run(1.0)
        self.assertTrue(server.is_master)
        fleet.run(35.0)
        self.assertTrue(all(len(each.alive.core.master(other.name).replicas) == 2 for each in fleet.sentinels))
        return fleet, checker

    def test_our_orders(self) -> None:
        """It stays a master."""
        fleet, checker = self.promote(0)
        self.assertEqual(checker.violations, [])
        self.assertTrue(fleet.masters[0].servers[1].is_master)

    def test_orders_by_c(self) -> None:
        """A C Sentinel makes it a replica of the other group; its own replica, with the same data, is not promoted."""
        fleet, checker = self.promote(1)
        self.assertEqual(checker.violations, [])
        first, second = fleet.masters[0].servers
        self.assertEqual(second.master_address, fleet.masters[1].servers[0].address)
        self.assertEqual(first.master_address, second.address)

    def test_orders_are_checked(self) -> None:
        """A Sentinel that orders what the C Sentinel does is found out."""
        self.patch(observation, "may_be_ordered", lambda state, registry, replica: True)
        _, checker = self.promote(0)
        found = [each.what for each in checker.violations if each.invariant == "S11"]
        self.assertIn("ordered 10.1.0.2, the master of m1, to follow ('10.2.0.1', 6379)", found[0])
