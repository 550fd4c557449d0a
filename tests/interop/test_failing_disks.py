"""Sentinels whose directory goes away, or whose disk is full, while they run."""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import LONG, SECONDS, file_words, hurry, leader_epoch, wait_moved
from tests.servers import (
    EventRecorder,
    Fleet,
    Harness,
    ReplyError,
    SentinelProcess,
    missing,
    pairs,
    wait_for,
)

WARNING = "# WARNING: Sentinel was not able to save the new configuration on disk!!!: "
SAVED = "* Sentinel new configuration saved on disk"


class FailingDiskTests(SynchronousTestCase):
    """A Sentinel that cannot save promises nothing, and does everything else."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def begin(self, stack: ExitStack) -> None:
        """Everything runs and is at rest."""
        harness = stack.enter_context(Harness())
        self.fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", down_after=600, failover_timeout=1500)
        self.fleet.start()
        self.ailing, *self.well = self.fleet.sentinels
        hurry(self.fleet.sentinels)
        self.fleet.wait_quiet(SECONDS)
        self.recorder = EventRecorder(self.fleet.ports).start()
        stack.callback(self.recorder.stop)

    def ask_vote(self, candidate: SentinelProcess, epoch: int) -> list[object]:
        """Ask the ailing one for its vote, as a peer does."""
        identity = str(candidate.call("SENTINEL", "MYID"))
        port = self.fleet.master_seen_by(self.ailing)
        assert port is not None
        reply = self.ailing.call("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", port, epoch, identity)
        assert isinstance(reply, list)
        return list(reply)

    def assert_ailing(self) -> None:
        """It answers, watches and hears of others, gives no vote, and takes no orders that it could not keep."""
        self.assertEqual(self.ailing.call("PING"), "PONG")
        before = leader_epoch(self.ailing, "mymaster")
        epoch = before + 10
        # The first request waits for a save that fails, the others are answered at once. A candidate that has not
        # confirmed an earlier request is shown the durable vote, as C does; others are shown none.
        for candidate in (*self.well, self.well[0]):
            self.assertEqual(self.ask_vote(candidate, epoch)[2], before)
        with self.assertRaises(ReplyError) as refused:
            self.ailing.call("SENTINEL", "SET", "mymaster", "PARALLEL-SYNCS", 2)
        self.assertIn("Failed to save config file", str(refused.exception))
        fields = pairs(self.ailing.call("SENTINEL", "MASTER", "mymaster"))
        self.assertEqual(fields["parallel-syncs"], "1")
        for words in (("SENTINEL", "CKQUORUM", "mymaster"), ("SENTINEL", "FAILOVER", "mymaster")):
            with self.assertRaises(ReplyError) as refused:
                self.ailing.call(*words)
            self.assertIn("his Sentinel cannot save its votes", str(refused.exception))
        self.assertNotIn("sentinel_storage:ok", str(self.ailing.call("INFO", "sentinel")))

    def fail_over(self) -> None:
        """The others replace the master; the ailing one follows them, and clients can ask it for the address."""
        began = time.monotonic()
        old = self.fleet.master()
        old.kill()
        new = wait_moved(self.fleet, old)
        self.assertEqual(self.fleet.master_seen_by(self.ailing), new.port)
        self.recorder.wait_for(
            lambda events: any(
                e.at >= began and e.channel == "+switch-master" and e.sentinel == self.ailing.name for e in events
            ),
            SECONDS,
            "the ailing one to announce the switch",
        )
        votes = self.recorder.since(began, "+vote-for-leader", self.ailing.name)
        leaders = self.recorder.since(began, "+elected-leader", self.ailing.name)
        self.assertEqual((votes, leaders), ([], []))
        self.fleet.revive(old)

    def assert_recovered(self) -> None:
        """What it learnt meanwhile is in its file at last, and where its vote is needed again, it votes."""
        port = str(self.fleet.wait_quiet(SECONDS))

        def saved() -> bool:
            words = file_words(self.ailing.config_path)
            return ["monitor", "mymaster", "127.0.0.1", port, "2"] in words

        wait_for(saved, SECONDS, "the new address in the file")
        self.assertNotIn(["parallel-syncs", "mymaster", "2"], file_words(self.ailing.config_path))
        self.assertIn("sentinel_storage:ok", str(self.ailing.call("INFO", "sentinel")))
        self.well[0].kill()
        began = time.monotonic()
        old = self.fleet.master()
        old.kill()
        wait_moved(self.fleet, old)
        self.assertNotEqual(self.recorder.since(began, "+vote-for-leader", self.ailing.name), [])

    def test_loss_and_return_of_the_disk(self) -> None:
        """
        With its directory gone, or its disk full, a Sentinel warns, answers, watches, and gives no votes;
        when it can save again, it does.
        """
        with ExitStack() as stack:
            self.begin(stack)
            self.lose_directory()
            self.fill_disk()

    def lose_directory(self) -> None:
        """With its directory gone it says what it tried; once the directory is back it is as before."""
        away = self.ailing.directory.with_name("away")
        # Its log is open and moves along.
        self.ailing.directory.rename(away)
        self.ailing.config_path = away / "sentinel.conf"
        self.assert_ailing()
        log = (away / "log").read_text()
        self.assertIn("# Could not create tmp config file (No such file or directory)\n", log)
        self.assertIn(WARNING + "No such file or directory\n", log)
        if LONG:
            self.fail_over()
        away.rename(self.ailing.directory)
        self.ailing.config_path = self.ailing.directory / "sentinel.conf"
        wait_for(lambda: SAVED in self.ailing.log_text().rpartition(WARNING)[2], SECONDS, "a save")
        self.fleet.wait_quiet(SECONDS)

    def fill_disk(self) -> None:
        """
        On a disk that takes not a byte more, for the log neither, it goes on in silence, leaves the old file
        as it was and no scraps beside it, and follows a failover of the others; with room again it saves, and logs.
        """
        before = self.ailing.config_path.read_bytes()
        soft, hard = resource.prlimit(self.ailing.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.ailing.pid, resource.RLIMIT_FSIZE, (0, hard))
        self.assert_ailing()
        self.fail_over()
        self.assertEqual(self.ailing.config_path.read_bytes(), before)
        self.assertEqual(self.scraps(), [])
        length = len(self.ailing.log_text())
        resource.prlimit(self.ailing.pid, resource.RLIMIT_FSIZE, (soft, hard))
        self.assert_recovered()
        self.assertIn(SAVED, self.ailing.log_text()[length:])
        self.assertEqual(self.scraps(), [])

    def scraps(self) -> list[Path]:
        """Files that do not belong into its directory."""
        known = {"sentinel.conf", "log"}
        return [path for path in self.ailing.directory.iterdir() if path.name not in known]
