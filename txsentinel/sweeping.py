"""The loop that gives the core its sense of time."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from txsentinel.core.sentinel import SentinelCore
from txsentinel.isentinel import IHost
from txsentinel.timings import Millis

SHORTEST_GAP: Millis = 2
"""No two sweeps are closer than this; what falls due between them is done together."""


class SweepLoop:
    """
    Sweeps at least ten times a second and exactly when something falls due.

    Each sweep calls for the next. A ``LoopingCall`` would keep a grid instead, of which gaps that vary
    have no use, and would make and unwind a Deferred each time. An exception ends the loop, so it ends
    the process: a Sentinel that no longer looks must not go on answering.
    """

    def __init__(self, host: IHost, core: SentinelCore, turn: Callable[[], None]) -> None:
        self._host = host
        self._core = core
        self._turn = turn
        self._next: IDelayedCall | None = None
        self._running = False
        self._wake_at: Millis = 0
        self._sweeping = False

    def start(self) -> None:
        """Sweep now and from now on."""
        self._running = True
        self._sweep()

    def stop(self) -> None:
        """Sweep no more."""
        self._running = False
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def adjust(self) -> None:
        """Something may be due sooner than the next sweep: bring that forward."""
        queue = self._core.state.due
        if self._sweeping or not queue.brought_forward or self._next is None:
            return
        queue.brought_forward = False
        due = queue.next_due
        if due is not None and due + SHORTEST_GAP < self._wake_at:
            self._next.cancel()
            self._plan(self._host.now())

    def _sweep(self) -> None:
        self._next = None
        now = self._host.now()
        self._sweeping = True
        try:
            self._core.sweep(now, int(self._host.wall_clock() * 1000))
            self._turn()
        except Exception:
            self._running = False
            self._host.fail_stop(Failure(), "the sweep raised")
        finally:
            self._sweeping = False
        if self._running:
            self._plan(now)

    def _plan(self, now: Millis) -> None:
        """Call for the next sweep, the last one having been at ``now``."""
        period = self._core.timings.sweep_period
        # A little chance keeps Sentinels that were started together from acting in step.
        gap = period - self._host.random.randrange(period // 4)
        due = self._core.next_due
        if due is not None:
            gap = max(SHORTEST_GAP, min(gap, due - now))
        self._wake_at = now + gap
        self._next = self._host.reactor.callLater(gap / 1000, self._sweep)
