"""The CLIENT container: what a client tells of itself and asks about others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server import helptexts
from txsentinel.server.arguments import integer, printable, syntax_error
from txsentinel.server.client_filters import parse_filter
from txsentinel.server.client_filters_syntax import KILL_ARGUMENTS, KILL_HISTORY, LIST_ARGUMENTS, LIST_HISTORY
from txsentinel.server.clientline import client_line
from txsentinel.server.clients import Answering, Client
from txsentinel.server.commands.connection import BAD_NAME, refuse_long_name
from txsentinel.server.replies import NO_REPLY, Reply, Steps, Stepwise
from txsentinel.server.syntax import integer as whole_number
from txsentinel.server.syntax import oneof, optional, text_argument, word
from txsentinel.server.table import command, container
from txsentinel.wire.resp import OK, Verbatim, data, text

if TYPE_CHECKING:
    from txsentinel.server.context import ServerContext

ON_OFF: Final = oneof("enabled", word("ON"), word("OFF"))
POLICIES: Final = ("request_policy:all_nodes", "response_policy:all_succeeded")

container("CLIENT", arity=-2, categories=("slow",), since="2.4.0", summary="Holds the commands about connections")

own = partial(command, "CLIENT", flags=("noscript", "loading", "stale"), categories=("slow", "connection"))
"""A command about the client that sends it."""

others = partial(
    command,
    "CLIENT",
    flags=("admin", "noscript", "loading", "stale"),
    categories=("admin", "slow", "dangerous", "connection"),
)
"""A command that sees or touches other clients."""


@own("ID", arity=2, since="5.0.0", summary="Tells the ID of this connection")
def client_id(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """The number that no other connection has had or will have."""
    return client.client_id


@own("GETNAME", arity=2, since="2.6.9", summary="Tells the name of this connection")
def getname(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """The name, or null if there is none."""
    return client.name or None


@own(
    "SETNAME",
    arity=3,
    since="2.6.9",
    summary="Names this connection",
    tips=POLICIES,
    arguments=(text_argument("connection-name"),),
)
def setname(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """An empty name takes the old one away."""
    if not printable(request[2]):
        raise CommandError(BAD_NAME)
    refuse_long_name(context, request[2], "Client names")
    client.name = request[2]
    return OK


@own(
    "SETINFO",
    arity=4,
    since="7.2.0",
    summary="Tells which library talks over this connection",
    tips=POLICIES,
    arguments=(oneof("attr", text_argument("libname", token="LIB-NAME"), text_argument("libver", token="LIB-VER")),),
)
def setinfo(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Remember name or version of the client library, for CLIENT LIST."""
    option, value = request[2].lower(), request[3]
    if option not in (b"lib-name", b"lib-ver"):
        raise CommandError(f"ERR Unrecognized option '{text(request[2])}'")
    if not printable(value):
        raise CommandError(f"ERR {text(request[2])} cannot contain spaces, newlines or special characters.")
    refuse_long_name(context, value, text(request[2]))
    if option == b"lib-name":
        client.library_name = value
    else:
        client.library_version = value
    return OK


