"""Asking peers, answering them, one vote per epoch, and the window of requests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, ME, Actor, Scene, identity
from txsentinel.core.effects import AskMasterDown
from txsentinel.core.state import STORM
from txsentinel.core.voting import DOUBT, Vote, VoteCount
from txsentinel.model.address import Address
from txsentinel.model.timings import Limits


class AnswerTests(SynchronousTestCase):
    """What we tell those who ask."""

    def setUp(self) -> None:
        """A master with two peers."""
        self.scene = Scene()
        self.scene.add_peer("b")
        self.scene.add_peer("z")
        self.scene.wait(500)

    def ask(self, letter: str, epoch: int, host: str = MASTER_PLACE.ip) -> Vote:
        """Ask for a vote, without letting the disk work."""
        return self.scene.core.vote_requested(host, MASTER_PLACE.port, epoch, letter * 40, self.scene.now)

    def test_unknown_address(self) -> None:
        """Of an address that is no master's we know nothing, and adopt no epoch for it."""
        vote = self.ask("b", 7, "10.9.9.9")
        self.assertEqual((False, "*", 0, 0), (vote.down, vote.leader, vote.leader_epoch, vote.generation))
        self.assertEqual(0, self.scene.core.current_epoch)

    def test_epoch_zero(self) -> None:
        """Nobody ever has a vote in epoch 0."""
        self.assertEqual("*", self.ask("b", 0).leader)

    def test_lower_epochs(self) -> None:
        """Below the current epoch there is no vote, even a first one."""
        self.scene.hello("z", MASTER_PLACE, 0, 5)
        self.assertEqual(("*", 0), (self.ask("b", 4).leader, self.ask("b", 4).leader_epoch))
        self.assertEqual("b" * 40, self.ask("b", 5).leader)

    def storm(self, masters: int) -> None:
        """So many masters have failed just now, and others were voted on since: the current epoch went from 5 to 8."""
        self.scene.hello("z", MASTER_PLACE, 0, 5)
        for _ in range(masters):
            self.scene.core.state.went_odown(self.scene.now)
        self.scene.hello("z", MASTER_PLACE, 0, 8)

    def test_lower_epochs_in_a_storm(self) -> None:
        """The one it began in and those since are as good as the current one, one after the other for each master."""
        self.storm(Limits().storm)
        self.assertEqual("*", self.ask("b", 4).leader)
        self.assertEqual(("b" * 40, 5), (self.ask("b", 5).leader, self.ask("b", 5).leader_epoch))
        self.assertEqual(("b" * 40, 6), (self.ask("b", 6).leader, self.ask("b", 6).leader_epoch))
        self.assertEqual(6, self.ask("z", 6).leader_epoch)
        self.assertEqual(("b" * 40, 7), (self.ask("b", 7).leader, self.ask("b", 7).leader_epoch))
        self.assertEqual(("b" * 40, 7), (self.ask("b", 6).leader, self.ask("b", 6).leader_epoch))
        self.assertEqual(8, self.scene.core.current_epoch)

    def test_lower_epochs_of_a_few_failures(self) -> None:
        """A handful of masters is no storm."""
        self.storm(Limits().storm - 1)
        self.assertEqual("*", self.ask("b", 6).leader)
        self.assertEqual("b" * 40, self.ask("b", 8).leader)

    def test_lower_epochs_after_a_storm(self) -> None:
        """Some seconds later whoever asks with them comes too late."""
        self.storm(Limits().storm)
        self.scene.wait(STORM + 1)
        self.assertEqual("*", self.ask("b", 7).leader)

    def test_epochs_that_lead_nowhere(self) -> None:
        """Whoever would be elected in one below that of the present configuration could not have it followed."""
        self.storm(Limits().storm)
        self.scene.hello("z", MASTER_PLACE, 7, 8)
        self.assertEqual("*", self.ask("b", 7).leader)
        self.assertEqual("b" * 40, self.ask("b", 8).leader)

    def test_one_per_epoch(self) -> None:
        """Whoever asks second hears who was first."""
        self.ask("b", 1)
        self.assertEqual(("b" * 40, 1), (self.ask("z", 1).leader, self.ask("z", 1).leader_epoch))

    def test_repeated_before_it_is_durable(self) -> None:
        """A vote that is repeated waits for the same save as the first time."""
        self.scene.disk_slow = True
        first, second = self.ask("b", 1), self.ask("b", 1)
        self.assertEqual(first.generation, second.generation)
        self.scene.settle()
        self.scene.commit()
        self.assertEqual(0, self.ask("b", 1).generation)

    def test_fallback(self) -> None:
        """When a vote cannot be saved, what is told is the epoch of the last one that was, and nobody's name."""
        self.ask("b", 1)
        self.scene.settle()
        self.scene.wait(3_000, 50)
        vote = self.ask("z", 2).fallback()
        self.assertEqual(("*", 1, 0), (vote.leader, vote.leader_epoch, vote.generation))

    def test_while_storage_fails(self) -> None:
        """No new votes, no new epochs; what is durable is told as ever."""
        self.ask("b", 1)
        self.scene.settle()
        self.scene.disk_works = False
        self.scene.core.outbox.changed(None)
        self.scene.settle()
        self.assertEqual(("b" * 40, 1), (self.ask("b", 2).leader, self.ask("b", 2).leader_epoch))
        self.assertEqual(1, self.scene.core.current_epoch)

    def test_a_vote_puts_off_our_own_attempt(self) -> None:
        """The candidate has two failover timeouts before we try ourselves."""
        self.ask("b", 1)
        self.assertEqual(self.scene.now, self.scene.master.attempt_started_at)

    def test_lease_ends_with_its_holder(self) -> None:
        """A candidate that is gone keeps nobody else from a vote."""
        self.ask("b", 1)
        self.scene.settle()
        self.scene.kill(self.scene.peer("b").address)
        self.assertEqual("z" * 40, self.ask("z", 2).leader)

    def test_after_a_failure_of_our_own(self) -> None:
        """Once our candidacy is over, our vote for ourselves keeps nobody away."""
        self.scene.add_replica(2)
        for letter in "bz":
            self.scene.actors[self.scene.peer(letter).address].says_down = True
            self.scene.actors[self.scene.peer(letter).address].grants = False
        self.scene.wait(1_000)
        self.scene.kill(MASTER_PLACE)
        self.scene.wait(1_500)
        self.assertEqual(ME, self.scene.master.leader)
        self.scene.wait(12_000, 50)
        self.assertIsNone(self.scene.master.failover)
        self.assertEqual("z" * 40, self.ask("z", 90).leader)


