"""The verdict on a master: one code and one sentence, and the phase in which it is."""

from __future__ import annotations

from txsentinel.core.conditions import seconds
from txsentinel.core.copied_state import CopiedState
from txsentinel.core.failover_start import Hindrance
from txsentinel.core.failover_state import PROMOTION_SEEN, FailoverState
from txsentinel.core.hindrances import CAMPAIGN_CODES, described_peer, is_lasting
from txsentinel.core.instances import Failover, Master, Peer
from txsentinel.model.explanation import Phase, Verdict, VerdictCode
from txsentinel.model.failure import FailureClass

_REPLICA_CODES = frozenset(
    {
        VerdictCode.NO_REPLICAS,
        VerdictCode.NO_FIT_REPLICA,
        VerdictCode.ALL_PRIORITY_ZERO,
        VerdictCode.MONITORS_REPLICA,
        VerdictCode.NOT_PERMITTED,
        VerdictCode.AUTH_FAILING,
    }
)

_MAJORITY_CODES = frozenset(
    {VerdictCode.MAJORITY_UNREACHABLE, VerdictCode.MAJORITY_COUNTS_GHOSTS, VerdictCode.QUORUM_UNREACHABLE}
)


def verdict_on(present: CopiedState, found: list[Hindrance], would_promote: str | None) -> Verdict:
    """
    Return the verdict.

    :param found: the hindrances.
    :param would_promote: the replica that would be promoted now.
    """
    master, now = present.master, present.now
    who = f"{master.name} {master.address.joined()}"
    tilt = _first(found, frozenset({VerdictCode.TILT}))
    if tilt is not None:
        return Verdict(VerdictCode.TILT, f"{who}: {tilt.text}")
    failover = master.failover
    if failover is not None and not failover.republish:
        return _on_failover(present, failover, found)
    paused = _first(found, frozenset({VerdictCode.PAUSED}))
    if master.sdown_since is None:
        return _on_running(master, found, would_promote, paused)
    if paused is not None:
        text = f"{who} has been down for {seconds(now - master.sdown_since)} and is not failed over: {paused.text}"
        return Verdict(VerdictCode.PAUSED, text)
    down = f"{who} has been down for {seconds(now - master.sdown_since)}"
    newer = newer_configuration(master)
    if newer is not None:
        text = f"{down} and is not failed over: {described_peer(newer)} announces a newer configuration of it"
        return Verdict(VerdictCode.CONFIG_NEWER_ELSEWHERE, text)
    first = next((each for each in found if is_lasting(each)), None) or next(iter(found), None)
    if first is None:
        return Verdict(VerdictCode.AGREED_WAITING, f"{down}, and its failover begins now")
    return Verdict(first.code, f"{down} and is not failed over: {first.text}")


def _first(found: list[Hindrance], codes: frozenset[VerdictCode]) -> Hindrance | None:
    return next((each for each in found if each.code in codes), None)


def _on_failover(present: CopiedState, failover: Failover, found: list[Hindrance]) -> Verdict:
    master = present.master
    led = f"{master.name} {master.address.joined()} is being failed over by this Sentinel in epoch {failover.epoch}"
    promoted = failover.promoted
    if promoted is not None:
        if failover.state in PROMOTION_SEEN:
            text = f"{master.name} was switched to {promoted.address.joined()}, and its replicas are being reconfigured"
            return Verdict(VerdictCode.SWITCHED, text)
        return Verdict(VerdictCode.PROMOTING, f"{led}: {promoted.name} is being promoted")
    if failover.state is not FailoverState.WAIT_START:
        unfit = _first(found, _REPLICA_CODES)
        if unfit is not None:
            return Verdict(unfit.code, f"{led}, but {unfit.text}")
        return Verdict(VerdictCode.PROMOTING, f"{led}: a replica is being selected")
    count = present.votes.count(master)
    votes = f"it has {count.granted} of {count.needed} votes"
    if not failover.forced:
        missing = _first(found, _MAJORITY_CODES)
        if missing is not None:
            text = f"{master.name} {master.address.joined()} cannot be failed over: {missing.text}"
            return Verdict(missing.code, text)
    code = VerdictCode.ELECTING
    if failover.campaign_again_at is not None:
        if count.rival:
            code = VerdictCode.VOTE_SPLIT
            votes += f", and another candidate {count.rival}"
        votes += f"; it campaigns again in {seconds(max(0, failover.campaign_again_at - present.now))}"
    return Verdict(code, f"{led}: {votes}")


def _on_running(master: Master, found: list[Hindrance], would_promote: str | None, paused: Hindrance | None) -> Verdict:
    who = f"{master.name} {master.address.joined()}"
    refusal = master.link.refusals.get("AUTH") or master.link.refusals.get("PING")
    if not master.link.ping_refused:
        refusal = None
    if refusal is not None and refusal.failure_class is FailureClass.AUTH:
        text = f"{who} cannot be judged: it answered {refusal.error}; is auth-pass right?"
        return Verdict(VerdictCode.AUTH_FAILING, text)
    if refusal is not None and refusal.failure_class is FailureClass.NOPERM:
        text = f"{who} cannot be judged: it answered {refusal.error}; the user lacks a permission"
        return Verdict(VerdictCode.NOT_PERMITTED, text)
    if paused is not None:
        return Verdict(VerdictCode.PAUSED, f"{who} is up; {paused.text}")
    first = next((each for each in found if is_lasting(each)), None)
    if first is not None:
        return Verdict(VerdictCode.HEALTHY, f"{who} is up, but could not be failed over: {first.text}")
    resting = next((each for each in found if each.until is not None), None)
    if resting is not None:
        return Verdict(VerdictCode.RESTING, f"{who} is up, but could not be failed over now: {resting.text}")
    then = "" if would_promote is None else f"; {would_promote} would be promoted if it went down"
    return Verdict(VerdictCode.HEALTHY, f"{who} is up{then}")


def newer_configuration(master: Master) -> Peer | None:
    """Return a peer whose last hello named a newer configuration of the master, which was not adopted."""
    for peer in master.peers.values():
        if peer.hello_received_at > max(peer.confirmed_at, peer.created_at):
            return peer
    return None


def phase_of(present: CopiedState, found: list[Hindrance]) -> Phase:
    """Return the phase in which the master is."""
    master, now = present.master, present.now
    failover = master.failover
    if failover is not None and not failover.republish:
        if failover.state is FailoverState.WAIT_START:
            return Phase.ELECTING
        if failover.state is FailoverState.SELECT_REPLICA:
            return Phase.SELECTING
        if failover.state not in PROMOTION_SEEN:
            return Phase.PROMOTING
        durable = master.address_generation <= present.state.durable_generation
        return Phase.RECONFIGURING if durable else Phase.ANNOUNCING
    if master.sdown_since is None:
        silent = master.link.silent_for(now) > master.link.outage_limit
        return Phase.SUSPECTING if silent else Phase.WATCHING
    if master.odown_since is None:
        return Phase.AGREEING
    resting = CAMPAIGN_CODES - {VerdictCode.RETURN_AWAITED, VerdictCode.NOT_OUR_TURN, VerdictCode.OFFSETS_PENDING}
    return Phase.RESTING if any(each.code in resting for each in found) else Phase.CAMPAIGN_WAITING
