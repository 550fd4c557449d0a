"""
The unmodified service in simulations with faults, checked for the invariants S1 to S17.

Each seed draws a fleet and a mixture of faults; at the end all faults end and all must agree (L2 to L6).
``TXSENTINEL_SEEDS=first:count`` runs other seeds.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.failover_state import FailoverState
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Millis
from txsentinel.sim.__main__ import report
from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.faults import FAULT_TYPES, ONLY_BY_NAME, Fault, draw_plan, heal, parse_plan, print_plan
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape
from txsentinel.sim.run import Run, draw_shape, run_seed

FIRST, COUNT = (int(word) for word in os.environ.get("TXSENTINEL_SEEDS", "1000:16").split(":"))
SECONDS = 60.0


class SwarmTests(SynchronousTestCase):
    """Whole fleets with random faults."""

    def test_invariants_hold_under_faults(self) -> None:
        """No seed violates S1 to S17, no exception escapes, and all agree after the last fault."""
        failing = []
        failovers = faults = 0
        for seed in range(FIRST, FIRST + COUNT):
            outcome = run_seed(seed, SECONDS)
            failovers += outcome.failovers
            faults += len(outcome.faults)
            if outcome.wrong:
                failing.append(report(outcome, SECONDS))
        self.assertEqual(failing, [], "\n\n".join(failing))
        self.assertGreater(faults, COUNT, "the plans are empty")
        self.assertGreater(failovers, 0, "nothing was ever failed over")

    def test_mass_failures(self) -> None:
        """The same when so many masters fail together that votes are given in epochs below the current one."""
        late = 0
        may_vote_in = SentinelState.may_vote_in

        def counted(state: SentinelState, epoch: int, now: Millis) -> bool:
            nonlocal late
            answer = may_vote_in(state, epoch, now)
            late += answer and epoch < state.current_epoch
            return answer

        self.patch(SentinelState, "may_vote_in", counted)
        # The last of them is a seed that is known to request such votes.
        for seed in (*range(FIRST, FIRST + COUNT // 2), 1013):
            shape = replace(draw_shape(seed), masters=6, mass_failure=2)
            plan = draw_plan(seed, SECONDS, ("masters-die", "slow-network", "kill-sentinel"))
            outcome = Run(seed, SECONDS, plan, shape).all()
            self.assertEqual(outcome.wrong, [], f"{shape}, seed {seed}")
        self.assertGreater(late, 0, "no vote came late")

    def test_same_seed(self) -> None:
        """The same seed delivers the same bytes at the same times, and another seed others."""
        digests = [run_seed(seed, 20.0).digest for seed in (7, 7, 8)]
        self.assertEqual(digests[0], digests[1])
        self.assertNotEqual(digests[0], digests[2])

    def test_results_are_passed_to_the_parent(self) -> None:
        """The result of a process is passed to the parent process, including the shape of its fleet."""
        outcome = run_seed(5, 5.0)
        self.assertEqual(pickle.loads(pickle.dumps(outcome)), outcome)

    def test_plans_survive_printing(self) -> None:
        """A fault prints as text that parses to the same fault, and nothing else does."""
        plan = [fault for seed in range(60) for fault in draw_plan(seed, 100.0)]
        self.assertEqual([Fault.parse(str(fault)) for fault in plan], plan)
        self.assertEqual(parse_plan(print_plan(plan)), plan)
        self.assertEqual({fault.kind for fault in plan}, FAULT_TYPES.keys() - ONLY_BY_NAME)
        self.assertRaises(ValueError, Fault.parse, "earthquake:1:1:1")


def has_master(fleet: Fleet) -> bool:
    """Whether any server is a master."""
    return any(server.is_master for server in fleet.servers)


class LivenessTests(SynchronousTestCase):
    """Liveness, one property per test."""

    def fleet(self, seed: int = 1, shape: Shape | None = None) -> Fleet:
        """Return a stable fleet."""
        fleet = Fleet(seed, shape or Shape())
        self.checker = InvariantChecker(fleet)
        fleet.start()
        self.assertTrue(fleet.converge(), fleet.disagreements())
        return fleet

    def tearDown(self) -> None:
        """No safety invariant is violated in any of these tests."""
        self.assertEqual([str(violation) for violation in self.checker.violations], [])

    def published(self, fleet: Fleet) -> set[str]:
        """Return the addresses of the first master at the running Sentinels."""
        name = fleet.masters[0].name
        return {s.alive.core.master(name).published_address.ip for s in fleet.sentinels if s.running}

    def test_l1_a_dead_master_is_replaced(self) -> None:
        """With a majority and one replica there is a new master within a second of O_DOWN."""
        fleet = self.fleet()
        fleet.servers[0].host.kill()
        self.assertTrue(fleet.simulation.run_until(lambda: "10.1.0.1" not in self.published(fleet), 2.0))
        self.assertTrue(fleet.simulation.run_until(lambda: len(self.published(fleet)) == 1, 1.0))

    def test_l1_a_hung_master_is_replaced(self) -> None:
        """A hung master is replaced like a dead one, and converted when it continues."""
        fleet = self.fleet()
        fleet.servers[0].host.pause()
        self.assertTrue(fleet.simulation.run_until(lambda: "10.1.0.1" not in self.published(fleet), 4.0))
        fleet.servers[0].host.resume()
        self.assertTrue(fleet.converge(), fleet.disagreements())

    def test_l1_a_master_that_dies_in_tilt_is_replaced(self) -> None:
        """With a short down-after, too: replicas that lost it during TILT did not lose it long before us."""
        fleet = self.fleet(shape=Shape(down_after=300))
        for sentinel in fleet.sentinels:
            sentinel.host.pause_for(3.0)
        fleet.run(3.1)
        self.assertTrue(all(sentinel.alive.core.tilt.active for sentinel in fleet.sentinels))
        fleet.servers[0].host.kill()
        self.assertTrue(fleet.simulation.run_until(lambda: "10.1.0.1" not in self.published(fleet), 35.0))

    def test_l1_a_group_without_a_master_gets_one(self) -> None:
        """A master that was ordered to follow its own replica is replaced within down-after and two seconds."""
        for seed, down_after in ((1, 1_000), (2, 2_000), (3, 4_000)):
            fleet = self.fleet(seed, shape=Shape(down_after=down_after))
            master, replica, _ = fleet.servers
            master.replication.follow(replica.address)
            within = down_after / 1000 + 2.0
            self.assertTrue(fleet.simulation.run_until(partial(has_master, fleet), within))
            self.assertTrue(fleet.converge(), fleet.disagreements())
            self.assertEqual([str(violation) for violation in self.checker.violations], [])

    def test_a_replica_that_was_promoted_by_hand_stays_master(self) -> None:
        """A master promoted by an operator is published, and no other replica is promoted."""
        fleet = self.fleet(shape=Shape(down_after=1_000))
        master, replica, _ = fleet.servers
        replica.replication.lead()
        master.replication.follow(replica.address)
        fleet.run(8.0)
        self.assertEqual(self.checker.failovers, 1)
        self.assertEqual([server for server in fleet.servers if server.is_master], [replica])
        for sentinel in fleet.sentinels:
            self.assertEqual(sentinel.alive.core.master("m1").published_address.ip, replica.host.ip)

    def test_l1_failover_of_a_dead_leader_is_completed(self) -> None:
        """Wherever the leader dies, another Sentinel completes a failover after twice failover-timeout."""
        for state in FailoverState:
            if state in (FailoverState.NONE, FailoverState.SELECT_REPLICA, FailoverState.UPDATE_CONFIG):
                continue
            fleet = self.fleet(seed=3, shape=Shape(failover_timeout=3_000, sentinels=3))
            if state is FailoverState.SEND_SLAVEOF_NOONE:
                for server in fleet.servers[1:]:
                    server.host.pause_for(1.1)
            fleet.servers[0].host.kill()

            def leader() -> object:
                for sentinel in fleet.sentinels:  # noqa: B023
                    if sentinel.alive.core.master("m1").failover_state is state:  # noqa: B023
                        return sentinel
                return None

            if not fleet.simulation.run_until(leader, 10.0):
                continue
            leading = leader()
            leading.host.kill()  # type: ignore[attr-defined]
            leading.service = None  # type: ignore[attr-defined]
            self.assertTrue(
                fleet.simulation.run_until(lambda: "10.1.0.1" not in self.published(fleet), 30.0),  # noqa: B023
                f"nobody took over from a leader that died in {state.value}",
            )

    def test_l2_l3_agreement_after_a_partition(self) -> None:
        """After a partition ends all Sentinels have one master and all servers follow it."""
        fleet = self.fleet(shape=Shape(sentinels=5, replicas=3, quorum=3))
        alone = [fleet.servers[0].host, fleet.sentinels[0].host, fleet.sentinels[1].host]
        others = [s.host for s in fleet.servers[1:]] + [s.host for s in fleet.sentinels[2:]]
        fleet.network.partition(list(alone), list(others))
        fleet.run(10.0)
        majority = {s.alive.core.master("m1").published_address.ip for s in fleet.sentinels[2:]}
        minority = {s.alive.core.master("m1").published_address.ip for s in fleet.sentinels[:2]}
        self.assertEqual((len(majority), minority), (1, {"10.1.0.1"}))
        self.assertNotEqual(majority, minority)
        fleet.network.heal()
        self.assertTrue(fleet.converge(), fleet.disagreements())
        self.assertEqual(self.published(fleet), majority)

    def test_l4_a_returned_master_becomes_a_replica(self) -> None:
        """An old master that returns in its former role is converted."""
        fleet = self.fleet()
        fleet.servers[0].host.kill()
        fleet.run(5.0)
        fleet.servers[0].host.restart()
        self.assertTrue(fleet.servers[0].is_master)
        self.assertTrue(fleet.converge(30.0), fleet.disagreements())
        self.assertFalse(fleet.servers[0].is_master)

    def test_l5_a_restarted_sentinel_catches_up(self) -> None:
        """A Sentinel that was down during a failover learns of it within a few seconds of its start."""
        fleet = self.fleet()
        sleeper = fleet.sentinels[2]
        sleeper.host.kill()
        fleet.servers[0].host.kill()
        fleet.run(5.0)
        sleeper.host.restart()
        fleet.run(5.0)
        self.assertEqual(len(self.published(fleet)), 1)
        self.assertNotIn("10.1.0.1", self.published(fleet))

    def test_l6_epochs_converge(self) -> None:
        """Every Sentinel learns the highest epoch of them all."""
        fleet = self.fleet(shape=Shape(masters=2))
        for group in fleet.masters:
            group.servers[0].host.kill()
            fleet.run(5.0)
        fleet.run(5.0)
        self.assertEqual(len({s.alive.core.current_epoch for s in fleet.sentinels}), 1)

    def test_l7_recovery_does_not_cancel(self) -> None:
        """A master that continues once a replica was selected is replaced nevertheless, and converted."""
        fleet = self.fleet()
        master = fleet.servers[0]
        master.host.pause()
        promoting = FailoverState.WAIT_PROMOTION

        def chosen() -> bool:
            return any(s.alive.core.master("m1").failover_state is promoting for s in fleet.sentinels)

        self.assertTrue(fleet.simulation.run_until(chosen, 5.0))
        master.host.resume()
        self.assertTrue(fleet.converge(), fleet.disagreements())
        self.assertFalse(master.is_master)

    def test_hanging_disk(self) -> None:
        """Changes made while the disk hangs do not accumulate, and the final state is the same."""
        fleet = self.fleet(shape=Shape(failover_timeout=3_000))
        hanging = fleet.sentinels[0]
        hanging.host.files.stick()
        for _ in range(6):
            master = next(server for server in fleet.servers if server.host.running and server.is_master)
            master.host.kill()
            fleet.run(6.0)
            master.host.restart()
            fleet.run(14.0)
            self.assertLess(hanging.alive.executor.barrier.waiting, 20)
        self.assertEqual(len(self.published(fleet)), 1)
        hanging.host.files.unstick()
        self.assertTrue(fleet.converge(), fleet.disagreements())

    def test_no_majority_no_failover(self) -> None:
        """Without a majority of the Sentinels, a dead master stays the master."""
        fleet = self.fleet(shape=Shape(quorum=1))
        for sentinel in fleet.sentinels[:2]:
            sentinel.host.kill()
        fleet.servers[0].host.kill()
        fleet.run(60.0)
        self.assertEqual(self.published(fleet), {"10.1.0.1"})
        heal(fleet)
        self.assertTrue(fleet.converge(), fleet.disagreements())

    def test_no_quorum_no_failover(self) -> None:
        """A master that fewer than the quorum have down is not replaced."""
        fleet = self.fleet(shape=Shape(quorum=3))
        fleet.network.cut(fleet.sentinels[0].host, fleet.servers[0].host)
        fleet.network.cut(fleet.sentinels[1].host, fleet.servers[0].host)
        fleet.run(30.0)
        self.assertEqual(self.published(fleet), {"10.1.0.1"})
        self.assertTrue(fleet.servers[0].is_master)
