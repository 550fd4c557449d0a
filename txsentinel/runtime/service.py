"""Connects the parts of a Sentinel, and starts and stops them in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from txsentinel.config.configuration import Configuration
from txsentinel.config.store import ConfigStore
from txsentinel.core.effects import Effect
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost, ISentinelListener
from txsentinel.links.pool import LinkPool
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Limits, Timings
from txsentinel.reactor.connectors import SERVERS_TIME_SLICE_SECONDS, Horizon, connector
from txsentinel.runtime.binding import CannotListen
from txsentinel.runtime.executor import Executor
from txsentinel.runtime.history import FailoverHistory
from txsentinel.runtime.listeners import CannotStart, open_listeners
from txsentinel.runtime.publishing import EventPublisher
from txsentinel.runtime.restoring import ensure_id, load_users, new_id, restore_state
from txsentinel.runtime.scripts import ScriptQueue
from txsentinel.runtime.surface import Surface
from txsentinel.runtime.sweeper import SweepLoop
from txsentinel.server.context import ServerContext, nothing_reloaded
from txsentinel.server.factory import SentinelServerFactory
from txsentinel.server.process_info import ProcessInfo, version_and_build
from txsentinel.tls.activation import TlsSupport
from txsentinel.tls.errors import BadTls

Note = Callable[[Level, str], None]


class SentinelService(MultiService):
    """
    One Sentinel.

    The constructor opens nothing, because ``twistd`` forks after it. The start restores the state of the file, saves
    the ID of the Sentinel if it is new, opens the ports, and begins to monitor.

    :param listeners: called with every event.
    :param note: writes a line to the log; ``note_event`` an event, ``None`` to write it by ``note``.
    :param shutdown: ends the process in an orderly way, for the SHUTDOWN command.
    :param change_loglevel: applies ``SENTINEL CONFIG SET loglevel``.
    :param verify_hostnames: whether a TLS link requires the address it connects to in the certificate.
    :param available_descriptors: takes the number of links, returns for how many clients there are descriptors.
    :param permits: see :class:`~txsentinel.runtime.executor.Executor`.
    :param inherited_sockets: see :func:`~txsentinel.runtime.listeners.open_listeners`.
    """

    def __init__(
        self,
        host: IHost,
        configuration: Configuration,
        *,
        note: Note,
        note_event: Callable[[SentinelEvent], None] | None = None,
        listeners: ISentinelListener | None = None,
        shutdown: Callable[[], None],
        change_loglevel: Callable[[str], None] = lambda word: None,
        verify_hostnames: bool = False,
        available_descriptors: Callable[[int], int] = lambda links: sys.maxsize,
        inherited_sockets: Mapping[str, Sequence[int]] = MappingProxyType({}),
        timings: Timings | None = None,
        limits: Limits | None = None,
        state_dir: str | None = None,
        permits: Callable[[Effect], bool] | None = None,
        reload: Callable[[], Deferred[str]] = nothing_reloaded,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host = host
        self.configuration = configuration
        self._note = note
        self._loglevel_changed = change_loglevel
        self._inherited = inherited_sockets
        self._ports: list[IListeningPort] = []
        self._stopped: Deferred[None] | None = None
        """The result of the first call of :meth:`stopService`."""

        generic = configuration.generic
        timings, limits = timings or Timings(), limits or Limits()
        self.tls = TlsSupport(host, generic, note, verify_hostnames)
        self.core = SentinelCore(configuration.sentinel, timings, limits, host.random.randrange)
        events = EventPublisher(listeners, lambda: self.context.hub)
        self.scripts = ScriptQueue(host, timings, limits, lambda event: self.executor.announce(event), note)
        self.executor = Executor(
            host, self.core, events.publish, note, self.scripts, configuration.saved_path, note_event, permits
        )
        measured = self.executor.measurements
        horizon, plain = Horizon(host.reactor), not self.tls.secures_links
        self.links = LinkPool(
            host,
            self.core,
            generic,
            self.executor.drain,
            limits,
            connect_server=connector(host.reactor, plain, "servers", SERVERS_TIME_SLICE_SECONDS, horizon),
            connect_peer=connector(host.reactor, plain, "peers", horizon=horizon),
            received_until=horizon.received_until,
            secure=None if plain else self.tls.connecting,
            measurements=measured,
        )
        self.store = ConfigStore(
            host,
            configuration.saved_path,
            configuration.document,
            self.core,
            self.executor.committed,
            self.executor.commit_failed,
            self.executor.overwritten,
            measured,
        )
        self.sweeping = SweepLoop(host, self.core, self.executor.drain, horizon.received_until, measured)
        self.history = FailoverHistory(host, self.core, note, self.sweeping.call_after_sweeps, state_dir)
        self.executor.connect(self.links, self.store, self.sweeping.adjust, self.history.check)
        self.context = ServerContext(
            core=self.core,
            barrier=self.executor.barrier,
            scripts=self.scripts,
            host=host,
            keep_users=partial(self.store.replace_generic, "user"),
            turn=self.executor.drain,
            shutdown=shutdown,
            change_loglevel=self._change_loglevel,
            available_descriptors=lambda: available_descriptors(len(self.links)),
            options=generic,
            limits=limits,
            process_info=ProcessInfo(run_id=new_id(host)),
            config_path=configuration.path,
            started_at=host.now(),
            failovers=self.history.records,
            acknowledge=self.history.acknowledge,
            reload=reload,
        )
        self.server = SentinelServerFactory(self.context)
        self.surface = Surface(
            self.server,
            note,
            self.links,
            measured,
            events,
            lambda: self._ports,
            lambda: self._stopped,
            self.history,
        )
        """What extensions get."""

        self.serving: Deferred[None] = Deferred()
        """Fires when the ports are open; never fires if the start fails."""

    def startService(self) -> None:
        """
        Start the Sentinel.

        :raises CannotStart: if a port cannot be opened or the users are invalid.
        """
        super().startService()  # type: ignore[no-untyped-call]
        load_users(self.context.access, self.configuration, self._note)
        id_is_new = ensure_id(self.core, self.host)
        restore_state(self.core, self.configuration, self.host.now(), round(self.host.wall_clock() * 1000))
        self.context.access.hide_passwords()
        if self.configuration.recovered is not None:
            self._note(Level.WARNING, self.configuration.recovered)
            self.core.administration.flush()
        for warning in self.configuration.warnings:
            self._note(Level.WARNING, warning)
        options = self.core.options
        self._note(Level.NOTICE, f"{version_and_build()} is starting.")
        self._note(Level.NOTICE, f"Running mode=sentinel, port={options.port or options.tls_port}.")
        if id_is_new:
            # An ID that a peer has received must never change, so nothing is sent before it is durable.
            self.core.administration.flush()
            self.executor.barrier.defer_reply(self.executor.save(), self._begin_later, self._begin_later)
        else:
            self._begin()
            self.store.prepare()
        self.store.probe()

    def stopService(self) -> Deferred[None]:
        """
        Stop the core, the clients and the links, and finish the last write.

        :returns: fires when all is done, also for a further call.
        """
        if self._stopped is None:
            self._stopped = self._stop()
            return self._stopped
        again: Deferred[None] = Deferred()
        self._stopped.addCallback(again.callback)
        return again

    def _stop(self) -> Deferred[None]:
        self.sweeping.stop()
        stopping: list[Deferred[object]] = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports = []
        self.context.clients.close_all()
        self.tls.stop()
        self.scripts.stop()
        stopping += [maybeDeferred(stop) for stop in (self.links.stop, self.store.stop, self.history.flush)]
        stopping.append(maybeDeferred(super().stopService))
        return DeferredList(stopping, consumeErrors=False).addCallback(lambda _: None)

    def _begin_later(self) -> None:
        """Begin after the first save, unless the service was stopped meanwhile. Exit if that fails."""
        if not self.running:
            return
        try:
            self._begin()
        except CannotStart:
            self.host.exit(1)

    def _begin(self) -> None:
        self._note(Level.NOTICE, f"Sentinel ID is {self.core.options.my_id}")
        try:
            self.tls.activate()
            generic = self.configuration.generic
            self._ports = open_listeners(self.host, self.server, generic, self.tls, self._note, self._inherited)
        except (CannotListen, BadTls) as refusal:
            self._note(Level.WARNING, str(refusal))
            raise CannotStart(str(refusal)) from refusal
        self.core.administration.announce_monitored()
        self.history.start()
        self.sweeping.start()
        self.serving.callback(None)

    def _change_loglevel(self, word: str) -> None:
        """Apply a new log level and save it; the reply of the command waits for the save."""
        self._loglevel_changed(word)
        self.store.replace_generic("loglevel", [f"loglevel {word}"])
