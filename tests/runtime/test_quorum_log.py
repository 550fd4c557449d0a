"""Log lines about Sentinels with different quorums."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import PEER_IDS, FakeView, healthy_master, instant
from txsentinel.model.comparison import Difference, DifferenceKind, GroupComparison
from txsentinel.model.events import Level
from txsentinel.model.snapshots import Endpoint
from txsentinel.runtime.quorum_log import MIN_PERIOD_MS, QuorumLog

FIRST, SECOND = PEER_IDS[:2]
PLACE = Endpoint("10.0.0.12", 26379)
PERIOD = 60.0


class ScriptedView(FakeView):
    """A view whose comparisons are set by a test."""

    answer: GroupComparison | Exception

    def compare_group(self, name: str) -> Deferred[GroupComparison]:
        """Return what was set."""
        self.compared.append(name)
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        return succeed(replace(self.answer, master=name))


class QuorumLogTests(SynchronousTestCase):
    """One master with two other Sentinels."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lines: list[tuple[Level, str]] = []
        self.start(healthy_master())

    def start(self, *masters: object) -> None:
        """Start a log over masters."""
        self.view = ScriptedView(*masters)  # type: ignore[arg-type]
        self.log = QuorumLog(self.clock, self.view, lambda: 10_000, lambda *line: self.lines.append(line))
        self.log.startService()
        self.found()

    def found(self, *quorums: tuple[str, str], missing: tuple[tuple[str, str], ...] = ()) -> None:
        """Set the answer of the next comparison: the quorums of other Sentinels that differ from 2."""
        differences = tuple(
            Difference(peer, PLACE, DifferenceKind.QUORUM, "quorum", "2", quorum) for peer, quorum in quorums
        )
        lost = {peer for peer, _ in missing}
        compared = tuple(each for each in (FIRST, SECOND) if each not in lost)
        self.view.answer = GroupComparison("", instant(60), compared, missing, differences)

    def pass_period(self) -> list[str]:
        """Let one period pass; return the new lines."""
        self.lines.clear()
        self.clock.advance(PERIOD)
        return [text for _, text in self.lines]

    def test_difference(self) -> None:
        """A difference is logged once, with both numbers, the Sentinel and the remedy; its end is logged, too."""
        self.assertEqual(self.pass_period(), [])
        self.found((FIRST, "3"))
        (line,) = self.pass_period()
        self.assertEqual(self.lines[0][0], Level.WARNING)
        self.assertIn("The quorum of master mymaster is 2 here, and 3 at the Sentinel 10.0.0.12:26379.", line)
        self.assertIn("SENTINEL SET mymaster quorum 2", line)
        self.assertEqual(self.pass_period(), [])
        self.found((FIRST, "4"), (SECOND, "3"))
        self.assertEqual(len(self.pass_period()), 2)
        self.found((SECOND, "3"))
        self.assertEqual(self.pass_period(), [f"The quorum of master mymaster is that of Sentinel {FIRST[:8]} again"])

    def test_silent_sentinel(self) -> None:
        """A Sentinel that does not answer still differs: nothing is logged, then and when it answers again."""
        self.found((FIRST, "3"))
        self.assertEqual(len(self.pass_period()), 1)
        self.found(missing=((FIRST, "no answer in time"),))
        self.assertEqual(self.pass_period(), [])
        self.found((FIRST, "3"))
        self.assertEqual(self.pass_period(), [])

    def test_other_differences(self) -> None:
        """Only quorums are reported."""
        difference = Difference(FIRST, PLACE, DifferenceKind.OPTIONS, "parallel-syncs", "1", "2")
        self.view.answer = GroupComparison("", instant(60), (FIRST,), (), (difference,))
        self.assertEqual(self.pass_period(), [])

    def test_refusal(self) -> None:
        """After a refusal the master is not asked about again."""
        self.found(missing=((FIRST, "NOPERM this user has no permissions"),))
        self.pass_period()
        self.pass_period()
        self.assertEqual(self.view.compared, ["mymaster"])

    def test_removed_master(self) -> None:
        """A master that is removed meanwhile is no problem."""
        self.view.answer = LookupError("mymaster")
        self.assertEqual(self.pass_period(), [])
        self.assertEqual(self.pass_period(), [])
        self.assertEqual(len(self.view.compared), 2)

    def test_many_masters(self) -> None:
        """Each is asked about in turn, one at a time."""
        self.log.stopService()
        self.start(*(healthy_master(f"m{number}") for number in range(30)))
        self.clock.pump([MIN_PERIOD_MS / 1000] * 45)
        self.assertEqual(len(self.view.compared), 44, "the first question comes after an INFO period")
        self.assertEqual(sorted(self.view.compared[:30]), sorted(self.view.names()))

    def test_stop(self) -> None:
        """Nothing is asked after the end."""
        self.log.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
