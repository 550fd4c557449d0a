"""
What a Sentinel knows: masters, their replicas, its peers, the links to them, a failover in progress.

The state comes first; the modules beside this one say how it changes. Conditions are *since when
or None*, a phase is an object that exists or not, and kind is a class. Every point in time is in
milliseconds of the host's monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from txsentinel.core.link import InstanceLink
from txsentinel.core.options import MasterOptions
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis

MAX_COUNTED: Final = 8
"""Unconfirmed Sentinels that count for the majority of one master; if there are more, none does."""

MAX_UNCONFIRMED: Final = 64
"""Unconfirmed Sentinels that are remembered for one master; the one that was heard of first gives way."""

UNCONFIRMED_EXPIRY: Final[Millis] = 10_000
"""How long an unconfirmed Sentinel counts after its last hello, while the subscription of the master works."""


class Role(Enum):
    """What a server says it is; the value is the wire word."""

    MASTER = "master"
    REPLICA = "slave"


class FailoverState(Enum):
    """Where a failover stands; the value is what ``failover-state`` shows."""

    NONE = "none"
    WAIT_START = "wait_start"
    SELECT_REPLICA = "select_slave"
    SEND_SLAVEOF_NOONE = "send_slaveof_noone"
    WAIT_PROMOTION = "wait_promotion"
    RECONF_REPLICAS = "reconf_slaves"
    UPDATE_CONFIG = "update_config"


class SyncStep(Enum):
    """How far a replica has come in following the new master; the value is the flag word."""

    NOT_ASKED = ""
    SENT = "reconf_sent"
    IN_PROGRESS = "reconf_inprog"
    DONE = "reconf_done"


@dataclass(slots=True, eq=False)
class Instance:
    """What masters, replicas and peers have in common."""

    name: str
    address: Address
    link: InstanceLink
    created_at: Millis
    run_id: str | None = None
    sdown_since: Millis | None = None
    down_started_at: Millis | None = None
    """When the latest S_DOWN or O_DOWN period began, over or not; ``None`` if there never was one."""

    script_kill_sent: bool = False
    hello_published_at: Millis = 0
    """When a hello was last accepted by this instance; starts at creation."""

    hello_sent_at: Millis | None = None
    """A hello that is not answered yet."""

    gone: bool = False
    """No longer filed anywhere; whatever still refers to it is void."""

    due: Millis | None = None
    """When the sweep must look at it next; kept by the due queue."""

    def __post_init__(self) -> None:
        """Start the hello clock at creation."""
        self.hello_published_at = self.created_at

    @property
    def master(self) -> Master:
        """The master that this instance belongs to; a master belongs to itself."""
        raise NotImplementedError(type(self).__name__)

    @property
    def is_down(self) -> bool:
        """Subjectively down, and for masters also: objectively down."""
        return self.sdown_since is not None

    def void_requests(self) -> None:
        """What it was asked will not be answered: the connection is gone."""
        self.hello_sent_at = None

    def describe(self, by_hostname: bool) -> str:
        """The instance as events print it (upstream: ``%@``)."""
        raise NotImplementedError(type(self).__name__)


@dataclass(slots=True, eq=False)
class Server(Instance):
    """A Redis or Valkey server: what its INFO and its subscription tell."""

    role_reported: Role = Role.MASTER
    role_reported_at: Millis = 0
    role_change_postponed: bool = False
    """That its role changed is announced with the next INFO, if it says the same."""

    info_refreshed_at: Millis | None = None
    info_requested_at: Millis | None = None
    """An INFO that is not answered yet."""

    info_sent_at: Millis | None = None
    """The last INFO, answered or not: a throttle for servers that refuse it."""

    info_not_before: Millis = 0
    """It is not asked for INFO before then."""

    info_text: bytes | None = None
    """The last INFO in full, for ``SENTINEL INFO-CACHE``."""

    rebooting_since: Millis | None = None
    """The run ID of a master changed and no PONG has come since."""

    replication_changed_at: Millis = 0
    """When the master that it claims to follow, or its role, last changed."""

    server_failover: bool | None = None
    """Its own FAILOVER: ``None`` without support for it, else whether one is running."""

    server_failover_changed_at: Millis = 0

    def void_requests(self) -> None:
        """INFO and hello will not be answered."""
        self.hello_sent_at = None
        self.info_requested_at = None


@dataclass(slots=True, eq=False)
class Replica(Server):
    """A replica of one master, named ``host:port``."""

    of: Master | None = None
    master_link_down_for: Millis = 0
    """How long its link to the master is down; 0 when up, −1000 when it never was up."""

    priority: int = 100
    announced: bool = True
    master_host: str | None = None
    master_port: int = 0
    master_link_up: bool = False
    repl_offset: int = 0
    sync: SyncStep = SyncStep.NOT_ASKED
    reconf_sent_at: Millis = 0
    promotion_refusal: str | None = None
    """The command of its promotion that it refused, and its error; ``None`` if it did not, or connected again."""

    promotion_refused_at: Millis = 0

    @property
    def master(self) -> Master:
        """The master it is filed under."""
        assert self.of is not None
        return self.of

    def follows(self, address: Address) -> bool:
        """Does it say that ``address`` is its master's?"""
        host = (self.master_host or "").casefold()
        return self.master_port == address.port and host in (address.ip.casefold(), address.hostname.casefold())

    def describe(self, by_hostname: bool) -> str:
        """``slave <name> <ip> <port> @ <master-name> <master-ip> <master-port>``."""
        return f"slave {self.name} {_place(self, by_hostname)} @ {self.master.name} {_place(self.master, by_hostname)}"


