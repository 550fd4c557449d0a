"""Running the operator's scripts: one queue, a few at a time, with patience for failures but not for ever."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from txsentinel.interfaces import IHost
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Limits, Millis, Timings

MAX_WORDS: Final = 16
"""Arguments that a script gets at most, its path included; the rest is cut off."""

NO_PROCESS: Final = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
"""The system is short of something: worth trying again soon. Any other error is the script's own fault."""

CANNOT_EXECUTE: Final = 2
"""The exit status that stands for a file which is no program."""

FORK_FAILED: Final = 99
"""What stands in the place of the signal when no process could be made."""

MAX_WAIT: Final[Millis] = 1_000
"""How long a change of the time limit by ``SENTINEL DEBUG`` may go unnoticed while scripts run."""


@dataclass(slots=True, eq=False)
class ScriptJob:
    """A script that runs, or waits to be run for the first time or again."""

    path: str
    arguments: tuple[str, ...]
    """What it is called with, the path aside."""

    attempts: int = 0
    """How often it was started, or should have been."""

    due_at: Millis | None = None
    """Before when it must not be tried again; ``None`` for as soon as possible."""

    started_at: Millis | None = None
    """When the present run began; ``None`` while it waits."""

    process: IProcessTransport | None = None
    pid: int | None = None
    """The number of the process, which the process itself forgets when it ends."""

    overdue: bool = False
    """It ran for too long and was killed, but its end is not known yet."""

    @property
    def argv(self) -> tuple[str, ...]:
        """What the script sees itself called as, and its arguments."""
        return (self.path, *self.arguments)

    @property
    def running(self) -> bool:
        """Is there a process?"""
        return self.started_at is not None


class ScriptProtocol(ProcessProtocol):
    """Tells the queue of the beginning and the end of one run; what the script prints is not ours to read."""

    def __init__(self, started: Callable[[IProcessTransport], None], ended: Callable[[int, int], None]) -> None:
        """
        Build one for a process that is about to be made.

        :param ended: called with exit status and signal, the one that does not apply being 0.
        """
        self._started = started
        self._ended = ended

    def connectionMade(self) -> None:
        """There is a process."""
        assert self.transport is not None
        self._started(self.transport)

    def processEnded(self, reason: Failure) -> None:
        """The process is gone."""
        outcome = reason.value
        self._ended(getattr(outcome, "exitCode", None) or 0, getattr(outcome, "signal", None) or 0)


