"""How much of one client is read, executed and kept before it is the turn of others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from txsentinel.model.timings import Millis
from txsentinel.server.clientline import client_line

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext

MAX_WAITING: Final = 1024
"""Replies that may wait on one connection before it is read no further."""

MAX_UNSENT: Final = 1024 * 1024
"""Bytes of replies that may wait on one connection before it is read no further."""

MAX_UNSENT_UNAUTHENTICATED: Final = 16 * 1024
"""The same for whoever has not logged in: strangers may be many, and their replies are short."""

TIME_SLICE_MS: Final[Millis] = 8
"""How long one client's pipeline is executed before it is the turn of others."""

LARGE_CHUNK: Final = 16 * 1024
"""Bytes of input above which a chunk is read when the client's turn comes, as are long requests: whoever sends so much
at a time is in no hurry, and there may be hundreds."""

MAX_WRITE_BYTES: Final = 64 * 1024
"""Bytes of replies gathered before they are handed on, though more requests are at hand."""


class RoundRobin:
    """
    Lets clients with long requests go on, one after the other, for some milliseconds of each turn of the reactor.

    However many there are, a turn is not longer; each of them waits the longer for its next slice.

    :param now: the time.
    :param later: calls something in the reactor's next turn.
    """

    def __init__(self, now: Callable[[], Millis], later: Callable[[Callable[[], None]], object]) -> None:
        self._now = now
        self._later = later
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` when its turn comes; it returns after a slice."""
        self._waiting.append(resume)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._later(self._run)

    def _run(self) -> None:
        self._scheduled = False
        until = self._now() + TIME_SLICE_MS
        try:
            for _ in range(len(self._waiting)):
                self._waiting.popleft()()
                if self._now() > until:
                    break
        finally:
            self._schedule()


def max_unsent(client: Client) -> int:
    """How many bytes of replies may wait before the client is read no further."""
    return MAX_UNSENT if client.authenticated else MAX_UNSENT_UNAUTHENTICATED


def is_cut_off(context: ServerContext, client: Client, unsent: int, now: Millis) -> bool:
    """
    Whether a client must lose its connection, having left more unread than its class may. It is counted and logged.

    Since when it leaves more than the soft limit is kept in ``client.over_soft_limit_since``.
    """
    limit = context.options.client_output_buffer_limit[client.kind.value]
    if not limit.soft or unsent <= limit.soft:
        client.over_soft_limit_since = None
    elif client.over_soft_limit_since is None:
        client.over_soft_limit_since = now
    since = client.over_soft_limit_since
    too_long = since is not None and now - since > limit.seconds * 1000
    if not too_long and not (limit.hard and unsent > limit.hard):
        return False
    context.statistics.output_limit_disconnections += 1
    line = "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
    context.log_throttle.warn(now, line, line=client_line(client, now))
    return True
