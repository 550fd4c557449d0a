"""
The state of a simulated Redis server, and what its commands, its clients and faults do to it.

It serves RESP on a simulated host, replicates to and from other simulated servers, and can be put into the states of
real servers: loading, running a script that does not end, disconnected from its master, protected by a password. Texts
and numbers follow Redis 7.0. The commands themselves are added by the subclass in ``server``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from twisted.internet.protocol import Factory

from txsentinel.sim.redis import replication, settings
from txsentinel.sim.redis.client import RedisClient
from txsentinel.sim.redis.dataset import apply
from txsentinel.sim.redis.pauses import Pause, PauseReason
from txsentinel.sim.redis.persistence import Storage
from txsentinel.sim.redis.table import SimCommand
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import OK, ErrorReply, Push, Value, data, encode, pack, text

if TYPE_CHECKING:
    from twisted.internet.address import IPv4Address
    from twisted.internet.interfaces import IAddress

    from txsentinel.sim.host import SimHost

_FIRST_ARGUMENTS: Final = 128
"""Bytes of the arguments that an error about an unknown command repeats."""

MAX_KNOWN_MESSAGES: Final = 64
"""Number of published messages whose encoding is cached: hellos repeat."""

BEAT: Final = 1.0
"""Seconds between two periodic calls of replication."""


@dataclass(frozen=True, slots=True)
class RoleChange:
    """A change of the role, or of the master."""

    was_master: bool
    ordered_by: str
    """IP of the client."""
    excluded: RedisClient | None
    """That client, if it is still connected."""


class RedisInstance:
    """
    A Redis server on a host of its own.

    :param host: becomes this server's; starting the host starts the server.
    :param replica_of: server that it is configured to replicate, or its address.
    :param options: as in ``redis.conf``, with underscores for dashes.
    """

    version = "7.0.15"

    commands: ClassVar[Mapping[str, SimCommand]] = {}
    """All commands by upper-case name."""

    def __init__(
        self,
        host: SimHost,
        port: int = 6379,
        replica_of: RedisInstance | tuple[str, int] | None = None,
        **options: str,
    ) -> None:
        self.host = host
        self.port = port
        self.master_address: tuple[str, int] | None = (
            replica_of.address if isinstance(replica_of, RedisInstance) else replica_of
        )
        """Host and port of the master in the configuration."""
        self.config_file: str | None = f"/etc/redis/{port}.conf"
        """The file of CONFIG REWRITE; ``None`` for a server started without one."""
        self.storage = Storage()
        """What survives a restart."""
        self.sync_seconds = 0.05
        """Seconds that making a full copy takes."""
        self.load_seconds = 0.0
        """Seconds for which it answers ``-LOADING`` after each start."""
        self.users: dict[str, str] = {}
        """Names and passwords of further users, who may do everything."""
        self.data: dict[bytes, bytes] = {}
        self.claimed_role: str | None = None
        """The role that INFO reports in place of the true one, if a fault sets it."""
        self.busy = False
        self.script_wrote = False
        """Whether the running script cannot be killed."""
        self.loading = False
        self.clients: dict[int, RedisClient] = {}
        self.run_id = ""
        self.started_at = 0.0
        self._settings = dict(settings.DEFAULTS)
        for name, value in options.items():
            self._settings[settings.canonical(name.replace("_", "-"))] = value
        self.first_priority = self._settings["replica-priority"]
        """The priority that it was configured with."""
        self._audiences: dict[bytes, list[tuple[RedisClient, bytes | None]]] = {}
        """Channel → subscribers, with the pattern if the subscription is not to the channel itself."""
        self._messages: dict[tuple[bytes, bytes, int], bytes] = {}
        """Messages that were encoded recently."""
        self._next_client = 1
        self.paused = False
        """Whether any commands are held."""
        self._pauses: dict[PauseReason, Pause] = {}
        self._postponed: dict[RedisClient, None] = {}
        """Clients whose commands are held, in the order in which they were."""
        self.refusals: dict[str, str] = {}
        """IP of a client → the error that all of its commands are answered with."""
        self.refused_at: dict[str, float] = {}
        """IP of such a client → when it was last refused, in simulated seconds."""
        self.role_changed: Callable[[RedisInstance, RoleChange], None] | None = None
        """Called after a client's order, or a FAILOVER that has ended, changed the role or the master."""
        self.started: Callable[[RedisInstance, dict[bytes, bytes]], None] | None = None
        """Called in each new process with the data set that the former process had."""
        self.data_replaced: Callable[[RedisInstance, dict[bytes, bytes]], None] | None = None
        """Called with the former data set after a full copy has replaced it."""
        if self.config_file is not None:
            host.files.contents[self.config_file] = settings.render(self.port, self._settings, self.master_address)
        self.replication = replication.Replication(self, None)
        host.program = self.boot

    def __repr__(self) -> str:
        role = (
            "master" if self.master_address is None else f"replica of {self.master_address[0]}:{self.master_address[1]}"
        )
        return f"<RedisInstance {self.host.name} {self.host.ip}:{self.port} {role}>"

    # Used by tests and faults

    @property
    def address(self) -> tuple[str, int]:
        """The address on which it listens."""
        return self.host.ip, self.port

    @property
    def is_master(self) -> bool:
        """Whether its role is master."""
        return self.master_address is None

    @property
    def link_up(self) -> bool:
        """Whether it is a replica with a link to its master and all of its data."""
        return self.replication.link_up

    @property
    def writable(self) -> bool:
        """Whether it would accept a write now."""
        return (
            self.host.running
            and self.master_address is None
            and not (self.loading or self.busy or self.lacks_replicas())
        )

    def start_script(self, killable: bool = True) -> None:
        """Start a script that runs until SCRIPT KILL or :meth:`end_script`."""
        self.busy, self.script_wrote = True, not killable

    def end_script(self) -> None:
        """End the script."""
        self.busy = self.script_wrote = False

    def forget_everything(self) -> None:
        """Erase the disk: the next start is with an empty data set."""
        self.storage.erase()

    def start_loading(self, seconds: float) -> None:
        """Answer ``-LOADING`` for a while."""
        self.loading = True
        self.host.reactor.callLater(seconds, self._loaded)

    # Start

    def boot(self, host: SimHost) -> None:
        """Start in a new process, from the durable state."""
        if self.config_file is not None:
            self._settings, self.master_address = settings.parse(host.files.read(self.config_file))
        before = self.data
        self.data, snapshot = self.storage.load()
        self.run_id = self.new_id()
        self.started_at = host.reactor.seconds()
        self.clients = {}
        self.audience_changed()
        self._next_client = 1
        self.end_script()
        self.loading = False
        self.paused = False
        self._pauses = {}
        self._postponed = {}
        self.replication = replication.Replication(self, snapshot)
        host.reactor.listenTCP(self.port, _ServerFactory(self))
        if self.load_seconds:
            self.start_loading(self.load_seconds)
        else:
            self.replication.connect_to_master()
        host.reactor.callLater(host.random.random() * BEAT, self._beat)
        if self.started is not None:
            self.started(self, before)

    def _loaded(self) -> None:
        self.loading = False
        self.replication.connect_to_master()

    def _beat(self) -> None:
        self.host.reactor.callLater(BEAT, self._beat)
        if not self.busy and not self.loading:
            self.replication.beat()

    def new_id(self) -> str:
        """A new ID of 40 hexadecimal digits."""
        return f"{self.host.random.getrandbits(160):040x}"

    # Clients

    def admit(self, ip: str, port: int) -> RedisClient:
        """Register a new connection."""
        now = self.host.reactor.seconds()
        client = RedisClient(self, self._next_client, ip, port, now, not self.setting("requirepass"))
        self.clients[client.number] = client
        self._next_client += 1
        return client

    def forget(self, client: RedisClient) -> None:
        """Remove a connection that is closed or closing."""
        self.clients.pop(client.number, None)
        self._postponed.pop(client, None)
        self.audience_changed()

    def refusal(self, client: RedisClient, command: SimCommand | None, words: list[bytes]) -> str | None:
        """The error that a server replies before it executes a command, in the server's order of checks."""
        if client.ip in self.refusals:
            self.refused_at[client.ip] = self.host.simulation.seconds()
            return self.refusals[client.ip]
        if command is None:
            return _unknown(words)
        if not command.takes(len(words)):
            return f"ERR wrong number of arguments for '{command.name.lower()}' command"
        if not client.authenticated and not command.unauthenticated:
            return "NOAUTH Authentication required."
        writes = command.writes or (command.name == "EXEC" and client.has_queued("writes"))
        if writes and self.master_address is None and self.lacks_replicas():
            return "NOREPLICAS Not enough good replicas to write."
        if writes and self.master_address is not None and self.setting("replica-read-only") == "yes":
            return "READONLY You can't write against a read only replica."
        if client.resp == 2 and (client.channels or client.patterns) and not command.while_subscribed:
            return (
                f"ERR Can't execute '{text(words[0]).lower()}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
                "RESET are allowed in this context"
            )
        if self.master_address is not None and self.is_stale() and not command.while_stale:
            return "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
        if self.loading and not command.while_loading:
            return "LOADING Redis is loading the dataset in memory"
        if self.busy and not command.while_busy(words):
            return "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
        return None

    def audience_changed(self) -> None:
        """A subscription began or ended."""
        self._audiences.clear()

    def accepts(self, user: str, password: str) -> bool:
        """Whether name and password are valid."""
        if user == "default":
            return self._settings["requirepass"] in ("", password)
        return user in self.users and self.users[user] == password

    def pause_clients(
        self,
        millis: int | None,
        writes_only: bool,
        reason: PauseReason = PauseReason.CLIENT_PAUSE,
        ordered_by: str | None = None,
    ) -> None:
        """
        Hold commands for ``timeout``, or (``None``) until the pause is ended.

        An existing pause of the same reason is extended or widened, never shortened or narrowed.
        """
        reactor = self.host.reactor
        began_at = now = reactor.seconds()
        ends_at = None if millis is None else now + millis / 1000
        before = self._pauses.pop(reason, None)
        if before is not None:
            before.cancel()
            began_at = before.began_at
            writes_only = writes_only and before.writes_only
            ends_at = None if ends_at is None or before.ends_at is None else max(ends_at, before.ends_at)
        timer = None
        if ends_at is not None:
            timer = reactor.callLater(max(0.0, ends_at - now), self.unpause_clients, reason)
        self._pauses[reason] = Pause(writes_only, began_at, ends_at, timer, ordered_by)
        self.paused = True

    def unpause_clients(self, reason: PauseReason = PauseReason.CLIENT_PAUSE) -> None:
        """
        End a pause; resume the commands that no other pause holds, in the order in which they were held.

        If one of them begins a pause, it holds those after it again.
        """
        pause = self._pauses.pop(reason, None)
        if pause is None:
            return
        pause.cancel()
        self.paused = bool(self._pauses)
        postponed, self._postponed = self._postponed, {}
        for client in postponed:
            client.resume()

    def postponed(self, client: RedisClient) -> None:
        """A pause holds the command of this client; it comes after those that are held already."""
        self._postponed[client] = None

    def pause(self, reason: PauseReason) -> Pause | None:
        """The pause in force for that reason, if any."""
        return self._pauses.get(reason)

    def holds(self, client: RedisClient, changes: bool) -> bool:
        """Whether a pause holds this client's next command; ``changes`` is whether that is a write."""
        if client.is_replica:
            return False
        return any(changes or not pause.writes_only for pause in self._pauses.values())

    def role_was_changed(self, was_master: bool, ordered_by: str, excluded: RedisClient | None = None) -> None:
        """Notify the observers of role changes."""
        if self.role_changed is not None:
            self.role_changed(self, RoleChange(was_master, ordered_by, excluded))

    def data_was_replaced(self, before: dict[bytes, bytes]) -> None:
        """Notify the observers of the data set."""
        if self.data_replaced is not None:
            self.data_replaced(self, before)

    # Data and messages

    def write(self, words: list[bytes]) -> None:
        """Apply a write, store it, and send it to the replicas."""
        apply(self.data, words)
        self.feed(pack(*words))
        self.persist()

    def feed(self, raw: bytes) -> None:
        """Send a command to the replicas."""
        self.replication.feed(raw)

    def persist(self) -> None:
        """Store the latest write."""
        self.storage.written(self.data)

    def save(self) -> None:
        """Write a snapshot of the data set."""
        self.storage.save(self.data, self.replication.id, self.replication.offset)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Deliver to the own subscribers; return their number."""
        audience = self._audiences.get(channel)
        if audience is None:
            audience = self._audiences[channel] = self._audience(channel)
        for client, pattern in audience:
            if pattern is not None:
                client.push("pmessage", pattern, channel, message)
                continue
            key = (channel, message, client.resp)
            raw = self._messages.get(key)
            if raw is None:
                if len(self._messages) >= MAX_KNOWN_MESSAGES:
                    self._messages.clear()
                raw = self._messages[key] = encode(Push(("message", channel, message)), client.resp)
            client.send(raw)
        return len(audience)

    def _audience(self, channel: bytes) -> list[tuple[RedisClient, bytes | None]]:
        audience: list[tuple[RedisClient, bytes | None]] = []
        for client in self.clients.values():
            if channel in client.channels:
                audience.append((client, None))
            audience += [(client, pattern) for pattern in client.patterns if glob_match(pattern, channel)]
        return audience

    def kill_script(self) -> Value:
        """The reply to SCRIPT KILL."""
        if not self.busy:
            return ErrorReply("NOTBUSY No scripts in execution right now.")
        if self.script_wrote:
            return ErrorReply(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait "
                "the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
            )
        self.end_script()
        return OK

    # Replication as clients see it

    def replicas(self) -> list[RedisClient]:
        """Clients that are replicas, the oldest connection first."""
        return [client for client in self.clients.values() if client.attached.state != "handshake"]

    def lacks_replicas(self) -> bool:
        """Whether fewer replicas are connected than ``min-replicas-to-write`` requires."""
        wanted, max_lag = int(self._settings["min-replicas-to-write"]), int(self._settings["min-replicas-max-lag"])
        if not wanted or not max_lag:
            return False
        oldest = self.host.reactor.seconds() - max_lag - 1
        attached = [client.attached for client in self.replicas()]
        return sum(replica.state == "online" and replica.acknowledged_at > oldest for replica in attached) < wanted

    def is_stale(self) -> bool:
        """Whether replies are forbidden because the master is out of reach."""
        return (
            self.master_address is not None
            and not self.replication.link_up
            and self._settings["replica-serve-stale-data"] == "no"
        )

    # Configuration

    def setting(self, name: str) -> str:
        """One setting, as text."""
        return self._settings[name]

    def settings_like(self, patterns: list[bytes]) -> list[tuple[str, Value]]:
        """Settings whose name, in either spelling, matches one of the patterns."""
        return [
            (name, value)
            for canonical, value in self._settings.items()
            for name in dict.fromkeys((canonical, canonical.replace("replica", "slave")))
            if any(glob_match(pattern, data(name)) for pattern in patterns)
        ]

    def configure(self, changes: dict[str, str]) -> Value:
        """The reply to CONFIG SET; all of the changes are made or none."""
        for name in changes:
            if settings.canonical(name) not in self._settings:
                return ErrorReply(f"ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
        self._settings.update((settings.canonical(name), value) for name, value in changes.items())
        return OK

    def rewrite(self) -> Value:
        """The reply to CONFIG REWRITE; the file is durable by then, as with the real server."""
        if self.config_file is None:
            return ErrorReply("ERR The server is running without a config file")
        files = self.host.files
        if files.fail_with is not None:
            return ErrorReply(f"ERR Rewriting config file: {files.fail_with.strerror}")
        files.contents[self.config_file] = settings.render(self.port, self._settings, self.master_address)
        return OK

    def configured_master(self) -> tuple[str, int] | None:
        """The master in its file."""
        return None if self.config_file is None else settings.parse(self.host.files.contents[self.config_file])[1]


class _ServerFactory(Factory):
    noisy = False

    def __init__(self, server: RedisInstance) -> None:
        self.server = server

    def buildProtocol(self, addr: IAddress | None) -> RedisClient:
        """Build the protocol of a client that connects from ``addr``."""
        peer: IPv4Address = addr  # type: ignore[assignment]
        return self.server.admit(peer.host, peer.port)


def _unknown(words: list[bytes]) -> str:
    repeated = ""
    for word in words[1:]:
        if len(repeated) >= _FIRST_ARGUMENTS:
            break
        repeated += f"'{text(word)[: _FIRST_ARGUMENTS - len(repeated)]}' "
    return f"ERR unknown command '{text(words[0])[:_FIRST_ARGUMENTS]}', with args beginning with: {repeated}"
