"""``twistd sentinel`` under service managers and operators: daemons, and starts that fail."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.servers import Connection, call, free_port, missing, wait_for

ROOT = str(Path(__file__).resolve().parents[2])
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
PR_SET_CHILD_SUBREAPER = 36


def respect_file_modes() -> None:
    """Make the program that is about to be executed respect file modes, even if we are root."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


class TwistdTests(SynchronousTestCase):
    """Whole processes; each starts within a second."""

    if missing("txsentinel"):
        skip = missing("txsentinel")

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="txsentinel-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.config = self.directory / "sentinel.conf"
        self.pidfile, self.log = self.directory / "s.pid", self.directory / "s.log"
        self.port = free_port()

    def write(self, *lines: str) -> None:
        """Write a valid configuration with additional lines."""
        ours = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", "sentinel monitor m 127.0.0.1 1 2"]
        self.config.write_text("\n".join([*ours, *lines]) + "\n")

    def twistd(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run twistd until it ends or has detached."""
        return subprocess.run(
            [sys.executable, "-c", TWISTD, *words],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": ROOT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            preexec_fn=respect_file_modes,
        )

    def foreground(self, *launcher: str) -> subprocess.Popen[str]:
        """Start one in the foreground, with the command ``launcher`` before it, and wait until it serves."""
        process = subprocess.Popen(
            [*launcher, sys.executable, "-c", TWISTD, "-n", "--pidfile=", "sentinel", "-c", "sentinel.conf"],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": ROOT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(process.kill)
        wait_for(lambda: call(self.port, "PING") == "PONG", SECONDS, "an answer")
        return process

    def start_daemon(self) -> int:
        """Start a daemon that must succeed; return its process ID."""
        started = self.twistd("sentinel", "-c", "sentinel.conf")
        self.assertEqual((started.returncode, started.stdout, started.stderr), (0, "", ""))
        wait_for(lambda: self.pidfile.exists() and self.pidfile.read_text().endswith("\n"), SECONDS, "the pid file")
        pid = int(self.pidfile.read_text())

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        self.addCleanup(end)
        return pid

    def wait_gone(self, pid: int) -> None:
        """Wait until a daemon, which is not a child of ours, has ended."""

        def gone() -> bool:
            try:
                return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                return True

        wait_for(gone, SECONDS, f"the end of process {pid}")

    def test_daemon(self) -> None:
        """It detaches, serves, logs to its file, ends in order upon SIGTERM, and starts again with the same ID."""
        self.write(f"pidfile {self.pidfile}", f"logfile {self.log}")
        pid = self.start_daemon()
        wait_for(lambda: call(self.port, "PING") == "PONG", SECONDS, "an answer")
        identity = call(self.port, "SENTINEL", "MYID")
        os.kill(pid, signal.SIGTERM)
        self.wait_gone(pid)
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["s.log", "sentinel.conf"])
        log = self.log.read_text()
        self.assertNotIn("Traceback", log)
        self.assertTrue(log.endswith("* Server Shut Down.\n"), log)

        pid = self.start_daemon()
        wait_for(lambda: call(self.port, "SENTINEL", "MYID") == identity, SECONDS, "the same ID")
        os.kill(pid, signal.SIGTERM)
        self.wait_gone(pid)

    def test_exit_status(self) -> None:
        """SIGTERM and SIGINT end it in order with status 0, as they do C Sentinels."""
        self.write(f"pidfile {self.pidfile}")
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.foreground()
            process.send_signal(number)
            output, _ = process.communicate(timeout=SECONDS)
            self.assertEqual(process.returncode, 0)
            self.assertIn(f"# Received {number.name} scheduling shutdown...\n", output)
            self.assertNotIn("Traceback", output)

    def test_exit_status_of_a_daemon(self) -> None:
        """The process that adopts a daemon gets status 0, too."""
        self.write(f"pidfile {self.pidfile}")
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.addCleanup(prctl, PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        pid = self.start_daemon()
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_first_process(self) -> None:
        """
        As process 1 of a container it handles SIGTERM, which the kernel ignores for such a process without a handler.
        """
        unshare = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
        if subprocess.run([*unshare, "true"], capture_output=True).returncode:
            self.skipTest("no name spaces for processes on this machine")
        self.write()
        process = self.foreground(*unshare)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        output, _ = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 0)
        self.assertIn("1:X ", output)

    def test_started_twice(self) -> None:
        """The second one reports that the port is in use and ends; the first one, and its PID file, stay."""
        self.write(f"pidfile {self.pidfile}", f"logfile {self.log}")
        pid = self.start_daemon()
        wait_for(lambda: call(self.port, "PING") == "PONG", SECONDS, "an answer")
        shutil.copy(self.config, self.directory / "another.conf")  # one file is never used by two processes
        for words in (["-n", "--pidfile="], []):
            second = self.twistd(*words, "sentinel", "-c", "another.conf")
            self.assertEqual(second.returncode, 1)
            self.assertNotIn("Traceback", second.stderr)
            self.assertEqual(self.pidfile.read_text(), f"{pid}\n")
            self.assertEqual(
                second.stderr, f"txsentinel: Failed listening on port {self.port} (TCP), aborting. See {self.log}.\n"
            )
        self.assertNotIn("Traceback", self.log.read_text())
        self.assertEqual(self.log.read_text().count(f"Failed listening on port {self.port} (TCP), aborting."), 2)
        self.assertEqual(call(self.port, "PING"), "PONG")

    def test_daemon_that_cannot_start(self) -> None:
        """The reason that keeps a daemon from starting is printed in one line, with the path of the log."""
        self.write(f"sentinel myid {'a' * 40}")
        default_log = self.directory / "twistd.log"
        for words, text in (
            (
                ["sentinel", "-c", "sentinel.conf", "--", "--aclfile", "/no/such/file"],
                "Aborting Redis startup because of ACL errors: Error loading ACLs, opening file '/no/such/file':"
                " No such file or directory",
            ),
            (
                ["sentinel", "-c", "sentinel.conf", "--", "--port", "0", "--unixsocket", "/no/such/socket"],
                "Failed opening Unix socket: bind: No such file or directory",
            ),
            (
                ["--pidfile", "/no/such/pid", "sentinel", "-c", "sentinel.conf"],
                "/no/such/pid: No such file or directory",
            ),
        ):
            refused = self.twistd(*words)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""))
            self.assertEqual(refused.stderr, f"txsentinel: {text}. See {default_log}.\n")

    def test_unread_log(self) -> None:
        """A pipe that is not read blocks nothing, and the log is complete once it is read."""
        self.write()
        process = self.foreground()
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        changes = 200  # each is two lines of some 80 bytes
        with Connection(self.port, timeout=SECONDS) as connection:
            for number in range(changes):
                self.assertEqual(connection.call("SENTINEL", "SET", "m", "quorum", number % 9 + 1), "OK")
        self.assertEqual(call(self.port, "PING"), "PONG")
        shown = 0
        while shown < changes:
            shown += " +set master m 127.0.0.1 1 quorum " in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 0)
        self.assertTrue(output.endswith("* Server Shut Down.\n"), output[-200:])

    def test_new_sentinel_without_a_port(self) -> None:
        """One that has no ID yet ends in the same way, and leaves no PID file."""
        with socket.create_server(("127.0.0.1", self.port)):
            self.write(f"pidfile {self.pidfile}")
            refused = self.twistd("-n", "--pidfile=", "sentinel", "-c", "sentinel.conf")
        self.assertEqual((refused.returncode, refused.stderr), (1, ""))
        self.assertTrue(refused.stdout.endswith(f"# Failed listening on port {self.port} (TCP), aborting.\n"))
        self.assertFalse(self.pidfile.exists())

    def test_bad_configuration(self) -> None:
        """
        Any error, in the foreground or detached, gives status 1 and one message with the line, without a traceback.
        """
        for mode in (["-n", "--pidfile="], []):
            for line, reason in (
                ("sentinel monitor n 127.0.0.1 6379 two", "'two' is not a whole number of Sentinels."),
                ("sentinel notification-script m /no/such/script", "Notification script seems non existing"),
            ):
                self.write(line)
                refused = self.twistd(*mode, "sentinel", "-c", "sentinel.conf")
                self.assertEqual((refused.returncode, refused.stdout), (1, ""))
                message = (
                    rf"\n\*\*\* FATAL CONFIG FILE ERROR \(.*\) \*\*\*\nReading .* at line 5\n>>> '{line}'\n{reason}.*\n"
                )
                self.assertTrue(re.fullmatch(message, refused.stderr), refused.stderr)
        self.assertEqual([path.name for path in self.directory.iterdir()], ["sentinel.conf"])

    def test_unusable_file(self) -> None:
        """A file that is missing, not a file, or not writable is reported in one line."""
        self.write()
        self.config.chmod(0o444)
        for words, text in (
            (
                ["-c", "nowhere.conf"],
                r"Fatal error, can't open config file '.*nowhere\.conf': No such file or directory",
            ),
            ([], r"Sentinel needs config file on disk to save state\. Exiting\.\.\."),
            (["-c", "."], r"Fatal error, can't open config file '.*': Is a directory"),
            (
                ["-c", "sentinel.conf"],
                r"Sentinel config file .*/sentinel\.conf is not writable: Permission denied\. Exiting\.\.\.",
            ),
        ):
            refused = self.twistd("-n", "--pidfile=", "sentinel", *words)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""))
            self.assertTrue(re.fullmatch(text + "\n", refused.stderr), refused.stderr)
