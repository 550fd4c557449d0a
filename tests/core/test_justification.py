"""A failover whose reason is gone is given up before anybody is promoted, in whichever state it stands."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, Scene, identity
from txsentinel.core.effects import Reconfigure
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import FailoverState, Replica, Role
from txsentinel.core.justification import MAX_RETURN_DELAY
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)
BACK = "-failover-abort-master-is-back"
HANDS_OVER = ["master_failover_state:no-failover"]


class JustificationCase(SynchronousTestCase):
    """A master with two replicas under three Sentinels."""

    def scene(self, **options: int) -> Scene:
        """Everything is well."""
        scene = Scene(**options)
        scene.add_replica(2, offset=200)
        scene.add_replica(3)
        scene.add_peer("b", says_down=True)
        scene.add_peer("z", says_down=True)
        scene.wait(3_000)
        scene.heard()
        return scene

    def election(self, **options: int) -> Scene:
        """An election that nobody has decided yet."""
        scene = self.scene(**options)
        self.vote(scene, False)
        scene.kill(MASTER_PLACE)
        scene.wait(1_150)
        self.assertIs(scene.master.failover_state, FailoverState.WAIT_START)
        return scene

    def vote(self, scene: Scene, grants: bool) -> None:
        """Whether the peers vote for whoever asks."""
        for letter in "bz":
            actor = scene.actors[scene.peer(letter).address]
            actor.grants, actor.answer = grants, None if grants else (identity("q"), 1)

    def silence(self, scene: Scene, *addresses: Address) -> None:
        """These servers stand still, their connections open."""
        for address in addresses:
            scene.actors[address].silent = True

    def orders(self, scene: Scene) -> list[str]:
        """What servers were ordered since the last call."""
        return [line for line in scene.heard() if line.startswith("order")]


class ReasonTests(JustificationCase):
    """What must still hold."""

    def test_back_during_the_election(self) -> None:
        """A master that answers again ends the election, and the attempt does not count."""
        scene = self.election()
        scene.revive(MASTER_PLACE)
        events = scene.events()
        self.assertIn(BACK, events)
        self.assertLess(events.index("-odown"), events.index(BACK))
        self.assertIsNone(scene.master.attempt_started_at)
        self.vote(scene, True)
        scene.kill(MASTER_PLACE)
        scene.wait(1_500)
        self.assertIn("+switch-master", scene.events())

    def test_an_earlier_attempt_counts_again(self) -> None:
        """The distance is kept from the last attempt that was none in vain."""
        scene = self.scene()
        scene.master.attempt_started_at = before = scene.now - 30_000
        self.vote(scene, False)
        scene.kill(MASTER_PLACE)
        scene.wait(1_150)
        self.assertIn("+try-failover", scene.events())
        scene.revive(MASTER_PLACE)
        self.assertEqual(scene.master.attempt_started_at, before)

    def test_back_before_a_replica_was_selected(self) -> None:
        """Whoever waits for a replica looks at the master, too."""
        scene = self.election()
        for address in (SECOND, THIRD):
            scene.kill(address)
        self.vote(scene, True)
        while scene.master.failover_state is FailoverState.WAIT_START:
            scene.wait(10)
        self.assertIs(scene.master.failover_state, FailoverState.SELECT_REPLICA)
        scene.revive(MASTER_PLACE)
        self.assertIn(BACK, scene.events())
        scene.revive(SECOND)
        scene.wait(12_000)
        self.assertNotIn("+promoted-slave", scene.events())

    def test_agreement_is_lost(self) -> None:
        """If too few Sentinels still hold it down there is nothing to elect a leader for."""
        scene = self.election()
        for letter in "bz":
            scene.actors[scene.peer(letter).address].says_down = False
        scene.wait(1_500)
        self.assertIn(BACK, scene.events())
        self.assertIsNotNone(scene.master.sdown_since)

    def test_storage_fails_after_the_election(self) -> None:
        """What cannot be kept is not begun."""
        scene = self.election()
        for address in (SECOND, THIRD):
            scene.kill(address)
        self.vote(scene, True)
        while scene.master.failover_state is FailoverState.WAIT_START:
            scene.wait(10)
        scene.heard()
        scene.disk_works = False
        scene.core.flush()
        scene.settle()
        self.assertIsNone(scene.master.failover)
        scene.disk_works = True
        scene.core.flush()
        scene.settle()
        self.assertIn("-failover-abort-not-elected", scene.events())

    def test_after_tilt(self) -> None:
        """A failover that TILT interrupted is not carried on with a master that came back meanwhile."""
        scene = self.election()
        scene.now += 5_000
        scene.sweep()
        self.assertTrue(scene.core.tilt.active)
        scene.revive(MASTER_PLACE)
        self.vote(scene, True)
        scene.wait(31_000)
        self.assertEqual(self.orders(scene), [])
        self.assertIsNone(scene.master.failover)

    def test_forced(self) -> None:
        """An operator's order needs no other reason."""
        scene = self.scene()
        scene.core.failover("mymaster", scene.now)
        scene.settle()
        scene.wait(1_000)
        self.assertIn("+switch-master", scene.events())

    def test_a_lost_order_is_not_repeated(self) -> None:
        """The order to promote was lost with its connection; before it is repeated the master is back."""
        scene = self.scene()
        scene.actors[SECOND].obeys = False
        scene.kill(MASTER_PLACE)
        scene.wait(1_150)
        self.assertIs(scene.master.failover_state, FailoverState.WAIT_PROMOTION)
        scene.wait(10)
        scene.kill(SECOND)
        scene.revive(MASTER_PLACE)
        scene.wait(10)
        self.assertIs(scene.master.failover_state, FailoverState.WAIT_PROMOTION, "it may have been carried out")
        scene.heard()
        scene.revive(SECOND)
        scene.wait(10)
        heard = scene.heard()
        self.assertEqual([line for line in heard if line.startswith("order")], [])
        self.assertTrue(any(BACK in line for line in heard))

    def test_a_coordinated_failover_needs_its_master(self) -> None:
        """It is given up when the master goes down, and the ordinary failover follows at once."""
        scene = self.scene()
        scene.actors[MASTER_PLACE].extra = HANDS_OVER
        scene.wait(11_000)
        self.vote(scene, False)
        scene.core.failover("mymaster", scene.now, coordinated=True)
        scene.settle()
        scene.kill(MASTER_PLACE)
        self.vote(scene, True)
        for letter in "bz":
            scene.actors[scene.peer(letter).address].answer = (identity("q"), 9)
        scene.wait(1_010)
        self.assertIn("-failover-abort-master-timeout", scene.events())
        for letter in "bz":
            scene.actors[scene.peer(letter).address].answer = None
        scene.wait(1_000)
        self.assertIn("+switch-master", scene.events())


