"""
The invariants that C Sentinels violate, with the numbers of the known weaknesses; each holds here.

Three of them concern other layers as well, which have tests of their own: W7 (one write for many changes) in
``tests/config``, W8 (name resolution never blocks) in those of the executor, and W12 (sockets) in ``tests/links``. The
part of the core is tested here. W17, writes that an isolated master accepts, cannot be prevented by any Sentinel; it is
prevented as far as the old master is reachable.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.cluster import NAME, Cluster
from tests.core.fixture import MASTER, ME, Fixture, identity
from txsentinel.core.effects import (
    AbortHandOver,
    AskMasterDown,
    FinishHandOver,
    HandOver,
    PublishHello,
    Reconfigure,
    Reconnect,
    ResolveAddress,
)
from txsentinel.core.errors import CommandError
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.instances import Peer
from txsentinel.core.link import LinkKind
from txsentinel.core.options import FailureClasses, GuardOptions
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)


def stable_group(**options: int) -> Fixture:
    """A master with two replicas and two peers that see the same, stable for three seconds."""
    fixture = Fixture(options)
    fixture.add_replica(2, offset=200)
    fixture.add_replica(3)
    fixture.add_peer("b", reports_down=True)
    fixture.add_peer("z", reports_down=True)
    fixture.wait(3_000)
    fixture.output()
    fixture.sent.clear()
    return fixture


def mass_failure(masters: int) -> Fixture:
    """Many masters with the same two peers, all of which die at once."""
    fixture = stable_group()
    for number in range(masters):
        fixture.add_master(f"m{number}", number)
    fixture.wait(3_000, 50)
    fixture.sent.clear()
    for number in range(masters):
        fixture.kill(Address.literal(f"10.1.0.{number}", 6379))
    return fixture


class InvariantTests(SynchronousTestCase):
    """One invariant per weakness of C Sentinels."""

    def role_changes(self, fixture: Fixture) -> list[Reconfigure]:
        """Return the role changes that were ordered."""
        return [effect for _, effect in fixture.sent if isinstance(effect, Reconfigure)]

    def requests(self, fixture: Fixture) -> list[AskMasterDown]:
        """Return the vote requests."""
        return [e for _, e in fixture.sent if isinstance(e, AskMasterDown) and e.candidate != "*"]

    def test_w01_votes_of_other_epochs_never_count(self) -> None:
        """A majority in a newer epoch does not elect us in the epoch of our campaign."""
        fixture = stable_group()
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].reply = [1, ME.encode(), 5]
        fixture.kill(MASTER)
        fixture.wait(1_010)
        fixture.hello("b", MASTER, 0, 5)
        fixture.wait(60)
        self.assertEqual([], self.role_changes(fixture))
        self.assertNotEqual(1, fixture.master.config_epoch)

    def test_w01_requests_have_the_epoch_of_the_campaign(self) -> None:
        """A current epoch that rises during the election does not change the requests."""
        fixture = stable_group()
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].unresponsive = True
            fixture.peer(letter).reports_master_down = True
            fixture.peer(letter).opinion_at = fixture.now + 1_000
        fixture.kill(MASTER)
        fixture.wait(1_040)
        fixture.hello("b", MASTER, 0, 5)
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].unresponsive = False
            fixture.reset_connections(fixture.peer(letter).address)
        self.assertEqual({1}, {request.epoch for request in self.requests(fixture)})
        self.assertEqual((SECOND, 1), (fixture.master.address, fixture.master.config_epoch))

    def test_w01_masters_that_fail_together_share_one_epoch(self) -> None:
        """Fifty masters die at once: one epoch for all, and none waits for another."""
        fixture = mass_failure(50)
        fixture.wait(1_150)
        self.assertEqual({1}, {request.epoch for request in self.requests(fixture)})
        moved = [m.address.ip.startswith("10.2.") for m in fixture.core.registry.masters.values() if m.name != NAME]
        self.assertEqual([True] * 50, moved)
        self.assertEqual(1, fixture.core.current_epoch)

    def test_w01_masters_that_lose_an_epoch_together_share_the_next(self) -> None:
        """When others have their votes, fifty masters campaign again in few epochs, not in fifty."""
        fixture = mass_failure(50)
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].answer = (identity("q"), 1)
        fixture.wait(1_400)
        self.assertLess(fixture.core.current_epoch, 5)

    def test_w02_forced_failovers_never_share_an_epoch(self) -> None:
        """Without a majority, no two Sentinels of a group use the same epoch, whatever their positions."""
        taken: dict[int, str] = {}
        letters = "abcde"
        for me in letters:
            for current in range(7):
                fixture = Fixture(my_id=identity(me))
                fixture.add_replica(2)
                for letter in letters.replace(me, ""):
                    fixture.add_peer(letter, unresponsive=True)
                fixture.wait(1_500, 50)
                fixture.core.state.current_epoch = current
                fixture.core.administration.failover(NAME, fixture.now)
                fixture.wait(700, 20)
                self.assertEqual(me, taken.setdefault(fixture.master.config_epoch, me))

    def test_w03_a_switch_resets_the_down_clock(self) -> None:
        """At any down-after a dead master causes one switch; its silence does not count against the new master."""
        for down_after in (100, 200, 400):
            cluster = Cluster(5, down_after=down_after)
            cluster.run(5_000)
            cluster.kill(MASTER)
            cluster.run(8_000)
            self.assertEqual(1, cluster.checker.promotions)
            for one in cluster.nodes:
                self.assertEqual(1, sum(event.startswith("+switch-master") for event in one.events))

    def test_w03_opinions_of_the_old_address_do_not_survive_a_switch(self) -> None:
        """Neither replies that arrived before the switch nor those that arrive later."""
        fixture = stable_group()
        fixture.kill(MASTER)
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].unresponsive = True
        fixture.wait(1_010)
        fixture.hello("b", SECOND, 4)
        peer = fixture.peer("b")
        self.assertFalse(peer.reports_master_down)
        fixture.core.master_down_reply(peer.link, fixture.master, [1, b"*", 0], fixture.now)
        self.assertFalse(peer.reports_master_down)
        self.assertEqual(0, len(peer.asked))

    def test_w04_opinions_expire_while_the_master_is_up(self) -> None:
        """A peer's opinion of six seconds ago does not count for O_DOWN."""
        fixture = stable_group()
        for letter in "bz":
            fixture.peer(letter).reports_master_down = True
            fixture.peer(letter).opinion_at = fixture.now
            fixture.servers[fixture.peer(letter).address].unresponsive = True
        fixture.wait(6_000, 50)
        fixture.kill(MASTER)
        fixture.wait(3_000, 50)
        self.assertNotIn("+odown", fixture.events())

    def test_w05_a_smaller_group_is_on_disk_before_it_elects(self) -> None:
        """Removing peers makes majorities smaller; no leader is elected by that before it is durable."""
        fixture = stable_group(quorum=1)
        fixture.disk_slow = True
        fixture.core.administration.reset("*", fixture.now)
        fixture.finish()
        for number in (2, 3):
            fixture.core.registry.add_replica(fixture.master, Address.literal(f"10.0.0.{number}", 6379), fixture.now)
        fixture.wait(500)
        fixture.kill(MASTER)
        fixture.wait(1_500)
        self.assertIs(FailoverState.WAIT_START, fixture.master.failover_state)
        self.assertEqual([], self.role_changes(fixture))
        fixture.commit()
        fixture.finish()
        self.assertEqual(1, len([order for order in self.role_changes(fixture) if order.promotes]))

    def test_w06_unknown_and_second_candidates_get_no_vote(self) -> None:
        """An unknown candidate, or one right after another, is refused, and its epoch with it."""
        fixture = stable_group()
        vote = fixture.core.vote_requested(MASTER.ip, MASTER.port, 1, identity("q"), fixture.now)
        self.assertEqual(("*", 0), (vote.leader, vote.leader_epoch))
        fixture.core.vote_requested(MASTER.ip, MASTER.port, 2, identity("b"), fixture.now)
        vote = fixture.core.vote_requested(MASTER.ip, MASTER.port, 3, identity("z"), fixture.now)
        self.assertEqual((identity("b"), 2), (vote.leader, vote.leader_epoch))
        self.assertEqual(2, fixture.core.current_epoch)

    def test_w06_no_vote_against_a_master_that_was_just_switched_and_is_up(self) -> None:
        """
        A C Sentinel that considers the new master down is refused a vote for five seconds after the switch.

        A txsentinel is not: it is not affected by the switch, and its request may be for a coordinated failover.
        """
        fixture = stable_group()
        fixture.servers[SECOND].role = "master"
        fixture.hello("b", SECOND, 1)
        fixture.wait(500)
        fixture.hello("z", SECOND, 1, own=False)
        vote = fixture.core.vote_requested(SECOND.ip, SECOND.port, 2, identity("z"), fixture.now)
        self.assertEqual("*", vote.leader)
        fixture.wait(5_000, 50)
        vote = fixture.core.vote_requested(SECOND.ip, SECOND.port, 3, identity("z"), fixture.now)
        self.assertEqual(identity("z"), vote.leader)
        fixture.hello("b", MASTER, 4)
        fixture.wait(500)
        vote = fixture.core.vote_requested(MASTER.ip, MASTER.port, 5, identity("b"), fixture.now)
        self.assertEqual(identity("b"), vote.leader)

    def test_w07_one_commit_for_many_votes(self) -> None:
        """Fifty votes in a turn wait for the same write, and none is sent before."""
        fixture = stable_group()
        for number in range(50):
            fixture.add_master(f"m{number}", number)
        fixture.disk_slow = True
        votes = [fixture.core.vote_requested(f"10.1.0.{n}", 6379, 1, identity("b"), fixture.now) for n in range(50)]
        self.assertTrue(all(vote.generation > fixture.core.durable_generation for vote in votes))
        fixture.commit()
        self.assertTrue(all(vote.generation <= fixture.core.durable_generation for vote in votes))

    def test_w08_resolution_does_not_block(self) -> None:
        """A name that cannot be resolved blocks nothing: resolution is an effect."""
        fixture = stable_group()
        fixture.options.resolve_hostnames = True
        fixture.core.hello_received(
            f"peer.example,26379,{identity('q')},0,mymaster,10.0.0.1,6379,0".encode(), fixture.now
        )
        self.assertIn(ResolveAddress, [type(effect) for _, effect in fixture.core.outbox.pending])
        fixture.finish()
        fixture.kill(MASTER)
        fixture.wait(1_200)
        self.assertEqual(SECOND, fixture.master.address)

    def test_w09_an_invalid_address_uses_no_config_epoch(self) -> None:
        """A configuration with a name is adopted once the name is resolved."""
        fixture = stable_group()
        fixture.options.resolve_hostnames = True
        news = f"10.0.1.98,26379,{identity('b')},7,mymaster,redis.example,6379,7".encode()
        fixture.core.hello_received(news, fixture.now)
        fixture.finish()
        self.assertEqual((MASTER, 0), (fixture.master.address, fixture.master.config_epoch))
        self.assertNotIn("+switch-master", fixture.events())
        fixture.core.address_resolved(Address("redis.example", "", 6379), "10.0.0.3", fixture.now)
        fixture.core.hello_received(news, fixture.now)
        self.assertEqual(("10.0.0.3", 7), (fixture.master.address.ip, fixture.master.config_epoch))

    def test_w10_absurd_epochs_are_ignored(self) -> None:
        """Epochs that no sequence of failovers explains change nothing, from any source."""
        fixture = stable_group()
        for epoch in (-1, 2**64 - 1, 2**53 + 1, 2**20 + 1):
            fixture.core.vote_requested(MASTER.ip, MASTER.port, epoch, identity("b"), fixture.now)
            fixture.core.vote_requested(MASTER.ip, MASTER.port, epoch % 2**20, identity("q"), fixture.now)
        for epoch in (-1, 2**64 - 1, 2**53 + 1):
            fixture.hello("b", SECOND, 1, epoch % 2**64)
        self.assertEqual(
            (0, 0, 0), (fixture.core.current_epoch, fixture.master.leader_epoch, fixture.master.config_epoch)
        )

    def test_w11_no_peer_of_ourselves(self) -> None:
        """A hello with our own ID changes nothing, by subscription or direct."""
        fixture = stable_group()
        payload = f"10.0.9.9,26379,{ME},8,mymaster,10.0.0.3,6379,8".encode()
        fixture.core.hello_received(payload, fixture.now)
        fixture.core.hello_received(payload, fixture.now, fixture.master.link)
        self.assertEqual(3, fixture.master.voters)
        self.assertEqual(0, fixture.core.current_epoch)

    def test_w12_one_link_per_peer(self) -> None:
        """However many masters a peer shares with us, it has one connection."""
        fixture = stable_group()
        for number in range(50):
            fixture.add_master(f"m{number}", number)
        links = {i.link.link_id for i in fixture.core.registry.instances() if isinstance(i, Peer)}
        self.assertEqual(2, len(links))

    def test_w13_every_switch_in_its_own_turn(self) -> None:
        """Fifty failovers that end together are fifty switches at once, not one per sweep."""
        fixture = mass_failure(50)
        fixture.wait(1_400, 50)
        names = [line.split()[2] for line in fixture.output() if line.startswith("event +switch-master")]
        self.assertEqual(50, len(set(names)))

    def test_w14_no_info_period_between_promotion_and_its_discovery(self) -> None:
        """Between the order and the switch no time passes except message latency."""
        fixture = stable_group()
        for letter in "bz":
            fixture.hello(letter, MASTER, 0)
        fixture.kill(MASTER)
        fixture.wait(1_200, 1)
        promoted_at = next(at for at, e in fixture.sent if isinstance(e, Reconfigure) and e.promotes)
        hello_at = min(at for at, e in fixture.sent if isinstance(e, PublishHello) and b"10.0.0.2,6379,1" in e.payload)
        self.assertEqual(promoted_at, hello_at)

    def test_w15_a_silent_replica_holds_up_the_next_for_ten_seconds_only(self) -> None:
        """The same holds with parallel-syncs 1."""
        fixture = stable_group(failover_timeout=60_000)
        fixture.add_replica(4)
        fixture.servers[THIRD].obeys = False
        fixture.wait(2_000, 50)
        fixture.kill(MASTER)
        fixture.wait(11_500)
        self.assertIn("-slave-reconf-sent-timeout", fixture.events())
        self.assertEqual(SECOND, fixture.servers[Address.literal("10.0.0.4", 6379)].follows)

    def test_w15_the_last_order_is_delivered(self) -> None:
        """An order in the turn that ends the failover is sent over a link that stays open."""
        fixture = stable_group(failover_timeout=5_000)
        fixture.add_replica(4)
        fixture.servers[THIRD].obeys = False
        fixture.wait(2_000, 50)
        fixture.kill(MASTER)
        fixture.wait(7_000)
        self.assertIn("+slave-reconf-sent-be", fixture.events())
        self.assertEqual(SECOND, fixture.servers[Address.literal("10.0.0.4", 6379)].follows)

    def test_w15_a_promoted_replica_that_dies_does_not_hold_up_its_own_failover(self) -> None:
        """The old failover ends, and the new one begins."""
        fixture = stable_group(failover_timeout=60_000)
        fixture.servers[THIRD].obeys = False
        fixture.kill(MASTER)
        fixture.wait(1_200)
        self.assertIs(FailoverState.RECONF_REPLICAS, fixture.master.failover_state)
        fixture.servers[THIRD].obeys = True
        fixture.kill(SECOND)
        fixture.wait(4_000)
        self.assertEqual((THIRD, 2), (fixture.master.address, fixture.master.config_epoch))

    def test_w16_paused_writes_do_not_cause_s_down(self) -> None:
        """A blocked PUBLISH and all commands after it make no server S_DOWN, as the subscription answers."""
        for down_after in (500, 1_000, 1_500, 5_000):
            fixture = stable_group(down_after=down_after)
            fixture.wait(16_000, 50)
            fixture.servers[MASTER].paused = True
            fixture.wait(30_000, 50)
            self.assertNotIn("+sdown", fixture.events(), f"down-after {down_after}")
            self.assertIsNone(fixture.master.sdown_since)

    def test_w17_a_reachable_old_master_is_demoted_at_once(self) -> None:
        """A healthy old master is ordered to follow as soon as the new one is durable, not ten seconds later."""
        fixture = stable_group()
        fixture.core.administration.failover(NAME, fixture.now)
        fixture.finish()
        self.assertEqual((SECOND, "slave"), (fixture.servers[MASTER].follows, fixture.servers[MASTER].role))

    def test_w17_an_old_master_is_not_demoted_before_the_new_one_is_durable(self) -> None:
        """Otherwise a crash would leave the group without a master."""
        fixture = stable_group()
        fixture.core.administration.failover(NAME, fixture.now)
        fixture.disk_slow = True
        fixture.commit()
        fixture.finish()
        self.assertEqual(1, fixture.master.config_epoch)
        self.assertEqual("master", fixture.servers[MASTER].role)
        fixture.commit()
        fixture.finish()
        self.assertEqual("slave", fixture.servers[MASTER].role)

    def test_unpause_is_not_blocked_by_a_hello(self) -> None:
        """No hello is sent before CLIENT UNPAUSE, as the server would block PUBLISH and all commands after it."""
        fixture = stable_group()
        fixture.servers[MASTER].extra = ["master_failover_state:no-failover"]
        fixture.reset_connections(MASTER)
        fixture.core.administration.failover(NAME, fixture.now, coordinated=True)
        fixture.wait(100)
        self.assertEqual("slave", fixture.servers[MASTER].role)
        self.assertFalse(fixture.servers[MASTER].paused)

    def coordinated_failover(self) -> Fixture:
        """A hand-over that was ordered, at servers that are slow."""
        fixture = stable_group()
        fixture.servers[MASTER].extra = ["master_failover_state:no-failover"]
        fixture.servers[MASTER].obeys = False
        fixture.reset_connections(MASTER)
        fixture.core.administration.failover(NAME, fixture.now, coordinated=True)
        fixture.finish()
        self.assertIn("order 10.0.0.1 FAILOVER TO 10.0.0.2 6379 within 10000", fixture.output())
        return fixture

    def test_w18_the_old_master_may_be_removed(self) -> None:
        """Between the order and its end the old master may be removed; then no order is sent to it."""
        fixture = self.coordinated_failover()
        fixture.servers[SECOND].role = "master"
        fixture.kill(MASTER)
        fixture.wait(200)
        self.assertEqual(SECOND, fixture.master.address)
        self.assertEqual(["order 10.0.0.2 CLIENT UNPAUSE"], [o for o in fixture.output() if "UNPAUSE" in o])

    def test_w18_writes_are_not_held_for_a_failover_that_is_void(self) -> None:
        """After a newer configuration, RESET, REMOVE or a timeout, a server with paused writes is unpaused."""
        ends = {
            "news": lambda fixture: fixture.hello("b", THIRD, 7),
            "reset": lambda fixture: fixture.core.administration.reset("*", fixture.now),
            "remove": lambda fixture: fixture.core.administration.remove(NAME, fixture.now),
            "time": lambda fixture: fixture.wait(11_000, 50),
        }
        for name, end in ends.items():
            fixture = self.coordinated_failover()
            end(fixture)
            fixture.finish()
            ordered = [type(e) for _, e in fixture.sent if isinstance(e, HandOver | AbortHandOver)]
            self.assertEqual([HandOver, AbortHandOver], ordered, name)

    def test_the_end_of_a_hand_over_is_not_lost_with_a_connection(self) -> None:
        """A server that could not be unpaused is, once, when it is connected again, before any hello."""
        fixture = self.coordinated_failover()
        fixture.kill(MASTER)
        fixture.servers[SECOND].role = "master"
        fixture.servers[MASTER].role, fixture.servers[MASTER].follows = "slave", SECOND
        fixture.servers[MASTER].extra = ["master_failover_state:no-failover"]
        fixture.wait(200)
        fixture.sent.clear()
        fixture.revive(MASTER)
        fixture.wait(2_500)
        sent = [e for _, e in fixture.sent if isinstance(e, FinishHandOver | PublishHello)]
        order = [type(effect) for effect in sent if effect.link.address == MASTER]
        self.assertEqual([FinishHandOver, PublishHello], order[:2])
        fixture.reset_connections(MASTER)
        self.assertEqual(1, sum(isinstance(effect, FinishHandOver) for _, effect in fixture.sent))

    def test_no_hand_over_is_ordered_behind_a_blocked_hello(self) -> None:
        """While another client pauses writes, no hand-over is ordered, as it would be executed too late."""
        fixture = stable_group()
        fixture.servers[MASTER].extra = ["master_failover_state:no-failover"]
        fixture.reset_connections(MASTER)
        fixture.servers[MASTER].paused = True
        fixture.wait(2_500)
        fixture.core.administration.failover(NAME, fixture.now, coordinated=True)
        fixture.wait(500)
        self.assertEqual(FailoverState.SEND_SLAVEOF_NOONE, fixture.master.failover_state)
        self.assertFalse([effect for _, effect in fixture.sent if isinstance(effect, HandOver)])
        fixture.wait(9_600)
        self.assertIn("-failover-abort-master-timeout", fixture.events())
        self.assertFalse([effect for _, effect in fixture.sent if isinstance(effect, HandOver)])

    def test_a_failover_that_the_server_ended(self) -> None:
        """If it times out at the server or the replica refuses, writes are unpaused as soon as INFO shows that."""
        fixture = self.coordinated_failover()
        fixture.wait(300)
        self.assertEqual(FailoverState.WAIT_PROMOTION, fixture.master.failover_state)
        fixture.servers[MASTER].extra = ["master_failover_state:no-failover"]
        fixture.wait(200)
        self.assertIn("-failover-abort-master-timeout", fixture.events())
        self.assertFalse(fixture.servers[MASTER].paused)

    def test_a_pause_has_a_timeout(self) -> None:
        """However long the hand-over may take, the pause without a Sentinel is short."""
        fixture = self.coordinated_failover()
        (order,) = [effect for _, effect in fixture.sent if isinstance(effect, HandOver)]
        self.assertEqual((10_000, 3_000), (order.timeout, order.pause))

    def test_capabilities_of_a_promoted_replica_are_known(self) -> None:
        """Right after a switch it is known whether the new master supports FAILOVER."""
        fixture = stable_group()
        for place in (MASTER, SECOND, THIRD):
            fixture.servers[place].extra = ["master_failover_state:no-failover"]
            fixture.reset_connections(place)
        fixture.hello("b", SECOND, 7)
        self.assertIsNone(fixture.master.info_refreshed_at)
        error = self.assertRaises(
            CommandError, fixture.core.administration.failover, NAME, fixture.now, coordinated=True
        )
        self.assertEqual("NOGOODSLAVE No suitable replica to promote", str(error))

    def test_w19_offsets_are_fresh_when_they_are_compared(self) -> None:
        """INFO is requested at S_DOWN, so recent offsets decide."""
        fixture = stable_group()
        fixture.servers[THIRD].offset = 900
        fixture.kill(MASTER)
        fixture.wait(1_200)
        self.assertEqual(THIRD, fixture.master.address)

    def test_w20_a_peer_without_opinion_is_queried_again_soon(self) -> None:
        """It is repeated at once, not a second later."""
        fixture = stable_group()
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].reports_down = False
        fixture.kill(MASTER)
        fixture.wait(1_010)
        fixture.servers[fixture.peer("b").address].reports_down = True
        fixture.wait(110)
        self.assertIn("+odown", fixture.events())

    def test_w21_no_votes_are_spent_on_a_failover_that_cannot_be(self) -> None:
        """Without a fit replica no votes are requested and no attempt is delayed; with one it begins at once."""
        fixture = stable_group()
        for place in (SECOND, THIRD):
            fixture.servers[place].priority = 0
        fixture.wait(11_000, 50)
        fixture.kill(MASTER)
        fixture.wait(5_000)
        self.assertEqual([], self.requests(fixture))
        self.assertIsNone(fixture.master.attempt_started_at)
        fixture.servers[THIRD].priority = 1
        fixture.wait(1_100)
        self.assertEqual(THIRD, fixture.master.address)

    def test_w21_waiting_for_a_fit_replica_is_not_spinning(self) -> None:
        """A master that stays down without a fit replica causes a few evaluations per second."""
        fixture = Fixture()
        fixture.add_peer("b", reports_down=True)
        fixture.wait(3_000)
        fixture.kill(MASTER)
        self.assertLess(fixture.idle(20_000), 20 * 30)

    def test_w22_an_error_is_a_reply(self) -> None:
        """With ``failure-classes as-c``, a server that only answers NOAUTH is S_DOWN, but its connection is kept."""
        fixture = stable_group(down_after=1_500)
        fixture.master.options.guards = GuardOptions(failure_classes=FailureClasses.AS_C)
        fixture.wait(16_000, 50)
        fixture.servers[MASTER].ping_text = b"NOAUTH Authentication required."
        fixture.servers[MASTER].refuses = True
        fixture.sent.clear()
        fixture.master.options.quorum = 9
        fixture.wait(20_000, 50)
        self.assertIn("+sdown", fixture.events())
        cut = [e for _, e in fixture.sent if isinstance(e, Reconnect) and e.kind is LinkKind.COMMANDS]
        self.assertEqual([], cut)

    def test_w22_info_without_a_role_reports_no_role(self) -> None:
        """It is neither a change of role nor a reason for S_DOWN."""
        fixture = stable_group()
        fixture.core.info_reply(fixture.master.link, b"# Server\r\nredis_version:7.0.0\r\n", fixture.now)
        fixture.finish()
        self.assertNotIn("-role-change", fixture.events())
        self.assertEqual("master", fixture.master.role_reported.value)

    def test_w22_renamed_commands_are_those_of_the_servers(self) -> None:
        """PING is not renamed for peers, whatever the master's rename-command is."""
        fixture = stable_group()
        fixture.core.administration.set_options(
            NAME,
            [("rename-command", ["PING", "GNIP"])],
            fixture.now,
            lambda options, _, values, __: options.renamed_commands.update({values[0]: values[1]}),
        )
        fixture.finish()
        self.assertEqual({"PING": "GNIP"}, fixture.master.link.renamed_commands)
        self.assertEqual({}, fixture.peer("b").link.renamed_commands)
