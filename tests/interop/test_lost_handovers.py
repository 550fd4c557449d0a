"""A Sentinel that dies after the servers exchanged their roles by its command, and before it published the switch."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, shorten_periods
from tests.servers import Fleet, Harness, missing, wait_for


class LostHandoverTests(SynchronousTestCase):
    """One master with two replicas under three Sentinels."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def test_published_by_the_others(self) -> None:
        """
        The others have just voted for it, but need not wait for two failover-timeouts: a new master exists already.
        """
        with Harness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", down_after=1_000, failover_timeout=600_000)
            fleet.start(SECONDS)
            leader, *others = fleet.sentinels
            old = fleet.master()
            leader.call("SENTINEL", "SIMULATE-FAILURE", "crash-after-promotion")
            leader.call("SENTINEL", "FAILOVER", "mymaster", "COORDINATED")
            wait_for(lambda: not leader.running, SECONDS, "the crash")
            new = next(server for server in fleet.servers.values() if server.replication()["role"] == "master")
            self.assertIsNot(new, old)
            for sentinel in others:
                wait_for(lambda: fleet.master_seen_by(sentinel) == new.port, SECONDS, "the new master")  # noqa: B023
            self.assertEqual(new.replication()["role"], "master")
            leader.start(keep_config=True)
            shorten_periods(fleet.sentinels)
            fleet.wait_quiet(SECONDS)
            self.assertIs(fleet.master(), new)
