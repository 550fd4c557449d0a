"""SIGTERM and SIGINT: how the process is asked to end from outside, and the exit status that tells of it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Final

from twisted.internet.error import ReactorNotRunning

from txsentinel.model.events import Level
from txsentinel.process.logs import note
from txsentinel.runtime.host import ISystemReactor

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

INSIST: Final = b"You insist... exiting now.\n"
"""Written to standard error by a second SIGINT, in the words of the C servers."""


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def exit_on_signals() -> None:
    """
    Let both signals end the process at once with status 0, for as long as nothing has been started.

    Without a handler a process with the ID 1, as in a container, does not notice SIGTERM at all.
    """
    for number in SIGNALS:
        signal.signal(number, _exit_at_once)


class TerminationSignals:
    """
    Handlers that stop the reactor, after which ``twistd`` exits with status 0, as the C servers do.

    With the handlers of Twisted ``twistd`` ends by sending the signal to itself, so that whoever waits for the process
    (a service manager, a container runtime, a script) sees a failure. A second SIGINT ends the process at once with
    status 1.
    """

    def __init__(self, reactor: ISystemReactor) -> None:
        self._reactor = reactor
        self._stopping = False

    def install(self) -> None:
        """Install the handlers; once before the reactor runs, and again when it does, as it installs its own."""
        for number in SIGNALS:
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        # Not the place for the log: the signal may have interrupted the writing of a line.
        if self._stopping and number == signal.SIGINT:
            with suppress(OSError):
                os.write(2, INSIST)
            os._exit(1)
        self._stopping = True
        self._reactor.callFromThread(self._stop, number)

    def _stop(self, number: int) -> None:
        note(Level.WARNING, f"Received {signal.Signals(number).name} scheduling shutdown...")
        with suppress(ReactorNotRunning):
            self._reactor.stop()
