"""The link to a server or a peer: its connections, and the evidence of availability that they provide."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from txsentinel.model.address import Address
from txsentinel.model.timings import Millis

if TYPE_CHECKING:
    from txsentinel.core.instances import Instance, Peer


class LinkKind(Enum):
    """The two connections to a server; a peer has only the first."""

    COMMANDS = "cmd"
    PUBSUB = "pubsub"


class HandOverEnd(Enum):
    """How a hand-over is to be ended at a server."""

    FINISH = "finish"
    ABORT = "abort"


NO_CALLER_TIMEOUT: Final[Millis] = 30_000
"""``shortest_down_after`` of a link that no instance uses."""


MAX_OUTAGE_LIMIT: Final[Millis] = 500
"""Upper bound of ``outage_limit``: a longer silence is an outage."""


@dataclass(slots=True, eq=False)
class InstanceLink:
    """
    The link to one server or Sentinel, with the evidence that it is alive.

    A link is made for one address and never moves: a new address needs a new link, so that the clocks of the old
    address do not apply to it. ``instances`` are the users of the link: one server, or one peer under each shared
    master.
    """

    link_id: int
    address: Address
    kinds: tuple[LinkKind, ...]
    created_at: Millis
    instances: dict[Instance, None] = field(default_factory=dict)
    """In the order in which they joined. The evaluation of the first one sends the PINGs."""

    sdown_instances: dict[Instance, None] = field(default_factory=dict)
    """Those of ``instances`` that are S_DOWN; each reply causes their evaluation."""

    closed: bool = False
    """Whether it was closed permanently; input that still arrives on it is ignored."""

    username: str | None = None
    password: str | None = None
    renamed_commands: dict[str, str] = field(default_factory=dict)

    commands_since: Millis | None = None
    """Since when the command connection is established."""

    pubsub_since: Millis | None = None
    """Since when the Pub/Sub connection is established."""

    min_down_after: Millis | None = None
    """Cache of ``shortest_down_after``; ``None`` if it must be computed."""

    lost_at: Millis | None = None
    """When an established command connection was last lost."""

    attempt_waiting: bool = False
    """
    Whether the first connection attempt after a loss has not begun, as too many others are in progress; set by
    ``links``.
    """

    local_ip: str = ""
    """The local address of the command connection."""

    pending_commands: int = 0
    """Number of unanswered commands on the command connection; set by ``links``."""

    ping_sent_at: Millis | None = None
    """When PING was last sent, answered or not; limits the rate."""

    unanswered_ping_at: Millis | None = None
    """The down clock: time of the oldest probe without an acceptable reply, or of the loss of the connection."""

    silent_since: Millis | None = None
    """Time of the oldest probe without any reply on the command connection, not even an error."""

    ping_refused: bool = False
    """Whether the last PING was answered by an error such as MISCONF; until a PONG, other replies do not count."""

    ping_error: str = ""
    """The code of that error, its first word."""

    available_at: Millis = 0
    """When the last acceptable reply or message arrived."""

    last_reply_at: Millis = 0
    """When the last reply arrived, errors included."""

    outage_from: Millis = 0
    """``available_at`` before the latest outage: a silence of more than ``outage_limit``."""

    outage_until: Millis | None = None
    """When that outage ended; ``None`` if there was none."""

    pubsub_active_at: Millis = 0
    """When the last message or reply arrived on the Pub/Sub connection."""

    handover_end: HandOverEnd | None = None
    """
    How a hand-over is to be ended at the server. ``links`` resets it when the server has answered, so that it survives
    the loss of a connection.
    """

    votes_in_flight: int = 0
    """Number of unanswered vote requests on the link, for all masters together."""

    votes_waiting: dict[Peer, None] = field(default_factory=dict)
    """Peers whose vote is requested as soon as a reply to an earlier request arrives, in order."""

    def __post_init__(self) -> None:
        """Start all clocks at the time of creation, as the first connection attempt begins then."""
        self.available_at = self.last_reply_at = self.pubsub_active_at = self.created_at
        self.unanswered_ping_at = self.created_at

    @property
    def disconnected(self) -> bool:
        """Whether one of its connections is not established."""
        return self.commands_since is None or (self.pubsub_since is None and LinkKind.PUBSUB in self.kinds)

    @property
    def commands_up(self) -> bool:
        """Whether the command connection is established."""
        return self.commands_since is not None

    @property
    def first(self) -> Instance:
        """
        The instance that has used the link for longest.

        :raises StopIteration: if no instance uses it.
        """
        return next(iter(self.instances))

    @property
    def shortest_down_after(self) -> Millis:
        """The shortest ``down-after-milliseconds`` of the instances on the link."""
        least = self.min_down_after
        if least is None:
            # During a switch a link has no instance for a moment.
            least = min((instance.master.options.down_after for instance in self.instances), default=NO_CALLER_TIMEOUT)
            self.min_down_after = least
        return least

    @property
    def outage_limit(self) -> Millis:
        """The longest silence that does not count as an outage."""
        return min(self.shortest_down_after // 2, MAX_OUTAGE_LIMIT)

    def silent_for(self, now: Millis) -> Millis:
        """Return how long a probe has had no acceptable reply; 0 if all have been answered."""
        return 0 if self.unanswered_ping_at is None else now - self.unanswered_ping_at

    def available(self, now: Millis) -> None:
        """Record an acceptable reply or message: stop the down clock."""
        unanswered = self.unanswered_ping_at
        if unanswered is not None:
            if now - unanswered > self.outage_limit:
                self.outage_from, self.outage_until = self.available_at, now
            self.unanswered_ping_at = None
        self.available_at = now

    def join(self, instance: Instance) -> None:
        """Add ``instance`` to the users of the link."""
        self.instances[instance] = None
        self.min_down_after = None

    def part(self, instance: Instance) -> None:
        """Remove ``instance`` from the users of the link, if it is one."""
        self.instances.pop(instance, None)
        self.sdown_instances.pop(instance, None)
        self.min_down_after = None

    def since(self, kind: LinkKind) -> Millis | None:
        """Return since when that connection is established, or ``None``."""
        return self.commands_since if kind is LinkKind.COMMANDS else self.pubsub_since

    def established(self, kind: LinkKind, now: Millis) -> None:
        """Record that the connection is established."""
        if kind is LinkKind.COMMANDS:
            self.commands_since = now
        else:
            self.pubsub_since = now

    def broken(self, kind: LinkKind) -> None:
        """Record that the connection is lost, or about to be closed."""
        if kind is LinkKind.COMMANDS:
            self.commands_since = None
        else:
            self.pubsub_since = None

    def attempt_begun(self, now: Millis) -> None:
        """Record that a delayed connection attempt begins: the down clock restarts."""
        self.attempt_waiting = False
        if self.commands_since is None and self.unanswered_ping_at is not None:
            self.unanswered_ping_at = now

    def void_requests(self) -> None:
        """Forget all unanswered requests on the command connection, which is lost."""
        self.pending_commands = self.votes_in_flight = 0
        self.votes_waiting.clear()
        self.silent_since = None
        for instance in self.instances:
            instance.void_requests()