class ScriptQueue:
    """
    Scripts in the order in which they were asked for.

    They start at once while fewer than ``limits.running_scripts`` run. One that exits with status 1 or
    is killed by a signal is tried again, later and later; any other status above 0 is final. If the
    queue is full, the oldest one that does not run gives way.
    """

    def __init__(
        self,
        host: IHost,
        timings: Timings,
        limits: Limits,
        announce: Callable[[SentinelEvent], None],
        note: Callable[[Level, str], None],
    ) -> None:
        """
        Build an empty queue.

        :param announce: told of ``-script-error``, ``-script-timeout`` and, at level debug, of each child.
        :param note: writes a line to the log.
        """
        self.jobs: list[ScriptJob] = []
        """Everything that runs or waits, oldest first; not to be changed from outside."""

        self._host = host
        self._timings = timings
        self._limits = limits
        self._announce = announce
        self._note = note
        self._starting = False
        self._stopped = False
        self._alarm: IDelayedCall | None = None

    @property
    def running(self) -> int:
        """How many of the jobs run."""
        return sum(job.running for job in self.jobs)

    def enqueue(self, path: str, arguments: Sequence[str]) -> None:
        """
        Run a script, now or when its turn comes.

        :param arguments: without the path. Each ends at a NUL, as the system could not pass one on.
        """
        words = tuple(argument.partition("\0")[0] for argument in arguments[: MAX_WORDS - 1])
        self.jobs.append(ScriptJob(path, words))
        if len(self.jobs) > self._limits.script_queue:
            self._evict()
        self._go_on(self._host.now())

    def sweep(self, now: Millis) -> None:
        """Kill what runs for too long and start what is due; happens by itself, too, when there is need."""
        for job in list(self.jobs):
            if job.started_at is not None and now - job.started_at > self._timings.script_max_runtime:
                self._kill(job)
        self._go_on(now)

    def stop(self) -> None:
        """Start nothing more and wait for nothing. Scripts that run are left to finish without us."""
        self._stopped = True
        self._set_alarm(None)

    def _evict(self) -> None:
        for job in self.jobs:
            if not job.running:
                self.jobs.remove(job)
                self._note(Level.WARNING, f"The script queue is full: gave up {' '.join(job.argv)}")
                return

    def _go_on(self, now: Millis) -> None:
        """Start what can be started, and set the alarm for what cannot."""
        if self._stopped or self._starting:
            # A script may end before the call that starts it returns: the loop below sees its place free.
            return
        self._starting = True
        try:
            while self.running < self._limits.running_scripts:
                job = next((job for job in self.jobs if not job.running and (job.due_at or 0) <= now), None)
                if job is None:
                    break
                self._start(job, now)
        finally:
            self._starting = False
        self._set_alarm(self._next_due(now))

    def _start(self, job: ScriptJob, now: Millis) -> None:
        job.attempts += 1
        job.due_at = None
        job.started_at = now

        def started(process: IProcessTransport) -> None:
            job.process, job.pid = process, process.pid
            self._announce(SentinelEvent("+script-child", str(job.pid)))

        def ended(status: int, signal: int) -> None:
            self._announce(SentinelEvent("-script-child", f"{job.pid} {status} {signal}"))
            self._ended(job, status, signal)

        try:
            self._host.spawn(ScriptProtocol(started, ended), job.path, job.argv, None)
        except (OSError, ValueError) as error:
            job.started_at = None
            if isinstance(error, OSError) and error.errno in NO_PROCESS:
                job.due_at = now + self._timings.sweep_period
                self._error(job, FORK_FAILED, 0)
            else:
                self._note(Level.WARNING, f"Cannot execute the script {job.path}: {error}")
                self._ended(job, CANNOT_EXECUTE, 0)

    def _ended(self, job: ScriptJob, status: int, signal: int) -> None:
        """One run is over: done, to be tried again, or given up."""
        job.process = job.pid = job.started_at = None
        job.overdue = False
        now = self._host.now()
        if (signal or status == 1) and job.attempts < self._limits.script_attempts:
            job.due_at = now + self._retry_delay(job.attempts)
        else:
            self.jobs.remove(job)
            if signal or status:
                self._error(job, signal, status)
        self._go_on(now)

    def _retry_delay(self, attempts: int) -> Millis:
        """Doubled after each attempt."""
        return self._timings.script_retry_delay << (attempts - 1)

    def _kill(self, job: ScriptJob) -> None:
        if job.overdue or job.process is None:
            return
        job.overdue = True
        self._announce(SentinelEvent("-script-timeout", f"{job.path} {job.pid}"))
        try:
            job.process.signalProcess("KILL")
        except ProcessExitedAlready:
            # It beat us to it; its end is about to be told.
            return

    def _error(self, job: ScriptJob, signal: int, status: int) -> None:
        self._announce(SentinelEvent("-script-error", f"{job.path} {signal} {status}"))

    def _next_due(self, now: Millis) -> Millis | None:
        """When to look again, if at all."""
        due: list[Millis] = []
        running = 0
        for job in self.jobs:
            if job.started_at is not None:
                running += 1
                if not job.overdue:
                    due.append(min(job.started_at + self._timings.script_max_runtime + 1, now + MAX_WAIT))
        if running < self._limits.running_scripts:
            due += [job.due_at or now for job in self.jobs if not job.running]
        return min(due, default=None)

    def _set_alarm(self, due: Millis | None) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None
        if due is not None:
            wait = max(due - self._host.now(), 1) / 1000
            self._alarm = self._host.reactor.callLater(wait, self._alarmed)

    def _alarmed(self) -> None:
        self.sweep(self._host.now())
