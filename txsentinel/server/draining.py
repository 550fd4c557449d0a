"""
Draining of a host that is about to be stopped: its servers are parked, and its masters are moved away.

A server that is parked is not promoted, here and at the other Sentinels of our kind. C Sentinels do not know that, so
one that leads a failover may still promote it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from txsentinel.core.errors import CommandError
from txsentinel.core.instances import Master, Peer, Server
from txsentinel.core.quorum import is_reachable, votes_needed
from txsentinel.core.selection import unfit_because
from txsentinel.core.switchover_state import SwitchoverOrder, snapshot
from txsentinel.model.timings import Millis
from txsentinel.model.ulid import new_ulid
from txsentinel.server.handing_over import hand_over
from txsentinel.server.membership_orders import MembershipServices, park_everywhere, unpark_everywhere, wall_now
from txsentinel.wire.info import connected_clients
from txsentinel.wire.resp import Value, text

DEFAULT_PARK_TIME: Final[Millis] = 600_000
MAX_WAIT: Final[Millis] = 3_600_000
MAX_MOVES: Final = 8
"""Maximum number of masters that are moved at the same time."""

CHECK_SECONDS: Final = 0.05
"""Interval at which the end of a failover is looked for."""

INFO_INTERVAL: Final[Millis] = 1_000
"""Interval at which the clients of the old masters are counted while they are waited for."""

SWITCH_MARGIN: Final[Millis] = 5_000
"""Added to ``failover-timeout``, after which a failover that was ordered must have ended."""


@dataclass(frozen=True, slots=True)
class DrainOrder:
    """What an operator ordered; ``port`` is ``None`` for all servers and Sentinels of the host."""

    host: str
    port: int | None
    by: str
    wait: Millis = 0
    parking: Millis = DEFAULT_PARK_TIME
    parallel: bool = False
    """Whether another host of the same group may be drained at the same time."""

    only_plan: bool = False


@dataclass(slots=True)
class DrainPlan:
    """What a drain would do: the masters to move, all that are concerned, and what prevents it as ``(code, text)``."""

    moving: list[Master] = field(default_factory=list)
    concerned: list[Master] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    sentinels: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Move:
    """The result for one master."""

    master: str
    old: str
    new: str | None = None
    problem: str | None = None
    receipt: str | None = None
    """The ID of the receipt, and its verdict."""

    verdict: str | None = None


async def drain(services: MembershipServices, order: DrainOrder) -> Value:
    """
    Drain a host.

    :returns: a map; ``safe`` is whether no master is left there.
    :raises CommandError: if nothing was done: the host is unknown, a master cannot be moved, or too few Sentinels
        would be left.
    """
    plan = make_plan(services, order)
    if order.only_plan:
        return _result(services, order, plan, [], [], executed=False, kept=[])
    if plan.problems:
        code = plan.problems[0][0]
        raise CommandError(f"{code} {'; '.join(reason for _, reason in plan.problems)}")
    rows = await park_everywhere(services, plan.concerned, order.host, order.port, order.parking, order.by)
    began_at = services.host.now()
    waiting = list(plan.moving)
    moves: list[Move] = []

    async def work() -> None:
        while waiting:
            moves.append(await _move(services, order, waiting.pop(0)))

    await gatherResults([Deferred.fromCoroutine(work()) for _ in range(min(MAX_MOVES, len(waiting)))])
    kept = await hand_over(services, leaving_sentinels(services, order, plan), plan.concerned, order.parking)
    await _wait_for_clients(services, order, plan, began_at)
    return _result(services, order, plan, moves, rows, executed=True, kept=kept)


async def undo(services: MembershipServices, order: DrainOrder) -> Value:
    """
    Permit the promotion of the servers of a host again.

    :returns: a map with what each other Sentinel answered.
    :raises CommandError: if the host is unknown, or it cannot be saved.
    """
    core = services.core
    masters = list(core.registry.masters.values())
    parked = [
        name
        for master in masters
        for name, each in master.membership.parked.items()
        if core.parking.is_at(each.address, order.host, order.port)
    ]
    if not parked and not make_plan(services, order).concerned:
        raise CommandError(f"UNKNOWNNODE no server of a monitored group is at {order.host}")
    concerned = [master for master in masters if core.parking.servers_at(master, order.host, order.port)]
    rows = await unpark_everywhere(services, concerned or masters, order.host, order.port, order.by)
    plan = DrainPlan(concerned=masters)
    await hand_over(services, leaving_sentinels(services, order, plan), masters, 0)
    return {"host": order.host, "unparked": list(dict.fromkeys(parked)), "sentinels": rows}


def make_plan(services: MembershipServices, order: DrainOrder) -> DrainPlan:
    """
    Return what a drain would do.

    :raises CommandError: if nothing that is monitored is at the host.
    """
    core, now = services.core, services.host.now()
    parking, plan = core.parking, DrainPlan()
    for master in core.registry.masters.values():
        servers = parking.servers_at(master, order.host, order.port)
        peers = [peer for peer in master.peers.values() if parking.is_at(peer.address, order.host, order.port)]
        leaves = _own_host(services, order)
        if not servers and not peers and not leaves:
            continue
        plan.concerned.append(master)
        plan.servers.extend(server.address.joined() for server in servers)
        plan.sentinels.extend(peer.address.joined() for peer in peers)
        if master in servers:
            plan.moving.append(master)
            plan.problems.extend(_obstacles(services, master, servers, now))
        if peers or leaves:
            plan.problems.extend(_missing_sentinels(master, peers, leaves=leaves))
        elsewhere = [
            each.address.joined()
            for each in master.membership.parked.values()
            if now < each.until and not parking.is_at(each.address, order.host, None)
        ]
        if elsewhere and not order.parallel:
            named = ", ".join(elsewhere)
            plan.problems.append(("DRAINING", f"{master.name}: another host is being drained, with {named}"))
    if not plan.servers and not plan.sentinels and not plan.concerned:
        raise CommandError(f"UNKNOWNNODE no server or Sentinel of a monitored group is at {order.host}")
    plan.servers, plan.sentinels = list(dict.fromkeys(plan.servers)), list(dict.fromkeys(plan.sentinels))
    return plan


def _own_host(services: MembershipServices, order: DrainOrder) -> bool:
    """Whether this Sentinel is at the host, according to its hellos."""
    options = services.core.options
    for place in services.core.state.own_endpoints:
        host, _, port = text(place).rpartition(",")
        if order.port in (None, int(port)) and host.casefold() == order.host.casefold():
            return True
    return (options.announce_ip or "").casefold() == order.host.casefold() and order.port in (None, options.hello_port)


def _obstacles(
    services: MembershipServices, master: Master, leaving: Sequence[Server], now: Millis
) -> list[tuple[str, str]]:
    """Return why a master cannot be moved away now."""
    core, name = services.core, master.name
    found: list[tuple[str, str]] = []
    if core.tilt.active:
        found.append(("TILT", f"{name}: nothing is decided here for another {core.tilt.left(now)} ms"))
    if core.state.storage_error is not None:
        found.append(("ERR", f"{name}: {core.state.storage_error}"))
    if master.failover is not None:
        found.append(("INPROG", f"{name}: a failover is in progress"))
    if master.is_down:
        found.append(("MASTERDOWN", f"{name}: {master.address.joined()} is down, so it is failed over, not moved"))
    reasons = []
    for replica in master.replicas.values():
        unfit = unfit_because(replica, master, core.timings, now)
        if replica in leaving:
            reasons.append(f"{replica.name}: it is at the same host")
        elif unfit is None:
            return found
        else:
            reasons.append(f"{replica.name}: {unfit.text}")
    found.append(("NOGOODSLAVE", f"{name}: no other replica can be promoted ({'; '.join(reasons) or 'none is known'})"))
    return found


def _missing_sentinels(master: Master, leaving: Sequence[Peer], *, leaves: bool) -> list[tuple[str, str]]:
    """Return that too few Sentinels are left without those at the host; ``leaves`` if this one is there."""
    left = sum(1 for peer in master.peers.values() if peer not in leaving and is_reachable(peer))
    left += 0 if leaves else 1
    needed = votes_needed(master)
    if left >= needed:
        return []
    reason = f"{left} of {master.voters} Sentinels would be left, {needed} are needed for a failover"
    return [("WOULDBREAKMAJORITY", f"{master.name}: {reason}")]


def leaving_sentinels(services: MembershipServices, order: DrainOrder, plan: DrainPlan) -> list[str]:
    """Return the IDs of the Sentinels at the host, this one included."""
    parking = services.core.parking
    found = {
        peer.name: None
        for master in plan.concerned
        for peer in master.peers.values()
        if parking.is_at(peer.address, order.host, order.port)
    }
    own = [services.core.options.my_id] if _own_host(services, order) else []
    return [*own, *found]


async def _move(services: MembershipServices, order: DrainOrder, master: Master) -> Move:
    """Move one master away from the host, by a switchover without loss."""
    core, host, result = services.core, services.host, Move(master.name, master.address.joined())
    operation_id = new_ulid(wall_now(services), host.random.getrandbits(80).to_bytes(10, "big"))
    comment = f"drain of {order.host}"
    wanted = SwitchoverOrder(operation_id, master.name, order.by, comment=comment, cause="drain")
    try:
        operation = core.switchovers.request(wanted, host.now())
    except CommandError as refusal:
        result.problem = str(refusal)
        return result
    services.turn()

    def has_ended() -> bool:
        return master.gone or operation.ended

    await _until(services, has_ended, host.now() + wanted.timeout + master.options.failover_timeout + SWITCH_MARGIN)
    found = snapshot(operation, wall_now(services) - host.now())
    if found.receipt is not None:
        result.receipt, result.verdict = found.receipt.receipt_id, found.receipt.verdict.value
    if not core.parking.is_at(master.address, order.host, order.port):
        result.new = master.address.joined()
        return result
    reasons = [found.problem] if found.problem is not None else list(found.reasons)
    result.problem = "; ".join(each.text for each in reasons) or f"operation {operation_id} has not ended"
    return result


async def _until(services: MembershipServices, condition: Callable[[], bool], deadline: Millis) -> None:
    while not condition() and services.host.now() < deadline:
        await deferLater(services.host.reactor, CHECK_SECONDS)


async def _wait_for_clients(services: MembershipServices, order: DrainOrder, plan: DrainPlan, began_at: Millis) -> None:
    """Wait until the servers at the host have no clients, but not longer than ordered."""
    deadline = began_at + order.wait
    asked_at = began_at - INFO_INTERVAL

    def nobody_left() -> bool:
        nonlocal asked_at
        now = services.host.now()
        if now - asked_at >= INFO_INTERVAL:
            asked_at = now
            services.core.administration.refresh(_servers(services, order, plan), now)
            services.turn()
            return False
        return not any(count for _, count in _clients(services, order, plan, asked_at))

    if order.wait:
        await _until(services, nobody_left, deadline)


def _servers(services: MembershipServices, order: DrainOrder, plan: DrainPlan) -> list[Server]:
    parking = services.core.parking
    return [
        server
        for master in plan.concerned
        if not master.gone
        for server in parking.servers_at(master, order.host, order.port)
    ]


def _clients(
    services: MembershipServices, order: DrainOrder, plan: DrainPlan, since: Millis = 0
) -> list[tuple[str, int | None]]:
    """
    Return the servers at the host with the number of their clients, besides Sentinels and the master.

    :param since: the number is taken for unknown, and 1, if the last INFO is older.
    """
    found: list[tuple[str, int | None]] = []
    for server in _servers(services, order, plan):
        count = None if server.info_text is None else connected_clients(server.info_text)
        if server.info_refreshed_at is None or server.info_refreshed_at < since:
            count = 1
        elif count is not None:
            # Each Sentinel has two connections, and a replica counts the one to its master.
            count = max(0, count - 2 * server.master.voters - (server is not server.master))
        found.append((server.address.joined(), count))
    return found


def _result(
    services: MembershipServices,
    order: DrainOrder,
    plan: DrainPlan,
    moves: Sequence[Move],
    rows: Value,
    *,
    executed: bool,
    kept: Sequence[str],
) -> Value:
    left = [
        master.name
        for master in plan.concerned
        if not master.gone and services.core.parking.is_at(master.address, order.host, order.port)
    ]
    moved: list[Value] = [
        {
            "master": each.master,
            "from": each.old,
            "to": each.new,
            "problem": each.problem,
            "receipt": each.receipt,
            "verdict": each.verdict,
        }
        for each in moves
    ]
    still: list[Value] = [
        {"address": address, "clients": count}
        for address, count in _clients(services, order, plan)
        if executed and count != 0
    ]
    return {
        "host": order.host,
        "safe": executed and not left and not kept,
        "executed": executed,
        "masters": [master.name for master in plan.moving],
        "servers": [*plan.servers],
        "sentinels_there": [*plan.sentinels],
        "problems": [{"code": code.lower(), "text": reason} for code, reason in plan.problems],
        "moved": moved,
        "still": still,
        "sentinels": rows,
        "kept": [*kept],
    }
