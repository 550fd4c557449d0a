"""S_DOWN, O_DOWN, reconnection of half-dead links, and TILT."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.effects import Reconnect, RequestRole
from txsentinel.core.link import LinkKind
from txsentinel.core.role import Role
from txsentinel.core.tilt import ProcessorTime, TiltCause, TiltGuard
from txsentinel.model.address import Address
from txsentinel.model.timings import Timings


class SubjectivelyDownTests(SynchronousTestCase):
    """S_DOWN is the opinion of this Sentinel alone."""

    def setUp(self) -> None:
        """Set up a master with a replica and a peer."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        self.fixture.add_peer("b")
        self.fixture.wait(2_000)
        self.fixture.output()

    def test_exactly_after_down_after(self) -> None:
        """An instance is S_DOWN when more than down-after has passed since the loss, not exactly that."""
        self.fixture.kill(MASTER)
        self.fixture.wait(1_000, 1)
        self.assertEqual([], self.fixture.events())
        self.fixture.wait(1, 1)
        self.assertEqual(["+sdown"], self.fixture.events())

    def test_all_roles(self) -> None:
        """Replicas and peers go down and come back like masters, by the down-after of their master."""
        for place in (self.fixture.replica(2).address, self.fixture.peer("b").address):
            self.fixture.kill(place)
            self.fixture.wait(1_100)
            self.assertEqual(["+sdown"], self.fixture.events())
            self.fixture.revive(place)
            self.assertEqual(["-sdown"], self.fixture.events())

    def test_never_reached(self) -> None:
        """An instance that was never reached is down after the same time."""
        self.fixture.servers[MASTER].up = False
        master = self.fixture.add_master("other", 7)
        self.fixture.kill(master.address)
        self.fixture.output()
        self.fixture.wait(1_100)
        self.assertIn("+sdown", self.fixture.events())

    def test_pong_ends_s_down_at_once(self) -> None:
        """The first PONG ends S_DOWN in its own turn, without waiting for a sweep."""
        self.fixture.kill(MASTER)
        self.fixture.wait(1_100)
        self.fixture.output()
        self.fixture.revive(MASTER)
        self.assertEqual("-sdown", self.fixture.events()[0])

    def test_wrong_role(self) -> None:
        """A master that reports to be a replica is down after down-after and two INFO periods."""
        server = self.fixture.servers[MASTER]
        server.role, server.follows = "slave", Address.literal("10.0.0.77", 6379)
        self.fixture.core.info_reply(self.fixture.master.link, server.info(), self.fixture.now)
        self.fixture.wait(21_000, 100)
        self.assertNotIn("+sdown", self.fixture.events())
        self.fixture.wait(200, 10)
        self.assertIn("+sdown", self.fixture.events())
        self.assertIs(Role.REPLICA, self.fixture.master.role_reported)

    def test_demoted_by_us(self) -> None:
        """An old master that follows the new one by our command does not become S_DOWN, however slow the others are."""
        fixture = Fixture(failover_timeout=60_000)
        fixture.core.timings.replica_reconf_timeout = 60_000
        fixture.add_replica(2, offset=200)
        fixture.add_replica(3, obeys=False)
        fixture.wait(2_000)
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.output()
        fixture.wait(40_000, 50)
        self.assertEqual([], fixture.events())

    def test_reboot_option_taken_back(self) -> None:
        """Without the option, a reboot is no reason for S_DOWN, nor for frequent evaluation."""
        self.fixture.master.options.reboot_down_after = 3_000
        server = self.fixture.servers[MASTER]
        server.run_id, server.ping_text = "c" * 40, b"LOADING"
        self.fixture.reset_connections(MASTER)
        self.assertIsNotNone(self.fixture.master.rebooting_since)
        self.fixture.master.options.reboot_down_after = 0
        self.assertLess(self.fixture.idle(5_000), 150)
        self.assertNotIn("+sdown", self.fixture.events())


