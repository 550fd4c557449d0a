"""
Group commit of the hard state to the configuration file.

Changes are recorded (which master, up to which generation), and a write begins in the next reactor turn. All changes of
one turn thus cost one fsync, whatever number of masters they concern. Changes during a write go into the next one; two
writes never overlap. A write makes the generation durable whose changes are all in its bytes, and no later one.

Lines are rendered a few milliseconds at a time, so that a thousand masters that change at once do not block the
reactor. A change during rendering may be saved before its generation is reported as durable, which is harmless.

The file is read once, at start. C Sentinels read it again before every rewrite, so that edits of other lines survive.
That requires a blocking read and a merge between a vote and its reply, and may bring an incompletely saved edit into
the hard state. Here the Sentinel must be stopped before the file is edited. A file that was deleted is written again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from errno import ETIMEDOUT
from typing import Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from txsentinel.config.directives import HEAD, TAIL, owner_of, removed_line
from txsentinel.config.document import ConfigDocument, Line, Owner
from txsentinel.config.errors import WriteStuck
from txsentinel.config.rendering import master_lines, own_head_lines, own_tail_lines, writes_hostnames
from txsentinel.core.instances import Master
from txsentinel.core.options import SentinelOptions
from txsentinel.interfaces import IHost
from txsentinel.model.time_slice import TimeSlice

FIRST_RETRY: Final = 0.1
"""Delay in seconds after a failed write; doubled on each further failure."""

HANG_LIMIT: Final = 5.0
"""Seconds after which a write that has not ended counts as failing, so that effects do not queue up behind it."""

STOP_LIMIT: Final = 5.0
"""Maximum time in seconds that stopping waits for a write."""

PROBE_PERIOD: Final = 10.0
"""Interval in seconds of checks whether the file could be saved."""

USUAL_SIZE: Final = 4096
"""Assumed size of the file in bytes before it was first written."""

LAST_RETRY: Final = 5.0
"""Maximum delay in seconds after a failed write."""


TIME_SLICE_SECONDS: Final = 0.004
"""How long lines are rendered in one reactor turn."""


class KnownMasters(Protocol):
    """A registry of masters."""

    masters: dict[str, Master]


class HardState(Protocol):
    """The state that is saved; ``SentinelCore`` provides it."""

    @property
    def options(self) -> SentinelOptions:
        """The settings of the Sentinel itself."""

    @property
    def current_epoch(self) -> int:
        """The highest known epoch."""

    @property
    def registry(self) -> KnownMasters:
        """The masters by name."""


class ConfigStore:
    """
    Updates ``document`` from ``core`` and writes it to ``path``.

    The core must have all masters of the document before the first write, which removes the lines of all others.

    :param on_durable: called with each generation that would survive a power failure, in order; never from within a
        call to this store except :meth:`stop`.
    :param on_failure: called with the generation that could not be written, and the reason. The write is repeated after
        100 ms to 5 s, as long as anything is unsaved. A write that hangs is reported, too; it may still succeed, and no
        other one begins meanwhile.
    :param on_overwritten: called with the reason when it turns out that the file cannot be replaced.
    """

    def __init__(
        self,
        host: IHost,
        path: str,
        document: ConfigDocument,
        core: HardState,
        on_durable: Callable[[int], None],
        on_failure: Callable[[int, OSError], None],
        on_overwritten: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.durable = 0
        """The highest durable generation."""

        self.failing = False
        """Whether the last write failed or hangs."""

        self._host = host
        self._path = path
        self._document = document
        self._core = core
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._wanted = 0
        self._dirty: set[str | None] = {None, *core.registry.masters}
        self._resolved = False
        """Whether the lines of masters that the core does not have were removed."""

        self._by_hostname = writes_hostnames(core.options)
        self._to_render: deque[str] = deque()
        """Names of the masters whose lines are to be rendered for the next write."""

        self._own = False
        """Whether the Sentinel's own lines, which include the current epoch, are to be rendered for the next write."""

        self._preparing: IDelayedCall | None = None
        self._unsaved = False
        self._saved: bytes | None = None
        """The contents that are durable, if known. Those read at start may not be: their writer may have crashed."""

        self._next: IDelayedCall | None = None
        self._hang_timer: IDelayedCall | None = None
        self._failed_at = 0.0
        self._retry_after = FIRST_RETRY
        self._writing = False
        self._stopping = False
        self._waiting: list[Deferred[None]] = []
        self._on_overwritten = on_overwritten
        self._overwritten_for = ""
        self._size = USUAL_SIZE
        self._next_probe: IDelayedCall | None = None
        self._giving_up: IDelayedCall | None = None

    def note_dirty(self, names: Iterable[str | None]) -> None:
        """
        Record that the lines of these masters, or of the Sentinel itself (``None``), are out of date.

        If these are all, the next write takes place even if it changes nothing, as for ``SENTINEL FLUSHCONFIG``.
        """
        named = set(names)
        if None in named and named.issuperset(self._core.registry.masters):
            self._saved = None
        self._dirty |= named
        self._unsaved = self._unsaved or bool(named)

    def replace_generic(self, directive: str, lines: Sequence[str]) -> None:
        """
        Replace all lines of a generic directive by ``lines``.

        A caller that must know when they are durable has to change the state of the Sentinel itself as well, which
        begins a generation.
        """
        owner = Owner("generic", directive)
        subjects = [line.split(" ")[1] if directive == "user" else "" for line in lines]
        self._document.put(
            owner, [Line(directive, subject, line) for subject, line in zip(subjects, lines, strict=True)]
        )
        self._unsaved = True
        self._schedule()

    def commit_soon(self, generation: int) -> None:
        """Begin to save all recorded changes in the next turn or the one after, which makes ``generation`` durable."""
        if generation > self._wanted:
            self._wanted = generation
            self._unsaved = True
        self._schedule()

    def _schedule(self) -> None:
        """Schedule a write, unless one is in progress or scheduled, or nothing is unsaved."""
        if self._writing or self._stopping or not self._unsaved:
            return
        delay = 0.0
        if self.failing:
            # A new change may bring the next attempt forward, so that its reply is not delayed, within a rate limit.
            delay = max(0.0, self._failed_at + FIRST_RETRY - self._host.reactor.seconds())
            if self._next is not None and self._next.getTime() <= self._host.reactor.seconds() + delay:
                return
            self._cancel()
        if self._next is None:
            self._next = self._host.reactor.callLater(delay, self._begin)

    def _cancel(self) -> None:
        """Cancel the scheduled write."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def prepare(self) -> None:
        """
        Render the lines that are out of date without writing them; after the start, these are all lines.

        This speeds up the first write, on which replies usually depend.
        """
        self._preparing = None
        if self._writing or self._stopping:
            return
        self._plan()
        if not self._render():
            self._preparing = self._host.reactor.callLater(0, self.prepare)

    def _begin(self) -> None:
        """Render the dirty lines, and write."""
        self._next = None
        self._writing, self._unsaved = True, False
        self._plan()
        self._proceed(self._wanted)

    def _proceed(self, generation: int) -> None:
        """Continue to render; once the changes up to ``generation`` are rendered, write."""
        joined = maybeDeferred(self._joined)
        joined.addCallback(self._write, generation)
        joined.addErrback(self._host.fail_stop, "saving the configuration file")

    def _write(self, contents: bytes | None, generation: int) -> Deferred[None] | None:
        """Write ``contents`` unless they are durable already; if ``None``, continue to render in another turn."""
        if contents is None:
            self._host.reactor.callLater(0, self._proceed, generation)
            return None
        if not self._dirty:
            # Changes that were recorded during rendering are rendered, too.
            generation, self._unsaved = self._wanted, False
        self._start_hang_timer(generation)
        self._size = len(contents)
        written: Deferred[str] = (
            succeed(self._overwritten_for)
            if contents == self._saved
            else self._host.files.replace(self._path, contents)
        )
        return written.addCallbacks(
            lambda reason: self._succeeded(generation, contents, reason),
            lambda failure: self._failed(failure, generation),
        )

    def _plan(self) -> None:
        """Determine which lines to render next: all that are dirty, and those that remain from before."""
        core = self._core
        masters: Mapping[str, Master] = core.registry.masters
        by_hostname = writes_hostnames(core.options)
        if by_hostname is not self._by_hostname:
            self._by_hostname = by_hostname
            self._dirty.update(masters)
        if not self._resolved:
            self._resolved = True
            self._dirty.update(name for name in self._document.owners("master") if name not in masters)
            self._dirty.update(masters)
        dirty, self._dirty = self._dirty, set()
        dirty.update(self._to_render)
        if None in dirty:
            self._own = True
            self._document.put(HEAD, own_head_lines(core.options, self._document))
        if len(dirty) > 1:
            # In the order of the registry, as that of a set is not deterministic.
            names = [name for name in masters if name in dirty]
            names += sorted(name for name in dirty if name is not None and name not in masters)
        else:
            names = [name for name in dirty if name is not None]
        self._to_render = deque(names)

    def _render(self) -> bool:
        """Render lines of masters for one time slice; return whether all are rendered."""
        masters, document, names = self._core.registry.masters, self._document, self._to_render
        time_slice = TimeSlice(self._host.reactor.seconds, TIME_SLICE_SECONDS)
        while names:
            name = names.popleft()
            master = masters.get(name)
            if master is not None:
                document.put(owner_of(name), master_lines(master, self._by_hostname, document.elsewhere))
            elif name in document.elsewhere.masters:
                document.put(owner_of(name), [removed_line(name)])
            else:
                document.drop(owner_of(name))
            if time_slice.over():
                break
        return not names

    def _joined(self) -> bytes | None:
        """Return the contents of the file; ``None`` if rendering takes another turn."""
        if not self._render():
            return None
        core, document = self._core, self._document
        # The changes of masters during rendering may depend on a newer current epoch.
        if self._own or None in self._dirty:
            self._own = False
            document.put(TAIL, own_tail_lines(core.options, core.current_epoch, document.elsewhere))
        return document.render()

    def _succeeded(self, generation: int, contents: bytes, reason: str) -> None:
        """Report that the write is durable, and continue with the changes made meanwhile."""
        self._cancel_hang_timer()
        self._report_overwritten(reason)
        self._writing, self.failing, self._retry_after = False, False, FIRST_RETRY
        self._saved = contents
        self.durable = generation
        self._on_durable(generation)
        self._go_on()

    def _failed(self, failure: Failure, generation: int) -> Failure | None:
        """Report a failed write, which left the old file intact, and schedule another. Other errors are passed on."""
        self._cancel_hang_timer()
        reason = failure.value
        if not isinstance(reason, OSError):
            return failure
        self._writing, self._unsaved = False, True
        # Usually the old contents are in place, but a rename whose fsync failed may be visible without being durable.
        self._saved = None
        self.failing, self._failed_at = True, self._host.reactor.seconds()
        delay, self._retry_after = self._retry_after, min(self._retry_after * 2, LAST_RETRY)
        if not self._stopping:
            self._next = self._host.reactor.callLater(delay, self._begin)
        self._on_failure(generation, reason)
        if self._stopping:
            self._end()
        return None

    def _report_overwritten(self, reason: str) -> None:
        """Report why the file cannot be replaced, once until it can be again."""
        if reason and not self._overwritten_for:
            self._on_overwritten(reason)
        self._overwritten_for = reason

    def probe(self) -> None:
        """
        Check whether the file could be saved, now and every ``PROBE_PERIOD``, even if nothing is unsaved.

        This detects, for instance, that the directory is no longer writable before a vote depends on it.
        """
        self._next_probe = None
        if self._stopping:
            return
        if self._writing or self.failing:
            self._probe_later()
            return
        probed = self._host.files.probe(self._path, self._size)
        probed.addCallbacks(self._probed, self._probe_failed)
        probed.addCallback(lambda _: self._probe_later())
        probed.addErrback(self._host.fail_stop, "probing the configuration file")

    def _probed(self, reason: str) -> None:
        """Handle a successful probe. Without a reason nothing is reported, as a rename may still fail."""
        if reason:
            self._report_overwritten(reason)

    def _probe_later(self) -> None:
        if not self._stopping:
            self._next_probe = self._host.reactor.callLater(PROBE_PERIOD, self.probe)

    def _probe_failed(self, failure: Failure) -> None:
        """Handle a failed probe: report it as a failure, and schedule a write to verify it."""
        reason = failure.value
        if not isinstance(reason, OSError):
            failure.raiseException()
        if self._writing or self.failing or self._stopping:
            return
        self._saved, self._unsaved = None, True
        self.failing, self._failed_at = True, self._host.reactor.seconds()
        self._cancel()
        self._next = self._host.reactor.callLater(self._retry_after, self._begin)
        self._on_failure(self._wanted, reason)

    def _start_hang_timer(self, generation: int) -> None:
        """Start the timeout of the write in progress."""
        until = self._host.reactor.seconds() + HANG_LIMIT
        self._hang_timer = self._host.reactor.callLater(HANG_LIMIT, self._hang, generation, until)

    def _hang(self, generation: int, until: float) -> None:
        """Report the write in progress as failing, as it has not ended."""
        if self._host.reactor.seconds() - until > HANG_LIMIT / 2:
            # This process was stopped, and the result of the write may be about to arrive.
            self._start_hang_timer(generation)
            return
        self._hang_timer = None
        self.failing = True
        self._on_failure(generation, WriteStuck(ETIMEDOUT, "The disk does not answer"))

    def _cancel_hang_timer(self) -> None:
        """Cancel the timeout of the write in progress, if there is one."""
        if self._hang_timer is not None:
            self._hang_timer.cancel()
            self._hang_timer = None

    def _go_on(self) -> None:
        """Begin the next write if anything is unsaved; else finish if stopping."""
        if not self._stopping:
            self._schedule()
        elif self._unsaved:
            self._begin()
        else:
            self._end()

    def _end(self) -> None:
        """Fire the deferreds that :meth:`stop` returned."""
        if self._giving_up is not None and self._giving_up.active():
            self._giving_up.cancel()
        self._giving_up = None
        waiting, self._waiting = self._waiting, []
        for stopped in waiting:
            stopped.callback(None)

    def stop(self) -> Deferred[None]:
        """
        Write unsaved changes, and stop.

        :returns: fires once no write is in progress, whether or not the last succeeded, or after :data:`STOP_LIMIT`,
            so that a disk that hangs does not prevent the process from ending.
        """
        self._stopping = True
        self._cancel()
        for call in (self._preparing, self._next_probe):
            if call is not None:
                call.cancel()
        self._preparing = self._next_probe = None
        self._cancel_hang_timer()
        stopped: Deferred[None] = Deferred()
        self._waiting.append(stopped)
        if not self._writing:
            self._go_on()
        if self._writing and self._giving_up is None:
            self._giving_up = self._host.reactor.callLater(STOP_LIMIT, self._end)
        return stopped
