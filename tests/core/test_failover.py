"""The failover of one master, state by state: each state has an exit and a deadline."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture, identity
from txsentinel.core.errors import IllegalTransition
from txsentinel.core.failover import SELECT_TIMEOUT, Failovers
from txsentinel.core.failover_state import FOLLOWS, FailoverState
from txsentinel.core.instances import Failover
from txsentinel.core.options import FailureClasses, GuardOptions
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)


class StateTests(SynchronousTestCase):
    """Each state and its successors."""

    def fixture_in(self, state: FailoverState, **options: int) -> Fixture:
        """Set up a failover in one state."""
        fixture = Fixture(options)
        fixture.add_replica(2, offset=200)
        fixture.add_replica(3)
        fixture.add_peer("b", reports_down=True)
        fixture.add_peer("z", reports_down=True)
        fixture.wait(3_000)
        if state is FailoverState.WAIT_START:
            for letter in "bz":
                fixture.servers[fixture.peer(letter).address].grants = False
                fixture.servers[fixture.peer(letter).address].answer = (identity("q"), 1)
        elif state is FailoverState.WAIT_PROMOTION:
            fixture.servers[SECOND].obeys = False
        elif state is FailoverState.RECONF_REPLICAS:
            fixture.servers[Address.literal("10.0.0.3", 6379)].obeys = False
        fixture.kill(MASTER)
        fixture.wait(1_150)
        self.assertIs(state, fixture.master.failover_state)
        fixture.output()
        return fixture

    def test_ping_is_forbidden(self) -> None:
        """
        With ``failure-classes as-c``, servers whose ACL forbids PING are S_DOWN, and no replica is promoted.

        Replicas are discovered a moment after their master, so they become S_DOWN a moment after it.
        """
        fixture = Fixture(quorum=1, down_after=3_000)
        fixture.master.options.guards = GuardOptions(failure_classes=FailureClasses.AS_C)
        master = fixture.servers[MASTER]
        fixture.add_replica(2, ping_text=b"NOPERM x")
        master.ping_text, master.extra = b"NOPERM x", ["slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0"]
        fixture.core.administration.reset("*", fixture.now)
        fixture.finish()
        fixture.wait(60_000)
        lines = fixture.output()
        self.assertIn("event +odown master mymaster 10.0.0.1 6379 #quorum 1/1", lines)
        self.assertFalse([line for line in lines if "+try-failover" in line or line.startswith("order")], lines)
        self.assertTrue([line for line in lines if "it answers PING with NOPERM" in line], lines)

    def test_transitions(self) -> None:
        """States follow each other as the table permits; any other transition raises."""
        failover = Failover(1, 0, 0)
        # Inputs never cause a transition that is not permitted.
        self.assertRaises(IllegalTransition, Failovers._enter, failover, FailoverState.WAIT_PROMOTION, 0)
        for state in list(FailoverState)[2:]:
            # Inputs never cause a transition that is not permitted.
            Failovers._enter(failover, state, 5)
        self.assertEqual((FailoverState.UPDATE_CONFIG, set()), (failover.state, FOLLOWS[failover.state]))

    def test_wait_start_ends(self) -> None:
        """Without a majority the election ends after ten seconds, or after failover-timeout if that is less."""
        for timeout, expected in ((60_000, 10_000), (3_000, 3_000)):
            fixture = self.fixture_in(FailoverState.WAIT_START, failover_timeout=timeout)
            fixture.wait(expected - 500)
            self.assertNotIn("-failover-abort-not-elected", fixture.events())
            fixture.wait(600)
            self.assertIn("-failover-abort-not-elected", fixture.events())

    def elected_without_replicas(self) -> Fixture:
        """Set up replicas that were fit at the campaign and lost a moment before the votes arrived."""
        fixture = self.fixture_in(FailoverState.WAIT_START)
        for number in (2, 3):
            fixture.kill(Address.literal(f"10.0.0.{number}", 6379))
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].grants = True
            fixture.servers[fixture.peer(letter).address].answer = None
        while fixture.master.failover_state is FailoverState.WAIT_START:
            fixture.wait(10)
        self.assertIs(FailoverState.SELECT_REPLICA, fixture.master.failover_state)
        return fixture

    def test_replica_returns(self) -> None:
        """An elected leader does not give up because of a connection that was lost for a moment."""
        fixture = self.elected_without_replicas()
        fixture.revive(SECOND)
        fixture.wait(1_200)
        self.assertIn("+switch-master", fixture.events())

    def test_no_replica_returns(self) -> None:
        """It gives up after ten seconds, or after failover-timeout if that is less; at once if all priorities are 0."""
        for timeout, priority, expected in ((60_000, 100, SELECT_TIMEOUT), (3_000, 100, 3_000), (60_000, 0, 0)):
            fixture = self.elected_without_replicas()
            started = fixture.now
            fixture.master.options.failover_timeout = timeout
            for replica in fixture.master.replicas.values():
                replica.priority = priority
            while fixture.master.failover is not None and fixture.now < started + 20_000:
                fixture.wait(10)
            self.assertIn("-failover-abort-no-good-slave", fixture.events())
            self.assertTrue(expected <= fixture.now - started <= expected + 200, fixture.now - started)

    def test_next_attempt(self) -> None:
        """The next attempt is due two failover timeouts after the last, which is logged once."""
        fixture = self.fixture_in(FailoverState.WAIT_START, failover_timeout=3_000)
        started = fixture.master.attempt_started_at
        assert started is not None
        fixture.wait(started + 6_000 - fixture.now - 10, 10)
        output = fixture.output()
        self.assertEqual(1, sum("Next failover delay" in line for line in output))
        self.assertFalse(any("+try-failover" in line for line in output))
        fixture.wait(60, 10)
        self.assertIn("+try-failover", fixture.events())

    def test_wait_promotion_ends(self) -> None:
        """A replica that does not become a master is given up after failover-timeout."""
        fixture = self.fixture_in(FailoverState.WAIT_PROMOTION, failover_timeout=5_000)
        fixture.wait(4_800)
        self.assertNotIn("-failover-abort-slave-timeout", fixture.events())
        fixture.wait(300)
        self.assertIn("-failover-abort-slave-timeout", fixture.events())

    def test_reconf_replicas_ends(self) -> None:
        """The switch takes place after failover-timeout at the latest."""
        fixture = self.fixture_in(FailoverState.RECONF_REPLICAS, failover_timeout=5_000)
        fixture.wait(5_200)
        events = fixture.events()
        self.assertIn("+failover-end-for-timeout", events)
        self.assertEqual(SECOND, fixture.master.address)

    def test_no_state_spins(self) -> None:
        """Waiting causes a few evaluations per second, in every state."""
        for state in (FailoverState.WAIT_START, FailoverState.WAIT_PROMOTION, FailoverState.RECONF_REPLICAS):
            fixture = self.fixture_in(state, failover_timeout=30_000)
            self.assertLess(fixture.idle(4_000), 4 * 40, state)

    def test_published_address(self) -> None:
        """The address for clients changes when the promotion is seen, not before."""
        fixture = self.fixture_in(FailoverState.WAIT_PROMOTION)
        self.assertEqual(MASTER, fixture.master.published_address)
        fixture = self.fixture_in(FailoverState.RECONF_REPLICAS)
        self.assertEqual((SECOND, MASTER), (fixture.master.published_address, fixture.master.address))

    def test_restart_in_each_state(self) -> None:
        """A Sentinel that crashes in any state restarts with its published state, and fails over if still required."""
        for state in (FailoverState.WAIT_START, FailoverState.WAIT_PROMOTION, FailoverState.RECONF_REPLICAS):
            fixture = self.fixture_in(state)
            leader_epoch = fixture.master.leader_epoch
            for letter in "bz":
                fixture.servers[fixture.peer(letter).address].grants = True
                fixture.servers[fixture.peer(letter).address].answer = None
            for server in fixture.servers.values():
                server.obeys = True
            fixture.restart()
            self.assertEqual(leader_epoch, fixture.master.leader_epoch, state)
            fixture.wait(3_000)
            self.assertNotEqual(MASTER, fixture.master.address, state)
            expected = 1 if state is FailoverState.RECONF_REPLICAS else leader_epoch + 1
            self.assertEqual(expected, fixture.master.config_epoch, state)

    def test_script_of_the_leader(self) -> None:
        """The script is run when the promotion is durable, with both addresses."""
        fixture = self.fixture_in(FailoverState.WAIT_PROMOTION)
        fixture.master.options.client_reconfig_script = "/bin/reconfigure"
        fixture.disk_slow = True
        fixture.servers[SECOND].role = "master"
        fixture.wait(1_100)
        self.assertFalse(any(line.startswith("script") for line in fixture.output()))
        fixture.commit()
        expected = "script /bin/reconfigure mymaster leader start 10.0.0.1 6379 10.0.0.2 6379"
        self.assertIn(expected, fixture.output())


class DiskTests(SynchronousTestCase):
    """Which effects wait for the disk."""

    def test_no_command_before_the_vote_is_durable(self) -> None:
        """With all votes of the others, SLAVEOF NO ONE still waits for our own."""
        fixture = Fixture()
        fixture.add_replica(2)
        for letter in "bcd":
            fixture.add_peer(letter, reports_down=True)
        fixture.wait(3_000)
        fixture.output()
        fixture.disk_slow = True
        fixture.kill(MASTER)
        fixture.wait(1_500)
        output = fixture.output()
        self.assertTrue(any(line.startswith("ask b 1") for line in output))
        self.assertFalse(any(line.startswith("order") for line in output))
        fixture.commit()
        fixture.finish()
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", fixture.output())

    def test_nothing_is_sent_before_a_simulated_crash(self) -> None:
        """No order is sent between the election and a simulated crash that waits for the disk."""
        fixture = Fixture()
        fixture.add_replica(2)
        fixture.add_peer("b", reports_down=True)
        fixture.core.simulate_crash.add("crash-after-election")
        fixture.wait(3_000)
        fixture.disk_slow = True
        fixture.kill(MASTER)
        fixture.wait(1_500)
        fixture.core.outbox.changed(None)
        fixture.commit()
        fixture.wait(5_000, 50)
        output = fixture.output()
        self.assertFalse(any(line.startswith("order") for line in output))
        fixture.commit()
        self.assertEqual(1, [*output, *fixture.output()].count("crash"))
