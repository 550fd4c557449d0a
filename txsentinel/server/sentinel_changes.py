"""The subcommands of SENTINEL that change what is watched: answered once the change is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from txsentinel.config.directives import apply_set, values_wanted
from txsentinel.core.errors import CommandError
from txsentinel.core.options import MasterOptions, SentinelOptions
from txsentinel.server.arguments import integer, refuse_control_characters
from txsentinel.server.replies import Answer, Held
from txsentinel.server.sentinel_table import MASTER_NAME, sentinel
from txsentinel.server.syntax import Argument, block, multiple, text_argument
from txsentinel.server.syntax import integer as whole_number
from txsentinel.wire.resp import OK, ErrorReply, Value, text

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext

NOT_SAVED: Final = ErrorReply("ERR Failed to save config file. Check server logs.")
HIGHEST_QUORUM: Final = (1 << 32) - 1
"""More is not kept by any Sentinel; C cuts the upper bits off, which may leave a quorum of zero."""


def once_saved(context: ServerContext, value: Value = OK) -> Held:
    """Say ``value`` once everything changed so far is on disk, or complain if it cannot be saved."""
    return Held(context.core.outbox.generation, value, NOT_SAVED)


@sentinel(
    "MONITOR",
    arity=6,
    since="2.8.4",
    summary="Watches one more master",
    arguments=(text_argument("name"), text_argument("ip"), whole_number("port"), whole_number("quorum")),
    acts=True,
)
def monitor(context: ServerContext, client: Client, request: Sequence[bytes]) -> Answer:
    """``+OK`` once the master is in the file."""
    refuse_control_characters(request, 2, "SENTINEL MONITOR")
    quorum = integer(request[5], "ERR Invalid quorum")
    port = integer(request[4], "ERR Invalid port")
    quorum = min(quorum, HIGHEST_QUORUM)
    if quorum <= 0:
        raise CommandError("ERR Quorum must be 1 or greater.")
    context.core.monitor(text(request[2]), text(request[3]), port, quorum, context.host.now())
    return once_saved(context)


@sentinel("REMOVE", arity=3, since="2.8.4", summary="Watches a master no more", arguments=MASTER_NAME, acts=True)
def remove(context: ServerContext, client: Client, request: Sequence[bytes]) -> Answer:
    """``+OK`` once the master is out of the file."""
    context.core.remove(text(request[2]), context.host.now())
    context.addresses.pop(request[2], None)
    return once_saved(context)


@sentinel(
    "RESET",
    arity=3,
    since="2.8.4",
    summary="Begins anew with the masters whose names match",
    complexity="O(N) where N is the number of masters",
    arguments=(Argument("pattern", "pattern"),),
    acts=True,
)
def reset(context: ServerContext, client: Client, request: Sequence[bytes]) -> Answer:
    """How many masters there were."""
    return context.core.reset(text(request[2]), context.host.now())


@sentinel(
    "SET",
    arity=-5,
    since="2.8.4",
    summary="Changes how a master is watched",
    complexity="O(1)",
    arguments=(
        text_argument("master-name"),
        multiple(block("data", text_argument("option"), text_argument("value"))),
    ),
    acts=True,
)
def set_(context: ServerContext, client: Client, request: Sequence[bytes]) -> Answer:
    """
    Apply options from left to right; ``+OK`` once they are in the file.

    The first that is wrong is complained of, those before it stay applied and are saved.
    """
    core = context.core
    name = text(request[2])
    core.master(name)
    refuse_control_characters(request, 3, "SENTINEL SET")

    def apply(options: MasterOptions, option: str, values: Sequence[str], own: SentinelOptions) -> None:
        apply_set(options, option, values, deny_scripts=own.deny_scripts_reconfig, executable=context.executable)

    words = [text(raw) for raw in request[3:]]
    now = context.host.now()
    while words:
        option = words[0]
        wanted = values_wanted(option)
        if not wanted or len(words) <= wanted:
            raise CommandError(f"ERR Unknown option or number of arguments for SENTINEL SET '{option}'")
        core.set_option(name, option, words[1 : 1 + wanted], now, apply)
        del words[: 1 + wanted]
    return once_saved(context)


@sentinel(
    "FAILOVER",
    arity=-3,
    since="2.8.4",
    summary="Promotes a replica at once",
    history=(("9.0.0", "Added the COORDINATED option."),),
    arguments=(*MASTER_NAME, Argument("coordinated", "pure-token", token="COORDINATED", since="9.0.0", optional=True)),
    acts=True,
)
def failover(context: ServerContext, client: Client, request: Sequence[bytes]) -> Answer:
    """``+OK`` if it has begun; ``COORDINATED`` has the old master hand over without losing a write."""
    if len(request) > 4:
        raise CommandError("ERR wrong number of arguments for 'sentinel|failover' command")
    name = text(request[2])
    context.core.master(name)
    coordinated = len(request) == 4
    if coordinated and request[3].lower() != b"coordinated":
        raise CommandError("ERR Unknown failover option specified")
    context.core.failover(name, context.host.now(), coordinated=coordinated)
    return OK


@sentinel(
    "FLUSHCONFIG",
    arity=2,
    since="2.8.4",
    summary="Writes the configuration file",
    complexity="O(N) where N is the number of instances",
    acts=True,
)
def flushconfig(context: ServerContext, client: Client, request: Sequence[bytes]) -> Answer:
    """``+OK`` once it is written, whether anything changed or not."""
    context.core.flush()
    return once_saved(context)
