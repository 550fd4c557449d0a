"""
Daemon threads for blocking calls.

The end of a process waits for the reactor's thread pool. A disk that does not respond blocks one of its threads, so a
stopping Sentinel would neither end nor serve.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EAGAIN
from threading import Thread
from typing import ParamSpec, TypeVar

from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads:
    """Replaces a ``ThreadPool``: one daemon thread for each call. The callers limit their number."""

    def callInThreadWithCallback(
        self,
        onResult: Callable[[bool, T | Failure], object],
        func: Callable[P, T],
        *args: P.args,
        **kw: P.kwargs,
    ) -> None:
        """Call ``func`` in a thread, then ``onResult`` with whether it returned, and its value or failure."""

        def work() -> None:
            try:
                result = func(*args, **kw)
            except BaseException:
                onResult(False, Failure())  # type: ignore[no-untyped-call]
            else:
                onResult(True, result)

        try:
            Thread(target=work, name=getattr(func, "__name__", "work"), daemon=True).start()
        except RuntimeError as error:  # the system allows no more threads
            onResult(False, Failure(OSError(EAGAIN, str(error))))  # type: ignore[no-untyped-call]
