"""Campaigns of this Sentinel to lead the failover of a master: requesting votes, counting them, and the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from txsentinel.core.diagnosis_state import ElectionRecord
from txsentinel.core.fan_out import FanOut, PeerAnswer
from txsentinel.core.instances import Failover, Master
from txsentinel.core.pause_rules import pause_of
from txsentinel.core.questions import Questions
from txsentinel.core.quorum import is_reachable, votes_needed
from txsentinel.core.state import SentinelState
from txsentinel.core.vote_count import VoteCounter
from txsentinel.core.voting import Voting
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import data

FORCED_ELECTION_TIMEOUT: Final[Millis] = 500
"""How long a forced failover waits for votes before it proceeds without them."""


ADMISSION_PERIOD: Final[Millis] = 30_000
"""How long paused peers may vote for a candidate that an operator's order made one."""


def _ignore(answers: Sequence[PeerAnswer]) -> None:
    """The answers do not matter, as the votes show what has arrived."""


class ElectionStatus(Enum):
    """The state of an election."""

    OPEN = "open"
    WON = "won"
    GIVEN_UP = "given up"


class Elections:
    """The campaigns of this Sentinel."""

    def __init__(
        self, state: SentinelState, voting: Voting, questions: Questions, votes: VoteCounter, fan_out: FanOut
    ) -> None:
        self._state = state
        self._voting = voting
        self._questions = questions
        self._votes = votes
        self._fan_out = fan_out

    def campaign(self, master: Master, failover: Failover, now: Millis) -> None:
        """Become a candidate, in a new epoch or in one shared with other masters that failed at the same time."""
        state = self._state
        shared = not (failover.forced or failover.planned or failover.republish)
        failover.epoch = epoch = state.fresh_epoch(now, above=master.leader_epoch, shared=shared)
        failover.started_at = now + state.rng(1000)
        if failover.forced:
            failover.proceed_unelected_at = now + FORCED_ELECTION_TIMEOUT
        state.announce_text("+new-epoch", str(epoch), master)
        if not failover.republish:
            self._voting.begin_attempt(master, failover)
            state.announce("+try-failover", master)
        self._record_campaign(master, failover, now)
        self._request_votes(master, failover, now)

    def void(self, master: Master, failover: Failover) -> None:
        """Handle that the attempt turned out to be void: it does not delay the next one."""
        self._voting.void_attempt(master, failover)

    def assess(self, master: Master, failover: Failover, now: Millis) -> ElectionStatus:
        """Count the votes. If this epoch is lost but another can be won, campaign again after a delay."""
        state = self._state
        durable = self._vote_durable(failover)
        unsaved = state.storage_failing and (not durable or failover.campaign_again_at is not None)
        if unsaved or (failover.republish and master.is_down):
            return ElectionStatus.GIVEN_UP
        if failover.campaign_again_at is not None:
            if now > self._end(master, failover):
                return ElectionStatus.GIVEN_UP
            if now >= failover.campaign_again_at:
                above = max(master.leader_epoch, self._votes.highest_answer(master, now))
                epoch = state.fresh_epoch(now, above=above, shared=not failover.republish)
                self._campaign_again(master, failover, now, epoch)
            return ElectionStatus.OPEN
        count = self._votes.count(master)
        # Even with enough votes of others, our own must be durable: a crash must not lose an epoch in which we act.
        if count.won and durable:
            self._record_won(master, failover)
            return ElectionStatus.WON
        if failover.forced and durable:
            return self._assess_forced(master, failover, now)
        if now > self._end(master, failover):
            return ElectionStatus.GIVEN_UP
        # A forced failover needs no majority, so it never campaigns again for one.
        hopeless = count.lost and count.should_retry and not failover.forced and not count.should_concede
        if hopeless and failover.candidacies < state.limits.candidacies:
            # Ordered by ID: with random delays alone, candidates would split the votes again.
            backoff = state.timings.candidate_backoff << (failover.candidacies - 1)
            wait = self._votes.position_by_id(master) * (backoff + state.stagger(now))
            failover.campaign_again_at = now + wait + state.rng(backoff)
        return ElectionStatus.OPEN

    def next_due(self, master: Master, failover: Failover) -> Millis:
        """Return when :meth:`assess` must be called even if nothing else happens."""
        due = self._end(master, failover) + 1
        if failover.campaign_again_at is not None:
            return min(due, failover.campaign_again_at)
        if failover.proceed_unelected_at is not None and self._vote_durable(failover):
            due = min(due, failover.proceed_unelected_at)
        return due

    def _assess_forced(self, master: Master, failover: Failover, now: Millis) -> ElectionStatus:
        """
        Lead without a majority, as the operator ordered.

        Two Sentinels that receive such an order at the same time must not use one epoch for two configurations.
        Therefore votes are requested all the same. Without a majority, the epoch is one that no other Sentinel of the
        group would choose: modulo their number, it equals our position among them by ID.
        """
        waiting = self._votes.awaited(master) > 0
        if waiting and failover.proceed_unelected_at is not None and now < failover.proceed_unelected_at:
            return ElectionStatus.OPEN
        if self._votes.count(master).should_concede:
            return ElectionStatus.GIVEN_UP
        if failover.proceed_unelected_at is None:
            self._record_won(master, failover)
            return ElectionStatus.WON
        failover.proceed_unelected_at = None
        lowest = self._state.current_epoch + 2
        epoch = lowest + (self._votes.position_by_id(master) - lowest) % master.voters
        self._state.raise_epoch(epoch)
        self._campaign_again(master, failover, now, epoch)
        return ElectionStatus.OPEN

    def _campaign_again(self, master: Master, failover: Failover, now: Millis, epoch: int) -> None:
        failover.campaign_again_at = None
        failover.candidacies += 1
        failover.epoch = epoch
        self._state.announce_text("+new-epoch", str(epoch), master)
        self._record_campaign(master, failover, now)
        self._request_votes(master, failover, now)

    def _record_campaign(self, master: Master, failover: Failover, now: Millis) -> None:
        switchover = failover.operation is not None
        kinds = (
            (switchover, "switchover"),
            (failover.forced, "forced"),
            (failover.coordinated, "coordinated"),
            (failover.republish, "republish"),
        )
        code = next((word for applies, word in kinds if applies), "automatic")
        data = (("candidacies", failover.candidacies),)
        self._state.journal.write(JournalKind.CAMPAIGN, master.name, now, epoch=failover.epoch, code=code, data=data)

    def _request_votes(self, master: Master, failover: Failover, now: Millis) -> None:
        failover.answers = {}
        if not failover.automatic and pause_of(self._state, master.name, now) is not None:
            # On the same connections as the vote requests, so they arrive before these.
            words = ("ADMIT", master.name, self._state.options.my_id, failover.epoch, ADMISSION_PERIOD)
            request = [data(str(word)) for word in ("TXSENTINEL", *words)]
            self._fan_out.send(self._fan_out.peers(master.name), request, now, _ignore)
        self._voting.cast(master, self._state.options.my_id, failover.epoch, now)
        failover.vote_generation = master.vote_generation
        self._questions.ask_all(master, now)
        reachable = frozenset(peer.name for peer in master.peers.values() if is_reachable(peer))
        master.diagnosis.election = ElectionRecord(
            failover.epoch, votes_needed(master), failover.candidacies, now, reachable, failover.answers
        )

    @staticmethod
    def _record_won(master: Master, failover: Failover) -> None:
        record = master.diagnosis.election
        if record is not None and record.epoch == failover.epoch:
            record.won = True

    def _vote_durable(self, failover: Failover) -> bool:
        generation = failover.vote_generation
        return generation is not None and generation <= self._state.durable_generation

    def _end(self, master: Master, failover: Failover) -> Millis:
        return failover.started_at + min(self._state.timings.election_timeout, master.options.failover_timeout)
