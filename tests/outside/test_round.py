"""One round with real processes; ``python -m tests.outside`` runs any number of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.outside.cluster import Cluster, Setting
from tests.outside.plan import MASTER, SENTINEL_ERRORS, Fault, FaultType, both
from tests.outside.rounds import Result, RoundRunner
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


class GuardedRoundTests(SynchronousTestCase):
    """
    The faults that the settings beyond those of C Sentinels are for, one after the other in one installation;
    ``test_fencing`` has the isolated master.

    Real time: some thirty seconds.
    """

    if missing("redis"):
        skip = missing("redis")

    def test_faults(self) -> None:
        """
        Sentinels that may not log in replace nobody; a closed port and an empty restart lead to one failover each, and
        no server loses what all had; the servers are in order after each.
        """
        setting = Setting(("txsentinel",) * 3, guards=True)
        names = setting.participants
        rejected = tuple((sentinel, MASTER) for sentinel in names.sentinel_names)
        with Harness() as harness, Cluster(harness, setting) as cluster:
            runner = RoundRunner(cluster)

            def run(number: int, fault: Fault) -> Result:
                result = runner.run(number, [fault])
                self.assertEqual(result.violations, [], str(fault))
                self.assertEqual((result.needless_failovers, result.lost_earlier), (0, 0), str(fault))
                self.assertGreater(result.acknowledged, 0)
                return result

            result = run(1, Fault(FaultType.REJECT, 0.0, 3.0, (MASTER,), rejected, error=SENTINEL_ERRORS[0]))
            self.assertEqual((result.promotions, result.lost), (0, 0))
            result = run(2, Fault(FaultType.EMPTY_RESTART, 0.0, 2.0, (MASTER,)))
            self.assertEqual(result.promotions, 1)
            result = run(3, Fault(FaultType.CLOSE_PORT, 0.0, 7.0, (MASTER,)))
            self.assertEqual(result.promotions, 1)
