"""The subcommands of SENTINEL that change the monitored masters. They reply when the change is durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred

from txsentinel.config.directives import apply_set, values_wanted
from txsentinel.core.errors import CommandError
from txsentinel.core.options import SECRET_OPTIONS, MasterOptions, SentinelOptions, copied
from txsentinel.server.arguments import check_control_characters, integer, refuse_control_characters
from txsentinel.server.commands.sentinel_container import MASTER_NAME, sentinel
from txsentinel.server.handlers import CommandModule
from txsentinel.server.replies import DeferredReply, DurableReply, Reply, Steps, Stepwise
from txsentinel.server.specification import Argument, block, integer_argument, multiple, text_argument
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import OK, ErrorReply, Value, data, text

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.services import ChangeServices, SavingServices

NOT_SAVED: Final = ErrorReply("ERR Failed to save config file. Check server logs.")
MAX_SET_WORDS: Final = 256
"""Words of one ``SENTINEL SET``, which is applied in one turn: enough for all options and eighty renamed commands."""

MAX_QUORUM: Final = (1 << 32) - 1
"""The maximum quorum. C drops the higher bits of a larger one, which may leave a quorum of zero."""


def first_change(services: SavingServices) -> int:
    """
    Return the generation of the next change.

    :raises CommandError: if a write does not finish, so that nothing can be saved at present.
    """
    if services.barrier.stuck:
        raise CommandError(NOT_SAVED.text)
    return services.core.outbox.generation + 1


def once_saved(
    services: SavingServices, undo: Callable[[], str | None] | None = None, since: int = 0, value: Value = OK
) -> DurableReply:
    """
    Reply ``value`` when all changes so far are durable, or an error if they cannot be saved.

    :param undo: called in that case; reverts the changes of the command.
    :param since: the first generation of these changes.
    """
    return DurableReply(services.core.outbox.generation, value, NOT_SAVED, undo, since)


def monitor(services: ChangeServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Monitor a master; reply ``OK`` when it is saved in the file."""
    refuse_control_characters(request, 2, "SENTINEL MONITOR")
    quorum = integer(request[5], "ERR Invalid quorum")
    port = integer(request[4], "ERR Invalid port")
    quorum = min(quorum, MAX_QUORUM)
    if quorum <= 0:
        raise CommandError("ERR Quorum must be 1 or greater.")
    since, name = first_change(services), text(request[2])
    added = services.core.administration.monitor(name, text(request[3]), port, quorum, services.host.now())

    def undo() -> str | None:
        if added.gone:
            return None
        services.core.administration.remove(name, services.host.now(), announce=False)
        return name

    return once_saved(services, undo, since)


