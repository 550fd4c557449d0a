"""The subcommands of TXSENTINEL about switchovers, which are ordered, followed and cancelled by an ID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred

from txsentinel.config.records import RECORD_SETTINGS
from txsentinel.core.durable_records import DurableRecord, RecordKey, RecordKind
from txsentinel.core.errors import CommandError
from txsentinel.core.switchover_state import (
    DEFAULT_MAX_LAG,
    DEFAULT_MAX_PAUSE,
    DEFAULT_TIMEOUT,
    Expectation,
    Operation,
    SwitchoverOrder,
    snapshot,
)
from txsentinel.model.operations import OperationState, SwitchoverMethod
from txsentinel.model.ulid import new_ulid
from txsentinel.server.arguments import integer, refuse_control_characters
from txsentinel.server.commands.sentinel_changes import NOT_SAVED, first_change, once_saved
from txsentinel.server.commands.sentinel_container import MASTER_NAME, txsentinel
from txsentinel.server.commands.txsentinel import record_value, wall_now
from txsentinel.server.handlers import CommandModule
from txsentinel.server.replies import DeferredReply, DurableReply, Reply
from txsentinel.server.specification import (
    block,
    integer_argument,
    multiple,
    oneof,
    optional,
    text_argument,
    word,
)
from txsentinel.wire.resp import OK, Value, text

if TYPE_CHECKING:
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import Client
    from txsentinel.server.services import SavingServices

MAX_COMMENT: Final = 1_000
"""Maximum length of a comment in bytes."""

MAX_ID: Final = 64
MAX_KEY: Final = 255
"""Maximum length of an idempotency key in bytes."""

MIN_TIME: Final[Millis] = 10
MAX_TIME: Final[Millis] = 600_000
"""Bounds of TIMEOUT and MAXPAUSE."""

_METHODS: Final = {each.value: each for each in SwitchoverMethod}
_WORDS: Final = {
    "TO": 2,
    "AT": 1,
    "METHOD": 1,
    "TIMEOUT": 1,
    "MAXLAG": 1,
    "MAXPAUSE": 1,
    "COMMENT": 1,
    "EXPECT": 3,
    "KEY": 1,
    "DRYRUN": 0,
}
"""Option → the number of its values."""


def _options(request: Sequence[bytes]) -> dict[str, Sequence[bytes]]:
    """
    Return the options with their values.

    :raises CommandError: for an unknown option, one that is repeated, or a missing value.
    """
    found: dict[str, Sequence[bytes]] = {}
    at = 3
    while at < len(request):
        name = text(request[at]).upper()
        count = _WORDS.get(name)
        if count is None:
            raise CommandError(f"ERR unknown option '{text(request[at])[:64]}' of TXSENTINEL SWITCHOVER")
        values = request[at + 1 : at + 1 + count]
        if len(values) < count:
            raise CommandError(f"ERR {name} needs {count} value{'s' if count > 1 else ''}")
        if name in found:
            raise CommandError(f"ERR {name} is given twice")
        found[name] = values
        at += 1 + count
    return found


def _bounded(options: dict[str, Sequence[bytes]], name: str, default: int, least: int, most: int) -> int:
    if name not in options:
        return default
    number = integer(options[name][0], f"ERR {name} must be an integer")
    if not least <= number <= most:
        raise CommandError(f"ERR {name} must be between {least} and {most}")
    return number


def _text(options: dict[str, Sequence[bytes]], name: str, most: int) -> str | None:
    if name not in options:
        return None
    raw = options[name][0]
    if len(raw) > most:
        raise CommandError(f"ERR {name} is longer than {most} bytes")
    return text(raw)


def parse_order(request: Sequence[bytes], operation_id: str, by: str) -> SwitchoverOrder:
    """
    Parse ``TXSENTINEL SWITCHOVER``.

    :raises CommandError: if a word is wrong, with its name.
    """
    options = _options(request)
    candidate = expect = None
    if "TO" in options:
        host, port = options["TO"]
        candidate = text(host), integer(port, "ERR the port after TO must be an integer")
    if "EXPECT" in options:
        host, port, epoch = options["EXPECT"]
        expect = Expectation(
            text(host),
            integer(port, "ERR the port after EXPECT must be an integer"),
            integer(epoch, "ERR the config epoch after EXPECT must be an integer"),
        )
    name = text(options["METHOD"][0]).lower() if "METHOD" in options else "auto"
    if name != "auto" and name not in _METHODS:
        raise CommandError(f"ERR METHOD must be one of auto, {', '.join(_METHODS)}")
    return SwitchoverOrder(
        operation_id,
        text(request[2]),
        by,
        candidate,
        _METHODS.get(name),
        _bounded(options, "TIMEOUT", DEFAULT_TIMEOUT, MIN_TIME, MAX_TIME),
        _bounded(options, "MAXLAG", DEFAULT_MAX_LAG, 0, 1 << 62),
        _bounded(options, "MAXPAUSE", DEFAULT_MAX_PAUSE, MIN_TIME, MAX_TIME),
        "DRYRUN" in options,
        _text(options, "COMMENT", MAX_COMMENT),
        expect,
        _text(options, "KEY", MAX_KEY),
        integer(options["AT"][0], "ERR AT must be milliseconds since 1970") if "AT" in options else None,
    )


def _rendered(services: SavingServices, operation: Operation) -> Value:
    return record_value(snapshot(operation, wall_now(services) - services.host.now()))


def switchover(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Order a switchover; reply the operation as a map when its conditions were tested and its beginning is durable.

    :raises CommandError: if a word is wrong, the master is unknown, or another operation of it has not ended.
    """
    host, core = services.host, services.core
    operation_id = new_ulid(wall_now(services), host.random.getrandbits(80).to_bytes(10, "big"))
    order = parse_order(request, operation_id, f"{client.user} from {client.address}")
    answer: Deferred[Value] = Deferred()
    if order.at is not None and not order.dry_run:
        if order.key is not None:
            raise CommandError("ERR KEY cannot be given with AT, as one switchover of a master is scheduled at a time")
        since = first_change(services)
        scheduled = core.schedules.order(order, host.now(), wall_now(services))

        def undo() -> None:
            core.schedules.withdraw(scheduled, "an order that could not be saved", host.now(), wall_now(services))

        return DurableReply(core.outbox.generation, lambda: _rendered(services, scheduled), NOT_SAVED, undo, since)
    operation = core.switchovers.request(order, host.now())

    def reply() -> None:
        answer.callback(_rendered(services, operation))

    def checked() -> None:
        if operation.state is OperationState.RUNNING:
            services.barrier.defer_reply(core.outbox.generation, reply, lambda: answer.callback(NOT_SAVED))
        else:
            reply()

    core.state.operations.when_checked(operation, checked)
    return DeferredReply(answer)


