"""
PAUSE, RESUME, PAUSED and ADMIT of TXSENTINEL: no automatic failovers for a while.

The Sentinel that a client asks passes its order on to the others of its kind, with the time and the ID of the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.defer import Deferred

from txsentinel.core.durable_records import ALL_MASTERS, DurableRecord, RecordKey, RecordKind
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import Master
from txsentinel.core.pause_rules import BEST_EFFORT, FAILOVER_SCOPE, GUARANTEED, REQUIREMENTS, SCOPES, scope_of
from txsentinel.core.pauses import MAX_ADMISSION, MAX_PAUSE, WITHDRAWN_FOR, PauseRequest
from txsentinel.model.timings import wall_offset
from txsentinel.server.arguments import integer, refuse_control_characters, syntax_error
from txsentinel.server.commands.sentinel_changes import NOT_SAVED, first_change, once_saved
from txsentinel.server.commands.sentinel_container import txsentinel
from txsentinel.server.fan_out import peer_table
from txsentinel.server.handlers import CommandModule
from txsentinel.server.replies import DeferredReply, Reply
from txsentinel.server.specification import integer_argument, optional, text_argument
from txsentinel.wire.resp import OK, ErrorReply, Value, text

if TYPE_CHECKING:
    from txsentinel.core.durable_records import HeldRecord
    from txsentinel.core.fan_out import PeerAnswer
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import Client
    from txsentinel.server.services import SavingServices

MAX_REASON: Final = 500
"""Maximum length of the reason of a pause in bytes."""

GUARANTEE_TIMEOUT: Final[Millis] = 3_000
"""How long PAUSE waits for the other Sentinels to confirm, and for the votes of C Sentinels."""


_OPTIONS: Final = ("FOR", "SCOPE", "REASON", "REQUIRE", "AT", "ID", "BY")
"""The words before the values of PAUSE and RESUME; the last three, in commands among Sentinels, name the order."""


def _wall(services: SavingServices) -> Millis:
    host = services.host
    return host.now() + wall_offset(host.wall_clock(), host.reactor.seconds())


def pause(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Pause automatic failovers of one master, or of all for ``*``.

    The reply is a map of the pause, what is guaranteed, and what became of it at the other Sentinels. It is sent when
    the pause is durable here, and the others have confirmed it or ``GUARANTEE_TIMEOUT`` is over.

    :raises CommandError: if the syntax is wrong, or the pause is not possible.
    """
    name, options = text(request[2]), _options(request)
    refuse_control_characters(request, 2, "TXSENTINEL PAUSE")
    order = _request(options, client)
    core, now = services.core, services.host.now()
    key = RecordKey(RecordKind.PAUSE, name)
    since, before = first_change(services), core.records.get(key)
    if order.request_id:
        core.pauses.order(name, order, now, _wall(services))
        return once_saved(services, partial(_undo, services, key, before), since, core.pauses.answer(name, now))
    if order.require == GUARANTEED:
        _check_possible(services, name)
    core.pauses.order(name, order, now, _wall(services))
    answer: Deferred[Value] = Deferred()

    def saved() -> None:
        until = services.host.now() + GUARANTEE_TIMEOUT
        core.pauses.await_guarantee(name, until, partial(_answer_pause, services, name, order, answer))

    failed = partial(answer.callback, NOT_SAVED)
    services.barrier.defer_reply(core.outbox.generation, saved, failed, partial(_undo, services, key, before), since)
    return DeferredReply(answer)


def _options(request: Sequence[bytes]) -> Mapping[str, bytes]:
    """Return the words after the name of the master in pairs, by the first of each in upper case."""
    words = request[3:]
    if len(words) % 2 or len(words) > 2 * len(_OPTIONS):
        raise syntax_error()
    found: dict[str, bytes] = {}
    for word, value in zip(words[::2], words[1::2], strict=True):
        option = text(word).upper()
        if option in found or option not in _OPTIONS:
            raise syntax_error()
        found[option] = value
    return found


def _request(options: Mapping[str, bytes], client: Client, *, withdrawn: bool = False) -> PauseRequest:
    """
    Return the order that the options describe.

    :raises CommandError: if a value is invalid.
    """
    if "FOR" not in options:
        raise CommandError("ERR a pause must have an end: FOR <milliseconds>")
    period = integer(options["FOR"], "ERR the time after FOR is not an integer")
    if not 0 < period <= MAX_PAUSE + (WITHDRAWN_FOR if withdrawn else 0):
        raise CommandError(f"ERR a pause lasts from 1 to {MAX_PAUSE} ms; it can be renewed")
    scope = text(options.get("SCOPE", FAILOVER_SCOPE.encode())).lower()
    if scope not in SCOPES:
        raise CommandError(f"ERR SCOPE must be one of {', '.join(SCOPES)}")
    forwarded = "ID" in options or "AT" in options
    require = text(options.get("REQUIRE", (BEST_EFFORT if forwarded else GUARANTEED).encode())).lower()
    if require not in REQUIREMENTS:
        raise CommandError(f"ERR REQUIRE must be one of {', '.join(REQUIREMENTS)}")
    reason = options.get("REASON", b"")
    by = text(options.get("BY", b"")) or f"{client.user} from {client.address}"
    if len(reason) > MAX_REASON or len(by) > MAX_REASON:
        raise CommandError(f"ERR the reason is longer than {MAX_REASON} bytes")
    at, request_id = 0, ""
    if forwarded:
        at, request_id = integer(options.get("AT", b"")), text(options.get("ID", b""))
        if (
            not 0 < at < 1 << 53
            or not 0 < len(request_id) <= 64
            or not request_id.isalnum()
            or not request_id.isascii()
        ):
            raise CommandError("ERR AT must be a time and ID the ID of an order")
        require = BEST_EFFORT
    return PauseRequest(period, scope, require, by, text(reason), at, request_id, withdrawn)


