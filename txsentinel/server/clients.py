"""Who is connected: the state of each client, and the register of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from txsentinel.model.timings import Millis

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from txsentinel.server.acl.users import User
    from txsentinel.server.table import Command


class Connection(Protocol):
    """What a client's connection does for the rest of the server."""

    @property
    def buffered(self) -> int:
        """Bytes of input that are not executed yet."""

    @property
    def queued(self) -> int:
        """Pieces of output that wait for the client to read, or for an earlier reply."""

    @property
    def unsent(self) -> int:
        """Bytes of output that the client has not made room for."""

    @property
    def descriptor(self) -> int:
        """The file descriptor, or −1."""

    @property
    def closing(self) -> bool:
        """Is it about to be closed?"""

    def push(self, encoded: bytes) -> None:
        """Send something that answers no command."""

    def check_output(self, now: Millis) -> None:
        """Cut the client off if it has left more unread than its class may."""

    def abort(self) -> None:
        """Close now, without a word; what is unsent is lost."""

    def finish(self) -> None:
        """Read no more, and close once everything is answered."""

    def proceed(self) -> None:
        """Go on with requests that had to wait."""


class Disconnected:
    """
    What a client has for a connection once that is lost.

    A client and its connection know each other. Unless one forgets the other they are garbage that only the
    collector can find, which does not look at what has lived for long.
    """

    buffered = 0
    queued = 0
    unsent = 0
    descriptor = -1
    closing = True

    def push(self, encoded: bytes) -> None:
        """There is nobody to read it."""

    def check_output(self, now: Millis) -> None:
        """There is no output."""

    def abort(self) -> None:
        """It is closed."""

    def finish(self) -> None:
        """It is finished."""

    def proceed(self) -> None:
        """There are no requests."""


DISCONNECTED: Final = Disconnected()


class Answering(Enum):
    """What CLIENT REPLY asked for."""

    ON = "on"
    OFF = "off"
    SKIP_NEXT = "skip the reply to the next command"
    SKIPPING = "skip the reply to this command"


class ClientKind(Enum):
    """The classes of clients; the value is the word of ``TYPE``."""

    NORMAL = "normal"
    MASTER = "master"
    REPLICA = "replica"
    PUBSUB = "pubsub"


@dataclass(slots=True)
class Tracking:
    """What CLIENT TRACKING asked for. A Sentinel has no keys, so it is remembered and has no effect."""

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
    The state of one connection, apart from its bytes.

    Times are milliseconds of the monotonic clock; names are the bytes that the client sent.
    """

    client_id: int
    connection: Connection
    address: str
    local_address: str
    connected_at: Millis
    last_active: Millis
    account: User
    """Whom it is logged in as, or would be without a password; replaced when it logs in."""

    unix: bool = False
    protocol: int = 2
    authenticated: bool = True
    name: bytes = b""
    library_name: bytes = b""
    library_version: bytes = b""
    channels: dict[bytes, None] = field(default_factory=dict)
    patterns: dict[bytes, None] = field(default_factory=dict)
    subscription_memory: int = 0
    """Bytes that its channels and patterns occupy, about."""

    last_command: Command | None = None
    """The command that it named last; ``None`` if there was no such command."""

    input_bytes: int = 0
    output_bytes: int = 0
    commands_processed: int = 0
    """How many were run, whatever they answered; refused ones do not count."""

    answering: Answering = Answering.ON
    no_evict: bool = False
    paused: bool = False
    tracking: Tracking | None = None
    over_soft_limit_since: Millis | None = None
    """Since when it leaves more output unread than its class may; ``None`` while it does not."""

    @property
    def user(self) -> str:
        """The name of its user."""
        return self.account.name

    @property
    def subscriptions(self) -> int:
        """Channels and patterns together."""
        return len(self.channels) + len(self.patterns)

    @property
    def memory(self) -> int:
        """Bytes that we hold for it, about: input, output, subscriptions, names."""
        connection = self.connection
        names = len(self.name) + len(self.library_name) + len(self.library_version)
        prefixes = sum(map(len, self.tracking.prefixes)) if self.tracking is not None else 0
        return connection.buffered + connection.unsent + self.subscription_memory + names + prefixes

    @property
    def kind(self) -> ClientKind:
        """Its class, which output limits and filters go by."""
        return ClientKind.PUBSUB if self.channels or self.patterns else ClientKind.NORMAL


class ClientRegistry:
    """All clients by ID, in the order in which they came. IDs are never used twice."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}
        self._last_id = 0
        self.paused_until: Millis | None = None
        """Until when all commands wait; ``None`` if they do not."""

        self.pause_timer: IDelayedCall | None = None

    def __len__(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        """Whoever is connected now; connections may come and go meanwhile."""
        return iter(list(self._clients.values()))

    def get(self, client_id: int) -> Client | None:
        """The client of that ID, if it is still there."""
        return self._clients.get(client_id)

    def next_id(self) -> int:
        """An ID that no client has had."""
        self._last_id += 1
        return self._last_id

    def enter(self, client: Client) -> None:
        """Register a new client."""
        self._clients[client.client_id] = client

    def leave(self, client: Client) -> None:
        """The connection is gone."""
        self._clients.pop(client.client_id, None)
        client.connection = DISCONNECTED

    def pause(self, until: Millis, now: Millis, clock: IReactorTime) -> None:
        """Let commands wait until then; a pause is never made shorter by another."""
        self._cancel_timer()
        self.paused_until = until if self.paused_until is None else max(until, self.paused_until)
        self.pause_timer = clock.callLater((self.paused_until - now) / 1000, self.resume)

    def resume(self) -> None:
        """End the pause: everybody goes on with what waited."""
        self.paused_until = None
        self._cancel_timer()
        for client in self:
            if client.paused:
                client.paused = False
                client.connection.proceed()

    def close_all(self) -> None:
        """The end: close every connection, each once its replies are out."""
        self._cancel_timer()
        self.paused_until = None
        for client in self:
            client.connection.finish()

    def _cancel_timer(self) -> None:
        if self.pause_timer is not None and self.pause_timer.active():
            self.pause_timer.cancel()
        self.pause_timer = None
