"""
The TXSENTINEL container: what C Sentinels do not report.

COMMAND does not list it, and ACL rules cannot name it: C servers exit when they read a user with an unknown command.
Each subcommand needs the right of the nearest subcommand of SENTINEL instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.defer import Deferred

from txsentinel.core.errors import CommandError
from txsentinel.core.explaining import MAX_JOURNAL
from txsentinel.core.fan_out import PeerAnswer
from txsentinel.core.instances import Instance, Master, Peer, Replica, Server
from txsentinel.model.explanation import with_warnings
from txsentinel.model.plain import plain, unix_instant
from txsentinel.model.publications import PublisherState, publication_warnings
from txsentinel.model.timings import wall_offset
from txsentinel.server import helptexts
from txsentinel.server.arguments import integer, syntax_error
from txsentinel.server.commands.sentinel_container import MASTER_NAME, txsentinel
from txsentinel.server.handlers import CommandModule, refuse_without_subcommand
from txsentinel.server.replies import DeferredReply, DurableReply, Reply, Steps, Stepwise
from txsentinel.server.shared_options import options_hash, shared_options
from txsentinel.server.specification import Command, container, integer_argument, optional, text_argument
from txsentinel.wire.resp import OK, ErrorReply, Value, data, text

if TYPE_CHECKING:
    from txsentinel.model.failure import LinkFailure
    from txsentinel.model.history import FailoverRecord
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import Client
    from txsentinel.server.services import OperatorServices, SavingServices

DEFAULT_FAILOVERS: Final = 10
"""Number of failovers that HISTORY returns if none is given."""

MAX_COMMENT: Final = 1_000
"""Maximum length of a comment in bytes."""


def record_value(record: object) -> Value:
    """Return a frozen record as a value for a reply; points in time are milliseconds since 1970."""
    return cast(Value, plain(record, unix_instant))


def wall_now(services: SavingServices | OperatorServices) -> Millis:
    """Return the wall clock in milliseconds since 1970."""
    host = services.host
    return host.now() + wall_offset(host.wall_clock(), host.reactor.seconds())


def explain(services: OperatorServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the explanation of one master as a map.

    :raises CommandError: if no master of that name is monitored, or the syntax is wrong.
    """
    records = MAX_JOURNAL
    if len(request) > 3:
        if len(request) != 5 or request[3].lower() != b"journal":
            raise syntax_error()
        records = integer(request[4])
        if records < 0:
            raise CommandError("ERR the number of journal records is negative")
    name = text(request[2])
    explanation = services.core.explain(name, services.host.now(), wall_now(services), records)
    return record_value(with_warnings(explanation, services.publishers.warnings(name)))


