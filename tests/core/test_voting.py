"""Questions to peers, replies to them, one vote per epoch, and the limit of requests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, ME, FakeServer, Fixture, identity
from txsentinel.core.effects import AskMasterDown
from txsentinel.core.state import MASS_FAILURE_WINDOW, StorageError
from txsentinel.core.vote_count import VoteCount
from txsentinel.core.voting import DOUBT_PERIOD, Vote
from txsentinel.model.address import Address
from txsentinel.model.timings import Limits


class ReplyTests(SynchronousTestCase):
    """Replies to questions and vote requests."""

    def setUp(self) -> None:
        """Set up a master with two peers."""
        self.fixture = Fixture()
        self.fixture.add_peer("b")
        self.fixture.add_peer("z")
        self.fixture.wait(500)

    def request_vote(self, letter: str, epoch: int, host: str = MASTER.ip) -> Vote:
        """Request a vote with a slow disk."""
        return self.fixture.core.vote_requested(host, MASTER.port, epoch, letter * 40, self.fixture.now)

    def test_unknown_address(self) -> None:
        """For an unknown address there is no opinion, and no epoch is adopted."""
        vote = self.request_vote("b", 7, "10.9.9.9")
        self.assertEqual((False, "*", 0, 0), (vote.down, vote.leader, vote.leader_epoch, vote.generation))
        self.assertEqual(0, self.fixture.core.current_epoch)

    def test_epoch_zero(self) -> None:
        """There is no vote in epoch 0."""
        self.assertEqual("*", self.request_vote("b", 0).leader)

    def test_lower_epochs(self) -> None:
        """Below the current epoch there is no vote, even a first one."""
        self.fixture.hello("z", MASTER, 0, 5)
        self.assertEqual(("*", 0), (self.request_vote("b", 4).leader, self.request_vote("b", 4).leader_epoch))
        self.assertEqual("b" * 40, self.request_vote("b", 5).leader)

    def test_counts(self) -> None:
        """Each answer to a vote request is counted, with its reason; repeated requests for a given vote are not."""
        for letter, epoch in (("b", 5), ("b", 5), ("z", 6), ("e", 7), ("e", 7)):
            self.request_vote(letter, epoch)
        answers = self.fixture.core.journal.answers
        expected = {("granted", ""): 1, ("refused", "voted_recently"): 1, ("refused", "unknown_candidate"): 2}
        self.assertEqual(answers, expected)
        self.fixture.core.commit_failed(1, self.fixture.now, StorageError("ENOSPC", "full", "/s.conf"))
        self.request_vote("b", 9)
        self.assertEqual(answers, {**expected, ("withheld", "storage_failing"): 1})

    def mass_failure(self, masters: int) -> None:
        """Set up a mass failure with votes for other masters: the current epoch went from 5 to 8."""
        self.fixture.hello("z", MASTER, 0, 5)
        for _ in range(masters):
            self.fixture.core.state.went_odown(self.fixture.now)
        self.fixture.hello("z", MASTER, 0, 8)

    def test_lower_epochs_in_a_mass_failure(self) -> None:
        """The epoch of its start and later ones are accepted like the current one, one after the other per master."""
        self.mass_failure(Limits().mass_failure)
        self.assertEqual("*", self.request_vote("b", 4).leader)
        self.assertEqual(("b" * 40, 5), (self.request_vote("b", 5).leader, self.request_vote("b", 5).leader_epoch))
        self.assertEqual(("b" * 40, 6), (self.request_vote("b", 6).leader, self.request_vote("b", 6).leader_epoch))
        self.assertEqual(6, self.request_vote("z", 6).leader_epoch)
        self.assertEqual(("b" * 40, 7), (self.request_vote("b", 7).leader, self.request_vote("b", 7).leader_epoch))
        self.assertEqual(("b" * 40, 7), (self.request_vote("b", 6).leader, self.request_vote("b", 6).leader_epoch))
        self.assertEqual(8, self.fixture.core.current_epoch)

    def test_lower_epochs_of_a_few_failures(self) -> None:
        """A handful of masters is no mass failure."""
        self.mass_failure(Limits().mass_failure - 1)
        self.assertEqual("*", self.request_vote("b", 6).leader)
        self.assertEqual("b" * 40, self.request_vote("b", 8).leader)

    def test_lower_epochs_after_a_mass_failure(self) -> None:
        """Some seconds later old epochs are refused."""
        self.mass_failure(Limits().mass_failure)
        self.fixture.wait(MASS_FAILURE_WINDOW + 1)
        self.assertEqual("*", self.request_vote("b", 7).leader)

    def after_a_switch(self, down_after: int, *, is_txsentinel: bool) -> str:
        """Return who has our vote when ``b`` requests it a second after a switch to a master that is up."""
        self.fixture.master.options.down_after = down_after
        self.fixture.peer("b").is_txsentinel = is_txsentinel
        self.fixture.master.switched_at = self.fixture.now - 1000
        return self.request_vote("b", 5).leader

    def test_c_sentinels_right_after_a_switch(self) -> None:
        """With a short down-after C Sentinels may consider the new master down because of the switch."""
        self.assertEqual("*", self.after_a_switch(1000, is_txsentinel=False))

    def test_c_sentinels_with_a_longer_down_after(self) -> None:
        """With a longer one they do not, and their request may be for a forced failover."""
        self.assertEqual("b" * 40, self.after_a_switch(1200, is_txsentinel=False))

    def test_txsentinels_right_after_a_switch(self) -> None:
        """A txsentinel never considers a master down because of the switch."""
        self.assertEqual("b" * 40, self.after_a_switch(1000, is_txsentinel=True))

    def test_epochs_below_the_config_epoch(self) -> None:
        """A leader in an epoch below the current config epoch could not publish its configuration."""
        self.mass_failure(Limits().mass_failure)
        self.fixture.hello("z", MASTER, 7, 8)
        self.assertEqual("*", self.request_vote("b", 7).leader)
        self.assertEqual("b" * 40, self.request_vote("b", 8).leader)

    def test_one_per_epoch(self) -> None:
        """A second candidate is sent the first one's name."""
        self.request_vote("b", 1)
        self.assertEqual(("b" * 40, 1), (self.request_vote("z", 1).leader, self.request_vote("z", 1).leader_epoch))

    def test_repeated_before_it_is_durable(self) -> None:
        """A repeated vote waits for the same write as the first time."""
        self.fixture.disk_slow = True
        first, second = self.request_vote("b", 1), self.request_vote("b", 1)
        self.assertEqual(first.generation, second.generation)
        self.fixture.finish()
        self.fixture.commit()
        self.assertEqual(0, self.request_vote("b", 1).generation)

    def test_fallback(self) -> None:
        """A vote that cannot be saved is answered with the last durable epoch and no candidate."""
        self.request_vote("b", 1)
        self.fixture.finish()
        self.fixture.wait(3_000, 50)
        vote = self.request_vote("z", 2).fallback()
        self.assertEqual(("*", 1, 0), (vote.leader, vote.leader_epoch, vote.generation))

    def test_while_storage_fails(self) -> None:
        """There are no new votes and epochs; durable ones are sent as before."""
        self.request_vote("b", 1)
        self.fixture.finish()
        self.fixture.disk_works = False
        self.fixture.core.outbox.changed(None)
        self.fixture.finish()
        self.assertEqual(("b" * 40, 1), (self.request_vote("b", 2).leader, self.request_vote("b", 2).leader_epoch))
        self.assertEqual(1, self.fixture.core.current_epoch)

    def test_a_vote_delays_our_own_attempt(self) -> None:
        """After a vote, this Sentinel waits two failover timeouts before its own attempt."""
        self.request_vote("b", 1)
        self.assertEqual(self.fixture.now, self.fixture.master.attempt_started_at)

    def test_unreachable_candidate_does_not_bind(self) -> None:
        """A candidate that is unreachable does not prevent votes for others."""
        self.request_vote("b", 1)
        self.fixture.finish()
        self.fixture.kill(self.fixture.peer("b").address)
        self.assertEqual("z" * 40, self.request_vote("z", 2).leader)

    def test_after_a_failure_of_our_own(self) -> None:
        """Once our campaign is over, our vote for ourselves does not prevent votes for others."""
        self.fixture.add_replica(2)
        for letter in "bz":
            self.fixture.servers[self.fixture.peer(letter).address].reports_down = True
            self.fixture.servers[self.fixture.peer(letter).address].grants = False
        self.fixture.wait(1_000)
        self.fixture.kill(MASTER)
        self.fixture.wait(1_500)
        self.assertEqual(ME, self.fixture.master.leader)
        self.fixture.wait(12_000, 50)
        self.assertIsNone(self.fixture.master.failover)
        self.assertEqual("z" * 40, self.request_vote("z", 90).leader)


