"""The loop that gives the core its sense of time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from txsentinel.core.sentinel import SentinelCore
from txsentinel.isentinel import IHost
from txsentinel.timings import Millis

SHORTEST_GAP: Millis = 2
"""No two sweeps are closer than this; what falls due between them is done together."""


class SweepLoop:
    """
    Sweeps at least ten times a second and exactly when something falls due.

    A ``LoopingCall`` keeps a grid that is anchored at its start; with an interval that varies the
    anchor must move along, or gaps become arbitrary. One exception ends a ``LoopingCall`` for good,
    so its Deferred ends the process: a Sentinel that no longer looks must not go on answering.
    """

    def __init__(self, host: IHost, core: SentinelCore, turn: Callable[[], None]) -> None:
        self._host = host
        self._core = core
        self._turn = turn
        self._loop = LoopingCall(self._sweep)
        self._loop.clock = host.reactor
        self._wake_at: Millis = 0
        self._sweeping = False

    def start(self) -> Deferred[LoopingCall]:
        """Sweep now and from now on; the Deferred fires when the loop is stopped."""
        sweeping = self._loop.start(self._core.timings.sweep_period / 1000, now=True)
        sweeping.addErrback(self._host.fail_stop, "the sweep raised")
        return sweeping

    def stop(self) -> None:
        """Sweep no more."""
        if self._loop.running:
            self._loop.stop()

    def adjust(self) -> None:
        """Something may be due sooner than the next sweep: bring that forward."""
        queue = self._core.state.due
        if self._sweeping or not queue.brought_forward or not self._loop.running:
            return
        queue.brought_forward = False
        due = queue.next_due
        if due is not None and due + SHORTEST_GAP < self._wake_at:
            self._set_gap(self._host.now())
            self._loop.reset()

    def _sweep(self) -> None:
        now = self._host.now()
        self._sweeping = True
        try:
            self._core.sweep(now, int(self._host.wall_clock() * 1000))
            self._turn()
        finally:
            self._sweeping = False
        self._set_gap(now)
        self._loop.starttime = self._host.reactor.seconds()

    def _set_gap(self, now: Millis) -> None:
        period = self._core.timings.sweep_period
        # A little chance keeps Sentinels that were started together from acting in step.
        gap = period - self._host.random.randrange(period // 4)
        due = self._core.next_due
        if due is not None:
            gap = max(SHORTEST_GAP, min(gap, due - now))
        self._wake_at = now + gap
        self._loop.interval = gap / 1000
