"""
Simulated disks: what a process wrote, when it became durable, and what a crash leaves behind.

A file is replaced as a whole or not at all. A crash during a replacement leaves a *stray* temporary file: a part of the
contents, followed by garbage if the disk had allocated more than it had written. A file that cannot be replaced is
overwritten in place, and a crash may leave any intermediate state.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import ENOENT
from os import strerror
from random import Random
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from zope.interface import classImplements

from txsentinel.config.recovery import overwriting, recovered
from txsentinel.interfaces import IFileStore
from txsentinel.model.file_end import FileEnd, file_end
from txsentinel.process.appending import rotated
from txsentinel.sim.simulation import SECOND

if TYPE_CHECKING:
    from txsentinel.sim.reactor import SimReactor
    from txsentinel.sim.simulation import Simulation


SECTOR: Final = 512
"""Bytes that a disk writes atomically."""

GARBAGE: Final = (b"", b"\0" * 512, b"\xff\x00sentinel monitor stray 10.99.99.99 6379 1\n", b"sentinel myid ")
"""What may follow the written part of a stray file."""


@dataclass(slots=True, eq=False)
class _Write:
    """A replacement in progress."""

    path: str
    contents: bytes
    done: Deferred[str]
    began: int
    overdue: bool = False


@dataclass(slots=True, eq=False)
class _Append:
    """Lines that are being appended."""

    path: str
    lines: bytes
    limit: int
    files: int
    done: Deferred[None]


class SimFiles:
    """
    The files of one machine. They outlive its processes.

    :param latency: milliseconds that a replacement takes.
    :param jitter: largest number of additional milliseconds, drawn for each replacement.
    """

    def __init__(self, simulation: Simulation, name: str, latency: float = 2.0, jitter: float = 4.0) -> None:
        self.simulation = simulation
        self.name = name
        self.latency = latency
        self.jitter = jitter
        self.contents: dict[str, bytes] = {}
        """What a power cut would leave if no replacement is in progress."""
        self.fail_with: OSError | None = None
        """If set, replacements end with this error and leave the old contents intact."""
        self.unreadable: OSError | None = None
        """If set, :meth:`read` fails with this error."""
        self.unwritable: OSError | None = None
        """If set, :meth:`check_writable` fails with this error."""
        self.replacements = 0
        """The number of replacements that succeeded."""
        self.failed_replacements = 0
        self.max_in_flight = 0
        """The largest number of replacements that were in progress at one time."""
        self.visible_failure = False
        """If set, a replacement that fails is visible all the same, and a crash may undo it."""
        self.failing = False
        """Whether the last replacement reported to the process, or a probe since then, failed."""
        self.stored: Callable[[str, bytes], None] | None = None
        """Called with contents that became durable."""
        self.leftovers: list[str] = []
        """Temporary files left by crashes. They are in :attr:`contents` too."""
        self.in_place = False
        """If set, files can only be overwritten in place."""
        self.torn = 0
        """The number of files that a crash left half overwritten."""
        self._surviving: dict[str, bytes] = {}
        self.interrupt: Callable[[], None] | None = None
        """Called once, during the next replacement."""
        self._rng = Random(f"{simulation.seed}/{name}/strays")
        self._undone: dict[str, bytes] = {}
        self._reactor: SimReactor | None = None
        self._stuck = False
        self._writes: list[_Write] = []
        self._unreported: list[_Write] = []
        self._appends: list[_Append] = []

    def attach(self, reactor: SimReactor) -> None:
        """Attach a new process to these files."""
        self._reactor = reactor
        self.failing = False

    def read(self, path: str) -> bytes:
        """
        Return the durable contents.

        :raises FileNotFoundError: if there are none.
        :raises OSError: :attr:`unreadable`.
        """
        if self.unreadable is not None:
            raise self.unreadable
        try:
            return self.contents[path]
        except KeyError:
            raise FileNotFoundError(ENOENT, strerror(ENOENT), path) from None

    def fetch(self, path: str) -> Deferred[bytes]:
        """Return the result of :meth:`read` after the latency of the disk, or when it no longer hangs."""
        done: Deferred[bytes] = Deferred()
        reactor = self._reactor
        if reactor is not None:
            reactor.schedule(int(self.latency * 1000), self._fetch, path, done)
        return done

    def _fetch(self, path: str, done: Deferred[bytes]) -> None:
        reactor = self._reactor
        if self._stuck and reactor is not None:
            reactor.schedule(SECOND, self._fetch, path, done)
            return
        try:
            contents = self.read(path)
        except OSError as error:
            done.errback(error)
        else:
            done.callback(contents)

    def fetch_end(self, path: str, limit: int) -> Deferred[FileEnd]:
        """Return the end of what :meth:`fetch` returns; see :class:`~txsentinel.interfaces.IFileStore`."""
        return self.fetch(path).addCallback(lambda contents: file_end([contents], limit))

    def check_writable(self, path: str) -> None:
        """
        Check that files can be written.

        :raises OSError: :attr:`unwritable`.
        """
        if self.unwritable is not None:
            raise self.unwritable

    def probe(self, path: str, size: int) -> Deferred[str]:
        """Report what :meth:`replace` would do; see :class:`~txsentinel.interfaces.IFileStore`."""
        done: Deferred[str] = Deferred()
        reactor = self._reactor
        if reactor is not None:
            reactor.schedule(int(self.latency * 1000), self._probe, done)
        return done

    def _probe(self, done: Deferred[str]) -> None:
        reactor = self._reactor
        if self._stuck and reactor is not None:
            reactor.schedule(SECOND, self._probe, done)
        elif self.fail_with is not None:
            self.failing = True
            done.errback(self.fail_with)
        else:
            done.callback(self._reason)

    @property
    def _reason(self) -> str:
        """The reason why files are overwritten in place, if they are."""
        return "Could not rename tmp config file (Device or resource busy)" if self.in_place else ""

    def surviving(self, path: str) -> bytes:
        """Return the contents that recovery finds in the file, which a crash may have left half overwritten."""
        return self._surviving.get(path, self.contents[path])

    def replace(self, path: str, contents: bytes) -> Deferred[str]:
        """Make ``contents`` durable after the latency; see :class:`~txsentinel.interfaces.IFileStore`."""
        done: Deferred[str] = Deferred()
        reactor = self._reactor
        if reactor is None or reactor.dead:
            return done
        write = _Write(path, contents, done, self.simulation.time)
        self._writes.append(write)
        self.max_in_flight = max(self.max_in_flight, len(self._writes))
        duration = self._duration() / 1000
        self.simulation.call_later(duration, self._finish, write)
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            self.simulation.call_later(duration * self._rng.random(), interrupt)
        return done

    def append(self, path: str, lines: bytes, limit: int, files: int) -> Deferred[None]:
        """Append after the latency; see :class:`~txsentinel.interfaces.IFileStore`."""
        done: Deferred[None] = Deferred()
        reactor = self._reactor
        if reactor is not None and not reactor.dead:
            append = _Append(path, lines, limit, files, done)
            self._appends.append(append)
            self.simulation.call_later((self.latency + self._rng.random() * self.jitter) / 1000, self._appended, append)
        return done

    def is_appending(self) -> bool:
        """Whether lines are being appended to any file."""
        return bool(self._appends)

    def _appended(self, append: _Append) -> None:
        if append not in self._appends:
            return
        if self._stuck:
            self.simulation.call_later(1.0, self._appended, append)
            return
        self._appends.remove(append)
        reactor = self._reactor
        assert reactor is not None
        if self.fail_with is None:
            self._add(append, append.lines)
            reactor.schedule(0, append.done.callback, None)
        else:
            reactor.schedule(0, append.done.errback, self.fail_with)

    def _add(self, append: _Append, lines: bytes) -> None:
        path, before = append.path, self.contents.get(append.path, b"")
        if before and len(before) + len(append.lines) > append.limit:
            for number in range(append.files - 1, 0, -1):
                older = rotated(path, number - 1)
                if older in self.contents:
                    self.contents[rotated(path, number)] = self.contents.pop(older)
            before = b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        self.contents[path] = before + lines

    @property
    def max_wait(self) -> float:
        """Seconds since the start of the oldest replacement whose end was not reported to the process."""
        oldest = (self._unreported or self._writes)[:1]
        return (self.simulation.time - oldest[0].began) / SECOND if oldest else 0.0

    @property
    def in_flight(self) -> int:
        """The replacements in progress."""
        return len(self._writes)

    def stick(self) -> None:
        """Make the disk hang: no replacement ends before :meth:`unstick`."""
        self._stuck = True

    def unstick(self) -> None:
        """End the hang: pending replacements proceed."""
        self._stuck = False
        for write in [write for write in self._writes if write.overdue]:
            self._finish(write)

    def crash(self) -> None:
        """
        The process died. Each replacement in progress has happened or has not; nothing is reported.

        Of lines that were being appended any part is in the file.
        """
        appends, self._appends = self._appends, []
        for append in appends:
            if self.fail_with is None and not self._stuck:
                self._add(append, append.lines[: self._rng.randint(0, len(append.lines))])
        writes, self._writes, self._unreported = self._writes, [], []
        undone, self._undone = self._undone, {}
        for path, contents in undone.items():
            if self.simulation.random.random() < 0.5:
                self.contents[path] = contents
        for write in writes:
            if self.fail_with is None and not self._stuck and self.simulation.random.random() < 0.5:
                self._store(write)
            elif self.in_place:
                self._tear(write)
            else:
                self._leave_temporary(write)

    def _leave_temporary(self, write: _Write) -> None:
        rng = self._rng
        path = f"{write.path}.{''.join(rng.choices('abcdefghijklmnopqrstuvwxyz0123456789_', k=6))}"
        written = write.contents[: rng.randint(0, len(write.contents))]
        self.contents[path] = written + rng.choice(GARBAGE)
        self.leftovers.append(path)
        self.simulation.note_bytes(f"{self.name} left {path}".encode("utf-8", "surrogateescape"), self.contents[path])

    def _tear(self, write: _Write) -> None:
        """Leave the file in a state that a crash during overwriting in place may leave."""
        rng, path = self._rng, write.path
        raw = self.contents.get(path, b"")
        before = self._surviving.pop(path, raw)
        interrupted = recovered(raw).interrupted
        if interrupted is not None and rng.random() < 0.5:
            # It did not get beyond the write that the crash before had interrupted.
            self._leave_torn(path, self._half_written(raw, interrupted.head), before)
            return
        steps = overwriting(before, write.contents)
        recorded = before + steps.record
        if rng.random() < 0.3:
            self._leave_torn(path, recorded[: rng.randint(len(before), len(recorded) - 1)], before)
            return
        self._leave_torn(path, self._half_written(recorded, steps.head), write.contents)
        if self.stored is not None:
            self.stored(path, write.contents)

    def _half_written(self, raw: bytes, head: bytes) -> bytes:
        """Return ``raw`` with as much of ``head`` written over its beginning as the crash allowed."""
        rng, blocks = self._rng, range(0, len(head), SECTOR)
        if rng.random() < 0.5:
            size = rng.randint(0, len(head))
            return head[:size] + raw[size:]
        pieces = [rng.choice((head, raw))[at : min(at + SECTOR, len(head))] for at in blocks]
        return b"".join(pieces) + raw[len(head) :]

    def _leave_torn(self, path: str, raw: bytes, surviving: bytes) -> None:
        self.torn += 1
        self._undone.pop(path, None)
        self.contents[path] = raw
        self._surviving[path] = surviving
        self.simulation.note_bytes(f"{self.name} left {path} torn".encode("utf-8", "surrogateescape"), raw)

    def _duration(self) -> float:
        return self.latency + self.simulation.random.random() * self.jitter

    def _store(self, write: _Write) -> None:
        self.contents[write.path] = write.contents
        self._surviving.pop(write.path, None)
        self._undone.pop(write.path, None)
        self.simulation.note_bytes(f"{self.name} wrote {write.path}".encode("utf-8", "surrogateescape"), write.contents)
        if self.stored is not None:
            self.stored(write.path, write.contents)

    def _finish(self, write: _Write) -> None:
        if write not in self._writes:
            return
        if self._stuck:
            write.overdue = True
            return
        self._writes.remove(write)
        self._unreported.append(write)
        # The disk continues while the process is stalled; only the notification waits for the reactor.
        reactor = self._reactor
        assert reactor is not None
        if self.fail_with is None:
            self._store(write)
            self.replacements += 1
            reactor.schedule(0, self._notify, write, None)
        else:
            self.failed_replacements += 1
            if self.visible_failure and self.in_place:
                self._tear(write)
            elif self.visible_failure:
                self._undone.setdefault(write.path, self.contents.get(write.path, b""))
                self.contents[write.path] = write.contents
            reactor.schedule(0, self._notify, write, self.fail_with)

    def _notify(self, write: _Write, error: OSError | None) -> None:
        """Report the end of a replacement to the process."""
        if write in self._unreported:
            self._unreported.remove(write)
        self.failing = error is not None
        if error is None:
            write.done.callback(self._reason)
        else:
            write.done.errback(error)

    def __repr__(self) -> str:
        return f"<SimFiles of {self.name} at {self.simulation.time / SECOND:.6f} s: {len(self.contents)} files>"


classImplements(SimFiles, IFileStore)
