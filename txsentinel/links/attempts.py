"""
How many attempts to connect may be under way.

An attempt costs the kernel and this process some work whether it succeeds or not. A process that falls behind must not
begin more attempts than it sees the outcome of: it would fall behind further, and begin even more.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall

from txsentinel.interfaces import IHost
from txsentinel.model.timings import Millis

MAX_UNDER_WAY: Final = 128
"""Attempts that were begun and whose outcome was not looked for yet."""

LOOKED_FOR: Final[Millis] = 100
"""
An attempt without an outcome counts until everything that arrived within this time after its beginning has been read.

After that its silence is the network's, not ours, and takes nobody's place: the rest of a thousand silent servers
is tried without delay.
"""


class ConnectThrottle:
    """
    Lets attempts begin, in order, while few are under way.

    :param received_until: the time until which everything that arrived has been read, given the present time.
    """

    def __init__(self, host: IHost, received_until: Callable[[Millis], Millis]) -> None:
        self.received_until = received_until
        self._host = host
        self._under_way: dict[object, Millis] = {}
        """When each began; in that order."""

        self._waiting: dict[object, Callable[[], object]] = {}
        self._timer: IDelayedCall | None = None

    def begin(self, attempt: object, connect: Callable[[], object]) -> bool:
        """
        Call ``connect`` now or, in its turn, once there is room.

        :returns: whether it was called.
        """
        self._expire()
        if self._waiting or len(self._under_way) >= MAX_UNDER_WAY:
            self._waiting[attempt] = connect
            self._set_timer()
            return False
        self._start(attempt, connect)
        return True

    def end(self, attempt: object) -> None:
        """Note that the outcome of an attempt is known, or that it is not wanted any more."""
        self._waiting.pop(attempt, None)
        if self._under_way.pop(attempt, None) is not None:
            self._admit()

    def _start(self, attempt: object, connect: Callable[[], object]) -> None:
        self._under_way[attempt] = self._host.now()
        connect()

    def _admit(self) -> None:
        while self._waiting and len(self._under_way) < MAX_UNDER_WAY:
            attempt = next(iter(self._waiting))
            self._start(attempt, self._waiting.pop(attempt))

    def _expire(self) -> None:
        """Count those no longer that were looked at in vain."""
        if len(self._under_way) < MAX_UNDER_WAY:
            return
        received = self.received_until(self._host.now())
        while self._under_way:
            attempt = next(iter(self._under_way))
            if received - self._under_way[attempt] <= LOOKED_FOR:
                return
            del self._under_way[attempt]

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = self._host.reactor.callLater(LOOKED_FOR / 1000, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._expire()
        self._admit()
        if self._waiting:
            self._set_timer()
