"""
Whether a pause of automatic failovers leaves nobody who could begin one, and who that would be.

A failover needs a Sentinel that starts one, and the votes of a majority. The paused Sentinels of our kind do neither;
C Sentinels whose votes are leased (``core.vote_leases``) vote, but start none. So no failover can start if no other
Sentinel is left, or if those with the leased ones are fewer than the votes needed. What began before the pause counts
as well: a failover in progress, and a vote given not long ago for a Sentinel that is not held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from txsentinel.core.durable_records import RecordKey
from txsentinel.core.failover_state import PROMOTION_NOT_ORDERED
from txsentinel.core.fan_out import kind_of
from txsentinel.core.instances import Master
from txsentinel.core.pause_rules import pauses_of
from txsentinel.core.quorum import is_reachable, votes_needed
from txsentinel.core.state import SentinelState
from txsentinel.core.vote_leases import VoteLeases
from txsentinel.model.timings import Millis

CONFIRMATION_TIMEOUT: Final[Millis] = 1_000
"""How long a peer of our kind may take to confirm a pause before others hold leases in its place."""


@dataclass(frozen=True, slots=True)
class Unheld:
    """A Sentinel that may start a failover or vote for one, and why."""

    sentinel_id: str
    address: str
    why: str


@dataclass(frozen=True, slots=True)
class Guarantee:
    """
    Whether no automatic failover of a master can happen, and because of which Sentinels.

    ``paused`` are those of our kind, this one included; ``leased`` the C Sentinels that are held, each with the end of
    its lease; ``free`` all others. ``obstacle`` is another reason why a failover is possible.
    """

    guaranteed: bool
    needed: int
    paused: tuple[str, ...]
    leased: tuple[tuple[str, Millis], ...]
    free: tuple[Unheld, ...]
    holder: str
    """The ID of the Sentinel that holds the leases."""

    obstacle: str | None = None

    @property
    def shown(self) -> tuple[object, ...]:
        """Everything except the times of the leases, which change with each renewal."""
        leased = tuple(peer_id for peer_id, _ in self.leased)
        return self.guaranteed, self.needed, self.paused, leased, self.free, self.obstacle


@dataclass(slots=True)
class Confirmation:
    """What a peer answered to the record of a pause."""

    request_id: str
    until: Millis
    """When its pause ends."""

    in_progress: frozenset[str] = frozenset()
    """Names of the masters that it is failing over."""

    elections: dict[str, tuple[str, Millis]] = field(default_factory=dict)
    """By master, the candidate that got its vote not long ago, and until when that one may lead."""


@dataclass(slots=True)
class Exchange:
    """The exchange of one record with the peers."""

    since: Millis
    due: Millis
    generation: int = 0
    """The generation of the record."""

    confirmations: dict[str, Confirmation] = field(default_factory=dict)


class Guarantees:
    """
    Judges pauses by the answers of the peers and the leases.

    ``exchanges`` has the exchange of each record in force.
    """

    def __init__(self, state: SentinelState, leases: VoteLeases) -> None:
        self._state = state
        self._leases = leases
        self.exchanges: dict[RecordKey, Exchange] = {}

    def _confirmations(self, master: Master, now: Millis) -> dict[str, Confirmation]:
        """Return the peers of our kind that are known to be paused, with their latest answers."""
        found: dict[str, Confirmation] = {}
        for held in pauses_of(self._state, master.name, now):
            exchange = self.exchanges.get(held.record.key)
            if exchange is not None:
                found.update({name: each for name, each in exchange.confirmations.items() if now < each.until})
        return found

    def holder(self, master: Master, now: Millis) -> str:
        """
        Return the ID of the Sentinel that holds the leases: the lowest of those that are paused and can be reached.

        One that is about to be stopped does not, unless there is no other one.

        At the beginning those count that may not have received the order yet.
        """
        confirmed = self._confirmations(master, now)
        candidates = [each for each in confirmed if self._is_live(master, each)]
        exchanges = [self.exchanges.get(held.record.key) for held in pauses_of(self._state, master.name, now)]
        if any(each is None or now - each.since < CONFIRMATION_TIMEOUT for each in exchanges):
            peers = [each for each in master.peers.values() if kind_of(each) == "txsentinel" and is_reachable(each)]
            candidates += [each.name for each in peers]
        everyone = [self._state.options.my_id, *candidates]
        return min([each for each in everyone if not self._state.is_leaving(each, now)] or everyone)

    @staticmethod
    def _is_live(master: Master, peer_id: str) -> bool:
        peer = master.peers.get(peer_id)
        return peer is not None and is_reachable(peer)

    def guarantee(self, master: Master, now: Millis) -> Guarantee:
        """Return whether no automatic failover of a paused master can happen now."""
        my_id = self._state.options.my_id
        confirmed = self._confirmations(master, now)
        paused: list[str] = [my_id]
        leased: list[tuple[str, Millis]] = []
        free: list[Unheld] = []
        for peer in master.peers.values():
            lease = self._leases.get(master.name, peer.name)
            kind = kind_of(peer)
            if peer.name in confirmed:
                paused.append(peer.name)
            elif kind != "txsentinel" and lease is not None and self._leases.is_held(master, peer, now):
                leased.append((peer.name, lease.until))
            else:
                why = "it has not confirmed the pause" if kind == "txsentinel" else "its vote is not leased"
                if not peer.link.commands_up:
                    why = "it cannot be reached"
                elif lease is not None and lease.problem is not None:
                    why = lease.problem
                free.append(Unheld(peer.name, peer.address.joined(), why))
        needed = votes_needed(master)
        obstacle = self._obstacle(master, confirmed, free, now)
        guaranteed = obstacle is None and (not free or len(free) + len(leased) < needed)
        return Guarantee(
            guaranteed, needed, tuple(paused), tuple(leased), tuple(free), self.holder(master, now), obstacle
        )

    def unreachable(self, master: Master) -> list[Unheld]:
        """
        Return those that could fail a master over if every Sentinel that can be reached took part in a pause.

        It is empty if they are too few for that.
        """
        leased, free = 0, []
        for peer in master.peers.values():
            kind = kind_of(peer)
            if not peer.link.commands_up:
                free.append(Unheld(peer.name, peer.address.joined(), "it cannot be reached"))
            elif kind == "unknown":
                free.append(Unheld(peer.name, peer.address.joined(), "no hello of it has arrived yet"))
            else:
                leased += kind == "c"
        return free if len(free) + leased >= votes_needed(master) else []

    def _obstacle(
        self, master: Master, confirmed: dict[str, Confirmation], free: Sequence[Unheld], now: Millis
    ) -> str | None:
        """Return why a failover that began before the pause may still happen; ``None`` if none may."""
        if self.in_progress(master):
            return "this Sentinel is failing it over"
        exchanges = [self.exchanges.get(held.record.key) for held in pauses_of(self._state, master.name, now)]
        if not any(each is not None and each.generation <= self._state.durable_generation for each in exchanges):
            return "the pause is not durable yet"
        unheld = {each.sentinel_id for each in free}
        votes = [(self._state.options.my_id, self.election(master, now))]
        for peer_id, each in confirmed.items():
            if master.name in each.in_progress:
                return f"{peer_id} is failing it over"
            votes.append((peer_id, each.elections.get(master.name)))
        for voter, election in votes:
            if election is not None and now < election[1] and (election[0] in unheld or (not election[0] and unheld)):
                candidate = election[0] or "a Sentinel"
                return f"{voter} has voted for {candidate} before the pause, which may still lead"
        return None

    @staticmethod
    def in_progress(master: Master) -> bool:
        """Whether this Sentinel leads a failover that it began by itself, and has ordered the promotion."""
        failover = master.failover
        return failover is not None and failover.automatic and failover.state not in PROMOTION_NOT_ORDERED

    def election(self, master: Master, now: Millis) -> tuple[str, Millis] | None:
        """
        Return the candidate that got our vote not long ago, and until when it may lead a failover.

        After a restart it knows the epoch of its vote but not the candidate, which is empty then.
        """
        period = self._state.timings.election_timeout + 2 * master.options.failover_timeout
        at, leader = master.voted_at, master.leader or ""
        if leader == self._state.options.my_id or master.leader_epoch <= master.config_epoch:
            return None
        if at is None:
            at, leader = master.created_at, ""
        switched = master.switched_at is not None and master.switched_at > at
        return None if switched or now >= at + period else (leader, at + period)
