"""
Starts our Sentinel many times with one import: a process that forks for each configuration.

The child runs what ``twistd`` runs: its exit status and its output are those of a real start.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

import twisted.internet.epollreactor  # noqa: F401 - as all that follows: what every start would import
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.scripts.twistd import run

import txsentinel.cli.tap  # noqa: F401


def main() -> None:
    """
    Execute lines from standard input: ``start <directory>`` prints a process ID, ``status <pid>`` its exit status.

    ``status`` of one that still runs is ``running``. The directory has ``sentinel.conf``; its output is written
    to ``output``.
    """
    list(getPlugins(IServiceMaker))
    ended: dict[int, int] = {}
    for line in sys.stdin:
        verb, _, word = line.strip().partition(" ")
        if verb == "start":
            reply = str(_start(word))
        else:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(int(word), os.WNOHANG)
                if pid:
                    ended[pid] = os.waitstatus_to_exitcode(status)
            reply = str(ended.get(int(word), "running"))
        sys.stdout.write(reply + "\n")
        sys.stdout.flush()


def _start(directory: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
    os.chdir(directory)
    output = os.open("output", os.O_WRONLY | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdin = open(0)  # noqa: SIM115 - for the rest of the process
    sys.argv = ["twistd", "-n", "--pidfile=", "sentinel", "-c", "sentinel.conf"]
    status = 0
    try:
        run()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as problem:
        sys.stderr.write(f"{type(problem).__name__}: {problem}\n")
        status = 1
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
