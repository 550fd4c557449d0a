"""
The promises that the C Sentinels break, by the numbers under which their weak spots are known; each is kept here.

Three of them are as much the business of other floors, where they have tests of their own: W7 (one write for many
changes) of ``tests/config``, W8 (names are never looked up in the way of anything) of the executor, and W12 (sockets)
of ``tests/links``. What the core contributes to them is tested here. W17, the writes that an isolated master takes,
cannot be kept by any Sentinel; it is kept as far as the old master can be reached.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.cluster import NAME, Town
from tests.core.fixture import MASTER_PLACE, ME, Scene, identity
from txsentinel.core.effects import (
    AskMasterDown,
    CallOffHandOver,
    HandOver,
    PublishHello,
    Reconfigure,
    Recycle,
    ResolveAddress,
    SettleHandOver,
)
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import FailoverState, Peer
from txsentinel.core.link import LinkKind
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)


def agreed(**options: int) -> Scene:
    """A master with two replicas and two peers who see what we see, quiet for three seconds."""
    scene = Scene(**options)
    scene.add_replica(2, offset=200)
    scene.add_replica(3)
    scene.add_peer("b", says_down=True)
    scene.add_peer("z", says_down=True)
    scene.wait(3_000)
    scene.heard()
    scene.sent.clear()
    return scene


def storm(masters: int) -> Scene:
    """Many masters under the same two peers, all of which die in one moment."""
    scene = agreed()
    for number in range(masters):
        scene.add_master(f"m{number}", number)
    scene.wait(3_000, 50)
    scene.sent.clear()
    for number in range(masters):
        scene.kill(Address.literal(f"10.1.0.{number}", 6379))
    return scene


class PromiseTests(SynchronousTestCase):
    """One promise per weak spot."""

    def orders(self, scene: Scene) -> list[Reconfigure]:
        """The role changes that were ordered."""
        return [effect for _, effect in scene.sent if isinstance(effect, Reconfigure)]

    def requests(self, scene: Scene) -> list[AskMasterDown]:
        """The votes that were asked for."""
        return [e for _, e in scene.sent if isinstance(e, AskMasterDown) and e.candidate != "*"]

    def test_w01_votes_of_other_epochs_never_count(self) -> None:
        """A majority for us in a newer epoch does not elect us in the one that we stand in."""
        scene = agreed()
        for letter in "bz":
            scene.actors[scene.peer(letter).address].reply = [1, ME.encode(), 5]
        scene.kill(MASTER_PLACE)
        scene.wait(1_010)
        scene.hello("b", MASTER_PLACE, 0, 5)
        scene.wait(60)
        self.assertEqual([], self.orders(scene))
        self.assertNotEqual(1, scene.master.config_epoch)

    def test_w01_requests_carry_the_epoch_that_is_stood_in(self) -> None:
        """A current epoch that moves on during the election does not change what is asked for."""
        scene = agreed()
        for letter in "bz":
            scene.actors[scene.peer(letter).address].mute = True
            scene.peer(letter).says_master_down = True
            scene.peer(letter).opinion_at = scene.now + 1_000
        scene.kill(MASTER_PLACE)
        scene.wait(1_040)
        scene.hello("b", MASTER_PLACE, 0, 5)
        for letter in "bz":
            scene.actors[scene.peer(letter).address].mute = False
            scene.reset_connections(scene.peer(letter).address)
        self.assertEqual({1}, {request.epoch for request in self.requests(scene)})
        self.assertEqual((SECOND, 1), (scene.master.address, scene.master.config_epoch))

    def test_w01_masters_that_fail_together_share_one_epoch(self) -> None:
        """Fifty masters die at once: one epoch for all, and none of them waits for another."""
        scene = storm(50)
        scene.wait(1_150)
        self.assertEqual({1}, {request.epoch for request in self.requests(scene)})
        moved = [m.address.ip.startswith("10.2.") for m in scene.core.registry.masters.values() if m.name != NAME]
        self.assertEqual([True] * 50, moved)
        self.assertEqual(1, scene.core.current_epoch)

    def test_w01_masters_that_lose_an_epoch_together_share_the_next(self) -> None:
        """When others have their votes, fifty masters stand again in few epochs, not in fifty."""
        scene = storm(50)
        for letter in "bz":
            scene.actors[scene.peer(letter).address].answer = (identity("q"), 1)
        scene.wait(1_400)
        self.assertLess(scene.core.current_epoch, 5)

    def test_w02_forced_failovers_never_share_an_epoch(self) -> None:
        """Without a majority, no two Sentinels of a group take the same epoch, wherever each of them stands."""
        taken: dict[int, str] = {}
        letters = "abcde"
        for me in letters:
            for current in range(7):
                scene = Scene(my_id=identity(me))
                scene.add_replica(2)
                for letter in letters.replace(me, ""):
                    scene.add_peer(letter, mute=True)
                scene.wait(1_500, 50)
                scene.core.state.current_epoch = current
                scene.core.failover(NAME, scene.now)
                scene.wait(700, 20)
                self.assertEqual(me, taken.setdefault(scene.master.config_epoch, me))

    def test_w03_a_switch_takes_no_clock_along(self) -> None:
        """At any down-after, a kill is one switch; the new master is never held down for the old one's silence."""
        for down_after in (100, 200, 400):
            town = Town(5, down_after=down_after)
            town.run(5_000)
            town.kill(MASTER_PLACE)
            town.run(8_000)
            self.assertEqual(1, town.witness.acted)
            for one in town.residents:
                self.assertEqual(1, sum(event.startswith("+switch-master") for event in one.events))

    def test_w03_opinions_of_the_old_address_do_not_survive_a_switch(self) -> None:
        """Neither those that were given nor those that are still on their way."""
        scene = agreed()
        scene.kill(MASTER_PLACE)
        for letter in "bz":
            scene.actors[scene.peer(letter).address].mute = True
        scene.wait(1_010)
        scene.hello("b", SECOND, 4)
        peer = scene.peer("b")
        self.assertFalse(peer.says_master_down)
        scene.core.master_down_reply(peer.link, scene.master, [1, b"*", 0], scene.now)
        self.assertFalse(peer.says_master_down)
        self.assertEqual(0, len(peer.asked))

    def test_w04_opinions_expire_while_the_master_is_up(self) -> None:
        """What a peer said six seconds ago does not help anybody to O_DOWN today."""
        scene = agreed()
        for letter in "bz":
            scene.peer(letter).says_master_down = True
            scene.peer(letter).opinion_at = scene.now
            scene.actors[scene.peer(letter).address].mute = True
        scene.wait(6_000, 50)
        scene.kill(MASTER_PLACE)
        scene.wait(3_000, 50)
        self.assertNotIn("+odown", scene.events())

    def test_w05_a_smaller_group_is_on_disk_before_it_elects(self) -> None:
        """Forgetting peers makes majorities smaller; nobody is elected by that before it is saved."""
        scene = agreed(quorum=1)
        scene.disk_slow = True
        scene.core.reset("*", scene.now)
        scene.settle()
        for number in (2, 3):
            scene.core.registry.add_replica(scene.master, Address.literal(f"10.0.0.{number}", 6379), scene.now)
        scene.wait(500)
        scene.kill(MASTER_PLACE)
        scene.wait(1_500)
        self.assertIs(FailoverState.WAIT_START, scene.master.failover_state)
        self.assertEqual([], self.orders(scene))
        scene.commit()
        scene.settle()
        self.assertEqual(1, len([order for order in self.orders(scene) if order.promotes]))

    def test_w06_strangers_and_rivals_get_no_vote(self) -> None:
        """A candidate that we do not know, or one right behind another, is refused, and its epoch with it."""
        scene = agreed()
        vote = scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, 1, identity("q"), scene.now)
        self.assertEqual(("*", 0), (vote.leader, vote.leader_epoch))
        scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, 2, identity("b"), scene.now)
        vote = scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, 3, identity("z"), scene.now)
        self.assertEqual((identity("b"), 2), (vote.leader, vote.leader_epoch))
        self.assertEqual(2, scene.core.current_epoch)

    def test_w06_no_vote_against_a_master_that_was_just_switched_and_is_up(self) -> None:
        """
        Who still holds the new master down after five seconds may be right, before that it is haste.

        Those of our kind have no such haste: what they ask for may be a coordinated failover, which need not wait.
        """
        scene = agreed()
        scene.actors[SECOND].role = "master"
        scene.hello("b", SECOND, 1)
        scene.wait(500)
        scene.hello("z", SECOND, 1, own=False)
        vote = scene.core.vote_requested(SECOND.ip, SECOND.port, 2, identity("z"), scene.now)
        self.assertEqual("*", vote.leader)
        scene.wait(5_000, 50)
        vote = scene.core.vote_requested(SECOND.ip, SECOND.port, 3, identity("z"), scene.now)
        self.assertEqual(identity("z"), vote.leader)
        scene.hello("b", MASTER_PLACE, 4)
        scene.wait(500)
        vote = scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, 5, identity("b"), scene.now)
        self.assertEqual(identity("b"), vote.leader)

    def test_w07_one_commit_for_many_votes(self) -> None:
        """Fifty votes in a turn wait for one and the same save, and none is told before."""
        scene = agreed()
        for number in range(50):
            scene.add_master(f"m{number}", number)
        scene.disk_slow = True
        votes = [scene.core.vote_requested(f"10.1.0.{n}", 6379, 1, identity("b"), scene.now) for n in range(50)]
        self.assertTrue(all(vote.generation > scene.core.durable_generation for vote in votes))
        scene.commit()
        self.assertTrue(all(vote.generation <= scene.core.durable_generation for vote in votes))

    def test_w08_names_are_asked_for_and_not_waited_for(self) -> None:
        """A name that does not resolve holds up nothing: it is an effect, and time goes on."""
        scene = agreed()
        scene.options.resolve_hostnames = True
        scene.core.hello_heard(f"peer.example,26379,{identity('q')},0,mymaster,10.0.0.1,6379,0".encode(), scene.now)
        self.assertIn(ResolveAddress, [type(effect) for _, effect in scene.core.outbox.pending])
        scene.settle()
        scene.kill(MASTER_PLACE)
        scene.wait(1_200)
        self.assertEqual(SECOND, scene.master.address)

    def test_w09_an_address_that_means_nothing_uses_no_config_epoch(self) -> None:
        """The news waits until its name resolves, and is taken in then."""
        scene = agreed()
        scene.options.resolve_hostnames = True
        news = f"10.0.1.98,26379,{identity('b')},7,mymaster,redis.example,6379,7".encode()
        scene.core.hello_heard(news, scene.now)
        scene.settle()
        self.assertEqual((MASTER_PLACE, 0), (scene.master.address, scene.master.config_epoch))
        self.assertNotIn("+switch-master", scene.events())
        scene.core.address_resolved(Address("redis.example", "", 6379), "10.0.0.3", scene.now)
        scene.core.hello_heard(news, scene.now)
        self.assertEqual(("10.0.0.3", 7), (scene.master.address.ip, scene.master.config_epoch))

    def test_w10_poison_is_not_swallowed(self) -> None:
        """Epochs that no sequence of failovers explains change nothing, by whatever way they come."""
        scene = agreed()
        for epoch in (-1, 2**64 - 1, 2**53 + 1, 2**20 + 1):
            scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, epoch, identity("b"), scene.now)
            scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, epoch % 2**20, identity("q"), scene.now)
        for epoch in (-1, 2**64 - 1, 2**53 + 1):
            scene.hello("b", SECOND, 1, epoch % 2**64)
        self.assertEqual((0, 0, 0), (scene.core.current_epoch, scene.master.leader_epoch, scene.master.config_epoch))

    def test_w11_no_peer_of_ourselves(self) -> None:
        """A hello with our own ID teaches nothing, by subscription or direct."""
        scene = agreed()
        payload = f"10.0.9.9,26379,{ME},8,mymaster,10.0.0.3,6379,8".encode()
        scene.core.hello_heard(payload, scene.now)
        scene.core.hello_heard(payload, scene.now, scene.master.link)
        self.assertEqual(3, scene.master.voters)
        self.assertEqual(0, scene.core.current_epoch)

    def test_w12_one_link_per_peer(self) -> None:
        """However many masters a peer shares with us, it costs one connection."""
        scene = agreed()
        for number in range(50):
            scene.add_master(f"m{number}", number)
        links = {i.link.link_id for i in scene.core.registry.instances() if isinstance(i, Peer)}
        self.assertEqual(2, len(links))

    def test_w13_every_switch_in_its_own_turn(self) -> None:
        """Fifty failovers that end together are fifty switches, not one per sweep."""
        scene = storm(50)
        scene.wait(1_400, 50)
        names = [line.split()[2] for line in scene.heard() if line.startswith("event +switch-master")]
        self.assertEqual(50, len(set(names)))

    def test_w14_no_info_period_between_promotion_and_its_discovery(self) -> None:
        """From the order to the switch no time passes but that of the messages."""
        scene = agreed()
        for letter in "bz":
            scene.hello(letter, MASTER_PLACE, 0)
        scene.kill(MASTER_PLACE)
        scene.wait(1_200, 1)
        promoted_at = next(at for at, e in scene.sent if isinstance(e, Reconfigure) and e.promotes)
        told_at = min(at for at, e in scene.sent if isinstance(e, PublishHello) and b"10.0.0.2,6379,1" in e.payload)
        self.assertEqual(promoted_at, told_at)

    def test_w15_a_silent_replica_holds_up_the_next_for_ten_seconds_only(self) -> None:
        """With parallel-syncs 1, too."""
        scene = agreed(failover_timeout=60_000)
        scene.add_replica(4)
        scene.actors[THIRD].obeys = False
        scene.wait(2_000, 50)
        scene.kill(MASTER_PLACE)
        scene.wait(11_500)
        self.assertIn("-slave-reconf-sent-timeout", scene.events())
        self.assertEqual(SECOND, scene.actors[Address.literal("10.0.0.4", 6379)].follows)

    def test_w15_the_last_order_is_delivered(self) -> None:
        """What is ordered in the turn that ends the failover goes out by a link that stays open."""
        scene = agreed(failover_timeout=5_000)
        scene.add_replica(4)
        scene.actors[THIRD].obeys = False
        scene.wait(2_000, 50)
        scene.kill(MASTER_PLACE)
        scene.wait(7_000)
        self.assertIn("+slave-reconf-sent-be", scene.events())
        self.assertEqual(SECOND, scene.actors[Address.literal("10.0.0.4", 6379)].follows)

    def test_w15_a_promoted_replica_that_dies_does_not_hold_up_its_own_failover(self) -> None:
        """The old failover ends, the new one begins."""
        scene = agreed(failover_timeout=60_000)
        scene.actors[THIRD].obeys = False
        scene.kill(MASTER_PLACE)
        scene.wait(1_200)
        self.assertIs(FailoverState.RECONF_REPLICAS, scene.master.failover_state)
        scene.actors[THIRD].obeys = True
        scene.kill(SECOND)
        scene.wait(4_000)
        self.assertEqual((THIRD, 2), (scene.master.address, scene.master.config_epoch))

    def test_w16_a_pause_of_writes_is_no_death(self) -> None:
        """PUBLISH hangs and all behind it, but the subscription answers: at any down-after nobody is down."""
        for down_after in (500, 1_000, 1_500, 5_000):
            scene = agreed(down_after=down_after)
            scene.wait(16_000, 50)
            scene.actors[MASTER_PLACE].paused = True
            scene.wait(30_000, 50)
            self.assertNotIn("+sdown", scene.events(), f"down-after {down_after}")
            self.assertIsNone(scene.master.sdown_since)

    def test_w17_a_reachable_old_master_is_demoted_at_once(self) -> None:
        """A healthy old master is told to follow as soon as the new one is on disk, not ten seconds later."""
        scene = agreed()
        scene.core.failover(NAME, scene.now)
        scene.settle()
        self.assertEqual((SECOND, "slave"), (scene.actors[MASTER_PLACE].follows, scene.actors[MASTER_PLACE].role))

    def test_w17_an_old_master_is_not_demoted_before_the_new_one_is_durable(self) -> None:
        """Or a crash would leave the group without any."""
        scene = agreed()
        scene.core.failover(NAME, scene.now)
        scene.disk_slow = True
        scene.commit()
        scene.settle()
        self.assertEqual(1, scene.master.config_epoch)
        self.assertEqual("master", scene.actors[MASTER_PLACE].role)
        scene.commit()
        scene.settle()
        self.assertEqual("slave", scene.actors[MASTER_PLACE].role)

    def test_the_end_of_a_pause_is_not_held_by_the_pause(self) -> None:
        """A hello must not be in front of CLIENT UNPAUSE: the server holds PUBLISH, and what is behind it."""
        scene = agreed()
        scene.actors[MASTER_PLACE].extra = ["master_failover_state:no-failover"]
        scene.reset_connections(MASTER_PLACE)
        scene.core.failover(NAME, scene.now, coordinated=True)
        scene.wait(100)
        self.assertEqual("slave", scene.actors[MASTER_PLACE].role)
        self.assertFalse(scene.actors[MASTER_PLACE].paused)

    def handing_over(self) -> Scene:
        """A hand-over that was ordered, by servers that take their time."""
        scene = agreed()
        scene.actors[MASTER_PLACE].extra = ["master_failover_state:no-failover"]
        scene.actors[MASTER_PLACE].obeys = False
        scene.reset_connections(MASTER_PLACE)
        scene.core.failover(NAME, scene.now, coordinated=True)
        scene.settle()
        self.assertIn("order 10.0.0.1 FAILOVER TO 10.0.0.2 6379 within 10000", scene.heard())
        return scene

    def test_w18_a_closed_link_to_the_old_master_hurts_nobody(self) -> None:
        """Between the order to hand over and its end the old master may be gone: there is nobody to tell."""
        scene = self.handing_over()
        scene.actors[SECOND].role = "master"
        scene.kill(MASTER_PLACE)
        scene.wait(200)
        self.assertEqual(SECOND, scene.master.address)
        self.assertEqual(["order 10.0.0.2 CLIENT UNPAUSE"], [o for o in scene.heard() if "UNPAUSE" in o])

    def test_w18_writes_are_not_held_for_a_failover_that_is_void(self) -> None:
        """News, RESET, REMOVE, or a timeout: whoever was told to hold writes is told to go on."""
        ends = {
            "news": lambda scene: scene.hello("b", THIRD, 7),
            "reset": lambda scene: scene.core.reset("*", scene.now),
            "remove": lambda scene: scene.core.remove(NAME, scene.now),
            "time": lambda scene: scene.wait(11_000, 50),
        }
        for name, end in ends.items():
            scene = self.handing_over()
            end(scene)
            scene.settle()
            told = [type(e) for _, e in scene.sent if isinstance(e, HandOver | CallOffHandOver)]
            self.assertEqual([HandOver, CallOffHandOver], told, name)

    def test_the_end_of_a_hand_over_is_not_lost_with_a_connection(self) -> None:
        """Whoever could not be told to let go is told when it can be reached again, before any hello, and once."""
        scene = self.handing_over()
        scene.kill(MASTER_PLACE)
        scene.actors[SECOND].role = "master"
        scene.actors[MASTER_PLACE].role, scene.actors[MASTER_PLACE].follows = "slave", SECOND
        scene.actors[MASTER_PLACE].extra = ["master_failover_state:no-failover"]
        scene.wait(200)
        scene.sent.clear()
        scene.revive(MASTER_PLACE)
        scene.wait(2_500)
        told = [e for _, e in scene.sent if isinstance(e, SettleHandOver | PublishHello)]
        order = [type(effect) for effect in told if effect.link.address == MASTER_PLACE]
        self.assertEqual([SettleHandOver, PublishHello], order[:2])
        scene.reset_connections(MASTER_PLACE)
        self.assertEqual(1, sum(isinstance(effect, SettleHandOver) for _, effect in scene.sent))

    def test_no_hand_over_is_ordered_behind_a_held_hello(self) -> None:
        """Somebody else holds writes: the order would be carried out when nobody waits for it any more."""
        scene = agreed()
        scene.actors[MASTER_PLACE].extra = ["master_failover_state:no-failover"]
        scene.reset_connections(MASTER_PLACE)
        scene.actors[MASTER_PLACE].paused = True
        scene.wait(2_500)
        scene.core.failover(NAME, scene.now, coordinated=True)
        scene.wait(500)
        self.assertEqual(FailoverState.SEND_SLAVEOF_NOONE, scene.master.failover_state)
        self.assertFalse([effect for _, effect in scene.sent if isinstance(effect, HandOver)])
        scene.wait(9_600)
        self.assertIn("-failover-abort-master-timeout", scene.events())
        self.assertFalse([effect for _, effect in scene.sent if isinstance(effect, HandOver)])

    def test_a_failover_that_the_server_ended_is_not_waited_for(self) -> None:
        """It timed out there, or the replica refused: writes are held no longer than it takes to see that."""
        scene = self.handing_over()
        scene.wait(300)
        self.assertEqual(FailoverState.WAIT_PROMOTION, scene.master.failover_state)
        scene.actors[MASTER_PLACE].extra = ["master_failover_state:no-failover"]
        scene.wait(200)
        self.assertIn("-failover-abort-master-timeout", scene.events())
        self.assertFalse(scene.actors[MASTER_PLACE].paused)

    def test_a_pause_ends_without_us(self) -> None:
        """However long the hand-over may take, writes are not held for long once nobody is there to end that."""
        scene = self.handing_over()
        (order,) = [effect for _, effect in scene.sent if isinstance(effect, HandOver)]
        self.assertEqual((10_000, 3_000), (order.timeout, order.pause))

    def test_what_a_replica_told_of_itself_holds_when_it_is_master(self) -> None:
        """Right after a switch the new master is known to support FAILOVER, or not to."""
        scene = agreed()
        for place in (MASTER_PLACE, SECOND, THIRD):
            scene.actors[place].extra = ["master_failover_state:no-failover"]
            scene.reset_connections(place)
        scene.hello("b", SECOND, 7)
        self.assertIsNone(scene.master.info_refreshed_at)
        error = self.assertRaises(CommandError, scene.core.failover, NAME, scene.now, coordinated=True)
        self.assertEqual("NOGOODSLAVE No suitable replica to promote", str(error))

    def test_w19_offsets_are_fresh_when_they_are_compared(self) -> None:
        """INFO is asked for at S_DOWN, so what arrived since the last period decides."""
        scene = agreed()
        scene.actors[THIRD].offset = 900
        scene.kill(MASTER_PLACE)
        scene.wait(1_200)
        self.assertEqual(THIRD, scene.master.address)

    def test_w20_a_peer_that_does_not_see_it_yet_is_asked_again_soon(self) -> None:
        """Not a second later."""
        scene = agreed()
        for letter in "bz":
            scene.actors[scene.peer(letter).address].says_down = False
        scene.kill(MASTER_PLACE)
        scene.wait(1_010)
        scene.actors[scene.peer("b").address].says_down = True
        scene.wait(110)
        self.assertIn("+odown", scene.events())

    def test_w21_no_votes_are_spent_on_a_failover_that_cannot_be(self) -> None:
        """Without a fit replica nobody is asked, so no one's next attempt is put off; with one we begin at once."""
        scene = agreed()
        for place in (SECOND, THIRD):
            scene.actors[place].priority = 0
        scene.wait(11_000, 50)
        scene.kill(MASTER_PLACE)
        scene.wait(5_000)
        self.assertEqual([], self.requests(scene))
        self.assertIsNone(scene.master.attempt_started_at)
        scene.actors[THIRD].priority = 1
        scene.wait(1_100)
        self.assertEqual(THIRD, scene.master.address)

    def test_w21_waiting_for_a_fit_replica_is_not_spinning(self) -> None:
        """A master that is down for good, with nothing to promote, costs a few looks per second."""
        scene = Scene()
        scene.add_peer("b", says_down=True)
        scene.wait(3_000)
        scene.kill(MASTER_PLACE)
        self.assertLess(scene.idle(20_000), 20 * 30)

    def test_w22_an_error_is_an_answer(self) -> None:
        """A server that answers every command by NOAUTH is down, but its connection works and is left alone."""
        scene = agreed(down_after=1_500)
        scene.wait(16_000, 50)
        scene.actors[MASTER_PLACE].ping_text = b"NOAUTH Authentication required."
        scene.actors[MASTER_PLACE].refuses = True
        scene.sent.clear()
        scene.master.options.quorum = 9
        scene.wait(20_000, 50)
        self.assertIn("+sdown", scene.events())
        cut = [e for _, e in scene.sent if isinstance(e, Recycle) and e.kind is LinkKind.COMMANDS]
        self.assertEqual([], cut)

    def test_w22_info_without_a_role_reports_no_role(self) -> None:
        """It is neither a change of role nor a reason to hold the master down."""
        scene = agreed()
        scene.core.info_reply(scene.master.link, b"# Server\r\nredis_version:7.0.0\r\n", scene.now)
        scene.settle()
        self.assertNotIn("-role-change", scene.events())
        self.assertEqual("master", scene.master.role_reported.value)

    def test_w22_renamed_commands_are_those_of_the_servers(self) -> None:
        """A peer knows PING by no other name, whatever the master calls it."""
        scene = agreed()
        scene.core.set_option(
            NAME,
            "rename-command",
            ["PING", "GNIP"],
            scene.now,
            lambda options, _, values, __: options.renamed_commands.update({values[0]: values[1]}),
        )
        scene.settle()
        self.assertEqual({"PING": "GNIP"}, scene.master.link.renamed_commands)
        self.assertEqual({}, scene.peer("b").link.renamed_commands)