class ReturnTests(JustificationCase):
    """A master that was lost together with all its replicas."""

    def lost_together(self, scene: Scene, milliseconds: int = 4_000) -> None:
        """The whole group stands still."""
        self.silence(scene, MASTER_PLACE, SECOND, THIRD)
        scene.wait(milliseconds)
        self.assertIsNotNone(scene.master.odown_since)
        scene.heard()

    def test_waited_for(self) -> None:
        """Its replicas are back before it by anything up to a second, and nothing happens."""
        for delay in (0, 10, 50, 200, 500, 1_000):
            scene = self.scene(down_after=2_000)
            self.lost_together(scene)
            scene.revive(SECOND)
            scene.wait(delay)
            scene.revive(MASTER_PLACE)
            scene.revive(THIRD)
            scene.wait(5_000)
            self.assertNotIn("+try-failover", scene.events(), f"{delay} ms")

    def test_waited_for_in_vain(self) -> None:
        """It stays away: the failover begins when the delay is over, and no later."""
        for down_after, expected in ((300, 1_500), (2_000, 2_000), (10_000, MAX_RETURN_DELAY)):
            scene = self.scene(down_after=down_after)
            self.lost_together(scene, 2 * down_after + 2_000)
            scene.revive(SECOND)
            scene.wait(expected - 10)
            self.assertNotIn("+try-failover", scene.events())
            scene.wait(120)
            self.assertIn("+try-failover", scene.events())

    def test_said_once(self) -> None:
        """The log tells what is waited for."""
        scene = self.scene(down_after=2_000)
        self.lost_together(scene)
        scene.revive(SECOND)
        scene.wait(1_000)
        notes = [line for line in scene.heard() if line.startswith("note mymaster was lost together")]
        self.assertEqual(len(notes), 1)
        self.assertIn("2000 ms", notes[0])

    def test_a_replica_that_was_there_all_the_time(self) -> None:
        """The master alone is lost: nothing is waited for."""
        scene = self.scene(down_after=2_000)
        self.silence(scene, MASTER_PLACE, SECOND)
        scene.wait(3_300)
        self.assertIn("+switch-master", scene.events())

    def test_a_replica_that_was_gone_before(self) -> None:
        """Whoever was lost long before the master says nothing about why that is lost."""
        scene = self.scene(down_after=1_000)
        for address in (SECOND, THIRD):
            scene.kill(address)
        scene.wait(20_000)
        scene.kill(MASTER_PLACE)
        scene.wait(1_500)
        scene.heard()
        scene.revive(SECOND)
        scene.wait(300)
        self.assertIn("+switch-master", scene.events())

    def test_silent_replicas_are_not_promoted(self) -> None:
        """The master is found down first, its replicas stand still as well and only are not found out yet."""
        scene = self.scene(down_after=2_000)
        self.silence(scene, MASTER_PLACE, SECOND, THIRD)
        for address in (SECOND, THIRD):
            link = next(r.link for r in scene.master.replicas.values() if r.address == address)
            link.available(scene.now + 900)
            link.last_reply_at = scene.now + 900
        while scene.master.odown_since is None:
            scene.wait(10)
        self.assertFalse(any(replica.is_down for replica in scene.master.replicas.values()))
        scene.wait(700)
        self.assertNotIn("+try-failover", scene.events())


