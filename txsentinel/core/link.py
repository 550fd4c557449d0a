"""Our way to a server or a peer: two connections or one, and what they tell of whether it lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from txsentinel.model.address import Address
from txsentinel.model.timings import Millis

if TYPE_CHECKING:
    from txsentinel.core.instances import Instance, Peer


class LinkKind(Enum):
    """The two connections to a server; a peer has the first only."""

    COMMANDS = "cmd"
    PUBSUB = "pubsub"


class HandOverEnd(Enum):
    """How a hand-over that a server was ordered is ended there."""

    FINISH = "finish"
    ABORT = "abort"


NO_CALLER_TIMEOUT: Final[Millis] = 30_000
"""The down-after of a link that nobody uses."""


MAX_OUTAGE_LIMIT: Final[Millis] = 500
"""A probe that is answered later than this, or than half of down-after, was not answered while nobody could."""


@dataclass(slots=True, eq=False)
class InstanceLink:
    """
    Our way to one server or peer, with the evidence that it lives.

    A link is made for one address and never moves: a new address is a new link, so that no clock
    of a dead address is held against a new one. ``instances`` are those it serves: one server, or
    one peer under each master that it shares with us.
    """

    link_id: int
    address: Address
    kinds: tuple[LinkKind, ...]
    created_at: Millis
    instances: dict[Instance, None] = field(default_factory=dict)
    """In the order in which they joined. The first one sees to it that the link is probed."""

    sdown_instances: dict[Instance, None] = field(default_factory=dict)
    """Those of ``instances`` that are S_DOWN: any sign of life concerns them."""

    closed: bool = False
    """Given up for good; whatever still arrives from it is void."""

    username: str | None = None
    password: str | None = None
    renamed_commands: dict[str, str] = field(default_factory=dict)

    commands_since: Millis | None = None
    """Since when the command connection is established."""

    pubsub_since: Millis | None = None
    """Since when the connection for the subscription is established."""

    min_down_after: Millis | None = None
    """The shortest down-after among those who share the link; ``None`` until it is asked for again."""

    lost_at: Millis | None = None
    """When an established command connection was last lost."""

    attempt_waiting: bool = False
    """The first attempt since the connection was lost has yet to begin, as too many others are under way; kept by
    the connection."""

    local_ip: str = ""
    """Our own address as seen on the command connection."""

    pending_commands: int = 0
    """Commands sent on the command connection and not yet answered; kept by the connection."""

    ping_sent_at: Millis | None = None
    """The last PING, answered or not: a throttle."""

    unanswered_ping_at: Millis | None = None
    """The down clock: the oldest probe without an acceptable answer, or the loss of the connection."""

    silent_since: Millis | None = None
    """The oldest probe without any answer at all on the command connection, not even an error."""

    ping_refused: bool = False
    """The last PING was answered by an error such as MISCONF: no other answer makes up for that."""

    ping_error: str = ""
    """The code of that error, its first word."""

    available_at: Millis = 0
    """The last acceptable sign of life."""

    last_reply_at: Millis = 0
    """The last answer to a probe, even an error."""

    outage_from: Millis = 0
    """The last acceptable sign of life before the latest outage: a silence of more than ``outage_limit``."""

    outage_until: Millis | None = None
    """When that outage ended; ``None`` if there was none."""

    pubsub_active_at: Millis = 0
    """The last thing heard on the subscription."""

    handover_end: HandOverEnd | None = None
    """How its hand-over is to be ended. The connection removes it when the server has answered, so no loss ends it."""

    votes_in_flight: int = 0
    """Vote requests sent and not answered, for all masters that share the link."""

    votes_waiting: dict[Peer, None] = field(default_factory=dict)
    """Peers whose vote is to be asked for when an answer makes room, in order."""

    def __post_init__(self) -> None:
        """Start every clock at the moment of creation: the first attempt to connect begins with it."""
        self.available_at = self.last_reply_at = self.pubsub_active_at = self.created_at
        self.unanswered_ping_at = self.created_at

    @property
    def disconnected(self) -> bool:
        """Is one of its connections missing?"""
        return self.commands_since is None or (self.pubsub_since is None and LinkKind.PUBSUB in self.kinds)

    @property
    def commands_up(self) -> bool:
        """Can commands be sent?"""
        return self.commands_since is not None

    @property
    def first(self) -> Instance:
        """
        The instance that has been on the link for longest.

        :raises StopIteration: if there is none.
        """
        return next(iter(self.instances))

    @property
    def shortest_down_after(self) -> Millis:
        """The shortest down-after among those who share the link."""
        least = self.min_down_after
        if least is None:
            # A link that changes hands has nobody for a moment.
            least = min((instance.master.options.down_after for instance in self.instances), default=NO_CALLER_TIMEOUT)
            self.min_down_after = least
        return least

    @property
    def outage_limit(self) -> Millis:
        """How long a probe without an answer is no outage yet."""
        return min(self.shortest_down_after // 2, MAX_OUTAGE_LIMIT)

    def silent_for(self, now: Millis) -> Millis:
        """For how long a probe has been without an acceptable answer; 0 if all were answered."""
        return 0 if self.unanswered_ping_at is None else now - self.unanswered_ping_at

    def available(self, now: Millis) -> None:
        """An acceptable sign of life came."""
        unanswered = self.unanswered_ping_at
        if unanswered is not None:
            if now - unanswered > self.outage_limit:
                self.outage_from, self.outage_until = self.available_at, now
            self.unanswered_ping_at = None
        self.available_at = now

    def join(self, instance: Instance) -> None:
        """``instance`` uses the link from now on."""
        self.instances[instance] = None
        self.min_down_after = None

    def part(self, instance: Instance) -> None:
        """``instance`` uses the link no longer, if it ever did."""
        self.instances.pop(instance, None)
        self.sdown_instances.pop(instance, None)
        self.min_down_after = None

    def since(self, kind: LinkKind) -> Millis | None:
        """Since when that connection is established, or ``None``."""
        return self.commands_since if kind is LinkKind.COMMANDS else self.pubsub_since

    def established(self, kind: LinkKind, now: Millis) -> None:
        """That connection is there."""
        if kind is LinkKind.COMMANDS:
            self.commands_since = now
        else:
            self.pubsub_since = now

    def broken(self, kind: LinkKind) -> None:
        """That connection is not there, or will be gone in a moment."""
        if kind is LinkKind.COMMANDS:
            self.commands_since = None
        else:
            self.pubsub_since = None

    def attempt_begun(self, now: Millis) -> None:
        """The first attempt since the loss begins, having waited for others: the down clock runs from now."""
        self.attempt_waiting = False
        if self.commands_since is None and self.unanswered_ping_at is not None:
            self.unanswered_ping_at = now

    def void_requests(self) -> None:
        """Nothing that was asked on the command connection will be answered any more."""
        self.pending_commands = self.votes_in_flight = 0
        self.votes_waiting.clear()
        self.silent_since = None
        for instance in self.instances:
            instance.void_requests()
