"""
What keeps a master from being failed over, most severe first, with the sentence for each.

While the master is up, it is what would keep it from being failed over if it went down now. All conditions are those
of the modules that decide, applied to a :class:`~txsentinel.core.copied_state.CopiedState`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from txsentinel.core.blockers import is_discovering
from txsentinel.core.conditions import seconds
from txsentinel.core.copied_state import CopiedState
from txsentinel.core.failover_start import Hindrance
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.instances import Master, Peer, Replica
from txsentinel.core.pause_rules import described_pause, pause_of
from txsentinel.core.quorum import (
    agreeing_sentinels,
    reachable_sentinels,
    unasked_peers,
    unreachable,
    usable_sentinels,
)
from txsentinel.core.role import Role
from txsentinel.core.selection import choose
from txsentinel.core.succession import follows_replica
from txsentinel.model.explanation import Unfit, UnfitCode, VerdictCode
from txsentinel.model.failure import FailureClass, LinkFailure, class_of_reply
from txsentinel.model.timings import Millis

MAX_NAMED: Final = 5
"""Maximum number of replicas or peers that one sentence names."""

_SHOWS_LIMIT: Final = frozenset({UnfitCode.SILENT, UnfitCode.STALE_INFO, UnfitCode.MASTER_LINK_DOWN_TOO_LONG})

CAMPAIGN_CODES: Final = frozenset(
    {
        VerdictCode.ATTEMPT_TOO_RECENT,
        VerdictCode.VOTED_FOR_OTHER,
        VerdictCode.LOST_TO_RIVAL,
        VerdictCode.VOTE_SPLIT,
        VerdictCode.RECENTLY_FAILED_OVER,
        VerdictCode.RETURN_AWAITED,
        VerdictCode.NOT_OUR_TURN,
        VerdictCode.OFFSETS_PENDING,
    }
)
"""What ends by the passing of time and delays a campaign."""


def hindrances(present: CopiedState) -> list[Hindrance]:
    """Return everything that keeps the master from being failed over, most severe first."""
    found = [*_own(present), *_permissions(present), *_sentinels(present)]
    replica = unfit_hindrance(present)
    if replica is not None:
        found.append(replica)
    disagreement = _disagreement(present)
    if disagreement is not None and not any(each.code is VerdictCode.QUORUM_UNREACHABLE for each in found):
        found.append(disagreement)
    found += _campaign(present)
    return [each for each in found if each.code not in present.assumed]


def is_lasting(hindrance: Hindrance) -> bool:
    """Whether it does not end by the passing of time alone."""
    return hindrance.until is None


def _own(present: CopiedState) -> Iterator[Hindrance]:
    """Yield what concerns this Sentinel itself."""
    tilt, now = present.tilt, present.now
    if tilt.active:
        left = tilt.left(now)
        cause = "" if tilt.report is None else f": {tilt.report}"
        text = f"this Sentinel is in TILT and decides nothing for another {seconds(left)}{cause}"
        yield Hindrance(VerdictCode.TILT, now + left, text)
    error = present.state.storage_error
    if error is not None:
        yield Hindrance(VerdictCode.STORAGE_FAILING, None, f"{error}, so it neither votes nor leads")
    pause = pause_of(present.state, present.master.name, now)
    if pause is not None:
        yield Hindrance(VerdictCode.PAUSED, pause.until, described_pause(pause, now))


def _permissions(present: CopiedState) -> Iterator[Hindrance]:
    """Yield that the master refuses what the discovery of replicas and peers needs, if none was found."""
    master = present.master
    if not master.replicas and "INFO" in master.link.refusals:
        yield _refused(master, "INFO", master.link.refusals["INFO"], "its replicas are unknown")
    if not master.peers and master.options.quorum > 1:
        for command in ("SUBSCRIBE", "PUBLISH"):
            refusal = master.link.refusals.get(command)
            if refusal is not None:
                yield _refused(master, command, refusal, "other Sentinels cannot be discovered")
                return


def _refused(master: Master, command: str, refusal: LinkFailure, consequence: str) -> Hindrance:
    code = VerdictCode.AUTH_FAILING if refusal.failure_class is FailureClass.AUTH else VerdictCode.NOT_PERMITTED
    return Hindrance(code, None, f"{master.address.joined()} answered {refusal.error}, so {consequence}")


def _sentinels(present: CopiedState) -> Iterator[Hindrance]:
    """Yield that the quorum or the votes that make a leader cannot be reached."""
    for code, text in unreachable(present.master, available_sentinels(present), present.now):
        yield Hindrance(code, None, text)


def available_sentinels(present: CopiedState) -> int:
    """Return how many Sentinels can agree and vote: while the master is down, those that can be asked now."""
    master = present.master
    return reachable_sentinels(master) if present.down else usable_sentinels(master)


def _disagreement(present: CopiedState) -> Hindrance | None:
    """Return that too few Sentinels consider the master down, if it is down here."""
    master = present.master
    if not present.down or master.failover is not None:
        return None
    have, quorum = agreeing_sentinels(master), master.options.quorum
    if have >= quorum:
        return None
    if have + unasked_peers(master) >= quorum:
        # The answers will show whether they agree.
        until = present.now + present.state.timings.ask_period
        return Hindrance(VerdictCode.DOWN_HERE_ONLY, until, "the other Sentinels are being asked whether it is down")
    others = [peer for peer in master.peers.values() if not peer.reports_master_down]
    named = ", ".join(described_peer(peer) for peer in others[:MAX_NAMED]) or "none is known"
    if have == 1:
        text = f"only this Sentinel considers it down, and the quorum is {quorum}; others: {named}"
        return Hindrance(VerdictCode.DOWN_HERE_ONLY, None, text)
    text = f"{have} Sentinels consider it down, and the quorum is {quorum}; others: {named}"
    return Hindrance(VerdictCode.QUORUM_NOT_REACHED, None, text)


def described_peer(peer: Peer) -> str:
    """Return the ID and the address of a peer."""
    return f"{peer.name} at {peer.address.joined()}"


def unfit_hindrance(present: CopiedState) -> Hindrance | None:
    """Return that no replica can be promoted, and why, if that is so."""
    master, now = present.master, present.now
    failover = master.failover
    if failover is not None and (failover.republish or failover.promoted is not None):
        return None
    chosen, refused = choose(master, present.state.timings, now)
    if chosen is not None or (not present.down and is_discovering(master, now)):
        return None
    silent = all(unfit.code is UnfitCode.SILENT_SINCE_FAILURE for _, unfit in refused)
    if refused and silent and not present.rules.offsets_fresh(master, now):
        # They are being asked.
        return None
    followed = master.reported_master
    if master.role_reported is Role.REPLICA and followed is not None and not follows_replica(master):
        text = f"{master.address.joined()} is a replica of {followed[0]} port {followed[1]}, not a master"
        return Hindrance(VerdictCode.MONITORS_REPLICA, None, text)
    if not refused:
        return Hindrance(VerdictCode.NO_REPLICAS, None, "no replica is known")
    reasons = [f"{name}: {described(unfit)}" for name, unfit in refused[:MAX_NAMED]]
    if len(refused) > MAX_NAMED:
        reasons.append(f"{len(refused) - MAX_NAMED} more")
    code = _code_of([(master.replicas[name], unfit) for name, unfit in refused])
    return Hindrance(code, None, f"no replica can be promoted ({'; '.join(reasons)})")


def described(unfit: Unfit) -> str:
    """Return the clause of an unfit replica, with the limit that it exceeds."""
    if unfit.code in _SHOWS_LIMIT and unfit.limit is not None:
        return f"{unfit.text} (the limit is {unfit.limit} ms)"
    return unfit.text


def _code_of(refused: Iterable[tuple[Replica, Unfit]]) -> VerdictCode:
    """Return the code for unfit replicas: a special one if one reason is common to all."""
    codes = {_common_code(replica, unfit) for replica, unfit in refused}
    return codes.pop() if len(codes) == 1 else VerdictCode.NO_FIT_REPLICA


def _common_code(replica: Replica, unfit: Unfit) -> VerdictCode:
    if unfit.code is UnfitCode.PRIORITY_ZERO:
        return VerdictCode.ALL_PRIORITY_ZERO
    failure: FailureClass | None = None
    if unfit.code is UnfitCode.PROMOTION_REFUSED and replica.promotion_refusal is not None:
        failure = class_of_reply(replica.promotion_refusal.partition(" with ")[2])
    elif unfit.code is UnfitCode.PING_REFUSED:
        failure = class_of_reply(replica.link.ping_error)
    elif unfit.code is UnfitCode.NO_INFO and "INFO" in replica.link.refusals:
        failure = replica.link.refusals["INFO"].failure_class
    if failure is FailureClass.AUTH:
        return VerdictCode.AUTH_FAILING
    if failure is FailureClass.NOPERM:
        return VerdictCode.NOT_PERMITTED
    return VerdictCode.NO_FIT_REPLICA


def _campaign(present: CopiedState) -> Iterator[Hindrance]:
    """Yield what delays the campaign of this Sentinel."""
    master, now = present.master, present.now
    if master.failover is not None and master.failover.state is not FailoverState.NONE:
        return
    for each in present.rules.hindrances(master, now):
        until = each.until
        if each.code in (VerdictCode.STORAGE_FAILING, VerdictCode.PAUSED) or until is None or until <= now:
            continue
        if not present.down and each.code is VerdictCode.NOT_OUR_TURN:
            continue
        code = _code_of_attempt(present) if each.code is VerdictCode.ATTEMPT_TOO_RECENT else each.code
        yield Hindrance(code, until, _text_of_delay(present, code, until))


def _code_of_attempt(present: CopiedState) -> VerdictCode:
    """Return the code for a delay by our own last attempt: how its election ended."""
    master = present.master
    record = master.diagnosis.election
    if record is None or record.won or master.leader_epoch != record.epoch:
        return VerdictCode.ATTEMPT_TOO_RECENT
    count = present.votes.count_answers(master, record.answers, record.epoch, 1)
    if count.should_concede:
        return VerdictCode.LOST_TO_RIVAL
    return VerdictCode.VOTE_SPLIT if count.rival else VerdictCode.ATTEMPT_TOO_RECENT


def _text_of_delay(present: CopiedState, code: VerdictCode, until: Millis) -> str:
    master, now = present.master, present.now
    left = seconds(until - now)
    distance = seconds(2 * master.options.failover_timeout)
    if code is VerdictCode.VOTED_FOR_OTHER:
        voted = f"this Sentinel voted for {master.leader} in epoch {master.leader_epoch}"
        return f"{voted} and waits {distance} for its failover, another {left}"
    if code in (VerdictCode.ATTEMPT_TOO_RECENT, VerdictCode.LOST_TO_RIVAL, VerdictCode.VOTE_SPLIT):
        began = 0 if master.attempt_started_at is None else max(0, now - master.attempt_started_at)
        text = f"the last attempt began {seconds(began)} ago, and the next one begins {distance} after it, in {left}"
        record = master.diagnosis.election
        if code is VerdictCode.ATTEMPT_TOO_RECENT or record is None:
            return text
        count = present.votes.count_answers(master, record.answers, record.epoch, 1)
        lost = f"epoch {record.epoch} was lost with {count.granted} of {count.needed} votes"
        return f"{lost}, a rival had {count.rival}; {text}"
    if code is VerdictCode.RECENTLY_FAILED_OVER:
        block = master.block
        ago = seconds(now - (block.began_at or 0))
        text = f"it was failed over {ago} ago in epoch {block.failover_epoch}, and failover-block-period permits"
        return f"{text} the next failover in {left}, or when that one is acknowledged"
    if code is VerdictCode.RETURN_AWAITED:
        return f"it was lost together with its replicas, which are back; it is waited for another {left}"
    if code is VerdictCode.OFFSETS_PENDING:
        return f"INFO of its replicas is awaited for another {left}, so that fresh offsets are compared"
    before = present.votes.campaign_order(master)
    return f"{before} Sentinels with lower IDs campaign first; this one begins in {left}"
