"""What an old master had that the new one never received: which reports are evidence of what."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from tests.core.test_failover_records import NEW_HISTORY, OLD_HISTORY, SECOND, history_lines
from txsentinel.core.data_comparison import RESYNC_DELAY, UNDECIDED_DELAY
from txsentinel.core.journal import JournalEntry
from txsentinel.model.address import Address
from txsentinel.model.history import JournalKind

FORK = 200


class ComparisonTests(SynchronousTestCase):
    """One failover from a master at offset 250 to a replica at offset 200."""

    def setUp(self) -> None:
        """Fail over; the old master is down."""
        self.fixture = fixture = Fixture()
        self.old = fixture.servers[MASTER]
        self.old.run_id, self.old.extra = "d" * 40, history_lines(OLD_HISTORY, 150)
        self.new = fixture.add_replica(2, offset=FORK, run_id="e" * 40, extra=history_lines(OLD_HISTORY, FORK))
        self.new.extra += ["sync_full:3", "sync_partial_ok:1"]
        for letter in "bz":
            fixture.add_peer(letter, reports_down=True)
        fixture.wait(12_000, 50)
        fixture.kill(MASTER)
        self.fork_at(FORK)
        fixture.wait(4_000)

    def fork_at(self, offset: int, full: int = 3, partial: int = 1) -> None:
        """Have the new master report where its history begins, and its synchronizations."""
        self.new.extra = history_lines(NEW_HISTORY, offset + 30, OLD_HISTORY, offset + 1)
        self.new.extra += [f"sync_full:{full}", f"sync_partial_ok:{partial}"]

    def compared(self, kind: JournalKind = JournalKind.DATA_COMPARED) -> list[JournalEntry]:
        """Return the verdicts."""
        return [each for each in self.fixture.core.journal.entries("mymaster") if each.kind is kind]

    def verdict(self) -> tuple[object, ...]:
        """Return the only verdict with the number of bytes."""
        (entry,) = self.compared()
        data = dict(entry.data)
        return entry.code, data["lost_bytes"], data["to_offset"], data["text"]

    def back(self, lines: list[str], *, obeys: bool = True, seconds: int = 12) -> None:
        """Let the old master come back, with these lines of INFO."""
        self.old.extra, self.old.obeys = lines, obeys
        self.fixture.revive(MASTER)
        self.fixture.wait(seconds * 1_000, 50)

    def test_awaited(self) -> None:
        """There is no verdict while the old master is down."""
        self.fixture.wait(20_000, 100)
        self.assertEqual([], self.compared())
        self.assertTrue(self.fixture.core.state.comparisons.active)

    def test_lost(self) -> None:
        """The same process reports more under the old ID as a replica, when no client can write any more."""
        self.back(history_lines(OLD_HISTORY, 290))
        text = "its last offset is 290, the new master continues from 200: 90 bytes"
        self.assertEqual(("lost", 90, 290, text), self.verdict())

    def test_nothing_lost(self) -> None:
        """It had no more than the new master has."""
        self.back(history_lines(OLD_HISTORY, FORK))
        self.assertEqual(("none", 0, FORK), self.verdict()[:3])

    def test_not_final(self) -> None:
        """As long as it is a master, clients may write, so its offset is not the last one."""
        self.back(history_lines(OLD_HISTORY, 290), obeys=False, seconds=5)
        self.assertEqual([], self.compared())
        self.old.extra, self.old.obeys = history_lines(OLD_HISTORY, 310), True
        self.fixture.wait(40_000, 100)
        self.assertEqual(("lost", 110, 310), self.verdict()[:3])

    def test_partial(self) -> None:
        """It continues with the history of the new master: nothing is lost."""
        self.back(history_lines(NEW_HISTORY, 230, OLD_HISTORY, FORK + 1))
        self.assertEqual(("none", 0), self.verdict()[:2])

    def test_copied_before_it_was_seen(self) -> None:
        """It has the data of the new master before its last offset was reported: unknown."""
        self.back(history_lines(NEW_HISTORY, 230))
        self.assertEqual(("unknown", None), self.verdict()[:2])

    def test_copied_after_an_older_offset(self) -> None:
        """Of a process that reported more as a master and then copied everything, a lower bound is known."""
        self.back(history_lines(OLD_HISTORY, 290), obeys=False, seconds=5)
        self.old.extra, self.old.obeys = history_lines(NEW_HISTORY, 300), True
        self.fixture.wait(40_000, 100)
        self.assertEqual(("lost", 90), self.verdict()[:2])
        self.assertIn("at least", str(self.verdict()[3]))

    def test_restarted(self) -> None:
        """Another process knows nothing of the last offset of the one before it."""
        self.old.run_id = "9" * 40
        self.back(history_lines("3" * 40, 0))
        code, lost, _, text = self.verdict()
        self.assertEqual(("unknown", None), (code, lost))
        self.assertIn("was restarted", str(text))

    def test_restarted_with_a_later_snapshot(self) -> None:
        """A snapshot that it loaded is later than what the new master has: a lower bound."""
        self.old.run_id = "9" * 40
        self.back(history_lines("3" * 40, 10, OLD_HISTORY, 231))
        self.assertEqual(("lost", 30, 230), self.verdict()[:3])

    def test_restarted_as_replica(self) -> None:
        """A process that was restarted as a replica has the offset of its snapshot under the old ID."""
        self.old.run_id = "9" * 40
        self.old.role, self.old.follows = "slave", SECOND
        self.back(history_lines(OLD_HISTORY, 260))
        self.assertEqual(("lost", 60, 260), self.verdict()[:3])

    def test_one_verdict(self) -> None:
        """There is one verdict, and the old master is no longer awaited once the synchronizations are counted."""
        self.back(history_lines(OLD_HISTORY, 290))
        self.fork_at(FORK, full=5, partial=2)
        self.fixture.wait(RESYNC_DELAY + 20_000, 100)
        self.assertEqual(1, len(self.compared()))
        (counted,) = self.compared(JournalKind.RESYNCS)
        self.assertEqual((("partial", 1), ("full", 2)), counted.data)
        self.assertFalse(self.fixture.core.state.comparisons.active)

    def test_counted_without_verdict(self) -> None:
        """If the old master does not return, the synchronizations are counted after a minute."""
        self.fork_at(FORK, full=4, partial=1)
        self.fixture.wait(UNDECIDED_DELAY + 25_000, 200)
        (counted,) = self.compared(JournalKind.RESYNCS)
        self.assertEqual((("partial", 0), ("full", 1)), counted.data)

    def test_removed(self) -> None:
        """A master that is removed awaits nothing."""
        self.fixture.core.administration.remove("mymaster", self.fixture.now)
        self.assertFalse(self.fixture.core.state.comparisons.active)


class HandoverTests(SynchronousTestCase):
    """Old masters that follow their successor before this Sentinel records the switch."""

    def group(self) -> Fixture:
        """Set up a healthy master with a replica."""
        fixture = Fixture()
        fixture.servers[MASTER].extra = history_lines(OLD_HISTORY, FORK)
        fixture.add_replica(2, offset=FORK, run_id="e" * 40, extra=history_lines(OLD_HISTORY, FORK))
        fixture.add_peer("b")
        fixture.wait(12_000, 50)
        return fixture

    def verdict(self, fixture: Fixture) -> list[str | None]:
        """Return the codes of the verdicts."""
        kind = JournalKind.DATA_COMPARED
        return [each.code for each in fixture.core.journal.entries("mymaster") if each.kind is kind]

    def hand_over(self, fixture: Fixture, *servers: Address) -> None:
        """Let servers report the roles after a hand-over, and this Sentinel read that."""
        old, new = fixture.servers[MASTER], fixture.servers[SECOND]
        if MASTER in servers:
            old.role, old.follows, old.extra = "slave", SECOND, history_lines(NEW_HISTORY, 230, OLD_HISTORY, FORK + 1)
        if SECOND in servers:
            new.role, new.extra = "master", history_lines(NEW_HISTORY, 230, OLD_HISTORY, FORK + 1)
        fixture.wait(10_500, 50)

    def test_both_were_seen(self) -> None:
        """Both servers have the new history when the switch is recorded."""
        fixture = self.group()
        self.hand_over(fixture, MASTER, SECOND)
        fixture.hello("b", SECOND, 4)
        fixture.wait(12_000, 50)
        self.assertEqual(["none"], self.verdict(fixture))

    def test_old_master_was_seen(self) -> None:
        """Only the old master was seen with the new history when the switch is recorded."""
        fixture = self.group()
        self.hand_over(fixture, MASTER)
        fixture.hello("b", SECOND, 4)
        self.hand_over(fixture, SECOND)
        fixture.wait(12_000, 50)
        self.assertEqual(["none"], self.verdict(fixture))

    def test_neither_was_seen(self) -> None:
        """Neither was."""
        fixture = self.group()
        fixture.hello("b", SECOND, 4)
        self.hand_over(fixture, MASTER, SECOND)
        fixture.wait(12_000, 50)
        self.assertEqual(["none"], self.verdict(fixture))
