"""
Agreement and votes: asking peers, answering them, one vote per master and epoch, and the tally.

A vote is durable before it is told or counted. A peer's vote counts for us only in the very epoch
that we stand in. Refusing a vote can delay an election but never make it unsafe, so a Sentinel
refuses where it knows better; see :meth:`Voting.refusal`.
"""

from __future__ import annotations

from dataclasses import dataclass

from txsentinel.core.availability import TiltGuard
from txsentinel.core.effects import AskMasterDown
from txsentinel.core.instances import FailoverState, Master, Peer, Question, Role
from txsentinel.core.link import InstanceLink
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.model.events import Level
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import text

NO_CANDIDATE = "*"

LEASE_LIMIT: Millis = 2_000
"""How long, at most, a vote keeps us from voting for a rival of the candidate in a newer epoch."""

FRESH_SWITCH: Millis = 5_000
"""How long after a switch we trust our own sight of the new master more than a candidate's word."""

DOUBT: Millis = 5_000
"""How long a peer gets no vote after a request in its name that it did not make, unless it confirms another."""

CANDIDATE_WINDOW: Millis = 5_000
"""How long after S_DOWN peers are asked at the quick pace while there is no agreement."""


@dataclass(frozen=True, slots=True)
class Vote:
    """An answer to ``is-master-down-by-addr``; it must not be sent before ``generation`` is durable."""

    down: bool
    leader: str
    leader_epoch: int
    generation: int = 0
    durable_epoch: int = 0

    def fallback(self) -> Vote:
        """What may be said when the vote could not be saved: no vote, and the last epoch that is durable."""
        return Vote(self.down, NO_CANDIDATE, self.durable_epoch)


@dataclass(frozen=True, slots=True)
class VoteCount:
    """
    How an election stands for us.

    ``mine`` votes are certain, ``open`` voters can be reached and have not answered, ``rival`` is
    the most votes that any other candidate has in the same epoch, ``reach`` is how many voters can
    be reached, ourselves included; ``needed`` is the greater of majority and quorum.
    """

    mine: int
    open: int
    rival: int
    reach: int
    needed: int

    @property
    def won(self) -> bool:
        """Are we the leader?"""
        return self.mine >= self.needed

    @property
    def lost(self) -> bool:
        """Can we not become the leader any more in this epoch, unless somebody comes back?"""
        return self.mine + self.open < self.needed

    @property
    def should_retry(self) -> bool:
        """Are there enough who could vote for us in another epoch?"""
        return self.reach >= self.needed

    @property
    def should_concede(self) -> bool:
        """Has somebody else enough votes to lead?"""
        return self.rival >= self.needed


