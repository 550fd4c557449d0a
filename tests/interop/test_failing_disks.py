"""Sentinels whose directory disappears, or whose disk is full, while they run."""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import LONG, SECONDS, file_words, leader_epoch, shorten_periods, wait_moved
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
    """A Sentinel that cannot save gives no votes and refuses changes, and does everything else."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def begin(self, stack: ExitStack) -> None:
        """Start everything and wait until it is stable."""
        harness = stack.enter_context(Harness())
        self.fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", down_after=600, failover_timeout=1500)
        self.fleet.start()
        self.failing, *self.others = self.fleet.sentinels
        shorten_periods(self.fleet.sentinels)
        self.fleet.wait_quiet(SECONDS)
        self.recorder = EventRecorder(self.fleet.ports).start()
        stack.callback(self.recorder.stop)

    def request_vote(self, candidate: SentinelProcess, epoch: int) -> list[object]:
        """Request a vote of the failing Sentinel, as a peer does."""
        identity = str(candidate.call("SENTINEL", "MYID"))
        port = self.fleet.master_seen_by(self.failing)
        assert port is not None
        reply = self.failing.call("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", port, epoch, identity)
        assert isinstance(reply, list)
        return list(reply)

    def assert_failing(self) -> None:
        """Assert that it answers and monitors, gives no vote, and refuses changes."""
        self.assertEqual(self.failing.call("PING"), "PONG")
        before = leader_epoch(self.failing, "mymaster")
        epoch = before + 10
        # The first request waits for a save that fails, the others are answered at once. A candidate that has not
        # confirmed an earlier request is shown the durable vote, as C does; others are shown none.
        for candidate in (*self.others, self.others[0]):
            self.assertEqual(self.request_vote(candidate, epoch)[2], before)
        with self.assertRaises(ReplyError) as refused:
            self.failing.call("SENTINEL", "SET", "mymaster", "PARALLEL-SYNCS", 2)
        self.assertIn("Failed to save config file", str(refused.exception))
        fields = pairs(self.failing.call("SENTINEL", "MASTER", "mymaster"))
        self.assertEqual(fields["parallel-syncs"], "1")
        for words in (("SENTINEL", "CKQUORUM", "mymaster"), ("SENTINEL", "FAILOVER", "mymaster")):
            with self.assertRaises(ReplyError) as refused:
                self.failing.call(*words)
            self.assertIn("his Sentinel cannot save its votes", str(refused.exception))
        self.assertNotIn("sentinel_storage:ok", str(self.failing.call("INFO", "sentinel")))

    def fail_over(self) -> None:
        """Let the others replace the master; the failing Sentinel follows them, and clients can query the address."""
        began = time.monotonic()
        old = self.fleet.master()
        old.kill()
        new = wait_moved(self.fleet, old)
        self.assertEqual(self.fleet.master_seen_by(self.failing), new.port)
        self.recorder.wait_for(
            lambda events: any(
                e.at >= began and e.channel == "+switch-master" and e.sentinel == self.failing.name for e in events
            ),
            SECONDS,
            "the failing one to publish the switch",
        )
        votes = self.recorder.since(began, "+vote-for-leader", self.failing.name)
        leaders = self.recorder.since(began, "+elected-leader", self.failing.name)
        self.assertEqual((votes, leaders), ([], []))
        self.fleet.revive(old)

    def assert_recovered(self) -> None:
        """Assert that it has saved what it learnt meanwhile, and votes again when its vote is needed."""
        port = str(self.fleet.wait_quiet(SECONDS))

        def saved() -> bool:
            words = file_words(self.failing.config_path)
            return ["monitor", "mymaster", "127.0.0.1", port, "2"] in words

        wait_for(saved, SECONDS, "the new address in the file")
        self.assertNotIn(["parallel-syncs", "mymaster", "2"], file_words(self.failing.config_path))
        # The new contents are visible before the Sentinel learns that they are durable.
        wait_for(
            lambda: "sentinel_storage:ok" in str(self.failing.call("INFO", "sentinel")),
            SECONDS,
            "the end of the failure",
        )
        self.others[0].kill()
        began = time.monotonic()
        old = self.fleet.master()
        old.kill()
        wait_moved(self.fleet, old)
        self.assertNotEqual(self.recorder.since(began, "+vote-for-leader", self.failing.name), [])

    def test_loss_and_return_of_the_disk(self) -> None:
        """
        Without its directory, or with a full disk, a Sentinel warns, answers, monitors, and gives no votes;
        when it can save again, it does.
        """
        with ExitStack() as stack:
            self.begin(stack)
            self.lose_directory()
            self.fill_disk()

    def lose_directory(self) -> None:
        """Without its directory it reports the failed action; once the directory is back it recovers."""
        away = self.failing.directory.with_name("away")
        # Its log is open and moves along.
        self.failing.directory.rename(away)
        self.failing.config_path = away / "sentinel.conf"
        self.assert_failing()
        log = (away / "log").read_text()
        self.assertIn("# Could not create tmp config file (No such file or directory)\n", log)
        self.assertIn(WARNING + "No such file or directory\n", log)
        if LONG:
            self.fail_over()
        away.rename(self.failing.directory)
        self.failing.config_path = self.failing.directory / "sentinel.conf"
        wait_for(lambda: SAVED in self.failing.log_text().rpartition(WARNING)[2], SECONDS, "a save")
        self.fleet.wait_quiet(SECONDS)

    def fill_disk(self) -> None:
        """
        On a full disk, for the log too, it continues without a log, leaves the old file unchanged and no temporary
        files
        beside it, and follows a failover of the others; when there is space again it saves, and logs.
        """
        before = self.failing.config_path.read_bytes()
        soft, hard = resource.prlimit(self.failing.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.failing.pid, resource.RLIMIT_FSIZE, (0, hard))
        self.assert_failing()
        self.fail_over()
        self.assertEqual(self.failing.config_path.read_bytes(), before)
        self.assertEqual(self.unexpected_files(), [])
        length = len(self.failing.log_text())
        resource.prlimit(self.failing.pid, resource.RLIMIT_FSIZE, (soft, hard))
        self.assert_recovered()
        self.assertIn(SAVED, self.failing.log_text()[length:])
        self.assertEqual(self.unexpected_files(), [])

    def unexpected_files(self) -> list[Path]:
        """Return the files that do not belong into its directory."""
        known = {"sentinel.conf", "sentinel.conf.d", "log"}
        return [path for path in self.failing.directory.iterdir() if path.name not in known]
