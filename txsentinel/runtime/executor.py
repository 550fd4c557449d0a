"""Executes the effects of the core after each input, and has its state saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from errno import EIO, errorcode
from time import asctime, localtime
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txsentinel.config.errors import WriteStuck
from txsentinel.core.effects import Announce, Crash, Effect, Note, Reconfigure, ReportAnswers, ResolveAddress, RunScript
from txsentinel.core.sentinel import SentinelCore
from txsentinel.core.state import StorageError
from txsentinel.interfaces import IHost
from txsentinel.model.address import Address
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.log_text import excerpt
from txsentinel.model.log_throttle import DistinctLineThrottle, LogThrottle
from txsentinel.model.measurements import Measurements
from txsentinel.runtime.durability import DurabilityBarrier

CRASH_STATUS = 99
"""Exit status of a crash by SENTINEL SIMULATE-FAILURE."""

RESOLVE_PERIOD = 1.0
"""Seconds between two attempts to resolve a name that has no address."""

MAX_LOOKUPS = 100
"""Maximum number of names that are being resolved at the same time."""

MAX_LOGGED_NAMES = 20
"""Maximum number of unresolvable names that are logged per minute, each once."""


class ILinks(Protocol):
    """The links, as the executor uses them."""

    def perform(self, effect: Effect) -> None:
        """Execute an effect that concerns a link."""

    def flush(self) -> None:
        """Send the queued commands."""


class IStore(Protocol):
    """The store, as the executor uses it."""

    def note_dirty(self, names: Iterable[str | None]) -> None:
        """Have the lines of these masters rendered again."""

    def commit_soon(self, generation: int) -> None:
        """Save up to ``generation``, together with later changes until the write begins."""


class IScripts(Protocol):
    """The script queue, as the executor uses it."""

    def enqueue(self, path: str, arguments: Sequence[str]) -> None:
        """Queue a script for execution."""


class Executor:
    """
    Drains the outbox: executes probes at once, the other effects through the barrier.

    :meth:`drain` is called after every input to the core. It may be called from within an effect; the outer call then
    processes the additional effects.

    The links and the store report back to the executor, and their constructors take its methods. So they are built
    after it, and :meth:`connect` closes this cycle before the first call of :meth:`drain`.

    :param scripts: executes the scripts.
    :param path: the path of the file with the state, for log lines.
    :param note_event: logs an event; ``None`` to log it by ``note``.
    :param permits: whether an effect is executed at all; all are if it is ``None``.
    """

    _links: ILinks
    _store: IStore
    _drained: Callable[[], None]
    _executed: Callable[[], None]

    def __init__(
        self,
        host: IHost,
        core: SentinelCore,
        publish: Callable[[SentinelEvent], None],
        note: Callable[[Level, str], None],
        scripts: IScripts,
        path: str = "",
        note_event: Callable[[SentinelEvent], None] | None = None,
        permits: Callable[[Effect], bool] | None = None,
    ) -> None:
        self._host = host
        self._permits = permits
        self._path = path
        self._core = core
        self._outbox = core.outbox
        self._publish = publish
        self._note = note
        self._note_event = note_event or self._note_as_line
        self._scripts = scripts
        self.measurements = Measurements()
        """What the parts of this Sentinel measure; the executor counts the events."""

        self._draining = False
        self._lookups: dict[str, None] = {}
        """The names that are being resolved."""

        self._log_throttle = DistinctLineThrottle(MAX_LOGGED_NAMES)
        self.throttle = LogThrottle()
        """Limits the log lines that any client or server can cause."""

        self._actions: dict[type[Any], Callable[[Any], None]] = {
            Announce: lambda effect: self.announce(effect.event),
            Note: self._write,
            RunScript: self._run_script,
            ResolveAddress: lambda effect: self._resolve(effect.address),
            Crash: self._crash,
            ReportAnswers: lambda effect: effect.report(),
            Reconfigure: self._reconfigure,
        }
        self.barrier = DurabilityBarrier(self._perform, host.yield_to_clients)
        self._connected = False

    def connect(
        self, links: ILinks, store: IStore, drained: Callable[[], None], executed: Callable[[], None] = lambda: None
    ) -> None:
        """
        Set the links and the store, once.

        :param drained: called after each drain, because the next sweep may be due earlier then.
        :param executed: called before that if there were effects, which most replies do not cause.
        :raises RuntimeError: if it was called before.
        """
        if self._connected:
            raise RuntimeError("the executor is connected already")
        self._connected = True
        self._links = links
        self._store = store
        self._drained = drained
        self._executed = executed

    def drain(self) -> None:
        """Execute or defer the effects since the last call, and have the changed state saved."""
        if self._draining:
            return
        outbox = self._outbox
        if not outbox.pending and not outbox.dirty:
            # Most replies cause no effect.
            self._links.flush()
            self._drained()
            return
        self._draining = True
        try:
            while outbox.pending or outbox.dirty:
                if outbox.dirty:
                    self.save()
                if not outbox.pending:
                    break
                for generation, effect in outbox.take():
                    if generation:
                        self.barrier.submit(generation, effect)
                    else:
                        self._perform(effect)
                    self._host.yield_to_clients()
        finally:
            self._draining = False
        self._links.flush()
        self._executed()
        self._drained()

    def save(self) -> int:
        """Have the changed state saved without executing effects; return the generation that becomes durable."""
        outbox = self._core.outbox
        self._store.note_dirty(outbox.take_dirty())
        self._store.commit_soon(outbox.generation)
        return outbox.generation

    def committed(self, generation: int) -> None:
        """Release the effects and replies up to ``generation``, which the store has saved."""
        # The core comes first, so that replies during the release of the effects agree with the effects.
        self._core.committed(generation, self._host.now())
        self.barrier.committed(generation)
        self._note(Level.NOTICE, "Sentinel new configuration saved on disk")
        self.throttle.flush(self._host.now())
        self.drain()

    def overwritten(self, reason: str) -> None:
        """Log that the file is overwritten in place, because it cannot be replaced for ``reason``."""
        self._note(Level.WARNING, f"{self._path} is overwritten in place, as it cannot be replaced: {reason}")

    def commit_failed(self, generation: int, reason: OSError) -> None:
        """Process the failure to save ``generation``. The store tries again."""
        self._note(Level.WARNING, str(reason))
        self._note(
            Level.WARNING,
            f"WARNING: Sentinel was not able to save the new configuration on disk!!!: {reason.strerror or reason}",
        )
        # Only the project's own errors have more text than that of the errno.
        text = str(reason) if type(reason).__str__ is not OSError.__str__ else reason.strerror or str(reason)
        error = StorageError(errorcode.get(reason.errno or EIO, "EIO"), text, self._path)
        self._core.commit_failed(generation, self._host.now(), error)
        self.barrier.commit_failed(stuck=isinstance(reason, WriteStuck))
        self.drain()

    def _perform(self, effect: Effect) -> None:
        if self._permits is not None and not self._permits(effect):
            return
        action = self._actions.get(type(effect))
        if action is not None:
            action(effect)
        else:
            self._links.perform(effect)

    def _reconfigure(self, effect: Reconfigure) -> None:
        if not self._core.is_outdated(effect):
            self._links.perform(effect)

    def _run_script(self, effect: RunScript) -> None:
        self._scripts.enqueue(effect.path, effect.arguments)

    def _crash(self, effect: Crash) -> None:
        self._note(Level.WARNING, effect.reason)
        self._host.exit(CRASH_STATUS)

    def _note_as_line(self, event: SentinelEvent) -> None:
        self._note(event.level, str(event))

    def announce(self, event: SentinelEvent) -> None:
        """Log and publish an event, and queue the notification script that it names."""
        self.measurements.events[event.channel] += 1
        self._note_event(event)
        self._publish(event)
        if event.script is not None and event.level is Level.WARNING:
            self._scripts.enqueue(event.script, (event.channel, event.payload))

    def _write(self, note: Note) -> None:
        if note.kind is not None:
            now = self._host.now()
            self.throttle.flush(now)
            if not self.throttle.allow(note.kind, now):
                return
        text = note.text
        if note.until is not None:
            text = f"{text} {asctime(localtime(self._host.wall_clock() + note.until / 1000))}"
        self._note(note.level, text)

    def _resolve(self, address: Address) -> None:
        """Resolve a name, unless it is being resolved. Hellos contain names, so their number has to be limited."""
        name = address.hostname.casefold()
        if name in self._lookups:
            return
        if len(self._lookups) >= MAX_LOOKUPS:
            if self._core.registry.awaits_resolution(address):
                self._host.reactor.callLater(RESOLVE_PERIOD, self._resolve_again, address)
            return
        self._lookups[name] = None
        found: Deferred[str] = self._host.resolve(address.hostname)
        found.addCallbacks(lambda ip: self._resolved(address, ip), lambda _: self._unresolved(address))
        found.addErrback(self._host.fail_stop, f"the resolution of {address.hostname}")

    def _resolved(self, address: Address, ip: str) -> None:
        del self._lookups[address.hostname.casefold()]
        self._core.address_resolved(address, ip, self._host.now())
        self.drain()

    def _unresolved(self, address: Address) -> None:
        del self._lookups[address.hostname.casefold()]
        line = f"Failed to resolve hostname '{excerpt(address.hostname)}'"
        if self._log_throttle.allow(line, self._host.now()):
            self._note(Level.WARNING, line)
        self._core.address_resolved(address, None, self._host.now())
        self._host.reactor.callLater(RESOLVE_PERIOD, self._resolve_again, address)

    def _resolve_again(self, address: Address) -> None:
        if self._core.registry.awaits_resolution(address):
            self._resolve(address)
