"""
The message at the terminal if a daemon cannot start.

``twistd`` forks, and the process at the terminal waits for the result of the daemon. The message of ``twistd`` is the
first hundred bytes of an exception: ``An error has occurred: b'txsentinel.runtime.listeners.Cannot``.
"""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

import os
import sys
from typing import Final

from twisted.python.usage import Options
from twisted.python.util import untilConcludes
from twisted.scripts._twistd_unix import UnixApplicationRunner

from txsentinel.runtime.listeners import CannotStart

MAX_REPORT: Final = 4096
"""Maximum bytes of the report; the kernel writes so many to a pipe atomically."""

STARTED: Final = b"0"
FAILED: Final = b"1 "
"""What the daemon sends, as in ``twistd``; a text follows the second."""


def failure_text(error: BaseException, log_place: str) -> str:
    """
    Return one line with the reason why a daemon did not start.

    :param log_place: the destination of its log.
    """
    if isinstance(error, CannotStart):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = f"{type(error).__name__}: {error}"
    return f"{' '.join(text.split()).rstrip('.')}. See {log_place}."


class Runner(UnixApplicationRunner):
    """
    The part of ``twistd`` that starts an application, with a readable report.

    :param config: the options of ``twistd``.
    :param log_place: the destination of the log, for the report.
    """

    def __init__(self, config: Options, log_place: str) -> None:
        super().__init__(config)  # type: ignore[no-untyped-call]
        self._log_place = log_place

    def _formatChildException(self, exception: BaseException) -> bytes:
        """In the daemon: return the bytes for the process at the terminal."""
        return (FAILED + failure_text(exception, self._log_place).encode("utf-8", "replace"))[:MAX_REPORT]

    def _waitForStart(self, readPipe: int) -> int:
        """In the process at the terminal: wait for the result, print it, and return the exit status."""
        received: bytes = untilConcludes(os.read, readPipe, MAX_REPORT)
        if received == STARTED:
            return 0
        text = received.removeprefix(FAILED).decode("utf-8", "replace")
        text = text or f"The daemon ended before it had started. See {self._log_place}."
        if sys.__stderr__ is not None:
            sys.__stderr__.write(f"txsentinel: {text}\n")
            sys.__stderr__.flush()
        return 1


def report_failed_start(log_place: str) -> None:
    """Replace the runner of ``twistd``, before it makes one."""
    from twisted.scripts import twistd

    setattr(twistd, "_SomeApplicationRunner", lambda config: Runner(config, log_place))  # noqa: B010 - an alias that mypy takes for a type
