"""Handling of SIGTERM and SIGINT, and the exit status after them."""

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

SECOND_SIGINT: Final = b"You insist... exiting now.\n"
"""Written to standard error at a second SIGINT, as by the C servers."""


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def exit_on_signals() -> None:
    """
    Have both signals end the process at once with status 0, while nothing is started yet.

    Without a handler, a process with the ID 1, as in a container, ignores SIGTERM. SIGHUP is ignored, as by the C
    servers, until the service installs its handler.
    """
    for number in SIGNALS:
        signal.signal(number, _exit_at_once)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class TerminationSignals:
    """
    Handlers that stop the reactor, after which ``twistd`` exits with status 0, as the C servers do.

    With the handlers of Twisted, ``twistd`` ends by sending the signal to itself, which its parent (a service manager,
    a container runtime, a script) considers a failure. A second SIGINT ends the process at once with status 1.
    """

    def __init__(self, reactor: ISystemReactor) -> None:
        self._reactor = reactor
        self._stopping = False

    def install(self) -> None:
        """Install the handlers. Call this before the reactor runs and again when it runs, as it installs its own."""
        for number in SIGNALS:
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        # Do not log here: the signal may have interrupted the writing of a line.
        if self._stopping and number == signal.SIGINT:
            with suppress(OSError):
                os.write(2, SECOND_SIGINT)
            os._exit(1)
        self._stopping = True
        self._reactor.callFromThread(self._stop, number)

    def _stop(self, number: int) -> None:
        note(Level.WARNING, f"Received {signal.Signals(number).name} scheduling shutdown...")
        with suppress(ReactorNotRunning):
            self._reactor.stop()
