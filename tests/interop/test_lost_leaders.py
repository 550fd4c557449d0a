"""Sentinels that are not enough to decide anything, and Sentinels that die in the middle of their own failover."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import LONG, SECONDS, file_words, hurry, listing, wait_event, wait_moved
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
    """Kills the first Sentinel that publishes a certain event, as soon as it is heard; once per contract."""

    def __init__(self, sentinels: Sequence[SentinelProcess]) -> None:
        self._sentinels = {sentinel.name: sentinel for sentinel in sentinels}
        self._channel = ""
        self.victim: SentinelProcess | None = None

    def arm(self, channel: str) -> None:
        """Kill upon this event."""
        self.victim = None
        self._channel = channel

    def event_received(self, event: RecordedEvent) -> None:
        """Called in the thread of the recorder."""
        if event.channel == self._channel and self.victim is None:
            victim = self._sentinels[event.sentinel]
            os.kill(victim.pid, signal.SIGKILL)
            self.victim = victim


class LostLeaderTests(SynchronousTestCase):
    """Three Sentinels, of which some are missing, or die while they lead."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def begin(self, stack: ExitStack) -> None:
        """Everything runs and is at rest."""
        harness = stack.enter_context(Harness())
        # A vote for somebody else keeps the others from standing for twice the failover timeout.
        self.fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", down_after=500, failover_timeout=500)
        self.fleet.start()
        self.leader_killer = LeaderKiller(self.fleet.sentinels)
        self.recorder = EventRecorder(self.fleet.ports, self.leader_killer.event_received).start()
        stack.callback(self.recorder.stop)
        hurry(self.fleet.sentinels)

    def test_missing_and_lost(self) -> None:
        """
        Without quorum and majority nothing is done; with them it is, whoever of the Sentinels dies at
        whatever step, and nobody votes twice in an epoch.
        """
        with ExitStack() as stack:
            self.begin(stack)
            self.go_without_quorum_and_majority()
            for crash in CRASHES:
                self.crash_leader(crash)
            for step in STEPS if LONG else ["+failover-state-wait-promotion"]:
                self.kill_leader(step)

    def wait_stable(self, old: RedisProcess) -> None:
        """Start the old master as a replica, and wait until nobody has anything to complain of."""
        self.fleet.revive(old)
        hurry(self.fleet.sentinels)
        self.fleet.wait_quiet(SECONDS)
        self.recorder.wait_subscribed()
        self.assertEqual(double_votes(self.recorder.events), [])

    def go_without_quorum_and_majority(self) -> None:
        """
        A master that is dead stays the master where the quorum is not reached, and where it is reached but
        no majority can vote; once the absent Sentinels are back, it is replaced.
        """
        lone, second, third = self.fleet.sentinels
        master = self.fleet.master()
        replicas = [server for server in self.fleet.servers.values() if server is not master]
        for sentinel in self.fleet.sentinels:
            sentinel.call("SENTINEL", "SET", "mymaster", "QUORUM", 3)

        third.kill()
        wait_for(lambda: self.checked(lone).startswith("NOQUORUM 2 usable"), SECONDS, "the loss of a Sentinel")
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
        The others agree on a new master; the lost leader, back from its file, agrees with them, and so do
        all servers in the end.
        """
        wait_moved(self.fleet, old)
        leader.start(keep_config=True)
        wait_moved(self.fleet, old)
        self.wait_stable(old)

    def kill_leader(self, step: str) -> None:
        """Kill the leader upon an event of its own: some other Sentinel finishes the job."""
        old = self.fleet.master()
        self.leader_killer.arm(step)
        old.kill()
        leader = wait_for(lambda: self.leader_killer.victim, SECONDS, f"somebody to say {step}")
        leader.kill()
        self.recover(old, leader)

    def crash_leader(self, crash: str) -> None:
        """
        SIMULATE-FAILURE ends the leader with status 99 at the step that it names. After the promotion its
        file has the new master already, in a new epoch.
        """
        old = self.fleet.master()
        epoch = max(self.fleet.config_epochs().values())
        for sentinel in self.fleet.sentinels:
            self.assertEqual(sentinel.call("SENTINEL", "SIMULATE-FAILURE", crash), "OK")
        old.kill()
        leader = wait_for(self.fallen, SECONDS, f"a {crash}")
        for sentinel in self.fleet.sentinels:
            if sentinel is not leader:
                sentinel.call("SENTINEL", "SIMULATE-FAILURE", "HELP")  # clears them
        self.assertEqual(leader.wait_ended(), CRASH_STATUS)
        words = file_words(leader.config_path)
        there = next(each[3] for each in words if each[0] == "monitor")
        epoch_there = next(int(each[2]) for each in words if each[0] == "config-epoch")
        promoted = crash == "crash-after-promotion"
        self.assertEqual(there != str(old.port), promoted)
        self.assertEqual(epoch_there > epoch, promoted)
        self.recover(old, leader)

    def fallen(self) -> SentinelProcess | None:
        """The first Sentinel that does not run any more."""
        return next((sentinel for sentinel in self.fleet.sentinels if not sentinel.running), None)

    @staticmethod
    def checked(sentinel: SentinelProcess) -> str:
        """What CKQUORUM says, be it good or bad."""
        try:
            return str(sentinel.call("SENTINEL", "CKQUORUM", "mymaster"))
        except ReplyError as refusal:
            return str(refusal)

    @staticmethod
    def reports_down(sentinel: SentinelProcess, peer: SentinelProcess) -> bool:
        """Has the peer told this Sentinel that it finds the master down?"""
        flags = {each["port"]: each["flags"] for each in listing(sentinel, "SENTINELS", "mymaster")}
        return "master_down" in flags[str(peer.port)]