class ObjectivelyDownTests(SynchronousTestCase):
    """O_DOWN requires agreement."""

    def test_quorum(self) -> None:
        """O_DOWN requires the quorum, and the event has the number of Sentinels that agree."""
        for quorum, expected in ((1, True), (2, True), (3, False)):
            fixture = Fixture(quorum=quorum)
            fixture.add_peer("b", reports_down=True)
            fixture.add_peer("c")
            fixture.wait(2_000)
            fixture.kill(MASTER)
            fixture.wait(1_200)
            self.assertEqual(expected, fixture.master.odown_since is not None)

    def test_ends_with_our_own_opinion(self) -> None:
        """A master that is up here is not O_DOWN, whatever the peers report."""
        fixture = Fixture()
        fixture.add_peer("b", reports_down=True)
        fixture.wait(2_000)
        fixture.kill(MASTER)
        fixture.wait(1_200)
        fixture.output()
        fixture.revive(MASTER)
        self.assertEqual(["-sdown", "-odown"], fixture.events()[:2])

    def test_opinions_are_for_five_seconds(self) -> None:
        """The opinion of a silent peer counts for five ask periods."""
        fixture = Fixture()
        fixture.add_peer("b", reports_down=True)
        fixture.wait(2_000)
        fixture.kill(MASTER)
        fixture.wait(1_200)
        fixture.servers[fixture.peer("b").address].unresponsive = True
        fixture.wait(4_000, 50)
        self.assertIsNotNone(fixture.master.odown_since)
        fixture.wait(2_500, 50)
        self.assertIsNone(fixture.master.odown_since)


class LinkTests(SynchronousTestCase):
    """Connections that are established but do not work."""

    def cut(self, fixture: Fixture) -> list[LinkKind | None]:
        """Return the kinds of connections that were reconnected."""
        return [effect.kind for _, effect in fixture.sent if isinstance(effect, Reconnect)]

    def test_silent(self) -> None:
        """A connection older than fifteen seconds without replies is reconnected."""
        fixture = Fixture(down_after=4_000)
        fixture.wait(16_000, 50)
        fixture.servers[MASTER].hung = True
        fixture.wait(2_500, 50)
        self.assertNotIn(LinkKind.COMMANDS, self.cut(fixture))
        fixture.wait(1_000, 50)
        self.assertEqual(1, self.cut(fixture).count(LinkKind.COMMANDS))

    def test_young(self) -> None:
        """A younger connection is kept, without frequent evaluation."""
        fixture = Fixture(down_after=1_000)
        fixture.wait(1_000, 50)
        fixture.servers[MASTER].hung = True
        self.assertLess(fixture.idle(10_000), 300)
        self.assertEqual([], self.cut(fixture))

    def test_subscription_without_messages(self) -> None:
        """A subscription without messages for three hello periods is reconnected."""
        fixture = Fixture()
        fixture.wait(16_000, 50)
        self.assertIn(LinkKind.PUBSUB, self.cut(fixture))
        self.assertNotIn(LinkKind.COMMANDS, self.cut(fixture))


class StartTests(SynchronousTestCase):
    """The clocks of a process that starts."""

    def test_starved_at_the_start(self) -> None:
        """The time from reading the file to the first connection attempt does not count as silence."""
        fixture = Fixture(down_after=1_000)
        fixture.servers[MASTER].up = False
        fixture.restart()
        fixture.now += 5_000
        fixture.sweep()
        fixture.wait(990)
        self.assertNotIn("+sdown", fixture.events())
        fixture.wait(50)
        self.assertIn("+sdown", fixture.events())


