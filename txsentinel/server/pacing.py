"""Fairness between clients: the limits on input, execution time and output of one client."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from txsentinel.model.time_slice import TimeSlice
from txsentinel.model.timings import Millis

if TYPE_CHECKING:
    from txsentinel.server.clients import Client

MAX_WAITING: Final = 1024
"""Number of waiting replies at which a connection is read no further."""

MAX_UNSENT: Final = 1024 * 1024
"""Bytes of waiting replies at which a connection is read no further."""

MAX_UNSENT_UNAUTHENTICATED: Final = 16 * 1024
"""The same for clients that are not logged in. There may be many of them, and their replies are short."""

TIME_SLICE_MS: Final[Millis] = 8
"""Milliseconds for which the pipeline of one client is executed before other clients are served."""

LARGE_CHUNK: Final = 16 * 1024
"""
Bytes of input above which a chunk waits for the client's turn, as long requests do.

A client that sends so much at once does not need the lowest latency, and there may be hundreds of such clients.
"""

MAX_WRITE_BYTES: Final = 64 * 1024
"""Bytes of replies at which they are written although further requests are waiting."""


class RoundRobin:
    """
    Resumes clients with long requests, one after the other, for some milliseconds in each turn of the reactor.

    The number of such clients does not lengthen a turn; it lengthens the wait of each for its next slice.

    :param now: returns the present time.
    :param later: calls a function in the next turn of the reactor.
    """

    def __init__(self, now: Callable[[], Millis], later: Callable[[Callable[[], None]], object]) -> None:
        self._now = now
        self._later = later
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, resume: Callable[[], None]) -> None:
        """Queue ``resume`` for one call; it returns after one time slice."""
        self._waiting.append(resume)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._later(self._run)

    def _run(self) -> None:
        self._scheduled = False
        time_slice = TimeSlice(self._now, TIME_SLICE_MS)
        try:
            for _ in range(len(self._waiting)):
                self._waiting.popleft()()
                if time_slice.over():
                    break
        finally:
            self._schedule()


def max_unsent(client: Client) -> int:
    """Return the bytes of waiting replies at which the client is read no further."""
    return MAX_UNSENT if client.authenticated else MAX_UNSENT_UNAUTHENTICATED
