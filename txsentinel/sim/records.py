"""What the witness has seen so far; kept apart from every Sentinel, it survives their crashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from txsentinel.config.store import HANG_LIMIT
from txsentinel.core.instances import Master
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis
from txsentinel.sim.durable import PersistedState
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.redis.server import SimRedis

NEVER: Final = -1e9


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    at: float
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at:.3f} s: {self.what}"


@dataclass(slots=True)
class MasterRecord:
    """What is known of one master at one Sentinel; times in world seconds."""

    config_epoch: int = 0
    leader_epoch: int = 0
    address: Address | None = None
    """The published one."""
    down_at: tuple[str, int] | None = None
    """The address that it holds S_DOWN."""
    down_until: dict[tuple[str, int], float] = field(default_factory=dict)
    """When it last held each address S_DOWN, for those that it does not hold down any more."""
    durable_places: set[tuple[str, int]] = field(default_factory=set)
    held: dict[tuple[str, int], int] = field(default_factory=dict)
    """Each address that it took the master to be at, with the first config epoch of which it did."""
    anew_at: float = NEVER
    """When it was ordered to forget the master or to watch it anew, or wrote that."""
    anew_writes: int = 0
    """How many of the next writes may be the first that has the order; one may be under way."""
    newest_vote: int = 0
    began: float | None = None
    """The last automatic attempt."""
    began_before: float | None = None
    """The one before it, which counts again if the master came back before anybody was promoted."""
    distance: float = 0.0
    voting_since: float | None = None
    """The first vote for another since it was last free to attempt something."""
    voted_for_other: float | None = None
    other: tuple[str, int] = ("", 0)
    """The candidate and the epoch of that vote."""
    ordered_at: float = NEVER
    """The last SENTINEL FAILOVER."""
    forced: bool = False
    """The attempt under way was ordered, and needs no majority."""
    promotions: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it was last told to be a master."""
    opinions: dict[tuple[tuple[str, int], str], float] = field(default_factory=dict)
    """``(address, voter)`` → when the voter last told that it holds the address down; gone if it took that back."""
    voters: dict[int, set[str]] = field(default_factory=dict)
    """Epoch → who told this Sentinel that it voted for it."""
    may_fall: bool = False
    """It was removed: its config epoch begins anew, on disk once the next file without it is written."""
    led: set[int] = field(default_factory=set)

    def forget_attempts(self) -> None:
        """What happened allows another attempt at once."""
        self.began = self.began_before = self.voted_for_other = self.voting_since = None


class Snapshot:
    """A master of a Sentinel as it was."""

    __slots__ = ("address", "config_epoch", "down_since", "leader_epoch", "master")

    def __init__(self, master: Master) -> None:
        self.master = master
        self.address: Address = master.address
        self.config_epoch: int = master.config_epoch
        self.leader_epoch: int = master.leader_epoch
        self.down_since: Millis | None = master.sdown_since


@dataclass(frozen=True)
class Leader:
    """Who led a failover, and which other Sentinels of its group it knew by then."""

    name: str
    run_id: str
    known: frozenset[str]


