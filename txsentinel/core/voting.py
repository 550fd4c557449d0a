"""
Agreement and votes: questions to peers, replies to them, one vote per master and epoch, and counting.

A vote is durable before it is sent or counted. A peer's vote counts only in the epoch of our campaign. Refusing a vote
can delay an election but never make it unsafe, so a Sentinel refuses in some cases; see :meth:`Voting.refusal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
"""Maximum period after a vote in which rivals of the candidate are refused, even in a newer epoch."""

RECENT_SWITCH_PERIOD: Millis = 5_000
"""Period after a switch in which candidates are refused that consider a master down which is up here."""

C_RETRY: Final[Millis] = 1_050
"""Interval at which a C Sentinel tries to reconnect to a dead master: its PING period plus half a timer tick."""

C_MARGIN: Final[Millis] = 200
"""Margin for the inaccuracy of ``C_RETRY``."""

C_SAFE_DOWN_AFTER: Final[Millis] = C_RETRY + C_MARGIN - 50
"""The down-after from which on a C Sentinel does not consider a new master down because of the switch."""

UNCONFIRMED_CANDIDATE = "A candidate did not confirm that it is one"
"""The kind of log lines that say so."""

DOUBT_PERIOD: Millis = 5_000
"""How long a peer gets no vote after a request in its name that it did not make, unless it confirms a later one."""

CANDIDATE_WINDOW: Millis = 5_000
"""Period after S_DOWN in which peers are asked every ``hint_period`` while the master is not O_DOWN."""


@dataclass(frozen=True, slots=True)
class Vote:
    """A reply to ``is-master-down-by-addr``; it must not be sent before ``generation`` is durable."""

    down: bool
    leader: str
    leader_epoch: int
    generation: int = 0
    durable_epoch: int = 0

    def fallback(self) -> Vote:
        """Return the reply for when the vote cannot be saved: no vote, and the latest durable epoch."""
        return Vote(self.down, NO_CANDIDATE, self.durable_epoch)


@dataclass(frozen=True, slots=True)
class VoteCount:
    """
    The count of our election.

    ``mine`` is the number of votes for us, ``open`` that of reachable voters that have not answered, ``rival`` the
    highest number of votes for another candidate in the same epoch, ``reach`` the number of reachable voters including
    ourselves, and ``needed`` the greater of majority and quorum.
    """

    mine: int
    open: int
    rival: int
    reach: int
    needed: int

    @property
    def won(self) -> bool:
        """Whether this Sentinel is the leader."""
        return self.mine >= self.needed

    @property
    def lost(self) -> bool:
        """Whether this epoch cannot be won any more, unless unreachable peers return."""
        return self.mine + self.open < self.needed

    @property
    def should_retry(self) -> bool:
        """Whether enough voters are reachable to win another epoch."""
        return self.reach >= self.needed

    @property
    def should_concede(self) -> bool:
        """Whether another candidate has enough votes to lead."""
        return self.rival >= self.needed


class Voting:
    """Epochs and votes of all masters."""

    def __init__(self, state: SentinelState, registry: Registry, tilt: TiltGuard) -> None:
        self._state = state
        self._registry = registry
        self._tilt = tilt

    def requested(self, host: str, port: int, epoch: int, candidate: str, now: Millis) -> Vote:
        """Answer a question about a master, or a vote request; the sender may be any client."""
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
                    before = master.attempt_started_at
                    self.cast(master, candidate, epoch, now)
                    if master.unconfirmed_since is None:
                        master.attempt_before, master.unconfirmed_since = before, now
                    self._have_confirmed(master, candidate, epoch, now)
                    if state.in_mass_failure(now):
                        master.unconfirmed_since = None
                else:
                    # The epoch of a refused request is not adopted, as any client can send one.
                    state.note_throttled(
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
        Return why ``candidate`` gets no vote for ``master`` now; ``None`` if it may get one.

        C Sentinels vote for any candidate. Refusals make elections safer in these cases: an unknown candidate, which no
        majority counts; a peer in whose name a forged request arrived; a rival right after a vote, so that two leaders
        do not act at the same time; and, shortly after a switch with a short down-after, a C Sentinel that considers a
        master down which is up here. Neither txsentinels nor C Sentinels with a longer down-after consider a new master
        down because of the switch, and their request may be for a
        coordinated failover that an operator ordered.
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
        fresh = master.switched_at is not None and now - master.switched_at < RECENT_SWITCH_PERIOD
        hasty = master.options.down_after < C_SAFE_DOWN_AFTER
        if fresh and hasty and not peer.is_txsentinel and self._sees_up(master, now):
            return "the master was switched a moment ago and is up"
        return None

    def _have_confirmed(self, master: Master, candidate: str, epoch: int, now: Millis) -> None:
        """
        Ask ``candidate`` whether it really requested our vote, unless it cannot be asked now.

        Any client can send a vote request. A vote for a Sentinel that is no candidate would make this Sentinel refuse
        real ones for ``LEASE_LIMIT``, and would delay its own next attempt for two failover timeouts. A candidate votes
        for itself before it requests votes; the reply to a vote request in epoch 0 shows that vote. During a mass
        failure no candidate is asked.
        """
        peer = master.peers[candidate]
        if (
            not peer.link.commands_up
            or self._state.in_mass_failure(now)
            or len(peer.asked) >= self._state.limits.questions
        ):
            return
        if any(question.candidacy is not None for question in peer.asked):
            return
        peer.asked.append(Question(master.address, None, epoch))
        host = master.address.announced(self._state.options.announce_hostnames)
        self._state.emit(AskMasterDown(peer.link, master, host, master.address.port, 0, candidate), probe=True)

    def _check_candidacy(self, peer: Peer, asked: int, leader: str, epoch: int, now: Millis) -> None:
        """
        Handle a peer's report of its own vote, after a vote request in its name.

        A C Sentinel may request votes in an epoch above that of its own vote. After a restart, a Sentinel knows the
        epoch of its vote but not the candidate.
        """
        master = peer.master
        genuine = epoch > asked or (epoch == asked and leader in (peer.name, NO_CANDIDATE))
        genuine = genuine or (leader == peer.name and not peer.is_txsentinel)
        if genuine:
            peer.doubted_until = 0
        else:
            peer.doubted_until = now + DOUBT_PERIOD
            self._state.note_throttled(
                "A vote request was forged",
                f"A vote request for {master.name} in epoch {asked} in the name of {peer.name} was not sent by it",
            )
        if master.leader == peer.name and master.unconfirmed_since is not None:
            if genuine:
                master.unconfirmed_since = None
            elif asked < master.leader_epoch:
                # An earlier request was forged. The one that was granted may be genuine.
                self._have_confirmed(master, peer.name, master.leader_epoch, now)
            else:
                self._unbind(master)

    def unconfirmed_until(self, master: Master) -> Millis | None:
        """Return when a vote whose candidate has not confirmed expires, or ``None`` if there is no such vote."""
        if master.unconfirmed_since is None:
            return None
        return master.unconfirmed_since + min(self._state.timings.election_timeout, master.options.failover_timeout)

    def expire_unconfirmed(self, master: Master, now: Millis) -> None:
        """
        Stop delaying our own attempt for votes whose candidates have not confirmed in time that they are candidates.

        They may be down, and any client can request votes in their names, again and again. So the time is counted from
        the first such vote.
        """
        until = self.unconfirmed_until(master)
        if until is None or now < until:
            return
        self._unbind(master)
        self._state.note_throttled(
            UNCONFIRMED_CANDIDATE,
            f"{master.leader} has not confirmed that it asked for our vote in epoch {master.leader_epoch} "
            f"on {master.name}",
            Level.NOTICE,
        )

    @staticmethod
    def _unbind(master: Master) -> None:
        """Undo what the latest votes for others changed besides the vote itself: the delay of our own attempt."""
        master.attempt_started_at, master.voted_at, master.unconfirmed_since = master.attempt_before, None, None

    def cast(self, master: Master, candidate: str, epoch: int, now: Millis) -> None:
        """Vote for ``candidate``. There is at most one vote per master and epoch, for ever."""
        state = self._state
        master.leader = candidate
        master.leader_epoch = epoch
        master.voted_at = now
        master.vote_generation = state.changed(master)
        state.announce_text("+vote-for-leader", f"{candidate} {epoch}", master, binding=True)
        if candidate == state.options.my_id:
            master.unconfirmed_since = None
        else:
            master.attempt_started_at = now + state.rng(1000)

    def committed(self, master: Master, generation: int) -> None:
        """Record that the hard state up to ``generation`` is durable."""
        if master.vote_generation <= generation:
            master.durable_leader_epoch = master.leader_epoch

    def ask_all(self, master: Master, now: Millis) -> None:
        """Ask every connected peer that has no unanswered question of the same content."""
        for peer in master.peers.values():
            self.ask(peer, now)

    def ask(self, peer: Peer, now: Millis) -> None:
        """Ask one peer for its opinion or, during a campaign, for its vote."""
        if not peer.link.commands_up:
            return
        master = peer.master
        epoch = self._vote_epoch(master)
        question = Question(master.address, epoch)
        # Set even if no question is sent below: the next attempt is due a period later.
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
        """Return when a peer of a master that is S_DOWN must be asked again."""
        if peer.asked_at is None:
            return 0
        return peer.asked_at + self._ask_period(peer.master, peer)

    def answered(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> Peer | None:
        """
        Handle a reply to a question; return the peer that sent it, or ``None`` if the reply is ignored.

        Only an array of integer, bulk string, integer is valid. A reply about an address that the master has left is
        ignored, as it says nothing about the current one.
        """
        # Search the peers of the master, as a thousand peers may share the link.
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
        """Discard opinions and reported votes that are older than five ask periods, even if the master is up."""
        limit = 5 * self._state.timings.ask_period
        for peer in master.peers.values():
            if now - peer.opinion_at > limit:
                peer.reports_master_down = False
                peer.leader = None

    def forget_opinions(self, master: Master) -> None:
        """Discard the opinions of all peers, as the master moved to another address or was reset."""
        for peer in master.peers.values():
            peer.reports_master_down = False
            peer.leader = None
            peer.asked_at = None

    def count(self, master: Master) -> VoteCount:
        """Return the count of our election for ``master``; only votes in the epoch of the campaign count."""
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
        """Return the highest epoch in the replies to our vote requests, up to which peers have voted."""
        failover = master.failover
        assert failover is not None
        return max((epoch for _, epoch in failover.answers.values() if self._state.sane_epoch(epoch, now)), default=0)

    def awaited(self, master: Master) -> int:
        """Return how many connected peers have not answered our vote request in this epoch."""
        failover = master.failover
        assert failover is not None
        return sum(1 for peer in master.peers.values() if peer.link.commands_up and peer.name not in failover.answers)

    def rank(self, master: Master) -> int:
        """Return how many live peers with lower IDs may consider ``master`` down, too; they campaign before us."""
        me = self._state.options.my_id
        return sum(
            1
            for peer in master.peers.values()
            if peer.name < me and self._may_campaign(peer, master) and peer.link.commands_up and not peer.is_down
        )

    def place(self, master: Master) -> int:
        """Return our position among all Sentinels of ``master`` by ID, from 0; it is unique."""
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
            # Keep our vote for ourselves, unless its epoch is lost or TILT prevents counting.
            if failover is None or failover.state is not FailoverState.WAIT_START:
                return failover is not None
            if candidate < self._state.options.my_id and self._state.in_mass_failure(now):
                # It has precedence but did not receive our request in time; if no candidate concedes, all lose.
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
        """Return whether a vote request may be sent now; if not, it is sent when a reply to another one arrives."""
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
