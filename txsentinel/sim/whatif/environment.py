"""The environment of a what-if: the unmodified service and simulated servers at the places that a file names."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, Protocol

from zope.interface import implementer

from txsentinel.core.instances import Master
from txsentinel.interfaces import ISentinelListener
from txsentinel.model.address import Address
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Limits, Timings
from txsentinel.runtime.service import SentinelService
from txsentinel.sim.host import ScriptOutcome, SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.redis.server import SimRedis
from txsentinel.sim.simulation import Simulation
from txsentinel.sim.whatif.client import Application
from txsentinel.sim.whatif.topology import LOOPBACK, GroupTopology, ListenAddress, SentinelTopology, Topology

CLIENT_IP: Final = "198.18.255.1"
CLIENT: Final = "client"

START_SPREAD: Final = 1.0
"""Seconds over which the Sentinels start, so that their periods do not coincide."""

ANNOUNCED: Final = "replica-announce-ip"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions that the file does not define and the operator may set; times in seconds."""

    write_period: float = 0.01
    client_timeout: float = 1.0
    latency: float = 0.2
    """Milliseconds one way, between machines; random jitter adds up to as much again."""
    sync_seconds: float = 0.05
    """How long a full copy of the data takes."""
    load_seconds: float = 0.0
    """How long servers load their data when they start."""
    settings: tuple[tuple[str, str, str], ...] = ()
    """``(server, name, value)``: directives of ``redis.conf``."""
    lags: tuple[tuple[str, float], ...] = ()
    """``(server, milliseconds)``: the delay before replicated data is applied."""


class WhatIfNetwork(SimNetwork):
    """A network that supports IPv6 addresses too."""

    @staticmethod
    def is_literal(host: str) -> bool:
        """Whether this is an address and not a name."""
        try:
            ip_address(host)
        except ValueError:
            return False
        return True


class RunObserver(Protocol):
    """Callbacks for what happens in a run."""

    def event(self, sentinel: Installed, event: SentinelEvent) -> None:
        """A Sentinel published an event."""

    def noted(self, sentinel: Installed, level: Level, text: str) -> None:
        """A Sentinel logged a line, of an event or not."""

    def turned(self, sentinel: Installed) -> None:
        """A Sentinel has finished a turn."""

    def script(self, sentinel: Installed, arguments: Sequence[str]) -> None:
        """A Sentinel runs a script; its path comes first."""


@implementer(ISentinelListener)
class Installed:
    """One Sentinel: its host, and the service that runs there at present."""

    def __init__(self, fixture: Fixture, topology: SentinelTopology) -> None:
        self.fixture = fixture
        self.topology = topology
        self.name = topology.name
        self.host = SimHost(fixture.simulation, fixture.network, topology.name, topology.place.ip, self._program)
        self.host.names.update(fixture.topology.names)
        self.host.files.contents.update(fixture.topology.acl)
        self.host.files.contents[fixture.topology.path] = fixture.topology.contents
        self.host.script = self._script
        self.service: SentinelService | None = None

    @property
    def place(self) -> ListenAddress:
        """The address on which it listens."""
        return self.topology.place

    @property
    def running(self) -> bool:
        """Whether a process with a service runs, frozen or not."""
        return self.host.running and self.service is not None

    @property
    def alive(self) -> SentinelService:
        """The service; available only while :attr:`running`."""
        assert self.service is not None
        return self.service

    def view(self, name: str) -> Master | None:
        """The Sentinel's state of a master; ``None`` if it has none or does not run."""
        return self.alive.core.registry.masters.get(name) if self.running else None

    def note(self, level: Level, text: str) -> None:
        """Handle a log line."""
        for observer in self.fixture.observers:
            observer.noted(self, level, text)

    def event_published(self, event: SentinelEvent) -> None:
        """Handle an event, at the moment at which clients receive it."""
        for observer in self.fixture.observers:
            observer.event(self, event)

    def _program(self, host: SimHost) -> None:
        topology = self.fixture.topology
        self.service = SentinelService(
            host,
            topology.configuration(self.topology, host.files.read(topology.path)),
            note=self.note,
            listeners=self,
            shutdown=lambda: host.exit(0),
            timings=Timings(),
            limits=Limits(),
        )
        host.reactor.turned = self._turned
        self.service.startService()

    def _turned(self) -> None:
        for observer in self.fixture.observers:
            observer.turned(self)

    def _script(self, arguments: Sequence[str]) -> ScriptOutcome:
        for observer in self.fixture.observers:
            observer.script(self, arguments)
        return ScriptOutcome()