@dataclass(slots=True)
class SentinelRecord:
    """What is known of one Sentinel."""

    sentinel: SimSentinel
    persisted: PersistedState = field(default_factory=PersistedState)
    masters: dict[str, MasterRecord] = field(default_factory=dict)
    tilt_since: float | None = None
    turned_at: float = 0.0
    seen: list[Snapshot] | None = None
    """Each master when it was last looked at closely; ``None`` if that is to be done in any case."""
    seen_epoch: int = 0
    """The current epoch of that moment."""
    wall_offset: float = 0.0
    """How far its wall clock had been stepped at its last turn."""
    tilt_expected_by: float | None = None
    good_hellos: set[bytes] = field(default_factory=set)
    saw_master: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it last told this Sentinel that it is a master."""
    saw_replica: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it last told this Sentinel that it is a replica."""
    became_replica: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it first told so since it last told that it is a master."""
    saw_pong: dict[str, float] = field(default_factory=dict)
    """IP of a server → when it last answered a PING of this Sentinel by PONG."""

    @property
    def disk_fails(self) -> bool:
        """Does it know that its disk fails, or hangs? Then it says what is true, durable or not, but for votes."""
        files = self.sentinel.host.files
        return files.failing or files.max_wait >= HANG_LIMIT

    def master(self, name: str) -> MasterRecord:
        """What is known of that master here, if only that it is new."""
        record = self.masters.get(name)
        if record is None:
            record = self.masters[name] = MasterRecord()
        return record


class Records:
    """Everything, of the whole fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.violations: list[Violation] = []
        self.failovers = 0
        """Promotions ordered, each attempt counting once."""
        self.sentinels = {sentinel.name: SentinelRecord(sentinel) for sentinel in fleet.sentinels}
        self.votes: dict[tuple[str, str, int], str] = {}
        """``(voter, master, epoch)`` → candidate: what was ever told, and what those decided upon who still live."""
        self.told: set[tuple[str, str, int]] = set()
        """Those of the votes that are out, so that no crash makes them undone."""
        self.leaders: dict[tuple[str, int], Leader] = {}
        """``(master, epoch)`` → who acted."""
        self.addresses: dict[tuple[str, int], tuple[tuple[str, int], str]] = {}
        """``(master, config epoch)`` → the address, and who held it first."""
        self.unelected: set[tuple[str, int]] = set()
        """``(master, epoch)`` of forced failovers that went ahead without a majority."""
        self.said: dict[tuple[str, int, tuple[str, int]], set[str]] = {}
        """``(master, config epoch, address)`` → who has told it in a hello."""
        self._groups = {server.host.ip: group.name for group in fleet.masters for server in group.servers}
        self._servers = {server.host.ip: server for server in fleet.servers}

    @property
    def now(self) -> float:
        """World time in seconds."""
        return self.fleet.simulation.seconds()

    def expect(self, holds: object, invariant: str, what: str) -> None:
        """Note a violation of ``promise`` unless it ``holds``."""
        if not holds:
            self.violations.append(Violation(self.now, invariant, what))

    def master_at(self, ip: str) -> str | None:
        """The name of the group that the server at ``ip`` is of."""
        return self._groups.get(ip)

    def server_at(self, ip: str) -> SimRedis:
        """The server at ``ip``."""
        return self._servers[ip]

    def claimed(self, who: str, master: str, epoch: int, place: tuple[str, int]) -> None:
        """``who`` holds, or tells, that ``master`` is at ``place`` since ``epoch`` (S5)."""
        if not epoch:
            return
        known, first = self.addresses.setdefault((master, epoch), (place, who))
        unknown_peers = any(not self.ours(each) for each in self.said.get((master, epoch, place), ()))
        if known != place and (master, epoch) not in self.unelected and not unknown_peers:
            self.expect(False, "S5", f"{who} holds {master} at {place}@{epoch}, {first} at {known}")

    def may_publish(self, record: SentinelRecord, name: str, place: tuple[str, int]) -> bool:
        """
        Is it safe to tell that ``name`` is at ``place``: is, or was, that on disk?

        Two moves may share one write; then the first never was on disk, but what is there is newer still, though
        not always as new as a third move that has come meanwhile.
        """
        master, now = record.persisted.masters.get(name), record.sentinel.alive.core.registry.masters.get(name)
        if master is None or now is None or place in record.master(name).durable_places:
            return True
        return master.config_epoch >= record.master(name).held.get(place, now.config_epoch)

    def retract(self, voter: str, master: str, durable: int) -> int:
        """
        A crash took ``voter``: its votes above ``durable``, the last one on disk, never were, unless they were out.

        :returns: the epoch of its newest vote that remains, 0 without any.
        """
        mine = [vote for vote in self.votes if vote[:2] == (voter, master)]
        for vote in mine:
            if vote[2] > durable and vote not in self.told:
                del self.votes[vote]
        return max((vote[2] for vote in mine if vote in self.votes), default=0)

    def ours(self, name: str) -> bool:
        """Is that a Sentinel that keeps our promises?"""
        return name in self.sentinels

    def voted(self, voter: str, master: str, epoch: int, candidate: str, *, out: bool) -> None:
        """A vote was decided upon or, with ``out``, told or announced (S1)."""
        given = self.votes.setdefault((voter, master, epoch), candidate)
        if out:
            self.told.add((voter, master, epoch))
        self.expect(given == candidate, "S1", f"{voter} voted for {given[:8]} and {candidate[:8]} on {master}@{epoch}")
