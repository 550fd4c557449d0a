"""
Which single changes would let a failover start.

Each candidate is applied to a copy of the state, and the rules that decide are asked again. What ends by the passing of
time alone does not count, but delays the failover: each remedy states how soon it starts at the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from txsentinel.core.conditions import seconds
from txsentinel.core.copied_state import CopiedState
from txsentinel.core.durable_records import ALL_MASTERS
from txsentinel.core.election import FORCED_ELECTION_TIMEOUT
from txsentinel.core.failover_start import FRESH_INFO_TIMEOUT, Hindrance
from txsentinel.core.hindrances import CAMPAIGN_CODES, available_sentinels, hindrances, is_lasting
from txsentinel.core.instances import Master, Peer, Replica
from txsentinel.core.membership import LIFE_PERIODS
from txsentinel.core.pause_rules import pauses_of
from txsentinel.core.quorum import agreeing_sentinels, is_ghost, is_reachable, unasked_peers
from txsentinel.core.selection import LINK_DOWN_FACTOR, REFUSAL_LIFE, unfit_because
from txsentinel.model.explanation import Remedy, UnfitCode, VerdictCode
from txsentinel.model.failure import FailureClass
from txsentinel.model.history import failover_group
from txsentinel.model.timings import Millis

MAX_REMEDIES: Final = 8

MAX_CANDIDATES: Final = 4
"""Number of replicas, and of peers, that are considered."""

MIN_FAILOVER_TIMEOUT: Final[Millis] = 5_000
"""The shortest ``failover-timeout`` that is suggested."""

START_MARGIN: Final[Millis] = 2_000
"""Added to each bound: sweeps, round trips and the delays of candidates with lower IDs."""

ATTEMPT_JITTER: Final[Millis] = 1_000
"""The random part of the start of an attempt."""

SAVE_RETRY: Final[Millis] = 5_000
"""The longest interval at which saving is tried again."""

RECONNECT: Final[Millis] = 2_000
"""How long it takes at most to connect to a process that has started: a PING period, and the attempt itself."""

AGREEMENT_CODES: Final = frozenset(
    {
        VerdictCode.DOWN_HERE_ONLY,
        VerdictCode.QUORUM_NOT_REACHED,
        VerdictCode.QUORUM_UNREACHABLE,
        VerdictCode.MAJORITY_UNREACHABLE,
        VerdictCode.MAJORITY_COUNTS_GHOSTS,
    }
)
"""What an order to fail over, which needs no majority, overrides."""

THIS_SENTINEL: Final = "this Sentinel"


@dataclass(frozen=True, slots=True)
class StateChange:
    """
    One change of the state.

    ``cost`` orders remedies. ``ready_ms`` is how long it takes until this Sentinel sees the change; ``votes`` whether
    it concerns the agreement or the votes, so that an attempt before that may still fail.
    """

    cost: int
    do: str
    who: str
    command: str | None
    ready_ms: Millis
    apply: Callable[[CopiedState], None]
    votes: bool = False


def remedies(present: CopiedState, make: Callable[[], CopiedState], found: list[Hindrance]) -> list[Remedy]:
    """
    Return the changes of which each alone would let a failover start, cheapest first.

    :param present: the unchanged state.
    :param make: returns a fresh copy of it.
    :param found: its hindrances.
    """
    if not any(is_lasting(each) for each in found):
        return _wait(present, found)
    kept: list[tuple[int, Millis, Remedy]] = []
    for change in _changes(present, {each.code for each in found}):
        changed = make()
        change.apply(changed)
        left = hindrances(changed)
        if any(is_lasting(each) for each in left):
            continue
        bound = _bound(changed, change, left)
        kept.append((change.cost, bound, Remedy(change.do, change.who, change.command, bound)))
    kept.sort(key=_order)
    return [remedy for _, _, remedy in kept[:MAX_REMEDIES]]


def _order(entry: tuple[int, Millis, Remedy]) -> tuple[int, Millis]:
    return entry[0], entry[1]


def _wait(present: CopiedState, found: list[Hindrance]) -> list[Remedy]:
    """Return what shortens a delay that ends by itself, and the delay."""
    master, now = present.master, present.now
    silent = present.tilt.active and master.link.silent_for(now) > master.options.down_after
    made: list[Remedy] = []
    if any(each.code is VerdictCode.PAUSED for each in found):
        others = [each.until or now for each in found if each.code is not VerdictCode.PAUSED]
        command = f"TXSENTINEL RESUME {resumed_name(present)}"
        bound = max([now, *others]) - now + _margin(present)
        made.append(Remedy("end the pause of automatic failovers", "any Sentinel", command, bound))
    if not found or not (present.down or silent):
        return made
    until = max(each.until or now for each in found)
    made.append(Remedy(f"wait {seconds(until - now)}", "nobody", None, until - now + _margin(present)))
    began, codes = master.attempt_started_at, {each.code for each in found}
    if began is not None and codes <= CAMPAIGN_CODES and until - now > MIN_FAILOVER_TIMEOUT:
        shorter = max(MIN_FAILOVER_TIMEOUT, (now - began) // 2)
        left = max(0, began + 2 * shorter - now)
        if left < until - now:
            command = f"SENTINEL SET {master.name} failover-timeout {shorter}"
            do = "shorten the distance of two attempts, two failover-timeouts"
            made.insert(0, Remedy(do, THIS_SENTINEL, command, left + _margin(present)))
    if VerdictCode.RECENTLY_FAILED_OVER in codes:
        rest = [each.until or now for each in found if each.code is not VerdictCode.RECENTLY_FAILED_OVER]
        group = failover_group(master.name, master.block.failover_epoch)
        do = "acknowledge the last failover, whose cause may be that of this one"
        made.insert(0, Remedy(do, THIS_SENTINEL, f"TXSENTINEL ACK {group}", max([now, *rest]) - now + _margin(present)))
    if not codes - CAMPAIGN_CODES and until - now > START_MARGIN:
        made.append(_forced(present))
    return made


def resumed_name(present: CopiedState) -> str:
    """Return the argument of RESUME that ends the pauses of the master: its name, or ``*`` if all are paused."""
    held = pauses_of(present.state, present.master.name, present.now)
    return ALL_MASTERS if any(each.record.key.master == ALL_MASTERS for each in held) else present.master.name


def _forced(present: CopiedState) -> Remedy:
    do = "order the failover, which needs no majority: two masters are possible if the other Sentinels are only cut off"
    command = f"SENTINEL FAILOVER {present.master.name}"
    return Remedy(do, THIS_SENTINEL, command, FORCED_ELECTION_TIMEOUT + START_MARGIN)


def _margin(present: CopiedState) -> Millis:
    delay = (len(present.master.peers) + 1) * present.state.stagger(present.now)
    return START_MARGIN + FRESH_INFO_TIMEOUT + delay + 2 * present.state.timings.sweep_period


def _bound(changed: CopiedState, change: StateChange, left: list[Hindrance]) -> Millis:
    """Return how long after the change a failover starts at the latest."""
    wait = max([0, *(each.until - changed.now for each in left if each.until is not None)])
    bound = max(wait, change.ready_ms) + _margin(changed)
    if change.votes and change.ready_ms > wait:
        # An attempt that begins before the change is seen fails, and delays the next one.
        bound += 2 * changed.master.options.failover_timeout + ATTEMPT_JITTER
    return bound


def _changes(present: CopiedState, codes: set[VerdictCode]) -> Iterator[StateChange]:
    """Yield the candidates, given the codes of what hinders now."""
    master = present.master
    if VerdictCode.STORAGE_FAILING in codes:
        yield _storage(present)
    if codes & AGREEMENT_CODES:
        yield from _quorum(present)
        for peer in [peer for peer in master.peers.values() if not is_reachable(peer)][:MAX_CANDIDATES]:
            yield _peer_returns(present, peer)
        yield from _ghosts(present)
    if present.down and master.failover is None and codes - CAMPAIGN_CODES <= AGREEMENT_CODES:
        forced = _forced(present)

        def override(changed: CopiedState) -> None:
            changed.assumed = AGREEMENT_CODES | CAMPAIGN_CODES

        yield StateChange(6, forced.do, forced.who, forced.command, FORCED_ELECTION_TIMEOUT, override)
    considered = 0
    for replica in master.replicas.values():
        change = _replica_change(present, replica)
        if change is not None:
            yield change
            considered += 1
            if considered == MAX_CANDIDATES:
                break
    yield from _discovery(present, codes)


def _storage(present: CopiedState) -> StateChange:
    error = present.state.storage_error
    where = "the configuration file" if error is None or not error.path else error.path

    def repair(changed: CopiedState) -> None:
        changed.state.storage_error = None

    return StateChange(5, f"make {where} writable", THIS_SENTINEL, "SENTINEL FLUSHCONFIG", SAVE_RETRY, repair)


def _quorum(present: CopiedState) -> Iterator[StateChange]:
    """Yield the highest quorum that can be reached."""
    master = present.master
    quorum = master.options.quorum
    have = available_sentinels(present)
    if present.down:
        have = agreeing_sentinels(master) + unasked_peers(master)
    if have < quorum:

        def lower(changed: CopiedState) -> None:
            changed.master.options.quorum = have

        command = f"SENTINEL SET {master.name} quorum {have}"
        yield StateChange(1, f"lower the quorum from {quorum} to {have}", THIS_SENTINEL, command, 0, lower, votes=True)


def _peer_returns(present: CopiedState, peer: Peer) -> StateChange:
    name, now = peer.name, present.now
    master = present.master

    def connect(changed: CopiedState) -> None:
        twin = changed.peer(name)
        twin.sdown_since, twin.link.commands_since = None, now
        twin.reports_master_down, twin.opinion_at = changed.down, now

    failure = peer.link.failure
    why = "" if failure is None else f": {failure}"
    do = f"start or reconnect the Sentinel at {peer.address.joined()}{why}"
    # It must consider the master down by itself.
    ready = RECONNECT + master.options.down_after + 2 * present.state.timings.ask_period
    return StateChange(4, do, f"{name} at {peer.address.joined()}", None, ready, connect, votes=True)


def _ghosts(present: CopiedState) -> Iterator[StateChange]:
    """Yield the removal of peers that may not exist any more."""
    master, now = present.master, present.now
    ghosts = [peer for peer in master.peers.values() if is_ghost(peer, now)]
    if not ghosts:
        return
    names = [peer.name for peer in ghosts]

    def forget(changed: CopiedState) -> None:
        for name in names:
            del changed.master.peers[name]

    # One command each; they are refused until the Sentinels have been silent for long enough.
    do = f"remove the Sentinels that do not exist any more, by one command each: {', '.join(names)}"
    command = f"TXSENTINEL FORGET {master.name} ID {names[0]} FORCE"
    ready = LIFE_PERIODS * present.state.timings.publish_period + RECONNECT
    yield StateChange(7, do, THIS_SENTINEL, command, ready, forget, votes=True)


def _replica_change(present: CopiedState, replica: Replica) -> StateChange | None:
    """Return what would make an unfit replica fit; ``None`` if it is fit, or nothing is known to."""
    master, timings, now = present.master, present.state.timings, present.now
    unfit = unfit_because(replica, master, timings, now)
    if unfit is None:
        return None
    name, where = replica.name, replica.address.joined()
    fresh_info = RECONNECT + 2 * timings.fast_info_period

    def respond(changed: CopiedState) -> None:
        twin = changed.replica(name)
        link = twin.link
        twin.sdown_since, link.ping_refused = None, False
        link.commands_since = link.available_at = link.last_reply_at = now
        link.unanswered_ping_at = None
        twin.info_refreshed_at = now

    code = unfit.code
    if code is UnfitCode.PRIORITY_ZERO:

        def prioritize(changed: CopiedState) -> None:
            changed.replica(name).priority = 100

        command = "CONFIG SET replica-priority 100"
        return StateChange(2, f"give {where} a priority above 0", where, command, fresh_info, prioritize)
    if code is UnfitCode.PARKED:

        def unpark(changed: CopiedState) -> None:
            changed.master.membership = master.membership.unparked(replica.address)

        place = f"{replica.address.announced(False)} {replica.address.port}"
        command = f"TXSENTINEL DRAIN {place} UNDO"
        return StateChange(2, f"permit the promotion of {where} again", THIS_SENTINEL, command, 0, unpark)
    if code is UnfitCode.MASTER_LINK_DOWN_TOO_LONG:
        return _tolerate(present, replica)
    if code is UnfitCode.PROMOTION_REFUSED:

        def permit(changed: CopiedState) -> None:
            changed.replica(name).promotion_refusal = None

        do = f"let {where} accept its promotion: it answered {replica.promotion_refusal}"
        return StateChange(4, do, where, _permission(replica, master), REFUSAL_LIFE, permit)
    if code is UnfitCode.PING_REFUSED:
        do = f"let {where} accept PING: it answers {replica.link.ping_error}"
        return StateChange(4, do, where, _permission(replica, master), fresh_info, respond)
    if code in (UnfitCode.DOWN, UnfitCode.DISCONNECTED, UnfitCode.SILENT, UnfitCode.SILENT_SINCE_FAILURE):
        failure = replica.link.failure
        why = "" if failure is None or failure.at < replica.link.available_at else f": {failure}"
        return StateChange(5, f"start or reconnect the replica at {where}{why}", where, None, fresh_info, respond)
    if code in (UnfitCode.NO_INFO, UnfitCode.STALE_INFO):
        refused = replica.link.refusals.get("INFO")
        do = f"let {where} answer INFO" + ("" if refused is None else f": it answered {refused.error}")
        return StateChange(4, do, where, _permission(replica, master), fresh_info, respond)
    return None


def _permission(replica: Replica, master: Master) -> str | None:
    """Return the command that ends a refusal by the ACL of a replica."""
    refusals = list(replica.link.refusals.values())
    if any(each.failure_class is FailureClass.AUTH for each in refusals) or replica.link.ping_error == "NOAUTH":
        return f"SENTINEL SET {master.name} auth-pass <password>"
    if replica.link.ping_error == "NOPERM" or "NOPERM" in (replica.promotion_refusal or "") or refusals:
        user = master.options.auth_user or "default"
        return f"ACL SETUSER {user} +multi +slaveof +ping +exec +subscribe +config|rewrite +role +publish +info"
    return None


def _tolerate(present: CopiedState, replica: Replica) -> StateChange:
    """Return a longer down-after, from which the limit of the outage follows."""
    master, now = present.master, present.now
    outage = 0 if master.sdown_since is None else now - min(master.sdown_since, master.link.available_at)
    needed = -(-(replica.master_link_down_for - outage) // LINK_DOWN_FACTOR)
    down_after = max(master.options.down_after + 1, needed)

    def lengthen(changed: CopiedState) -> None:
        changed.master.options.down_after = down_after

    do = (
        f"promote {replica.address.joined()} although it was without its master for {replica.master_link_down_for} ms,"
        " whose writes since then are lost"
    )
    command = f"SENTINEL SET {master.name} down-after-milliseconds {down_after}"
    # The master must be silent for that long, and the other Sentinels must agree again.
    ready = down_after + 2 * present.state.timings.ask_period
    return StateChange(8, do, THIS_SENTINEL, command, ready, lengthen, votes=True)


def _discovery(present: CopiedState, codes: set[VerdictCode]) -> Iterator[StateChange]:
    """Yield what lets replicas and peers be discovered; that there are any is assumed."""
    master = present.master
    where = master.address.joined()
    found = codes & {VerdictCode.NOT_PERMITTED, VerdictCode.AUTH_FAILING}
    user = master.options.auth_user or "default"

    def discover(changed: CopiedState) -> None:
        changed.assumed = frozenset(
            {
                VerdictCode.NOT_PERMITTED,
                VerdictCode.AUTH_FAILING,
                VerdictCode.NO_REPLICAS,
                VerdictCode.MONITORS_REPLICA,
                *AGREEMENT_CODES,
            }
        )

    for command, refusal in master.link.refusals.items():
        if not found:
            break
        ready = RECONNECT + 2 * present.state.timings.publish_period
        if refusal.failure_class is FailureClass.AUTH:
            do = f"correct the password of {where}"
            yield StateChange(2, do, THIS_SENTINEL, f"SENTINEL SET {master.name} auth-pass <password>", ready, discover)
            break
        grant = f"ACL SETUSER {user} +{command.lower().replace(' ', '|')}"
        if command in ("SUBSCRIBE", "PUBLISH"):
            grant += " &__sentinel__:hello"
        yield StateChange(2, f"permit {command} at {where}", where, grant, ready, discover)
    followed = master.reported_master
    if VerdictCode.MONITORS_REPLICA in codes and followed is not None:
        quorum = master.options.quorum
        monitor = f"SENTINEL REMOVE {master.name}; SENTINEL MONITOR {master.name} {followed[0]} {followed[1]} {quorum}"
        do = f"monitor the master {followed[0]} port {followed[1]}, which {where} follows"
        yield StateChange(2, do, THIS_SENTINEL, monitor, RECONNECT, discover)
    if VerdictCode.NO_REPLICAS in codes and not present.down and not found:
        do = f"give {where} a replica"
        yield StateChange(
            5, do, "a server", f"REPLICAOF {master.address.ip} {master.address.port}", RECONNECT, discover
        )
