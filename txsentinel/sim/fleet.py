"""A simulated fleet: Redis servers, and Sentinels that run the unmodified service."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zope.interface import implementer

from txsentinel.config.configuration import load
from txsentinel.config.errors import CannotOpen
from txsentinel.interfaces import ISentinelListener
from txsentinel.model.address import Address
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Limits, Timings
from txsentinel.runtime.service import SentinelService
from txsentinel.sim.c_sentinel import CSentinel
from txsentinel.sim.clients import SimClient
from txsentinel.sim.groups import Shape, SimMaster
from txsentinel.sim.host import SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.redis.server import SimRedis
from txsentinel.sim.simulation import Simulation
from txsentinel.sim.writes import DataWriter

CONFIG_PATH: Final = "/sentinel.conf"
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379


class FleetDisk:
    """The file system that a simulated Sentinel's configuration may check: it has only the configuration file."""

    def working_directory(self) -> str:
        """The root."""
        return "/"

    def read(self, path: str) -> bytes:
        """No other file exists."""
        raise FileNotFoundError(2, "No such file or directory", path)

    def matching(self, pattern: str) -> list[str]:
        """No other file exists."""
        return []

    def executable(self, path: str) -> bool:
        """Every script exists and is executable."""
        return True

    def readable_by_others(self, path: str) -> bool:
        """No other file exists."""
        return False

    def check_directory(self, path: str) -> None:
        """Every directory exists."""

    def check_appendable(self, path: str) -> None:
        """Every log can be written."""


@dataclass(slots=True)
class TranscriptLine:
    """One line of the transcript: seconds since the beginning, source, and text."""

    at: float
    who: str
    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.at:10.3f}  {self.who:<12} {self.text}"


