"""A real Sentinel under a service manager: a datagram socket in the place of systemd, and systemd-socket-activate."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.servers import call, free_port, missing, wait_for

ROOT = str(Path(__file__).resolve().parents[2])
TXSENTINEL = [sys.executable, "-c", "from txsentinel.cli.main import main; main()"]

WATCHDOG_SECONDS = 0.9
"""The limit of the watchdog; it is fed three times as often."""


class ServiceManagerTests(SynchronousTestCase):
    """One Sentinel with one master that does not exist."""

    if missing("txsentinel"):
        skip = missing("txsentinel")

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="txsentinel-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.config, self.log = self.directory / "sentinel.conf", self.directory / "s.log"
        self.port = free_port()
        name = f"txsentinel-{os.getpid()}-{self.port}"
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind("\0" + name)
        self.environment = {**os.environ, "PYTHONPATH": ROOT, "NOTIFY_SOCKET": "@" + name}
        self.lines: list[str] = []

    def start(self, *extra: str, command: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[bytes]:
        """Start the Sentinel; it is killed at the end of the test."""
        self.config.write_text(
            "\n".join(
                [
                    f"port {self.port}",
                    "bind 127.0.0.1",
                    f"logfile {self.log}",
                    "supervised systemd",
                    "sentinel monitor m 127.0.0.1 1 2",
                    "sentinel down-after-milliseconds m 300",
                    *extra,
                ]
            )
            + "\n"
        )
        process = subprocess.Popen(
            [*command, *TXSENTINEL, str(self.config)],
            cwd=self.directory,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
        )

        def end() -> None:
            process.kill()
            process.wait()

        self.addCleanup(end)
        return process

    def await_line(self, beginning: str) -> str:
        """Remove and return the first assignment that begins so, however many others arrive."""

        def found() -> str | None:
            for line in self.lines:
                if line.startswith(beginning):
                    self.lines.remove(line)
                    return line
            self.lines += self.manager.recv(4096).decode().splitlines()
            return None

        self.manager.settimeout(1.0)
        return wait_for(found, SECONDS, f"{beginning!r} among {self.lines}")

    def test_life(self) -> None:
        """Ready, fed from the sweep, silent while it is stopped, reloading with the time, and stopping."""
        script = self.directory / "script"
        seen, partial = self.directory / "environment", self.directory / "environment.new"
        script.write_text(f"#!/bin/sh\nenv > {partial}\nmv {partial} {seen}\n")
        script.chmod(0o755)
        process = self.start(
            f"sentinel notification-script m {script}", WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1_000_000))
        )
        self.await_line("READY=1")
        self.await_line("WATCHDOG=1")
        self.await_line("STATUS=0 masters ok, 1 sdown, 0/0 peers")

        os.kill(process.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{process.pid}/stat")
        wait_for(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", SECONDS, "the process to stop")
        self.drain()
        self.manager.settimeout(3 * WATCHDOG_SECONDS)
        with self.assertRaises(TimeoutError):
            self.manager.recv(4096)
        os.kill(process.pid, signal.SIGCONT)
        self.await_line("WATCHDOG=1")

        os.kill(process.pid, signal.SIGHUP)
        self.await_line("RELOADING=1")
        stamp = int(self.await_line("MONOTONIC_USEC=").partition("=")[2])
        self.assertLess(abs(stamp - time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000), SECONDS * 1_000_000)
        self.await_line("READY=1")

        wait_for(seen.exists, SECONDS, "the script")
        self.assertNotIn("NOTIFY_SOCKET", seen.read_text())
        process.terminate()
        self.await_line("STOPPING=1")
        self.assertEqual(process.wait(SECONDS), 0)

    def drain(self) -> None:
        """Drop what the manager has not read yet."""
        self.manager.setblocking(False)
        try:
            while True:
                self.manager.recv(4096)
        except BlockingIOError:
            self.lines.clear()

    def test_reload_of_users(self) -> None:
        """SIGHUP reads the ACL file again; an invalid one is the status, and the users stay."""
        users = self.directory / "users.acl"
        users.write_text("user default on nopass ~* &* +@all\n")
        process = self.start(f"aclfile {users}")
        self.await_line("READY=1")
        users.write_text("user default on nopass ~* &* +@all\nuser alice on nopass +ping\n")
        os.kill(process.pid, signal.SIGHUP)
        self.await_line("RELOADING=1")
        self.await_line("READY=1")
        self.assertEqual(call(self.port, "ACL", "USERS"), ["alice", "default"])
        users.write_text("user default on nopass +nosuchcommand\n")
        os.kill(process.pid, signal.SIGHUP)
        self.await_line("RELOADING=1")
        self.await_line("STATUS=Reload failed: ")
        self.assertEqual(call(self.port, "ACL", "USERS"), ["alice", "default"])

    def test_socket_activation(self) -> None:
        """A socket of the service manager takes the place of the port."""
        program = shutil.which("systemd-socket-activate")
        if program is None:
            self.skipTest("there is no systemd-socket-activate on this machine")
        listen = (program, "--listen", f"127.0.0.1:{self.port}", "--fdname", "sentinel")
        passed = [f"--setenv={name}" for name in ("PYTHONPATH", "NOTIFY_SOCKET", "PATH")]
        self.start(command=(*listen, *passed))
        # The program starts the Sentinel when the first client connects.
        wait_for(self.accepts_connections, SECONDS, "the socket")
        self.assertEqual(call(self.port, "PING", timeout=SECONDS), "PONG")
        self.assertIn("Listening on the socket 'sentinel' of the service manager", self.log.read_text())
        self.await_line("READY=1")

    def accepts_connections(self) -> bool:
        """Whether something listens on the port."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
