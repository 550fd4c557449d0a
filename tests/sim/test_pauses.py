"""Pauses of automatic failovers in simulated fleets: nothing is promoted while that is guaranteed."""

from __future__ import annotations

from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core import vote_leases, voting
from txsentinel.core.durable_records import DurableRecords
from txsentinel.core.instances import Master, Peer
from txsentinel.core.vote_leases import VoteLeases
from txsentinel.sim.faults import draw_plan
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.groups import Shape
from txsentinel.sim.pause_faults import end_pauses
from txsentinel.sim.run import Run

FAULTS: Final = (
    "pause-failovers",
    "pause-failovers",
    "kill-server",
    "crash-server",
    "pause-server",
    "kill-sentinel",
    "crash-sentinel",
    "pause-sentinel",
    "isolate-sentinel",
    "cut-pair",
    "split",
    "reset",
    "full-disk",
    "wall-clock",
    "manual-failover",
)
"""What may let a failover happen in a pause."""


class Scenario:
    """One fleet with one master, without random faults."""

    def __init__(self, **settings: Any) -> None:
        self.run = Run(1, 1.0, [], Shape(**{"failover_timeout": 3_000, "replicas": 1, **settings}))
        self.run.start()
        self.fleet: Fleet = self.run.fleet
        self.fleet.run(5.0)
        (self.group,) = self.fleet.masters

    def pause(self, at: SimSentinel, milliseconds: int = 60_000, require: str = "best-effort") -> None:
        """Pause failovers at one Sentinel, and wait until the others have confirmed it."""
        client = next(each for each in self.fleet.clients if each.target is at.host)
        self.fleet.pause_ordered()
        client.order("TXSENTINEL", "PAUSE", self.group.name, "FOR", str(milliseconds), "REQUIRE", require)
        self.fleet.run(2.0)

    def kill_master(self, seconds: float = 15.0) -> None:
        """Kill the master, and wait."""
        next(server for server in self.group.servers if server.is_master).host.kill()
        self.fleet.run(seconds)

    @property
    def claims(self) -> list[str]:
        """The Sentinels that exclude a failover."""
        return self.run.checker.pauses.claims(self.group.name)

    @property
    def switched(self) -> bool:
        """Whether a replica was promoted."""
        return any(server.host.running and server.is_master for server in self.group.servers)

    @property
    def wrong(self) -> set[str]:
        """The invariants that were violated."""
        return {
            str(each).split()[1] if str(each)[0].isdigit() else str(each).split()[0]
            for each in self.run.checker.violations
        }