def operations(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the operations that are known here, newest first."""
    known = reversed(services.core.state.operations.known.values())
    return [_rendered(services, each) for each in known]


def operation(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return one operation.

    :raises CommandError: if it is not known here.
    """
    found = services.core.state.operations.known.get(text(request[2]))
    if found is None:
        raise CommandError("NOSUCHOPERATION no operation with that ID is known here")
    return _rendered(services, found)


def cancel(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Cancel an operation whose promotion was not ordered yet.

    :raises CommandError: if it is not known here, or it is too late.
    """
    by, core, now = f"{client.user} from {client.address}", services.core, services.host.now()
    found = core.state.operations.scheduled.get(text(request[2]))
    if found is not None:
        core.schedules.withdraw(found, by, now, wall_now(services))
        core.schedules.evaluate(now, wall_now(services))
        return DurableReply(core.outbox.generation, lambda: _rendered(services, found), NOT_SAVED)
    return _rendered(services, services.core.switchovers.cancel(text(request[2]), by, services.host.now()))


def _record(request: Sequence[bytes], kind: RecordKind) -> DurableRecord:
    """
    Return the record that another Sentinel sends. Its word 8 is the subject, or a comment if the kind has none.

    :raises CommandError: if a word is wrong.
    """
    command = text(request[1]).upper()
    requested, until = integer(request[4]), integer(request[5])
    settings: dict[str, str] = {}
    for raw in request[9:]:
        name, equals, value = text(raw).partition("=")
        if not equals or name not in RECORD_SETTINGS[kind] or len(value) > MAX_COMMENT:
            raise CommandError(f"ERR a setting of TXSENTINEL {command} is not known or too long")
        settings[name] = value
    refuse_control_characters(request, 2, f"TXSENTINEL {command}")
    if len(request[3]) > MAX_ID or not request[3].isalnum() or max(len(request[7]), len(request[8])) > MAX_COMMENT:
        raise CommandError(f"ERR the ID, the user or the word after it of TXSENTINEL {command} is not valid")
    subject, reason = (text(request[8]), "") if kind.has_subject else ("", text(request[8]))
    return DurableRecord(
        RecordKey(kind, text(request[2]), subject),
        until,
        requested,
        text(request[3]),
        text(request[7]),
        reason,
        request[6] == b"1",
        tuple((name, settings[name]) for name in RECORD_SETTINGS[kind] if name in settings),
    )


def schedule(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Store a scheduled switchover of another Sentinel, which sends this itself; reply ``OK`` when it is durable.

    :raises CommandError: if the master is unknown, or a word is wrong.
    """
    record = _record(request, RecordKind.SCHEDULED)
    services.core.schedules.received(record, services.host.now(), wall_now(services))
    return once_saved(services)


def rejecting(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Store the settings of a server that rejects writes for a switchover of another Sentinel, which sends this itself.

    :raises CommandError: if the master is unknown, or a word is wrong.
    """
    services.core.rejections.received(_record(request, RecordKind.REJECTING), services.host.now())
    return once_saved(services)


def holding(services: SavingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Note that another Sentinel holds the writes of a server for some milliseconds; it sends this itself.

    :raises CommandError: if the master or the server is unknown, or a number is wrong.
    """
    port, period = integer(request[4]), integer(request[5])
    if period < 0:
        raise CommandError("ERR the period is negative")
    now = services.host.now()
    services.core.switchovers.held_elsewhere(text(request[2]), text(request[3]), port, period, now)
    return OK


COMMANDS: Final[CommandModule[SavingServices]] = {
    txsentinel(
        "txsentinel|switchover",
        arity=-3,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Replaces a healthy master by a replica without losing a write",
        arguments=(
            *MASTER_NAME,
            optional(block("candidate", text_argument("host"), integer_argument("port"), token="TO")),
            optional(integer_argument("at-unix-ms", token="AT")),
            optional(oneof("method", word("AUTO"), word("HANDOVER"), word("FENCE"), word("REJECT"), token="METHOD")),
            optional(integer_argument("timeout-ms", token="TIMEOUT")),
            optional(integer_argument("max-lag-bytes", token="MAXLAG")),
            optional(integer_argument("max-pause-ms", token="MAXPAUSE")),
            optional(word("DRYRUN")),
            optional(text_argument("comment", token="COMMENT")),
            optional(
                block(
                    "expectation",
                    text_argument("host"),
                    integer_argument("port"),
                    integer_argument("config-epoch"),
                    token="EXPECT",
                )
            ),
            optional(text_argument("idempotency-key", token="KEY")),
        ),
        acts=True,
    ): switchover,
    txsentinel(
        "txsentinel|operations",
        arity=2,
        since="0.2.0",
        alias_of="sentinel|masters",
        summary="Returns the switchovers that were ordered here",
    ): operations,
    txsentinel(
        "txsentinel|operation",
        arity=3,
        since="0.2.0",
        alias_of="sentinel|masters",
        summary="Returns one of them by its ID",
        arguments=(text_argument("operation-id"),),
    ): operation,
    txsentinel(
        "txsentinel|cancel",
        arity=3,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Cancels a switchover whose promotion was not ordered yet",
        arguments=(text_argument("operation-id"),),
        acts=True,
    ): cancel,
    txsentinel(
        "txsentinel|schedule",
        arity=-9,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Stores a scheduled switchover of another Sentinel",
        arguments=(
            *MASTER_NAME,
            text_argument("operation-id"),
            integer_argument("requested-unix-ms"),
            integer_argument("until-unix-ms"),
            integer_argument("withdrawn"),
            text_argument("by"),
            text_argument("comment"),
            optional(multiple(text_argument("setting"))),
        ),
        acts=True,
    ): schedule,
    txsentinel(
        "txsentinel|rejecting",
        arity=-9,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Stores the settings of a server that rejects writes for a switchover",
        arguments=(
            *MASTER_NAME,
            text_argument("operation-id"),
            integer_argument("requested-unix-ms"),
            integer_argument("until-unix-ms"),
            integer_argument("withdrawn"),
            text_argument("by"),
            text_argument("server"),
            optional(multiple(text_argument("setting"))),
        ),
        acts=True,
    ): rejecting,
    txsentinel(
        "txsentinel|holding",
        arity=6,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Notes that another Sentinel holds the writes of a server",
        arguments=(
            *MASTER_NAME,
            text_argument("host"),
            integer_argument("port"),
            integer_argument("milliseconds"),
        ),
        acts=True,
    ): holding,
}
