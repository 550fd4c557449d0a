"""
Explains why a master is, or is not, failed over.

The explanation is a function of the present state, and changes nothing: the rules that decide are asked on a copy of
the state. Nothing is computed unless an explanation is requested.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core import deadlines
from txsentinel.core.availability import cause_of_sdown
from txsentinel.core.confirmation import Confirmations
from txsentinel.core.copied_state import CopiedState, copied_state, present_state
from txsentinel.core.crash_detection import CrashDetection
from txsentinel.core.failover import SELECT_TIMEOUT
from txsentinel.core.failover_start import Hindrance, StartRules
from txsentinel.core.failover_state import PROMOTION_SEEN, FailoverState
from txsentinel.core.findings import findings
from txsentinel.core.hindrances import hindrances
from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Replica
from txsentinel.core.quorum import agreeing_sentinels, is_reachable
from txsentinel.core.remedies import remedies
from txsentinel.core.selection import PREFERENCES, order_of_promotion, unfit_because
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.verdicts import phase_of, verdict_on
from txsentinel.core.vote_count import VoteCounter
from txsentinel.core.voting import NO_CANDIDATE
from txsentinel.model.address import Address
from txsentinel.model.explanation import (
    Agreement,
    AgreementVoter,
    Block,
    Election,
    ElectionVoter,
    Evidence,
    Explanation,
    ReplicaFitness,
    ReplicaView,
    SdownState,
    Timer,
    VerdictCode,
)
from txsentinel.model.snapshots import Endpoint, FailureReport, Instant
from txsentinel.model.timings import Millis

MAX_JOURNAL: Final = 10
"""Number of journal records that an explanation has unless another number is requested."""


class Explaining:
    """Makes explanations."""

    def __init__(
        self, state: SentinelState, tilt: TiltGuard, crashes: CrashDetection, confirmations: Confirmations
    ) -> None:
        self._state = state
        self._tilt = tilt
        self._crashes = crashes
        self._votes = VoteCounter(state)
        self._rules = StartRules(state, self._votes)
        self._confirmations = confirmations

    def explain(self, master: Master, now: Millis, wall_now: Millis, journal: int = MAX_JOURNAL) -> Explanation:
        """
        Return the explanation of ``master`` at ``now``.

        :param wall_now: the wall clock in milliseconds since 1970.
        :param journal: number of the latest journal records to include.
        """
        present = present_state(self._state, self._tilt, master, now)
        found = hindrances(present)
        replicas, because = _fitness(present, self._state.options.announce_hostnames)
        would_promote = next((each.name for each in replicas if each.rank == 1), None)
        failover = master.failover
        if failover is not None and failover.promoted is not None:
            would_promote, because = failover.promoted.name, "it was selected"
        report = _Report(present, wall_now - now, self._state.options.announce_hostnames, self._state.options.my_id)
        records = self._state.journal.records(master.name, 0, wall_now - now)
        return Explanation(
            verdict=verdict_on(present, found, would_promote),
            asked_at=Instant(wall_now),
            by=self._state.options.my_id,
            master=master.name,
            address=report.endpoint(self._state.durable_address(master)),
            config_epoch=self._state.durable_config_epoch(master),
            phase=phase_of(present, found),
            evidence=report.evidence(self._crashes.assess(master)[0].value),
            sdown=report.sdown(),
            agreement=report.agreement(),
            election=report.election(),
            replicas=replicas,
            timers=report.timers(found),
            blocked_by=tuple(Block(each.code, each.text, report.instant(each.until)) for each in found),
            unblock=tuple(remedies(present, lambda: copied_state(self._state, self._tilt, master, now), found)),
            would_promote=would_promote,
            would_promote_because=because,
            warnings=findings(present, self._confirmations.unconfirmed(master)),
            journal=records[max(0, len(records) - journal) :],
        )

    def verdict(self, master: Master, now: Millis) -> tuple[VerdictCode, Millis | None]:
        """
        Return the code of the verdict of :meth:`explain`, and when it may change without an input.

        Nothing is copied, as the rules only read, which takes a tenth of the time.

        :returns: ``None`` for the time if only an input can change it.
        """
        present = CopiedState(self._state, self._tilt, master, now, self._votes, self._rules)
        found = hindrances(present)
        ends = [each.until for each in found if each.until is not None and each.until > now]
        return verdict_on(present, found, None).code, min(ends, default=None)


def _fitness(present: CopiedState, by_hostname: bool) -> tuple[tuple[ReplicaFitness, ...], str | None]:
    """Return all replicas, the fit ones first in the order of promotion, and why the first of them is preferred."""
    master, timings, now = present.master, present.state.timings, present.now
    reasons = [(replica, unfit_because(replica, master, timings, now)) for replica in master.replicas.values()]
    fit = sorted((replica for replica, reason in reasons if reason is None), key=order_of_promotion)
    places = {replica.name: rank for rank, replica in enumerate(fit, 1)}
    made = [
        ReplicaFitness(
            name=replica.name,
            address=Endpoint(replica.address.announced(by_hostname), replica.address.port),
            fit=reason is None,
            unfit=reason,
            priority=replica.priority,
            offset=replica.repl_offset,
            run_id=replica.run_id,
            rank=places.get(replica.name),
        )
        for replica, reason in reasons
    ]
    made.sort(key=_place)
    return tuple(made), _because(fit)


def _place(fitness: ReplicaFitness) -> tuple[bool, int, str]:
    return fitness.rank is None, fitness.rank or 0, fitness.name


def _because(fit: list[Replica]) -> str | None:
    """Return why the first of the fit replicas is preferred to the second."""
    if not fit:
        return None
    if len(fit) == 1:
        return "it is the only replica that may be promoted"
    keys = zip(PREFERENCES, order_of_promotion(fit[0]), order_of_promotion(fit[1]), strict=True)
    preference = next((preference for preference, first, second in keys if first != second), None)
    return None if preference is None else f"compared with {fit[1].name}: {preference}"


class _Report:
    """Parts of an explanation that show the state as it is."""

    def __init__(self, present: CopiedState, wall_offset: Millis, by_hostname: bool, my_id: str) -> None:
        self._copied = present
        self._master = present.master
        self._now = present.now
        self._wall_offset = wall_offset
        self._by_hostname = by_hostname
        self._my_id = my_id

    def instant(self, at: Millis | None) -> Instant | None:
        """Return a point in time of the monotonic clock on the wall clock."""
        return None if at is None else Instant(at + self._wall_offset)

    def endpoint(self, address: Address) -> Endpoint:
        """Return an address as clients get it."""
        return Endpoint(address.announced(self._by_hostname), address.port)

    def _failure(self, link: InstanceLink) -> FailureReport | None:
        failure = link.failure
        if failure is None:
            return None
        return FailureReport(failure.failure_class.value, failure.error, Instant(failure.at + self._wall_offset))

    def evidence(self, crash: str) -> Evidence:
        """Return what was observed of the master."""
        master, link, now = self._master, self._master.link, self._now
        answered = link.last_reply_at > link.created_at
        refusal = link.refusals.get("PING")
        replicas = tuple(
            ReplicaView(
                name=each.name,
                master_link_up=each.master_link_up,
                master_link_down_ms=each.master_link_down_for if each.master_link_down_for >= 0 else None,
                info_age_ms=None if each.info_refreshed_at is None else now - each.info_refreshed_at,
            )
            for each in master.replicas.values()
        )
        return Evidence(
            last_ok_ping_at=self.instant(link.available_at) if link.available_at > link.created_at else None,
            last_reply_at=self.instant(link.last_reply_at) if answered else None,
            last_info_at=self.instant(master.info_refreshed_at),
            connected=link.commands_up,
            failure=self._failure(link),
            last_error_reply=refusal.error if refusal is not None else None,
            crash=crash,
            replicas=replicas,
        )

    def sdown(self) -> SdownState:
        """Return the opinion of this Sentinel."""
        master = self._master
        why = None if master.sdown_since is None else cause_of_sdown(master, self._now)
        return SdownState(self.instant(master.sdown_since), master.options.down_after, why)

    def agreement(self) -> Agreement:
        """Return the opinions of all Sentinels."""
        master, now = self._master, self._now
        down = master.sdown_since is not None
        me = AgreementVoter(self._my_id, None, "self", True, None, None, down, 0 if down else None, None)
        voters = [me]
        for peer in master.peers.values():
            asked = peer.opinion_at > 0
            expires = deadlines.opinion(peer, self._copied.state.timings) + 1 - now
            voters.append(
                AgreementVoter(
                    sentinel_id=peer.name,
                    address=self.endpoint(peer.address),
                    kind=_kind(peer),
                    reachable=is_reachable(peer),
                    down_since=self.instant(peer.sdown_since),
                    failure=self._failure(peer.link),
                    reports_down=peer.reports_master_down,
                    age_ms=now - peer.opinion_at if asked else None,
                    expires_in_ms=max(0, expires) if peer.reports_master_down else None,
                )
            )
        have = agreeing_sentinels(master) if down else 0
        return Agreement(master.options.quorum, have, self.instant(master.odown_since), tuple(voters))

    def election(self) -> Election | None:
        """Return the present election, or the last one."""
        master, failover = self._master, self._master.failover
        record = master.diagnosis.election
        if record is None:
            return None
        campaigning = failover is not None and failover.state is FailoverState.WAIT_START
        if campaigning:
            count = self._copied.votes.count(master)
        else:
            count = self._copied.votes.count_answers(master, record.answers, record.epoch, 1)
        is_open = campaigning and failover is not None and failover.campaign_again_at is None
        outcome = "won" if record.won else "open" if is_open else "lost"
        return Election(
            epoch=record.epoch,
            needed=record.needed,
            mine=count.granted,
            open=count.outstanding if is_open else 0,
            outcome=outcome,
            candidacies=record.candidacies,
            at=Instant(record.asked_at + self._wall_offset),
            voters=tuple(self._voter(peer, campaigning=is_open) for peer in master.peers.values()),
        )

    def _voter(self, peer: Peer, *, campaigning: bool) -> ElectionVoter:
        """Return the vote of one peer in the recorded election."""
        record = self._master.diagnosis.election
        assert record is not None
        reachable = is_reachable(peer) if campaigning else peer.name in record.reachable
        asked_at = self.instant(record.asked_at) if peer.name in record.reachable else None
        answer = record.answers.get(peer.name)
        if answer is None:
            reason = "it did not answer" if reachable else "it could not be reached"
            failure = peer.link.failure
            if not reachable and failure is not None:
                reason += f": {failure}"
            return ElectionVoter(peer.name, reachable, asked_at, None, None, reason)
        leader, epoch = answer
        reason = ""
        if leader == NO_CANDIDATE:
            reason = "it voted for nobody"
        elif leader != self._my_id or epoch != record.epoch:
            reason = f"it voted for {leader} in epoch {epoch}"
            reason += " before it was asked" if epoch <= record.epoch else ", a later one"
        if reason and not peer.is_txsentinel:
            reason += "; a C Sentinel gives no reason"
        vote = None if leader == NO_CANDIDATE else leader
        return ElectionVoter(peer.name, reachable, asked_at, vote, epoch, reason or None)

    def timers(self, found: list[Hindrance]) -> tuple[Timer, ...]:
        """Return what happens by the passing of time, the earliest first."""
        master, now = self._master, self._now
        due: list[tuple[str, Millis]] = []
        silence = deadlines.silence(master.link, master.options.down_after)
        if master.sdown_since is None and master.link.silent_for(now) > master.link.outage_limit:
            due.append(("sdown", silence + 1))
        for each in found:
            if each.until is not None:
                due.append((_TIMERS.get(each.code, each.code.value), each.until))
        for peer in master.peers.values():
            if peer.reports_master_down:
                due.append((f"opinion_expires {peer.name}", deadlines.opinion(peer, self._copied.state.timings) + 1))
        failover = master.failover
        if failover is not None:
            if failover.state is FailoverState.WAIT_START:
                timings = self._copied.state.timings
                length = min(timings.election_timeout, master.options.failover_timeout)
                due.append(("election_ends", failover.started_at + length + 1))
                if failover.campaign_again_at is not None:
                    due.append(("campaign_again", failover.campaign_again_at))
            elif failover.state is FailoverState.SELECT_REPLICA:
                timeout = min(SELECT_TIMEOUT, master.options.failover_timeout)
                due.append(("select_timeout", failover.entered_at + timeout))
            elif failover.state not in PROMOTION_SEEN:
                due.append(("step_timeout", deadlines.failover_state(master, failover) + 1))
        due.sort(key=_due_at)
        return tuple(Timer(what, Instant(at + self._wall_offset), max(0, at - now)) for what, at in due)


_TIMERS: Final = {
    VerdictCode.TILT: "tilt_ends",
    VerdictCode.PAUSED: "pause_ends",
    VerdictCode.ATTEMPT_TOO_RECENT: "next_attempt",
    VerdictCode.VOTED_FOR_OTHER: "next_attempt",
    VerdictCode.LOST_TO_RIVAL: "next_attempt",
    VerdictCode.VOTE_SPLIT: "next_attempt",
    VerdictCode.RECENTLY_FAILED_OVER: "failover_block_ends",
    VerdictCode.RETURN_AWAITED: "return_awaited",
    VerdictCode.NOT_OUR_TURN: "campaign",
    VerdictCode.OFFSETS_PENDING: "offsets",
}
"""The names of the timers of hindrances that end by themselves."""


def _due_at(timer: tuple[str, Millis]) -> Millis:
    return timer[1]


def _kind(instance: Instance) -> str:
    return "txsentinel" if isinstance(instance, Peer) and instance.is_txsentinel else "c"
