"""The loop that calls the core when time-dependent rules are due."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from txsentinel.core.sentinel import SentinelCore
from txsentinel.core.tilt import ProcessorTime
from txsentinel.interfaces import IHost
from txsentinel.model.measurements import Measurements
from txsentinel.model.timings import Millis

MIN_INTERVAL: Millis = 2
"""Minimum distance of two sweeps in milliseconds; deadlines between them are processed together."""


class SweepLoop:
    """
    Sweeps exactly at each deadline, and otherwise seldom.

    This decides when a quiet process wakes up. A ``LoopingCall`` makes the periodic sweeps. While the core has timed
    work besides its deadlines, they follow each other ten times a second; otherwise the next one is at the next
    deadline, after ``idle_period`` at the latest. A deadline before the next periodic sweep has a delayed call of its
    own, which costs less. A ``LoopingCall`` schedules relative to its start time, so with a varying interval the start
    time must move along. An exception ends the process: a Sentinel that does not evaluate must not answer.

    :param turn: executes the decisions of the core.
    :param received_until: takes the present time, returns the time until which all input has been read.
    :param measurements: counts TILT, and delays if there is a view.
    """

    def __init__(
        self,
        host: IHost,
        core: SentinelCore,
        turn: Callable[[], None],
        received_until: Callable[[Millis], Millis],
        measurements: Measurements | None = None,
    ) -> None:
        self._host = host
        self._core = core
        self._turn = turn
        self._loop = LoopingCall(self._sweep_periodically)
        self._loop.clock = host.reactor
        self._next_periodic: Millis = 0
        self._idle = False
        """Whether the next sweep is later than a sweep period after the time at which it was planned."""

        self._early: IDelayedCall | None = None
        self._early_at: Millis = 0
        self._swept_at: Millis | None = None
        self._taken = 0
        """``taken`` of the outbox when timed work was last looked for: it hardly begins without an effect."""

        self._scheduled: tuple[int, int] | None = None
        """The scheduling times of the thread at the last periodic sweep."""

        self._sweeping = False
        self._received_until = received_until
        self._measurements = measurements or Measurements()
        self._tilts = core.tilt.total
        self._tilt_since: Millis | None = None
        self._swept: Callable[[], None] | None = None
        self._waiting: Callable[[], None] | None = None

    def observe(self, swept: Callable[[], None]) -> None:
        """Call ``swept`` after each sweep that did not fail, instead of the function that was given before."""
        self._swept = swept

    def call_after_sweeps(self, waiting: Callable[[], None] | None) -> None:
        """Call ``waiting`` after each sweep, as it waits for time to pass, until this is called with ``None``."""
        self._waiting = waiting

    def start(self) -> None:
        """Start: sweep now and periodically."""
        looping = self._loop.start(self._core.timings.sweep_period / 1000, now=True)
        looping.addErrback(self._host.fail_stop, "the sweep loop")

    def stop(self) -> None:
        """Stop sweeping."""
        if self._loop.running:
            self._loop.stop()
        if self._early is not None:
            self._early.cancel()
            self._early = None

    def adjust(self) -> None:
        """Bring the next sweep forward if a deadline has become earlier, or timed work has begun."""
        queue, taken = self._core.state.due, self._core.outbox.taken
        if queue.brought_forward or (self._idle and taken != self._taken):
            if self._sweeping or not self._loop.running:
                return
            self._taken = taken
            if queue.brought_forward or self._core.has_timed_work:
                queue.brought_forward = False
                self._plan(self._host.now())

    def _sweep_periodically(self) -> None:
        now = self._host.now()
        recently = self._swept_at is not None and now - self._swept_at < MIN_INTERVAL
        if self._next_periodic and self._measurements.observed:
            self._measurements.sweep_delays.observe(max(0, now - self._next_periodic))
        if not recently:
            self._sweep(now)
        gap = self._gap(now)
        if recently:
            # The skipped sweep must not delay the next one.
            gap -= MIN_INTERVAL
        self._next_periodic = now + gap
        self._loop.interval = gap / 1000
        self._loop.starttime = self._host.reactor.seconds()
        if self._loop.running:
            self._plan(self._host.now())
        self._scheduled = self._host.scheduled()

    def _gap(self, now: Millis) -> Millis:
        """Return the time from ``now`` until the next periodic sweep."""
        timings = self._core.timings
        # The random part prevents Sentinels that were started together from acting at the same times.
        gap: Millis = timings.sweep_period - self._host.random.randrange(timings.sweep_period // 4)
        if self._core.has_timed_work:
            return gap
        due = self._core.next_due
        return max(gap, timings.idle_period if due is None else min(due - now, timings.idle_period))

    def _sweep_early(self) -> None:
        self._early = None
        self._sweep(self._host.now())
        if self._loop.running:
            self._plan(self._host.now())

    def _sweep(self, now: Millis) -> None:
        processor = self._processor_time() if self._core.tilt.is_late(now) else None
        self._swept_at = now
        self._sweeping = True
        self._core.state.read_until = self._received_until(now)
        try:
            self._core.sweep(now, int(self._host.wall_clock() * 1000), processor)
            if self._core.tilt.total != self._tilts or self._tilt_since is not None:
                self._measure_tilt(now)
            self._turn()
            if self._waiting is not None:
                self._waiting()
            if self._swept is not None:
                self._swept()
        except Exception:
            self.stop()
            self._host.fail_stop(Failure(), "the sweep")
        finally:
            self._sweeping = False

    def _measure_tilt(self, now: Millis) -> None:
        """Count TILT when it is entered or extended, and its duration when it is left."""
        tilt = self._core.tilt
        cause = "" if tilt.report is None else tilt.report.cause.value
        if tilt.total != self._tilts:
            self._measurements.tilts[cause] += tilt.total - self._tilts
            self._tilts = tilt.total
        if self._tilt_since is None:
            self._tilt_since = tilt.since
        elif not tilt.active:
            self._measurements.tilt_ms[cause] += now - self._tilt_since
            self._tilt_since = None

    def _processor_time(self) -> ProcessorTime | None:
        """Return the processor times of the thread since the last periodic sweep, ``None`` if they are unknown."""
        before, self._scheduled = self._scheduled, self._host.scheduled()
        if before is None or self._scheduled is None:
            return None
        return ProcessorTime(self._scheduled[0] - before[0], self._scheduled[1] - before[1])

    def _plan(self, now: Millis) -> None:
        """Schedule a sweep for what is due before the next periodic one."""
        due, at = self._core.next_due, self._next_periodic
        if due is not None:
            at = min(at, max(due, now + MIN_INTERVAL))
        if self._core.has_timed_work:
            at = min(at, now + self._core.timings.sweep_period)
        if self._early is not None and self._early_at > at:
            self._early.cancel()
            self._early = None
        if self._early is None and at < self._next_periodic:
            self._early_at = at
            self._early = self._host.reactor.callLater((at - now) / 1000, self._sweep_early)
        planned = self._next_periodic if self._early is None else self._early_at
        self._core.tilt.plan(planned)
        self._idle = planned - now > self._core.timings.sweep_period
