"""
Limit processes to a share of a core.

A separate process sends ``SIGSTOP`` and ``SIGCONT`` in turn. That needs neither root nor control groups, and stops a
process for as long as a quota of the same share would. The times are drawn again each period, so that several processes
do not stop in step.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from os import getppid, kill
from types import TracebackType
from typing import Final

PERIOD_SECONDS: Final = 0.1
"""Seconds from one stop to the next one, as in control groups."""


class Throttle:
    """
    Lets processes run for ``share`` of the time; use it as a context manager, which ends the limit.

    :param pids: child processes or others of the same user.
    :param share: above 0, below 1.
    """

    def __init__(self, pids: Sequence[int], share: float) -> None:
        if not 0 < share < 1:
            raise ValueError(f"a share of a core is between 0 and 1, not {share}")
        self._pids = list(pids)
        self._share = share
        self._helpers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Throttle:
        for pid in self._pids:
            command = [sys.executable, "-m", "benchmarks.throttle", str(pid), str(self._share)]
            self._helpers.append(subprocess.Popen(command))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for helper in self._helpers:
            helper.kill()
            helper.wait()
        for pid in self._pids:
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGCONT)


def throttle(pid: int, share: float) -> None:
    """Stop and continue a process until it, or the parent of this one, has ended."""
    parent = getppid()
    with suppress(ProcessLookupError):
        while getppid() == parent:
            period = PERIOD_SECONDS * random.uniform(0.5, 1.5)
            kill(pid, signal.SIGSTOP)
            time.sleep(period * (1 - share))
            kill(pid, signal.SIGCONT)
            time.sleep(period * share)


if __name__ == "__main__":
    throttle(int(sys.argv[1]), float(sys.argv[2]))
