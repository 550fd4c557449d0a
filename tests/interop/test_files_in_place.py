"""Sentinels whose configuration file cannot be replaced, or not be written at all, together with C Sentinels."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, file_words, leader_epoch, shorten_periods, wait_moved
from tests.servers import EventRecorder, Fleet, Harness, ReplyError, SentinelProcess, missing, wait_for


def can_mount() -> bool:
    """Return whether this process may mount a file over itself."""
    with Harness() as harness:
        path = harness.directory / "file"
        path.touch()
        if subprocess.run(["mount", "--bind", path, path], stderr=subprocess.DEVNULL, check=False).returncode:
            return False
        subprocess.run(["umount", path], check=True)
        return True


class MountedFileTests(SynchronousTestCase):
    """A file that is a mount point, as in containers: renaming over it fails with EBUSY."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")
    elif os.geteuid() or not can_mount():
        skip = "mounting needs root"

    def begin(self, stack: ExitStack) -> None:
        """Start two Sentinels of ours and one C Sentinel; the files of ours are mounted."""
        harness = stack.enter_context(Harness())
        self.fleet = Fleet(
            harness, ["txsentinel", "redis", "txsentinel"], "redis", down_after=1500, failover_timeout=4000
        )
        self.own_sentinels = [sentinel for sentinel in self.fleet.sentinels if sentinel.kind == "txsentinel"]
        for sentinel in self.own_sentinels:
            sentinel.directory.mkdir(parents=True, exist_ok=True)
            sentinel.prepare()
            self.mount(stack, sentinel.config_path)
            sentinel.prepare = lambda: None  # type: ignore[method-assign]
        self.fleet.start()
        shorten_periods(self.own_sentinels)

    def mount(self, stack: ExitStack, path: Path, *options: str) -> None:
        """Mount a file over itself until the end."""
        subprocess.run(["mount", "--bind", path, path], check=True)
        # The Sentinel that has it open ends only afterwards.
        stack.callback(lambda: subprocess.run(["umount", "--lazy", path], check=True))

    def test_failover_and_crash(self) -> None:
        """They fail over, every vote that they publish is in the file, and a restart after SIGKILL reads it."""
        with ExitStack() as stack:
            self.begin(stack)
            recorder = EventRecorder(self.fleet.ports).start()
            stack.callback(recorder.stop)
            inodes = [os.stat(sentinel.config_path).st_ino for sentinel in self.own_sentinels]
            started_at = time.monotonic()
            old = self.fleet.master()
            old.kill()
            wait_moved(self.fleet, old)
            for sentinel, inode in zip(self.own_sentinels, inodes, strict=True):
                votes = recorder.since(started_at, "+vote-for-leader", sentinel.name)
                epoch = max(int(vote.payload.split()[1]) for vote in votes)
                self.assertGreaterEqual(leader_epoch(sentinel, "mymaster"), epoch)
                self.assertEqual(os.stat(sentinel.config_path).st_ino, inode)
                self.assertIn("is overwritten in place", sentinel.log_text())
                identity = sentinel.call("SENTINEL", "MYID")
                sentinel.kill()
                sentinel.start(keep_config=True)
                self.assertEqual(sentinel.call("SENTINEL", "MYID"), identity)
                self.assertGreaterEqual(leader_epoch(sentinel, "mymaster"), epoch)
            self.fleet.revive(old)
            self.fleet.wait_quiet(SECONDS)

    def test_read_only(self) -> None:
        """A file that cannot be written is reported within seconds, before anything depends on it."""
        with ExitStack() as stack:
            self.begin(stack)
            failing = self.own_sentinels[0]
            subprocess.run(["mount", "-o", "remount,ro,bind", failing.config_path], check=True)

            def refused() -> bool:
                try:
                    failing.call("SENTINEL", "CKQUORUM", "mymaster")
                except ReplyError as error:
                    return "This Sentinel cannot save its votes" in str(error) and "EROFS" in str(error)
                return False

            before = file_words(failing.config_path)
            failing.call("PING")
            with self.assertRaises(ReplyError):
                failing.call("SENTINEL", "SET", "mymaster", "quorum", 1)
            wait_for(refused, SECONDS, "NOQUORUM")
            self.assertIn("sentinel_storage:EROFS", str(failing.call("INFO", "sentinel")))
            self.assertEqual(file_words(failing.config_path), before)
            subprocess.run(["mount", "-o", "remount,rw,bind", failing.config_path], check=True)
            wait_for(lambda: not refused(), SECONDS, "a save")


class TwoProcessesTests(SynchronousTestCase):
    """Two processes with one file."""

    if missing("txsentinel"):
        skip = missing("txsentinel")

    def test_refused(self) -> None:
        """The second one ends with a clear message, whatever its port, also after the first has replaced the file."""
        with Harness() as harness:
            first = harness.sentinel("txsentinel", monitor=[("m", "127.0.0.1", 1, 1)])
            first.start()
            first.call("SENTINEL", "FLUSHCONFIG")
            port = harness.sentinel("txsentinel").port
            command = [*first.command_line(), "--", "--port", str(port)]
            ended = subprocess.run(
                command, env=first.environment(), cwd=first.directory, capture_output=True, timeout=60, check=False
            )
            self.assertEqual(ended.returncode, 1)
            self.assertIn(b"is in use by another txsentinel process", ended.stderr)
            self.stop_and_start(first)

    def stop_and_start(self, sentinel: SentinelProcess) -> None:
        """The lock ends with the process."""
        sentinel.kill()
        sentinel.start(keep_config=True)