class ForgeryTests(SynchronousTestCase):
    """Requests for our vote in the name of a peer that knows nothing of them."""

    def setUp(self) -> None:
        """A master with a replica and two peers, who hold it down when it dies."""
        self.scene = Scene()
        self.scene.add_replica(2)
        for letter in "bz":
            self.scene.add_peer(letter, says_down=True, stands=False)
        self.scene.wait(3_000, 50)
        self.scene.heard()
        self.scene.sent.clear()

    def forge(self, letter: str, epoch: int) -> Vote:
        """A stranger asks in that peer's name."""
        vote = self.scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, epoch, letter * 40, self.scene.now)
        self.scene.settle()
        return vote

    def test_costs_one_vote(self) -> None:
        """The first request has it, the next ones are refused with their epochs; our own attempt is not put off."""
        self.assertEqual("b" * 40, self.forge("b", 1).leader)
        self.assertIsNone(self.scene.master.attempt_started_at)
        for epoch in range(2, 20):
            self.assertEqual(1, self.forge("b", epoch).leader_epoch)
        self.assertEqual(1, self.scene.core.current_epoch)

    def test_binds_nobody(self) -> None:
        """A real candidate has our vote right after it."""
        self.forge("b", 1)
        self.scene.actors[self.scene.peer("z").address].stands = True
        self.assertEqual("z" * 40, self.forge("z", 2).leader)

    def test_failover_under_attack(self) -> None:
        """Twelve requests a second in the names of all peers do not hold up a failover."""
        epoch = 0
        for step in range(60):
            if step == 24:
                self.scene.kill(MASTER_PLACE)
            for letter in "bz" + ME[0]:
                epoch = max(epoch, self.scene.core.current_epoch) + 1
                self.forge(letter, epoch)
            self.scene.wait(80, 10)
        self.assertEqual("10.0.0.2", self.scene.master.address.ip)

    def test_in_our_own_name(self) -> None:
        """Nobody asks us for a vote for ourselves."""
        self.assertEqual(("*", 0), (self.forge(ME[0], 1).leader, self.scene.core.current_epoch))

    def test_who_stands_after_all(self) -> None:
        """A peer that was doubted has the vote after it confirmed a candidacy, at its second request."""
        self.forge("b", 1)
        self.scene.actors[self.scene.peer("b").address].stands = True
        self.assertEqual(1, self.forge("b", 2).leader_epoch)
        self.assertEqual(3, self.forge("b", 3).leader_epoch)

    def test_genuine_votes_put_off_our_own_attempt(self) -> None:
        """As ever, after the candidate has confirmed."""
        self.scene.actors[self.scene.peer("b").address].stands = True
        self.forge("b", 1)
        self.assertIsNotNone(self.scene.master.attempt_started_at)
        self.scene.wait(DOUBT + 1, 100)
        self.assertIsNotNone(self.scene.master.attempt_started_at)


