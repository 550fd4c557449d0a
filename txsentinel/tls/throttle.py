"""
Limits the time that handshakes execute, so that a thousand simultaneous reconnects do not delay the monitoring.

Each step of a handshake takes about a millisecond of processor time, and a reactor processes all input before
the calls that are due. Steps beyond the limit of one turn wait for the next one, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from twisted.internet.interfaces import IReactorTime

HANDSHAKE_SECONDS_PER_TURN: Final = 0.02
"""Maximum seconds of handshakes in one turn."""

RECOVERY: Final = 2 * HANDSHAKE_SECONDS_PER_TURN
"""Seconds after which the spent time is reset if no step is waiting."""

Step: TypeAlias = Callable[[], None]


class HandshakeThrottle:
    """Executes steps at once while the limit allows it, otherwise in later turns."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Step] = deque()
        self._since = clock.seconds()
        self._spent = 0.0

    def try_acquire(self) -> bool:
        """Whether a step may be executed now."""
        if self._clock.seconds() - self._since > RECOVERY and not self._waiting:
            self._begin()
        return not self._waiting and self._spent < HANDSHAKE_SECONDS_PER_TURN

    def execute(self, step: Step) -> None:
        """Execute a step, and add its duration to the spent time."""
        begun = self._clock.seconds()
        try:
            step()
        finally:
            self._spent += self._clock.seconds() - begun

    def queue(self, step: Step) -> None:
        """Execute a step in a later turn."""
        if not self._waiting:
            self._clock.callLater(0, self._turn)
        self._waiting.append(step)

    def _begin(self) -> None:
        self._since = self._clock.seconds()
        self._spent = 0.0

    def _turn(self) -> None:
        self._begin()
        try:
            while self._waiting and self._spent < HANDSHAKE_SECONDS_PER_TURN:
                self.execute(self._waiting.popleft())
        finally:
            if self._waiting:
                self._clock.callLater(0, self._turn)