def _check_possible(services: SavingServices, name: str) -> None:
    """
    Check that a pause could be guaranteed if every Sentinel that can be reached took part.

    :raises CommandError: naming those that cannot.
    """
    for master in _masters(services, name):
        unheld = services.core.pauses.unreachable(master)
        if unheld:
            text_ = "; ".join(f"{each.address}: {each.why}" for each in unheld)
            raise CommandError(
                f"CANNOTGUARANTEE a failover of {master.name} would still be possible, so nothing was done ({text_})."
                " REQUIRE best-effort pauses the others"
            )


def _masters(services: SavingServices, name: str) -> list[Master]:
    core = services.core
    return list(core.registry.masters.values()) if name == ALL_MASTERS else [core.master(name)]


def _undo(services: SavingServices, key: RecordKey, before: HeldRecord | None) -> None:
    services.core.pauses.undo(key, before, services.host.now())


def _answer_pause(services: SavingServices, name: str, order: PauseRequest, answer: Deferred[Value]) -> None:
    """Reply to PAUSE; if the guarantee is required and there is none, end the pause again."""
    core, now = services.core, services.host.now()
    held = core.records.get(RecordKey(RecordKind.PAUSE, name))
    if held is None or not held.in_force(now):
        answer.callback(ErrorReply("ERR the pause was ended meanwhile"))
        return
    found = pause_map(services, held)
    if order.require == GUARANTEED and not found["guaranteed"]:
        why = _why_not(services, name)
        records = core.pauses.resume(name, order.by, now, _wall(services))
        core.pauses.broadcast(records, now, _ignore)
        refusal = f"CANNOTGUARANTEE a failover would still be possible, so the pause was ended again ({why})."
        answer.callback(ErrorReply(f"{refusal} REQUIRE best-effort pauses the others"))
        return
    answer.callback(found)


def _why_not(services: SavingServices, name: str) -> str:
    """Return for the first master that is not held who is free to fail it over."""
    for master in _masters(services, name):
        found = services.core.pauses.guarantee(master, services.host.now())
        if not found.guaranteed:
            free = [f"{each.address}: {each.why}" for each in found.free]
            return f"{master.name}: {'; '.join([found.obstacle] if found.obstacle else free)}"
    return "unknown"


def pause_map(services: SavingServices, held: HeldRecord) -> dict[str, Value]:
    """Return a pause, and for each master what is guaranteed and because of which Sentinels."""
    core, now, wall = services.core, services.host.now(), _wall(services)
    record = held.record
    known = record.key.master == ALL_MASTERS or record.key.master in core.registry.masters
    masters = [_guarantee_map(services, master) for master in _masters(services, record.key.master)] if known else []
    found: dict[str, Value] = {
        "master": record.key.master,
        "until": wall + held.until - now,
        "left_ms": held.until - now,
        "scope": scope_of(held),
        "require": record.setting("require", BEST_EFFORT),
        "by": record.by,
        "reason": record.reason,
        "requested_at": record.requested_unix,
        "id": record.request_id,
        "guaranteed": all(each["guaranteed"] for each in masters),
        "masters": cast(Value, masters),
    }
    return found


def _guarantee_map(services: SavingServices, master: Master) -> dict[str, Value]:
    core, now, wall = services.core, services.host.now(), _wall(services)
    found = core.pauses.guarantee(master, now)
    by_hostname, rows = core.options.announce_hostnames, []
    leased, free = dict(found.leased), {each.sentinel_id: each.why for each in found.free}
    for peer in master.peers.values():
        lease_until = leased.get(peer.name)
        state = "leased" if lease_until is not None else "free" if peer.name in free else "paused"
        row: dict[str, Value] = {
            "id": peer.name,
            "address": peer.address.joined(by_hostname),
            "kind": peer.kind,
            "state": state,
            "until": None if lease_until is None else wall + lease_until - now,
            "why": free.get(peer.name),
        }
        rows.append(row)
    return {
        "name": master.name,
        "guaranteed": found.guaranteed,
        "votes_needed": found.needed,
        "holder": found.holder,
        "obstacle": found.obstacle,
        "sentinels": rows,
    }


