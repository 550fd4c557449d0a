"""The records of the invariant checker. They are separate from every Sentinel and survive their crashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from txsentinel.config.write_attempts import HANG_LIMIT
from txsentinel.core.instances import Master
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis
from txsentinel.sim.durable import PersistedState
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.redis.server import SimRedis

NEVER: Final = -1e9


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that was violated."""

    at: float
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at:.3f} s: {self.what}"


@dataclass(slots=True)
class MasterHistory:
    """The records of one master at one Sentinel; times are simulated seconds."""

    config_epoch: int = 0
    leader_epoch: int = 0
    address: Address | None = None
    """The published address."""
    down_at: tuple[str, int] | None = None
    """The address that the Sentinel holds S_DOWN."""
    down_until: dict[tuple[str, int], float] = field(default_factory=dict)
    """When the Sentinel last held each address S_DOWN, for those that it no longer holds down."""
    durable_places: set[tuple[str, int]] = field(default_factory=set)
    held: dict[tuple[str, int], int] = field(default_factory=dict)
    """Each address that the Sentinel used for the master, with the first config epoch of that address."""
    reset_at: float = NEVER
    """When the Sentinel was ordered to remove or reset the master, or wrote that to its file."""
    reset_writes: int = 0
    """The number of following writes that may be the first to contain the order; one may be in progress."""
    newest_vote: int = 0
    began: float | None = None
    """The last automatic attempt."""
    began_before: float | None = None
    """The attempt before it, which counts again if the master came back before a replica was promoted."""
    distance: float = 0.0
    voting_since: float | None = None
    """The first vote for another since it was last free to attempt something."""
    voted_for_other: float | None = None
    other: tuple[str, int] = ("", 0)
    """The candidate and the epoch of that vote."""
    ordered_at: float = NEVER
    """The last SENTINEL FAILOVER."""
    forced: bool = False
    """Whether the current attempt was ordered, and so needs no majority."""
    promotions: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it was last ordered to become a master."""
    opinions: dict[tuple[tuple[str, int], str], float] = field(default_factory=dict)
    """``(address, voter)`` → when the voter last reported the address down; removed when it reports the opposite."""
    voters: dict[int, set[str]] = field(default_factory=dict)
    """Epoch → the voters whose votes this Sentinel received."""
    may_fall: bool = False
    """Whether the master was removed: its config epoch starts again once a file without it has been written."""
    led: set[int] = field(default_factory=set)

    def forget_attempts(self) -> None:
        """Forget the attempts: another one is allowed at once."""
        self.began = self.began_before = self.voted_for_other = self.voting_since = None


class RecordedMaster:
    """A master of a Sentinel at an earlier time."""

    __slots__ = ("address", "config_epoch", "crashed_at", "down_since", "leader_epoch", "master")

    def __init__(self, master: Master) -> None:
        self.master = master
        self.address: Address = master.address
        self.config_epoch: int = master.config_epoch
        self.leader_epoch: int = master.leader_epoch
        self.down_since: Millis | None = master.sdown_since
        self.crashed_at: Millis | None = master.crash.confirmed_at


@dataclass(frozen=True)
class Leader:
    """The leader of a failover, and the other Sentinels of its group that it knew by then."""

    name: str
    run_id: str
    known: frozenset[str]


@dataclass(slots=True)
class SentinelRecord:
    """The records of one Sentinel."""

    sentinel: SimSentinel
    persisted: PersistedState = field(default_factory=PersistedState)
    masters: dict[str, MasterHistory] = field(default_factory=dict)
    tilt_since: float | None = None
    turned_at: float = 0.0
    seen: list[RecordedMaster] | None = None
    """Each master at its last full check; ``None`` if it must be checked in any case."""
    seen_epoch: int = 0
    """The current epoch at that time."""
    wall_offset: float = 0.0
    """The total step of its wall clock at its last turn."""
    tilt_expected_by: float | None = None
    starved_ms: int = 0
    """Milliseconds that the processes on its machine have waited for a processor, as of the last turn."""
    starved_until: float | None = None
    """Until when TILT would be because of a wait for a processor; ``None`` if it has not waited just now."""
    valid_hellos: set[bytes] = field(default_factory=set)
    saw_master: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it last reported role master to this Sentinel."""
    saw_replica: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it last reported role slave to this Sentinel."""
    became_replica: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it first reported role slave since it last reported role master."""
    saw_pong: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it last answered a PING of this Sentinel with PONG."""

    @property
    def disk_fails(self) -> bool:
        """
        Whether it knows that its disk fails or hangs. It then publishes events before they are durable, except votes.
        """
        files = self.sentinel.host.files
        return files.failing or files.max_wait >= HANG_LIMIT

    def master(self, name: str) -> MasterHistory:
        """Return the record of a master, created if necessary."""
        record = self.masters.get(name)
        if record is None:
            record = self.masters[name] = MasterHistory()
        return record


class Records:
    """The records of the whole fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.violations: list[Violation] = []
        self.failovers = 0
        """The promotions ordered; each attempt counts once."""
        self.sentinels = {sentinel.name: SentinelRecord(sentinel) for sentinel in fleet.sentinels}
        self.votes: dict[tuple[str, str, int], str] = {}
        """
        ``(voter, master, epoch)`` → candidate: all votes ever sent, and those decided by processes that still run.
        """
        self.published_votes: set[tuple[str, str, int]] = set()
        """The votes that were sent or announced; no crash undoes them."""
        self.leaders: dict[tuple[str, int], Leader] = {}
        """``(master, epoch)`` → the leader."""
        self.addresses: dict[tuple[str, int], tuple[tuple[str, int], str]] = {}
        """``(master, config epoch)`` → the address, and the first Sentinel that held it."""
        self.unelected: set[tuple[str, int]] = set()
        """``(master, epoch)`` of forced failovers that proceeded without a majority."""
        self.hellos: dict[tuple[str, int, tuple[str, int]], set[str]] = {}
        """``(master, config epoch, address)`` → the Sentinels that announced it in a hello."""
        self._groups = {server.host.ip: group.name for group in fleet.masters for server in group.servers}
        self._servers = {server.host.ip: server for server in fleet.servers}

    @property
    def now(self) -> float:
        """Simulated time in seconds."""
        return self.fleet.simulation.seconds()

    def expect(self, holds: object, invariant: str, what: str) -> None:
        """Record a violation of the invariant unless ``holds``."""
        if not holds:
            self.violations.append(Violation(self.now, invariant, what))

    def master_at(self, ip: str) -> str | None:
        """The name of the group of the server at ``ip``."""
        return self._groups.get(ip)

    def server_at(self, ip: str) -> SimRedis:
        """The server at ``ip``."""
        return self._servers[ip]

    def claimed(self, who: str, master: str, epoch: int, place: tuple[str, int]) -> None:
        """``who`` holds or announces ``master`` at ``place`` since ``epoch`` (S5)."""
        if not epoch:
            return
        known, first = self.addresses.setdefault((master, epoch), (place, who))
        unknown_peers = any(not self.ours(each) for each in self.hellos.get((master, epoch, place), ()))
        if known != place and (master, epoch) not in self.unelected and not unknown_peers:
            self.expect(False, "S5", f"{who} holds {master} at {place}@{epoch}, {first} at {known}")

    def may_publish(self, record: SentinelRecord, name: str, place: tuple[str, int]) -> bool:
        """
        Whether ``name`` at ``place`` may be announced: it is, or was, on disk.

        Two moves may share one write. Then the first one was never on disk, but the file has a newer one, though not
        always as new as a third move that was decided meanwhile.
        """
        master, now = record.persisted.masters.get(name), record.sentinel.alive.core.registry.masters.get(name)
        if master is None or now is None or place in record.master(name).durable_places:
            return True
        return master.config_epoch >= record.master(name).held.get(place, now.config_epoch)

    def retract(self, voter: str, master: str, durable: int) -> int:
        """
        A crash ended ``voter``: forget its votes above ``durable``, the last one on disk, unless they were sent.

        :returns: the epoch of its newest remaining vote, 0 without any.
        """
        mine = [vote for vote in self.votes if vote[:2] == (voter, master)]
        for vote in mine:
            if vote[2] > durable and vote not in self.published_votes:
                del self.votes[vote]
        return max((vote[2] for vote in mine if vote in self.votes), default=0)

    def ours(self, name: str) -> bool:
        """Whether this Sentinel runs txsentinel and so must keep the invariants."""
        return name in self.sentinels

    def voted(self, voter: str, master: str, epoch: int, candidate: str, *, out: bool) -> None:
        """A vote was decided or, with ``out``, sent or announced (S1)."""
        given = self.votes.setdefault((voter, master, epoch), candidate)
        if out:
            self.published_votes.add((voter, master, epoch))
        self.expect(given == candidate, "S1", f"{voter} voted for {given[:8]} and {candidate[:8]} on {master}@{epoch}")
