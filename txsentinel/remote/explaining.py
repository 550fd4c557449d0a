"""
Explains from outside why C Sentinels do, or do not, fail over: arithmetic over what they report.

C Sentinels report flags, votes and what they know of the replicas, which is enough for agreement, votes and fitness.
They do not report refusals, nor when they try again; the explanation states that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from txsentinel.model.explanation import (
    Agreement,
    AgreementVoter,
    Block,
    Election,
    ElectionVoter,
    Evidence,
    Explanation,
    FleetOpinion,
    Phase,
    Remedy,
    ReplicaFitness,
    ReplicaView,
    SdownState,
    UnfitCode,
    Verdict,
    VerdictCode,
)
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.remote.agreement import AddressAgreement
from txsentinel.remote.fitness import fitness_of, preferred_because
from txsentinel.remote.reports import InstanceReport, MasterReport, SentinelReport

GHOST_MS: Final = 3_600_000
"""A Sentinel from which nobody has received a hello for longer is most likely gone for good."""

MAX_REMEDIES: Final = 8

PHASES: Final = {
    "wait_start": Phase.ELECTING,
    "select_slave": Phase.SELECTING,
    "send_slaveof_noone": Phase.PROMOTING,
    "wait_promotion": Phase.PROMOTING,
    "reconf_slaves": Phase.RECONFIGURING,
    "update_config": Phase.ANNOUNCING,
}
"""The words of ``failover-state``."""


@dataclass(frozen=True)
class Voter:
    """One Sentinel of a group: whether it answers, to us or else to the others, and what it reports of the master."""

    sentinel_id: str
    endpoint: Endpoint
    report: MasterReport | None
    live: bool
    silent_ms: int | None
    """For how long no other Sentinel has received a hello; ``None`` if not known."""

    reports_down: bool = False
    """Whether it considers the master down, at the address that counts."""

    is_c: bool = True
    problem: str | None = None
    tilt: bool = False

    @property
    def is_ghost(self) -> bool:
        """Whether it does not answer and has sent no hello for long."""
        return not self.live and (self.silent_ms or 0) > GHOST_MS


@dataclass(frozen=True)
class Situation:
    """All that decides whether a failover can start, so that one fact can be changed for trial."""

    name: str
    quorum: int
    voters: tuple[Voter, ...]
    replicas: tuple[ReplicaFitness, ...]
    is_down: bool

    @property
    def needed(self) -> int:
        """Votes: the greater of majority and quorum."""
        return max(len(self.voters) // 2 + 1, self.quorum)

    @property
    def live(self) -> int:
        """How many Sentinels answer."""
        return sum(voter.live for voter in self.voters)

    @property
    def reporting_down(self) -> int:
        """How many Sentinels consider the master down."""
        return sum(voter.reports_down for voter in self.voters)


def voters_of(agreement: AddressAgreement) -> tuple[Voter, ...]:
    """Return every known Sentinel of a master, in the order of the fleet; also those that only others report."""
    seen: dict[str, list[InstanceReport]] = {}
    for each in agreement.members:
        if agreement.name in each.masters:
            for peer in each.masters[agreement.name].peers:
                seen.setdefault(peer.run_id, []).append(peer)
    found: dict[str, Voter] = {}
    for each in agreement.members:
        key = each.sentinel_id or str(each.endpoint)
        found[key] = _voter(key, each.endpoint, each, agreement, seen.get(key, ()))
    for key, peers in seen.items():
        if key not in found:
            found[key] = _voter(key, peers[0].endpoint, None, agreement, peers)
    return tuple(found.values())


def _voter(
    key: str,
    endpoint: Endpoint,
    sentinel: SentinelReport | None,
    agreement: AddressAgreement,
    seen: Sequence[InstanceReport],
) -> Voter:
    if sentinel is None:
        sentinel = SentinelReport(endpoint)
    report = sentinel.masters.get(agreement.name)
    identity = sentinel.identity
    return Voter(
        key,
        endpoint,
        report,
        # One that does not answer from here may still be connected with the others.
        report is not None or any(each.usable for each in seen),
        min((each.number("last-hello-message") for each in seen), default=None),
        report is not None
        and report.endpoint == agreement.endpoint
        and bool(report.master.flags & {"s_down", "o_down"}),
        identity is None or identity.is_c,
        sentinel.problem,
        identity is not None and identity.in_tilt,
    )


def situation_of(agreement: AddressAgreement) -> Situation:
    """Return what decides, from the answers about one master."""
    report = agreement.report()
    replicas = () if report is None else fitness_of(report)
    voters = voters_of(agreement)
    return Situation(agreement.name, agreement.quorum, voters, replicas, any(voter.reports_down for voter in voters))


def blocks(situation: Situation) -> tuple[Block, ...]:
    """Return why no failover can start, or could start if the master failed, the most severe reason first."""
    return tuple(_blocks(situation))


def _blocks(situation: Situation) -> Iterator[Block]:
    total, live = len(situation.voters), situation.live
    ghosts = sum(voter.is_ghost for voter in situation.voters)
    if live < situation.needed:
        known = f"{situation.needed} of {total} Sentinels needed, {live} live"
        without = (total - ghosts) // 2 + 1
        if ghosts and live >= max(without, situation.quorum):
            yield Block(
                VerdictCode.MAJORITY_COUNTS_GHOSTS,
                f"the majority counts {ghosts} Sentinels that are gone ({known})",
            )
        elif live < situation.quorum:
            yield Block(VerdictCode.QUORUM_UNREACHABLE, f"the quorum cannot be reached ({known})")
        else:
            yield Block(VerdictCode.MAJORITY_UNREACHABLE, f"no majority can be reached ({known})")
    if situation.is_down and situation.reporting_down < situation.quorum <= live:
        yield Block(
            VerdictCode.QUORUM_NOT_REACHED,
            f"only {situation.reporting_down} of quorum {situation.quorum} consider it down",
        )
    if not situation.replicas:
        yield Block(VerdictCode.NO_REPLICAS, "it has no replicas")
    elif not any(each.fit for each in situation.replicas):
        if all(each.priority == 0 for each in situation.replicas):
            yield Block(VerdictCode.ALL_PRIORITY_ZERO, "every replica has priority 0")
        else:
            yield Block(VerdictCode.NO_FIT_REPLICA, "no replica may be promoted")
    working = sum(voter.live and not voter.tilt for voter in situation.voters)
    if working < situation.needed <= live:
        yield Block(VerdictCode.TILT, f"{live - working} Sentinels are in TILT and do not act")


def remedies(situation: Situation) -> tuple[Remedy, ...]:
    """Return the changes of one fact after which nothing blocks, cheapest first; empty if nothing blocks now."""
    if not blocks(situation):
        return ()
    found = [remedy for remedy, changed in _changes(situation) if not blocks(changed)]
    return tuple(found[:MAX_REMEDIES])


def _changes(situation: Situation) -> Iterator[tuple[Remedy, Situation]]:
    """Return single changes, with what the situation would be."""
    voters = situation.voters
    for place, voter in enumerate(voters):
        if not voter.live:
            # If the master is down, it is down for that one, too.
            back = replace(voter, live=True, reports_down=situation.is_down)
            changed = (*voters[:place], back, *voters[place + 1 :])
            yield (
                Remedy(f"{voter.endpoint} comes back", str(voter.endpoint), None),
                replace(situation, voters=changed),
            )
    for each in situation.replicas:
        if each.unfit is not None:
            others = tuple(other for other in situation.replicas if other is not each)
            changed_replicas = (*others, replace(each, fit=True, unfit=None))
            yield _repair(each), replace(situation, replicas=changed_replicas)
    gone = [voter for voter in voters if voter.is_ghost]
    if gone:
        rest = tuple(voter for voter in voters if not voter.is_ghost)
        yield (
            Remedy(
                f"the Sentinels forget {', '.join(str(voter.endpoint) for voter in gone)}",
                "operator",
                f"txsentinel forget {situation.name} {gone[0].endpoint} --reset-c-peers --force",
            ),
            replace(situation, voters=rest),
        )
    for quorum in range(min(situation.quorum - 1, len(voters)), 0, -1):
        yield (
            Remedy(
                f"the quorum becomes {quorum}",
                "operator",
                f"txsentinel set {situation.name} quorum {quorum} --fleet",
            ),
            replace(situation, quorum=quorum),
        )


def _repair(replica: ReplicaFitness) -> Remedy:
    name = replica.name
    if replica.unfit is not None and replica.unfit.code is UnfitCode.PRIORITY_ZERO:
        return Remedy(f"{name} gets a priority above 0", "operator", "CONFIG SET replica-priority 100")
    return Remedy(f"{name} becomes fit", name, None)


def explain_fleet(agreement: AddressAgreement, now: Instant) -> Explanation:
    """
    Explain one master that at least one Sentinel monitors.

    :param now: the wall clock.
    """
    report = agreement.report()
    if report is None or agreement.endpoint is None:
        raise ValueError(f"no Sentinel monitors {agreement.name}")
    situation = situation_of(agreement)
    phase = _phase(agreement, situation)
    running = phase in PHASES.values()
    blocked = () if running else blocks(situation)
    by = next((each.sentinel_id for each in agreement.naming if each.masters[agreement.name] is report), None)
    best = next((each for each in situation.replicas if each.fit), None)
    return Explanation(
        _verdict(agreement, situation, blocked, phase),
        now,
        by or str(agreement.naming[0].endpoint),
        agreement.name,
        agreement.endpoint,
        agreement.epoch,
        phase,
        _evidence(report, now),
        _sdown(agreement, report, now),
        _agreement(agreement, situation, now),
        _election(agreement, situation, now) if situation.is_down or running else None,
        situation.replicas,
        (),
        blocked,
        () if running else remedies(situation),
        None if best is None else best.name,
        preferred_because(situation.replicas),
        tuple(_warnings(agreement, situation)),
        tuple(_opinions(agreement)),
        tuple(each.sentinel_id or str(each.endpoint) for each in agreement.members if not each.reachable),
    )


def _phase(agreement: AddressAgreement, situation: Situation) -> Phase:
    for each in agreement.members:
        report = each.masters.get(agreement.name)
        if report is not None and "failover_in_progress" in report.master.flags:
            return PHASES.get(report.master.fields.get("failover-state", ""), Phase.ELECTING)
    if not situation.is_down:
        return Phase.WATCHING
    return Phase.AGREEING if situation.reporting_down < situation.quorum else Phase.CAMPAIGN_WAITING


def _down_for(agreement: AddressAgreement, name: str = "s-down-time") -> int | None:
    """Return for how long the master has been down: the longest time that a Sentinel reports, in milliseconds."""
    times = [
        each.masters[agreement.name].master.number(name)
        for each in agreement.members
        if agreement.name in each.masters and name in each.masters[agreement.name].master.fields
    ]
    return max(times, default=None)


def _verdict(agreement: AddressAgreement, situation: Situation, blocked: Sequence[Block], phase: Phase) -> Verdict:
    what = f"{agreement.name} {agreement.endpoint}"
    if phase in PHASES.values():
        code = VerdictCode.ELECTING if phase is Phase.ELECTING else VerdictCode.PROMOTING
        return Verdict(code, f"{what} is being failed over; the phase is {phase.value}")
    if not situation.is_down:
        if not blocked:
            best = next(each.name for each in situation.replicas if each.fit)
            return Verdict(VerdictCode.HEALTHY, f"{what} is up; {best} would be promoted if it failed")
        return Verdict(blocked[0].code, f"{what} is up, but could not be failed over: {blocked[0].text}")
    since = f"{what} has been down for {(_down_for(agreement) or 0) // 1000} s"
    if blocked:
        only_here = blocked[0].code is VerdictCode.QUORUM_NOT_REACHED
        code = VerdictCode.DOWN_HERE_ONLY if only_here and situation.reporting_down == 1 else blocked[0].code
        return Verdict(code, f"{since} and is not failed over: {blocked[0].text}")
    return Verdict(
        VerdictCode.AGREED_WAITING,
        f"{since}; nothing that C Sentinels report blocks a failover, they start one within two failover-timeouts",
    )


def _evidence(report: MasterReport, now: Instant) -> Evidence:
    master = report.master

    def ago(name: str) -> Instant | None:
        return before(now, master.number(name)) if name in master.fields else None

    views = tuple(
        ReplicaView(
            str(each.endpoint),
            each.fields.get("master-link-status") == "ok",
            each.optional_number("master-link-down-time"),
            each.optional_number("info-refresh"),
        )
        for each in report.replicas
    )
    return Evidence(
        ago("last-ok-ping-reply"),
        ago("last-ping-reply"),
        ago("info-refresh") if master.number("info-refresh") else None,
        "disconnected" not in master.flags,
        None,
        None,
        "unknown",
        views,
    )


def before(now: Instant, milliseconds: int) -> Instant:
    """Return a time in the past; reported durations may be any number."""
    return Instant(now.unix_ms - min(max(milliseconds, 0), now.unix_ms))


def _sdown(agreement: AddressAgreement, report: MasterReport, now: Instant) -> SdownState:
    limit = report.master.number("down-after-milliseconds")
    if not report.master.flags & {"s_down", "o_down"}:
        return SdownState(None, limit, None)
    since = before(now, _down_for(agreement) or 0)
    silent = report.master.number("last-ok-ping-reply")
    other_role = report.master.fields.get("role-reported") == "slave"
    why = "it reports to be a replica" if other_role else f"no acceptable answer for {silent:,} ms"
    return SdownState(since, limit, why)


def _agreement(agreement: AddressAgreement, situation: Situation, now: Instant) -> Agreement:
    voters = []
    for voter in situation.voters:
        down_ms = voter.report.master.optional_number("s-down-time") if voter.report is not None else None
        voters.append(
            AgreementVoter(
                voter.sentinel_id,
                voter.endpoint,
                "c" if voter.is_c else "txsentinel",
                voter.live,
                None if down_ms is None or not voter.reports_down else before(now, down_ms),
                None,
                voter.reports_down,
                None,
                None,
            )
        )
    odown = _down_for(agreement, "o-down-time")
    since = None if odown is None else before(now, odown)
    return Agreement(situation.quorum, situation.reporting_down, since, tuple(voters))


def _election(agreement: AddressAgreement, situation: Situation, now: Instant) -> Election | None:
    """Return the votes of the newest epoch that a Sentinel has received from others; ``None`` if there are none."""
    votes: dict[str, tuple[int, str]] = {}
    for each in agreement.members:
        for peer in each.masters[agreement.name].peers if agreement.name in each.masters else ():
            vote = (peer.number("voted-leader-epoch"), peer.fields.get("voted-leader", "?"))
            if vote[1] not in ("?", "*", "") and vote > votes.get(peer.run_id, (0, "")):
                votes[peer.run_id] = vote
    if not votes:
        return None
    epoch = max(number for number, _ in votes.values())
    counts = Counter(leader for number, leader in votes.values() if number == epoch)
    # A candidate votes for itself, which the others do not always report.
    counts.update(each for each in list(counts) if votes.get(each, (0, ""))[0] != epoch)
    count = max(counts.values())
    voters = tuple(
        ElectionVoter(
            voter.sentinel_id,
            voter.live,
            None,
            votes[voter.sentinel_id][1] if voter.sentinel_id in votes else None,
            votes[voter.sentinel_id][0] if voter.sentinel_id in votes else None,
            None
            if voter.sentinel_id in votes
            else "a candidate, which votes for itself"
            if voter.sentinel_id in counts
            else "no vote of it is known",
        )
        for voter in situation.voters
    )
    open_votes = sum(
        voter.live and voter.sentinel_id not in counts and votes.get(voter.sentinel_id, (0, ""))[0] != epoch
        for voter in situation.voters
    )
    outcome = "won" if count >= situation.needed else "open" if count + open_votes >= situation.needed else "lost"
    return Election(epoch, situation.needed, count, open_votes, outcome, len(counts), now, voters)


def _warnings(agreement: AddressAgreement, situation: Situation) -> Iterator[str]:
    for voter in situation.voters:
        if voter.problem is not None and voter.live:
            yield f"{voter.endpoint} answers the other Sentinels, but not from here: {voter.problem}"
        elif voter.is_ghost:
            yield f"{voter.endpoint} has sent no hello for {(voter.silent_ms or 0) // 3_600_000} hours and still counts"
        if voter.tilt:
            yield f"{voter.endpoint} is in TILT"
    for drift in agreement.drifts:
        yield f"{drift.setting} differs between the Sentinels"
    if situation.is_down:
        yield "C Sentinels do not report when they try again, nor why they refused a vote"


def _opinions(agreement: AddressAgreement) -> Iterator[FleetOpinion]:
    for each in agreement.members:
        report = each.masters.get(agreement.name)
        if report is None or each.sentinel_id is None:
            continue
        contradiction = None
        if report.endpoint != agreement.endpoint:
            contradiction = f"it has {report.endpoint} of epoch {report.epoch}"
        yield FleetOpinion(each.sentinel_id, None, report.endpoint, report.epoch, contradiction)
