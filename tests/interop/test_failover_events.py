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

    def run_row(self, kind: str) -> None:
        """Order a failover; what the leader and the others announce until they have switched."""
        with Harness() as harness:
            fleet = Fleet(harness, [kind] * 3, "redis", down_after=5_000, failover_timeout=20_000)
            fleet.start(SECONDS)
            recorder = EventRecorder(fleet.ports).start()
            self.addCleanup(recorder.stop)
            began = time.monotonic()
            leader = fleet.sentinels[0]
            leader.call("SENTINEL", "FAILOVER", fleet.name)
            wait_event(recorder, began, "+switch-master", fleet.ports)
            old = str(next(iter(fleet.servers)))
            wait_event(recorder, began, "+slave", fleet.ports, f"127.0.0.1:{old} ")
            for sentinel in fleet.sentinels:
                event_received = [event.channel for event in recorder.since(began) if event.sentinel == sentinel.name]
                if sentinel is leader:
                    self.assertEqual(event_received[: len(LEADER)], LEADER)
                else:
                    # Here votes are asked for, although the order does without them.
                    voted = [channel for channel in event_received if channel != "+vote-for-leader"]
                    self.assertEqual(voted[: len(OBSERVER)], OBSERVER)

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_ours(self) -> None:
        """As it should be."""
        self.run_row("txsentinel")

    def test_c(self) -> None:
        """And is, with C."""
        self.run_row("redis")
