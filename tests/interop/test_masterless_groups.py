"""A master that is ordered to follow its own replica: its group has no master, and gets one."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, shorten_periods, wait_event
from tests.servers import EventRecorder, Fleet, Harness, missing, wait_for


class MasterlessTests(SynchronousTestCase):
    """One master with two replicas under three Sentinels."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_replaced(self) -> None:
        """
        It is detected although INFO is rare, or once INFO is due if ROLE is not permitted; the others follow.

        C Sentinels wait for down-after and two INFO periods. With the period set here that is ten minutes.
        """
        with Harness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3, "redis", down_after=1_000, failover_timeout=5_000)
            fleet.start(SECONDS)
            recorder = EventRecorder(fleet.ports).start()
            self.addCleanup(recorder.stop)
            for role_permitted, info_period in ((True, 300_000), (False, 2_000)):
                if not role_permitted:
                    for server in fleet.servers.values():
                        server.call("ACL", "SETUSER", "default", "-role")
                fleet.set_info_period(info_period)
                master = fleet.master()
                replica = next(server for server in fleet.servers.values() if server is not master)
                started_at = time.monotonic()
                master.call("SLAVEOF", "127.0.0.1", replica.port)
                wait_event(recorder, started_at, "+switch-master", fleet.ports)
                shorten_periods(fleet.sentinels)
                fleet.wait_quiet(SECONDS)
                wait_for(lambda: fleet.master().replication()["role"] == "master", SECONDS, "a master")