class ForgeryTests(SynchronousTestCase):
    """Forged vote requests in the name of a peer."""

    def setUp(self) -> None:
        """Set up a master with a replica and two peers that consider it down when it dies."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        for letter in "bz":
            self.fixture.add_peer(letter, reports_down=True, confirms=False)
        self.fixture.wait(3_000, 50)
        self.fixture.output()
        self.fixture.sent.clear()

    def forge(self, letter: str, epoch: int) -> Vote:
        """Send a vote request in that peer's name."""
        vote = self.fixture.core.vote_requested(MASTER.ip, MASTER.port, epoch, letter * 40, self.fixture.now)
        self.fixture.finish()
        return vote

    def test_only_the_first_request_gets_a_vote(self) -> None:
        """The first request gets a vote, later ones are refused with their epochs; our attempt is not delayed."""
        self.assertEqual("b" * 40, self.forge("b", 1).leader)
        self.assertIsNone(self.fixture.master.attempt_started_at)
        for epoch in range(2, 20):
            self.assertEqual(1, self.forge("b", epoch).leader_epoch)
        self.assertEqual(1, self.fixture.core.current_epoch)

    def test_real_candidate_gets_a_vote(self) -> None:
        """A real candidate gets our vote right after it."""
        self.forge("b", 1)
        self.fixture.servers[self.fixture.peer("z").address].confirms = True
        self.assertEqual("z" * 40, self.forge("z", 2).leader)

    def test_failover_under_attack(self) -> None:
        """Twelve requests per second in the names of all peers do not delay a failover."""
        epoch = 0
        for step in range(60):
            if step == 24:
                self.fixture.kill(MASTER)
            for letter in "bz" + ME[0]:
                epoch = max(epoch, self.fixture.core.current_epoch) + 1
                self.forge(letter, epoch)
            self.fixture.wait(80, 10)
        self.assertEqual("10.0.0.2", self.fixture.master.address.ip)

    def test_in_the_name_of_an_unreachable_peer(self) -> None:
        """Nor do requests in the name of a peer that cannot be asked, however often they come."""
        self.fixture.kill(self.fixture.peer("b").address)
        self.fixture.wait(2_000, 50)
        for step in range(200):
            if step == 24:
                self.fixture.kill(MASTER)
            self.forge("b", self.fixture.core.current_epoch + 1)
            self.fixture.wait(80, 10)
        self.assertEqual("10.0.0.2", self.fixture.master.address.ip)

    def test_no_confirmation(self) -> None:
        """A candidate that is lost before it confirms binds us for an election; what was before that counts again."""
        master = self.fixture.master
        self.fixture.servers[self.fixture.peer("b").address].unresponsive = True
        self.forge("b", 1)
        self.fixture.kill(self.fixture.peer("b").address)
        self.assertIsNotNone(master.attempt_started_at)
        self.fixture.servers[self.fixture.peer("z").address].grants = False
        self.fixture.kill(MASTER)
        self.fixture.wait(9_900, 50)
        self.assertNotIn("+try-failover", self.fixture.events())
        self.fixture.wait(200, 50)
        self.assertIn("+try-failover", self.fixture.events())
        self.fixture.wait(15_000, 50)
        began = master.attempt_started_at
        self.assertIsNotNone(began)
        self.forge("z", self.fixture.core.current_epoch + 1)
        self.assertEqual(began, master.attempt_started_at)

    def test_in_our_own_name(self) -> None:
        """A request for a vote for ourselves is refused."""
        self.assertEqual(("*", 0), (self.forge(ME[0], 1).leader, self.fixture.core.current_epoch))

    def test_late_confirmation(self) -> None:
        """A peer that was doubted gets a vote after it confirmed a candidacy, at its second request."""
        self.forge("b", 1)
        self.fixture.servers[self.fixture.peer("b").address].confirms = True
        self.assertEqual(1, self.forge("b", 2).leader_epoch)
        self.assertEqual(3, self.forge("b", 3).leader_epoch)

    def test_confirmed_votes_delay_our_own_attempt(self) -> None:
        """After the candidate has confirmed, the delay is as usual."""
        self.fixture.servers[self.fixture.peer("b").address].confirms = True
        self.forge("b", 1)
        self.assertIsNotNone(self.fixture.master.attempt_started_at)
        self.fixture.wait(DOUBT_PERIOD + 1, 100)
        self.assertIsNotNone(self.fixture.master.attempt_started_at)


