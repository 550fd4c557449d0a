"""
The writes and probes of the configuration file: their timers, and what their outcomes lead to.

When a write begins is decided by the machine in ``config.saving``, whose inputs are declared here.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ETIMEDOUT
from typing import Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from txsentinel.config.errors import WriteStuck
from txsentinel.config.saved_source import Source
from txsentinel.interfaces import IHost
from txsentinel.model.measurements import Measurements

FIRST_RETRY: Final = 0.1
"""Delay in seconds after a failed write; doubled on each further failure."""

LAST_RETRY: Final = 5.0
"""Maximum delay in seconds after a failed write."""

HANG_LIMIT: Final = 5.0
"""Seconds after which a write that has not ended counts as failing, so that effects do not queue up behind it."""

STOP_LIMIT: Final = 5.0
"""Maximum time in seconds that stopping waits for a write or a probe."""

PROBE_PERIOD: Final = 10.0
"""Interval in seconds of checks whether the file could be saved."""

USUAL_SIZE: Final = 4096
"""Assumed size of the file in bytes before it was first written."""


class Attempts:
    """
    The writes and probes of one file, their timers, and their outcomes.

    The parameters are those of :class:`~txsentinel.config.store.ConfigStore`.
    """

    def __init__(
        self,
        host: IHost,
        path: str,
        source: Source,
        on_durable: Callable[[int], None],
        on_failure: Callable[[int, OSError], None],
        on_overwritten: Callable[[str], None],
        measurements: Measurements | None = None,
    ) -> None:
        self.source = source
        self.durable = 0
        """The highest durable generation."""

        self.failing = False
        """Whether the last write failed or hangs."""

        self._writing_since: float | None = None  # in seconds of the reactor's clock
        self._saved: bytes | None = None
        """The contents that are durable, if known. Those read at start may not be: their writer may have crashed."""

        self._host = host
        self._path = path
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._on_overwritten = on_overwritten
        self._measurements = measurements or Measurements()
        self._began_at = 0.0
        self._overwritten_for = ""
        self._size = USUAL_SIZE
        self._failed_at = 0.0
        self._retry_after = FIRST_RETRY
        self._next: IDelayedCall | None = None
        self._hang_timer: IDelayedCall | None = None
        self._next_probe: IDelayedCall | None = None
        self._probes = 0  # those in progress
        self._preparing: IDelayedCall | None = None
        self._giving_up: IDelayedCall | None = None
        self._stopped: list[Deferred[None]] = []

    @property
    def saving_for(self) -> float:
        """The seconds since the write in progress began; 0 if there is none."""
        return 0.0 if self._writing_since is None else self._host.reactor.seconds() - self._writing_since

    def forget_saved(self) -> None:
        """Write the next contents even if they are the last ones, which may not be in the file any more."""
        self._saved = None

    # Scheduling.

    def schedule(self, saving: Saving, delay: float) -> None:
        """Have a write begin in ``delay`` seconds, instead of the one that is scheduled."""
        self._cancel_next()
        self._next = self._host.reactor.callLater(delay, self._due, saving)

    def hasten(self, saving: Saving) -> None:
        """Bring the next attempt forward, so that the reply to a new change is not delayed, within a rate limit."""
        now = self._host.reactor.seconds()
        delay = max(0.0, self._failed_at + FIRST_RETRY - now)
        if self._next is None or self._next.getTime() > now + delay:
            self.schedule(saving, delay)

    def _due(self, saving: Saving) -> None:
        self._next = None
        saving.due()

    def _cancel_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    # Writing.

    def begin(self, saving: Saving) -> None:
        """Render what is out of date, and write."""
        self._began_at = self._host.reactor.seconds()
        self._render(saving, self.source.begin())

    def _render(self, saving: Saving, generation: int) -> None:
        """Continue to render; once the changes up to ``generation`` are rendered, write."""
        rendered = maybeDeferred(self.source.contents)
        rendered.addCallback(self._write, saving, generation)
        rendered.addErrback(self._host.fail_stop, "saving the configuration file")

    def _write(self, contents: bytes | None, saving: Saving, generation: int) -> Deferred[None] | None:
        """Write ``contents`` unless they are durable already; if ``None``, continue to render in another turn."""
        if contents is None:
            self._host.reactor.callLater(0, self._render, saving, generation)
            return None
        generation = self.source.covered(generation)
        self._writing_since = self._host.reactor.seconds()
        self._start_hang_timer(saving, generation)
        self._size = len(contents)
        written: Deferred[str] = (
            succeed(self._overwritten_for)
            if contents == self._saved
            else self._host.files.replace(self._path, contents)
        )
        return written.addCallbacks(
            lambda reason: self._written(saving, generation, contents, reason),
            lambda failure: self._not_written(saving, generation, failure),
        )

    def _written(self, saving: Saving, generation: int, contents: bytes, reason: str) -> None:
        self._cancel_hang_timer()
        saving.saved(generation, contents, reason)

    def _not_written(self, saving: Saving, generation: int, failure: Failure) -> Failure | None:
        """Process a failed write, which left the old file intact. Errors other than ``OSError`` are passed on."""
        self._cancel_hang_timer()
        if not isinstance(failure.value, OSError):
            return failure
        saving.failed(generation, failure.value)
        return None

    def _start_hang_timer(self, saving: Saving, generation: int) -> None:
        """Start the timeout of the write in progress."""
        until = self._host.reactor.seconds() + HANG_LIMIT
        self._hang_timer = self._host.reactor.callLater(HANG_LIMIT, self._hang, saving, generation, until)

    def _hang(self, saving: Saving, generation: int, until: float) -> None:
        self._hang_timer = None
        if self._host.reactor.seconds() - until > HANG_LIMIT / 2:
            # This process was stopped, and the result of the write may be about to arrive.
            self._start_hang_timer(saving, generation)
        else:
            saving.hung(generation)

    def _cancel_hang_timer(self) -> None:
        self._writing_since = None
        if self._hang_timer is not None:
            self._hang_timer.cancel()
            self._hang_timer = None

    # Outcomes.

    def report_saved(self, generation: int, contents: bytes, reason: str) -> None:
        """Report that a write is durable; ``reason`` is why the file was not replaced, if it was not."""
        self._report_overwritten(reason)
        self._measurements.commits.observe(int((self._host.reactor.seconds() - self._began_at) * 1000))
        self.failing, self._retry_after = False, FIRST_RETRY
        self._saved = contents
        self.durable = generation
        self._on_durable(generation)

    def note_failure(self) -> float:
        """Record a failed write; return the delay in seconds until the next one."""
        self._measurements.commit_failed()
        self.note_doubt()
        delay, self._retry_after = self._retry_after, min(self._retry_after * 2, LAST_RETRY)
        return delay

    def note_doubt(self) -> float:
        """Record a failed probe; return the delay in seconds until the next write."""
        # Usually the old contents are in place, but a rename whose fsync failed may be visible without being durable.
        self.forget_saved()
        self.source.mark_unsaved()
        self.failing, self._failed_at = True, self._host.reactor.seconds()
        return self._retry_after

    def report_failure(self, generation: int, reason: OSError) -> None:
        """Report that ``generation`` could not be saved."""
        self._on_failure(generation, reason)

    def report_hanging(self, generation: int) -> None:
        """Report the write in progress as failing, as it has not ended."""
        self.failing = True
        self._on_failure(generation, WriteStuck(ETIMEDOUT, "The disk does not answer"))

    def _report_overwritten(self, reason: str) -> None:
        """Report why the file cannot be replaced, once until it can be again."""
        if reason and not self._overwritten_for:
            self._on_overwritten(reason)
        self._overwritten_for = reason

    # Probing and preparing.

    def probe(self, saving: Saving) -> None:
        """Check whether the file could be saved."""
        self._probes += 1
        probed = self._host.files.probe(self._path, self._size)
        probed.addBoth(self._probe_ended)
        probed.addCallbacks(self._probed, lambda failure: self._not_probed(saving, failure))
        probed.addCallback(lambda _: saving.probed())
        probed.addErrback(self._host.fail_stop, "probing the configuration file")

    def probe_later(self, saving: Saving) -> None:
        """Have the file probed after :data:`PROBE_PERIOD`."""
        self._next_probe = self._host.reactor.callLater(PROBE_PERIOD, self._probe_due, saving)

    def _probe_due(self, saving: Saving) -> None:
        self._next_probe = None
        saving.probe()

    def _probe_ended(self, result: str | Failure) -> str | Failure:
        self._probes -= 1
        return result

    def _probed(self, reason: str) -> None:
        """Handle a successful probe. Without a reason nothing is reported, as a rename may still fail."""
        if reason:
            self._report_overwritten(reason)

    def _not_probed(self, saving: Saving, failure: Failure) -> None:
        if not isinstance(failure.value, OSError):
            failure.raiseException()
        saving.probe_failed(failure.value)

    def prepare(self, saving: Saving) -> None:
        """Render lines for one time slice, and continue in the next turn if some are left."""
        if not self.source.render_ahead():
            self._preparing = self._host.reactor.callLater(0, self._continue_preparing, saving)

    def _continue_preparing(self, saving: Saving) -> None:
        self._preparing = None
        saving.prepare()

    # Stopping.

    def prepare_to_stop(self, stopped: Deferred[None]) -> None:
        """Cancel all timers; the end will fire ``stopped``."""
        self._cancel_next()
        for call in (self._preparing, self._next_probe):
            if call is not None:
                call.cancel()
        self._preparing = self._next_probe = None
        self._cancel_hang_timer()
        self._stopped.append(stopped)

    def limit_stopping(self) -> None:
        """End after :data:`STOP_LIMIT`, unless that has happened already."""
        if self._stopped and self._giving_up is None:
            self._giving_up = self._host.reactor.callLater(STOP_LIMIT, self._end)

    def end_after_probes(self) -> None:
        """Fire the Deferreds of :meth:`prepare_to_stop` once no probe is in progress, which has a temporary file."""
        if self._probes:
            self.limit_stopping()
        else:
            self._end()

    def _end(self) -> None:
        """Fire the Deferreds that :meth:`prepare_to_stop` got."""
        if self._giving_up is not None and self._giving_up.active():
            self._giving_up.cancel()
        self._giving_up = None
        waiting, self._stopped = self._stopped, []
        for stopped in waiting:
            stopped.callback(None)


class Saving(Protocol):
    """
    The inputs of the machine. Every state accepts every input of its callers.

    An input that an output causes, directly or through a report, takes effect when the output has returned.
    """

    def changed(self) -> None:
        """There are unsaved changes that are to be saved soon."""

    def due(self) -> None:
        """The scheduled time of a write has come."""

    def saved(self, generation: int, contents: bytes, reason: str) -> None:
        """The write in progress is durable; see :meth:`Attempts.report_saved`."""

    def failed(self, generation: int, reason: OSError) -> None:
        """The write in progress has failed."""

    def hung(self, generation: int) -> None:
        """The write in progress has not ended within :data:`HANG_LIMIT`."""

    def probe(self) -> None:
        """It is time to check whether the file could be saved."""

    def probe_failed(self, reason: OSError) -> None:
        """A probe has shown that the file cannot be saved."""

    def probed(self) -> None:
        """A probe has ended, whatever its result."""

    def prepare(self) -> None:
        """Lines should be rendered ahead of the first write."""

    def stop(self, stopped: Deferred[None]) -> None:
        """Write what is unsaved, make no further attempts, and fire ``stopped``, after :data:`STOP_LIMIT` at most."""
