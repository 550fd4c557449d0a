"""The dependencies that all links share: the host, the core that they report to, and one flush per turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from twisted.internet.protocol import ClientFactory

from txsentinel.core.instances import Instance, InstanceLink, Master
from txsentinel.core.link import LinkKind
from txsentinel.core.options import SentinelOptions
from txsentinel.core.switchover_state import WriteLimits
from txsentinel.interfaces import IHost
from txsentinel.links.attempts import ConnectThrottle
from txsentinel.model.address import Address
from txsentinel.model.failure import FailureClass
from txsentinel.model.log_throttle import DistinctLineThrottle
from txsentinel.model.measurements import Measurements
from txsentinel.model.timings import Limits, Millis, Timings

MIN_UNFINISHED: Final = 16 * 1024
"""Bytes of an unfinished reply below which it is not counted."""


class CoreInputs(Protocol):
    """The methods of the core that links call. None of them blocks or sends anything."""

    @property
    def options(self) -> SentinelOptions:
        """The options of this Sentinel. Each new connection reads ``my_id`` for ``CLIENT SETNAME``."""

    @property
    def timings(self) -> Timings:
        """The present timings. Read at the start of each wait, because ``SENTINEL DEBUG`` can change them."""

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        """A connection is established; ``local_ip`` is its local address."""

    def link_down(
        self, link: InstanceLink, kind: LinkKind, reason: str, now: Millis, failure: FailureClass | None
    ) -> None:
        """An attempt to connect failed, or an established connection was lost."""

    def ping_reply(self, link: InstanceLink, kind: LinkKind, reply: bytes | None, now: Millis) -> None:
        """PING was answered: the text of a status or error reply, ``None`` for a reply of any other type."""

    def command_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle an error reply to ``command``."""

    def info_reply(self, link: InstanceLink, text: bytes | None, now: Millis) -> None:
        """INFO was answered: its text, ``None`` if the reply was an error or no bulk string."""

    def role_reply(self, link: InstanceLink, role: bytes | None, refused: bool, now: Millis) -> None:
        """
        ROLE was answered.

        :param role: the first word of the reply, or ``None``.
        :param refused: whether the server lacks the command or denies it.
        """

    def publish_reply(self, link: InstanceLink, instance: Instance, accepted: bool, now: Millis) -> None:
        """The PUBLISH of a hello on behalf of ``instance`` was accepted or refused."""

    def hello_received(self, payload: bytes, now: Millis, link: InstanceLink | None) -> None:
        """A message arrived on the hello channel."""

    def id_reply(self, link: InstanceLink, reply: object, now: Millis) -> None:
        """``SENTINEL MYID`` was answered by an alleged Sentinel; the reply is not validated yet."""

    def pubsub_active(self, link: InstanceLink, now: Millis) -> None:
        """Data other than a hello arrived on a confirmed subscription."""

    def promotion_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """A server refused a part of the transaction that promotes it, and executed none of it."""

    def clients_closed(self, link: InstanceLink, clients: int, now: Millis) -> None:
        """Handle that the server of ``link`` disconnected its clients when it was ordered to follow another one."""

    def follow_order_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """A server refused a part of the transaction that orders it to follow another server."""

    def handover_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """A server refused a part of the transaction by which it hands over its role."""

    def write_limits_read(self, link: InstanceLink, limits: WriteLimits | None, error: str, now: Millis) -> None:
        """Handle the settings by which a server rejects writes."""

    def writes_held(self, link: InstanceLink, info: bytes, now: Millis) -> None:
        """A server holds writes for a switchover; ``info`` is its INFO of that moment."""

    def old_master_demoted(self, link: InstanceLink, info: bytes | None, to_write: int | None, now: Millis) -> None:
        """
        A server with held writes has answered the order to follow the new master.

        :param info: its INFO of the moment before; ``None`` if it refused the order.
        """

    def rights_checked(self, link: InstanceLink, denied: dict[str, str], now: Millis) -> None:
        """A server has answered ``CheckRights``."""

    def writes_paused(self, link: InstanceLink, now: Millis) -> None:
        """A server has paused its writes."""

    def write_pause_refused(self, link: InstanceLink) -> None:
        """A server refused to pause its writes."""

    def writes_resumed(self, link: InstanceLink) -> None:
        """A server answered the order to resume its writes."""

    def command_reply(self, link: InstanceLink, number: int, reply: object, now: Millis) -> None:
        """A peer answered a command of TXSENTINEL; the reply is not validated yet."""

    def master_down_reply(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> None:
        """A peer answered ``is-master-down-by-addr``; the reply is not validated yet."""


class ConnectOptions(Protocol):
    """The options for outgoing connections."""

    @property
    def bind_source_addr(self) -> str | None:
        """The local address to connect from; with an empty one or ``None`` the system chooses."""


Secure: TypeAlias = Callable[[ClientFactory, Callable[[], Address], float], ClientFactory]
"""
Wraps a factory so that its connections use TLS and are established only when the handshake has finished.

The arguments are the factory, a function that returns the present address of the link, and the handshake timeout in
seconds. The factory sees a failed handshake as a failed attempt to connect.
"""


def instance_kind(link: InstanceLink) -> str:
    """Return what the link leads to, a word of ``INSTANCE_KINDS``."""
    if LinkKind.PUBSUB not in link.kinds:
        return "peer"
    for instance in link.instances:
        return "master" if type(instance) is Master else "replica"
    return "replica"


class Flushable(Protocol):
    """A connection with bytes that have not been handed to its transport."""

    def flush(self) -> None:
        """Pass the bytes to the transport in one write."""


class Droppable(Protocol):
    """A connection that can be closed because of a violation."""

    def drop(self, offence: str) -> None:
        """Close the connection immediately and log the reason."""


class UnfinishedReplies:
    """
    Limits the memory that the incomplete replies of all connections occupy together.

    The size of each reply is limited, but a server can report a thousand replicas that all begin a long reply and never
    complete it.

    :param limit: bytes; above it the connection with the largest incomplete reply is dropped.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit
        self._held: dict[Droppable, int] = {}

    def note(self, connection: Droppable, held: int) -> None:
        """Record that the incomplete reply of ``connection`` occupies ``held`` bytes."""
        before = self._held.pop(connection, 0)
        if held >= MIN_UNFINISHED:
            self._held[connection] = held
        else:
            held = 0
        self.total += held - before
        while self.total > self._limit:
            largest = max(self._held, key=self._held.__getitem__)
            size = self._held.pop(largest)
            self.total -= size
            largest.drop("an incomplete reply, while the incomplete replies of all connections exceed their limit")


@dataclass(slots=True, eq=False)
class LinkContext:
    """Shared by every connection of one pool."""

    host: IHost
    core: CoreInputs
    options: ConnectOptions
    limits: Limits
    turn: Callable[[], None]
    """Executes the decisions of the core; called after each input to the core."""

    connect_server: Callable[..., object]
    """Connects to servers; has the signature of the reactor's ``connectTCP``."""

    connect_peer: Callable[..., object]
    """Connects to peers. Peers are few, and their replies must not wait until the input of all servers is read."""

    throttle: ConnectThrottle
    """Limits the concurrent attempts to connect to servers."""

    measurements: Measurements
    """Counts failures, and measures round trips."""

    secure: Secure | None = None
    """Adds TLS to connections; ``None`` for plain TCP."""

    unfinished: UnfinishedReplies = field(init=False)
    """The memory that incomplete replies occupy."""

    unconfirmed_lines: DistinctLineThrottle = field(default_factory=DistinctLineThrottle)
    """Log lines about unconfirmed peers. Any client can announce any number of them, so they share one limit."""

    failing: set[object] = field(default_factory=set)
    """The factories whose last attempt to connect failed."""

    unflushed: list[Flushable] = field(default_factory=list)
    """The connections with commands of this turn, in the order of their first command."""

    def __post_init__(self) -> None:
        """Create what depends on the limits."""
        self.unfinished = UnfinishedReplies(self.limits.unfinished_replies)

    def count_failure(self, link: InstanceLink, failure: FailureClass) -> None:
        """Count a failed connection, a failed attempt to connect, or the beginning of refusals."""
        self.measurements.link_failures[instance_kind(link), failure.value] += 1

    def finish_turn(self) -> None:
        """Execute the decisions of the core, then flush the connections. Call this after each input to the core."""
        self.turn()
        if self.unflushed:
            self.flush()

    def flush(self) -> None:
        """Flush every connection that has unsent commands, with one write for each."""
        if self.unflushed:
            waiting, self.unflushed = self.unflushed, []
            for connection in waiting:
                connection.flush()