class RefusalTests(JustificationCase):
    """A replica that refuses to be promoted."""

    def refuse(self, scene: Scene) -> None:
        """The server of the replica that was selected answers that it must not."""
        failover = scene.master.failover
        assert failover is not None and failover.promoted is not None
        link = failover.promoted.link
        scene.core.promotion_refused(link, "SLAVEOF NO ONE", "NOPERM this user has no permissions", scene.now)
        scene.settle()

    def test_another_is_tried_at_once(self) -> None:
        """In the same epoch, as nobody was promoted in it."""
        scene = self.scene()
        scene.actors[SECOND].obeys = False
        scene.kill(MASTER_PLACE)
        scene.wait(1_150)
        failover = scene.master.failover
        assert failover is not None
        epoch = failover.epoch
        scene.heard()
        scene.actors[SECOND].obeys = True
        self.refuse(scene)
        scene.wait(500)
        heard = scene.heard()
        self.assertIn("order 10.0.0.3 SLAVEOF NO ONE", heard)
        self.assertTrue(any("+switch-master" in line for line in heard))
        self.assertEqual((scene.master.address, scene.master.config_epoch), (THIRD, epoch))

    def test_none_is_left(self) -> None:
        """The attempt ends at once, and the same replica is not selected again before it is connected to anew."""
        scene = self.scene()
        scene.actors[SECOND].obeys = scene.actors[THIRD].obeys = False
        scene.kill(MASTER_PLACE)
        scene.wait(1_150)
        self.refuse(scene)
        scene.heard()
        self.refuse(scene)
        self.assertIn("-failover-abort-no-good-slave", scene.events())
        self.assertIsNone(scene.master.failover)
        with self.assertRaises(CommandError) as refused:
            scene.core.failover("mymaster", scene.now)
        self.assertIn("NOGOODSLAVE", str(refused.exception))
        self.assertIn("NOPERM", str(scene.master.last_refusals))
        scene.actors[SECOND].obeys = scene.actors[THIRD].obeys = True
        scene.reset_connections(SECOND)
        scene.core.failover("mymaster", scene.now)
        scene.settle()
        scene.wait(1_000)
        self.assertIn("+switch-master", scene.events())


