"""The events of a manual failover: their set and their order are those of the C Sentinels."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, wait_event
from tests.servers import EventRecorder, Fleet, Harness, missing

LEADER = [
    "+new-epoch",
    "+try-failover",
    "+vote-for-leader",
    "+elected-leader",
    "+failover-state-select-slave",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
    "-role-change",
    "+promoted-slave",
    "+failover-state-reconf-slaves",
    "+slave-reconf-sent",
    "+slave-reconf-inprog",
    "+slave-reconf-done",
    "+failover-end",
    "+switch-master",
    "+slave",
    "+slave",
]
OBSERVER = ["+new-epoch", "+config-update-from", "+switch-master", "+slave", "+slave"]


class ManualFailoverTests(SynchronousTestCase):
    """One master with two replicas under three Sentinels of one kind."""

    def events_of(self, kind: str) -> None:
        """Order a failover; return what the leader and the others publish until they have switched."""
        with Harness() as harness:
            fleet = Fleet(harness, [kind] * 3, "redis", down_after=5_000, failover_timeout=20_000)
            fleet.start(SECONDS)
            recorder = EventRecorder(fleet.ports).start()
            self.addCleanup(recorder.stop)
            started_at = time.monotonic()
            leader = fleet.sentinels[0]
            leader.call("SENTINEL", "FAILOVER", fleet.name)
            wait_event(recorder, started_at, "+switch-master", fleet.ports)
            old = str(next(iter(fleet.servers)))
            wait_event(recorder, started_at, "+slave", fleet.ports, f"127.0.0.1:{old} ")
            for sentinel in fleet.sentinels:
                channels = [event.channel for event in recorder.since(started_at) if event.sentinel == sentinel.name]
                if sentinel is leader:
                    self.assertEqual(channels[: len(LEADER)], LEADER)
                else:
                    # Votes are requested here, although the manual failover does not need them.
                    voted = [channel for channel in channels if channel != "+vote-for-leader"]
                    self.assertEqual(voted[: len(OBSERVER)], OBSERVER)

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_ours(self) -> None:
        """Sentinels of ours publish the expected events."""
        self.events_of("txsentinel")

    def test_c(self) -> None:
        """So do C Sentinels."""
        self.events_of("redis")