class SimSentinel:
    """One Sentinel of the fleet: its host, and the service that runs there at present."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.fleet = fleet
        self.number = number
        self.name = f"s{number}"
        self.host = SimHost(fleet.simulation, fleet.network, self.name, f"10.0.1.{number}", self._program)
        self.host.names.update(fleet.names)
        self.host.files.contents[CONFIG_PATH] = fleet.configuration(number).encode()
        self.service: SentinelService | None = None

    @property
    def running(self) -> bool:
        """Whether a process with a service runs."""
        return self.host.running and self.service is not None

    @property
    def alive(self) -> SentinelService:
        """The service; available only while :attr:`running`."""
        assert self.service is not None
        return self.service

    def _program(self, host: SimHost) -> None:
        reporter = Reporter(self)
        try:
            contents = host.files.read(CONFIG_PATH)
        except OSError as error:
            # As the command line does: report the error and exit; the supervisor may restart the process.
            reporter.note(Level.WARNING, str(CannotOpen(CONFIG_PATH, error.strerror or str(error))))
            host.exit(1)
            return
        configuration = load(CONFIG_PATH, contents, disk=FleetDisk())
        self.service = SentinelService(
            host,
            configuration,
            note=reporter.note,
            listeners=reporter,
            shutdown=lambda: host.exit(0),
            timings=self.fleet.timings(),
            limits=Limits(mass_failure=self.fleet.shape.mass_failure),
            state_dir=self.fleet.state_dir,
        )
        self.fleet.born(self)
        self.service.startService()


@implementer(ISentinelListener)
class Reporter:
    """Forwards what one Sentinel logs and publishes."""

    def __init__(self, sentinel: SimSentinel) -> None:
        self._sentinel = sentinel

    def note(self, level: Level, text: str) -> None:
        """Handle a log line."""
        fleet = self._sentinel.fleet
        fleet.lines.append(TranscriptLine(fleet.simulation.seconds(), self._sentinel.name, level, text))

    def event_published(self, event: SentinelEvent) -> None:
        """Handle an event, at the moment at which clients receive it."""
        for observer in self._sentinel.fleet.observers:
            observer.event(self._sentinel, event)


class Observer:
    """Base class of observers; every method does nothing by default."""

    def born(self, sentinel: SimSentinel) -> None:
        """A process of ``sentinel`` has built its service, which is about to start."""

    def event(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """``sentinel`` published an event."""


class Fleet:
    """
    Sentinels and servers in one simulation, all started.

    :param seed: determines the whole run; the same seed gives the same run.
    """

    def __init__(self, seed: int, shape: Shape | None = None) -> None:
        self.shape = shape or Shape()
        self.simulation = Simulation(seed)
        self.network = SimNetwork(self.simulation)
        self.lines: list[TranscriptLine] = []
        self.observers: list[Observer] = []
        self.masters: list[SimMaster] = []
        for group in range(1, self.shape.masters + 1):
            self.masters.append(SimMaster(f"m{group}", self._servers(group)))
        self.disturbed_until = 0.0
        """Simulated time in seconds until which faults may keep Sentinels from meeting their deadlines."""
        self.state_dir: str | None = None
        """The directory of the history of failovers on each disk; ``None`` to keep it in memory only."""
        self.pause_ordered: Callable[[], None] = lambda: None
        """Called before an operator pauses failovers, or ends pauses."""

        self.report_violation: Callable[[object, str, str], None] = lambda holds, invariant, what: None
        """Called by other checkers with ``(whether it holds, the invariant, what happened)``."""
        self.names = {f"{server.host.name}.example": server.host.ip for server in self.servers}
        """The names that the resolver of every Sentinel knows."""
        self.sentinels = [SimSentinel(self, number) for number in range(1, self.shape.sentinels + 1)]
        first = self.shape.sentinels + 1
        self.c_peers = [
            CSentinel(self.simulation, self.network, number, f"10.0.1.{first + number}", self.masters, self.shape)
            for number in range(1, self.shape.c_peers + 1)
        ]
        self.writer = DataWriter(self.simulation, self.masters)
        self.clients = [
            SimClient(self.simulation, self.network, sentinel.host, self.masters, self._check_reply)
            for sentinel in self.sentinels
        ]

    def start(self) -> None:
        """Power on, the servers first."""
        for master in self.masters:
            for server in master.servers:
                server.host.start()
        for sentinel in self.sentinels:
            sentinel.host.start()
        for peer in self.c_peers:
            peer.host.start()
        for client in self.clients:
            client.host.start()

    def run(self, seconds: float) -> None:
        """Advance the simulation."""
        self.simulation.run(seconds)

    def converge(self, limit: float = 60.0) -> bool:
        """Advance the simulation until there are no disagreements, for at most ``limit`` seconds; return True if so."""
        step = 0.25
        while limit > 0:
            if not self.disagreements():
                return True
            self.simulation.run(step)
            limit -= step
        return not self.disagreements()

    @property
    def servers(self) -> list[SimRedis]:
        """All servers of all groups."""
        return [server for master in self.masters for server in master.servers]

    def server_at(self, address: Address) -> SimRedis | None:
        """The server that has this address, running or not."""
        return next((s for s in self.servers if s.host.ip == address.ip and address.port == REDIS_PORT), None)

    def timings(self) -> Timings:
        """The periods of a new Sentinel."""
        return Timings()

    def configuration(self, number: int) -> str:
        """The initial configuration file of Sentinel ``number``."""
        shape = self.shape
        lines = [f"port {SENTINEL_PORT}", "bind *"]
        if shape.hostnames:
            lines.append("sentinel resolve-hostnames yes")
        for master in self.masters:
            name, first = master.name, master.servers[0].host.ip
            if shape.hostnames:
                first = f"{master.servers[0].host.name}.example"
            lines += [
                f"sentinel monitor {name} {first} {REDIS_PORT} {shape.quorum}",
                f"sentinel down-after-milliseconds {name} {shape.down_after}",
                f"sentinel failover-timeout {name} {shape.failover_timeout}",
                f"sentinel parallel-syncs {name} {shape.parallel_syncs}",
            ]
        if shape.crash_failover:
            lines += [f"#: txsentinel crash-failover {master.name} on" for master in self.masters]
        if shape.empty_restart_failover:
            lines += [f"#: txsentinel empty-restart-failover {master.name} on" for master in self.masters]
        if shape.fence_isolated:
            lines += [f"#: txsentinel fence-isolated {master.name} on" for master in self.masters]
        return "\n".join(lines) + "\n"

    def born(self, sentinel: SimSentinel) -> None:
        """A Sentinel process started."""
        for observer in self.observers:
            observer.born(sentinel)

    def disagreements(self) -> list[str]:
        """
        Describe what differs from the state required after all faults; empty if nothing does.

        Every running Sentinel must know one reachable master of each group, the same as the others, with one config
        epoch. No instance may be down, and every other server must follow that master.
        """
        found: list[str] = []
        for group in self.masters:
            views = {}
            for sentinel in self.sentinels:
                if not sentinel.running:
                    found.append(f"{sentinel.name} is not running")
                    continue
                master = sentinel.alive.core.registry.masters.get(group.name)
                if master is None:
                    found.append(f"{sentinel.name} does not know {group.name}")
                    continue
                views[sentinel.name] = (master.published_address.ip, master.config_epoch)
                if master.failover is not None:
                    found.append(f"{sentinel.name} is failing {group.name} over ({master.failover.state.value})")
                if master.is_down:
                    found.append(f"{sentinel.name} holds {group.name} down")
                if len(master.peers) != len(self.sentinels) + len(self.c_peers) - 1:
                    found.append(f"{sentinel.name} knows {len(master.peers)} peers of {group.name}")
                behind = [peer.name for peer in master.peers.values() if peer.is_txsentinel and not peer.acknowledges]
                if behind and master.config_epoch:
                    found.append(f"{sentinel.name} has no hello with its configuration of {group.name} from {behind}")
                if len(master.replicas) != len(group.servers) - 1:
                    found.append(f"{sentinel.name} knows {len(master.replicas)} replicas of {group.name}")
            epochs = {sentinel.alive.core.current_epoch for sentinel in self.sentinels if sentinel.running}
            if len(epochs) > 1:
                found.append(f"the current epochs differ: {sorted(epochs)}")
            if len(set(views.values())) > 1:
                listed = ", ".join(f"{name}: {ip}@{epoch}" for name, (ip, epoch) in views.items())
                found.append(f"{group.name} is in dispute: {listed}")
            elif views:
                found += self._following(group, next(iter(views.values()))[0])
        return found

    def _check_reply(self, holds: object, what: str) -> None:
        self.report_violation(holds, "replies", what)

    def _following(self, group: SimMaster, ip: str) -> list[str]:
        found = []
        for server in group.servers:
            if not server.host.running:
                found.append(f"{server.host.name} is not running")
            elif server.host.ip == ip:
                if not server.is_master:
                    found.append(f"{server.host.name} should be the master of {group.name}")
            elif server.is_master or server.master_address != (ip, REDIS_PORT):
                found.append(f"{server.host.name} does not follow {ip}")
            elif not server.link_up:
                found.append(f"{server.host.name} has no link to its master")
        return found

    def _servers(self, group: int) -> list[SimRedis]:
        # The network of group 256 is 10.1.1; the Sentinels and clients have 10.0.
        network = f"10.{(group - 1) % 255 + 1}.{(group - 1) // 255}"
        first = f"{network}.1"
        servers = []
        for number in range(1, self.shape.replicas + 2):
            host = SimHost(self.simulation, self.network, f"m{group}r{number}", f"{network}.{number}")
            master = None if number == 1 else (first, REDIS_PORT)
            settings = {"replica_priority": "0"} if number > self.shape.replicas + 1 - self.shape.unwilling else {}
            server = SimRedis(host, REDIS_PORT, master, **settings)
            server.storage.mode = self.shape.persistence
            servers.append(server)
        return servers
