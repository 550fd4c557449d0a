"""Runs ``dot`` of Graphviz, which turns the text of a drawing into SVG."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Final, cast

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from txsentinel.extensions.http.problem import Problem

TIMEOUT_SECONDS: Final = 5.0
MAX_OUTPUT_BYTES: Final = 1 << 20


class IProcessReactor(IReactorTime, IReactorProcess):
    """What running a child process needs of a reactor."""


class DotProtocol(ProcessProtocol):
    """
    One child process.

    :ivar finished: fires with its output; fails with ``Problem`` if it fails, takes too long or writes too much.
        Cancelling it kills the process.
    """

    def __init__(self, clock: IReactorTime, source: bytes) -> None:
        self._source = source
        self._output: list[bytes] = []
        self._size = 0
        self._problem: Problem | None = None
        self._cancelled = False
        self._deadline: IDelayedCall = clock.callLater(
            TIMEOUT_SECONDS, self._kill, Problem(503, "drawing_too_slow", f"dot took over {TIMEOUT_SECONDS:g} seconds")
        )
        self.finished: Deferred[bytes] = Deferred(lambda _: self._cancel())

    def connectionMade(self) -> None:
        """Send the drawing."""
        assert self.transport is not None
        self.transport.write(self._source)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Keep the output, unless it becomes too long."""
        self._size += len(data)
        if self._size > MAX_OUTPUT_BYTES:
            self._kill(Problem(503, "drawing_too_large", f"the drawing is larger than {MAX_OUTPUT_BYTES} bytes"))
        else:
            self._output.append(data)

    def errReceived(self, data: bytes) -> None:
        """Ignore warnings, such as those about missing fonts."""

    def processEnded(self, reason: Failure) -> None:
        """Report the end."""
        if self._deadline.active():
            self._deadline.cancel()
        finished, self.finished = self.finished, Deferred()
        if self._cancelled:
            return
        if self._problem is not None:
            finished.errback(self._problem)
        elif getattr(reason.value, "exitCode", None) != 0:
            finished.errback(Problem(503, "drawing_failed", f"dot failed: {reason.getErrorMessage()}"))
        else:
            finished.callback(b"".join(self._output))

    def _cancel(self) -> None:
        self._cancelled = True
        self._kill(None)

    def _kill(self, problem: Problem | None) -> None:
        """End the process; the first problem counts."""
        self._problem = self._problem or problem
        if self.transport is not None and getattr(self.transport, "pid", None):
            self.transport.signalProcess("KILL")


class Graphviz:
    """
    Makes SVG, with one process at a time.

    :param find: returns the path of ``dot``, or ``None`` if there is none.
    """

    def __init__(self, reactor: IReactorTime, find: Callable[[str], str | None] = shutil.which) -> None:
        self._reactor = reactor
        self._find = find
        self._lock = DeferredLock()

    def svg(self, source: Callable[[], str]) -> Deferred[bytes]:
        """
        Return the SVG of a drawing.

        :param source: returns the text of the drawing once it is its turn.
        :returns: fails with ``Problem``, with status 501 if Graphviz is not installed.
        """
        return self._lock.run(self._run, source)

    def _run(self, source: Callable[[], str]) -> Deferred[bytes]:
        path = self._find("dot")
        if path is None:
            raise Problem(
                501, "no_graphviz", "drawings need the program dot: install Graphviz on the machine of this Sentinel"
            )
        protocol = DotProtocol(self._reactor, source().encode())
        finished = protocol.finished
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        try:
            cast(IProcessReactor, self._reactor).spawnProcess(protocol, path, ["dot", "-Tsvg"], environment)
        except OSError as error:
            protocol.processEnded(Failure(error))
        return finished
