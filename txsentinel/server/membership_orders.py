"""
Orders about the members of groups that all Sentinels of our kind execute: removal, and parking.

The Sentinel that is asked checks, asks the others whether they see the member alive, saves the order, and passes it on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred

from txsentinel.core.errors import CommandError
from txsentinel.core.fan_out import PeerAnswer
from txsentinel.core.instances import Master, Peer, Replica
from txsentinel.core.membership_state import MembershipRequest
from txsentinel.core.quorum import reachable_sentinels, votes_needed
from txsentinel.model.timings import Millis, wall_offset
from txsentinel.server.fan_out import FanOutServices, ask_peers
from txsentinel.server.replies import DeferredReply
from txsentinel.server.services import SavingServices
from txsentinel.wire.resp import ErrorReply, Value, data, text

ALL: Final = "*"
"""Stands for all masters."""

UNKNOWN_NODE: Final = "UNKNOWNNODE"

DECISIVE: Final = ("STILLALIVE", "INPROG")
"""What another Sentinel may answer so that a member is removed nowhere."""

NOT_SAVED: Final = "ERR Failed to save config file. Check server logs."


class MembershipServices(SavingServices, FanOutServices, Protocol):
    """What these orders need."""

    def turn(self) -> None:
        """Execute the decisions of the core."""


ResetsInTurn: TypeAlias = "Callable[[MembershipServices, Master, str], Awaitable[dict[str, str]]]"
"""Resets the C Sentinels of a master, which then forget the member of that name; returns what each did, by its ID."""


@dataclass(frozen=True, slots=True)
class MemberName:
    """A member as an operator names it: by ID, or by address. ``master`` is a name or ``*``."""

    master: str
    sentinel_id: str = ""
    host: str = ""
    port: int = 0

    @property
    def words(self) -> tuple[bytes, ...]:
        """The words for it in a command."""
        if self.sentinel_id:
            return data(self.master), b"ID", data(self.sentinel_id)
        return data(self.master), b"NODE", data(self.host), b"%d" % self.port


def wall_now(services: FanOutServices) -> Millis:
    """Return milliseconds since 1970."""
    host = services.host
    return host.now() + wall_offset(host.wall_clock(), host.reactor.seconds())


def make_request(services: FanOutServices, lasting: Millis, by: str) -> MembershipRequest:
    """Return a new request of an operator."""
    wall = wall_now(services)
    return MembershipRequest(lasting, wall + lasting, wall, f"{services.host.random.getrandbits(64):016x}", by)


def request_words(request: MembershipRequest) -> tuple[bytes, ...]:
    """Return the words that pass a request on."""
    return (
        b"FOR",
        b"%d" % request.lasting,
        b"AT",
        b"%d" % request.requested_unix,
        data(request.request_id),
        b"BY",
        data(request.by),
    )


def deferred_reply(services: FanOutServices, task: Coroutine[Deferred[Any], Any, Value]) -> DeferredReply:
    """Return the reply that a coroutine computes; a ``CommandError`` is an error reply."""

    async def answer() -> Value:
        try:
            return await task
        except CommandError as refusal:
            return ErrorReply(str(refusal))

    return DeferredReply(Deferred.fromCoroutine(answer()))


async def saved(services: MembershipServices, undo: Callable[[], None]) -> None:
    """
    Wait until all changes so far are durable.

    :param undo: called if they cannot be saved.
    :raises CommandError: in that case.
    """
    outcome: Deferred[bool] = Deferred()
    services.barrier.defer_reply(
        services.core.outbox.generation, lambda: outcome.callback(True), lambda: outcome.callback(False)
    )
    services.turn()
    if not await outcome:
        undo()
        services.turn()
        raise CommandError(NOT_SAVED)


def find(services: FanOutServices, node: MemberName) -> list[tuple[Master, Peer | Replica]]:
    """
    Return the member, with each master that has it.

    :raises CommandError: if no master has it.
    """
    core = services.core
    names = list(core.registry.masters) if node.master == ALL else [node.master]
    found: list[tuple[Master, Peer | Replica]] = []
    for name in names:
        master = core.master(name)
        try:
            member = core.forgetting.find(master, sentinel_id=node.sentinel_id, host=node.host, port=node.port)
        except CommandError as refusal:
            if node.master == ALL and str(refusal).startswith(UNKNOWN_NODE):
                continue
            raise
        found.append((master, member))
    if not found:
        raise CommandError(f"{UNKNOWN_NODE} no master has such a Sentinel or replica here")
    return found


def check(
    services: FanOutServices, node: MemberName, *, force: bool, majority: bool
) -> list[tuple[Master, Peer | Replica]]:
    """
    Check that a member can be removed, and return it with each master that has it.

    :param majority: whether to check that no second leader becomes possible.
    :raises CommandError: if it cannot be removed from one of them.
    """
    core, now = services.core, services.host.now()
    found = find(services, node)
    for master, member in found:
        core.forgetting.check(master, member, now, force=force)
        if majority and isinstance(member, Peer):
            core.forgetting.check_majority(master, member)
    return found


def remove(
    services: FanOutServices, found: Sequence[tuple[Master, Peer | Replica]], request: MembershipRequest
) -> list[tuple[Master, str]]:
    """Remove a member from masters; return the names of the tombstones."""
    core, now = services.core, services.host.now()
    return [(master, core.forgetting.forget(master, member, request, now)) for master, member in found]


def withdraw(services: FanOutServices, made: Sequence[tuple[Master, str]]) -> None:
    """Keep a member whose removal could not be saved."""
    for master, name in made:
        if not master.gone:
            services.core.forgetting.withdraw(master, name)


async def forget_everywhere(
    services: MembershipServices,
    node: MemberName,
    lasting: Millis,
    by: str,
    *,
    force: bool,
    reset: ResetsInTurn | None = None,
) -> Value:
    """
    Remove a member at all Sentinels of our kind.

    :param reset: resets the C Sentinels; without it they keep the member.
    :returns: a map with what each Sentinel answered.
    :raises CommandError: if it may be alive, if a second leader could become possible, or if it cannot be saved here.
    """
    found = check(services, node, force=force, majority=False)
    peers = _peers_of(services, found)
    forced = (b"FORCE",) if force else ()
    question = (b"TXSENTINEL", b"FORGET", *node.words, *forced, b"CHECK")
    for answer in await _ask(services, peers, question):
        code, _, reason = (answer.error or "").partition(" ")
        if code in DECISIVE:
            raise CommandError(f"{code} the Sentinel at {answer.address.joined()}: {reason}")
        _note_members(services, answer)
    found = check(services, node, force=force, majority=not force)
    request = make_request(services, lasting, by)
    made = remove(services, found, request)
    await saved(services, lambda: withdraw(services, made))
    order = (b"TXSENTINEL", b"FORGET", *node.words, *forced, *request_words(request))
    answers = await _ask(services, peers, order)
    core = services.core
    for answer in answers:
        if _has_removed(answer):
            for master, name in made:
                core.forgetting.confirmed(master, name, answer.peer_id)
    member = found[0][1]
    resets: dict[str, str] = {}
    for master, name in made if reset is not None else ():
        if reset is not None and not master.gone:
            resets.update(await reset(services, master, name))
    own: Value = {"id": core.options.my_id, "address": None, "kind": "txsentinel", "result": "removed"}
    by_hostname = core.options.announce_hostnames
    return {
        "node": member.name,
        "kind": "sentinel" if isinstance(member, Peer) else "replica",
        "address": member.address.joined(by_hostname),
        "until": request.until_unix,
        "masters": [_group(master) for master, _ in found if not master.gone],
        "sentinels": [own, *(_row(answer, by_hostname, resets.get(answer.peer_id)) for answer in answers)],
    }


def members(services: FanOutServices, node: MemberName, *, force: bool) -> Value:
    """
    Check that a member can be removed here, and return which Sentinels this one counts.

    :returns: for each master its name, followed by the IDs of its other Sentinels.
    :raises CommandError: if it may be alive, or nothing can be removed now.
    """
    try:
        check(services, node, force=force, majority=False)
    except CommandError as refusal:
        if not str(refusal).startswith(UNKNOWN_NODE):
            raise
    masters = services.core.registry.masters
    named = masters.values() if node.master == ALL else [services.core.master(node.master)]
    return [[master.name, *master.peers] for master in named]


def _note_members(services: FanOutServices, answer: PeerAnswer) -> None:
    """Record which of the Sentinels that were removed here before another Sentinel does not count either."""
    rows = answer.reply if isinstance(answer.reply, list) else []
    for row in rows:
        words = [text(each) for each in row if isinstance(each, bytes)] if isinstance(row, list) else []
        master = services.core.registry.masters.get(words[0]) if words else None
        if master is not None:
            for name in master.membership.tombstones:
                if name not in words:
                    services.core.forgetting.confirmed(master, name, answer.peer_id)


def _peers_of(services: FanOutServices, found: Sequence[tuple[Master, Peer | Replica]]) -> list[Peer]:
    """Return the other Sentinels of these masters, each once, without the one that is removed."""
    leaving = {member.name for _, member in found if isinstance(member, Peer)}
    peers = {peer.name: peer for master, _ in found for peer in services.core.fan_out.peers(master.name)}
    return [peer for name, peer in sorted(peers.items()) if name not in leaving]


async def _ask(services: MembershipServices, peers: Sequence[Peer], words: Sequence[bytes]) -> Sequence[PeerAnswer]:
    asked = ask_peers(services, peers, words)
    services.turn()
    return await asked


def _has_removed(answer: PeerAnswer) -> bool:
    return answer.error is None or answer.error.startswith(UNKNOWN_NODE)


def _row(answer: PeerAnswer, by_hostname: bool, reset: str | None = None) -> Value:
    result = answer.error or "removed"
    if reset is not None:
        result = reset
    elif answer.kind == "c":
        result = "keeps it: it is a C Sentinel"
    elif result.startswith(UNKNOWN_NODE):
        result = "did not know it"
    address = answer.address.joined(by_hostname)
    return {"id": answer.peer_id, "address": address, "kind": answer.kind, "result": result}


def _group(master: Master) -> Value:
    """Return the size of a group after a removal, with a warning if it cannot elect a leader all the same."""
    reachable, needed = reachable_sentinels(master), votes_needed(master)
    short = f"only {reachable} of {master.voters} Sentinels can be reached, {needed} are needed for a failover"
    return {
        "master": master.name,
        "sentinels": master.voters,
        "majority": master.majority,
        "reachable": reachable,
        "warning": short if reachable < needed else None,
    }


async def park_everywhere(
    services: MembershipServices, masters: Sequence[Master], host: str, port: int | None, lasting: Millis, by: str
) -> Value:
    """
    Park the servers at an address at all Sentinels of our kind.

    :param port: ``None`` for all servers at ``host``.
    :returns: what each other Sentinel answered, as rows.
    :raises CommandError: if it cannot be saved here.
    """
    core, now = services.core, services.host.now()
    request = make_request(services, lasting, by)
    core.parking.park_host(host, port, request, now)
    await saved(services, lambda: unpark_quietly(services, host, port))
    words = (*_place(b"PARK", host, port), *request_words(request))
    return _rows(services, await _ask(services, _all_peers(services, masters), words), "parked")


async def unpark_everywhere(
    services: MembershipServices, masters: Sequence[Master], host: str, port: int | None, by: str
) -> Value:
    """
    Permit the promotion of the servers at an address at all Sentinels of our kind.

    :returns: what each other Sentinel answered, as rows.
    :raises CommandError: if it cannot be saved here.
    """
    services.core.parking.unpark_host(host, port, services.host.now(), by)
    await saved(services, lambda: None)
    words = (*_place(b"UNPARK", host, port), b"BY", data(by))
    return _rows(services, await _ask(services, _all_peers(services, masters), words), "may be promoted")


def unpark_quietly(services: FanOutServices, host: str, port: int | None) -> None:
    """Undo a parking that could not be saved."""
    services.core.parking.unpark_host(host, port, services.host.now(), "a failed save")


def _place(subcommand: bytes, host: str, port: int | None) -> tuple[bytes, ...]:
    return b"TXSENTINEL", subcommand, data(host), b"*" if port is None else b"%d" % port


def _all_peers(services: FanOutServices, masters: Sequence[Master]) -> list[Peer]:
    peers = {peer.name: peer for master in masters for peer in services.core.fan_out.peers(master.name)}
    return [peer for _, peer in sorted(peers.items())]


def _rows(services: FanOutServices, answers: Sequence[PeerAnswer], done: str) -> Value:
    by_hostname = services.core.options.announce_hostnames
    rows: list[Value] = []
    for answer in answers:
        result = done if answer.error is None else answer.error
        if answer.kind == "c":
            result = "may promote them: it is a C Sentinel"
        address = answer.address.joined(by_hostname)
        rows.append({"id": answer.peer_id, "address": address, "kind": answer.kind, "result": result})
    return rows
