"""Counting of the votes in our election, and our position among the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from txsentinel.core.instances import Master, Peer
from txsentinel.core.quorum import is_reachable, votes_needed
from txsentinel.core.state import SentinelState
from txsentinel.core.voting import NO_CANDIDATE
from txsentinel.model.timings import Millis


@dataclass(frozen=True, slots=True)
class VoteCount:
    """
    The count of our election.

    ``granted`` is the number of votes for us, ``outstanding`` that of reachable voters that have not answered,
    ``rival`` the highest number of votes for another candidate in the same epoch, ``reachable`` the number of reachable
    voters including ourselves, and ``needed`` the greater of majority and quorum.
    """

    granted: int
    outstanding: int
    rival: int
    reachable: int
    needed: int

    @property
    def won(self) -> bool:
        """Whether this Sentinel is the leader."""
        return self.granted >= self.needed

    @property
    def lost(self) -> bool:
        """Whether this epoch cannot be won any more, unless unreachable peers return."""
        return self.granted + self.outstanding < self.needed

    @property
    def should_retry(self) -> bool:
        """Whether enough voters are reachable to win another epoch."""
        return self.reachable >= self.needed

    @property
    def should_concede(self) -> bool:
        """Whether another candidate has enough votes to lead."""
        return self.rival >= self.needed


class VoteCounter:
    """Counts votes; changes nothing."""

    def __init__(self, state: SentinelState) -> None:
        self._state = state

    def count(self, master: Master) -> VoteCount:
        """Return the count of our election for ``master``; only votes in the epoch of the campaign count."""
        failover = master.failover
        assert failover is not None
        generation = failover.vote_generation
        granted = 1 if generation is not None and generation <= self._state.durable_generation else 0
        return self.count_answers(master, failover.answers, failover.epoch, granted)

    def count_answers(
        self, master: Master, answers: Mapping[str, tuple[str, int]], epoch_of_campaign: int, granted: int
    ) -> VoteCount:
        """
        Count the answers to our vote requests in one epoch.

        :param granted: number of our own votes: 1 if it is durable, else 0.
        """
        me = self._state.options.my_id
        outstanding = 1 - granted
        reachable = 1
        rivals: dict[str, int] = {}
        for peer in master.peers.values():
            can_vote = is_reachable(peer)
            reachable += can_vote
            answer = answers.get(peer.name)
            if answer is None:
                outstanding += can_vote
                continue
            leader, epoch = answer
            if epoch != epoch_of_campaign:
                continue
            if leader == me:
                granted += 1
            elif leader != NO_CANDIDATE:
                rivals[leader] = rivals.get(leader, 0) + 1
        return VoteCount(granted, outstanding, max(rivals.values(), default=0), reachable, votes_needed(master))

    def highest_answer(self, master: Master, now: Millis) -> int:
        """Return the highest epoch in the replies to our vote requests, up to which peers have voted."""
        failover = master.failover
        assert failover is not None
        return max(
            (epoch for _, epoch in failover.answers.values() if self._state.is_acceptable_epoch(epoch, now)), default=0
        )

    def awaited(self, master: Master) -> int:
        """Return how many connected peers have not answered our vote request in this epoch."""
        failover = master.failover
        assert failover is not None
        return sum(1 for peer in master.peers.values() if peer.link.commands_up and peer.name not in failover.answers)

    def campaign_order(self, master: Master) -> int:
        """Return how many live peers campaign before us: those with lower IDs that may consider ``master`` down."""
        me = self._state.options.my_id
        return sum(
            1
            for peer in master.peers.values()
            if peer.name < me and self._may_campaign(peer, master) and is_reachable(peer)
        )

    def position_by_id(self, master: Master) -> int:
        """Return our position among all Sentinels of ``master`` by ID, from 0; it is unique."""
        return sum(1 for peer_id in master.peers if peer_id < self._state.options.my_id)

    @staticmethod
    def _may_campaign(peer: Peer, master: Master) -> bool:
        since = master.sdown_since
        return peer.reports_master_down or (since is not None and peer.opinion_at < since)
