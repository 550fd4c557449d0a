"""
Handshakes by the handful: a thousand clients that come back at once must not keep us from watching.

Each step of a handshake takes a millisecond or so of arithmetic, and a reactor hands out all the input there
is before anything that is due. Steps beyond what a turn has time for wait for the next one, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from twisted.internet.interfaces import IReactorTime

HANDSHAKE_SECONDS_PER_TURN: Final = 0.02
"""Seconds of one turn that handshakes may take."""

RECOVERY: Final = 2 * HANDSHAKE_SECONDS_PER_TURN
"""Seconds after which what was spent is forgotten, though nobody had to wait."""

Step: TypeAlias = Callable[[], None]


class HandshakeThrottle:
    """Lets steps through at once while there is time, and one turn after the other when there is not."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Step] = deque()
        self._since = clock.seconds()
        self._spent = 0.0

    def try_acquire(self) -> bool:
        """May a step be taken now, out of turn?"""
        if self._clock.seconds() - self._since > RECOVERY and not self._waiting:
            self._begin()
        return not self._waiting and self._spent < HANDSHAKE_SECONDS_PER_TURN

    def take(self, step: Step) -> None:
        """Take a step, and remember the time that it took."""
        begun = self._clock.seconds()
        try:
            step()
        finally:
            self._spent += self._clock.seconds() - begun

    def queue(self, step: Step) -> None:
        """Take a step in a later turn."""
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
                self.take(self._waiting.popleft())
        finally:
            if self._waiting:
                self._clock.callLater(0, self._turn)
