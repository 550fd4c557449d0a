"""
Making the state of a Sentinel durable: many changes, one write.

Changes are *noted* (which master, up to which generation) and a write is started in the next turn, so
that everything decided in one turn, however many masters it concerns, costs one fsync. While a write
is under way further changes gather for the next one; there are never two. What a write makes durable
is the generation up to which all is in its bytes, never more.

Lines are rendered some milliseconds at a time, so that nobody is kept waiting by a thousand masters that
change at once. What changes meanwhile may get into the file before it is promised: to remember more than
one has told does no harm.

The file is read once, at start. The C Sentinels read it again before every rewrite, so that hand edits
of foreign lines survive a running Sentinel; but that puts a blocking read of the whole file, and
the reconciling of lines that changed under us, between a vote and its reply, and lets a half-saved
edit into the state that elections depend on. Whoever edits by hand stops the Sentinel first. A file
that disappeared is simply written again.
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

FIRST_RETRY: Final = 0.1
"""Seconds between a failed write and the next; doubled on each further failure."""

HANG_LIMIT: Final = 5.0
"""Seconds after which a write that does not end counts as failing, so that nothing piles up behind it."""

STOP_LIMIT: Final = 5.0
"""Seconds that whoever stops the store waits for a write to end."""

PROBE_PERIOD: Final = 10.0
"""Seconds between two checks whether the file could be saved."""

USUAL_SIZE: Final = 4096
"""Bytes that are taken for the size of the file before it was first written."""

LAST_RETRY: Final = 5.0
"""Seconds, at most, between two attempts."""


TIME_SLICE_SECONDS: Final = 0.004
"""How long lines are rendered before it is the turn of others."""


class KnownMasters(Protocol):
    """Where the masters are found."""

    masters: dict[str, Master]


class HardState(Protocol):
    """What is written down; a ``SentinelCore`` is one."""

    @property
    def options(self) -> SentinelOptions:
        """The settings of the Sentinel itself."""

    @property
    def current_epoch(self) -> int:
        """The highest epoch that we know of."""

    @property
    def registry(self) -> KnownMasters:
        """The masters by name."""


class ConfigStore:
    """
    Writes ``document``, brought up to date with ``core``, to ``path``.

    By the time of the first write the core must know all masters of the document: the lines of
    those that it does not know are removed.

    :param on_durable: called with the generation that a power cut can no longer undo, in order; never
        from within a call to this store other than :meth:`stop`.
    :param on_failure: called with the generation that could not be written and the reason; the write
        is tried again, from 100 ms to 5 s later, as long as anything is unsaved. One that hangs is reported,
        too; it may still succeed, and no other is begun meanwhile.
    :param on_overwritten: called with the reason when the file is found to be impossible to replace.
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
        """The highest generation that is on disk."""

        self.failing = False
        """The last write failed, and none has succeeded since."""

        self._host = host
        self._path = path
        self._document = document
        self._core = core
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._wanted = 0
        self._dirty: set[str | None] = {None, *core.registry.masters}
        self._resolved = False
        """Were lines of masters that are no longer there removed once?"""

        self._by_hostname = writes_hostnames(core.options)
        self._agenda: deque[str] = deque()
        """Masters whose lines are to be rendered for the next write."""

        self._own = False
        """Are our own last lines, the current epoch among them, to be rendered with it?"""

        self._preparing: IDelayedCall | None = None
        self._unsaved = False
        self._saved: bytes | None = None
        """What is known to be durable. What was read at start is not: its writer may have died before the fsync."""

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
        The lines of these masters, or of the Sentinel itself (``None``), are out of date.

        When all are noted at once, the next write takes place even if it changes nothing, as whoever
        asks for that may have reason to doubt the file.
        """
        named = set(names)
        if None in named and named.issuperset(self._core.registry.masters):
            self._saved = None
        self._dirty |= named
        self._unsaved = self._unsaved or bool(named)

    def replace_generic(self, directive: str, lines: Sequence[str]) -> None:
        """
        Make ``lines``, each a whole line, all that the file says about a generic directive.

        Whoever needs to know when that is durable changes the state outside of any master as well.
        """
        owner = Owner("generic", directive)
        subjects = [line.split(" ")[1] if directive == "user" else "" for line in lines]
        self._document.put(
            owner, [Line(directive, subject, line) for subject, line in zip(subjects, lines, strict=True)]
        )
        self._unsaved = True
        self._schedule()

    def commit_soon(self, generation: int) -> None:
        """Save all that was noted so far, which makes ``generation`` durable, in the next turn or the one after."""
        if generation > self._wanted:
            self._wanted = generation
            self._unsaved = True
        self._schedule()

    def _schedule(self) -> None:
        """See that a write starts, unless one is under way or waits for its turn already."""
        if self._writing or self._stopping or not self._unsaved:
            return
        delay = 0.0
        if self.failing:
            # News may bring the next attempt forward, so that whoever waits is told soon, but not to a storm of them.
            delay = max(0.0, self._failed_at + FIRST_RETRY - self._host.reactor.seconds())
            if self._next is not None and self._next.getTime() <= self._host.reactor.seconds() + delay:
                return
            self._cancel()
        if self._next is None:
            self._next = self._host.reactor.callLater(delay, self._begin)

    def _cancel(self) -> None:
        """Forget the write that waits for its turn."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def prepare(self) -> None:
        """
        Render what is out of date, without writing it: after the start that is everything.

        Else the first write would have to, and mostly that is one which others wait for.
        """
        self._preparing = None
        if self._writing or self._stopping:
            return
        self._plan()
        if not self._render():
            self._preparing = self._host.reactor.callLater(0, self.prepare)

    def _begin(self) -> None:
        """Render what is dirty, and then write."""
        self._next = None
        self._writing, self._unsaved = True, False
        self._plan()
        self._proceed(self._wanted)

    def _proceed(self, generation: int) -> None:
        """Render on; once all is rendered that ``generation`` needs, join the bytes and write them."""
        joined = maybeDeferred(self._joined)
        joined.addCallback(self._write, generation)
        joined.addErrback(self._host.fail_stop, "the saving of the configuration file")

    def _write(self, contents: bytes | None, generation: int) -> Deferred[None] | None:
        """Have ``contents`` written, unless they are on disk already; if there are none yet, go on later."""
        if contents is None:
            self._host.reactor.callLater(0, self._proceed, generation)
            return None
        if not self._dirty:
            # Whatever was noted while we were rendering is rendered, too.
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
        """Whose lines are rendered next: those of all who are dirty now, or were and had no turn yet."""
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
        dirty.update(self._agenda)
        if None in dirty:
            self._own = True
            self._document.put(HEAD, own_head_lines(core.options, self._document))
        if len(dirty) > 1:
            # In the order in which they are monitored, not that of a set.
            names = [name for name in masters if name in dirty]
            names += sorted(name for name in dirty if name is not None and name not in masters)
        else:
            names = [name for name in dirty if name is not None]
        self._agenda = deque(names)

    def _render(self) -> bool:
        """Render lines of masters as long as there is time; is that done?"""
        masters, document, agenda = self._core.registry.masters, self._document, self._agenda
        seconds = self._host.reactor.seconds
        until = seconds() + TIME_SLICE_SECONDS
        while agenda:
            name = agenda.popleft()
            master = masters.get(name)
            if master is not None:
                document.put(owner_of(name), master_lines(master, self._by_hostname, document.elsewhere))
            elif name in document.elsewhere.masters:
                document.put(owner_of(name), [removed_line(name)])
            else:
                document.drop(owner_of(name))
            if seconds() > until:
                break
        return not agenda

    def _joined(self) -> bytes | None:
        """The file as it should be, formatting only what is dirty; ``None`` if that takes another turn."""
        if not self._render():
            return None
        core, document = self._core, self._document
        # What masters changed meanwhile may rest upon a newer epoch.
        if self._own or None in self._dirty:
            self._own = False
            document.put(TAIL, own_tail_lines(core.options, core.current_epoch, document.elsewhere))
        return document.render()

    def _succeeded(self, generation: int, contents: bytes, reason: str) -> None:
        """The write is durable: tell it, and go on with what changed meanwhile."""
        self._cancel_hang_timer()
        self._tell_overwritten(reason)
        self._writing, self.failing, self._retry_after = False, False, FIRST_RETRY
        self._saved = contents
        self.durable = generation
        self._on_durable(generation)
        self._go_on()

    def _failed(self, failure: Failure, generation: int) -> Failure | None:
        """The old file is intact: tell it, and try again in a while. What is no OSError is passed on."""
        self._cancel_hang_timer()
        reason = failure.value
        if not isinstance(reason, OSError):
            return failure
        self._writing, self._unsaved = False, True
        # Most likely the old bytes are in place, but a rename whose fsync failed may be visible and yet not durable.
        self._saved = None
        self.failing, self._failed_at = True, self._host.reactor.seconds()
        delay, self._retry_after = self._retry_after, min(self._retry_after * 2, LAST_RETRY)
        if not self._stopping:
            self._next = self._host.reactor.callLater(delay, self._begin)
        self._on_failure(generation, reason)
        if self._stopping:
            self._end()
        return None

    def _tell_overwritten(self, reason: str) -> None:
        """Report why the file cannot be replaced, once until it can."""
        if reason and not self._overwritten_for:
            self._on_overwritten(reason)
        self._overwritten_for = reason

    def probe(self) -> None:
        """
        Find out whether the file could be saved, now and from time to time, though there may be nothing to save.

        Else nobody would learn that a directory cannot be written any more before a vote depends on it.
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
        probed.addErrback(self._host.fail_stop, "the probing of the configuration file")

    def _probed(self, reason: str) -> None:
        """A write would succeed. That a file can be created beside ours does not mean that ours can be replaced."""
        if reason:
            self._tell_overwritten(reason)

    def _probe_later(self) -> None:
        if not self._stopping:
            self._next_probe = self._host.reactor.callLater(PROBE_PERIOD, self.probe)

    def _probe_failed(self, failure: Failure) -> None:
        """A write would fail: say so now, and try whether that is true by writing."""
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
        """Give the write under way some seconds."""
        until = self._host.reactor.seconds() + HANG_LIMIT
        self._hang_timer = self._host.reactor.callLater(HANG_LIMIT, self._hang, generation, until)

    def _hang(self, generation: int, until: float) -> None:
        """The write under way does not end: promise nothing more until it does."""
        if self._host.reactor.seconds() - until > HANG_LIMIT / 2:
            # It was us who stood still, and what the disk did meanwhile is about to be told.
            self._start_hang_timer(generation)
            return
        self._hang_timer = None
        self.failing = True
        self._on_failure(generation, WriteStuck(ETIMEDOUT, "The disk does not answer"))

    def _cancel_hang_timer(self) -> None:
        """A write has ended, or is not waited for impatiently."""
        if self._hang_timer is not None:
            self._hang_timer.cancel()
            self._hang_timer = None

    def _go_on(self) -> None:
        """The next write if there is a reason for it, else the end if that was asked for."""
        if not self._stopping:
            self._schedule()
        elif self._unsaved:
            self._begin()
        else:
            self._end()

    def _end(self) -> None:
        """Tell whoever waits for the end."""
        if self._giving_up is not None and self._giving_up.active():
            self._giving_up.cancel()
        self._giving_up = None
        waiting, self._waiting = self._waiting, []
        for stopped in waiting:
            stopped.callback(None)

    def stop(self) -> Deferred[None]:
        """
        Write what is unsaved, and nothing more after that.

        :returns: fires once nothing is being written any more, whether or not the last attempt succeeded, or after
            :data:`STOP_LIMIT`: a disk that does not answer must not keep the process from its end.
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