@own(
    "INFO",
    arity=2,
    since="6.2.0",
    summary="Describes this connection",
    tips=("nondeterministic_output",),
)
def client_info(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """The line of CLIENT LIST about the client itself."""
    return Verbatim(data(client_line(client, context.host.now()) + "\n"))


@others(
    "LIST",
    arity=-2,
    since="2.4.0",
    summary="Describes all connections",
    complexity="O(N) where N is the number of connections",
    tips=("nondeterministic_output",),
    arguments=LIST_ARGUMENTS,
    history=LIST_HISTORY,
)
def client_list(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """A line for each client: all, or those that the filters choose."""
    if len(request) == 3:
        raise syntax_error()  # An option without a value; ID alone would mean nobody.

    def steps() -> Steps:
        wanted = yield from parse_filter(context, request, 2, skip_me=False)
        now = context.host.now()
        lines = []
        for each in wanted.chosen(context, client):
            if each is not None:
                lines.append(client_line(each, now) + "\n")
            yield b""
        return Verbatim(data("".join(lines)))

    return Stepwise(steps())


@others(
    "KILL",
    arity=-3,
    since="2.4.0",
    summary="Closes connections",
    complexity="O(N) where N is the number of connections",
    arguments=KILL_ARGUMENTS,
    history=KILL_HISTORY,
)
def kill(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Close without a word whoever is meant; the asking client gets its reply first."""
    if len(request) == 3:
        address = text(request[2])
        victim = next((each for each in context.clients if each.address == address), None)
        if victim is None:
            raise CommandError("ERR No such client")
        _close(victim, client)
        return OK

    def steps() -> Steps:
        wanted = yield from parse_filter(context, request, 2, skip_me=True)
        killed = 0
        oneself = False
        for each in wanted.chosen(context, client):
            if each is not None:
                killed += 1
                if each is client:
                    oneself = True
                else:
                    each.connection.abort()
            yield b""
        if oneself:
            client.connection.finish()
        return killed

    return Stepwise(steps())


def _close(victim: Client, asking: Client) -> None:
    if victim is asking:
        victim.connection.finish()
    else:
        victim.connection.abort()


@own(
    "REPLY",
    arity=3,
    since="3.2.0",
    summary="Switches replies on and off",
    arguments=(oneof("action", word("ON"), word("OFF"), word("SKIP")),),
)
def reply(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Silence is not answered, not even with silence's own ``OK``."""
    action = request[2].lower()
    if action == b"on":
        client.answering = Answering.ON
        return OK
    if action == b"off":
        client.answering = Answering.OFF
    elif action == b"skip":
        if client.answering is not Answering.OFF:
            client.answering = Answering.SKIP_NEXT
    else:
        raise syntax_error()
    return NO_REPLY


@others(
    "PAUSE",
    arity=-3,
    since="3.0.0",
    summary="Makes all clients wait for a time",
    arguments=(
        whole_number("timeout"),
        optional(oneof("mode", word("WRITE"), word("ALL"), since="6.2.0")),
    ),
    history=(("6.2.0", "Takes a mode, of which `WRITE` lets reads pass."),),
)
def pause(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Let every command wait; no command of a Sentinel writes data, so WRITE lets all of them pass."""
    if len(request) > 4:
        raise CommandError(helptexts.wrong_form("CLIENT", request[1]))
    mode = request[3].lower() if len(request) == 4 else b"all"
    if mode not in (b"all", b"write"):
        raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    duration = integer(request[2], "ERR timeout is not an integer or out of range")
    if duration < 0:
        raise CommandError("ERR timeout is negative")
    now = context.host.now()
    if duration > MAX_PAUSE:
        raise CommandError("ERR timeout is not an integer or out of range")
    if mode == b"all" and duration:
        context.clients.pause(now + duration, now, context.host.reactor)
    return OK


MAX_PAUSE: Final = 1 << 53
"""Milliseconds; longer than that is a mistake, and no timer takes it."""


@others(
    "UNPAUSE",
    arity=2,
    since="6.2.0",
    summary="Lets paused clients go on",
    complexity="O(N) where N is the number of paused clients",
)
def unpause(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """End the pause before its time."""
    context.clients.resume()
    return OK


@others(
    "UNBLOCK",
    arity=-3,
    since="5.0.0",
    summary="Ends the waiting of a client in a blocking command, of which there is none here",
    arguments=(
        whole_number("client-id"),
        optional(oneof("unblock-type", word("TIMEOUT"), word("ERROR"))),
    ),
)
def unblock(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """``:0``: nobody ever blocks."""
    if len(request) > 4:
        raise CommandError(helptexts.wrong_form("CLIENT", request[1]))
    if len(request) == 4 and request[3].lower() not in (b"timeout", b"error"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    integer(request[2])
    return 0


@others(
    "NO-EVICT",
    arity=3,
    since="7.0.0",
    summary="Keeps this connection from being dropped for lack of memory",
    arguments=(ON_OFF,),
)
def no_evict(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Remembered and shown; clients are never dropped for lack of memory here."""
    switch = request[2].lower()
    if switch not in (b"on", b"off"):
        raise syntax_error()
    client.no_evict = switch == b"on"
    return OK


@command(
    "CLIENT",
    "HELP",
    arity=2,
    flags=("loading", "stale"),
    categories=("slow", "connection"),
    since="5.0.0",
    summary="Explains the subcommands",
)
def client_help(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """One line per entry."""
    return helptexts.CLIENT
