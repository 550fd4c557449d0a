"""Switchovers that are broken at a step: no receipt claims what is not so, and a fence survives its leader."""

from __future__ import annotations

from itertools import islice

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core import switchover_state
from txsentinel.model.receipt import Fence, Judgement, NewMaster, OldMaster, ReceiptVerdict, judge
from txsentinel.model.snapshots import Instant
from txsentinel.sim import switchover_crashes
from txsentinel.sim.redis.replication import FAILOVER_IN_PROGRESS, Replication
from txsentinel.sim.switchover_crashes import Case, CaseRun, cases, run_case

LEADERS = (
    ("fence", "caught_up", "leader-kill", 1),
    ("fence", "writes_held", "leader-kill", 100),
    ("fence", "hold_extended", "cut-leader-old", 100),
    ("handover", "promotion_ordered", "leader-power", 1),
)
"""Cases in which writes were lost while a fence ended too soon, or was not known to the other Sentinels."""


class CrashTests(SynchronousTestCase):
    """A bounded part of the table; ``python -m txsentinel.sim switchovers --cases 10000`` runs many."""

    def test_leaders(self) -> None:
        """No acknowledged write is lost if the leader dies or is cut off, at any step of these."""
        for method, step, fault, seed in LEADERS:
            outcome = run_case(Case(seed, method, step, fault))
            self.assertTrue(outcome.reached, outcome)
            self.assertEqual((outcome.wrong, outcome.lost), ([], 0), outcome)
            self.assertGreater(outcome.acknowledged, 100)

    def test_returned_master(self) -> None:
        """
        An old master whose own FAILOVER ends with it as a master again is ordered to follow, and proves nothing.

        The receipt once took the history that it had begun for that of the new master.
        """
        connect = Replication.connect_to_master

        def connect_for_a_moment(replication: Replication) -> None:
            connect(replication)
            if replication.failover_state == FAILOVER_IN_PROGRESS:
                # The periodic call gives this connection up, and the next PSYNC is refused, as the roles have changed.
                replication.last_io = 0.0

        self.patch(Replication, "connect_to_master", connect_for_a_moment)
        outcome = run_case(Case(6001, "handover", "promotion_ordered", "candidate-stop"))
        self.assertEqual(outcome.wrong, [])
        self.assertNotEqual(outcome.verdict, "proven")

    def test_table(self) -> None:
        """The table has every step with every fault, and no case is repeated before all have had their turn."""
        table = list(islice(cases(), 1080))
        self.assertEqual(len(set(table)), 1080)
        self.assertEqual({case.seed for case in table}, {1})

    def test_settings(self) -> None:
        """A scheduled switchover, one beside C Sentinels, and one that is cancelled leave everything in order."""
        for case in (
            Case(1, "fence", "scheduled", "cancel", "scheduled"),
            Case(1, "fence", "hold_extended", "leader-kill", "scheduled"),
            Case(1, "fence", "promotion_ordered", "leader-kill", "c-peers"),
            Case(1, "fence", "writes_held", "cancel"),
            # Another Sentinel restored the settings of the old master too soon.
            Case(3000, "reject", "promoted", "leader-kill", "scheduled"),
        ):
            outcome = run_case(case)
            self.assertTrue(outcome.reached, outcome)
            self.assertEqual((outcome.wrong, outcome.lost), ([], 0), outcome)

    def test_order(self) -> None:
        """Writes that are still held, and another priority, are found out."""
        run = CaseRun(Case(1, "fence", "demoted", "cancel"))
        server = run.fleet.servers[1]

        def spoil() -> None:
            server.configure({"replica-priority": "7"})
            server.pause_clients(100_000, writes_only=True)

        run.fleet.simulation.call_later(12.0, spoil)
        text = "; ".join(run.run().wrong)
        self.assertIn("order: the settings of m1r2 are {'replica-priority': '7'}", text)
        self.assertIn("order: the writes of m1r2 are held", text)

    def test_loss(self) -> None:
        """Another client that ends the pause makes the old master accept writes that are lost: the receipt has them."""
        outcome = run_case(Case(1, "fence", "promotion_ordered", "old-unpause"))
        self.assertEqual((outcome.wrong, outcome.verdict), ([], "lost"))
        self.assertGreater(outcome.lost, 0)

    def test_wrong_receipt(self) -> None:
        """A receipt that ignores the last offset of the old master is found out."""

        def credulous(old: OldMaster, new: NewMaster, fence: Fence, demoted_at: Instant | None) -> Judgement:
            """Judge without the last offset of the old master."""
            same = OldMaster(old.address, old.replid, old.offset_at_fence, old.offset_at_fence)
            return judge(same, new, fence, demoted_at)

        self.patch(switchover_state, "judge", credulous)
        outcome = run_case(Case(1, "fence", "promotion_ordered", "old-unpause"))
        self.assertEqual(outcome.verdict, ReceiptVerdict.PROVEN.value)
        self.assertEqual([what.partition(":")[0] for what in outcome.wrong], ["receipts"])
        self.assertIn("receipts", str(switchover_crashes.__doc__))