class RequestTests(SynchronousTestCase):
    """Questions to peers, and their replies."""

    def setUp(self) -> None:
        """Set up a master that is down and a peer that does not report it; the test sends all replies."""
        self.fixture = Fixture()
        self.fixture.add_peer("b")
        self.fixture.wait(2_000)
        self.fixture.kill(MASTER)
        self.server = self.fixture.servers[self.fixture.peer("b").address]
        self.server.unresponsive = True
        self.fixture.wait(1_010)
        self.peer = self.fixture.peer("b")

    def answer(self, reply: object) -> None:
        """Reply to the oldest question."""
        self.fixture.core.master_down_reply(self.peer.link, self.fixture.master, reply, self.fixture.now)
        self.fixture.finish()

    def requests_sent(self) -> int:
        """Return how often the peer was asked."""
        return sum(isinstance(effect, AskMasterDown) for _, effect in self.fixture.sent)

    def test_one_request_at_a_time(self) -> None:
        """A peer with an unanswered question is not sent the same one, without frequent evaluation."""
        self.assertEqual(1, self.requests_sent())
        self.assertLess(self.fixture.idle(3_000), 200)
        self.assertEqual(1, self.requests_sent())

    def test_repeated_after_a_reconnection(self) -> None:
        """A question on a lost connection is repeated on the next one, at once."""
        self.fixture.reset_connections(self.peer.address)
        self.assertEqual((2, 1), (self.requests_sent(), len(self.peer.asked)))

    def test_invalid_replies(self) -> None:
        """Anything but integer, bulk string, integer is no opinion."""
        for reply in (None, b"x", [1], [1, b"*"], [1, "*", 0], [b"1", b"*", 0], [1, b"*", b"0"], [True, b"*", 0]):
            self.peer.asked.clear()
            # A question that was just asked is not due again.
            self.fixture.core._questions.ask(self.peer, self.fixture.now)
            self.answer(reply)
            self.assertFalse(self.peer.reports_master_down, repr(reply))

    def test_unsolicited_replies(self) -> None:
        """A second reply to one question is ignored."""
        self.answer([0, b"*", 0])
        self.answer([1, b"*", 0])
        self.assertFalse(self.peer.reports_master_down)

    def test_of_another_address(self) -> None:
        """A reply about the address that the master has left is ignored."""
        self.fixture.hello("b", Address.literal("10.0.0.2", 6379), 3)
        self.answer([1, b"*", 0])
        self.assertFalse(self.peer.reports_master_down)

    def test_from_a_peer_that_moved(self) -> None:
        """A question about the old address does not count as one about the new address."""
        moved = Address.literal("10.0.1.200", 26379)
        self.fixture.servers[moved] = FakeServer(moved, sentinel_id=identity("b").encode())
        self.fixture.kill(self.peer.address)
        self.fixture.core.hello_received(
            f"10.0.1.200,26379,{identity('b')},0,mymaster,10.0.0.1,6379,0".encode(), self.fixture.now
        )
        self.fixture.finish()
        self.assertEqual(0, len(self.peer.asked))
        self.assertEqual(0, self.peer.link.votes_in_flight)

    def test_of_a_master_that_is_gone(self) -> None:
        """A reply about a master that was removed meanwhile changes nothing, even if its name is in use again."""
        old, link = self.fixture.master, self.peer.link
        self.fixture.add_master("other", 7)
        self.fixture.core.administration.remove("mymaster", self.fixture.now)
        new = self.fixture.core.administration.monitor("mymaster", "10.0.0.1", 6379, 2, self.fixture.now)
        self.fixture.core.master_down_reply(link, old, [1, b"*", 0], self.fixture.now)
        self.assertEqual({}, new.peers)

    def test_votes_are_reported(self) -> None:
        """A new vote of a peer is logged."""
        self.fixture.output()
        self.answer([0, identity("q").encode(), 4])
        self.assertEqual([f"note {identity('b')} voted for {identity('q')} 4"], self.fixture.output())