class LaggingRedis(SimRedis):
    """
    A server that applies replicated data some time after its master wrote it.

    What it has not applied when it loses its master is lost to it, as are the contents of a master's output buffers
    when that dies.
    """

    lag = 0.0
    """Seconds."""

    source: Callable[[], bool] = staticmethod(lambda: True)
    """Whether its master runs."""

    def boot(self, host: SimHost) -> None:
        """Start in a new process, whose stream goes through a delay."""
        super().boot(host)
        replication = self.replication
        arrived = replication.stream_arrived

        def apply(link: object, arguments: Sequence[Any]) -> None:
            if link is not None and replication.link is link and self.source():
                arrived(*arguments)

        def later(*arguments: Any) -> None:
            if self.lag:
                host.reactor.callLater(self.lag, apply, replication.link, arguments)
            else:
                arrived(*arguments)

        setattr(replication, "stream_arrived", later)  # noqa: B010 - an attribute that mypy takes for a method


@dataclass(slots=True, eq=False)
class InstalledServer:
    """One Redis server, with its name in commands and reports."""

    name: str
    place: ListenAddress
    redis: LaggingRedis

    @property
    def host(self) -> SimHost:
        """The host on which it runs."""
        return self.redis.host


@dataclass(slots=True)
class InstalledGroup:
    """A monitored master with its servers. Its master may change."""

    topology: GroupTopology
    servers: list[InstalledServer] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the master."""
        return self.topology.name


@dataclass(frozen=True, slots=True)
class FaultTarget:
    """A process that a fault can affect."""

    name: str
    host: SimHost
    server: InstalledServer | None = None
    sentinel: Installed | None = None


class Fixture:
    """All that the file describes, in one simulation, and an application that writes to it."""

    def __init__(self, topology: Topology, seed: int, conditions: Conditions) -> None:
        self.topology = topology
        self.conditions = conditions
        self.simulation = Simulation(seed)
        self.network = WhatIfNetwork(self.simulation, conditions.latency, conditions.latency)
        self.observers: list[RunObserver] = []
        self.groups = [self._group(group) for group in topology.groups]
        self.sentinels = [Installed(self, sentinel) for sentinel in topology.sentinels]
        # A loopback address leads each machine to itself.
        ip = LOOPBACK if self.sentinels[0].place.ip == LOOPBACK else CLIENT_IP
        client = SimHost(self.simulation, self.network, CLIENT, ip)
        client.names.update(topology.names)
        self.application = Application(client, conditions.write_period, conditions.client_timeout)
        password, user = topology.password, topology.user
        self.application.configure(
            [(sentinel.place.ip, sentinel.place.port) for sentinel in topology.sentinels], _credentials(user, password)
        )
        for group in topology.groups:
            self.application.serve(group.name, _credentials(group.options.auth_user, group.options.auth_pass))
        self._apply(conditions)

    # Processes

    @property
    def servers(self) -> list[InstalledServer]:
        """All servers of all groups."""
        return [server for group in self.groups for server in group.servers]

    @property
    def processes(self) -> list[FaultTarget]:
        """All Sentinels and servers, and the application."""
        processes = [FaultTarget(each.name, each.host, sentinel=each) for each in self.sentinels]
        processes += [FaultTarget(each.name, each.host, server=each) for each in self.servers]
        return [*processes, FaultTarget(CLIENT, self.application.host)]

    def group(self, name: str) -> InstalledGroup:
        """The group of that name; it must exist."""
        return next(group for group in self.groups if group.name == name)

    def server_at(self, host: str, port: int) -> InstalledServer | None:
        """The server at an address that a Sentinel or a client knows it by."""
        ip = self.topology.machine(host)
        own = self.sentinels[0].place.ip
        return next(
            (
                server
                for server in self.servers
                if server.place.port == port
                and (server.place.ip == ip or (ip[:4] == "127." and server.place.ip == own))
            ),
            None,
        )

    def server_of(self, address: Address) -> InstalledServer | None:
        """The server that a Sentinel means by ``address``."""
        return self.server_at(address.ip or address.hostname, address.port)

    def called(self, run_id: str) -> str:
        """The name of the Sentinel with this ID."""
        for sentinel in self.sentinels:
            if sentinel.service is not None and sentinel.service.core.options.my_id == run_id:
                return sentinel.name
        return run_id[:8]

    def monitors(self, name: str) -> list[Installed]:
        """The Sentinels that monitor this master, running or not."""
        return [sentinel for sentinel in self.sentinels if name in sentinel.topology.masters]

    def master_of(self, group: InstalledGroup) -> InstalledServer:
        """The server that most Sentinels publish as the master of ``group`` now."""
        views = [sentinel.view(group.name) for sentinel in self.monitors(group.name)]
        places = [self.server_of(view.published_address) for view in views if view is not None]
        votes = Counter(server for server in places if server is not None)
        return votes.most_common(1)[0][0] if votes else group.servers[0]

    # Time

    def start(self) -> None:
        """Power on: servers at once, Sentinels within a second."""
        for server in self.servers:
            server.host.start()
        for sentinel in self.sentinels:
            self.simulation.call_later(self.simulation.random.random() * START_SPREAD, sentinel.host.start)
        self.application.host.start()

    def run_until(self, done: Callable[[], bool], limit: float, step: float = 0.25) -> bool:
        """Advance the simulation until ``done``, for at most ``limit`` seconds; return True if it was reached."""
        until = self.simulation.seconds() + limit
        while not done():
            if self.simulation.seconds() >= until:
                return False
            self.simulation.run(step)
        return True

    def unstable_reasons(self) -> list[str]:
        """Describe what differs from a healthy installation."""
        found: list[str] = []
        for group in self.groups:
            master = self.master_of(group)
            monitors = self.monitors(group.name)
            for sentinel in monitors:
                found += self._unstable_reasons(sentinel, group, master, len(monitors) - 1)
            for server in group.servers:
                if not server.host.running:
                    found.append(f"{server.name} is not running")
                elif server is master and not server.redis.is_master:
                    found.append(f"{server.name} should be a master")
                elif server is not master and not self.follows(server, master):
                    found.append(f"{server.name} has no link to {master.name}")
        return found

    def follows(self, server: InstalledServer, master: InstalledServer) -> bool:
        """Whether it is a replica of ``master`` with a link to it."""
        place = server.redis.master_address
        return server.host.running and place is not None and server.redis.link_up and self.server_at(*place) is master

    def _unstable_reasons(
        self, sentinel: Installed, group: InstalledGroup, master: InstalledServer, peers: int
    ) -> list[str]:
        view = sentinel.view(group.name)
        if view is None:
            return [f"{sentinel.name} is not running" if not sentinel.running else f"{sentinel.name} is starting"]
        found = []
        if self.server_of(view.published_address) is not master or view.failover is not None:
            found.append(f"{sentinel.name} does not have {master.name} as the master of {group.name}")
        if view.is_down or view.link.disconnected:
            found.append(f"{sentinel.name} has no link to {master.name}")
        # A connection may be up although every command on it is refused.
        links = [peer.link for peer in view.peers.values()]
        linked = sum(not link.disconnected and link.available_at > link.created_at for link in links)
        if linked != peers:
            found.append(f"{sentinel.name} has links to {linked} of {peers} other Sentinels for {group.name}")
        known = sum(
            not replica.link.disconnected and replica.info_refreshed_at is not None
            for replica in view.replicas.values()
        )
        if known != len(group.servers) - 1:
            found.append(
                f"{sentinel.name} is in touch with {known} of {len(group.servers) - 1} replicas of {group.name}"
            )
        return found

    # Construction

    def _group(self, topology: GroupTopology) -> InstalledGroup:
        options, conditions = topology.options, self.conditions
        group = InstalledGroup(topology)
        first = topology.servers[0]
        for number, place in enumerate(topology.servers, 1):
            name = f"{topology.name}/{number}"
            settings = {"masterauth": options.auth_pass or "", "masteruser": options.auth_user or ""}
            if options.auth_user in (None, "default"):
                settings["requirepass"] = options.auth_pass or ""
            if self.topology.announces_hostnames and place.host != place.ip:
                settings[ANNOUNCED.replace("-", "_")] = place.host
            host = SimHost(self.simulation, self.network, name, place.ip)
            host.names.update(self.topology.names)
            named = self.topology.machine(first.host) != first.host
            origin = None if number == 1 else (first.host if named else first.ip, first.port)
            redis = LaggingRedis(host, place.port, origin, **settings)
            if options.auth_user not in (None, "default"):
                redis.users[str(options.auth_user)] = options.auth_pass or ""
            redis.sync_seconds, redis.load_seconds = conditions.sync_seconds, conditions.load_seconds
            group.servers.append(InstalledServer(name, place, redis))
        return group

    def _apply(self, conditions: Conditions) -> None:
        servers = {server.name: server for server in self.servers}
        for name, setting, value in conditions.settings:
            redis = servers[name].redis
            redis.configure({setting: value})
            redis.rewrite()
        for name, millis in conditions.lags:
            redis = servers[name].redis
            redis.lag = millis / 1000
            redis.source = partial(self._master_runs, redis)

    def _master_runs(self, redis: SimRedis) -> bool:
        master = None if redis.master_address is None else self.server_at(*redis.master_address)
        return master is not None and master.host.running


def _credentials(user: str | None, password: str | None) -> tuple[str, ...]:
    if not password:
        return ()
    return (user, password) if user else (password,)
