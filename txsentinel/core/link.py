"""The connections to a server or a peer, and the evidence of availability that they provide."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from txsentinel.core.fence_state import Isolation, WriteLease
from txsentinel.core.server_rights import ServerRights
from txsentinel.model.address import Address
from txsentinel.model.failure import CONFIGURATION_FAULTS, FailureClass, LinkFailure
from txsentinel.model.timings import Millis


class LinkKind(Enum):
    """The two connections to a server; a peer has only the first."""

    COMMANDS = "cmd"
    PUBSUB = "pubsub"


class HandOverEnd(Enum):
    """How a hand-over is to be ended at a server."""

    FINISH = "finish"
    ABORT = "abort"


MAX_OUTAGE_LIMIT: Final[Millis] = 500
"""Upper bound of ``outage_limit``: a longer silence is an outage."""


@dataclass(slots=True, eq=False)
class ConnectionState:
    """
    The connections to one address, with the evidence that the process there is alive.

    They are made for one address and never move: a new address needs new ones, so that the clocks of the old address
    do not apply to it.
    """

    link_id: int
    address: Address
    kinds: tuple[LinkKind, ...]
    created_at: Millis
    closed: bool = False
    """Whether it was closed permanently; input that still arrives on it is ignored."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    next_password: str | None = field(default=None, repr=False)
    """The password that is tried when the first one is refused."""

    renamed_commands: dict[str, str] = field(default_factory=dict)

    commands_since: Millis | None = None
    """Since when the command connection is established."""

    pubsub_since: Millis | None = None
    """Since when the Pub/Sub connection is established."""

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

    failure: LinkFailure | None = None
    """The last failure of a command, of the command connection or of an attempt; only ``failure_recorder`` sets it."""

    refusals: dict[str, LinkFailure] = field(default_factory=dict)
    """
    Command → the error with which it was last answered, until it succeeds or a connection is made anew; written by
    ``failure_recorder``, that of ``SUBSCRIBE`` by ``links``.
    """

    connect_failure: LinkFailure | None = None
    """The last failed attempt to connect, or loss of the command connection; kept when it is established again."""

    excused_at: Millis = 0
    """When the last proof of life arrived while the failure was a fault of the configuration; postpones S_DOWN."""

    excuse_logged_for: Millis | None = None
    """The beginning of the silence for which it was logged that S_DOWN is postponed."""

    unresolved: bool = False
    """Whether the last resolution of its host name failed."""

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

    demote_to: tuple[str, int] | None = None
    """
    The new master that an old one with held writes is ordered to follow; ``None`` once it has answered. The order is
    repeated on a new connection, as clients may write to the old master when its hold ends.
    """

    held_elsewhere_until: Millis | None = None
    """Until when another Sentinel may hold the writes of the server for a switchover; written by ``switchover``."""

    limits_asked_at: Millis | None = None
    """When it was last asked whether it rejects writes, as a switchover had ordered; by ``write_rejection``."""

    limits_fine_since: Millis | None = None
    """When it was first seen not to do so any more."""

    rights: ServerRights | None = None
    """What the server permits, according to the last test; written by ``switchover``."""

    lease: WriteLease | None = None
    """The pause of the writes of an isolated master, while this Sentinel holds it; written by ``fencing``."""

    lapsed: Isolation | None = None
    """The isolation during which a lease of this server ended because its connection was lost; by ``fencing``."""

    seen_silent_at: Millis = 0
    """When ``fencing`` last saw that a master did not answer in time; 0 if never."""

    pause_refused_on: Millis | None = None
    """``commands_since`` of the connection on which the server last refused such a pause."""

    def exchange_passwords(self) -> None:
        """Begin with the second password on new connections: the first one was refused."""
        password = self.password
        self.password = self.next_password
        self.next_password = password

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
    def shortest_down_after(self) -> Millis:
        """The shortest ``down-after-milliseconds`` of those that use the connections."""
        raise NotImplementedError(type(self).__name__)

    @property
    def outage_limit(self) -> Millis:
        """The longest silence that does not count as an outage."""
        return min(self.shortest_down_after // 2, MAX_OUTAGE_LIMIT)

    def silent_for(self, now: Millis) -> Millis:
        """Return how long a probe has had no acceptable reply; 0 if all have been answered."""
        return 0 if self.unanswered_ping_at is None else now - self.unanswered_ping_at

    @property
    def has_configuration_fault(self) -> bool:
        """Whether its present failure is a fault of the configuration, or of this Sentinel."""
        failure = self.failure
        return failure is not None and failure.failure_class in CONFIGURATION_FAULTS and failure.at >= self.available_at

    def cause_of_silence(self, now: Millis) -> str:
        """Return a clause with the reason why there was no acceptable reply, with the time of the last one."""
        failure = self.failure
        if not self.address.resolved:
            failure = LinkFailure(FailureClass.DNS, f"the name {self.address.hostname} is not resolved", now)
        elif failure is None or failure.at < self.available_at:
            error = "no answer to PING" if self.commands_up else "not connected yet"
            failure = LinkFailure(FailureClass.TIMEOUT, error, now)
        return f"{failure}; last acceptable reply {now - self.available_at} ms ago"

    def available(self, now: Millis) -> None:
        """Record an acceptable reply or message: stop the down clock."""
        unanswered = self.unanswered_ping_at
        if unanswered is not None:
            if now - unanswered > self.outage_limit:
                self.outage_from, self.outage_until = self.available_at, now
            self.unanswered_ping_at = None
        self.available_at = now

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
