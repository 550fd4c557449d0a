"""A replica that does not permit the Sentinels to promote it: another one is promoted at once."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, shorten_periods, wait_event
from tests.servers import EventRecorder, Fleet, Harness, missing, pairs, wait_for


class RefusedPromotionTests(SynchronousTestCase):
    """One master with two replicas under three Sentinels."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_the_other_is_promoted(self) -> None:
        """The preferred replica refuses SLAVEOF: the failover does not last until failover-timeout."""
        with Harness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3, "redis", down_after=1_000, failover_timeout=600_000)
            fleet.start(SECONDS)
            recorder = EventRecorder(fleet.ports).start()
            self.addCleanup(recorder.stop)
            master = fleet.master()
            first, second = (server for server in fleet.servers.values() if server is not master)
            first.call("CONFIG", "SET", "replica-priority", 10)
            first.call("ACL", "SETUSER", "default", "-slaveof")
            shorten_periods(fleet.sentinels)

            def preferred() -> bool:
                replies = [sentinel.call("SENTINEL", "REPLICAS", fleet.name) for sentinel in fleet.sentinels]
                shown = [pairs(entry) for reply in replies for entry in reply]  # type: ignore[union-attr]
                return all(entry["slave-priority"] == "10" for entry in shown if entry["port"] == str(first.port))

            wait_for(preferred, SECONDS, "the priority to be known")
            started_at = time.monotonic()
            master.kill()
            moved = wait_event(recorder, started_at, "+promoted-slave", {elected_leader(recorder, started_at)})
            selected = [event.payload.split()[3] for event in recorder.since(started_at, "+selected-slave")]
            self.assertEqual(selected, [str(first.port), str(second.port)])
            self.assertEqual(moved[0].payload.split()[3], str(second.port))
            wait_for(lambda: fleet.master_port() == second.port, SECONDS, "agreement")


def elected_leader(recorder: EventRecorder, since: float) -> str:
    """Wait for a leader; return its name."""
    recorder.wait_for(
        lambda events: any(event.channel == "+elected-leader" and event.at >= since for event in events),
        SECONDS,
        "a leader",
    )
    return recorder.since(since, "+elected-leader")[0].sentinel
