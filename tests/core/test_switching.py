"""A master moves to another address."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, Scene
from txsentinel.core.effects import PublishHello
from txsentinel.core.instances import Master, Peer, Role
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)


class SwitchTests(SynchronousTestCase):
    """What is kept and what begins anew."""

    def setUp(self) -> None:
        """A master with two replicas and two peers, on the way to the first replica."""
        self.scene = Scene()
        self.scene.add_replica(2)
        self.scene.add_replica(3)
        self.scene.add_peer("b", says_down=True)
        self.scene.add_peer("z", says_down=True)
        self.scene.wait(3_000)
        self.scene.heard()

    def switch(self) -> Master:
        """By news."""
        self.scene.actors[SECOND].role = "master"
        self.scene.hello("b", SECOND, 4)
        return self.scene.master

    def test_replicas(self) -> None:
        """All others and the old master are its replicas, in that order."""
        self.assertEqual(["10.0.0.3:6379", "10.0.0.1:6379"], list(self.switch().replicas))

    def test_connections_are_kept(self) -> None:
        """Each server continues over the connection that there is."""
        before = {i.address: i.link for i in self.scene.core.registry.instances()}
        self.switch()
        self.assertEqual(before, {i.address: i.link for i in self.scene.core.registry.instances()})

    def test_dead_connections_are_not(self) -> None:
        """A link without its connection is replaced by one with fresh clocks, that connects at once."""
        link = self.scene.master.replicas["10.0.0.2:6379"].link
        self.scene.kill(SECOND)
        self.scene.wait(900)
        self.scene.actors[SECOND].up = True
        master = self.switch()
        self.assertIsNot(link, master.link)
        self.assertTrue(link.closed)
        self.assertTrue(master.link.commands_up)

    def test_nothing_is_held_against_the_new_one(self) -> None:
        """Neither S_DOWN, nor roles, nor attempts, nor opinions, nor a run ID."""
        self.scene.kill(MASTER_PLACE)
        self.scene.wait(1_010)
        master = self.switch()
        self.assertEqual((None, None, None), (master.sdown_since, master.odown_since, master.attempt_started_at))
        self.assertIs(Role.MASTER, master.role_reported)
        self.assertEqual([False, False], [peer.says_master_down for peer in master.peers.values()])
        self.assertIsNone(master.failover)

    def test_votes_are_kept(self) -> None:
        """The epoch of the last vote outlives any number of switches."""
        self.scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, 3, self.scene.peer("b").name, 0)
        self.assertEqual(3, self.switch().leader_epoch)

    def test_info_at_once(self) -> None:
        """Everybody is asked to describe himself in his new role in the sweep that follows, which is due now."""
        master = self.switch()
        self.assertEqual(self.scene.now, self.scene.core.next_due)
        self.scene.sweep()
        for server in (master, *master.replicas.values()):
            self.assertEqual(self.scene.now, server.info_refreshed_at, server.name)

    def test_late_answers_of_the_old_role(self) -> None:
        """What was asked before the switch and is answered after it is taken as said by the server it came from."""
        replica = self.scene.master.replicas["10.0.0.2:6379"]
        link = replica.link
        master = self.switch()
        stale = b"role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n"
        self.scene.core.info_reply(link, stale, self.scene.now)
        self.scene.core.publish_reply(link, replica, True, self.scene.now)
        self.scene.settle()
        self.assertEqual(SECOND, master.address)
        self.assertEqual(2, len(master.replicas))

    def test_back_again(self) -> None:
        """A switch and its reverse leave the same set of servers."""
        self.switch()
        self.scene.actors[MASTER_PLACE].role = "master"
        self.scene.hello("b", MASTER_PLACE, 5)
        self.assertEqual({"10.0.0.2:6379", "10.0.0.3:6379"}, set(self.scene.master.replicas))


class HelloForCPeersTests(SynchronousTestCase):
    """When a C Sentinel may be told of a new address."""

    def told(self, down_after: int, own: bool) -> int:
        """How long after the switch a peer hears of it, in milliseconds."""
        scene = Scene(down_after=down_after)
        scene.add_replica(2)
        scene.add_peer("b", says_down=True)
        scene.hello("b", MASTER_PLACE, 0, own=own)
        scene.wait(3_000)
        scene.kill(MASTER_PLACE)
        scene.wait(4_000)
        self.assertEqual(SECOND, scene.master.address)
        switched = scene.master.switched_at
        assert switched is not None
        told = [
            at
            for at, e in scene.sent
            if isinstance(e, PublishHello) and isinstance(e.instance, Peer) and b",10.0.0.2," in e.payload
        ]
        return min(told) - switched

    def test_our_kind(self) -> None:
        """At once, whatever the down-after."""
        self.assertEqual([0] * 5, [self.told(down_after, True) for down_after in (200, 400, 700, 1_000, 2_000)])

    def test_others(self) -> None:
        """At once where that is safe or nothing is, else late enough before its next attempt to connect."""
        figures = {down_after: self.told(down_after, False) for down_after in (200, 400, 700, 1_000, 1_200, 2_000)}
        self.assertEqual((0, 0, 0, 0), (figures[200], figures[700], figures[1_200], figures[2_000]))
        self.assertGreater(figures[400], 300)
        self.assertTrue(200 <= figures[1_000] <= 450, figures)