class MasterlessTests(SynchronousTestCase):
    """A group in which no server is a master."""

    def setUp(self) -> None:
        self.fixture = Fixture(down_after=2_000)
        self.fixture.add_replica(2)
        self.fixture.add_replica(3)
        self.fixture.wait(3_000)
        self.server = self.fixture.servers[MASTER]
        self.fixture.output()

    def lead(self, number: int) -> None:
        """The master is ordered to follow the server at 10.0.0.<number>."""
        self.server.role, self.server.follows = "slave", Address.literal(f"10.0.0.{number}", 6379)

    def test_down(self) -> None:
        """The master is down a second after down-after at the latest, as ROLE is sent to it."""
        self.lead(2)
        self.fixture.wait(1_900)
        self.assertEqual(self.fixture.events(), ["-role-change"])
        self.fixture.wait(1_200)
        self.assertEqual(self.fixture.events(), ["+sdown"])
        self.server.role = "master"
        self.fixture.wait(1_100)
        self.assertEqual(self.fixture.events(), ["+role-change", "-sdown"])

    def test_a_replica_that_was_promoted(self) -> None:
        """A master that follows a replica which is a master is S_DOWN as soon, as no hello may announce that."""
        self.fixture.servers[self.fixture.replica(2).address].role = "master"
        self.lead(2)
        self.fixture.wait(1_900)
        self.assertEqual(self.fixture.events(), ["-role-change", "-role-change"])
        self.fixture.wait(1_200)
        self.assertEqual(self.fixture.events(), ["+sdown"])

    def test_another_replica_that_was_promoted(self) -> None:
        """If another replica is a master, S_DOWN takes the usual INFO periods, as either may be right."""
        self.fixture.servers[self.fixture.replica(3).address].role = "master"
        self.lead(2)
        self.fixture.wait(6_000)
        self.assertNotIn("+sdown", self.fixture.events())

    def test_replica_without_reported_role(self) -> None:
        """A replica that has not reported its role since may have been promoted."""
        self.fixture.servers[self.fixture.replica(3).address].refuses = True
        self.lead(2)
        self.fixture.wait(6_000)
        self.assertNotIn("+sdown", self.fixture.events())

    def test_master_that_follows_an_unknown_server(self) -> None:
        """A master that follows a server which is not its replica is not a masterless group."""
        self.lead(77)
        self.fixture.wait(6_000)
        self.assertEqual(self.fixture.events(), ["-role-change"])

    def test_without_role(self) -> None:
        """ROLE is sent once per connection to a server that refuses it; INFO shows the change later."""
        link = self.fixture.master.link
        self.fixture.core.role_reply(link, None, True, self.fixture.now)
        self.fixture.sent.clear()
        self.lead(2)
        self.fixture.wait(14_000)
        self.assertFalse(any(isinstance(effect, RequestRole) for _, effect in self.fixture.sent))
        self.assertEqual(self.fixture.events(), ["-role-change", "+sdown"])
        self.fixture.reset_connections(MASTER)
        self.fixture.wait(1_100)
        self.assertTrue(any(isinstance(effect, RequestRole) for _, effect in self.fixture.sent))

    def test_many_instances(self) -> None:
        """ROLE is not sent while many instances are monitored."""
        self.fixture.core.registry.count_instances(self.fixture.now + 1_000)
        self.assertEqual(self.fixture.core.state.instances, 3)
        for number in range(1, 110):
            self.fixture.add_master(f"m{number}", number)
        self.fixture.wait(2_000)
        self.fixture.sent.clear()
        self.fixture.wait(3_000)
        self.assertFalse(any(isinstance(effect, RequestRole) for _, effect in self.fixture.sent))


