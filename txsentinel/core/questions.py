"""
Questions to peers about masters, and requests for their votes: when they are sent, and what the replies change.

A peer's vote counts only in the epoch of our campaign. The number of unanswered vote requests on a link is limited.
"""

from __future__ import annotations

from txsentinel.core import deadlines
from txsentinel.core.effects import AskMasterDown
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.instances import InstanceLink, Master, Peer
from txsentinel.core.question import Question
from txsentinel.core.state import SentinelState
from txsentinel.core.voting import NO_CANDIDATE, Voting
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import text

CANDIDATE_WINDOW: Millis = 5_000
"""Period after S_DOWN in which peers are asked every ``hint_period`` while the master is not O_DOWN."""


class Questions:
    """Asks peers, and keeps their opinions and votes."""

    def __init__(self, state: SentinelState, voting: Voting) -> None:
        self._state = state
        self._voting = voting

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
            kind = "txsentinel" if peer.is_txsentinel else "c"
            self._state.journal.vote_requested(master.name, now, peer.name, epoch, kind)
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
        ignored, as it does not concern the current one.
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
        if not self._state.is_valid_id(leader):
            return None
        peer.opinion_at = now
        peer.reports_master_down = down == 1
        if question.candidacy is not None:
            self._voting.check_candidacy(peer, question.candidacy, leader, epoch, now)
            return peer
        failover = master.failover
        if failover is not None and question.vote_epoch == failover.epoch:
            if failover.answers.get(peer.name) != (leader, epoch):
                self._record_vote(master, peer, leader, epoch, now)
            failover.answers[peer.name] = (leader, epoch)
        if (
            leader != NO_CANDIDATE
            and self._state.is_acceptable_epoch(epoch, now)
            and (peer.voted_leader, peer.voted_leader_epoch) != (leader, epoch)
        ):
            peer.voted_leader, peer.voted_leader_epoch = leader, epoch
            self._state.note(Level.NOTICE, f"{peer.name} voted for {leader} {epoch}")
        return peer

    def _record_vote(self, master: Master, peer: Peer, leader: str, epoch: int, now: Millis) -> None:
        failover = master.failover
        granted = failover is not None and leader == self._state.options.my_id and epoch == failover.epoch
        code = "granted" if granted else "none" if leader == NO_CANDIDATE else "other"
        data = (("leader", leader),)
        self._state.journal.write(
            JournalKind.VOTE_RECEIVED, master.name, now, epoch=epoch, subject=peer.name, code=code, data=data
        )

    def expire_opinions(self, master: Master, now: Millis) -> None:
        """Discard opinions and reported votes that have expired, even if the master is up."""
        for peer in master.peers.values():
            if now > deadlines.opinion(peer, self._state.timings):
                if peer.reports_master_down or peer.voted_leader is not None:
                    self._state.touch(master)
                peer.reports_master_down = False
                peer.voted_leader = None

    def forget_opinions(self, master: Master) -> None:
        """Discard the opinions of all peers, as the master moved to another address or was reset."""
        for peer in master.peers.values():
            peer.reports_master_down = False
            peer.voted_leader = None
            peer.asked_at = None

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
