"""
The state of a Sentinel: masters, their replicas and peers, and a failover in progress.

The other modules of this package define how the state changes. Each field of a master, a replica or a peer is written
by one of them only, apart from its class and the reset of a master (``Switching._reset_state``); a test checks that.

A condition is the time since when it holds, or ``None``; a failover is an object that exists or not; the kind of an
instance is its class. All points in time are in milliseconds of the host's monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from txsentinel.core.attempt import Attempt
from txsentinel.core.block_state import FailoverBlock
from txsentinel.core.crash_evidence import CrashEvidence
from txsentinel.core.diagnosis_state import Diagnosis
from txsentinel.core.failover_state import PROMOTION_SEEN, FailoverState, SyncStep
from txsentinel.core.fence_state import Isolation
from txsentinel.core.kept_text import KeptText
from txsentinel.core.lineage_state import LineageState
from txsentinel.core.link import ConnectionState
from txsentinel.core.membership_state import Membership
from txsentinel.core.options import MasterOptions
from txsentinel.core.question import Question
from txsentinel.core.restart_state import Restart
from txsentinel.core.role import Role
from txsentinel.core.unconfirmed import UnconfirmedSentinels
from txsentinel.model.address import Address
from txsentinel.model.explanation import Unfit
from txsentinel.model.timings import Millis
from txsentinel.wire.info import DataSetReport

NO_CALLER_TIMEOUT: Final[Millis] = 30_000
"""``shortest_down_after`` of a link that no instance uses."""


@dataclass(slots=True, eq=False)
class InstanceLink(ConnectionState):
    """
    The connections to one server or Sentinel, with their users.

    ``instances`` are the users of the link: one server, or one peer under each shared master.
    """

    instances: dict[Instance, None] = field(default_factory=dict)
    """In the order in which they joined. The evaluation of the first one sends the PINGs."""

    sdown_instances: dict[Instance, None] = field(default_factory=dict)
    """Those of ``instances`` that are S_DOWN; each reply causes their evaluation."""

    min_down_after: Millis | None = None
    """Cache of ``shortest_down_after``; ``None`` if it must be computed."""

    is_txsentinel: bool | None = None
    """Whether the Sentinel there is a txsentinel, according to its last hello, whatever master it is about."""

    votes_in_flight: int = 0
    """Number of unanswered vote requests on the link, for all masters together."""

    votes_waiting: dict[Peer, None] = field(default_factory=dict)
    """Peers whose vote is requested as soon as a reply to an earlier request arrives, in order."""

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

    def join(self, instance: Instance) -> None:
        """Add ``instance`` to the users of the link."""
        self.instances[instance] = None
        self.min_down_after = None

    def part(self, instance: Instance) -> None:
        """Remove ``instance`` from the users of the link, if it is one."""
        self.instances.pop(instance, None)
        self.sdown_instances.pop(instance, None)
        self.min_down_after = None

    def void_requests(self) -> None:
        """Forget all unanswered requests on the command connection, which is lost."""
        self.pending_commands = self.votes_in_flight = 0
        self.votes_waiting.clear()
        self.silent_since = None
        for instance in self.instances:
            instance.void_requests()


@dataclass(slots=True, eq=False)
class Instance:
    """Common state of masters, replicas and peers."""

    name: str
    address: Address
    link: InstanceLink
    created_at: Millis
    run_id: str | None = None
    sdown_since: Millis | None = None
    down_started_at: Millis | None = None
    """Start of the latest S_DOWN or O_DOWN period, whether or not it has ended; ``None`` if there never was one."""

    script_kill_sent: bool = False
    hello_published_at: Millis = 0
    """When this instance last accepted a hello; initially the time of creation."""

    hello_sent_at: Millis | None = None
    """When a hello was sent that is not answered yet; ``None`` if none is outstanding."""

    gone: bool = False
    """Whether it was removed; effects and replies that still refer to it are ignored."""

    due: Millis | None = None
    """Deadline of its next evaluation; only the due queue changes it."""

    def __post_init__(self) -> None:
        """Set ``hello_published_at`` to the time of creation."""
        self.hello_published_at = self.created_at

    @property
    def master(self) -> Master:
        """The master that this instance belongs to; a master belongs to itself."""
        raise NotImplementedError(type(self).__name__)

    @property
    def is_down(self) -> bool:
        """Whether it is S_DOWN or, for masters, O_DOWN."""
        return self.sdown_since is not None

    def enter_sdown(self, now: Millis) -> None:
        """Begin S_DOWN."""
        self.sdown_since = self.down_started_at = now
        self.link.sdown_instances[self] = None

    def leave_sdown(self) -> None:
        """End S_DOWN."""
        self.sdown_since = None
        self.script_kill_sent = False
        self.link.sdown_instances.pop(self, None)

    def void_requests(self) -> None:
        """Forget the unanswered requests, as their connection is lost."""
        self.hello_sent_at = None

    def describe(self, by_hostname: bool) -> str:
        """Return the description for events (upstream: ``%@``)."""
        raise NotImplementedError(type(self).__name__)


@dataclass(slots=True, eq=False)
class Server(Instance):
    """A Redis or Valkey server, with the state that its INFO reports."""

    role_reported: Role = Role.MASTER
    role_reported_at: Millis = 0
    role_change_postponed: bool = False
    """Whether the event for its role change is published with the next INFO, if that reports the same role."""

    info_refreshed_at: Millis | None = None
    """When the last INFO reply arrived; ``None`` if none did."""

    info_requested_at: Millis | None = None
    """When an INFO was sent that is not answered yet; ``None`` if none is outstanding."""

    info_sent_at: Millis | None = None
    """When the last INFO was sent, answered or not; limits the rate for servers that refuse it."""

    info_not_before: Millis = 0
    """No INFO is sent before then."""

    info_kept: KeptText | None = None
    """The text of the last INFO, compressed."""

    rebooting_since: Millis | None = None
    """When the run ID of a master changed; ``None`` once it has answered PING with PONG."""

    replication_changed_at: Millis = 0
    """When its role, or the master that it reports to follow, last changed."""

    server_failover: bool | None = None
    """Whether the server executes its own FAILOVER command; ``None`` if it does not support that command."""

    server_failover_changed_at: Millis = 0

    data_set: DataSetReport | None = None
    """Its data set according to its last INFO; ``None`` if it has not reported that."""

    replaced_data_set: DataSetReport | None = None
    """The last one before it was replaced by a full copy of another history; ``None`` if that was not seen."""

    @property
    def info_text(self) -> bytes | None:
        """The text of the last INFO, for ``SENTINEL INFO-CACHE``; ``None`` if there was none, or too much of others."""
        return None if self.info_kept is None else self.info_kept.text()

    def void_requests(self) -> None:
        """Forget the unanswered INFO and hello."""
        self.hello_sent_at = None
        self.info_requested_at = None


@dataclass(slots=True, eq=False)
class Replica(Server):
    """A replica of one master, named ``host:port``."""

    of: Master | None = None
    master_link_down_for: Millis = 0
    """Milliseconds since it lost the link to its master; 0 while it is up, −1000 if it never was."""

    priority: int = 100
    announced: bool = True
    master_host: str | None = None
    master_port: int = 0
    master_link_up: bool = False
    linked_at: Millis | None = None
    """When it last reported a link to its master that is up; ``None`` if it never did."""
    repl_offset: int = 0
    sync: SyncStep = SyncStep.NOT_ASKED
    reconf_sent_at: Millis = 0
    promotion_refusal: str | None = None
    """The command of its promotion that it refused, with the error; ``None`` if none, or after a reconnection."""

    promotion_refused_at: Millis = 0

    @property
    def master(self) -> Master:
        """The master that it belongs to."""
        assert self.of is not None
        return self.of

    def follows(self, address: Address) -> bool:
        """Whether it reports the master at ``address`` as its own."""
        host = (self.master_host or "").casefold()
        return self.master_port == address.port and host in (address.ip.casefold(), address.hostname.casefold())

    def describe(self, by_hostname: bool) -> str:
        """Return ``slave <name> <ip> <port> @ <master-name> <master-ip> <master-port>``."""
        return f"slave {self.name} {_place(self, by_hostname)} @ {self.master.name} {_place(self.master, by_hostname)}"


@dataclass(slots=True, eq=False)
class Peer(Instance):
    """Another Sentinel that monitors the same master; its name is its ID. Peers with one ID share a link."""

    of: Master | None = None
    hello_received_at: Millis = 0
    near_hello_at: Millis = -1
    """When a hello from it last arrived from itself or through the master: both show that it reaches what we reach."""

    confirmed_at: Millis = -1
    """When its last hello arrived that names no newer configuration than ours."""

    reports_master_down: bool = False
    opinion_at: Millis = 0
    """When its last valid reply to ``is-master-down-by-addr`` about the current address arrived."""

    asked: deque[Question] = field(default_factory=deque)
    """Questions that are not answered yet, oldest first."""

    asked_at: Millis | None = None
    """When a question to it was last considered; ``None`` if never, or since the last switch."""

    is_txsentinel: bool = False
    """Whether it is a txsentinel: its hellos have the marker."""

    kind_known: bool = False
    """Whether a hello of it has arrived, so that ``is_txsentinel`` is right."""

    acknowledged_epoch: int = -1
    """The config epoch in its last hello, if that is neither newer than our configuration nor in conflict with it."""

    hello_seen: bytes = b""
    """Its last hello that changed nothing."""

    doubted_until: Millis = 0
    """It gets no vote until then, as a vote request in its name turned out not to be its own."""

    voted_leader: str | None = None
    """The candidate that it last reported to have voted for."""

    voted_leader_epoch: int = 0

    @property
    def kind(self) -> str:
        """What it is: ``txsentinel``, ``c``, or ``unknown`` before its first hello."""
        return "txsentinel" if self.is_txsentinel else "c" if self.kind_known else "unknown"

    @property
    def acknowledges(self) -> bool:
        """Whether it is a txsentinel whose last hello has our config epoch of the master, and so our address."""
        return self.is_txsentinel and self.acknowledged_epoch == self.master.config_epoch

    def void_requests(self) -> None:
        """Forget the unanswered hello and questions."""
        self.hello_sent_at = None
        self.asked.clear()

    @property
    def master(self) -> Master:
        """The master that it belongs to."""
        assert self.of is not None
        return self.of

    def describe(self, by_hostname: bool) -> str:
        """Return ``sentinel <id> <ip> <port> @ <master-name> <master-ip> <master-port>``."""
        return (
            f"sentinel {self.name} {_place(self, by_hostname)} @ {self.master.name} {_place(self.master, by_hostname)}"
        )


@dataclass(slots=True, eq=False)
class Failover(Attempt):
    """A failover that this Sentinel leads, or campaigns to lead."""

    promoted: Replica | None = None
    """The selected replica."""


@dataclass(slots=True, eq=False)
class Master(Server):
    """A monitored master with its replicas and peers."""

    options: MasterOptions = field(default_factory=lambda: MasterOptions(quorum=1))
    replicas: dict[str, Replica] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    unconfirmed: UnconfirmedSentinels = field(default_factory=UnconfirmedSentinels)
    membership: Membership = field(default_factory=Membership)
    block: FailoverBlock = field(default_factory=FailoverBlock)

    crash: CrashEvidence = field(default_factory=CrashEvidence)
    """The evidence that its process has crashed."""

    config_epoch: int = 0
    odown_since: Millis | None = None
    leader: str | None = None
    """The candidate that this Sentinel voted for in ``leader_epoch``; not kept across restarts."""

    leader_epoch: int = 0
    voted_at: Millis | None = None
    vote_generation: int = 0
    """The generation of our latest vote."""

    durable_leader_epoch: int = 0
    address_generation: int = 0
    """The generation of the published address."""

    address_before: Address | None = None
    """The address that clients get until ``address_generation`` is durable; ``None`` for the published one."""

    epoch_before: int = 0
    """The config epoch of ``address_before``."""

    reported_master: tuple[str, int] | None = None
    """Host and port of the master that it reports to follow, if it reports to be a replica."""

    role_sent_at: Millis = 0
    """When ROLE was last sent, answered or not."""

    role_requested: bool = False
    """Whether a ROLE is unanswered."""

    role_refused: bool = False
    """Whether it refuses ROLE on this connection: the ACL in older documentation of Redis does not permit it."""

    restart: Restart | None = None
    """Its latest restart, while it is judged; written by ``empty_restart``, as ``data_missing_since``."""

    lineage: LineageState = field(default_factory=LineageState)

    data_missing_since: Millis | None = None
    """Since when it is known to lack data that a replica holds; it is S_DOWN meanwhile."""

    isolation: Isolation | None = None
    """The majority of Sentinels that does not answer; ``None`` if one does, or did not yet. Written by ``fencing``."""

    majority_answered: bool = False
    """Whether a majority of Sentinels has answered since this one started or reset the master."""

    lacks_good_replicas: bool = False
    """Whether ``min-replicas-to-write`` is set and no replica acknowledges in time, according to INFO."""

    major_version: int | None = None
    """The first number of its version, according to INFO."""

    least_lag: int | None = None
    """Seconds since the latest acknowledgement of an online replica, according to INFO; ``None`` if it has none."""

    failover: Failover | None = None
    attempt_started_at: Millis | None = None
    """Start of the last attempt, ours or that of the candidate we voted for; ``None`` if there was none."""

    attempt_before: Millis | None = None
    """``attempt_started_at`` before a vote whose candidate has not confirmed yet that it is one."""

    unconfirmed_since: Millis | None = None
    """Time of the first vote for a peer that has not confirmed yet that it is a candidate; ``None`` if all have."""

    campaign_at: Millis | None = None
    """When this Sentinel campaigns to fail over a master that is O_DOWN."""

    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    last_refusals: list[tuple[str, Unfit]] = field(default_factory=list)
    """``(name, reason)`` of each replica that was unfit in the latest selection, kept after the failover."""

    replicas_omitted: bool = False
    """Whether its last INFO had more new replicas than one INFO may add, so that INFO is requested again soon."""

    switched_at: Millis | None = None
    """When it last moved to another address."""

    encoded_hello: tuple[tuple[object, ...], bytes] | None = None
    """The fields of our last hello and its bytes, which are reused while the fields are the same."""

    hello_not_before: Millis = 0
    """Until then hellos with the new address are sent only to peers that are txsentinel (see ``switching``)."""

    conflict_since: Millis | None = None
    """Since when another Sentinel announces a different address with our config epoch."""

    ignored_addresses: dict[str, None] = field(default_factory=dict)
    """The announced addresses that were logged as unusable (see ``ignored``)."""

    @property
    def master(self) -> Master:
        """The master itself."""
        return self

    @property
    def is_down(self) -> bool:
        """Whether it is S_DOWN or O_DOWN."""
        return self.sdown_since is not None or self.odown_since is not None

    def void_requests(self) -> None:
        """Forget the unanswered INFO, ROLE and hello."""
        Server.void_requests(self)
        self.role_requested = self.role_refused = False

    @property
    def down_after(self) -> Millis:
        """``down-after-milliseconds`` of the master, its replicas and its peers."""
        return self.options.down_after

    @property
    def voters(self) -> int:
        """Number of Sentinels: this one, all peers whether up or down, and unconfirmed ones that count."""
        return len(self.peers) + 1 + self.unconfirmed_voters

    @property
    def unconfirmed_voters(self) -> int:
        """Number of Sentinels that count for the majority without being confirmed; ``confirmation`` has the reasons."""
        return self.unconfirmed.counted(self.link.pubsub_active_at) if self.unconfirmed else 0

    @property
    def majority(self) -> int:
        """Number of votes that make a leader, unless the quorum is higher."""
        return self.voters // 2 + 1

    @property
    def failover_state(self) -> FailoverState:
        """The state of the failover, or ``NONE`` without one."""
        return FailoverState.NONE if self.failover is None else self.failover.state

    @property
    def published_address(self) -> Address:
        """The address for clients, hellos and the file; the promoted replica's once its promotion was seen."""
        failover = self.failover
        if failover is not None and failover.promoted is not None and failover.state in PROMOTION_SEEN:
            return failover.promoted.address
        return self.address

    def describe(self, by_hostname: bool) -> str:
        """Return ``master <name> <ip> <port>``."""
        return f"master {self.name} {_place(self, by_hostname)}"


def _place(instance: Instance, by_hostname: bool) -> str:
    return f"{instance.address.announced(by_hostname)} {instance.address.port}"