class Voting:
    """Epochs and votes of all masters."""

    def __init__(self, state: SentinelState, registry: Registry, tilt: TiltGuard) -> None:
        self._state = state
        self._registry = registry
        self._tilt = tilt

    def requested(self, host: str, port: int, epoch: int, candidate: str, now: Millis) -> Vote:
        """Answer a peer (or anybody) that asks for our opinion, or for our vote."""
        master = self._registry.by_address(host, port)
        if master is None:
            return Vote(False, NO_CANDIDATE, 0)
        down = master.sdown_since is not None and not self._tilt.active
        if candidate == NO_CANDIDATE:
            return Vote(down, NO_CANDIDATE, 0)
        state = self._state
        if state.sane_epoch(epoch, now) and not state.storage_failing:
            fresh = epoch > master.leader_epoch and (epoch > master.config_epoch or epoch >= state.current_epoch)
            if fresh and state.votable(epoch, now):
                reason = self.refusal(master, candidate, now)
                if reason is None:
                    if epoch > state.current_epoch:
                        state.adopt_epoch(epoch, master, now)
                    before, unconfirmed = master.attempt_started_at, master.vote_unconfirmed
                    self.cast(master, candidate, epoch, now)
                    if not unconfirmed:
                        master.attempt_before = before
                    master.vote_unconfirmed = self._have_confirmed(master, candidate, epoch, now)
                else:
                    # The epoch of a request that is refused is not adopted: anybody can send one.
                    state.complain(
                        f"No vote: {reason.split(' for ')[0]}",
                        f"No vote for {excerpt(candidate)} in epoch {epoch} on {master.name}: {reason}",
                        Level.NOTICE,
                    )
                    peer = master.peers.get(candidate)
                    if peer is not None and peer.doubted_until > now:
                        self._have_confirmed(master, candidate, epoch, now)
        if state.storage_failing and master.vote_generation > state.durable_generation:
            return Vote(down, NO_CANDIDATE, master.durable_leader_epoch)
        waits = master.vote_generation if master.vote_generation > state.durable_generation else 0
        return Vote(down, master.leader or NO_CANDIDATE, master.leader_epoch, waits, master.durable_leader_epoch)

    def refusal(self, master: Master, candidate: str, now: Millis) -> str | None:
        """
        Why ``candidate`` does not get our vote for ``master`` now, or ``None``.

        C Sentinels vote for anybody who asks. Three refusals make that safer: of strangers, whom no
        majority counts; of rivals right after a vote, so that two leaders do not act at once; and,
        shortly after a switch, of C Sentinels that hold down a master that we can see is up. Those
        of our kind do not take a new master for dead because of the switch, and what they ask for
        may be a coordinated failover that somebody ordered.
        """
        if candidate == self._state.options.my_id:
            return "it is this Sentinel"
        peer = master.peers.get(candidate)
        if peer is None:
            return "it is not a Sentinel that we know"
        if peer.doubted_until > now:
            return "it did not ask for the last one that was asked for in its name"
        if self._leased(master, candidate, now):
            return f"our vote for {master.leader} in epoch {master.leader_epoch} is fresh"
        fresh = master.switched_at is not None and now - master.switched_at < FRESH_SWITCH
        if fresh and not peer.is_txsentinel and self._sees_up(master, now):
            return "the master was switched a moment ago and is up"
        return None

    def _have_confirmed(self, master: Master, candidate: str, epoch: int, now: Millis) -> bool:
        """
        Ask a peer in whose name somebody asked for our vote whether it is a candidate; false if it cannot be asked now.

        Anybody can send such a request. A vote for somebody who is no candidate would keep real ones away for as long
        as its lease, and us from an attempt of our own for two failover timeouts. A candidate has voted for itself
        before it asks, which it tells if it is asked for a vote in epoch 0. With many masters failing nobody is asked.
        """
        peer = master.peers[candidate]
        if (
            not peer.link.commands_up
            or self._state.in_mass_failure(now)
            or len(peer.asked) >= self._state.limits.questions
        ):
            return False
        if any(question.candidacy is not None for question in peer.asked):
            return True
        peer.asked.append(Question(master.address, None, epoch))
        host = master.address.announced(self._state.options.announce_hostnames)
        self._state.emit(AskMasterDown(peer.link, master, host, master.address.port, 0, candidate), probe=True)
        return True

    def _check_candidacy(self, peer: Peer, asked: int, leader: str, epoch: int, now: Millis) -> None:
        """
        A peer told whom it voted for, after a request for our vote in its name.

        A C Sentinel may ask in an epoch above that of its own vote. After a restart a Sentinel knows the epoch and no
        name.
        """
        master = peer.master
        genuine = epoch > asked or (epoch == asked and leader in (peer.name, NO_CANDIDATE))
        genuine = genuine or (leader == peer.name and not peer.is_txsentinel)
        if genuine:
            peer.doubted_until = 0
        else:
            peer.doubted_until = now + DOUBT
            self._state.complain(
                "Somebody asked for a vote in the name of another Sentinel",
                f"Somebody asked for a vote on {master.name} in epoch {asked} in the name of {peer.name}, who did not",
            )
        if master.leader == peer.name and master.vote_unconfirmed:
            master.vote_unconfirmed = False
            if not genuine:
                master.attempt_started_at, master.voted_at = master.attempt_before, None

    def cast(self, master: Master, candidate: str, epoch: int, now: Millis) -> None:
        """Vote: one candidate per master and epoch, for ever."""
        state = self._state
        master.leader = candidate
        master.leader_epoch = epoch
        master.voted_at = now
        master.vote_generation = state.changed(master)
        state.announce_text("+vote-for-leader", f"{candidate} {epoch}", master, binding=True)
        if candidate != state.options.my_id:
            master.attempt_started_at = now + state.rng(1000)

    def committed(self, master: Master, generation: int) -> None:
        """Everything up to ``generation`` is durable."""
        if master.vote_generation <= generation:
            master.durable_leader_epoch = master.leader_epoch

    def ask_all(self, master: Master, now: Millis) -> None:
        """Ask every connected peer at once that does not owe us an answer to the same question."""
        for peer in master.peers.values():
            self.ask(peer, now)

    def ask(self, peer: Peer, now: Millis) -> None:
        """Ask one peer for its opinion or, while we stand for election, for its vote."""
        if not peer.link.commands_up:
            return
        master = peer.master
        epoch = self._vote_epoch(master)
        question = Question(master.address, epoch)
        # Asked or not: the next occasion to ask is a period away.
        peer.asked_at = now
        if question in peer.asked or len(peer.asked) >= self._state.limits.questions:
            return
        if epoch is not None and not self._window_open(peer):
            return
        options = self._state.options
        host = master.address.announced(options.announce_hostnames)
        candidate = NO_CANDIDATE if epoch is None else options.my_id
        sent_epoch = self._state.current_epoch if epoch is None else epoch
        peer.asked.append(question)
        if epoch is not None:
            peer.link.votes_in_flight += 1
        self._state.emit(AskMasterDown(peer.link, master, host, master.address.port, sent_epoch, candidate), probe=True)

    def ask_due(self, peer: Peer) -> Millis:
        """When a peer of a master that is S_DOWN must be asked again."""
        if peer.asked_at is None:
            return 0
        return peer.asked_at + self._ask_period(peer.master, peer)

    def answered(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> Peer | None:
        """
        Take in an answer; the peer it is from, or ``None`` if it is void.

        Only an array of integer, bulk string, integer counts. An answer about an address that the
        master has left is void: it says nothing about the present one.
        """
        # Not among all who share the link: those may be a thousand.
        peer = next((peer for peer in master.peers.values() if peer.link is link), None)
        if peer is None or not peer.asked:
            return None
        question = peer.asked.popleft()
        if question.vote_epoch is not None:
            link.votes_in_flight -= 1
        self._refill_window(link, now)
        if not question.address.same(master.address):
            return None
        if not (isinstance(reply, list) and len(reply) == 3):
            return None
        down, leader_bytes, epoch = reply
        if type(down) is not int or type(leader_bytes) is not bytes or type(epoch) is not int:
            return None
        leader = text(leader_bytes)
        if not self._state.sane_id(leader):
            return None
        peer.opinion_at = now
        peer.reports_master_down = down == 1
        if question.candidacy is not None:
            self._check_candidacy(peer, question.candidacy, leader, epoch, now)
            return peer
        failover = master.failover
        if failover is not None and question.vote_epoch == failover.epoch:
            failover.answers[peer.name] = (leader, epoch)
        if (
            leader != NO_CANDIDATE
            and self._state.sane_epoch(epoch, now)
            and (peer.leader, peer.leader_epoch) != (leader, epoch)
        ):
            peer.leader, peer.leader_epoch = leader, epoch
            self._state.note(Level.NOTICE, f"{peer.name} voted for {leader} {epoch}")
        return peer

    def expire_opinions(self, master: Master, now: Millis) -> None:
        """Drop opinions and votes that are older than five ask periods, whether the master is down or not."""
        limit = 5 * self._state.timings.ask_period
        for peer in master.peers.values():
            if now - peer.opinion_at > limit:
                peer.reports_master_down = False
                peer.leader = None

    def forget_opinions(self, master: Master) -> None:
        """The master moved: what peers said was about another address."""
        for peer in master.peers.values():
            peer.reports_master_down = False
            peer.leader = None
            peer.asked_at = None

    def count(self, master: Master) -> VoteCount:
        """How our election for ``master`` stands, counting only votes of the epoch that we stand in."""
        failover = master.failover
        assert failover is not None
        me = self._state.options.my_id
        generation = failover.vote_generation
        mine = 1 if generation is not None and generation <= self._state.durable_generation else 0
        unanswered = 1 - mine
        reach = 1
        rivals: dict[str, int] = {}
        for peer in master.peers.values():
            reachable = peer.link.commands_up and not peer.is_down
            reach += reachable
            answer = failover.answers.get(peer.name)
            if answer is None:
                unanswered += reachable
                continue
            leader, epoch = answer
            if epoch != failover.epoch:
                continue
            if leader == me:
                mine += 1
            elif leader != NO_CANDIDATE:
                rivals[leader] = rivals.get(leader, 0) + 1
        needed = max(master.majority, master.options.quorum)
        return VoteCount(mine, unanswered, max(rivals.values(), default=0), reach, needed)

    def highest_answer(self, master: Master, now: Millis) -> int:
        """The highest epoch that a peer answered our request with: it has voted up to there."""
        failover = master.failover
        assert failover is not None
        return max((epoch for _, epoch in failover.answers.values() if self._state.sane_epoch(epoch, now)), default=0)

    def awaited(self, master: Master) -> int:
        """How many connected peers have not answered our request for their vote in this epoch."""
        failover = master.failover
        assert failover is not None
        return sum(1 for peer in master.peers.values() if peer.link.commands_up and peer.name not in failover.answers)

    def rank(self, master: Master) -> int:
        """How many live peers of lower ID may find ``master`` down, too: they stand for election before us."""
        me = self._state.options.my_id
        return sum(
            1
            for peer in master.peers.values()
            if peer.name < me and self._may_campaign(peer, master) and peer.link.commands_up and not peer.is_down
        )

    def place(self, master: Master) -> int:
        """Our place among all Sentinels of ``master`` by ID, from 0: different for each of them."""
        return sum(1 for peer_id in master.peers if peer_id < self._state.options.my_id)

    @staticmethod
    def _may_campaign(peer: Peer, master: Master) -> bool:
        since = master.sdown_since
        return peer.reports_master_down or (since is not None and peer.opinion_at < since)

    def _leased(self, master: Master, candidate: str, now: Millis) -> bool:
        voted_at = master.voted_at
        if master.leader is None or master.leader == candidate or voted_at is None:
            return False
        failover = master.failover
        if master.leader == self._state.options.my_id:
            # Standing ourselves: hold on to our own candidacy, unless its epoch is lost or TILT keeps us from counting.
            if failover is None or failover.state is not FailoverState.WAIT_START:
                return failover is not None
            if candidate < self._state.options.my_id and self._state.in_mass_failure(now):
                # It comes before us, and has not heard of us in time: if nobody gave way, all of us would lose.
                return False
            return failover.campaign_again_at is None and not self._tilt.active
        if now >= voted_at + min(LEASE_LIMIT, master.options.failover_timeout):
            return False
        rival = master.peers.get(master.leader)
        return rival is not None and rival.link.commands_up and not rival.is_down

    def _sees_up(self, master: Master, now: Millis) -> bool:
        return (
            master.sdown_since is None
            and master.role_reported is Role.MASTER
            and master.link.commands_up
            and now - master.link.available_at <= max(master.options.down_after // 2, 1)
        )

    @staticmethod
    def _vote_epoch(master: Master) -> int | None:
        failover = master.failover
        if failover is None or failover.state is not FailoverState.WAIT_START or failover.campaign_again_at is not None:
            return None
        return failover.epoch

    def _ask_period(self, master: Master, peer: Peer) -> Millis:
        timings = self._state.timings
        since = master.sdown_since
        campaigning = since is not None and master.odown_since is None and peer.asked_at is not None
        if campaigning and since is not None and peer.asked_at is not None and peer.asked_at - since < CANDIDATE_WINDOW:
            return min(timings.hint_period, timings.ask_period)
        return timings.ask_period

    def _window_open(self, peer: Peer) -> bool:
        """May one more vote request go out on this link? If not, it goes when an answer comes."""
        link = peer.link
        if link.votes_in_flight < self._state.limits.votes_in_flight:
            link.votes_waiting.pop(peer, None)
            return True
        link.votes_waiting[peer] = None
        return False

    def _refill_window(self, link: InstanceLink, now: Millis) -> None:
        while link.votes_waiting and link.votes_in_flight < self._state.limits.votes_in_flight:
            peer = next(iter(link.votes_waiting))
            del link.votes_waiting[peer]
            if not peer.gone and peer.link is link and self._vote_epoch(peer.master) is not None:
                self.ask(peer, now)