class CountTests(SynchronousTestCase):
    """The result of an election."""

    def test_outcomes(self) -> None:
        """One row per case: our votes, open ones, the rival's, reachable, needed → won, lost, retry, concede."""
        rows = (
            ((2, 0, 0, 3, 2), (True, False, True, False)),
            ((1, 1, 0, 3, 2), (False, False, True, False)),
            ((1, 0, 1, 2, 2), (False, True, True, False)),
            ((1, 0, 2, 3, 2), (False, True, True, True)),
            ((1, 0, 0, 1, 2), (False, True, False, False)),
            ((0, 1, 0, 1, 1), (False, False, True, False)),
        )
        for figures, (won, lost, again, yields) in rows:
            count = VoteCount(*figures)
            self.assertEqual(
                (won, lost, again, yields), (count.won, count.lost, count.should_retry, count.should_concede), figures
            )

    def test_quorum_above_the_majority(self) -> None:
        """A leader needs the majority and the quorum, whichever is more."""
        fixture = Fixture(quorum=3)
        fixture.add_replica(2)
        fixture.add_peer("b", reports_down=True)
        fixture.add_peer("z", reports_down=True, grants=False)
        fixture.wait(2_000)
        fixture.kill(MASTER)
        fixture.wait(3_000)
        self.assertNotIn("+elected-leader", fixture.events())


