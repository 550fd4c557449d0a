"""
What a terminal shows, at 80 and at 200 columns, compared with golden files.

``TXSENTINEL_GOLDEN=1`` writes the files anew.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Final

import pyte
from twisted.trial.unittest import SynchronousTestCase

GOLDEN: Final = Path(__file__).parent / "golden"
ROWS: Final = 40


def terminal_output(columns: int, *words: str) -> bytes:
    """Run a verb in a terminal of this width and return the bytes that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cli.operator.screens", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        found = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux reports the end of the last process at the terminal so
                break
            if not data:
                break
            found += data
        process.wait()
    os.close(ours)
    return found


def shown(output: bytes, columns: int) -> str:
    """Return what a terminal of this width shows, without empty lines at the end."""
    screen = pyte.Screen(columns, ROWS)
    pyte.ByteStream(screen).feed(output)
    return "\n".join(line.rstrip() for line in screen.display).rstrip() + "\n"


class ScreenTests(SynchronousTestCase):
    """The verbs for people."""

    def check(self, columns: int, *words: str) -> None:
        """Compare a screen with its golden file."""
        output = terminal_output(columns, *words)
        self.assertNotIn(b"\x07", output)
        self.assertIn(b"\x1b[", output)  # colours, which the golden file does not have
        path = GOLDEN / f"{words[0]}-{columns}.txt"
        found = shown(output, columns)
        if os.environ.get("TXSENTINEL_GOLDEN") == "1":
            path.write_text(found, encoding="utf-8")
        self.assertEqual(found, path.read_text(encoding="utf-8"))
        self.assertLessEqual(max(map(len, found.splitlines())), columns)

    def test_list(self) -> None:
        """``list`` at both widths."""
        self.check(80, "list", "mymaster")
        self.check(200, "list", "mymaster")

    def test_topology(self) -> None:
        """``topology`` at both widths; a hostile address is escaped."""
        self.check(80, "topology", "mymaster")
        self.check(200, "topology", "mymaster")
        self.assertIn(r"evil\x1b[31m\x07:6379", (GOLDEN / "topology-200.txt").read_text(encoding="utf-8"))

    def test_paused(self) -> None:
        """``paused`` at both widths."""
        self.check(80, "paused", "mymaster")
        self.check(200, "paused", "mymaster")

    def test_forget(self) -> None:
        """``forget`` at both widths."""
        self.check(80, "forget", "mymaster", "10.0.0.13:26379")
        self.check(200, "forget", "mymaster", "10.0.0.13:26379")

    def test_drain(self) -> None:
        """``drain`` at both widths."""
        self.check(80, "drain", "10.0.0.2")
        self.check(200, "drain", "10.0.0.2")

    def test_explain(self) -> None:
        """``explain`` at both widths; long lines continue below their text."""
        self.check(80, "explain", "mymaster", "--why-not-now")
        self.check(200, "explain", "mymaster", "--why-not-now")
