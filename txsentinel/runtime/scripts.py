"""Executes the operator's scripts: one queue, a limited number at a time, with a limited number of retries."""

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
"""Maximum number of arguments of a script, its path included; further ones are dropped."""

NO_PROCESS: Final = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
"""Errors for lack of resources, after which the script is tried again soon. Other errors are those of the script."""

CANNOT_EXECUTE: Final = 2
"""The exit status for a file that cannot be executed."""

FORK_FAILED: Final = 99
"""Shown in place of the signal when no process could be created."""

MAX_WAIT: Final[Millis] = 1_000
"""Milliseconds until a change of the time limit by ``SENTINEL DEBUG`` takes effect for running scripts."""


@dataclass(slots=True, eq=False)
class ScriptJob:
    """A script that runs, or waits for its first or next execution."""

    path: str
    arguments: tuple[str, ...]
    """Its arguments, without the path."""

    attempts: int = 0
    """Number of attempts to start it."""

    due_at: Millis | None = None
    """The earliest time of the next attempt; ``None`` for as soon as possible."""

    started_at: Millis | None = None
    """The start of the present run; ``None`` while it waits."""

    process: IProcessTransport | None = None
    pid: int | None = None
    """The process ID, which ``process`` no longer has after the end of the process."""

    overdue: bool = False
    """Whether it exceeded the time limit and was killed, but has not ended yet."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The path and the arguments, as the script gets them."""
        return (self.path, *self.arguments)

    @property
    def running(self) -> bool:
        """Whether it is running."""
        return self.started_at is not None


class ScriptProtocol(ProcessProtocol):
    """Reports the start and the end of one run to the queue. The output of the script is not read."""

    def __init__(self, started: Callable[[IProcessTransport], None], ended: Callable[[int, int], None]) -> None:
        """
        Build the protocol of a new process.

        :param started: called with the process.
        :param ended: called with exit status and signal; the one that does not apply is 0.
        """
        self._started = started
        self._ended = ended

    def connectionMade(self) -> None:
        """Report the start."""
        assert self.transport is not None
        self._started(self.transport)

    def processEnded(self, reason: Failure) -> None:
        """Report the end."""
        outcome = reason.value
        self._ended(getattr(outcome, "exitCode", None) or 0, getattr(outcome, "signal", None) or 0)


class ScriptQueue:
    """
    Scripts in the order of their submission.

    They start at once while fewer than ``limits.running_scripts`` run. A script that exits with status 1 or is killed
    by a signal is tried again, with growing delays; any other status above 0 is final. If the queue is full, the
    oldest waiting script is dropped.
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

        :param announce: called with ``-script-error``, ``-script-timeout`` and, at level debug, with each child.
        :param note: writes a line to the log.
        """
        self.jobs: list[ScriptJob] = []
        """All running and waiting scripts, oldest first; read-only for other objects."""

        self._host = host
        self._timings = timings
        self._limits = limits
        self._announce = announce
        self._note = note
        self._starting = False
        self._stopped = False
        self._timer: IDelayedCall | None = None

    @property
    def running(self) -> int:
        """Number of running scripts."""
        return sum(job.running for job in self.jobs)

    def enqueue(self, path: str, arguments: Sequence[str]) -> None:
        """
        Execute a script, now or when fewer scripts are running.

        :param arguments: without the path. Each is cut at a NUL character, which arguments cannot contain.
        """
        words = tuple(argument.partition("\0")[0] for argument in arguments[: MAX_WORDS - 1])
        self.jobs.append(ScriptJob(path, words))
        if len(self.jobs) > self._limits.script_queue:
            self._evict()
        self._start_due(self._host.now())

    def sweep(self, now: Millis) -> None:
        """Kill the scripts that exceed the time limit, and start those that are due. A timer also calls this."""
        for job in list(self.jobs):
            if job.started_at is not None and now - job.started_at > self._timings.script_max_runtime:
                self._kill(job)
        self._start_due(now)

    def stop(self) -> None:
        """Start no more scripts. Running scripts continue after the end of this process."""
        self._stopped = True
        self._set_timer(None)

    def _evict(self) -> None:
        for job in self.jobs:
            if not job.running:
                self.jobs.remove(job)
                self._note(Level.WARNING, f"The script queue is full: dropped {' '.join(job.argv)}")
                return

    def _start_due(self, now: Millis) -> None:
        """Start the scripts that are due, and set the timer for the others."""
        if self._stopped or self._starting:
            # A script can end before the call that starts it returns. The loop below notices that.
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
        self._set_timer(self._next_due(now))

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
        """Remove the script after its run, or schedule the next attempt."""
        job.process = job.pid = job.started_at = None
        job.overdue = False
        now = self._host.now()
        if (signal or status == 1) and job.attempts < self._limits.script_attempts:
            job.due_at = now + self._retry_delay(job.attempts)
        else:
            self.jobs.remove(job)
            if signal or status:
                self._error(job, signal, status)
        self._start_due(now)

    def _retry_delay(self, attempts: int) -> Millis:
        """Return the delay before the next attempt, which doubles after each attempt."""
        return self._timings.script_retry_delay << (attempts - 1)

    def _kill(self, job: ScriptJob) -> None:
        if job.overdue or job.process is None:
            return
        job.overdue = True
        self._announce(SentinelEvent("-script-timeout", f"{job.path} {job.pid}"))
        try:
            job.process.signalProcess("KILL")
        except ProcessExitedAlready:
            # It has exited already; ``ended`` is called soon.
            return

    def _error(self, job: ScriptJob, signal: int, status: int) -> None:
        self._announce(SentinelEvent("-script-error", f"{job.path} {signal} {status}"))

    def _next_due(self, now: Millis) -> Millis | None:
        """Return the time of the next call of :meth:`sweep`, ``None`` if none is needed."""
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

    def _set_timer(self, due: Millis | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if due is not None:
            wait = max(due - self._host.now(), 1) / 1000
            self._timer = self._host.reactor.callLater(wait, self._timer_fired)

    def _timer_fired(self) -> None:
        self.sweep(self._host.now())
