"""TILT: the state in which a Sentinel decides nothing, as it was stopped or starved, or its clock was changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from txsentinel.model.timings import Millis, Timings


class TiltCause(Enum):
    """The reason for TILT; the value is the word in INFO."""

    CLOCK_STEPPED = "clock-stepped"
    PROCESS_STOPPED = "process-stopped"
    LOOP_LATE = "loop-late"


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """How long the reactor's thread has run and has waited for a CPU between two sweeps; milliseconds."""

    ran: Millis
    waited: Millis


@dataclass(frozen=True, slots=True)
class TiltReport:
    """Why TILT was entered; ``str`` is a clause for the log."""

    cause: TiltCause
    milliseconds: Millis
    """By how much the clock was set, negative for backwards; for the other causes, the gap between two sweeps."""

    processor: ProcessorTime | None = None

    @property
    def starved(self) -> bool:
        """
        Whether the process spent the gap waiting for a processor, with little work of its own.

        Then its clocks are right, and what it has not read yet has merely arrived late.
        """
        processor, gap = self.processor, self.milliseconds
        if self.cause is not TiltCause.LOOP_LATE or processor is None:
            return False
        return 2 * processor.waited >= gap and 4 * processor.ran <= gap

    def __str__(self) -> str:
        """Return a clause that describes the cause."""
        if self.cause is TiltCause.CLOCK_STEPPED:
            return f"the clock was set by {self.milliseconds:+} ms"
        if self.cause is TiltCause.PROCESS_STOPPED:
            return f"this process stood still for {self.milliseconds} ms"
        text = f"nothing was decided for {self.milliseconds} ms"
        if self.processor is None:
            return text
        return f"{text}, {self.processor.ran} of them at work and {self.processor.waited} waiting for a processor"


@dataclass(slots=True)
class TiltGuard:
    """
    Detects that this process was stopped or starved, or that its clock was changed.

    It measures the gaps between sweeps on the monotonic clock and on the wall clock. While nothing is due, the process
    sleeps for longer than a sweep period; the gap then counts from one sweep period before the planned end of that
    sleep, as if it had swept all the time. A gap that is negative or longer than ``tilt-trigger`` starts TILT: for
    ``tilt-period`` the Sentinel monitors but decides nothing. If the process was waiting for a processor meanwhile, a
    gap of up to ``tilt-period`` does not start TILT, because silence is measured up to the time until which all input
    has been read.
    """

    timings: Timings
    since: Millis | None = None
    total: int = 0
    report: TiltReport | None = None
    """Why TILT was last entered, whether or not it has ended."""

    starvation: TiltReport | None = None
    """The report on the gap before the last sweep, if it was long but is no reason for TILT."""

    _planned: Millis = 0
    """When the next sweep is planned; 0 if it is not known."""

    _previous: tuple[Millis, Millis] | None = None

    @property
    def active(self) -> bool:
        """Whether TILT is in force."""
        return self.since is not None

    def is_suspected(self, now: Millis) -> bool:
        """
        Whether TILT is in force, or may be after the next sweep, as the last one was longer ago than ``tilt-trigger``.

        A process that continues after a stop reads requests before it sweeps; what it knew before must not count.
        """
        if self.since is not None:
            return True
        return self._gap(now) > self.timings.tilt_trigger

    def plan(self, at: Millis) -> None:
        """Record when the next sweep is planned: until then the process may sleep."""
        self._planned = at

    def is_late(self, now: Millis) -> bool:
        """Whether the present sweep is later than it was planned, by more than a sweep period."""
        return self._gap(now) > 2 * self.timings.sweep_period

    def _gap(self, now: Millis) -> Millis:
        """Return the time since the last sweep, without planned sleep; 0 if there was none."""
        return 0 if self._previous is None else now - self._previous[0] - self._slept(self._previous[0], now)

    def _slept(self, since: Millis, now: Millis) -> Millis:
        """Return how long the process has slept as planned since the sweep at ``since``."""
        return max(0, min(self._planned, now) - self.timings.sweep_period - since)

    def swept(self, now: Millis, wall_now: Millis, processor: ProcessorTime | None = None) -> bool:
        """
        Record a sweep; return whether the gap before it starts or extends TILT.

        :param processor: CPU time of the thread in the gap; ``None`` if unknown.
        """
        previous, self._previous = self._previous, (now, wall_now)
        if previous is None:
            return False
        limit = self.timings.tilt_trigger
        slept = self._slept(previous[0], now)
        gap, wall_gap = now - previous[0] - slept, wall_now - previous[1] - slept
        self.starvation = None
        if 0 <= gap <= limit and 0 <= wall_gap <= limit:
            return False
        report = self._explain(gap, wall_gap, processor)
        if report.starved and gap <= self.timings.tilt_period:
            self.starvation = report
            return False
        self.since = now
        self.total += 1
        self.report = report
        return True

    def _explain(self, gap: Millis, wall_gap: Millis, processor: ProcessorTime | None) -> TiltReport:
        step = wall_gap - gap
        if abs(step) > self.timings.tilt_trigger or gap <= self.timings.tilt_trigger:
            return TiltReport(TiltCause.CLOCK_STEPPED, step)
        # A stopped process neither runs nor waits for a CPU. Both figures are too high by at most one sweep period.
        if processor is not None and 2 * (processor.ran + processor.waited) < gap:
            return TiltReport(TiltCause.PROCESS_STOPPED, gap, processor)
        return TiltReport(TiltCause.LOOP_LATE, gap, processor)

    def left(self, now: Millis) -> Millis:
        """Return the remaining duration of TILT; 0 outside of it."""
        return 0 if self.since is None else max(0, self.since + self.timings.tilt_period - now)

    def over(self, now: Millis) -> bool:
        """Leave TILT if its period has passed; return whether it was left by this call."""
        if self.since is None or now - self.since <= self.timings.tilt_period:
            return False
        self.since = None
        return True
