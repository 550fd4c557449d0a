"""One round with real processes; ``python -m tests.outside`` runs any number of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.outside.cluster import Cluster, Setting
from tests.outside.plan import MASTER, Fault, FaultType, both
from tests.outside.rounds import RoundRunner
from tests.servers import Harness, missing

SETTING = Setting(("txsentinel", "txsentinel", "redis"))


class RoundTests(SynchronousTestCase):
    """Real time: some fifteen seconds."""

    if missing("redis"):
        skip = missing("redis")

    def test_isolated_master(self) -> None:
        """An isolated master and a slow Sentinel: all agree afterwards, and no invariant is violated."""
        participants = SETTING.participants
        others = [name for name in participants.nodes + participants.client_names if name != MASTER]
        plan = [
            Fault(FaultType.PARTITION, 0.0, 4.5, (MASTER,), both((MASTER, other) for other in others)),
            Fault(
                FaultType.DELAY,
                0.5,
                2.0,
                ("sentinel-3",),
                both(("sentinel-3", node) for node in participants.nodes[:3]),
                0.1,
            ),
        ]
        with Harness() as harness, Cluster(harness, SETTING) as cluster:
            result = RoundRunner(cluster).run(1, plan)
            self.assertEqual(result.violations, [])
            self.assertTrue(result.converged)
            self.assertGreater(result.acknowledged, 0)
            # Every writer had a write in progress, or was about to start one, when the master was isolated.
            self.assertGreater(result.unknown, 0)