class QuestionTests(SynchronousTestCase):
    """What we ask, and what we make of the answers."""

    def setUp(self) -> None:
        """A master that is down and a peer that does not say so; nobody answers by itself from here on."""
        self.scene = Scene()
        self.scene.add_peer("b")
        self.scene.wait(2_000)
        self.scene.kill(MASTER_PLACE)
        self.actor = self.scene.actors[self.scene.peer("b").address]
        self.actor.mute = True
        self.scene.wait(1_010)
        self.peer = self.scene.peer("b")

    def answer(self, reply: object) -> None:
        """The answer to the oldest question."""
        self.scene.core.master_down_reply(self.peer.link, self.scene.master, reply, self.scene.now)
        self.scene.settle()

    def asked(self) -> int:
        """How often the peer was asked."""
        return sum(isinstance(effect, AskMasterDown) for _, effect in self.scene.sent)

    def test_one_question_at_a_time(self) -> None:
        """A peer that owes an answer is not asked the same again, and not looked at all the time either."""
        self.assertEqual(1, self.asked())
        self.assertLess(self.scene.idle(3_000), 200)
        self.assertEqual(1, self.asked())

    def test_asked_again_after_a_reconnection(self) -> None:
        """What was asked on a connection that broke is asked on the next one, at once."""
        self.scene.reset_connections(self.peer.address)
        self.assertEqual((2, 1), (self.asked(), len(self.peer.asked)))

    def test_nonsense(self) -> None:
        """Anything but integer, bulk string, integer is no opinion."""
        for reply in (None, b"x", [1], [1, b"*"], [1, "*", 0], [b"1", b"*", 0], [1, b"*", b"0"], [True, b"*", 0]):
            self.peer.asked.clear()
            self.scene.core._voting.ask(self.peer, self.scene.now)
            self.answer(reply)
            self.assertFalse(self.peer.says_master_down, repr(reply))

    def test_answers_nobody_asked_for(self) -> None:
        """A second answer to one question is void."""
        self.answer([0, b"*", 0])
        self.answer([1, b"*", 0])
        self.assertFalse(self.peer.says_master_down)

    def test_of_another_address(self) -> None:
        """An answer about the address that the master has left is void."""
        self.scene.hello("b", Address.literal("10.0.0.2", 6379), 3)
        self.answer([1, b"*", 0])
        self.assertFalse(self.peer.says_master_down)

    def test_from_a_peer_that_moved(self) -> None:
        """What its old address was asked is not taken for asked of the new one."""
        moved = Address.literal("10.0.1.200", 26379)
        self.scene.actors[moved] = Actor(moved, sentinel_id=identity("b").encode())
        self.scene.core.hello_heard(
            f"10.0.1.200,26379,{identity('b')},0,mymaster,10.0.0.1,6379,0".encode(), self.scene.now
        )
        self.scene.settle()
        self.assertEqual(0, len(self.peer.asked))
        self.assertEqual(0, self.peer.link.votes_in_flight)

    def test_of_a_master_that_is_gone(self) -> None:
        """An answer about a master that was removed meanwhile changes nothing, whoever has its name now."""
        old, link = self.scene.master, self.peer.link
        self.scene.add_master("other", 7)
        self.scene.core.remove("mymaster", self.scene.now)
        new = self.scene.core.monitor("mymaster", "10.0.0.1", 6379, 2, self.scene.now)
        self.scene.core.master_down_reply(link, old, [1, b"*", 0], self.scene.now)
        self.assertEqual({}, new.peers)

    def test_votes_are_reported(self) -> None:
        """A vote that we hear of for the first time is worth a line in the log."""
        self.scene.heard()
        self.answer([0, identity("q").encode(), 4])
        self.assertEqual([f"note {identity('b')} voted for {identity('q')} 4"], self.scene.heard())


