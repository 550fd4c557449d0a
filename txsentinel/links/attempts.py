"""
The limit on concurrent attempts to connect.

An attempt costs the kernel and this process work whether it succeeds or not. A process that falls behind must not begin
attempts faster than it processes their outcomes, because it would fall behind further.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall

from txsentinel.interfaces import IHost
from txsentinel.model.timings import Millis

MAX_UNDER_WAY: Final = 128
"""Maximum number of attempts whose outcome is unknown because the input was not read yet."""

OUTCOME_PERIOD: Final[Millis] = 100
"""
An attempt without an outcome counts until all input that arrived within this time after its beginning has been read.

After that the delay is the network's, not this process's, and the attempt counts no longer. A thousand
servers that do not answer therefore do not delay each other.
"""


class ConnectThrottle:
    """
    Begins attempts in order, at most ``MAX_UNDER_WAY`` at a time.

    :param received_until: takes the present time, returns the time until which all input has been read.
    """

    def __init__(self, host: IHost, received_until: Callable[[Millis], Millis]) -> None:
        self._received_until = received_until
        self._host = host
        self._under_way: dict[object, Millis] = {}
        """The time at which each attempt began, in that order."""

        self._waiting: OrderedDict[object, Callable[[], object]] = OrderedDict()
        """In order. A plain dictionary would search its first entry among all those that were removed before it."""

        self._timer: IDelayedCall | None = None

    def begin(self, attempt: object, connect: Callable[[], object]) -> bool:
        """
        Call ``connect`` now, or in its turn as soon as the limit allows it.

        :returns: whether ``connect`` was called.
        """
        self._expire()
        if self._waiting or len(self._under_way) >= MAX_UNDER_WAY:
            self._waiting[attempt] = connect
            self._set_timer()
            return False
        self._start(attempt, connect)
        return True

    def end(self, attempt: object) -> None:
        """Record that the outcome of an attempt is known, or that the attempt is cancelled."""
        self._waiting.pop(attempt, None)
        if self._under_way.pop(attempt, None) is not None:
            self._admit()

    def _start(self, attempt: object, connect: Callable[[], object]) -> None:
        self._under_way[attempt] = self._host.now()
        connect()

    def _admit(self) -> None:
        while self._waiting and len(self._under_way) < MAX_UNDER_WAY:
            self._start(*self._waiting.popitem(last=False))

    def _expire(self) -> None:
        """Stop counting the attempts that had no outcome when their input was read."""
        if len(self._under_way) < MAX_UNDER_WAY:
            return
        received = self._received_until(self._host.now())
        while self._under_way:
            attempt = next(iter(self._under_way))
            if received - self._under_way[attempt] <= OUTCOME_PERIOD:
                return
            del self._under_way[attempt]

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = self._host.reactor.callLater(OUTCOME_PERIOD / 1000, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._expire()
        self._admit()
        if self._waiting:
            self._set_timer()