class PauseTests(SynchronousTestCase):
    """Single scenarios, each with a Sentinel that breaks a rule as well."""

    def test_ours(self) -> None:
        """Nothing is promoted while the pause lasts, and a replica soon after it has ended."""
        scenario = Scenario()
        scenario.pause(scenario.fleet.sentinels[0], 20_000, "guaranteed")
        self.assertEqual(len(scenario.claims), 3)
        scenario.kill_master()
        self.assertFalse(scenario.switched)
        scenario.fleet.run(8.0)
        self.assertTrue(scenario.switched)
        self.assertEqual(scenario.wrong, set())

    def restart_apart(self) -> Scenario:
        """The first Sentinel is cut off, and the others restart."""
        scenario = Scenario()
        first, *others = scenario.fleet.sentinels
        scenario.pause(first)
        self.assertIn(first.name, scenario.claims)
        for other in others:
            scenario.fleet.network.cut(first.host, other.host)
            other.host.crash()
            other.host.restart()
        scenario.kill_master()
        return scenario

    def test_restart(self) -> None:
        """A pause survives the restart of those that have confirmed it."""
        scenario = self.restart_apart()
        self.assertEqual((scenario.switched, scenario.wrong), (False, set()))

    def test_forgotten_at_restart(self) -> None:
        """Sentinels that forget it are detected."""
        self.patch(DurableRecords, "restore", lambda *arguments: None)
        scenario = self.restart_apart()
        self.assertEqual((scenario.switched, scenario.wrong), (True, {"pause"}))

    def reach_one_way(self) -> Scenario:
        """The last Sentinel reaches the others, which do not reach it."""
        scenario = Scenario()
        *others, last = scenario.fleet.sentinels
        for other in others:
            scenario.fleet.network.reject(other.host, last.host)
        scenario.pause(others[0])
        self.assertEqual(sorted(scenario.claims), sorted(each.name for each in others))
        scenario.kill_master()
        return scenario

    def test_no_vote(self) -> None:
        """A Sentinel that is not paused gets no vote of those that are."""
        scenario = self.reach_one_way()
        self.assertEqual((scenario.switched, scenario.wrong), (False, set()))

    def test_vote_while_paused(self) -> None:
        """Sentinels that vote in a pause are detected."""
        self.patch(voting, "withholds_vote", lambda *arguments: None)
        scenario = self.reach_one_way()
        self.assertEqual((scenario.switched, scenario.wrong), (True, {"pause"}))

    def beside_c(self) -> Scenario:
        """Two of ours hold two C Sentinels; the holder dies."""
        scenario = Scenario(sentinels=2, c_peers=2)
        first, second = sorted(scenario.fleet.sentinels, key=lambda each: each.alive.core.options.my_id)
        scenario.pause(second, require="guaranteed")
        self.assertEqual(len(scenario.claims), 2)
        scenario.kill_master()
        self.assertFalse(scenario.switched)
        first.host.crash()
        scenario.fleet.run(15.0)
        return scenario

    def test_beside_c(self) -> None:
        """C Sentinels promote nothing while their votes are renewed, also after the holder died, but after the end."""
        scenario = self.beside_c()
        self.assertEqual((scenario.switched, scenario.wrong), (False, set()))
        end_pauses(scenario.fleet)
        scenario.fleet.run(8.0)
        self.assertTrue(scenario.switched)
        self.assertEqual(scenario.wrong, set())

    def restart_c(self) -> Scenario:
        """One of ours holds two C Sentinels, of which one restarts; then the master dies."""
        scenario = Scenario(sentinels=1, c_peers=2, failover_timeout=20_000)
        scenario.pause(scenario.fleet.sentinels[0], require="guaranteed")
        peer = scenario.fleet.c_peers[0]
        peer.host.crash()
        peer.host.restart()
        # It has INFO of the replica then.
        scenario.fleet.run(12.0)
        scenario.kill_master(10.0)
        return scenario

    def test_restarted_c(self) -> None:
        """A C Sentinel knows nothing of its lease after a restart: its vote is requested again."""
        scenario = self.restart_c()
        self.assertEqual((scenario.switched, len(scenario.claims), scenario.wrong), (False, 1, set()))

    def test_lease_outlives_restart(self) -> None:
        """A Sentinel that counts such leases is detected."""
        held = VoteLeases.get

        def counted(leases: VoteLeases, master: Master, peer: Peer, now: int) -> bool:
            lease = held(leases, master.name, peer.name)
            return lease is not None and now < lease.until

        self.patch(VoteLeases, "is_held", counted)
        scenario = self.restart_c()
        self.assertEqual((scenario.switched, scenario.wrong), (True, {"pause"}))

    def test_lease_counted_too_long(self) -> None:
        """A Sentinel that renews too late, as it takes the lease for longer than it is, is detected."""
        # The failover-timeout of the C Sentinels is 3 s.
        self.patch(vote_leases, "canonical_integer", lambda raw: 30_000)
        scenario = Scenario(sentinels=1, c_peers=2)
        scenario.pause(scenario.fleet.sentinels[0], require="guaranteed")
        scenario.kill_master()
        self.assertEqual((scenario.switched, scenario.wrong), (True, {"pause"}))

    def test_drained(self) -> None:
        """A Sentinel that is drained hands its leases over at once; a schedule is executed by one that stays."""
        scenario = Scenario(sentinels=2, c_peers=1, failover_timeout=20_000)
        fleet = scenario.fleet
        ours = [each for each in fleet.sentinels if isinstance(each, SimSentinel)]
        first, other = sorted(ours, key=lambda each: each.alive.core.options.my_id)[:2]
        scenario.pause(first)
        fleet.run(4.0)
        name = scenario.group.name
        core, theirs = first.alive.core, other.alive.core
        self.assertEqual(core.pauses.guarantee(core.master(name), first.host.now()).holder, core.options.my_id)
        since = first.host.now()
        client = next(each for each in fleet.clients if each.target is first.host)
        client.order("TXSENTINEL", "DRAIN", first.host.ip, "26379")
        fleet.run(2.0)
        self.assertEqual(core.leaving.leases_to_hand_over(since, first.host.now()), [])
        found = theirs.pauses.guarantee(theirs.master(name), other.host.now())
        self.assertEqual((found.holder, found.guaranteed), (theirs.options.my_id, True))
        self.assertTrue(theirs.state.is_leaving(core.options.my_id, other.host.now()))
        client.order("TXSENTINEL", "DRAIN", first.host.ip, "26379", "UNDO")
        fleet.run(2.0)
        self.assertFalse(theirs.state.is_leaving(core.options.my_id, other.host.now()))
        self.assertEqual(scenario.wrong, set())

    def test_clock_steps(self) -> None:
        """A clock that is set, forwards or back, ends no pause of a process that runs, nor prolongs one."""
        for step in (-7_200.0, 7_200.0):
            scenario = Scenario()
            scenario.pause(scenario.fleet.sentinels[0], 30_000)
            for sentinel in scenario.fleet.sentinels:
                sentinel.host.wall_offset += step
            scenario.kill_master()
            self.assertEqual((scenario.switched, len(scenario.claims)), (False, 3))
            scenario.fleet.run(20.0)
            self.assertTrue(scenario.switched, step)
            self.assertEqual(scenario.wrong, set())


class RandomTests(SynchronousTestCase):
    """Whole runs of seeds, with pauses among the faults."""

    def test_seeds(self) -> None:
        """No invariant is violated, the pauses are guaranteed for some time, and the fleet recovers from them."""
        guaranteed = promotions = 0
        for seed in range(2_001, 2_003):
            shape = Shape(failover_timeout=3_000, c_peers=seed % 3, empty_restart_failover=False)
            current = Run(seed, 30.0, draw_plan(seed, 30.0, FAULTS), shape)
            self.assertEqual(current.all().wrong, [], seed)
            guaranteed += current.checker.pauses.guaranteed
            promotions += current.checker.pauses.promotions
        self.assertGreater(guaranteed, 50)
        self.assertGreater(promotions, 0)
