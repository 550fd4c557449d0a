"""Who is down, which links are recycled, and when we do not trust ourselves."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, Scene
from txsentinel.core.availability import ProcessorTime, TiltCause, TiltGuard
from txsentinel.core.effects import Recycle, RequestRole
from txsentinel.core.instances import Role
from txsentinel.core.link import LinkKind
from txsentinel.model.address import Address
from txsentinel.model.timings import Timings


class SubjectivelyDownTests(SynchronousTestCase):
    """S_DOWN is our own opinion."""

    def setUp(self) -> None:
        """A master with a replica and a peer."""
        self.scene = Scene()
        self.scene.add_replica(2)
        self.scene.add_peer("b")
        self.scene.wait(2_000)
        self.scene.heard()

    def test_exactly_after_down_after(self) -> None:
        """Down when more than down-after has passed since the loss, not when just that has."""
        self.scene.kill(MASTER_PLACE)
        self.scene.wait(1_000, 1)
        self.assertEqual([], self.scene.events())
        self.scene.wait(1, 1)
        self.assertEqual(["+sdown"], self.scene.events())

    def test_everybody(self) -> None:
        """Replicas and peers go down and come back like masters, by the down-after of theirs."""
        for place in (self.scene.replica(2).address, self.scene.peer("b").address):
            self.scene.kill(place)
            self.scene.wait(1_100)
            self.assertEqual(["+sdown"], self.scene.events())
            self.scene.revive(place)
            self.assertEqual(["-sdown"], self.scene.events())

    def test_never_reached(self) -> None:
        """Whoever was never reached is down after the same time."""
        self.scene.actors[MASTER_PLACE].up = False
        master = self.scene.add_master("other", 7)
        self.scene.kill(master.address)
        self.scene.heard()
        self.scene.wait(1_100)
        self.assertIn("+sdown", self.scene.events())

    def test_a_return_is_noticed_at_once(self) -> None:
        """The first PONG ends S_DOWN in its own turn, without waiting for a sweep."""
        self.scene.kill(MASTER_PLACE)
        self.scene.wait(1_100)
        self.scene.heard()
        self.scene.revive(MASTER_PLACE)
        self.assertEqual("-sdown", self.scene.events()[0])

    def test_wrong_role(self) -> None:
        """A master that calls itself a replica is down after down-after and two INFO periods."""
        actor = self.scene.actors[MASTER_PLACE]
        actor.role, actor.follows = "slave", Address.literal("10.0.0.77", 6379)
        self.scene.core.info_reply(self.scene.master.link, actor.info(), self.scene.now)
        self.scene.wait(21_000, 100)
        self.assertNotIn("+sdown", self.scene.events())
        self.scene.wait(200, 10)
        self.assertIn("+sdown", self.scene.events())
        self.assertIs(Role.REPLICA, self.scene.master.role_reported)

    def test_demoted_by_us(self) -> None:
        """An old master that follows the new one on our word is not down for that, however long the others take."""
        scene = Scene(failover_timeout=60_000)
        scene.core.timings.replica_reconf_timeout = 60_000
        scene.add_replica(2, offset=200)
        scene.add_replica(3, obeys=False)
        scene.wait(2_000)
        scene.core.failover("mymaster", scene.now)
        scene.settle()
        scene.heard()
        scene.wait(40_000, 50)
        self.assertEqual([], scene.events())

    def test_reboot_option_taken_back(self) -> None:
        """Without the option a reboot in progress is no reason, neither to be down nor to look all the time."""
        self.scene.master.options.reboot_down_after = 3_000
        actor = self.scene.actors[MASTER_PLACE]
        actor.run_id, actor.ping_text = "c" * 40, b"LOADING"
        self.scene.reset_connections(MASTER_PLACE)
        self.assertIsNotNone(self.scene.master.rebooting_since)
        self.scene.master.options.reboot_down_after = 0
        self.assertLess(self.scene.idle(5_000), 150)
        self.assertNotIn("+sdown", self.scene.events())


class ObjectivelyDownTests(SynchronousTestCase):
    """O_DOWN is agreement."""

    def test_quorum(self) -> None:
        """As many must agree as the quorum says, and the event says how many did."""
        for quorum, expected in ((1, True), (2, True), (3, False)):
            scene = Scene(quorum=quorum)
            scene.add_peer("b", says_down=True)
            scene.add_peer("c")
            scene.wait(2_000)
            scene.kill(MASTER_PLACE)
            scene.wait(1_200)
            self.assertEqual(expected, scene.master.odown_since is not None)

    def test_ends_with_our_own_opinion(self) -> None:
        """Whatever the others say, a master that we see is not down."""
        scene = Scene()
        scene.add_peer("b", says_down=True)
        scene.wait(2_000)
        scene.kill(MASTER_PLACE)
        scene.wait(1_200)
        scene.heard()
        scene.revive(MASTER_PLACE)
        self.assertEqual(["-sdown", "-odown"], scene.events()[:2])

    def test_opinions_are_for_five_seconds(self) -> None:
        """A peer that falls silent agrees with nobody for longer than five ask periods."""
        scene = Scene()
        scene.add_peer("b", says_down=True)
        scene.wait(2_000)
        scene.kill(MASTER_PLACE)
        scene.wait(1_200)
        scene.actors[scene.peer("b").address].mute = True
        scene.wait(4_000, 50)
        self.assertIsNotNone(scene.master.odown_since)
        scene.wait(2_500, 50)
        self.assertIsNone(scene.master.odown_since)


class LinkTests(SynchronousTestCase):
    """Connections that look alive and are not."""

    def cut(self, scene: Scene) -> list[LinkKind | None]:
        """The kinds of connection that were recycled."""
        return [effect.kind for _, effect in scene.sent if isinstance(effect, Recycle)]

    def test_silent(self) -> None:
        """A connection of more than fifteen seconds that answers nothing is made anew."""
        scene = Scene(down_after=4_000)
        scene.wait(16_000, 50)
        scene.actors[MASTER_PLACE].silent = True
        scene.wait(2_500, 50)
        self.assertNotIn(LinkKind.COMMANDS, self.cut(scene))
        scene.wait(1_000, 50)
        self.assertEqual(1, self.cut(scene).count(LinkKind.COMMANDS))

    def test_young(self) -> None:
        """A younger one is left alone, and waited for without spinning."""
        scene = Scene(down_after=1_000)
        scene.wait(1_000, 50)
        scene.actors[MASTER_PLACE].silent = True
        self.assertLess(scene.idle(10_000), 300)
        self.assertEqual([], self.cut(scene))

    def test_quiet_subscription(self) -> None:
        """A subscription on which nothing is heard for three hello periods is made anew."""
        scene = Scene()
        scene.wait(16_000, 50)
        self.assertIn(LinkKind.PUBSUB, self.cut(scene))
        self.assertNotIn(LinkKind.COMMANDS, self.cut(scene))


class StartTests(SynchronousTestCase):
    """The clocks of a process that starts."""

    def test_starved_at_the_start(self) -> None:
        """The time from reading the file to the first attempt to connect is held against nobody."""
        scene = Scene(down_after=1_000)
        scene.actors[MASTER_PLACE].up = False
        scene.restart()
        scene.now += 5_000
        scene.sweep()
        scene.wait(990)
        self.assertNotIn("+sdown", scene.events())
        scene.wait(50)
        self.assertIn("+sdown", scene.events())


class MasterlessTests(SynchronousTestCase):
    """A group of which no server is a master."""

    def setUp(self) -> None:
        self.scene = Scene(down_after=2_000)
        self.scene.add_replica(2)
        self.scene.add_replica(3)
        self.scene.wait(3_000)
        self.actor = self.scene.actors[MASTER_PLACE]
        self.scene.heard()

    def lead(self, number: int) -> None:
        """The master is told to follow the server at 10.0.0.<number>."""
        self.actor.role, self.actor.follows = "slave", Address.literal(f"10.0.0.{number}", 6379)

    def test_down(self) -> None:
        """It is down a second after down-after at the latest: it was asked for its role meanwhile."""
        self.lead(2)
        self.scene.wait(1_900)
        self.assertEqual(self.scene.events(), ["-role-change"])
        self.scene.wait(1_200)
        self.assertEqual(self.scene.events(), ["+sdown"])
        self.actor.role = "master"
        self.scene.wait(1_100)
        self.assertEqual(self.scene.events(), ["+role-change", "-sdown"])

    def test_a_replica_that_was_promoted(self) -> None:
        """An operator who replaces the master by hand is not interfered with."""
        self.scene.actors[self.scene.replica(2).address].role = "master"
        self.lead(2)
        self.scene.wait(5_000)
        self.assertEqual(self.scene.events(), ["-role-change", "-role-change"])

    def test_a_replica_that_does_not_say(self) -> None:
        """Whoever has not told its role since may have been promoted."""
        self.scene.actors[self.scene.replica(3).address].refuses = True
        self.lead(2)
        self.scene.wait(6_000)
        self.assertNotIn("+sdown", self.scene.events())

    def test_a_master_elsewhere(self) -> None:
        """It follows somebody who is none of its replicas: that is another matter."""
        self.lead(77)
        self.scene.wait(6_000)
        self.assertEqual(self.scene.events(), ["-role-change"])

    def test_without_role(self) -> None:
        """A server that refuses ROLE is asked once per connection, and its INFO shows it later."""
        link = self.scene.master.link
        self.scene.core.role_reply(link, None, True, self.scene.now)
        self.scene.sent.clear()
        self.lead(2)
        self.scene.wait(14_000)
        self.assertFalse(any(isinstance(effect, RequestRole) for _, effect in self.scene.sent))
        self.assertEqual(self.scene.events(), ["-role-change", "+sdown"])
        self.scene.reset_connections(MASTER_PLACE)
        self.scene.wait(1_100)
        self.assertTrue(any(isinstance(effect, RequestRole) for _, effect in self.scene.sent))

    def test_many_instances(self) -> None:
        """Whoever watches many is not asked to ask for roles, too."""
        self.scene.core.registry.count_instances(self.scene.now + 1_000)
        self.assertEqual(self.scene.core.state.instances, 3)
        for number in range(1, 110):
            self.scene.add_master(f"m{number}", number)
        self.scene.wait(2_000)
        self.scene.sent.clear()
        self.scene.wait(3_000)
        self.assertFalse(any(isinstance(effect, RequestRole) for _, effect in self.scene.sent))


class TiltTests(SynchronousTestCase):
    """Am I the slow one?"""

    def test_gaps(self) -> None:
        """Longer than the trigger or backwards, on either clock."""
        for now, wall, expected in (
            (3_000, 3_000, False),
            (3_001, 3_001, True),
            (1_100, 900, True),
            (1_100, 9_000, True),
        ):
            guard = TiltGuard(Timings())
            self.assertFalse(guard.swept(1_000, 1_000))
            self.assertEqual(expected, guard.swept(now, wall), (now, wall))
            self.assertEqual((expected, int(expected)), (guard.active, guard.total))

    def test_causes(self) -> None:
        """Which of the clocks jumped, or what the process did meanwhile, and by how many milliseconds."""
        idle, busy, starved = ProcessorTime(20, 30), ProcessorTime(2_800, 50), ProcessorTime(200, 2_700)
        for now, wall, processor, cause, milliseconds in (
            (4_000, 4_000, idle, TiltCause.PROCESS_STOPPED, 3_000),
            (4_000, 4_000, busy, TiltCause.LOOP_LATE, 3_000),
            (4_000, 4_000, starved, TiltCause.LOOP_LATE, 3_000),
            (4_000, 4_000, None, TiltCause.LOOP_LATE, 3_000),
            (1_100, 900, None, TiltCause.CLOCK_STEPPED, -200),
            (1_100, 9_100, idle, TiltCause.CLOCK_STEPPED, 8_000),
            (4_000, 904_000, idle, TiltCause.CLOCK_STEPPED, 900_000),
        ):
            guard = TiltGuard(Timings())
            guard.swept(1_000, 1_000)
            self.assertIsNone(guard.report)
            self.assertTrue(guard.swept(now, wall, processor))
            assert guard.report is not None
            self.assertEqual((guard.report.cause, guard.report.milliseconds), (cause, milliseconds))
            shown = f"{milliseconds:+}" if cause is TiltCause.CLOCK_STEPPED else str(milliseconds)
            self.assertIn(f" {shown} ms", str(guard.report))

    def test_the_log_says_why(self) -> None:
        """And for how long."""
        scene = Scene()
        scene.wait(1_000)
        scene.heard()
        scene.now += 5_000
        scene.sweep()
        heard = scene.heard()
        self.assertIn("event +tilt #tilt mode entered", heard)
        self.assertIn("note TILT: nothing was decided for 5000 ms; nobody is judged for 30000 ms, until", heard)

    def test_over(self) -> None:
        """Half a minute after the last trigger, once."""
        guard = TiltGuard(Timings())
        guard.swept(0, 0)
        guard.swept(5_000, 5_000)
        self.assertFalse(guard.over(35_000))
        self.assertTrue(guard.over(35_001))
        self.assertFalse(guard.over(35_002))

    def test_nobody_is_judged(self) -> None:
        """In TILT nobody goes down or comes back, and we say of no master that it is down."""
        scene = Scene()
        scene.add_replica(2)
        scene.wait(2_000)
        scene.kill(MASTER_PLACE)
        scene.wait(1_100)
        scene.now += 5_000
        scene.sweep()
        scene.heard()
        vote = scene.core.vote_requested(MASTER_PLACE.ip, MASTER_PLACE.port, 0, "*", scene.now)
        self.assertFalse(vote.down)
        scene.revive(MASTER_PLACE)
        scene.kill(scene.replica(2).address)
        scene.wait(20_000, 100)
        self.assertEqual([], scene.events())
        scene.wait(11_000, 100)
        self.assertEqual({"-tilt", "-sdown", "+sdown"}, set(scene.events()))

    def test_a_stall_too_short_for_tilt(self) -> None:
        """After a pause the answers that came meanwhile are read before anybody is judged."""
        scene = Scene()
        scene.wait(2_000)
        scene.actors[MASTER_PLACE].silent = True
        scene.wait(1_000, 50)
        scene.now += 1_500
        scene.sweep()
        self.assertNotIn("+sdown", scene.events())
        scene.revive(MASTER_PLACE)
        scene.wait(100)
        self.assertNotIn("+sdown", scene.events())

    def test_a_busy_machine_still_judges(self) -> None:
        """Where every sweep is late, the second one judges all the same."""
        scene = Scene()
        scene.wait(2_000)
        scene.kill(MASTER_PLACE)
        scene.wait(3_000, 300)
        self.assertIn("+sdown", scene.events())
