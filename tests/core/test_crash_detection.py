"""Evidence of a crash: what completes it, what contradicts it, and what is no evidence."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.crash_evidence import CrashStep
from txsentinel.core.link import LinkKind
from txsentinel.core.options import GuardOptions
from txsentinel.model.address import Address
from txsentinel.model.failure import FailureClass

DOWN_AFTER = 5_000
CONFIRM = 60
OLD_MASTER = Address.literal("10.0.0.9", 6379)


class CrashTestCase(SynchronousTestCase):
    """A master with two replicas and two peers, which agree and vote."""

    guards = GuardOptions(crash_failover=True, crash_confirm=CONFIRM)

    def setUp(self) -> None:
        """Start a healthy group."""
        self.fixture = Fixture(down_after=DOWN_AFTER)
        self.fixture.master.options.guards = self.guards
        self.replicas = [self.fixture.add_replica(number) for number in (2, 3)]
        for letter in "ab":
            self.fixture.add_peer(letter, reports_down=True)
        self.fixture.wait(3_000, 50)
        self.fixture.output()
        self.master = self.fixture.master

    def lose_replication(self) -> None:
        """Let the replicas report that their link is down."""
        for replica in self.replicas:
            replica.link_status = "down"

    def lose(self, failure: FailureClass | None = FailureClass.RESET) -> None:
        """Lose both connections to the master."""
        self.fixture.servers[MASTER].up = False
        for kind in LinkKind:
            self.fixture.core.link_down(self.master.link, kind, "lost", self.fixture.now, failure)
        self.fixture.finish()

    def attempt(self, failure: FailureClass = FailureClass.REFUSED) -> None:
        """Let an attempt to connect fail."""
        self.fixture.core.link_down(self.master.link, LinkKind.COMMANDS, "failed", self.fixture.now, failure)
        self.fixture.finish()

    def step(self) -> CrashStep:
        """Return how complete the evidence is."""
        # The core shows a verdict only; the steps that lead to one are tested here.
        return self.fixture.core._crashes.assess(self.fixture.master)[0]

    def assert_waits_for_down_after(self) -> None:
        """Check that nothing happens before down-after, and that the master is S_DOWN after it."""
        self.fixture.wait(DOWN_AFTER - 1_000, 10)
        self.assertNotIn("+sdown", self.fixture.events())
        self.fixture.wait(2_000, 10)
        self.assertIn("+sdown", self.fixture.events())


class CompleteEvidenceTests(CrashTestCase):
    """A process that died."""

    def test_failover(self) -> None:
        """The second refused attempt, after crash-confirm, begins S_DOWN and with it the whole failover."""
        began = self.fixture.now
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM - 1, 1)
        self.assertEqual(self.step(), CrashStep.AWAITING_REFUSALS)
        self.assertEqual(self.fixture.events(), [])
        self.fixture.wait(2, 1)
        events = self.fixture.events()
        self.assertEqual(events[:2], ["+sdown", "+odown"])
        self.fixture.wait(100, 1)
        self.assertIn("+promoted-slave", [*events, *self.fixture.events()])
        self.assertLess(self.fixture.now - began, 200)

    def test_reasons_are_logged(self) -> None:
        """The log names the loss, the attempts and the class."""
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 1, 1)
        notes = [line for line in self.fixture.output() if line.startswith("note ")]
        self.assertIn("2 attempts to connect were refused", notes[0])
        self.assertIn("crashed; refused; ", notes[1])

    def test_replica_sees_it_later(self) -> None:
        """A replica that still reports a live link is asked again."""
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 10, 1)
        self.assertEqual(self.step(), CrashStep.REPLICA_CONNECTED)
        self.lose_replication()
        self.fixture.wait(60, 1)
        self.assertIn("+sdown", self.fixture.events())

    def test_promoted_elsewhere(self) -> None:
        """A replica that has become a master has no link to it; that another one lost its link is the evidence."""
        self.lose_replication()
        self.replicas[0].role, self.replicas[0].follows = "master", None
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 60, 1)
        self.assertIn("+sdown", self.fixture.events())

    def test_chained_replica(self) -> None:
        """The link of a replica that follows another replica is none to the master."""
        self.lose_replication()
        self.replicas[0].follows, self.replicas[0].link_status = self.replicas[1].address, "up"
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 60, 1)
        self.assertIn("+sdown", self.fixture.events())

    def test_unreachable_replica(self) -> None:
        """A replica that is not connected is not waited for."""
        self.fixture.kill(self.replicas[0].address)
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 10, 1)
        self.assertIn("+sdown", self.fixture.events())

    def test_verdict_ends_with_a_reply(self) -> None:
        """A process that listens again is down until it replies."""
        for server in self.fixture.servers.values():
            server.reports_down = False
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 10, 1)
        self.assertIsNotNone(self.master.sdown_since)
        self.fixture.servers[MASTER].hung = True
        self.fixture.core.link_up(self.master.link, LinkKind.COMMANDS, "10.0.9.9", self.fixture.now)
        self.fixture.wait(20, 1)
        self.assertIsNotNone(self.master.sdown_since)
        self.fixture.core.ping_reply(self.master.link, LinkKind.COMMANDS, b"PONG", self.fixture.now + 1)
        self.assertIsNone(self.master.sdown_since)
        self.assertEqual(self.step(), CrashStep.NO_LOSS)


class NoEvidenceTests(CrashTestCase):
    """Everything that is not a crash is judged by down-after."""

    def test_replicas_connected(self) -> None:
        """Only our connections are rejected, as a firewall does."""
        self.lose()
        self.attempt()
        self.assert_waits_for_down_after()

    def test_other_address(self) -> None:
        """A replica has a live link to the master at an address that is not known here, as behind NAT."""
        self.replicas[0].link_status = "down"
        self.replicas[1].follows = Address.literal("172.17.0.2", 6379)
        self.lose()
        self.attempt()
        self.assert_waits_for_down_after()

    def test_one_replica_connected(self) -> None:
        """One replica with a live link is enough."""
        self.replicas[0].link_status = "down"
        self.lose()
        self.attempt()
        self.assert_waits_for_down_after()

    def test_promotion_by_order(self) -> None:
        """Only our connections are rejected, and a failover by order ends the last link of a replica to the master."""
        self.replicas[1].link_status = "down"
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 10, 10)
        self.assertEqual(self.step(), CrashStep.REPLICA_CONNECTED)
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.finish()
        self.fixture.wait(500, 10)
        lines = self.fixture.output()
        self.assertTrue(any("+promoted-slave" in line for line in lines))
        self.assertFalse([line for line in lines if "has crashed" in line or "+sdown" in line])

    def test_promotion_by_another(self) -> None:
        """Only our connections are rejected; another Sentinel promotes the only replica, as the master hangs."""
        self.fixture.kill(self.replicas[1].address)
        self.fixture.wait(CONFIRM, 10)
        self.fixture.output()
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 10, 10)
        self.assertEqual(self.step(), CrashStep.REPLICA_CONNECTED)
        self.replicas[0].role, self.replicas[0].follows = "master", None
        self.fixture.wait(1_000, 10)
        self.assertEqual(self.step(), CrashStep.NO_REPLICA)
        self.assertIsNone(self.master.sdown_since)

    def test_no_reachable_replica(self) -> None:
        """There is no replica to ask."""
        self.lose_replication()
        for replica in self.replicas:
            self.fixture.kill(replica.address)
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 200, 1)
        self.assertEqual(self.step(), CrashStep.NO_REPLICA)
        self.assertIsNone(self.master.sdown_since)

    def test_links_down_before(self) -> None:
        """Replicas that had no link before, as during a full synchronization, corroborate nothing."""
        for down_for in (60, -1):
            with self.subTest(down_for=down_for):
                self.setUp()
                self.lose_replication()
                for replica in self.replicas:
                    replica.down_for = down_for
                self.lose()
                self.attempt()
                self.assert_waits_for_down_after()

    def test_links_never_up(self) -> None:
        """Replicas that were just ordered to follow the master, and have not connected to it yet, have lost no link."""
        self.lose_replication()
        for replica in self.replicas:
            replica.follows = OLD_MASTER
        self.fixture.wait(12_000, 50)
        for replica in self.replicas:
            replica.follows = MASTER
        self.fixture.wait(1_200, 50)
        self.fixture.output()
        self.lose()
        self.attempt()
        self.assert_waits_for_down_after()

    def test_former_master(self) -> None:
        """The former master, which reports its role right after a failover, has lost no link to the new one."""
        for replica in self.replicas:
            self.fixture.kill(replica.address)
        former = self.fixture.add_replica(9, hung=True)
        self.fixture.wait(1_000, 50)
        self.fixture.output()
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM // 2, 10)
        former.role, former.follows = "master", None
        self.fixture.revive(former.address)
        self.fixture.wait(CONFIRM + 1_000, 10)
        self.assertEqual(self.step(), CrashStep.NO_REPLICA)
        self.assertNotIn("+sdown", [line for line in self.fixture.events() if "master" in line])

    def test_links_up_since_then(self) -> None:
        """Once they have been connected, the loss of their links counts again."""
        for replica in self.replicas:
            replica.follows, replica.link_status = OLD_MASTER, "down"
        self.fixture.wait(12_000, 50)
        for replica in self.replicas:
            replica.follows, replica.link_status = MASTER, "up"
        self.fixture.wait(1_200, 50)
        self.fixture.output()
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM + 60, 1)
        self.assertIn("+sdown", self.fixture.events())

    def test_timeouts(self) -> None:
        """A connection that is lost by a timeout, or attempts that time out."""
        for loss, attempt in (
            (FailureClass.TIMEOUT, FailureClass.REFUSED),
            (FailureClass.RESET, FailureClass.TIMEOUT),
            (FailureClass.RESET, FailureClass.UNREACHABLE),
            (FailureClass.RESET, FailureClass.OWN_DESCRIPTORS),
            (None, FailureClass.REFUSED),
        ):
            with self.subTest(loss=loss, attempt=attempt):
                self.setUp()
                self.fixture.servers[MASTER].attempts_fail_by = attempt
                self.lose_replication()
                self.lose(loss)
                self.attempt(attempt)
                self.assert_waits_for_down_after()

    def test_one_other_failure_in_between(self) -> None:
        """Refusals before and after a timeout do not add up."""
        self.lose_replication()
        self.lose()
        self.attempt()
        self.attempt(FailureClass.TIMEOUT)
        self.attempt()
        self.assert_waits_for_down_after()

    def test_never_connected(self) -> None:
        """A master that was down when this Sentinel started."""
        self.fixture.servers[MASTER].up = False
        self.fixture.restart()
        self.lose_replication()
        for _ in range(5):
            self.attempt()
            self.fixture.wait(50, 1)
        self.assertEqual(self.step(), CrashStep.NO_LOSS)

    def test_tilt(self) -> None:
        """What arrives in TILT does not count, nor what arrived before it."""
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.now += 5_000
        self.fixture.sweep()
        self.assertEqual(self.step(), CrashStep.NO_LOSS)
        self.attempt()
        self.fixture.wait(200, 1)
        self.assertNotIn("+sdown", self.fixture.events())

    def test_return_in_tilt(self) -> None:
        """A verdict from before TILT does not outlive a reply in TILT, so nothing can be decided by it afterwards."""
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.now += CONFIRM
        self.attempt()
        self.fixture.now += 5_000
        self.fixture.sweep()
        self.assertEqual(self.step(), CrashStep.COMPLETE)
        self.fixture.revive(MASTER)
        self.fixture.wait(2_000, 10)
        self.assertTrue(self.fixture.core.tilt.active)
        self.assertEqual(self.step(), CrashStep.NO_LOSS)

    def test_restart(self) -> None:
        """The process listens again before crash-confirm has passed."""
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.wait(CONFIRM // 2, 1)
        self.fixture.revive(MASTER)
        self.fixture.wait(1_000, 10)
        self.assertEqual(self.fixture.events(), [])
        self.assertEqual(self.step(), CrashStep.NO_LOSS)

    def test_shutdown_is_announced(self) -> None:
        """A server that reported a SHUTDOWN in progress is known to end."""
        self.fixture.servers[MASTER].extra = ["shutdown_in_milliseconds:9000"]
        self.fixture.wait(11_000, 100)
        self.lose_replication()
        self.lose()
        self.attempt()
        self.fixture.wait(200, 1)
        self.assertEqual(self.step(), CrashStep.RESTARTING)
        self.assertIsNone(self.master.sdown_since)

    def test_disabled_meanwhile(self) -> None:
        """``SENTINEL SET mymaster crash-failover off`` takes effect at once."""
        self.lose_replication()
        self.lose()
        self.attempt()
        self.master.options.guards = GuardOptions()
        self.assertEqual(self.step(), CrashStep.DISABLED)
        self.assert_waits_for_down_after()


class DisabledTests(CrashTestCase):
    """The guard is off by default."""

    guards = GuardOptions()

    def test_crash(self) -> None:
        """Even a complete crash is judged by down-after, and no additional attempt or INFO is sent."""
        self.lose_replication()
        before = len(self.fixture.sent)
        self.lose()
        self.attempt()
        self.assertEqual(len(self.fixture.sent), before)
        self.assert_waits_for_down_after()