class TiltTests(SynchronousTestCase):
    """Detection that this process was stopped or starved."""

    def test_gaps(self) -> None:
        """Gaps longer than the trigger and negative ones, on either clock."""
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

    def test_requests_before_the_sweep(self) -> None:
        """A process that continues after a stop reports no master down, also before its next sweep enters TILT."""
        fixture = Fixture()
        fixture.add_peer("a")
        fixture.kill(MASTER)
        fixture.wait(3_000)
        place = (MASTER.ip, MASTER.port, 0, "*")
        self.assertTrue(fixture.core.vote_requested(*place, fixture.now).down)
        fixture.now += 2_000
        self.assertTrue(fixture.core.vote_requested(*place, fixture.now).down)
        fixture.now += 1_000
        self.assertFalse(fixture.core.vote_requested(*place, fixture.now).down)
        fixture.sweep()
        self.assertFalse(fixture.core.vote_requested(*place, fixture.now).down)

    def test_causes(self) -> None:
        """The report has the clock that was changed, or what the process did, with milliseconds."""
        idle, busy, mixed = ProcessorTime(20, 30), ProcessorTime(2_800, 50), ProcessorTime(1_000, 1_900)
        for now, wall, processor, cause, milliseconds in (
            (4_000, 4_000, idle, TiltCause.PROCESS_STOPPED, 3_000),
            (4_000, 4_000, busy, TiltCause.LOOP_LATE, 3_000),
            (4_000, 4_000, mixed, TiltCause.LOOP_LATE, 3_000),
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

    def test_waiting_for_a_processor(self) -> None:
        """A process with little work that waited for a processor is not in TILT, unless that took too long."""
        for gap, ran, waited, expected in (
            (3_000, 200, 2_700, False),
            (3_000, 750, 1_500, False),
            (3_000, 751, 1_500, True),
            (3_000, 750, 1_499, True),
            (30_000, 100, 29_000, False),
            (30_001, 100, 29_000, True),
        ):
            guard = TiltGuard(Timings())
            guard.swept(1_000, 1_000)
            entered = guard.swept(1_000 + gap, 1_000 + gap, ProcessorTime(ran, waited))
            self.assertEqual((entered, guard.active), (expected, expected), (gap, ran, waited))
            self.assertEqual(guard.starvation is None, expected)
        # A clock that was set meanwhile is a reason all the same.
        guard = TiltGuard(Timings())
        guard.swept(1_000, 1_000)
        self.assertTrue(guard.swept(4_000, 904_000, ProcessorTime(200, 2_700)))

    def test_starvation_judges_nothing_unread(self) -> None:
        """After such a gap, no server is S_DOWN for replies that have arrived but were not read yet."""
        fixture = Fixture()
        fixture.add_replica(2)
        fixture.wait(3_000)
        fixture.output()
        fixture.now += 5_000
        fixture.core.sweep(fixture.now, fixture.now, ProcessorTime(200, 4_700))
        fixture.finish()
        fixture.wait(500)
        lines = fixture.output()
        self.assertEqual([line for line in lines if line.startswith("event ")], [])
        self.assertEqual(len([line for line in lines if "No TILT: nothing was decided for 5000 ms" in line]), 1, lines)

    def test_cause_is_logged(self) -> None:
        """The log line has the cause and the duration."""
        fixture = Fixture()
        fixture.wait(1_000)
        fixture.output()
        fixture.now += 5_000
        fixture.sweep()
        output = fixture.output()
        self.assertIn("event +tilt #tilt mode entered", output)
        self.assertIn(
            "note TILT: nothing was decided for 5000 ms; no instance is evaluated for 30000 ms, until", output
        )

    def test_over(self) -> None:
        """TILT ends once, half a minute after the last trigger."""
        guard = TiltGuard(Timings())
        guard.swept(0, 0)
        guard.swept(5_000, 5_000)
        self.assertFalse(guard.over(35_000))
        self.assertTrue(guard.over(35_001))
        self.assertFalse(guard.over(35_002))

    def test_no_state_changes_in_tilt(self) -> None:
        """In TILT no instance changes its state, and no master is reported down."""
        fixture = Fixture()
        fixture.add_replica(2)
        fixture.wait(2_000)
        fixture.kill(MASTER)
        fixture.wait(1_100)
        fixture.now += 5_000
        fixture.sweep()
        fixture.output()
        vote = fixture.core.vote_requested(MASTER.ip, MASTER.port, 0, "*", fixture.now)
        self.assertFalse(vote.down)
        fixture.revive(MASTER)
        fixture.kill(fixture.replica(2).address)
        fixture.wait(20_000, 100)
        self.assertEqual([], fixture.events())
        fixture.wait(11_000, 100)
        self.assertEqual({"-tilt", "-sdown", "+sdown"}, set(fixture.events()))

    def test_pause_too_short_for_tilt(self) -> None:
        """After a pause, replies that arrived meanwhile are read before any instance is evaluated."""
        fixture = Fixture()
        fixture.wait(2_000)
        fixture.servers[MASTER].hung = True
        fixture.wait(1_000, 50)
        fixture.now += 1_500
        fixture.sweep()
        self.assertNotIn("+sdown", fixture.events())
        fixture.revive(MASTER)
        fixture.wait(100)
        self.assertNotIn("+sdown", fixture.events())

    def test_late_sweeps_still_evaluate(self) -> None:
        """If every sweep is late, the second one evaluates all the same."""
        fixture = Fixture()
        fixture.wait(2_000)
        fixture.kill(MASTER)
        fixture.wait(3_000, 300)
        self.assertIn("+sdown", fixture.events())
