"""Sentinels without quorum or majority, and Sentinels that die during their own failover."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import LONG, SECONDS, file_words, listing, shorten_periods, wait_event, wait_moved
from tests.interop.rounds import double_votes
from tests.servers import (
    EventRecorder,
    Fleet,
    Harness,
    RecordedEvent,
    RedisProcess,
    ReplyError,
    SentinelProcess,
    missing,
    wait_for,
)

STEPS = (
    "+try-failover",
    "+elected-leader",
    "+selected-slave",
    "+failover-state-wait-promotion",
    "+promoted-slave",
    "+failover-end",
)
"""Events of a leader upon which it is killed."""

CRASHES = ("crash-after-election", "crash-after-promotion")
CRASH_STATUS = 99


class LeaderKiller:
    """Kills the first Sentinel that publishes a certain event, once per :meth:`arm`."""

    def __init__(self, sentinels: Sequence[SentinelProcess]) -> None:
        self._sentinels = {sentinel.name: sentinel for sentinel in sentinels}
        self._channel = ""
        self.killed: SentinelProcess | None = None

    def arm(self, channel: str) -> None:
        """Kill upon this event."""
        self.killed = None
        self._channel = channel

    def event_received(self, event: RecordedEvent) -> None:
        """Called in the thread of the recorder."""
        if event.channel == self._channel and self.killed is None:
            killed = self._sentinels[event.sentinel]
            os.kill(killed.pid, signal.SIGKILL)
            self.killed = killed


class LostLeaderTests(SynchronousTestCase):
    """Three Sentinels, of which some are stopped, or die as leaders."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def begin(self, stack: ExitStack) -> None:
        """Start everything and wait until it is stable."""
        harness = stack.enter_context(Harness())
        # A vote for another candidate delays the campaigns of the others by twice the failover timeout.
        self.fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", down_after=500, failover_timeout=500)
        self.fleet.start()
        self.leader_killer = LeaderKiller(self.fleet.sentinels)
        self.recorder = EventRecorder(self.fleet.ports, self.leader_killer.event_received).start()
        stack.callback(self.recorder.stop)
        shorten_periods(self.fleet.sentinels)

    def test_missing_and_lost(self) -> None:
        """
        Without quorum and majority nothing is done; with them it is, whichever Sentinel dies in whichever step, and no
        Sentinel votes twice in an epoch.
        """
        with ExitStack() as stack:
            self.begin(stack)
            self.lose_quorum_and_majority()
            for crash in CRASHES:
                self.crash_leader(crash)
            for step in STEPS if LONG else ["+failover-state-wait-promotion"]:
                self.kill_leader(step)

    def wait_stable(self, old: RedisProcess) -> None:
        """Start the old master as a replica, and wait until no Sentinel has a problem to report."""
        self.fleet.revive(old)
        shorten_periods(self.fleet.sentinels)
        self.fleet.wait_quiet(SECONDS)
        self.recorder.wait_subscribed()
        self.assertEqual(double_votes(self.recorder.events), [])

    def lose_quorum_and_majority(self) -> None:
        """
        A dead master stays the master while the quorum is not reached, and while it is reached but no majority can
        vote;
        once the absent Sentinels are back, it is replaced.
        """
        lone, second, third = self.fleet.sentinels
        master = self.fleet.master()
        replicas = [server for server in self.fleet.servers.values() if server is not master]
        for sentinel in self.fleet.sentinels:
            sentinel.call("SENTINEL", "SET", "mymaster", "QUORUM", 3)

        third.kill()
        wait_for(lambda: self.ckquorum(lone).startswith("NOQUORUM 2 usable"), SECONDS, "the loss of a Sentinel")
        began = time.monotonic()
        master.kill()
        wait_event(self.recorder, began, "+sdown", [lone.name, second.name], "master mymaster")
        for sentinel, peer in ((lone, second), (second, lone)):
            wait_for(lambda: self.reports_down(sentinel, peer), SECONDS, "the other one's opinion")  # noqa: B023
        self.assertEqual(self.recorder.since(began, "+odown") + self.recorder.since(began, "+try-failover"), [])

        second.kill()
        lone.call("SENTINEL", "SET", "mymaster", "QUORUM", 1)
        wait_event(self.recorder, began, "+odown", [lone.name])
        wait_event(self.recorder, began, "-failover-abort-not-elected", [lone.name])
        self.assertEqual(self.recorder.since(began, "+elected-leader"), [])
        self.assertEqual(self.fleet.master_seen_by(lone), master.port)
        for replica in replicas:
            self.assertEqual(replica.replication()["role"], "slave")

        for sentinel in (second, third):
            sentinel.start(keep_config=True, ready=False)
        wait_moved(self.fleet, master)
        for sentinel in self.fleet.sentinels:
            sentinel.call("SENTINEL", "SET", "mymaster", "QUORUM", 2)
        self.wait_stable(master)

    def recover(self, old: RedisProcess, leader: SentinelProcess) -> None:
        """
        The others agree on a new master; the lost leader, restarted from its file, agrees with them, and so do all
        servers in the end.
        """
        wait_moved(self.fleet, old)
        leader.start(keep_config=True)
        wait_moved(self.fleet, old)
        self.wait_stable(old)

    def kill_leader(self, step: str) -> None:
        """Kill the leader upon an event of its own: another Sentinel completes the failover."""
        old = self.fleet.master()
        self.leader_killer.arm(step)
        old.kill()
        leader = wait_for(lambda: self.leader_killer.killed, SECONDS, f"a leader to publish {step}")
        leader.kill()
        self.recover(old, leader)

    def crash_leader(self, crash: str) -> None:
        """
        SIMULATE-FAILURE ends the leader with status 99 at the named step. After the promotion its file has the new
        master already, in a new epoch.
        """
        old = self.fleet.master()
        epoch = max(self.fleet.config_epochs().values())
        for sentinel in self.fleet.sentinels:
            self.assertEqual(sentinel.call("SENTINEL", "SIMULATE-FAILURE", crash), "OK")
        old.kill()
        leader = wait_for(self.ended_sentinel, SECONDS, f"a {crash}")
        for sentinel in self.fleet.sentinels:
            if sentinel is not leader:
                with contextlib.suppress(OSError):  # If this is late, the next leader has crashed, too.
                    sentinel.call("SENTINEL", "SIMULATE-FAILURE", "HELP")  # clears them
        self.assertEqual(leader.wait_ended(), CRASH_STATUS)
        for sentinel in self.fleet.sentinels:
            if sentinel is not leader and not sentinel.running:
                sentinel.start(keep_config=True)
        words = file_words(leader.config_path)
        there = next(each[3] for each in words if each[0] == "monitor")
        epoch_there = next(int(each[2]) for each in words if each[0] == "config-epoch")
        promoted = crash == "crash-after-promotion"
        self.assertEqual(there != str(old.port), promoted)
        self.assertEqual(epoch_there > epoch, promoted)
        self.recover(old, leader)

    def ended_sentinel(self) -> SentinelProcess | None:
        """Return the first Sentinel that does not run any more."""
        return next((sentinel for sentinel in self.fleet.sentinels if not sentinel.running), None)

    @staticmethod
    def ckquorum(sentinel: SentinelProcess) -> str:
        """Return the reply of CKQUORUM, or its error."""
        try:
            return str(sentinel.call("SENTINEL", "CKQUORUM", "mymaster"))
        except ReplyError as refusal:
            return str(refusal)

    @staticmethod
    def reports_down(sentinel: SentinelProcess, peer: SentinelProcess) -> bool:
        """Whether the peer has reported to this Sentinel that the master is down."""
        flags = {each["port"]: each["flags"] for each in listing(sentinel, "SENTINELS", "mymaster")}
        return "master_down" in flags[str(peer.port)]