class OrderTests(JustificationCase):
    """What waited for the disk is carried out only if it is still right."""

    def test_promotions(self) -> None:
        """A server is made a master only while its promotion is awaited."""
        scene = self.scene()
        replica = scene.replica(2)
        order = Reconfigure(replica.link, None)
        self.assertTrue(scene.core.is_outdated(order))
        scene.actors[SECOND].obeys = False
        scene.kill(MASTER_PLACE)
        scene.wait(1_150)
        self.assertFalse(scene.core.is_outdated(order))
        self.assertTrue(scene.core.is_outdated(Reconfigure(scene.replica(3).link, None)))
        scene.wait(10_100)
        self.assertIsNone(scene.master.failover)
        self.assertTrue(scene.core.is_outdated(order))

    def test_repairs(self) -> None:
        """A replica is not led back to the old master by an old order while it is promoted."""
        scene = self.scene()
        order = Reconfigure(scene.replica(2).link, MASTER_PLACE.ip, MASTER_PLACE.port)
        self.assertFalse(scene.core.is_outdated(order))
        scene.actors[SECOND].obeys = False
        scene.kill(MASTER_PLACE)
        scene.wait(1_150)
        self.assertTrue(scene.core.is_outdated(order))
        self.assertFalse(scene.core.is_outdated(Reconfigure(scene.replica(3).link, MASTER_PLACE.ip, 6379)))

    def test_opinions(self) -> None:
        """Only what is down now is called down."""
        scene = self.scene()
        self.assertFalse(scene.core.holds_down(MASTER_PLACE.ip, MASTER_PLACE.port))
        scene.kill(MASTER_PLACE)
        scene.wait(1_010)
        self.assertTrue(scene.core.holds_down(MASTER_PLACE.ip, MASTER_PLACE.port))
        scene.revive(MASTER_PLACE)
        self.assertFalse(scene.core.holds_down(MASTER_PLACE.ip, MASTER_PLACE.port))


class EventTests(JustificationCase):
    """What operators are told."""

    def test_no_fit_replica(self) -> None:
        """Published once per attempt by the Sentinel that would be the first to campaign, as C does."""
        scene = self.scene(failover_timeout=3_000)
        for address in (SECOND, THIRD):
            scene.kill(address)
        scene.wait(2_000)
        scene.heard()
        scene.kill(MASTER_PLACE)
        scene.wait(4_000)
        self.assertNotIn("-failover-abort-no-good-slave", scene.events(), "the peer b comes first")
        scene.kill(scene.peer("b").address)
        scene.wait(500)
        self.assertEqual(scene.events().count("-failover-abort-no-good-slave"), 1)
        scene.wait(5_000)
        self.assertEqual(scene.events().count("-failover-abort-no-good-slave"), 0)
        scene.wait(1_500)
        self.assertEqual(scene.events().count("-failover-abort-no-good-slave"), 1)

    def test_orders_in_tilt(self) -> None:
        """``SENTINEL FAILOVER`` is refused with the time that is left."""
        scene = self.scene()
        scene.now += 5_000
        scene.sweep()
        scene.wait(10_000)
        with self.assertRaises(CommandError) as refused:
            scene.core.failover("mymaster", scene.now)
        self.assertEqual(str(refused.exception), "TILT Nothing is decided here for another 20000 ms")

    def test_the_failover_of_another(self) -> None:
        """What it does shows in INFO before its hello comes; that is announced if no hello comes."""
        for hello in (True, False):
            scene = self.scene()
            peer = scene.peer("b")
            scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, 1, peer.name, scene.now)
            scene.settle()
            scene.heard()
            scene.actors[SECOND].role, scene.actors[SECOND].follows = "master", None
            scene.reset_connections(SECOND)
            self.assertEqual(scene.events(), [])
            if hello:
                scene.hello("b", SECOND, 1)
                scene.wait(2_000)
                self.assertEqual([event for event in scene.events() if "role-change" in event], ["-role-change"])
                self.assertEqual(scene.master.address, SECOND)
            else:
                scene.wait(1_100)
                self.assertEqual(scene.events(), ["-role-change"])

    def test_the_old_master_of_a_forced_failover(self) -> None:
        """It follows the new one as it was told to, which is no news."""
        scene = self.scene()
        scene.actors[THIRD].obeys = False
        scene.core.failover("mymaster", scene.now)
        scene.settle()
        scene.wait(1_000)
        self.assertIs(scene.master.failover_state, FailoverState.RECONF_REPLICAS)
        self.assertIs(scene.master.role_reported, Role.REPLICA)
        events = [line for line in scene.heard() if "role-change" in line]
        self.assertEqual([line for line in events if "role-change master" in line], [])
        self.assertIsInstance(scene.replica(3), Replica)