def remove(services: ChangeServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Stop monitoring a master; reply ``OK`` when it is removed from the file."""
    since, name = first_change(services), text(request[2])
    removed = services.core.administration.remove(name, services.host.now())
    services.addresses.pop(request[2], None)

    def undo() -> None:
        if name not in services.core.registry.masters:
            services.core.administration.readmit(removed, services.host.now())

    return once_saved(services, undo, since)


def reset(services: ChangeServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Reset the masters whose names match; return their number."""

    def steps() -> Steps:
        core, count = services.core, 0
        for master in list(core.registry.masters.values()):
            if not master.gone and glob_match(request[2], data(master.name)):
                core.administration.reset_master(master, services.host.now())
                count += 1
            yield b""
        return count

    return Stepwise(steps())


def set_(services: ChangeServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Apply options from left to right; reply ``OK`` when they are saved in the file.

    The reply to an invalid option is an error; the options before it stay applied and are saved. All options are
    applied in the last step, so that no other change comes between those that may have to be undone together.
    """
    core = services.core
    name = text(request[2])
    core.master(name)
    first_change(services)
    if len(request) > MAX_SET_WORDS:
        raise CommandError(f"ERR SENTINEL SET takes at most {MAX_SET_WORDS} words")

    def apply(options: MasterOptions, option: str, values: Sequence[str], own: SentinelOptions) -> None:
        apply_set(options, option, values, deny_scripts=own.deny_scripts_reconfig, executable=services.executable)

    def steps() -> Steps:
        yield from check_control_characters(request, 3, "SENTINEL SET", _passwords(request))
        changes: list[tuple[str, list[str]]] = []
        refusal: CommandError | None = None
        at = 3
        while at < len(request) and refusal is None:
            option = text(request[at])
            wanted = values_wanted(option)
            if not wanted or len(request) - at <= wanted:
                refusal = CommandError(f"ERR Unknown option or number of arguments for SENTINEL SET '{option}'")
            else:
                changes.append((option, [text(raw) for raw in request[at + 1 : at + 1 + wanted]]))
            at += 1 + wanted
            yield b""
        before, since = copied(core.master(name).options), first_change(services)
        core.administration.set_options(name, changes, services.host.now(), apply)
        if refusal is not None:
            raise refusal
        return once_saved(services, lambda: core.administration.reset_options(name, before, services.host.now()), since)

    return Stepwise(steps())


def _passwords(request: Sequence[bytes]) -> set[int]:
    """Return the indices of the passwords in a ``SENTINEL SET``."""
    found, at = set(), 3
    while at < len(request):
        if text(request[at]).lower() in SECRET_OPTIONS:
            found.add(at + 1)
        at += 1 + (values_wanted(text(request[at])) or 1)
    return found


def failover(services: ChangeServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Start a failover; reply ``OK`` when it has started and the vote of this Sentinel for itself is durable.

    With ``COORDINATED`` the old master hands over its role. If saving failed before, it is tried again first.
    """
    if len(request) > 4:
        raise CommandError("ERR wrong number of arguments for 'sentinel|failover' command")
    name = text(request[2])
    services.core.master(name)
    coordinated = len(request) == 4
    if coordinated and request[3].lower() != b"coordinated":
        raise CommandError("ERR Unknown failover option specified")
    core, barrier, by = services.core, services.barrier, f"{client.user} from {client.address}"
    if not core.state.storage_failing or barrier.stuck:
        core.administration.failover(name, services.host.now(), coordinated=coordinated, by=by)
        return DurableReply(core.outbox.generation, OK, NOT_SAVED)
    answer: Deferred[Value] = Deferred()

    def begin() -> None:
        """Start the failover; :meth:`SentinelCore.failover` refuses it if it is not possible."""
        try:
            core.administration.failover(name, services.host.now(), coordinated=coordinated, by=by)
        except CommandError as refusal:
            answer.callback(ErrorReply(str(refusal)))
        else:
            answer.callback(OK)

    barrier.defer_reply(core.state.changed(None), begin, begin)
    return DeferredReply(answer)


def flushconfig(services: ChangeServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Write the file even if nothing changed; reply ``OK`` when it is durable."""
    first_change(services)
    services.core.administration.flush()
    return once_saved(services)


COMMANDS: Final[CommandModule[ChangeServices]] = {
    sentinel(
        "sentinel|monitor",
        arity=6,
        since="2.8.4",
        summary="Starts to monitor a master",
        arguments=(text_argument("name"), text_argument("ip"), integer_argument("port"), integer_argument("quorum")),
        acts=True,
    ): monitor,
    sentinel(
        "sentinel|remove", arity=3, since="2.8.4", summary="Stops monitoring a master", arguments=MASTER_NAME, acts=True
    ): remove,
    sentinel(
        "sentinel|reset",
        arity=3,
        since="2.8.4",
        summary="Resets the masters whose names match a pattern",
        complexity="O(N) where N is the number of masters",
        arguments=(Argument("pattern", "pattern"),),
        acts=True,
    ): reset,
    sentinel(
        "sentinel|set",
        arity=-5,
        since="2.8.4",
        summary="Changes the options of a monitored master",
        complexity="O(1)",
        arguments=(
            text_argument("master-name"),
            multiple(block("data", text_argument("option"), text_argument("value"))),
        ),
        acts=True,
    ): set_,
    sentinel(
        "sentinel|failover",
        arity=-3,
        since="2.8.4",
        summary="Starts a failover without requester other Sentinels",
        history=(("9.0.0", "Added the `COORDINATED` option."),),
        arguments=(
            *MASTER_NAME,
            Argument("coordinated", "pure-token", token="COORDINATED", since="9.0.0", optional=True),
        ),
        acts=True,
    ): failover,
    sentinel(
        "sentinel|flushconfig",
        arity=2,
        since="2.8.4",
        summary="Saves the configuration file",
        complexity="O(N) where N is the number of instances",
        acts=True,
    ): flushconfig,
}
