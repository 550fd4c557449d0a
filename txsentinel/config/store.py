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
from typing import Final, Protocol

from twisted.internet.defer import Deferred

from txsentinel.config.directives import HEAD, TAIL, owner_of, removed_line
from txsentinel.config.document import ConfigDocument, Line, Owner
from txsentinel.config.records import record_lines
from txsentinel.config.rendering import master_lines, own_head_lines, own_tail_lines, writes_hostnames
from txsentinel.config.saving import saving_machine
from txsentinel.config.write_attempts import Attempts
from txsentinel.core.durable_records import ALL_MASTERS, DurableRecords
from txsentinel.core.instances import Master
from txsentinel.core.options import SentinelOptions
from txsentinel.interfaces import IHost
from txsentinel.model.measurements import Measurements
from txsentinel.model.time_slice import TimeSlice

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

    @property
    def records(self) -> DurableRecords:
        """The records with an end."""


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
    :param measurements: counts writes and measures how long they take.
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
        measurements: Measurements | None = None,
    ) -> None:
        self.unsaved = False
        """Whether changes were recorded that no write has begun to save."""

        self.wanted = 0
        """The highest generation that is to be saved."""

        self._seconds = host.reactor.seconds
        self._document = document
        self._core = core
        self._dirty: set[str | None] = {None, *core.registry.masters}
        self._resolved = False
        """Whether the lines of masters that the core does not have were removed."""

        self._by_hostname = writes_hostnames(core.options)
        self._to_render: deque[str] = deque()
        """Names of the masters whose lines are to be rendered for the next write."""

        self._own = False
        """Whether the Sentinel's own lines, which include the current epoch, are to be rendered for the next write."""

        self._attempts = Attempts(host, path, self, on_durable, on_failure, on_overwritten, measurements)
        self._saving = saving_machine(self._attempts)

    @property
    def durable(self) -> int:
        """The highest durable generation."""
        return self._attempts.durable

    @property
    def failing(self) -> bool:
        """Whether the last write failed or hangs."""
        return self._attempts.failing

    @property
    def saving_for(self) -> float:
        """The seconds since the write in progress began; 0 if there is none."""
        return self._attempts.saving_for

    def note_dirty(self, names: Iterable[str | None]) -> None:
        """
        Record that the lines of these masters, or of the Sentinel itself (``None``), are out of date.

        If these are all, the next write takes place even if it changes nothing, as for ``SENTINEL FLUSHCONFIG``.
        """
        named = set(names)
        if None in named and named.issuperset(self._core.registry.masters):
            self._attempts.forget_saved()
        self._dirty |= named
        self.unsaved = self.unsaved or bool(named)

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
        self.unsaved = True
        self._saving.changed()

    def commit_soon(self, generation: int) -> None:
        """Begin to save all recorded changes in the next turn or the one after, which makes ``generation`` durable."""
        if generation > self.wanted:
            self.wanted = generation
            self.unsaved = True
        if self.unsaved:
            self._saving.changed()

    def prepare(self) -> None:
        """
        Render the lines that are out of date without writing them; after the start, these are all lines.

        This speeds up the first write, on which replies usually depend.
        """
        self._saving.prepare()

    def probe(self) -> None:
        """
        Check whether the file could be saved, now and every ``PROBE_PERIOD``, even if nothing is unsaved.

        This detects, for instance, that the directory is no longer writable before a vote depends on it.
        """
        self._saving.probe()

    def stop(self) -> Deferred[None]:
        """
        Write unsaved changes, and stop.

        :returns: fires once no write is in progress, whether or not the last succeeded, or after ``STOP_LIMIT`` of
            ``config.write_attempts``, so that a disk that hangs does not prevent the process from ending.
        """
        stopped: Deferred[None] = Deferred()
        self._saving.stop(stopped)
        return stopped

    # Called for each write, see ``saving.Source``.

    def render_ahead(self) -> bool:
        """Render lines that are out of date for one time slice; return whether all are rendered."""
        self._plan()
        return self._render()

    def mark_unsaved(self) -> None:
        """Have the next write begin although nothing has changed since the last one, which failed."""
        self.unsaved = True

    def begin(self) -> int:
        """Plan what to render for a write; return the generation that it will have at least."""
        self._plan()
        return self.wanted

    def covered(self, generation: int) -> int:
        """Return the generation that the rendered lines have, if rendering began with ``generation``."""
        if self._dirty:
            return generation
        # Changes that were recorded during rendering are rendered, too.
        self.unsaved = False
        return self.wanted

    def contents(self) -> bytes | None:
        """Render for one time slice; return the contents of the file, ``None`` if rendering takes another turn."""
        if not self._render():
            return None
        core, document = self._core, self._document
        # The changes of masters during rendering may depend on a newer current epoch.
        if self._own or None in self._dirty:
            self._own = False
            own = own_tail_lines(core.options, core.current_epoch, document.elsewhere)
            document.put(TAIL, [*own, *record_lines(core.records.of_master(ALL_MASTERS))])
        return document.render()

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
        time_slice = TimeSlice(self._seconds, TIME_SLICE_SECONDS)
        while names:
            name = names.popleft()
            master = masters.get(name)
            if master is not None:
                lines = master_lines(master, self._by_hostname, document.elsewhere)
                document.put(owner_of(name), [*lines, *record_lines(self._core.records.of_master(name))])
            elif name in document.elsewhere.masters:
                document.put(owner_of(name), [removed_line(name)])
            else:
                document.drop(owner_of(name))
            if time_slice.over():
                break
        return not names
