"""Connects the parts of a Sentinel, and starts and stops them in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from txsentinel.config.configuration import Configuration
from txsentinel.config.store import ConfigStore
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost, ISentinelListener
from txsentinel.links.pool import LinkPool
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Limits, Timings
from txsentinel.reactor.connectors import SERVERS_TIME_SLICE_SECONDS, Horizon, connector
from txsentinel.runtime.binding import CannotListen
from txsentinel.runtime.executor import Executor
from txsentinel.runtime.listeners import CannotStart, open_listeners
from txsentinel.runtime.restoring import restore_state
from txsentinel.runtime.scripts import ScriptQueue
from txsentinel.runtime.sweeper import SweepLoop
from txsentinel.server.acl.control import AccessControl, UnusableUsers
from txsentinel.server.context import ServerContext
from txsentinel.server.factory import SentinelServerFactory
from txsentinel.server.process_info import ProcessInfo
from txsentinel.tls.activation import TlsSupport
from txsentinel.tls.errors import BadTls

Note = Callable[[Level, str], None]


class SentinelService(MultiService):
    """
    One Sentinel.

    The constructor opens nothing, because ``twistd`` forks after it. The start restores the state of the file, saves
    the ID of the Sentinel if it is new, opens the ports, and begins to monitor.

    :param listeners: called with every event.
    :param note: writes a line to the log.
    :param shutdown: ends the process in an orderly way, for the SHUTDOWN command.
    :param change_loglevel: applies ``SENTINEL CONFIG SET loglevel``.
    :param verify_hostnames: whether a TLS link requires the address it connects to in the certificate.
    """

    def __init__(
        self,
        host: IHost,
        configuration: Configuration,
        *,
        note: Note,
        listeners: ISentinelListener | None = None,
        shutdown: Callable[[], None],
        change_loglevel: Callable[[str], None] = lambda word: None,
        verify_hostnames: bool = False,
        timings: Timings | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host = host
        self.configuration = configuration
        self._note = note
        self._listeners = listeners
        self._loglevel_changed = change_loglevel
        self.tls = TlsSupport(host, configuration.generic, note, verify_hostnames)
        self._ports: list[IListeningPort] = []
        timings, limits = timings or Timings(), limits or Limits()
        self.core = SentinelCore(configuration.sentinel, timings, limits, host.random.randrange)
        self.executor = Executor(host, self.core, self._publish, note, configuration.saved_path)
        self.executor.links = self.links = LinkPool(host, self.core, configuration.generic, self.executor.drain)
        self.executor.scripts = self.scripts = ScriptQueue(host, timings, limits, self._announce, note)
        self.sweeping = SweepLoop(host, self.core, self.executor.drain)
        self.context = ServerContext(
            core=self.core,
            barrier=self.executor.barrier,
            scripts=self.scripts,
            host=host,
            access=AccessControl(configuration.generic, host),
            turn=self.executor.drain,
            shutdown=shutdown,
            change_loglevel=self._change_loglevel,
            options=configuration.generic,
            limits=limits,
            process_info=ProcessInfo(run_id=f"{host.random.getrandbits(160):040x}"),
            config_path=configuration.path,
        )
        self.server = SentinelServerFactory(self.context)
        self.store: ConfigStore | None = None
        self.serving: Deferred[None] = Deferred()
        """Fires when the ports are open; never fires if the start fails."""

    def startService(self) -> None:
        """
        Start the Sentinel.

        :raises CannotStart: if a port cannot be opened or the users are invalid.
        """
        super().startService()  # type: ignore[no-untyped-call]
        try:
            self.context.access.start(self.configuration.users_elsewhere(), self._note)
        except UnusableUsers as refusal:
            for line in refusal.lines:
                self._note(Level.WARNING, line)
            raise CannotStart(refusal.lines[-1]) from refusal
        now = self.context.started_at = self.host.now()
        options = self.configuration.sentinel
        generated_id = not options.my_id
        if generated_id:
            options.my_id = f"{self.host.random.getrandbits(160):040x}"
        restore_state(self.core, self.configuration, now)
        file, executor = self.configuration, self.executor
        executor.store = self.store = ConfigStore(
            self.host,
            file.saved_path,
            file.document,
            self.core,
            executor.committed,
            executor.commit_failed,
            executor.overwritten,
        )
        self.context.access.keep_in_file(partial(self.store.replace_generic, "user"))
        if file.recovered is not None:
            self._note(Level.WARNING, file.recovered)
            self.core.flush()
        self._note(Level.NOTICE, f"Running mode=sentinel, port={options.port or options.tls_port}.")
        if generated_id:
            # An ID that a peer has received must never change, so nothing is sent before it is durable.
            self.core.flush()
            generation = self.core.outbox.generation
            self.store.note_dirty(self.core.outbox.dirty)
            self.core.outbox.dirty = set()
            self.executor.barrier.defer_reply(generation, self._begin_later, self._begin_later)
            self.store.commit_soon(generation)
        else:
            self._begin()
            self.store.prepare()
        self.store.probe()

    def stopService(self) -> Deferred[None]:
        """Stop the core, the clients and the links, and finish the last write; fires when all is done."""
        self.sweeping.stop()
        stopping: list[Deferred[object]] = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports = []
        self.context.clients.close_all()
        self.tls.stop()
        self.scripts.stop()
        stopping.append(maybeDeferred(self.links.stop))
        if self.store is not None:
            stopping.append(maybeDeferred(self.store.stop))
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
            self.links.secure(self.tls.connecting)
            reactor, plain = self.host.reactor, self.tls.connecting is None
            horizon = Horizon(reactor)
            servers = connector(reactor, plain, "servers", SERVERS_TIME_SLICE_SECONDS, horizon)
            self.links.connect_with(
                servers, connector(reactor, plain, "peers", horizon=horizon), horizon.received_until
            )
            self.sweeping.received_until = horizon.received_until
            self._ports = open_listeners(self.host, self.server, self.configuration.generic, self.tls, self._note)
        except (CannotListen, BadTls) as refusal:
            self._note(Level.WARNING, str(refusal))
            raise CannotStart(str(refusal)) from refusal
        self.core.announce_monitored()
        self.executor.drained = self.sweeping.adjust
        self.sweeping.start()
        self.serving.callback(None)
        self.executor.drain()

    def _change_loglevel(self, word: str) -> None:
        """Apply a new log level and save it; the reply of the command waits for the save."""
        self._loglevel_changed(word)
        if self.store is not None:
            self.store.replace_generic("loglevel", [f"loglevel {word}"])

    def _publish(self, event: SentinelEvent) -> None:
        if event.published:
            self.context.hub.publish(event.channel, event.payload)
        if self._listeners is not None:
            self._listeners.event_published(event)

    def _announce(self, event: SentinelEvent) -> None:
        """Log and publish an event of the script queue, which depends on no state."""
        self._note(event.level, str(event))
        self._publish(event)