@dataclass(frozen=True, slots=True)
class Question:
    """
    What a peer was asked: about which address, and for its vote in which epoch (``None``: its opinion only).

    ``candidacy`` is the epoch in which somebody asked for our vote in the peer's name: it is to say whether that is so.
    """

    address: Address
    vote_epoch: int | None
    candidacy: int | None = None


@dataclass(slots=True, eq=False)
class Peer(Instance):
    """Another Sentinel, as a watcher of one master; its name is its ID. Its link is shared by ID."""

    of: Master | None = None
    hello_received_at: Millis = 0
    reports_master_down: bool = False
    opinion_at: Millis = 0
    """Its last well-formed answer to ``is-master-down-by-addr`` about the present address."""

    asked: deque[Question] = field(default_factory=deque)
    """Requests that are not answered yet, oldest first."""

    asked_at: Millis | None = None
    """When it was last asked."""

    is_txsentinel: bool = False
    """It switches without a pause, as we do: its hellos carry our mark."""

    acknowledges: bool = False
    """It is of our kind, and its last hello and we name one address with one config epoch."""

    hello_seen: bytes = b""
    """Its last hello that taught us nothing new."""

    doubted_until: Millis = 0
    """Somebody asked for our vote in its name, and it did not know of that. Until then it gets none."""

    leader: str | None = None
    """Whom it last said it voted for."""

    leader_epoch: int = 0

    def void_requests(self) -> None:
        """Hello and opinions will not be answered."""
        self.hello_sent_at = None
        self.asked.clear()

    @property
    def master(self) -> Master:
        """The master it is filed under."""
        assert self.of is not None
        return self.of

    def describe(self, by_hostname: bool) -> str:
        """``sentinel <id> <ip> <port> @ <master-name> <master-ip> <master-port>``."""
        return (
            f"sentinel {self.name} {_place(self, by_hostname)} @ {self.master.name} {_place(self.master, by_hostname)}"
        )


@dataclass(slots=True)
class Unconfirmed:
    """
    A Sentinel that is named through the servers of a master and has not told us its ID (see ``confirmation``).

    It counts for the majority from its second hello on, a hello period after the first.
    """

    first_received_at: Millis
    received_at: Millis
    repeated: bool = False


