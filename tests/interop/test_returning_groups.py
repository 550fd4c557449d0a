"""A master and its replicas are stopped and continue together: Sentinels of ours replace none of them."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import LONG, SECONDS, shorten_periods, wait_event
from tests.servers import EventRecorder, Fleet, Harness, missing

DOWN_AFTER = 2_000
OFFSETS = (0.0, 0.05, 0.2, 0.5, 1.0, -0.5) if LONG else (0.0, 0.2)
"""Seconds by which the replicas continue before the master."""

MAX_LATENESS = 0.3
"""Seconds; a replica that continues so much earlier than its master may be promoted."""


class ReturningGroupTests(SynchronousTestCase):
    """One master with two replicas under three Sentinels."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_no_failover(self) -> None:
        """The master is O_DOWN everywhere; once it is back, with its replicas or after them, nothing has changed."""
        with Harness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3, "redis", down_after=DOWN_AFTER, failover_timeout=5_000)
            fleet.start(SECONDS)
            recorder = EventRecorder(fleet.ports).start()
            self.addCleanup(recorder.stop)
            shorten_periods(fleet.sentinels)
            master = fleet.master()
            replicas = [server for server in fleet.servers.values() if server is not master]
            for offset in OFFSETS:
                fleet.wait_quiet(SECONDS)
                started_at = time.monotonic()
                for server in fleet.servers.values():
                    server.freeze()
                wait_event(recorder, started_at, "+odown", fleet.ports)
                first, last = (replicas, [master]) if offset >= 0 else ([master], replicas)
                continued_at = time.monotonic()
                for server in first:
                    server.thaw()
                time.sleep(abs(offset))
                for server in last:
                    server.thaw()
                if time.monotonic() - continued_at > abs(offset) + MAX_LATENESS:
                    self.skipTest("this machine is too busy: the servers did not continue together")
                wait_event(recorder, started_at, "-odown", fleet.ports)
                fleet.wait_quiet(SECONDS)
                self.assertEqual(recorder.since(started_at, "+promoted-slave"), [], f"{offset} s")
                self.assertEqual(fleet.master_port(), master.port)
