"""Pauses of automatic failovers over real servers and C Sentinels: a master dies meanwhile."""

from __future__ import annotations

import time
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, switches, wait_event
from tests.servers import EventRecorder, Fleet, Harness, SentinelProcess, missing

RENEWALS = 2
"""Votes of each C Sentinel that are awaited; without renewal, it would fail over before the last of them."""


PERIOD_MS = 1_000
MARGIN = 0.1
"""Seconds by which a clock that is read in whole milliseconds, by several processes, may differ."""


def mapping(reply: object) -> dict[str, Any]:
    """Return a map of RESP2."""
    assert isinstance(reply, list), reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


class PauseTests(SynchronousTestCase):
    """Groups with a failover-timeout of 1.5 s, so a vote holds a C Sentinel for 3 s."""

    def group(self, *kinds: str) -> Fleet:
        """Start a group."""
        reason = missing("redis", *sorted(set(kinds)))
        if reason:
            raise SkipTest(reason)
        harness = Harness()
        self.addCleanup(harness.close)
        fleet = Fleet(harness, kinds, down_after=500, failover_timeout=1500, quorum=2)
        fleet.start()
        self.recorder = EventRecorder(fleet.ports).start()
        self.addCleanup(self.recorder.stop)
        return fleet

    @staticmethod
    def by_id(fleet: Fleet) -> list[SentinelProcess]:
        """Return the Sentinels of our kind; the first holds the leases."""
        ours = [sentinel for sentinel in fleet.sentinels if sentinel.kind == "txsentinel"]
        return sorted(ours, key=lambda sentinel: str(sentinel.call("SENTINEL", "MYID")))

    def kill_master(self, fleet: Fleet) -> float:
        """Kill the master, and wait until all agree that it is down; return the time before."""
        since = time.monotonic()
        fleet.master().kill()
        wait_event(self.recorder, since, "+odown", fleet.ports)
        return since

    @staticmethod
    def pause_of(sentinel: SentinelProcess) -> dict[str, Any]:
        """Return the only pause that a Sentinel has."""
        reply = sentinel.call("TXSENTINEL", "PAUSED")
        assert isinstance(reply, list), reply
        (pause,) = reply
        return mapping(pause)

    def test_beside_c(self) -> None:
        """C Sentinels do not fail over while their votes are renewed, also after the holder was killed."""
        fleet = self.group("txsentinel", "txsentinel", "redis", "valkey")
        holder, other = self.by_id(fleet)
        theirs = {sentinel.name for sentinel in fleet.sentinels} - {holder.name, other.name}
        pause = mapping(other.call("TXSENTINEL", "PAUSE", "mymaster", "FOR", 60_000, "REASON", "new kernel"))
        self.assertEqual((pause["guaranteed"], pause["reason"]), (1, "new kernel"))
        since = self.kill_master(fleet)
        self.wait_renewed(theirs, since)
        self.assertTrue(self.pause_of(other)["guaranteed"])
        holder.kill()
        self.wait_renewed(theirs, time.monotonic())
        self.assertEqual(switches(self.recorder, since, "mymaster"), {})
        self.assertTrue(self.pause_of(other)["guaranteed"])
        before = time.monotonic()
        found = mapping(other.call("TXSENTINEL", "RESUME", "mymaster"))
        self.assertEqual(found["resumed"], 1)
        self.assertGreater(found["residual_until"], 0)
        wait_event(self.recorder, before, "+switch-master", [*theirs, other.name])

    def wait_renewed(self, theirs: set[str], since: float) -> None:
        """Wait until each C Sentinel has voted several times."""

        def renewed() -> bool:
            votes = [event.sentinel for event in self.recorder.since(since, "+vote-for-leader")]
            return all(votes.count(name) > RENEWALS for name in theirs)

        self.recorder.wait_for(lambda events: renewed(), SECONDS, "renewed votes")

    def test_ours_alone(self) -> None:
        """A Sentinel that was killed is paused again after its start; a failover begins when the pause ends."""
        fleet = self.group("txsentinel", "txsentinel", "txsentinel")
        first, second, _ = self.by_id(fleet)
        pause = mapping(second.call("TXSENTINEL", "PAUSE", "*", "FOR", 60_000))
        self.assertEqual(pause["guaranteed"], 1)
        for sentinel in fleet.sentinels:
            self.assertIn("#: txsentinel pause * ", sentinel.config_path.read_text())
        since = self.kill_master(fleet)
        first.kill()
        first.start(keep_config=True)
        for sentinel in fleet.sentinels:
            found = self.pause_of(sentinel)
            self.assertEqual((found["id"], found["master"]), (pause["id"], "*"))
        self.assertEqual(switches(self.recorder, since, "mymaster"), {})
        end = time.monotonic() + PERIOD_MS / 1000
        second.call("TXSENTINEL", "PAUSE", "*", "FOR", PERIOD_MS, "REQUIRE", "best-effort")
        wait_event(self.recorder, since, "+switch-master", [second.name])
        self.assertGreater(min(event.at for event in self.recorder.since(since, "+switch-master")), end - MARGIN)
        self.assertNotIn("#: txsentinel pause", second.config_path.read_text())