class WindowTests(SynchronousTestCase):
    """The limit of unanswered vote requests per link."""

    def setUp(self) -> None:
        """Set up ten masters and two peers, with a limit of three requests each."""
        self.fixture = fixture = Fixture()
        object.__setattr__(fixture.core.state.limits, "votes_in_flight", 3)
        fixture.add_peer("b", reports_down=True)
        fixture.add_peer("z", reports_down=True)
        for number in range(10):
            fixture.add_master(f"m{number}", number)
        fixture.wait(3_000, 50)
        fixture.sent.clear()
        self.servers = [fixture.servers[fixture.peer(letter).address] for letter in "bz"]

    def kill_masters(self) -> None:
        """All masters die; the peers report them down but do not vote yet."""
        fixture = self.fixture
        for number in range(10):
            fixture.kill(Address.literal(f"10.1.0.{number}", 6379))
        fixture.wait(1_000)
        for master in fixture.core.registry.masters.values():
            for peer in master.peers.values():
                peer.reports_master_down, peer.opinion_at = True, fixture.now
        for server in self.servers:
            server.unresponsive = True
        fixture.wait(80, 1)

    def requests(self) -> list[AskMasterDown]:
        """Return the vote requests."""
        return [e for _, e in self.fixture.sent if isinstance(e, AskMasterDown) and e.candidate == ME]

    def test_all_are_sent(self) -> None:
        """As replies arrive, the requests for all masters are sent."""
        fixture = self.fixture
        for number in range(10):
            fixture.kill(Address.literal(f"10.1.0.{number}", 6379))
        fixture.wait(1_200, 1)
        moved = [m for m in fixture.core.registry.masters.values() if m.address.ip.startswith("10.2.")]
        self.assertEqual(10, len(moved))
        self.assertEqual({0}, {i.link.votes_in_flight for i in fixture.core.registry.instances()})

    def test_bound(self) -> None:
        """Without replies no further requests are sent, and no peer is queued twice."""
        self.kill_masters()
        self.assertEqual(6, len(self.requests()))
        link = self.fixture.peer("b").link
        self.fixture.wait(3_000, 20)
        self.assertEqual((3, 7), (link.votes_in_flight, len(link.votes_waiting)))

    def test_waiting_is_cheap(self) -> None:
        """Waiting peers are evaluated about once a second."""
        self.kill_masters()
        self.assertLess(self.fixture.idle(2_000), 200)

    def test_removed_master_leaves_nothing(self) -> None:
        """A removed master leaves no unanswered request behind."""
        self.kill_masters()
        for number in range(10):
            self.fixture.core.administration.remove(f"m{number}", self.fixture.now)
        link = self.fixture.peer("b").link
        self.assertEqual((0, 0), (link.votes_in_flight, len(link.votes_waiting)))


class MassFailureTests(SynchronousTestCase):
    """Mass failures."""

    def test_concede(self) -> None:
        """A candidate votes for another one that precedes it, in a mass failure only."""
        for failing, given in ((1, False), (100, True)):
            fixture = Fixture()
            fixture.add_replica(2)
            fixture.add_peer("a", reports_down=True)
            fixture.add_peer("z", reports_down=True)
            fixture.wait(3_000, 50)
            for server in (fixture.servers[fixture.peer(letter).address] for letter in "az"):
                server.unresponsive = True
            fixture.kill(MASTER)
            fixture.wait(1_000, 10)
            for peer in fixture.master.peers.values():
                peer.reports_master_down, peer.opinion_at = True, fixture.now
            fixture.wait(200, 1)
            failover = fixture.master.failover
            assert failover is not None
            for _ in range(failing):
                fixture.core.state.went_odown(fixture.now)
            before = fixture.peer("a").name
            self.assertLess(before, ME)
            vote = fixture.core.vote_requested("10.0.0.1", 6379, failover.epoch + 1, before, fixture.now)
            self.assertEqual(given, vote.leader == before)
            self.assertEqual(given, fixture.master.failover is None)
