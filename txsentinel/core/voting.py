"""
Votes of this Sentinel, one per master and epoch, and whether the candidate really asked for it.

A vote is durable before it is sent or counted. A peer's vote counts only in the epoch of our campaign. Refusing a vote
can delay an election but never make it unsafe, so a Sentinel refuses in some cases; see :meth:`Voting.refusal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from txsentinel.core.effects import AskMasterDown
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.instances import Failover, Master, Peer
from txsentinel.core.pause_rules import described_pause, withholds_vote
from txsentinel.core.question import Question
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis

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

FORGED_REQUEST = "A vote request was forged"
UNCONFIRMED_CANDIDATE = "A candidate did not confirm that it is one"
"""The kind of log lines about that."""

DOUBT_PERIOD: Millis = 5_000
"""How long a peer gets no vote after a request in its name that it did not make, unless it confirms a later one."""


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


class VoteRefusal(NamedTuple):
    """Why a candidate gets no vote: a word, and a clause for the log."""

    code: str
    text: str


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
        down = master.sdown_since is not None and not self._tilt.is_suspected(now)
        if candidate == NO_CANDIDATE:
            return Vote(down, NO_CANDIDATE, 0)
        state = self._state
        acceptable = state.is_acceptable_epoch(epoch, now)
        if acceptable and state.storage_failing:
            state.journal.vote_answered("withheld", "storage_failing")
        elif acceptable:
            fresh = epoch > master.leader_epoch and (epoch > master.config_epoch or epoch >= state.current_epoch)
            if fresh and state.may_vote_in(epoch, now):
                reason = self.refusal(master, candidate, epoch, now)
                if reason is None:
                    if epoch > state.current_epoch:
                        state.adopt_epoch(epoch, master, now)
                    before = master.attempt_started_at
                    self.cast(master, candidate, epoch, now)
                    state.journal.vote_answered("granted")
                    if master.unconfirmed_since is None:
                        master.attempt_before, master.unconfirmed_since = before, now
                    self._have_confirmed(master, candidate, epoch, now)
                    if state.in_mass_failure(now):
                        master.unconfirmed_since = None
                else:
                    # The epoch of a refused request is not adopted, as any client can send one.
                    state.journal.vote_answered("refused", reason.code)
                    state.note_throttled(
                        f"No vote: {reason.text.split(' for ')[0]}",
                        f"No vote for {excerpt(candidate)} in epoch {epoch} on {master.name}: {reason.text}",
                        Level.NOTICE,
                    )
                    peer = master.peers.get(candidate)
                    state.journal.write_refused(
                        JournalKind.VOTE_REFUSED,
                        master.name,
                        now,
                        None if peer is None else candidate,
                        reason.code,
                        epoch,
                        reason.text,
                    )
                    if peer is not None and peer.doubted_until > now:
                        self._have_confirmed(master, candidate, epoch, now)
        if state.storage_failing and master.vote_generation > state.durable_generation:
            return Vote(down, NO_CANDIDATE, master.durable_leader_epoch)
        waits = master.vote_generation if master.vote_generation > state.durable_generation else 0
        return Vote(down, master.leader or NO_CANDIDATE, master.leader_epoch, waits, master.durable_leader_epoch)

    def refusal(self, master: Master, candidate: str, epoch: int, now: Millis) -> VoteRefusal | None:
        """
        Return why ``candidate`` gets no vote for ``master`` in ``epoch`` now; ``None`` if it may get one.

        C Sentinels vote for any candidate. Refusals make elections safer in these cases: an unknown candidate, which no
        majority counts; a peer in whose name a forged request arrived; a rival right after a vote, so that two leaders
        do not act at the same time; and, shortly after a switch with a short down-after, a C Sentinel that considers a
        master down which is up here. Neither txsentinels nor C Sentinels with a longer down-after consider a new master
        down because of the switch, and their request may be for a
        coordinated failover that an operator ordered. And any candidate while an operator has paused failovers, unless
        its election was admitted.
        """
        if candidate == self._state.options.my_id:
            return VoteRefusal("own_id", "it is this Sentinel")
        peer = master.peers.get(candidate)
        if peer is None:
            return VoteRefusal("unknown_candidate", "it is not a Sentinel that we know")
        if peer.doubted_until > now:
            return VoteRefusal("forged_before", "it did not ask for the last one that was asked for in its name")
        pause = withholds_vote(self._state, master.name, candidate, epoch, now)
        if pause is not None:
            return VoteRefusal("paused", described_pause(pause, now))
        if self._leased(master, candidate, now):
            return VoteRefusal(
                "voted_recently", f"our vote for {master.leader} in epoch {master.leader_epoch} is fresh"
            )
        fresh = master.switched_at is not None and now - master.switched_at < RECENT_SWITCH_PERIOD
        hasty = master.options.down_after < C_SAFE_DOWN_AFTER
        if fresh and hasty and not peer.is_txsentinel and self._sees_up(master, now):
            return VoteRefusal("master_up", "the master was switched a moment ago and is up")
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

    def check_candidacy(self, peer: Peer, asked: int, leader: str, epoch: int, now: Millis) -> None:
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
                FORGED_REQUEST,
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
        state.journal.write(JournalKind.VOTE_GIVEN, master.name, now, epoch=epoch, subject=candidate)
        if candidate == state.options.my_id:
            master.unconfirmed_since = None
        else:
            master.attempt_started_at = now + state.rng(1000)

    def restore(self, master: Master, epoch: int) -> None:
        """Take a vote in ``epoch`` as given and durable: from the file, or the current one for a new master."""
        master.leader_epoch = master.durable_leader_epoch = epoch

    def readmit(self, master: Master, before: Master) -> None:
        """Take over the last vote from ``before``, the same master before its removal, which was not saved."""
        master.leader, master.voted_at = before.leader, before.voted_at
        master.vote_generation, master.durable_leader_epoch = before.vote_generation, before.durable_leader_epoch

    @staticmethod
    def begin_attempt(master: Master, failover: Failover) -> None:
        """Record the start of our own attempt, which delays the next one."""
        failover.attempt_before, master.attempt_started_at = master.attempt_started_at, failover.started_at

    @staticmethod
    def void_attempt(master: Master, failover: Failover) -> None:
        """Let an attempt that turned out to be void not delay the next one."""
        if master.attempt_started_at == failover.started_at:
            master.attempt_started_at = failover.attempt_before

    def committed(self, master: Master, generation: int) -> None:
        """Record that the hard state up to ``generation`` is durable."""
        if master.vote_generation <= generation:
            master.durable_leader_epoch = master.leader_epoch

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
