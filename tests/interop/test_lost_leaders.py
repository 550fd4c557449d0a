"""Sentinels that are not enough to decide anything, and Sentinels that die in the middle of their own failover."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.rounds import double_votes
from tests.interop.scenes import LONG, SECONDS, file_words, hurry, listing, wait_heard, wait_moved
from tests.servers import (
    EventRecorder,
    Fleet,
    RecordedEvent,
    RedisProcess,
    ReplyError,
    SentinelProcess,
    Workbench,
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


class FewSentinelsTests(SynchronousTestCase):
    """Nobody is promoted unless enough of them agree and a majority votes."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def test_no_failover_without_quorum_and_majority(self) -> None:
        """
        A master that is dead stays the master where the quorum is not reached, and where it is reached but
        no majority can vote; once the absent Sentinels are back, it is replaced.
        """
        with Workbench() as bench, ExitStack() as stack:
            fleet = Fleet(bench, ["txsentinel"] * 3, "valkey", quorum=3, down_after=500, failover_timeout=1000)
            fleet.start()
            recorder = EventRecorder(fleet.ports).start()
            stack.callback(recorder.stop)
            lone, second, third = fleet.sentinels
            master = fleet.master()
            replicas = [server for server in fleet.servers.values() if server is not master]

            third.kill()
            wait_for(lambda: self.checked(lone).startswith("NOQUORUM 2 usable"), SECONDS, "the loss of a Sentinel")
            began = time.monotonic()
            master.kill()
            wait_heard(recorder, began, "+sdown", [lone.name, second.name], "master mymaster")
            for sentinel, peer in ((lone, second), (second, lone)):
                wait_for(lambda: self.says_down(sentinel, peer), SECONDS, "the other one's opinion")  # noqa: B023
            self.assertEqual(recorder.since(began, "+odown") + recorder.since(began, "+try-failover"), [])

            second.kill()
            lone.call("SENTINEL", "SET", "mymaster", "QUORUM", 1)
            wait_heard(recorder, began, "+odown", [lone.name])
            wait_heard(recorder, began, "-failover-abort-not-elected", [lone.name])
            self.assertEqual(recorder.since(began, "+elected-leader"), [])
            self.assertEqual(fleet.master_seen_by(lone), master.port)
            for replica in replicas:
                self.assertEqual(replica.replication()["role"], "slave")

            for sentinel in (second, third):
                sentinel.start(keep_config=True, ready=False)
            wait_moved(fleet, master)

    @staticmethod
    def checked(sentinel: SentinelProcess) -> str:
        """What CKQUORUM says, be it good or bad."""
        try:
            return str(sentinel.call("SENTINEL", "CKQUORUM", "mymaster"))
        except ReplyError as refusal:
            return str(refusal)

    @staticmethod
    def says_down(sentinel: SentinelProcess, peer: SentinelProcess) -> bool:
        """Has the peer told this Sentinel that it finds the master down?"""
        flags = {each["port"]: each["flags"] for each in listing(sentinel, "SENTINELS", "mymaster")}
        return "master_down" in flags[str(peer.port)]


class Assassin:
    """Kills the first Sentinel that publishes a certain event, as soon as it is heard; once per contract."""

    def __init__(self, sentinels: Sequence[SentinelProcess]) -> None:
        self._sentinels = {sentinel.name: sentinel for sentinel in sentinels}
        self._channel = ""
        self.victim: SentinelProcess | None = None

    def lie_in_wait(self, channel: str) -> None:
        """Kill upon this event."""
        self.victim = None
        self._channel = channel

    def heard(self, event: RecordedEvent) -> None:
        """Called in the thread of the recorder."""
        if event.channel == self._channel and self.victim is None:
            victim = self._sentinels[event.sentinel]
            os.kill(victim.pid, signal.SIGKILL)
            self.victim = victim


class LostLeaderTests(SynchronousTestCase):
    """The leader of a failover dies on the way; the others finish what it began, or begin anew."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def begin(self, stack: ExitStack) -> None:
        """Everything runs and is at rest."""
        bench = stack.enter_context(Workbench())
        # A vote for somebody else keeps the others from standing for twice the failover timeout.
        self.fleet = Fleet(bench, ["txsentinel"] * 3, "valkey", down_after=500, failover_timeout=500)
        self.fleet.start()
        self.assassin = Assassin(self.fleet.sentinels)
        self.recorder = EventRecorder(self.fleet.ports, self.assassin.heard).start()
        stack.callback(self.recorder.stop)

    def recover(self, old: RedisProcess, leader: SentinelProcess) -> None:
        """
        The others agree on a new master; the lost leader, back from its file, agrees with them, and so do
        all servers in the end.
        """
        wait_moved(self.fleet, old)
        leader.start(keep_config=True)
        old.start(keep_config=True)
        hurry(self.fleet.sentinels)
        self.fleet.wait_quiet(SECONDS)
        self.recorder.wait_subscribed()
        self.assertEqual(double_votes(self.recorder.events), [])

    def test_killed_at_a_step(self) -> None:
        """A leader may be killed at any step: some other Sentinel finishes the job, and nobody votes twice."""
        steps = STEPS if LONG else STEPS[1::2]
        with ExitStack() as stack:
            self.begin(stack)
            for step in steps:
                old = self.fleet.master()
                self.assassin.lie_in_wait(step)
                old.kill()
                leader = wait_for(lambda: self.assassin.victim, SECONDS, f"somebody to say {step}")
                leader.kill()
                self.recover(old, leader)

    def test_simulated_crashes(self) -> None:
        """
        SIMULATE-FAILURE ends the leader with status 99 at the step that it names. After the promotion its
        file has the new master already.
        """
        with ExitStack() as stack:
            self.begin(stack)
            for crash in CRASHES:
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
