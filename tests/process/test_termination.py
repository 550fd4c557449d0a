"""Signals that arrive before anything is started."""

from __future__ import annotations

import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

PROGRAM = """
import os, sys
from txsentinel.process.termination import exit_on_signals
exit_on_signals()
os.kill(os.getpid(), int(sys.argv[1]))
print("still there")
"""


class EarlySignalTests(SynchronousTestCase):
    """Each in a process of its own."""

    def result(self, number: int) -> tuple[int, str]:
        """The exit status and the output of a process that sends itself a signal."""
        ended = subprocess.run([sys.executable, "-c", PROGRAM, str(int(number))], capture_output=True, text=True)
        return ended.returncode, ended.stdout.strip()

    def test_hangup(self) -> None:
        """SIGHUP does not end it."""
        self.assertEqual((0, "still there"), self.result(signal.SIGHUP))

    def test_ends(self) -> None:
        """SIGTERM and SIGINT end it with status 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.assertEqual((0, ""), self.result(number))
