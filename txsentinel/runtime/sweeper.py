"""The loop that gives the core its sense of time."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from txsentinel.core.availability import ProcessorTime
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost
from txsentinel.model.timings import Millis

SHORTEST_GAP: Millis = 2
"""No two sweeps are closer than this; what falls due between them is done together."""


class SweepLoop:
    """
    Sweeps at least ten times a second and exactly when something falls due.

    The beat is that of a ``LoopingCall``; what is due before the next beat has a call of its own, which costs a
    fraction of one. A ``LoopingCall`` keeps a grid that is anchored at its start; with an interval that varies the
    anchor must move along, or gaps become arbitrary. An exception ends the process: a Sentinel that no longer looks
    must not go on answering.
    """

    def __init__(self, host: IHost, core: SentinelCore, turn: Callable[[], None]) -> None:
        self._host = host
        self._core = core
        self._turn = turn
        self._beat = LoopingCall(self._sweep_at_beat)
        self._beat.clock = host.reactor
        self._beats_at: Millis = 0
        self._early: IDelayedCall | None = None
        self._early_at: Millis = 0
        self._swept_at: Millis | None = None
        self._scheduled: tuple[int, int] | None = None
        """What the host said of our thread at the last beat."""

        self._sweeping = False
        self.received_until: Callable[[Millis], Millis] = lambda now: now
        """The time until which everything that arrived has been read, given the present time."""

    def start(self) -> None:
        """Sweep now and from now on."""
        beating = self._beat.start(self._core.timings.sweep_period / 1000, now=True)
        beating.addErrback(self._host.fail_stop, "the beat of sweeps raised")

    def stop(self) -> None:
        """Sweep no more."""
        if self._beat.running:
            self._beat.stop()
        if self._early is not None:
            self._early.cancel()
            self._early = None

    def adjust(self) -> None:
        """Something may be due sooner than the next sweep: bring that forward."""
        queue = self._core.state.due
        if self._sweeping or not queue.brought_forward or not self._beat.running:
            return
        queue.brought_forward = False
        self._plan(self._host.now())

    def _sweep_at_beat(self) -> None:
        now = self._host.now()
        period = self._core.timings.sweep_period
        recently = self._swept_at is not None and now - self._swept_at < SHORTEST_GAP
        # A little chance keeps Sentinels that were started together from acting in step.
        gap = period - self._host.random.randrange(period // 4)
        if recently:
            # Not even the sweep that is left out makes the next one late.
            gap -= SHORTEST_GAP
        self._beats_at = now + gap
        self._beat.interval = gap / 1000
        self._beat.starttime = self._host.reactor.seconds()
        if not recently:
            self._sweep(now)
        self._scheduled = self._host.scheduled()

    def _sweep_early(self) -> None:
        self._early = None
        self._sweep(self._host.now())

    def _sweep(self, now: Millis) -> None:
        late = self._swept_at is not None and now - self._swept_at > 2 * self._core.timings.sweep_period
        processor = self._processor_time() if late else None
        self._swept_at = now
        self._sweeping = True
        self._core.state.heard = self.received_until(now)
        try:
            self._core.sweep(now, int(self._host.wall_clock() * 1000), processor)
            self._turn()
        except Exception:
            self.stop()
            self._host.fail_stop(Failure(), "the sweep raised")
        finally:
            self._sweeping = False
        if self._beat.running:
            self._plan(self._host.now())

    def _processor_time(self) -> ProcessorTime | None:
        """What our thread did since the last beat, or ``None`` if the host does not tell."""
        before, self._scheduled = self._scheduled, self._host.scheduled()
        if before is None or self._scheduled is None:
            return None
        return ProcessorTime(self._scheduled[0] - before[0], self._scheduled[1] - before[1])

    def _plan(self, now: Millis) -> None:
        """Sweep before the next beat if something is due before it."""
        due = self._core.next_due
        if due is None:
            return
        at = max(due, now + SHORTEST_GAP)
        if self._early is not None:
            if self._early_at <= at:
                return
            self._early.cancel()
            self._early = None
        if at < self._beats_at:
            self._early_at = at
            self._early = self._host.reactor.callLater((at - now) / 1000, self._sweep_early)
