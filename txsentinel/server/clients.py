"""The state of each connected client, and the registry of all clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from txsentinel.model.timings import Millis

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from txsentinel.server.acl.users import User
    from txsentinel.server.specification import Command


class ClientConnection(Protocol):
    """The interface of a client's connection to the rest of the server."""

    @property
    def buffered(self) -> int:
        """Bytes of input that are not executed yet."""

    @property
    def queued(self) -> int:
        """Number of output chunks that are unsent or wait for an earlier reply."""

    @property
    def unsent(self) -> int:
        """Bytes of output that the transport has not accepted yet."""

    @property
    def descriptor(self) -> int:
        """The file descriptor, −1 if there is none."""

    @property
    def local_address(self) -> str:
        """The local end as CLIENT LIST shows it, empty if there is none."""

    @property
    def closing(self) -> bool:
        """Whether the connection is closing."""

    def push(self, encoded: bytes) -> None:
        """Send a frame that is no reply to a command."""

    def check_output(self, now: Millis) -> None:
        """Abort the connection if its unsent output exceeds the limits of its class."""

    def abort(self) -> None:
        """Close now without a reply; unsent output is lost."""

    def finish(self) -> None:
        """Read no further, and close when all requests are answered."""

    def proceed(self) -> None:
        """Resume the execution of requests."""


class Disconnected:
    """
    Replaces the connection of a client when it is lost.

    A client and its connection refer to each other. This breaks the cycle, which would otherwise remain in memory for
    long, because the garbage collector skips old objects.
    """

    buffered = 0
    queued = 0
    unsent = 0
    descriptor = -1
    local_address = ""
    closing = True

    def push(self, encoded: bytes) -> None:
        """Do nothing."""

    def check_output(self, now: Millis) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def proceed(self) -> None:
        """Do nothing."""


DISCONNECTED: Final = Disconnected()


class ReplySetting(Enum):
    """The setting of CLIENT REPLY."""

    ON = "on"
    OFF = "off"
    SKIP_NEXT = "skip the reply to the next command"
    SKIPPING = "skip the reply to this command"


class ClientKind(Enum):
    """The classes of clients; the value is the word for ``TYPE``."""

    NORMAL = "normal"
    MASTER = "master"
    REPLICA = "replica"
    PUBSUB = "pubsub"


@dataclass(slots=True)
class Tracking:
    """The options of CLIENT TRACKING. A Sentinel has no keys, so they are stored and have no effect."""

    redirect: int = 0
    broadcast: bool = False
    opt_in: bool = False
    opt_out: bool = False
    no_loop: bool = False
    caching: bool | None = None
    prefixes: tuple[bytes, ...] = ()


@dataclass(slots=True, eq=False)
class Client:
    """
    The state of one client, without its buffers.

    Times are milliseconds of the monotonic clock; names are the bytes that the client sent.
    """

    client_id: int
    connection: ClientConnection
    address: str
    connected_at: Millis
    last_active: Millis
    account: User
    """The user of the connection: ``default`` until it logs in as another."""

    unix: bool = False
    protocol: int = 2
    authenticated: bool = True
    name: bytes = b""
    library_name: bytes = b""
    library_version: bytes = b""
    channels: dict[bytes, None] = field(default_factory=dict)
    patterns: dict[bytes, None] = field(default_factory=dict)
    subscription_memory: int = 0
    """Approximate size in bytes of its channels and patterns."""

    last_command: Command | None = None
    """The last command that it sent; ``None`` if that command does not exist."""

    input_bytes: int = 0
    output_bytes: int = 0
    commands_processed: int = 0
    """Number of executed commands, including those with an error reply, without refused ones."""

    reply_setting: ReplySetting = ReplySetting.ON
    no_evict: bool = False
    paused: bool = False
    tracking: Tracking | None = None
    over_soft_limit_since: Millis | None = None
    """The time since when its unsent output exceeds the soft limit; ``None`` while it does not."""

    @property
    def local_address(self) -> str:
        """The local end of its connection, which is determined only when it is shown."""
        return self.connection.local_address

    @property
    def user(self) -> str:
        """The name of the user."""
        return self.account.name

    @property
    def subscriptions(self) -> int:
        """Number of subscribed channels and patterns."""
        return len(self.channels) + len(self.patterns)

    @property
    def memory(self) -> int:
        """Approximate memory of the client in bytes: input, output, subscriptions and names."""
        connection = self.connection
        names = len(self.name) + len(self.library_name) + len(self.library_version)
        prefixes = sum(map(len, self.tracking.prefixes)) if self.tracking is not None else 0
        return connection.buffered + connection.unsent + self.subscription_memory + names + prefixes

    @property
    def kind(self) -> ClientKind:
        """The class for output limits and filters."""
        return ClientKind.PUBSUB if self.channels or self.patterns else ClientKind.NORMAL


class ClientRegistry:
    """All clients by ID, in the order of their connection. IDs are never reused."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}
        self._last_id = 0
        self.paused_until: Millis | None = None
        """The time until which all clients are paused; ``None`` if they are not."""

        self.pause_timer: IDelayedCall | None = None

    def __len__(self) -> int:
        """Return the number of connected clients."""
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        """Iterate over a copy of the clients, so that connections may open and close meanwhile."""
        return iter(list(self._clients.values()))

    def get(self, client_id: int) -> Client | None:
        """Return the client with that ID, ``None`` if it is not connected."""
        return self._clients.get(client_id)

    def next_id(self) -> int:
        """Return an unused ID."""
        self._last_id += 1
        return self._last_id

    def add(self, client: Client) -> None:
        """Register a client."""
        self._clients[client.client_id] = client

    def remove(self, client: Client) -> None:
        """Remove a client whose connection is lost."""
        self._clients.pop(client.client_id, None)
        client.connection = DISCONNECTED

    def pause(self, until: Millis, now: Millis, clock: IReactorTime) -> None:
        """Pause all clients until that time. A second call never shortens a pause."""
        self._cancel_timer()
        self.paused_until = until if self.paused_until is None else max(until, self.paused_until)
        self.pause_timer = clock.callLater((self.paused_until - now) / 1000, self.resume)

    def resume(self) -> None:
        """End the pause, and resume the execution of requests."""
        self.paused_until = None
        self._cancel_timer()
        for client in self:
            if client.paused:
                client.paused = False
                client.connection.proceed()

    def close_all(self) -> None:
        """Close every connection when its replies are sent."""
        self._cancel_timer()
        self.paused_until = None
        for client in self:
            client.connection.finish()

    def _cancel_timer(self) -> None:
        if self.pause_timer is not None and self.pause_timer.active():
            self.pause_timer.cancel()
        self.pause_timer = None
