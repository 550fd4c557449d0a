"""A master that follows one of its replicas, which took over without any Sentinel announcing it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture, identity
from txsentinel.core.succession import has_handed_over, is_masterless, successor
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)


class SuccessionTests(SynchronousTestCase):
    """A master and two replicas with three Sentinels, one of which had this Sentinel's vote and died."""

    def setUp(self) -> None:
        """Set up a stable group with a failover-timeout of a minute."""
        self.fixture = fixture = Fixture(failover_timeout=60_000)
        fixture.add_replica(2, offset=100)
        fixture.add_replica(3, offset=900)
        fixture.add_peer("b", reports_down=True)
        fixture.add_peer("z")
        fixture.servers[MASTER].extra = ["master_failover_state:no-failover"]
        fixture.reset_connections(MASTER)
        fixture.wait(3_000)
        vote = fixture.core.vote_requested(MASTER.ip, MASTER.port, 1, identity("z"), fixture.now)
        self.assertEqual(vote.leader, identity("z"))
        fixture.finish()
        fixture.kill(fixture.peer("z").address)
        fixture.output()

    def hand_over(self) -> None:
        """The servers change their roles."""
        old, new = self.fixture.servers[MASTER], self.fixture.servers[SECOND]
        old.role, old.follows = "slave", SECOND
        new.role, new.follows = "master", None

    def test_confirmed_by_an_election(self) -> None:
        """
        After down-after, regardless of earlier votes, the replica that took over is promoted although another one has
        more data, and the old master gets the orders that the lost leader did not send.
        """
        self.fixture.wait(100)
        self.hand_over()
        self.fixture.wait(2_900)
        lines = self.fixture.output()
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", lines)
        self.assertIn("order 10.0.0.1 CLIENT UNPAUSE", lines)
        self.assertNotIn("order 10.0.0.2 CLIENT UNPAUSE", lines)
        self.assertEqual(self.fixture.master.published_address, SECOND)

    def test_not_before_it_is_observed(self) -> None:
        """A master that is only dead after a vote is left to the candidate for two failover timeouts."""
        self.fixture.wait(100)
        self.fixture.kill(MASTER)
        self.fixture.wait(30_000, 50)
        self.assertNotIn("+try-failover", self.fixture.events())

    def test_one_attempt_for_each(self) -> None:
        """A vote given after the change is another attempt, so the interval of attempts applies."""
        self.fixture.wait(100)
        self.hand_over()
        master = self.fixture.master
        self.fixture.wait(1_500)
        self.assertTrue(has_handed_over(master))
        vote = self.fixture.core.vote_requested(MASTER.ip, MASTER.port, 2, identity("b"), self.fixture.now)
        self.assertEqual(vote.leader, identity("b"))
        self.assertFalse(has_handed_over(master))
        self.fixture.wait(30_000, 50)
        self.assertNotIn("+try-failover", self.fixture.events())

    def test_conditions(self) -> None:
        """It must be a known, connected replica with a priority that has reported to be a master since the change."""
        master = self.fixture.master
        self.assertIsNone(successor(master))
        self.hand_over()
        self.fixture.wait(1_500)
        replica = successor(master)
        assert replica is not None
        self.assertEqual(replica.address, SECOND)
        self.assertFalse(is_masterless(master))
        replica.priority = 0
        self.assertIsNone(successor(master))
        replica.priority, refreshed_at = 100, replica.info_refreshed_at
        replica.info_refreshed_at = master.role_reported_at - 1
        self.assertIsNone(successor(master))
        replica.info_refreshed_at = refreshed_at
        self.fixture.kill(SECOND)
        self.assertIsNone(successor(master))