def resume(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    End the pause of one master, or all pauses for ``*``.

    The reply has how many pauses were ended, until when C Sentinels start no failover at most, and what became of the
    order at the other Sentinels.

    :raises CommandError: if the syntax is wrong, or no master of that name is monitored.
    """
    name, options = text(request[2]), _options(request)
    refuse_control_characters(request, 2, "TXSENTINEL RESUME")
    core, now, wall = services.core, services.host.now(), _wall(services)
    since = first_change(services)
    if options:
        key = RecordKey(RecordKind.PAUSE, name)
        before = core.records.get(key)
        order = _request(options, client, withdrawn=True)
        core.pauses.order(name, order, now, wall)
        return once_saved(services, partial(_undo, services, key, before), since, core.pauses.answer(name, now))
    held = {key: core.records.get(key) for key in _pause_keys(services, name)}
    records = core.pauses.resume(name, f"{client.user} from {client.address}", now, wall)
    answer: Deferred[Value] = Deferred()

    def saved() -> None:
        core.pauses.broadcast(records, services.host.now(), partial(_answer_resume, services, records, answer))

    def undo() -> None:
        for record in records:
            services.core.pauses.undo(record.key, held.get(record.key), services.host.now())

    if not records:
        return {"resumed": 0, "residual_until": None, "sentinels": []}
    failed = partial(answer.callback, NOT_SAVED)
    services.barrier.defer_reply(core.outbox.generation, saved, failed, undo, since)
    return DeferredReply(answer)


def _pause_keys(services: SavingServices, name: str) -> list[RecordKey]:
    held = services.core.records.in_force(RecordKind.PAUSE, services.host.now())
    return [each.record.key for each in held if name in (ALL_MASTERS, each.record.key.master)]


def _answer_resume(
    services: SavingServices,
    records: Sequence[DurableRecord],
    answer: Deferred[Value],
    answers: Sequence[PeerAnswer],
) -> None:
    core, now, wall = services.core, services.host.now(), _wall(services)
    names = [record.key.master for record in records]
    masters = list(core.registry.masters) if ALL_MASTERS in names else names
    ends = [core.pauses.leases.residual(name, now) for name in masters]
    last = max((each for each in ends if each is not None), default=None)
    answer.callback(
        {
            "resumed": len(records),
            "residual_until": None if last is None else wall + last - now,
            "sentinels": peer_table(answers, by_hostname=core.options.announce_hostnames),
        }
    )


def paused(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the pauses in force, of one master or all, as an array of maps.

    :raises CommandError: if no master of that name is monitored, or the syntax is wrong.
    """
    if len(request) > 3:
        raise syntax_error()
    core, now = services.core, services.host.now()
    names = None if len(request) == 2 else (core.master(text(request[2])).name, ALL_MASTERS)
    held = list(core.records.in_force(RecordKind.PAUSE, now))
    return [pause_map(services, each) for each in held if names is None or each.record.key.master in names]


def admit(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Permit to vote for one candidate in one epoch although failovers are paused; sent by the Sentinel that campaigns.

    :raises CommandError: if no master of that name is monitored, or a value is invalid.
    """
    epoch, period = integer(request[4]), integer(request[5])
    core, candidate = services.core, text(request[3])
    if epoch < 0 or not 0 < period <= MAX_ADMISSION:
        raise CommandError(f"ERR the epoch must not be negative, and the time from 1 to {MAX_ADMISSION} ms")
    if not core.state.is_valid_id(candidate):
        raise CommandError("ERR this is not the ID of a Sentinel")
    core.pauses.admit(text(request[2]), candidate, epoch, period, services.host.now())
    return OK


def _ignore(answers: Sequence[PeerAnswer]) -> None:
    """The Sentinels exchange what they have again later."""


_NAME: Final = (text_argument("master-name"),)
_ORDER: Final = (
    optional(text_argument("scope", token="SCOPE")),
    optional(text_argument("reason", token="REASON")),
    optional(text_argument("require", token="REQUIRE")),
)

COMMANDS: Final[CommandModule[SavingServices]] = {
    txsentinel(
        "txsentinel|pause",
        arity=-5,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Pauses automatic failovers of a master, or of all",
        arguments=(*_NAME, integer_argument("milliseconds", token="FOR"), *_ORDER),
        acts=True,
    ): pause,
    txsentinel(
        "txsentinel|resume",
        arity=-3,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Ends pauses of automatic failovers",
        arguments=_NAME,
        acts=True,
    ): resume,
    txsentinel(
        "txsentinel|paused",
        arity=-2,
        since="0.2.0",
        alias_of="sentinel|masters",
        summary="Returns the pauses of automatic failovers",
        arguments=(optional(text_argument("master-name")),),
    ): paused,
    txsentinel(
        "txsentinel|admit",
        arity=6,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Permits to vote for a candidate although failovers are paused",
        arguments=(
            *_NAME,
            text_argument("sentinel-id"),
            integer_argument("epoch"),
            integer_argument("milliseconds"),
        ),
    ): admit,
}