def agree(services: OperatorServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return what this Sentinel holds of one master, to compare Sentinels: address, epochs, options, clock.

    :raises CommandError: if no master of that name is monitored.
    """
    core = services.core
    master = core.master(text(request[2]))
    address, by_hostname = core.state.durable_address(master), core.options.announce_hostnames
    found: dict[str, Value] = {
        "sentinel_id": core.options.my_id,
        "version": services.process_info.version,
        "master": master.name,
        "host": address.announced(by_hostname),
        "port": address.port,
        "config_epoch": core.state.durable_config_epoch(master),
        "current_epoch": core.current_epoch,
        "quorum": master.options.quorum,
        "options_hash": options_hash(master),
        "wall_clock_ms": wall_now(services),
        "options": dict(shared_options(master)),
    }
    return found


def history(services: OperatorServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the latest failovers of one master, or of all for ``*``, as an array of maps, newest first.

    :raises CommandError: if no master of that name is monitored and none was failed over, or the syntax is wrong.
    """
    if len(request) > 4:
        raise syntax_error()
    name = text(request[2]) if len(request) > 2 and request[2] != b"*" else None
    limit = integer(request[3]) if len(request) > 3 else DEFAULT_FAILOVERS
    if limit < 0:
        raise CommandError("ERR the number of failovers is negative")
    found = services.failovers(name, limit)
    if name is not None and not found:
        services.core.master(name)
    return Stepwise(_rendered(found))


def reload(services: OperatorServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Read the files again that the configuration names, as SIGHUP does; an error has all that was wrong in them."""

    def answer(problem: str) -> Value:
        return ErrorReply(f"RELOADFAILED {' '.join(problem.split())}") if problem else OK

    answered: Deferred[Value] = services.reload().addCallback(answer)
    return DeferredReply(answered)


def acknowledge(services: OperatorServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Record that the operator has seen a failover, with a comment, and end the block of further ones.

    Other Sentinels, which add who did it, pass it on.

    :raises CommandError: if neither a record nor a block of this failover is known, or the comment is too long.
    """
    if len(request) > 5:
        raise syntax_error()
    comment = request[3] if len(request) > 3 else b""
    if len(comment) > MAX_COMMENT:
        raise CommandError(f"ERR the comment is longer than {MAX_COMMENT} bytes")
    passed_on = len(request) > 4
    by = text(request[4])[:MAX_COMMENT] if passed_on else f"{client.user} from {client.address}"
    core, record_id, now = services.core, text(request[2]), services.host.now()
    group = services.acknowledge(record_id, by, text(comment))
    masters = list(core.registry.masters.values())
    ended = core.failover_blocks.acknowledge(masters, group or record_id, now, by)
    if group is None and not ended:
        raise CommandError("ERR No such record")
    if not passed_on:
        words = (b"TXSENTINEL", b"ACK", data(group or record_id), comment, data(by))
        core.fan_out.send(core.fan_out.peers(), words, now, _ignore_answers)
    return DurableReply(core.outbox.generation, OK, OK) if ended else OK


def _ignore_answers(answers: Sequence[PeerAnswer]) -> None:
    """Ignore that some Sentinels have no record of the failover, or did not answer: they may be asked themselves."""


def _rendered(records: Sequence[FailoverRecord]) -> Steps:
    found = []
    for record in records:
        found.append(record_value(record))
        yield b""
    return found


def doctor(services: OperatorServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return what a check of this Sentinel needs: storage, descriptors, scripts, TILT, and each link with its failures.

    :raises CommandError: if no master of that name is monitored.
    """
    registry = services.core.registry
    if len(request) > 3:
        raise syntax_error()
    if len(request) == 3:
        return _examined(services, [services.core.master(text(request[2]))])
    return Stepwise(_examine_all(services, list(registry.masters.values())))


def _examine_all(services: OperatorServices, masters: Sequence[Master]) -> Steps:
    found = []
    for master in masters:
        if not master.gone:
            found.append(_master_state(services, master))
        yield b""
    return {"sentinel": _sentinel_state(services), "masters": found}


def _examined(services: OperatorServices, masters: Sequence[Master]) -> Value:
    return {
        "sentinel": _sentinel_state(services),
        "masters": [_master_state(services, master) for master in masters],
    }


def _sentinel_state(services: OperatorServices) -> Value:
    core, now, wall = services.core, services.host.now(), wall_now(services)
    state, tilt, options = core.state, core.tilt, core.options
    error = state.storage_error
    attempts = [job.attempts for job in services.scripts.jobs]
    publishers: list[Value] = [_publisher_state(each) for each in services.publishers.states()]
    return {
        "sentinel_id": options.my_id,
        "version": services.process_info.version,
        "build": services.process_info.build,
        "uptime_ms": now - services.started_at,
        "wall_clock_ms": wall,
        "config_file": services.config_path,
        "current_epoch": core.current_epoch,
        "storage": {
            "state": "ok" if error is None else "failing",
            "error": None if error is None else f"{error.code}, {error.reason}",
            "path": services.config_path if error is None or not error.path else error.path,
            "saved_at": None if core.saved_at is None else core.saved_at + wall - now,
            "pending": core.outbox.generation - core.durable_generation,
        },
        "available_descriptors": services.available_descriptors(),
        "clients": len(services.clients),
        "scripts": {
            "pending": len(attempts),
            "running": services.scripts.running,
            "max_attempts": max(attempts, default=0),
        },
        "tilt": {
            "active": tilt.active,
            "left_ms": tilt.left(now),
            "total": tilt.total,
            "cause": None if tilt.report is None else tilt.report.cause.value,
        },
        "publishers": publishers,
        "resolve_hostnames": options.resolve_hostnames,
        "announce_hostnames": options.announce_hostnames,
        "announce_ip": options.announce_ip,
        "announce_port": options.announce_port or None,
        "requires_password": options.requirepass is not None,
        "sends_password": options.sentinel_pass is not None or options.requirepass is not None,
    }


def _publisher_state(state: PublisherState) -> Value:
    warnings: list[Value] = [f"{master}: {text}" for master, text in publication_warnings(state)]
    warnings += state.notices
    found: dict[str, Value] = {
        "publisher": state.publisher,
        "target": state.target,
        "pending": state.pending,
        "warnings": warnings,
    }
    return found


def _master_state(services: OperatorServices, master: Master) -> Value:
    core, now = services.core, services.host.now()
    offset = wall_now(services) - now
    address, by_hostname = core.state.durable_address(master), core.options.announce_hostnames
    instances: list[Instance] = [master, *master.replicas.values(), *master.peers.values()]
    return {
        "name": master.name,
        "address": f"{address.announced(by_hostname)}:{address.port}",
        "verdict": core.verdict(master, now).value,
        "config_epoch": core.state.durable_config_epoch(master),
        "options_hash": options_hash(master),
        "quorum": master.options.quorum,
        "sentinels": master.voters,
        "instances": [_instance_state(each, by_hostname, now, offset) for each in instances],
        "ignored_addresses": list(master.ignored_addresses),
    }


def _instance_state(instance: Instance, by_hostname: bool, now: Millis, offset: Millis) -> Value:
    link = instance.link
    kind = "sentinel" if isinstance(instance, Peer) else "replica" if isinstance(instance, Replica) else "master"
    answered = link.last_reply_at > link.created_at
    found: dict[str, Value] = {
        "kind": kind,
        "name": instance.name,
        "address": instance.address.joined(by_hostname),
        "down_since": None if instance.sdown_since is None else instance.sdown_since + offset,
        "connected": link.commands_up,
        "disconnected": link.disconnected,
        "last_ok_at": link.available_at + offset if link.available_at > link.created_at else None,
        "last_reply_at": link.last_reply_at + offset if answered else None,
        "failure": _failure(link.failure, offset),
        "connect_failure": _failure(link.connect_failure, offset),
        "refusals": {command: refusal.error for command, refusal in link.refusals.items()},
        "run_id": instance.run_id,
    }
    if isinstance(instance, Peer):
        found["txsentinel"] = instance.is_txsentinel
        found["last_hello_at"] = instance.hello_received_at + offset if instance.hello_received_at else None
    if isinstance(instance, Server):
        data_set = instance.data_set
        found["role"] = instance.role_reported.value
        found["replid"] = None if data_set is None else data_set.replid
        found["replid2"] = None if data_set is None else data_set.replid2
        found["keys"] = None if data_set is None else data_set.keys
    if isinstance(instance, Replica):
        found["offset"] = instance.repl_offset
        found["priority"] = instance.priority
        found["master_link_up"] = instance.master_link_up
    return found


def _failure(failure: LinkFailure | None, offset: Millis) -> Value:
    if failure is None:
        return None
    return {"class": failure.failure_class.value, "error": failure.error, "at": failure.at + offset}


def show_help(services: OperatorServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines of the help text."""
    return helptexts.TXSENTINEL


COMMANDS: Final[CommandModule[OperatorServices]] = {
    container(
        "txsentinel",
        arity=-2,
        flags=("admin",),
        categories=("admin", "slow", "dangerous"),
        since="0.2.0",
        summary="Container of the commands that C Sentinels do not have",
        group="sentinel",
        hidden=True,
    ): refuse_without_subcommand,
    txsentinel(
        "txsentinel|explain",
        arity=-3,
        since="0.2.0",
        alias_of="sentinel|masters",
        summary="Returns why a master is, or is not, failed over",
        arguments=(*MASTER_NAME, optional(integer_argument("records", token="JOURNAL"))),
    ): explain,
    txsentinel(
        "txsentinel|agree",
        arity=3,
        since="0.2.0",
        alias_of="sentinel|masters",
        summary="Returns what this Sentinel holds of a master, to compare Sentinels",
        arguments=MASTER_NAME,
    ): agree,
    txsentinel(
        "txsentinel|doctor",
        arity=-2,
        since="0.2.0",
        alias_of="sentinel|masters",
        summary="Returns what a check of this Sentinel needs",
        arguments=(optional(text_argument("master-name")),),
    ): doctor,
    txsentinel(
        "txsentinel|history",
        arity=-2,
        since="0.2.0",
        alias_of="sentinel|masters",
        summary="Returns the latest failovers of one master or of all",
        arguments=(optional(text_argument("master-name")), optional(integer_argument("failovers"))),
    ): history,
    txsentinel(
        "txsentinel|ack",
        arity=-3,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Records that a failover was seen by an operator",
        arguments=(text_argument("record-id"), optional(text_argument("comment"))),
        acts=True,
    ): acknowledge,
    txsentinel(
        "txsentinel|reload",
        arity=2,
        since="0.2.0",
        alias_of="sentinel|flushconfig",
        summary="Reads secrets, certificates and the ACL file again, like SIGHUP",
        acts=True,
    ): reload,
    Command(
        "txsentinel|help",
        arity=2,
        flags=("loading", "stale"),
        categories=("slow",),
        since="0.2.0",
        alias_of="sentinel|help",
        summary="Returns the help text of the subcommands",
        group="sentinel",
        hidden=True,
    ): show_help,
}
