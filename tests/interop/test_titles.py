"""The titles that ``ps`` shows for real processes, of ours and of C Sentinels."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.servers import Harness, available, call, free_port, missing, wait_for

ROOT = str(Path(__file__).resolve().parents[2])
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"

SETTINGS: tuple[list[str], ...] = (
    [],
    ["bind 127.0.0.2 127.0.0.1", 'proc-title-template "{{{title}}} at {listen-addr}, {server-mode}"'],
    ["unixsocket s.sock", 'proc-title-template "{title} {port}|{tls-port}|{unixsocket}|{config-file}|{{"'],
    ["set-proc-title no", 'proc-title-template "{listen-addr}"'],
)


def title_of(pid: int) -> str:
    """Return the command line that the system has for a process, or all its arguments if it has no title."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").replace(b"\0", b" ").decode()


class TitleTests(SynchronousTestCase):
    """Sentinels of every installed kind, with the same settings."""

    if missing("txsentinel"):
        skip = missing("txsentinel")

    def titles(self, kind: str, program: str) -> list[str]:
        """Return the titles by setting, without what differs in every process."""
        shown = []
        for extra in SETTINGS:
            with Harness() as harness:
                sentinel = harness.sentinel(kind, extra=extra)
                sentinel.start()
                self.assertIn(f"process_id:{sentinel.pid}\r\n", str(sentinel.call("INFO", "server")))
                title = title_of(sentinel.pid)
            if "set-proc-title no" in extra:
                self.assertIn(str(sentinel.config_path), title)
                self.assertNotIn("[sentinel]", title)
                continue
            for word, mask in (
                (str(sentinel.config_path), "<file>"),
                (str(sentinel.port), "<port>"),
                (program, "<program>"),
            ):
                title = title.replace(word, mask)
            shown.append(title)
        return shown

    def test_same_as_c(self) -> None:
        """By default and by template the titles are the same but for the program's name; ``no`` sets none."""
        ours = self.titles("txsentinel", "txsentinel")
        self.assertEqual(
            ours,
            [
                "<program> 127.0.0.1:<port> [sentinel]",
                "{<program>}} at 127.0.0.2:<port>, [sentinel]",
                "<program> <port>|0|s.sock|<file>|{",
            ],
        )
        for kind in ("valkey", "redis"):
            if available(kind):
                with Harness() as harness:
                    program = harness.sentinel(kind).command_line()[0]
                self.assertEqual(self.titles(kind, program), ours, kind)

    def test_daemon(self) -> None:
        """With ``daemonize yes`` and no ``-n``, the process that serves is the renamed one, by both its names."""
        with Harness() as harness:
            port, pidfile = free_port(), harness.directory / "s.pid"
            config = harness.directory / "sentinel.conf"
            lines = (
                f"port {port}",
                "bind 127.0.0.1",
                f"dir {harness.directory}",
                "daemonize yes",
                f"pidfile {pidfile}",
            )
            config.write_text("\n".join([*lines, f"logfile {harness.directory / 's.log'}"]) + "\n")
            started = subprocess.run(
                [sys.executable, "-c", TWISTD, "sentinel", "-c", str(config)],
                cwd=harness.directory,
                env={**os.environ, "PYTHONPATH": ROOT},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
            self.assertEqual((started.returncode, started.stdout, started.stderr), (0, "", ""))
            wait_for(lambda: pidfile.exists() and pidfile.read_text().endswith("\n"), SECONDS, "the pid file")
            pid = int(pidfile.read_text())
            try:
                self.assertEqual(call(port, "PING"), "PONG")
                self.assertEqual(title_of(pid), f"txsentinel 127.0.0.1:{port} [sentinel]")
                self.assertEqual(Path(f"/proc/{pid}/comm").read_text(), "txsentinel\n")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
