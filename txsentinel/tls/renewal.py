"""
Renewal of certificates at run time.

The files are checked and read in a thread, because their disk may be slow. New contexts are made of all files together
or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool

from txsentinel.interfaces import IHost
from txsentinel.model.events import Level
from txsentinel.tls.contexts import Contexts
from txsentinel.tls.errors import BadTls

T = TypeVar("T")

Marks: TypeAlias = tuple[object, ...]
"""The properties of files that change with their contents."""

INTERVAL: Final = 5.0
"""Default of ``tls-auto-reload-interval``, in seconds."""

RENEWED: Final = "TLS certificates were reloaded; new connections use them."
KEPT: Final = "The new TLS files are unusable, so the previous ones stay in use: "


def marks_of(paths: Sequence[str]) -> Marks:
    """Return the marks of files, following symbolic links; a missing file has one, too."""
    return tuple(_mark(path) for path in paths)


def _mark(path: str) -> Marks | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Renewal:
    """
    Checks files for changes periodically, and reads them after a change or on request.

    Changed files are read when two checks in a row find the same marks, so that the replacement of a certificate and
    of its key is complete.

    :param paths: the absolute paths of the files.
    :param load: reads all files, in a thread; raises :class:`BadTls`.
    :param renewed: called with the new contexts.
    :param interval: seconds between two checks; 0 for no checks.
    """

    def __init__(
        self,
        host: IHost,
        paths: Sequence[str],
        load: Callable[[], Contexts],
        renewed: Callable[[Contexts], None],
        note: Callable[[Level, str], None],
        interval: float = INTERVAL,
    ) -> None:
        self._host = host
        self._paths = paths
        self._load = load
        self._renewed = renewed
        self._note = note
        self._interval = interval
        self._used = self._seen = marks_of(paths)
        self._stopped = False
        self._lock = DeferredLock()
        self._loop = LoopingCall(self.check)
        self._loop.clock = host.reactor

    def start(self) -> None:
        """Start the periodic checks."""
        if self._interval:
            self._loop.start(self._interval, now=False).addErrback(self._host.fail_stop, "the check of certificates")

    def stop(self) -> None:
        """Stop the periodic checks, and drop the result of a read in progress."""
        self._stopped = True
        if self._loop.running:
            self._loop.stop()

    def check(self) -> Deferred[str]:
        """Read the files if they have changed; see :meth:`renew`."""
        return self._lock.run(self._check)

    def renew(self) -> Deferred[str]:
        """
        Read the files, changed or not.

        :returns: fires when that is done, with the reason why they are unusable; empty if they are in use now.
        """
        return self._lock.run(self._read)

    def _check(self) -> Deferred[str]:
        return self._threaded(lambda: marks_of(self._paths)).addCallback(self._compare)

    def _compare(self, marks: Marks) -> Deferred[str] | str:
        unchanged, self._seen = marks == self._seen, marks
        return self._read() if unchanged and marks != self._used else ""

    def _read(self) -> Deferred[str]:
        def read() -> tuple[Marks, Contexts | BadTls]:
            marks = marks_of(self._paths)
            try:
                return marks, self._load()
            except BadTls as refusal:
                return marks, refusal

        return self._threaded(read).addCallback(self._apply)

    def _apply(self, found: tuple[Marks, Contexts | BadTls]) -> str:
        # Unusable files are not read again before they change.
        self._used, outcome = found
        self._seen = self._used
        if self._stopped:
            return ""
        if isinstance(outcome, BadTls):
            self._note(Level.WARNING, f"{KEPT}{outcome}")
            return f"{KEPT}{outcome}"
        self._renewed(outcome)
        self._note(Level.NOTICE, RENEWED)
        return ""

    def _threaded(self, function: Callable[[], T]) -> Deferred[T]:
        reactor = self._host.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), function)
