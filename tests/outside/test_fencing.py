"""A master that only a minority of the Sentinels, and some clients, can reach; with ``fence-isolated`` and without."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.server_checks import pause_problems
from tests.outside.cluster import Cluster, Setting
from tests.outside.plan import MASTER, Fault, FaultType, both
from tests.outside.rounds import Result, RoundRunner
from tests.servers import Harness, missing

PARTITION_SECONDS = 8.0
"""Several times down-after and an election, so that most of what an isolated master accepts is written in this time."""

SENTINELS = ("txsentinel", "txsentinel", "txsentinel")


def isolation(setting: Setting) -> Fault:
    """Return the fault: the master, a Sentinel and two writers on one side, all others on the other side."""
    participants = setting.participants
    side = (MASTER, participants.sentinel_names[0], *participants.client_names[:2])
    others = [name for name in participants.nodes + participants.client_names if name not in side]
    return Fault(
        FaultType.PARTITION, 0.0, PARTITION_SECONDS, side, both((one, other) for one in side for other in others)
    )


class IsolatedMasterTests(SynchronousTestCase):
    """Real time: half a minute."""

    if missing("redis"):
        skip = missing("redis")

    def run_round(self, setting: Setting) -> tuple[Result, list[str]]:
        """Run the round; return its result, and the log lines of the Sentinel beside the master about pauses."""
        with Harness() as harness, Cluster(harness, setting) as cluster:
            sentinel = cluster.roles()[setting.participants.sentinel_names[0]]
            result = RoundRunner(cluster).run(1, [isolation(setting)])
            self.assertEqual(result.violations, [])
            self.assertTrue(result.converged)
            for server in cluster.fleet.servers.values():
                self.assertEqual(pause_problems(server), [])
            return result, [line for line in sentinel.log_text().splitlines() if " paused" in line]

    def test_less_is_lost(self) -> None:
        """The guard pauses the writes before others are promoted; no pause is left, and less than half is lost."""
        without, lines = self.run_round(Setting(SENTINELS))
        self.assertEqual(lines, [])
        self.assertGreater(without.lost, 0)
        guarded, lines = self.run_round(Setting(SENTINELS, guards=True))
        self.assertLess(2 * guarded.lost, without.lost, (guarded, without))
        self.assertIn("2 of 3 Sentinels do not answer", lines[0])
        self.assertIn("it is a replica now", lines[-1])
