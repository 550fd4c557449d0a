"""
Threads that nobody waits for.

A process that ends waits for the reactor's pool of threads. A disk that does not answer holds one of them, so a
Sentinel that was told to stop would neither end nor serve.
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
    """Stands in for a ``ThreadPool``: a daemon thread for each call. How many there are is up to the callers."""

    def callInThreadWithCallback(
        self,
        onResult: Callable[[bool, T | Failure], object],
        func: Callable[P, T],
        *args: P.args,
        **kw: P.kwargs,
    ) -> None:
        """Call ``func`` in a thread, and ``onResult`` with whether it returned, and the value or failure."""

        def work() -> None:
            try:
                result = func(*args, **kw)
            except BaseException:
                onResult(False, Failure())  # type: ignore[no-untyped-call]
            else:
                onResult(True, result)

        try:
            Thread(target=work, name=getattr(func, "__name__", "work"), daemon=True).start()
        except RuntimeError as error:  # as many threads as the system lets us have
            onResult(False, Failure(OSError(EAGAIN, str(error))))  # type: ignore[no-untyped-call]
