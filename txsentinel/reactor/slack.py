"""
A clock whose calls may be late, so that they share the wake-ups of other calls (timer slack).

A periodic call that nothing waits for, such as a check once a second, must not wake up a process that sleeps. Such
calls are made right after another delayed call of the reactor once they are due, or after a second of slack.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import classImplements

SLACK_SECONDS: Final = 1.1
"""How late a call may be: a quiet Sentinel sweeps once a second."""

EARLY_SECONDS: Final = 0.02
"""How early a call may be made, so that periods of one length do not miss each other."""

ROUNDING: Final = 0.0001
"""By how much more than its due time the clock shows, in seconds: sums of intervals are not exact."""

NEVER: Final = float("inf")


class SlackClock:
    """
    Makes calls on behalf of a reactor, which calls :meth:`run_due` after its other delayed calls.

    During a call that is early, the clock shows the time at which it was due; a ``LoopingCall`` would otherwise
    repeat it a moment later.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pending: dict[IDelayedCall, float] = {}
        self._running_for = 0.0
        self.due = NEVER
        """When the earliest call may be made."""

    def seconds(self) -> float:
        """Return the time."""
        now: float = self._reactor.seconds()
        return max(now, self._running_for)

    def callLater(  # type: ignore[override]
        self, delay: float, call: Callable[..., object], *arguments: Any, **named: Any
    ) -> IDelayedCall:
        """Make a call after ``delay`` seconds; if the reactor sleeps then, when it wakes up, or after the slack."""
        due = self.seconds() + delay

        def make() -> None:
            self._forget()
            self._running_for = due + ROUNDING
            try:
                call(*arguments, **named)
            finally:
                self._running_for = 0.0

        later: IDelayedCall = self._reactor.callLater(max(0.0, due - self._reactor.seconds()) + SLACK_SECONDS, make)
        self._pending[later] = due
        self.due = min(self.due, due - EARLY_SECONDS)
        return later

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """Return the pending calls."""
        self._forget()
        return list(self._pending)

    def run_due(self, now: float) -> None:
        """Make the calls that are due."""
        for call, due in list(self._pending.items()):
            if due - EARLY_SECONDS <= now and call.active():
                call.reset(0)
                del self._pending[call]
        self._forget()

    def _forget(self) -> None:
        """Drop the calls that were made or cancelled."""
        self._pending = {call: at for call, at in self._pending.items() if call.active()}
        self.due = min(self._pending.values(), default=NEVER) - EARLY_SECONDS


classImplements(SlackClock, IReactorTime)