class CountTests(SynchronousTestCase):
    """Won, lost, or open."""

    def test_outcomes(self) -> None:
        """One row per case: votes for us, open ones, the rival's, reachable, needed → won, lost, again, yield."""
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
                (won, lost, again, yields), (count.won, count.lost, count.worth_another, count.yield_to_rival), figures
            )

    def test_quorum_above_the_majority(self) -> None:
        """A leader needs the majority and the quorum, whichever is more."""
        scene = Scene(quorum=3)
        scene.add_replica(2)
        scene.add_peer("b", says_down=True)
        scene.add_peer("z", says_down=True, grants=False)
        scene.wait(2_000)
        scene.kill(MASTER_PLACE)
        scene.wait(3_000)
        self.assertNotIn("+elected-leader", scene.events())


class WindowTests(SynchronousTestCase):
    """No more than so many vote requests on one link at a time."""

    def setUp(self) -> None:
        """Ten masters, two peers, room for three requests each."""
        self.scene = scene = Scene()
        object.__setattr__(scene.core.state.limits, "votes_in_flight", 3)
        scene.add_peer("b", says_down=True)
        scene.add_peer("z", says_down=True)
        for number in range(10):
            scene.add_master(f"m{number}", number)
        scene.wait(3_000, 50)
        scene.sent.clear()
        self.actors = [scene.actors[scene.peer(letter).address] for letter in "bz"]

    def die(self) -> None:
        """All masters die, and the peers say so but do not vote yet."""
        scene = self.scene
        for number in range(10):
            scene.kill(Address.literal(f"10.1.0.{number}", 6379))
        scene.wait(1_000)
        for master in scene.core.registry.masters.values():
            for peer in master.peers.values():
                peer.says_master_down, peer.opinion_at = True, scene.now
        for actor in self.actors:
            actor.mute = True
        scene.wait(80, 1)

    def requests(self) -> list[AskMasterDown]:
        """The vote requests."""
        return [e for _, e in self.scene.sent if isinstance(e, AskMasterDown) and e.candidate == ME]

    def test_all_are_served(self) -> None:
        """As answers make room, every master has its turn."""
        scene = self.scene
        for number in range(10):
            scene.kill(Address.literal(f"10.1.0.{number}", 6379))
        scene.wait(1_200, 1)
        moved = [m for m in scene.core.registry.masters.values() if m.address.ip.startswith("10.2.")]
        self.assertEqual(10, len(moved))
        self.assertEqual({0}, {i.link.votes_in_flight for i in scene.core.registry.instances()})

    def test_bound(self) -> None:
        """While nobody answers no more go out, nor is anybody queued twice."""
        self.die()
        self.assertEqual(6, len(self.requests()))
        link = self.scene.peer("b").link
        self.scene.wait(3_000, 20)
        self.assertEqual((3, 7), (link.votes_in_flight, len(link.votes_waiting)))

    def test_waiting_is_not_spinning(self) -> None:
        """Those who wait for room are looked at once a second or so."""
        self.die()
        self.assertLess(self.scene.idle(2_000), 200)

    def test_places_are_given_back(self) -> None:
        """A master that is removed leaves no request behind that would never be answered."""
        self.die()
        for number in range(10):
            self.scene.core.remove(f"m{number}", self.scene.now)
        link = self.scene.peer("b").link
        self.assertEqual((0, 0), (link.votes_in_flight, len(link.votes_waiting)))


class StormTests(SynchronousTestCase):
    """Many masters that fail together."""

    def test_giving_way(self) -> None:
        """A candidate that stands itself votes for one that comes before it, in a storm only."""
        for failing, given in ((1, False), (100, True)):
            scene = Scene()
            scene.add_replica(2)
            scene.add_peer("a", says_down=True)
            scene.add_peer("z", says_down=True)
            scene.wait(3_000, 50)
            for actor in (scene.actors[scene.peer(letter).address] for letter in "az"):
                actor.mute = True
            scene.kill(MASTER_PLACE)
            scene.wait(1_000, 10)
            for peer in scene.master.peers.values():
                peer.says_master_down, peer.opinion_at = True, scene.now
            scene.wait(200, 1)
            failover = scene.master.failover
            assert failover is not None
            for _ in range(failing):
                scene.core.state.went_odown(scene.now)
            before = scene.peer("a").name
            self.assertLess(before, ME)
            vote = scene.core.vote_requested("10.0.0.1", 6379, failover.epoch + 1, before, scene.now)
            self.assertEqual(given, vote.leader == before)
            self.assertEqual(given, scene.master.failover is None)
