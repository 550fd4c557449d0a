"""Commands: one process without a shell, with a deadline; its output is shown if it fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

TIMEOUT: Final = 60.0
"""Seconds after which a command is ended by SIGTERM."""

KILL_DELAY: Final = 5.0
"""Seconds after which it is ended by SIGKILL."""

PIPE_DELAY: Final = 0.2
"""Seconds from the exit of a command to the end of its output."""

MAX_OUTPUT: Final = 2000
"""Bytes at the end of the output that are kept."""


class CommandFailed(Exception):
    """A command could not be executed, has failed, or took too long."""


class CommandProtocol(ProcessProtocol):
    """
    One run of a command.

    :param reactor: its clock.
    :param name: what the command is for, in error texts.
    """

    def __init__(self, reactor: Any, name: str, timeout: float = TIMEOUT) -> None:
        self._reactor = reactor
        self._name = name
        self._output = b""
        self._reason = ""
        self._deadline = reactor.callLater(timeout, self._expire, timeout)
        self.finished: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Give it no input."""
        assert self.transport is not None
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Keep the end of the output."""
        self._output = (self._output + data)[-MAX_OUTPUT:]

    def errReceived(self, data: bytes) -> None:
        """Keep the end of the errors, too."""
        self.outReceived(data)

    def processExited(self, reason: Failure) -> None:
        """Read what is left in the pipes, but not for long: processes that the command leaves behind may hold them."""
        if self._deadline.active():
            self._deadline.cancel()
        self._deadline = self._reactor.callLater(PIPE_DELAY, self._close_pipes)

    def processEnded(self, reason: Failure) -> None:
        """Report the end."""
        if self._deadline.active():
            self._deadline.cancel()
        finished, self.finished = self.finished, Deferred()
        status = getattr(reason.value, "exitCode", None)
        if self._reason or status != 0:
            signal = getattr(reason.value, "signal", None)
            ended = f"was ended by signal {signal}" if signal else f"ended with status {status}"
            text = f"{self._name} {self._reason or ended}"
            last = self._output.decode("utf-8", "replace").strip().splitlines()[-3:]
            words = " / ".join("".join(each if each.isprintable() else " " for each in line) for line in last)
            finished.errback(CommandFailed(f"{text}: {words}" if words else text))
        else:
            finished.callback(None)

    def failed_to_start(self, error: OSError) -> None:
        """Report that there is no process."""
        self._deadline.cancel()
        self.finished.errback(CommandFailed(f"{self._name} cannot be started: {error}"))

    def end(self, reason: str) -> None:
        """End the process if it runs."""
        self._reason = self._reason or reason
        if self._deadline.active():
            self._deadline.cancel()
        self._deadline = self._reactor.callLater(KILL_DELAY, self._signal, "KILL")
        self._signal("TERM")

    def _close_pipes(self) -> None:
        if self.transport is not None:
            self.transport.closeStdout()
            self.transport.closeStderr()

    def _expire(self, timeout: float) -> None:
        self.end(f"took longer than {timeout:g} s")

    def _signal(self, name: str) -> None:
        if self.transport is not None:
            try:
                self.transport.signalProcess(name)
            except ProcessExitedAlready:
                return


def start(reactor: Any, name: str, words: Sequence[str], timeout: float = TIMEOUT) -> CommandProtocol:
    """
    Execute a command; the ``finished`` of what is returned fails with :exc:`CommandFailed`.

    :param words: the program, found on the path, and its arguments.
    """
    protocol = CommandProtocol(reactor, name, timeout)
    try:
        reactor.spawnProcess(protocol, words[0], [os.fsencode(word) for word in words], env=None, path="/")
    except OSError as error:
        protocol.failed_to_start(error)
    return protocol
