"""
Certificates that are replaced while we run.

Files are looked at, and read, in a thread: they may lie on a slow disk. New contexts are made of all of
them together or not at all.
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
"""What files look like from outside; another value means that something was changed."""

INTERVAL: Final = 5.0
"""Seconds between two looks, where ``tls-auto-reload-interval`` does not say anything."""

RENEWED: Final = "TLS certificates were read anew; new connections use them."
KEPT: Final = "The new TLS files are of no use, so what was loaded before stays in use: "


def marks_of(paths: Sequence[str]) -> Marks:
    """Marks of files, links followed; a file that is not there has one too."""
    return tuple(_mark(path) for path in paths)


def _mark(path: str) -> Marks | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Renewal:
    """
    Looks for changed files now and then, and reads them when told to.

    Changed files are read once they look the same twice in a row: whoever replaces a certificate and then
    its key shall be done with both.

    :param paths: what to look at, absolute.
    :param load: reads everything, in a thread; raises :class:`BadTls`.
    :param renewed: takes over what was loaded.
    :param interval: seconds between two looks; 0 for none.
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
        self._loop = LoopingCall(self.look)
        self._loop.clock = host.reactor

    def start(self) -> None:
        """Look from now on."""
        if self._interval:
            self._loop.start(self._interval, now=False).addErrback(self._host.fail_stop, "the check of certificates")

    def stop(self) -> None:
        """Look no more; what is being read is dropped."""
        self._stopped = True
        if self._loop.running:
            self._loop.stop()

    def look(self) -> Deferred[None]:
        """Read what has changed, if it has; the Deferred fires when that is done."""
        return self._lock.run(self._look)

    def renew(self) -> Deferred[None]:
        """Read everything, changed or not; the Deferred fires when that is done."""
        return self._lock.run(self._read)

    def _look(self) -> Deferred[None]:
        return self._threaded(lambda: marks_of(self._paths)).addCallback(self._compare)

    def _compare(self, marks: Marks) -> Deferred[None] | None:
        settled, self._seen = marks == self._seen, marks
        return self._read() if settled and marks != self._used else None

    def _read(self) -> Deferred[None]:
        def read() -> tuple[Marks, Contexts | BadTls]:
            marks = marks_of(self._paths)
            try:
                return marks, self._load()
            except BadTls as refusal:
                return marks, refusal

        return self._threaded(read).addCallback(self._take)

    def _take(self, found: tuple[Marks, Contexts | BadTls]) -> None:
        # A file that is refused is not tried again before it changes.
        self._used, outcome = found
        self._seen = self._used
        if self._stopped:
            return
        if isinstance(outcome, BadTls):
            self._note(Level.WARNING, f"{KEPT}{outcome}")
        else:
            self._renewed(outcome)
            self._note(Level.NOTICE, RENEWED)

    def _threaded(self, function: Callable[[], T]) -> Deferred[T]:
        reactor = self._host.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), function)
