"""A failover that is no longer justified is aborted before a replica is promoted, in any state."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture, identity
from txsentinel.core.effects import Reconfigure
from txsentinel.core.errors import CommandError
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.instances import Replica
from txsentinel.core.justification import MAX_RETURN_DELAY
from txsentinel.core.role import Role
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)
MASTER_IS_BACK = "-failover-abort-master-is-back"
HANDS_OVER = ["master_failover_state:no-failover"]


class JustificationCase(SynchronousTestCase):
    """A master with two replicas and three Sentinels."""

    def fixture(self, **options: int) -> Fixture:
        """Set up a stable group."""
        fixture = Fixture(options)
        fixture.add_replica(2, offset=200)
        fixture.add_replica(3)
        fixture.add_peer("b", reports_down=True)
        fixture.add_peer("z", reports_down=True)
        fixture.wait(3_000)
        fixture.output()
        return fixture

    def election(self, **options: int) -> Fixture:
        """An election that is not decided yet."""
        fixture = self.fixture(**options)
        self.vote(fixture, False)
        fixture.kill(MASTER)
        fixture.wait(1_150)
        self.assertIs(fixture.master.failover_state, FailoverState.WAIT_START)
        return fixture

    def vote(self, fixture: Fixture, grants: bool) -> None:
        """Set whether the peers vote."""
        for letter in "bz":
            server = fixture.servers[fixture.peer(letter).address]
            server.grants, server.answer = grants, None if grants else (identity("q"), 1)

    def hang(self, fixture: Fixture, *addresses: Address) -> None:
        """Hang these servers, with open connections."""
        for address in addresses:
            fixture.servers[address].hung = True

    def sent_commands(self, fixture: Fixture) -> list[str]:
        """Return the orders since the last call."""
        return [line for line in fixture.output() if line.startswith("order")]


class ReasonTests(JustificationCase):
    """The conditions that must still hold."""

    def test_master_returns_during_the_election(self) -> None:
        """A master that answers again ends the election, and the attempt does not count."""
        fixture = self.election()
        fixture.revive(MASTER)
        events = fixture.events()
        self.assertIn(MASTER_IS_BACK, events)
        self.assertLess(events.index("-odown"), events.index(MASTER_IS_BACK))
        self.assertIsNone(fixture.master.attempt_started_at)
        self.vote(fixture, True)
        fixture.kill(MASTER)
        fixture.wait(1_500)
        self.assertIn("+switch-master", fixture.events())

    def test_an_earlier_attempt_counts_again(self) -> None:
        """The interval counts from the last attempt that was not void."""
        fixture = self.fixture()
        fixture.master.attempt_started_at = before = fixture.now - 30_000
        self.vote(fixture, False)
        fixture.kill(MASTER)
        fixture.wait(1_150)
        self.assertIn("+try-failover", fixture.events())
        fixture.revive(MASTER)
        self.assertEqual(fixture.master.attempt_started_at, before)

    def test_master_returns_before_the_selection(self) -> None:
        """A leader that waits for a replica aborts when the master is up again."""
        fixture = self.election()
        for address in (SECOND, THIRD):
            fixture.kill(address)
        self.vote(fixture, True)
        while fixture.master.failover_state is FailoverState.WAIT_START:
            fixture.wait(10)
        self.assertIs(fixture.master.failover_state, FailoverState.SELECT_REPLICA)
        fixture.revive(MASTER)
        self.assertIn(MASTER_IS_BACK, fixture.events())
        fixture.revive(SECOND)
        fixture.wait(12_000)
        self.assertNotIn("+promoted-slave", fixture.events())

    def test_quorum_is_lost(self) -> None:
        """If too few Sentinels consider it down, there is no reason for a leader."""
        fixture = self.election()
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].reports_down = False
        fixture.wait(1_500)
        self.assertIn(MASTER_IS_BACK, fixture.events())
        self.assertIsNotNone(fixture.master.sdown_since)

    def test_storage_fails_after_the_election(self) -> None:
        """Nothing is begun that cannot be saved."""
        fixture = self.election()
        for address in (SECOND, THIRD):
            fixture.kill(address)
        self.vote(fixture, True)
        while fixture.master.failover_state is FailoverState.WAIT_START:
            fixture.wait(10)
        fixture.output()
        fixture.disk_works = False
        fixture.core.administration.flush()
        fixture.finish()
        self.assertIsNone(fixture.master.failover)
        fixture.disk_works = True
        fixture.core.administration.flush()
        fixture.finish()
        self.assertIn("-failover-abort-not-elected", fixture.events())

    def test_after_tilt(self) -> None:
        """A failover that TILT interrupted is not continued if the master came back meanwhile."""
        fixture = self.election()
        fixture.now += 5_000
        fixture.sweep()
        self.assertTrue(fixture.core.tilt.active)
        fixture.revive(MASTER)
        self.vote(fixture, True)
        fixture.wait(31_000)
        self.assertEqual(self.sent_commands(fixture), [])
        self.assertIsNone(fixture.master.failover)

    def test_forced(self) -> None:
        """A forced failover needs no other reason."""
        fixture = self.fixture()
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.wait(1_000)
        self.assertIn("+switch-master", fixture.events())

    def test_a_lost_order_is_not_repeated(self) -> None:
        """A promotion that was lost with its connection is not repeated if the master is back."""
        fixture = self.fixture()
        fixture.servers[SECOND].obeys = False
        fixture.kill(MASTER)
        fixture.wait(1_150)
        self.assertIs(fixture.master.failover_state, FailoverState.WAIT_PROMOTION)
        fixture.wait(10)
        fixture.kill(SECOND)
        fixture.revive(MASTER)
        fixture.wait(10)
        self.assertIs(fixture.master.failover_state, FailoverState.WAIT_PROMOTION, "it may have been carried out")
        fixture.output()
        fixture.revive(SECOND)
        fixture.wait(10)
        output = fixture.output()
        self.assertEqual([line for line in output if line.startswith("order")], [])
        self.assertTrue(any(MASTER_IS_BACK in line for line in output))

    def test_a_coordinated_failover_needs_its_master(self) -> None:
        """It is aborted when the master goes down, and an ordinary failover follows at once."""
        fixture = self.fixture()
        fixture.servers[MASTER].extra = HANDS_OVER
        fixture.wait(11_000)
        self.vote(fixture, False)
        fixture.core.administration.failover("mymaster", fixture.now, coordinated=True)
        fixture.finish()
        fixture.kill(MASTER)
        self.vote(fixture, True)
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].answer = (identity("q"), 9)
        fixture.wait(1_010)
        self.assertIn("-failover-abort-master-timeout", fixture.events())
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].answer = None
        fixture.wait(1_000)
        self.assertIn("+switch-master", fixture.events())


class ReturnTests(JustificationCase):
    """A master that was lost together with all its replicas."""

    def hang_group(self, fixture: Fixture, milliseconds: int = 4_000) -> None:
        """Hang the whole group."""
        self.hang(fixture, MASTER, SECOND, THIRD)
        fixture.wait(milliseconds)
        self.assertIsNotNone(fixture.master.odown_since)
        fixture.output()

    def test_master_returns_after_its_replicas(self) -> None:
        """Its replicas return up to a second before it, and no failover begins."""
        for delay in (0, 10, 50, 200, 500, 1_000):
            fixture = self.fixture(down_after=2_000)
            self.hang_group(fixture)
            fixture.revive(SECOND)
            fixture.wait(delay)
            fixture.revive(MASTER)
            fixture.revive(THIRD)
            fixture.wait(5_000)
            self.assertNotIn("+try-failover", fixture.events(), f"{delay} ms")

    def test_master_does_not_return(self) -> None:
        """If the master does not return, the failover begins when the delay is over, and no later."""
        for down_after, expected in ((300, 1_500), (2_000, 2_000), (10_000, MAX_RETURN_DELAY)):
            fixture = self.fixture(down_after=down_after)
            self.hang_group(fixture, 2 * down_after + 2_000)
            fixture.revive(SECOND)
            fixture.wait(expected - 10)
            self.assertNotIn("+try-failover", fixture.events())
            fixture.wait(120)
            self.assertIn("+try-failover", fixture.events())

    def test_delay_is_logged_once(self) -> None:
        """The log has the reason of the delay."""
        fixture = self.fixture(down_after=2_000)
        self.hang_group(fixture)
        fixture.revive(SECOND)
        fixture.wait(1_000)
        notes = [line for line in fixture.output() if line.startswith("note mymaster was lost together")]
        self.assertEqual(len(notes), 1)
        self.assertIn("2000 ms", notes[0])

    def test_replicas_stay_connected(self) -> None:
        """If only the master is lost, there is no delay."""
        fixture = self.fixture(down_after=2_000)
        self.hang(fixture, MASTER, SECOND)
        fixture.wait(3_300)
        self.assertIn("+switch-master", fixture.events())

    def test_replica_lost_long_before(self) -> None:
        """A replica that was lost long before the master does not matter."""
        fixture = self.fixture(down_after=1_000)
        for address in (SECOND, THIRD):
            fixture.kill(address)
        fixture.wait(20_000)
        fixture.kill(MASTER)
        fixture.wait(1_500)
        fixture.output()
        fixture.revive(SECOND)
        fixture.wait(300)
        self.assertIn("+switch-master", fixture.events())

    def test_silent_replicas_are_not_promoted(self) -> None:
        """If the master is S_DOWN first although its replicas hang as well, the failover waits all the same."""
        fixture = self.fixture(down_after=2_000)
        self.hang(fixture, MASTER, SECOND, THIRD)
        for address in (SECOND, THIRD):
            link = next(r.link for r in fixture.master.replicas.values() if r.address == address)
            link.available(fixture.now + 900)
            link.ping_sent_at = link.last_reply_at = fixture.now + 900
        while fixture.master.odown_since is None:
            fixture.wait(10)
        self.assertFalse(any(replica.is_down for replica in fixture.master.replicas.values()))
        fixture.wait(700)
        self.assertNotIn("+try-failover", fixture.events())


class RefusalTests(JustificationCase):
    """A replica that refuses its promotion."""

    def refuse(self, fixture: Fixture) -> None:
        """Have the server of the selected replica refuse."""
        failover = fixture.master.failover
        assert failover is not None and failover.promoted is not None
        link = failover.promoted.link
        fixture.core.promotion_refused(link, "SLAVEOF NO ONE", "NOPERM this user has no permissions", fixture.now)
        fixture.finish()

    def test_another_replica_is_promoted_at_once(self) -> None:
        """Another replica is promoted in the same epoch, as no replica was promoted in it."""
        fixture = self.fixture()
        fixture.servers[SECOND].obeys = False
        fixture.kill(MASTER)
        fixture.wait(1_150)
        failover = fixture.master.failover
        assert failover is not None
        epoch = failover.epoch
        fixture.output()
        fixture.servers[SECOND].obeys = True
        self.refuse(fixture)
        fixture.wait(500)
        output = fixture.output()
        self.assertIn("order 10.0.0.3 SLAVEOF NO ONE", output)
        self.assertTrue(any("+switch-master" in line for line in output))
        self.assertEqual((fixture.master.address, fixture.master.config_epoch), (THIRD, epoch))

    def test_no_replica_left(self) -> None:
        """The attempt ends at once, and the replica is not selected again before it is reconnected."""
        fixture = self.fixture()
        fixture.servers[SECOND].obeys = fixture.servers[THIRD].obeys = False
        fixture.kill(MASTER)
        fixture.wait(1_150)
        self.refuse(fixture)
        fixture.output()
        self.refuse(fixture)
        self.assertIn("-failover-abort-no-good-slave", fixture.events())
        self.assertIsNone(fixture.master.failover)
        with self.assertRaises(CommandError) as refused:
            fixture.core.administration.failover("mymaster", fixture.now)
        self.assertIn("NOGOODSLAVE", str(refused.exception))
        self.assertIn("NOPERM", str(fixture.master.last_refusals))
        fixture.servers[SECOND].obeys = fixture.servers[THIRD].obeys = True
        fixture.reset_connections(SECOND)
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.wait(1_000)
        self.assertIn("+switch-master", fixture.events())


class OrderTests(JustificationCase):
    """An order that waited for the disk is sent only if it is still valid."""

    def test_promotions(self) -> None:
        """A server is promoted only while its promotion is awaited."""
        fixture = self.fixture()
        replica = fixture.replica(2)
        order = Reconfigure(replica.link, None)
        self.assertTrue(fixture.core.is_outdated(order))
        fixture.servers[SECOND].obeys = False
        fixture.kill(MASTER)
        fixture.wait(1_150)
        self.assertFalse(fixture.core.is_outdated(order))
        self.assertTrue(fixture.core.is_outdated(Reconfigure(fixture.replica(3).link, None)))
        fixture.wait(10_100)
        self.assertIsNone(fixture.master.failover)
        self.assertTrue(fixture.core.is_outdated(order))

    def test_repairs(self) -> None:
        """A replica is not made to follow the old master by an old order while it is promoted."""
        fixture = self.fixture()
        order = Reconfigure(fixture.replica(2).link, MASTER.ip, MASTER.port)
        self.assertFalse(fixture.core.is_outdated(order))
        fixture.servers[SECOND].obeys = False
        fixture.kill(MASTER)
        fixture.wait(1_150)
        self.assertTrue(fixture.core.is_outdated(order))
        self.assertFalse(fixture.core.is_outdated(Reconfigure(fixture.replica(3).link, MASTER.ip, 6379)))

    def test_opinions(self) -> None:
        """Only a master that is down now is reported down."""
        fixture = self.fixture()
        self.assertFalse(fixture.core.holds_down(MASTER.ip, MASTER.port))
        fixture.kill(MASTER)
        fixture.wait(1_010)
        self.assertTrue(fixture.core.holds_down(MASTER.ip, MASTER.port))
        fixture.revive(MASTER)
        self.assertFalse(fixture.core.holds_down(MASTER.ip, MASTER.port))


class EventTests(JustificationCase):
    """Events and errors for operators."""

    def test_no_fit_replica(self) -> None:
        """The event is published once per attempt by the Sentinel that would campaign first, as in C."""
        fixture = self.fixture(failover_timeout=3_000)
        for address in (SECOND, THIRD):
            fixture.kill(address)
        fixture.wait(2_000)
        fixture.output()
        fixture.kill(MASTER)
        fixture.wait(4_000)
        self.assertNotIn("-failover-abort-no-good-slave", fixture.events(), "the peer b comes first")
        fixture.kill(fixture.peer("b").address)
        fixture.wait(500)
        self.assertEqual(fixture.events().count("-failover-abort-no-good-slave"), 1)
        fixture.wait(5_000)
        self.assertEqual(fixture.events().count("-failover-abort-no-good-slave"), 0)
        fixture.wait(1_500)
        self.assertEqual(fixture.events().count("-failover-abort-no-good-slave"), 1)

    def test_orders_in_tilt(self) -> None:
        """``SENTINEL FAILOVER`` is refused with the remaining time."""
        fixture = self.fixture()
        fixture.now += 5_000
        fixture.sweep()
        fixture.wait(10_000)
        with self.assertRaises(CommandError) as refused:
            fixture.core.administration.failover("mymaster", fixture.now)
        self.assertEqual(str(refused.exception), "TILT Nothing is decided here for another 20000 ms")

    def test_the_failover_of_another(self) -> None:
        """A role change that INFO shows before the hello arrives is published only if no hello arrives."""
        for hello in (True, False):
            fixture = self.fixture()
            peer = fixture.peer("b")
            fixture.core.vote_requested(MASTER.ip, MASTER.port, 1, peer.name, fixture.now)
            fixture.finish()
            fixture.output()
            fixture.servers[SECOND].role, fixture.servers[SECOND].follows = "master", None
            fixture.reset_connections(SECOND)
            self.assertEqual(fixture.events(), [])
            if hello:
                fixture.hello("b", SECOND, 1)
                fixture.wait(2_000)
                self.assertEqual([event for event in fixture.events() if "role-change" in event], ["-role-change"])
                self.assertEqual(fixture.master.address, SECOND)
            else:
                fixture.wait(1_100)
                self.assertEqual(fixture.events(), ["-role-change"])

    def test_the_old_master_of_a_forced_failover(self) -> None:
        """A server that follows the new master by our order causes no event."""
        fixture = self.fixture()
        fixture.servers[THIRD].obeys = False
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.wait(1_000)
        self.assertIs(fixture.master.failover_state, FailoverState.RECONF_REPLICAS)
        self.assertIs(fixture.master.role_reported, Role.REPLICA)
        events = [line for line in fixture.output() if "role-change" in line]
        self.assertEqual([line for line in events if "role-change master" in line], [])
        self.assertIsInstance(fixture.replica(3), Replica)
