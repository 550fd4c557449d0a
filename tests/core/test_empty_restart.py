"""A master that restarts without its data while its replicas still hold it."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, FakeServer, Fixture
from txsentinel.core.effects import PauseClients
from txsentinel.core.empty_restart import JUDGEMENT_PERIOD, MAX_PAUSES, missing_keys
from txsentinel.core.options import GuardOptions
from txsentinel.core.pauses import PauseRequest
from txsentinel.wire.info import DataSetReport

OLD, NEW, NEWER, NONE = "a1" * 20, "b2" * 20, "c3" * 20, "0" * 40


def hold(
    server: FakeServer,
    keys: int,
    replid: str = OLD,
    *,
    replid2: str = NONE,
    offset: int = 100,
    second_offset: int = -1,
    volatile: int = 0,
    loading: int = 0,
    changes: int = 0,
    append_only: int = 0,
) -> None:
    """Let a server report this data set."""
    server.offset = offset
    server.extra = [
        f"loading:{loading}",
        f"rdb_changes_since_last_save:{changes}",
        f"aof_enabled:{append_only}",
        f"master_replid:{replid}",
        f"master_replid2:{replid2}",
        f"master_repl_offset:{offset}",
        f"second_repl_offset:{second_offset}",
        "# Keyspace",
        *([f"db0:keys={keys},expires={volatile},avg_ttl=0"] if keys else []),
    ]


class EmptyRestartTests(SynchronousTestCase):
    """One Sentinel of three, a master and two replicas with 1,000 keys each."""

    def setUp(self) -> None:
        """Wait until all are known."""
        self.fixture = fixture = Fixture()
        fixture.master.options.guards = GuardOptions(empty_restart_failover=True)
        self.old_master = fixture.servers[MASTER]
        self.replicas = [fixture.add_replica(2), fixture.add_replica(3)]
        for letter in "xy":
            fixture.add_peer(letter, reports_down=True)
        for server in (self.old_master, *self.replicas):
            hold(server, 1_000)
        fixture.core.timings.info_period = 1_000
        fixture.wait(3_000, 100)
        fixture.output()
        fixture.sent.clear()

    def restart(self) -> None:
        """Restart the master with another run ID; its connections break, and the Sentinel reconnects at once."""
        self.old_master.run_id = "9" * 40
        for server in self.replicas:
            server.link_status = "down"
        self.fixture.reset_connections(MASTER)
        self.fixture.wait(300)

    def pauses(self) -> int:
        """Return how often the clients of the master were paused."""
        return sum(isinstance(effect, PauseClients) for _, effect in self.fixture.sent)

    def test_failovers_are_paused(self) -> None:
        """The clients are not held while failovers are paused, as none could follow; the master is judged as ever."""
        request = PauseRequest(60_000)
        self.fixture.core.pauses.order("mymaster", request, self.fixture.now, self.fixture.now)
        hold(self.old_master, 0, NEW)
        self.restart()
        self.fixture.wait(2_000)
        self.assertEqual(self.pauses(), 0)
        events = self.fixture.events()
        self.assertIn("+sdown", events)
        self.assertNotIn("+try-failover", events)

    def test_promotion(self) -> None:
        """A master that is empty counts as down at once, and a replica that holds the data is promoted."""
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        lines = self.fixture.output()
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", lines)
        self.assertEqual(sum("restarted without its data: it has 0 keys" in line for line in lines), 1)
        self.assertTrue(any("S_DOWN of master" in line and "without data" in line for line in lines))
        self.assertGreater(self.pauses(), 0)

    def test_former_master_follows(self) -> None:
        """The former master, which is empty, is made a replica of the promoted one."""
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        for server in self.replicas:
            hold(server, 1_000, NEWER, replid2=OLD, second_offset=101)
            server.link_status = "up"
        self.fixture.wait(1_500)
        self.assertIn("order 10.0.0.1 SLAVEOF 10.0.0.2 6379", self.fixture.output())
        self.assertEqual(self.fixture.master.address, self.replicas[0].address)

    def test_replica_with_more_data_is_promoted(self) -> None:
        """Of two replicas that hold data, the one that received more of the stream is promoted."""
        hold(self.replicas[1], 1_000, offset=150)
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.assertIn("order 10.0.0.3 SLAVEOF NO ONE", self.fixture.output())

    def test_emptied_replica_is_unfit(self) -> None:
        """A replica that copied the empty data set is not promoted, not even with the better priority."""
        hold(self.replicas[0], 0, NEWER, offset=0)
        self.replicas[0].priority = 1
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        lines = self.fixture.output()
        self.assertIn("order 10.0.0.3 SLAVEOF NO ONE", lines)
        self.assertNotIn("order 10.0.0.2 SLAVEOF NO ONE", lines)
        reasons = dict(self.fixture.master.last_refusals)
        self.assertIn("empty_after_reboot", reasons["10.0.0.2:6379"].text)

    def test_lost_everywhere(self) -> None:
        """If all replicas copied the empty data set, there is nothing to promote, which is logged once."""
        for server in self.replicas:
            hold(server, 0, NEWER, offset=0)
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.fixture.wait(2_000)
        lines = self.fixture.output()
        self.assertEqual(sum("DATA LOST" in line and "1000 keys are gone" in line for line in lines), 1)
        self.assertFalse([line for line in lines if "SLAVEOF" in line or "+sdown" in line or "+data-lost" in line])

    def test_event_of_the_loss(self) -> None:
        """The event is published if that is configured."""
        options = self.fixture.master.options
        options.guards = replace(options.guards, data_lost_event=True)
        for server in self.replicas:
            hold(server, 0, NEWER, offset=0)
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.assertIn("+data-lost", self.fixture.events())

    def test_loss_before_the_failover(self) -> None:
        """If the replicas copy the empty data set before a majority agrees, the master is up again."""
        for letter in "xy":
            self.fixture.servers[self.fixture.peer(letter).address].reports_down = False
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.assertIn("+sdown", self.fixture.events())
        for server in self.replicas:
            hold(server, 0, NEWER, offset=0)
        self.fixture.wait(2_000)
        lines = self.fixture.output()
        self.assertTrue(any(line.startswith("event -sdown master") for line in lines))
        self.assertEqual(sum("DATA LOST" in line for line in lines), 1)

    def test_deletions_after_the_restart(self) -> None:
        """A master that loaded its append-only file is not down, although clients have deleted some of the keys."""
        hold(self.old_master, 990, NEW, offset=0, changes=1_010, append_only=1)
        self.restart()
        lines = self.fixture.output()
        self.assertFalse([line for line in lines if "SLAVEOF" in line or "+sdown" in line or "DATA LOST" in line])

    def lose_links(self) -> None:
        """Let the replicas lose their links five seconds before the restart, when the master had fewer keys."""
        for server in self.replicas:
            server.link_status, server.down_for = "down", 5
        hold(self.old_master, 900, offset=500)
        self.fixture.wait(2_000, 100)

    def test_stale_replicas(self) -> None:
        """A master that persists its data is not replaced by a replica that had no link to it before the restart."""
        for down_for in (5, -1):
            with self.subTest(down_for=down_for):
                self.setUp()
                self.lose_links()
                for server in self.replicas:
                    server.down_for = down_for
                hold(self.old_master, 900, NEW, offset=0)
                self.restart()
                lines = self.fixture.output()
                self.assertFalse([line for line in lines if "SLAVEOF" in line or "+sdown" in line])

    def test_writable_replicas(self) -> None:
        """Replicas that accept writes may have keys that the master never had."""
        for server in self.replicas:
            hold(server, 1_005)
            server.extra.insert(0, "slave_read_only:0")
        hold(self.old_master, 1_000, NEW, offset=0)
        self.restart()
        lines = self.fixture.output()
        self.assertFalse([line for line in lines if "SLAVEOF" in line or "+sdown" in line])

    def test_stale_replicas_of_an_empty_master(self) -> None:
        """Stale data is better than none."""
        self.lose_links()
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())

    def test_persistent_master(self) -> None:
        """A master that has its keys is not down, whatever its history and offset: it persists its data by itself."""
        hold(self.old_master, 1_000, NEW, offset=0)
        self.restart()
        lines = self.fixture.output()
        self.assertFalse([line for line in lines if "SLAVEOF" in line or "+sdown" in line or "DATA LOST" in line])
        self.assertEqual(self.pauses(), 0)

    def test_continued_history(self) -> None:
        """A master that continues its history from a snapshot is not down if no replica has more of it."""
        hold(self.old_master, 900, NEW, replid2=OLD, offset=100, second_offset=101)
        self.restart()
        self.assertNotIn("+sdown", self.fixture.events())

    def test_old_snapshot(self) -> None:
        """One that continues from a snapshot older than what its replicas have lost keys."""
        hold(self.old_master, 900, NEW, replid2=OLD, offset=90, second_offset=91)
        self.restart()
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())

    def test_empty_snapshot(self) -> None:
        """
        A master that found an empty snapshot has lost its keys, although it continues the history.

        Without persistence, a server that sends full copies from its disk has the first one as a snapshot.
        """
        hold(self.old_master, 0, NEW, replid2=OLD, offset=0, second_offset=1)
        self.restart()
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())
        self.assertGreater(self.pauses(), 0)

    def test_loading(self) -> None:
        """A master that is loading is judged when it has finished."""
        hold(self.old_master, 10, NEW, offset=0, loading=1)
        self.restart()
        self.fixture.wait(JUDGEMENT_PERIOD + 5_000, 100)
        self.assertNotIn("+sdown", self.fixture.events())
        hold(self.old_master, 1_000, NEW, offset=0)
        self.fixture.wait(1_000, 100)
        self.assertNotIn("+sdown", self.fixture.events())

    def test_loading_ends_empty(self) -> None:
        """If it has loaded less than a replica holds, it counts as down then."""
        hold(self.old_master, 10, NEW, offset=0, loading=1)
        self.restart()
        self.fixture.wait(JUDGEMENT_PERIOD + 5_000, 100)
        hold(self.old_master, 600, NEW, offset=0)
        self.fixture.wait(1_000, 100)
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())

    def test_expired_keys(self) -> None:
        """Keys with a time to live do not count: a master does not load those that have expired."""
        for server in self.replicas:
            hold(server, 1_000, volatile=990)
        hold(self.old_master, 12, NEW, offset=0, volatile=2)
        self.restart()
        self.assertNotIn("+sdown", self.fixture.events())

    def test_deleted_meanwhile(self) -> None:
        """Keys are compared with those that replicas report after the restart, not before it."""
        for server in self.replicas:
            hold(server, 400)
        hold(self.old_master, 400, NEW, offset=0)
        self.restart()
        self.assertNotIn("+sdown", self.fixture.events())

    def test_replica_without_priority(self) -> None:
        """Data on a replica that may not be promoted is no reason to fail over."""
        for server in self.replicas:
            server.priority = 0
        self.fixture.wait(2_000, 100)
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.assertNotIn("+sdown", self.fixture.events())

    def test_history_that_the_master_did_not_report(self) -> None:
        """A replica without a link holds the data of its master even if the ID of their history was never seen."""
        for server in self.replicas:
            hold(server, 1_000, NEWER)
            server.link_status = "down"
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())

    def test_replicas_that_followed_the_new_process(self) -> None:
        """What replicas received from the new process is not lost if that dies, or if they lose their links to it."""
        for replid, dies in ((NEW, True), (NEWER, True), (NEW, False)):
            with self.subTest(replid=replid, dies=dies):
                self.setUp()
                hold(self.old_master, 1_000, NEW, offset=0)
                self.restart()
                for server in self.replicas:
                    hold(server, 1_001, replid)
                    server.link_status = "up" if dies else "down"
                if dies:
                    self.fixture.kill(MASTER)
                    for server in self.replicas:
                        server.link_status = "down"
                self.fixture.wait(900, 100)
                lines = self.fixture.output()
                self.assertFalse([line for line in lines if "SLAVEOF" in line or "+sdown" in line])

    def test_loss_that_replicas_report_first(self) -> None:
        """If the replicas report the new history before the master reports its restart, the loss is noticed, too."""
        for server in self.replicas:
            hold(server, 0, NEWER, offset=0)
        self.fixture.wait(1_500, 100)
        hold(self.old_master, 0, NEWER, offset=0)
        self.old_master.run_id = "9" * 40
        self.fixture.reset_connections(MASTER)
        self.fixture.wait(300)
        self.assertEqual(sum("DATA LOST" in line for line in self.fixture.output()), 1)

    def test_late_return(self) -> None:
        """An old data set that appears long after the restart does not replace what was written since."""
        for server in self.replicas:
            self.fixture.kill(server.address)
        self.fixture.wait(2_000, 100)
        hold(self.old_master, 0, NEW, offset=0)
        self.old_master.run_id = "9" * 40
        self.fixture.reset_connections(MASTER)
        self.fixture.wait(JUDGEMENT_PERIOD + 1_000, 100)
        hold(self.old_master, 20, NEW, offset=500)
        for server in self.replicas:
            self.fixture.revive(server.address)
        self.fixture.wait(3_000, 100)
        self.assertNotIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())

    def test_pauses_are_few(self) -> None:
        """Without agreement the clients are paused for a second at most, and the master is up again in the end."""
        for letter in "xy":
            self.fixture.servers[self.fixture.peer(letter).address].reports_down = False
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.fixture.wait(5_000, 50)
        self.assertEqual(self.pauses(), MAX_PAUSES)
        self.fixture.wait(self.fixture.master.options.failover_timeout, 100)
        self.assertIn("-sdown", self.fixture.events())
        self.assertEqual(self.pauses(), MAX_PAUSES)

    def test_switched_off(self) -> None:
        """Without the guard the restart is only an event, as with C Sentinels."""
        self.fixture.master.options.guards = GuardOptions()
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.assertEqual(self.fixture.events(), ["+reboot"])
        self.assertEqual(self.pauses(), 0)

    def test_switched_off_later(self) -> None:
        """A master that is S_DOWN because of the guard is not any more after the guard was switched off."""
        hold(self.old_master, 0, NEW, offset=0)
        for server in self.fixture.servers.values():
            server.reports_down = False
        self.restart()
        self.assertIn("+sdown", self.fixture.events())
        self.assertIsNotNone(self.fixture.master.data_missing_since)
        self.fixture.master.options.guards = GuardOptions()
        self.fixture.wait(2_000, 50)
        self.assertIsNone(self.fixture.master.data_missing_since)
        self.assertIsNone(self.fixture.master.restart)

    def test_tilt(self) -> None:
        """Nothing is judged and nothing is paused in TILT."""
        self.fixture.now += 5_000
        self.fixture.sweep()
        hold(self.old_master, 0, NEW, offset=0)
        self.restart()
        self.assertNotIn("+sdown", self.fixture.events())
        self.assertEqual(self.pauses(), 0)


class MissingKeyTests(SynchronousTestCase):
    """The comparison of two data sets."""

    def test_deletions(self) -> None:
        """As many keys as were changed since the start may have been deleted, but only if the server loaded data."""
        for keys, changes, append_only, missing in (
            (999, 1, False, 0),
            (998, 1, False, 2),
            (990, 1_010, True, 0),
            (0, 1_000, True, 0),
            (0, 0, True, 1_000),
            (300, 300, True, 700),
            (300, 300, False, 700),
            (600, 600, False, 400),
            (500, 0, False, 500),
        ):
            found = DataSetReport(NEW, None, 0, -1, keys, 0, False, changes, append_only)
            wanted = DataSetReport(OLD, None, 0, -1, 1_000, 0, False)
            self.assertEqual(missing_keys(wanted, found), missing, found)

    def missing(self, wanted: tuple[int | None, int], found: tuple[int | None, int]) -> int:
        """Compare two pairs of a number of keys and of volatile keys."""
        reports = [DataSetReport(OLD, None, 0, -1, keys, volatile, False) for keys, volatile in (wanted, found)]
        return missing_keys(*reports)

    def test_comparison(self) -> None:
        """All keys count if nothing is left, only persistent ones otherwise, none if a number is unknown."""
        for wanted, found, missing in (
            ((1_000, 0), (0, 0), 1_000),
            ((1_000, 1_000), (0, 0), 1_000),
            ((1_000, 1_000), (1, 0), 0),
            ((1_000, 100), (500, 100), 500),
            ((1_000, 0), (1_200, 0), 0),
            ((None, 0), (0, 0), 0),
            ((1_000, 0), (None, 0), 0),
        ):
            self.assertEqual(self.missing(wanted, found), missing, (wanted, found))