@dataclass(slots=True, eq=False)
class Failover:
    """A failover that this Sentinel leads, or stands for election to lead."""

    epoch: int
    started_at: Millis
    """The beginning, moved on by up to a second of chance so that rivals time out apart."""

    entered_at: Millis
    state: FailoverState = FailoverState.WAIT_START
    forced: bool = False
    """Ordered by ``SENTINEL FAILOVER``: no election."""

    coordinated: bool = False
    """Ordered by ``SENTINEL FAILOVER … COORDINATED``: elected, and handed over by the old master itself."""

    handover_ordered: bool = False
    promoted: Replica | None = None
    vote_generation: int | None = None
    """The generation that holds our own vote for ourselves; ``None`` while we have not voted."""

    candidacies: int = 1
    campaign_again_at: Millis | None = None
    """The epoch is lost to others; when to stand for election in a new one."""

    answers: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Peer → ``(leader, epoch)`` as it answered our request for its vote in this epoch."""

    republish: bool = False
    """Not a failover at all: an election that gives the present address a config epoch of its own."""

    proceed_unelected_at: Millis | None = None
    """A forced failover: when it stops waiting for votes."""

    promotion_sent_at: Millis | None = None
    attempt_before: Millis | None = None
    """When the attempt before this one began: it counts again if this one turns out to be void."""


@dataclass(slots=True, eq=False)
class Master(Server):
    """A monitored master with everything filed under it."""

    options: MasterOptions = field(default_factory=lambda: MasterOptions(quorum=1))
    replicas: dict[str, Replica] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    unconfirmed: dict[str, Unconfirmed] = field(default_factory=dict)
    """By ID, those that were heard first in front."""

    config_epoch: int = 0
    odown_since: Millis | None = None
    leader: str | None = None
    """Whom we voted for in ``leader_epoch``; not kept across restarts."""

    leader_epoch: int = 0
    voted_at: Millis | None = None
    vote_generation: int = 0
    """The generation that makes our latest vote durable."""

    durable_leader_epoch: int = 0
    address_generation: int = 0
    """The generation that makes the published address durable."""

    address_before: Address | None = None
    """What clients are told until then: what they were told before. Once a disk fails, there is none."""

    reported_master: tuple[str, int] | None = None
    """Host and port of the master that it says it follows, if it calls itself a replica."""

    role_sent_at: Millis = 0
    """The last ROLE, answered or not."""

    role_requested: bool = False
    """A ROLE is not answered yet."""

    role_refused: bool = False
    """It refuses ROLE on this connection: Redis's older recommendations of permissions lack it."""

    failover: Failover | None = None
    attempt_started_at: Millis | None = None
    """When the last attempt began, ours or that of the candidate we voted for; ``None``: never."""

    attempt_before: Millis | None = None
    """``attempt_started_at`` before the vote whose candidate has not confirmed yet that it is one."""

    vote_unconfirmed: bool = False
    """We voted for a peer and wait for it to confirm that it is a candidate."""

    campaign_at: Millis | None = None
    """O_DOWN, and when our turn to stand for election comes."""

    delay_logged_for: Millis | None = None
    last_refusals: list[tuple[str, str]] = field(default_factory=list)
    """Why each replica was refused in the latest selection, kept after the failover is over."""

    replicas_omitted: bool = False
    """Its last INFO named more replicas than one INFO may add: ask again soon."""

    switched_at: Millis | None = None
    """When it last moved to another address."""

    encoded_hello: tuple[tuple[object, ...], bytes] | None = None
    """What our last hello was made of, and its bytes: the next one is mostly the same."""

    hello_not_before: Millis = 0
    """Until then only Sentinels of our kind are told of the new address (see ``gossip``)."""

    conflict_since: Millis | None = None
    """Another Sentinel claims a different address with our very config epoch."""

    ignored_addresses: dict[str, None] = field(default_factory=dict)
    """The announced addresses that the log named as unusable (see ``ignored``)."""

    unfit_logged_at: Millis | None = None
    """When it was last said that no replica can be promoted."""

    unfit_announced_at: Millis | None = None
    """When ``-failover-abort-no-good-slave`` was last published instead of an attempt."""

    @property
    def master(self) -> Master:
        """Itself."""
        return self

    @property
    def is_down(self) -> bool:
        """Subjectively or objectively down."""
        return self.sdown_since is not None or self.odown_since is not None

    def void_requests(self) -> None:
        """Nothing that it was asked will be answered."""
        Server.void_requests(self)
        self.role_requested = self.role_refused = False

    @property
    def is_masterless(self) -> bool:
        """
        Whether no server of the group is a master: this one follows one of its own replicas, and none is a master.

        Only what replicas said since it changed its role counts, as one of them may have been promoted by hand.
        """
        if self.role_reported is not Role.REPLICA or self.reported_master is None:
            return False
        host, port = self.reported_master
        leads = False
        for replica in self.replicas.values():
            followed = replica.address.port == port and host.casefold() in (
                replica.address.ip.casefold(),
                replica.address.hostname.casefold(),
            )
            refreshed = replica.info_refreshed_at
            fresh = refreshed is not None and refreshed >= self.role_reported_at
            if replica.role_reported is Role.MASTER or (replica.link.commands_up and not fresh):
                return False
            leads = leads or followed
        return leads

    @property
    def down_after(self) -> Millis:
        """How long without a sign of life until it, its replicas and its peers count as down."""
        return self.options.down_after

    @property
    def voters(self) -> int:
        """Known peers and ourselves, dead ones included, and those who are heard of but not confirmed."""
        return len(self.peers) + 1 + self.unconfirmed_voters

    @property
    def unconfirmed_voters(self) -> int:
        """
        How many Sentinels count for the majority without being confirmed; see ``confirmation`` for why.

        The clock by which they are forgotten is that of the master's subscription: it stands still while the master
        is silent.
        """
        if not self.unconfirmed:
            return 0
        oldest = self.link.pubsub_active_at - UNCONFIRMED_EXPIRY
        counted = sum(1 for each in self.unconfirmed.values() if each.repeated and each.received_at >= oldest)
        return counted if counted <= MAX_COUNTED else 0

    def note_unconfirmed_hello(self, peer_id: str, now: Millis, period: Millis) -> None:
        """A hello of an unconfirmed Sentinel came through a server; hellos of one come ``period`` apart."""
        known = self.unconfirmed.get(peer_id)
        if known is None:
            oldest = self.link.pubsub_active_at - UNCONFIRMED_EXPIRY
            for name in [name for name, each in self.unconfirmed.items() if each.received_at < oldest]:
                del self.unconfirmed[name]
            if len(self.unconfirmed) >= MAX_UNCONFIRMED:
                del self.unconfirmed[next(iter(self.unconfirmed))]
            self.unconfirmed[peer_id] = Unconfirmed(now, now)
            return
        known.received_at = now
        # One hello arrives by several servers within moments.
        known.repeated = known.repeated or now - known.first_received_at >= period // 2

    @property
    def majority(self) -> int:
        """Votes that make a leader, the quorum aside."""
        return self.voters // 2 + 1

    @property
    def failover_state(self) -> FailoverState:
        """The state of the failover, or ``NONE`` without one."""
        return FailoverState.NONE if self.failover is None else self.failover.state

    @property
    def published_address(self) -> Address:
        """The address for clients, hellos and the file: the promoted replica's once it was seen as master."""
        failover = self.failover
        if failover is not None and failover.promoted is not None and failover.state in PROMOTION_SEEN:
            return failover.promoted.address
        return self.address

    def describe(self, by_hostname: bool) -> str:
        """``master <name> <ip> <port>``."""
        return f"master {self.name} {_place(self, by_hostname)}"


@dataclass(frozen=True, slots=True)
class Removed:
    """A master that is no longer monitored, with what was known of it at the end."""

    master: Master
    address: Address
    replicas: list[Address]
    peers: list[tuple[Address, str]]


PROMOTION_SEEN: Final = frozenset({FailoverState.RECONF_REPLICAS, FailoverState.UPDATE_CONFIG})
"""The states in which the promoted replica has been seen as a master."""


def _place(instance: Instance, by_hostname: bool) -> str:
    return f"{instance.address.announced(by_hostname)} {instance.address.port}"
