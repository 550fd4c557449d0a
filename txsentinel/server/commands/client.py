"""The CLIENT container: properties of the own connection, and operations on other clients."""

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
from txsentinel.server.clients import Client, ReplySetting
from txsentinel.server.commands.connection import BAD_NAME, refuse_long_name
from txsentinel.server.handlers import CommandModule, refuse_without_subcommand
from txsentinel.server.replies import NO_REPLY, Reply, Steps, Stepwise
from txsentinel.server.specification import Command, container, integer_argument, oneof, optional, text_argument, word
from txsentinel.wire.resp import OK, Verbatim, data, text

if TYPE_CHECKING:
    from txsentinel.server.services import ClientServices

ON_OFF: Final = oneof("enabled", word("ON"), word("OFF"))
POLICIES: Final = ("request_policy:all_nodes", "response_policy:all_succeeded")

connection_command = partial(Command, flags=("noscript", "loading", "stale"), categories=("slow", "connection"))
"""Define a command about the client that sends it."""

admin_command = partial(
    Command,
    flags=("admin", "noscript", "loading", "stale"),
    categories=("admin", "slow", "dangerous", "connection"),
)
"""Define a command that shows or changes other clients."""


def client_id(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the ID, which is unique for the life of the process."""
    return client.client_id


def getname(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the name, or null without a name."""
    return client.name or None


def setname(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Set the name; an empty one removes it."""
    if not printable(request[2]):
        raise CommandError(BAD_NAME)
    refuse_long_name(services, request[2], "Client names")
    client.name = request[2]
    return OK


def setinfo(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Store the name or the version of the client library, for CLIENT LIST."""
    option, value = request[2].lower(), request[3]
    if option not in (b"lib-name", b"lib-ver"):
        raise CommandError(f"ERR Unrecognized option '{text(request[2])}'")
    if not printable(value):
        raise CommandError(f"ERR {text(request[2])} cannot contain spaces, newlines or special characters.")
    refuse_long_name(services, value, text(request[2]))
    if option == b"lib-name":
        client.library_name = value
    else:
        client.library_version = value
    return OK


def client_info(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the line of CLIENT LIST about the client itself."""
    return Verbatim(data(client_line(client, services.host.now()) + "\n"))


def client_list(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a line for each client, or for each that the filters select."""
    if len(request) == 3:
        raise syntax_error()  # An option without a value; ID alone would select no client.

    def steps() -> Steps:
        wanted = yield from parse_filter(services, request, 2, skip_me=False)
        now = services.host.now()
        lines = []
        for each in wanted.selected(services, client):
            if each is not None:
                lines.append(client_line(each, now) + "\n")
            yield b""
        return Verbatim(data("".join(lines)))

    return Stepwise(steps())


def kill(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Close the selected clients without a reply; the requesting client gets its reply first."""
    if len(request) == 3:
        address = text(request[2])
        target = next((each for each in services.clients if each.address == address), None)
        if target is None:
            raise CommandError("ERR No such client")
        _close(target, client)
        return OK

    def steps() -> Steps:
        wanted = yield from parse_filter(services, request, 2, skip_me=True)
        killed = 0
        kills_itself = False
        for each in wanted.selected(services, client):
            if each is not None:
                killed += 1
                if each is client:
                    kills_itself = True
                else:
                    each.connection.abort()
            yield b""
        if kills_itself:
            client.connection.finish()
        return killed

    return Stepwise(steps())


def _close(target: Client, requester: Client) -> None:
    if target is requester:
        target.connection.finish()
    else:
        target.connection.abort()


def reply(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Set the reply mode. OFF and SKIP suppress all replies, including their own."""
    action = request[2].lower()
    if action == b"on":
        client.reply_setting = ReplySetting.ON
        return OK
    if action == b"off":
        client.reply_setting = ReplySetting.OFF
    elif action == b"skip":
        if client.reply_setting is not ReplySetting.OFF:
            client.reply_setting = ReplySetting.SKIP_NEXT
    else:
        raise syntax_error()
    return NO_REPLY


def pause(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Pause all commands. WRITE pauses none, because no command of a Sentinel writes data."""
    if len(request) > 4:
        raise CommandError(helptexts.wrong_form("CLIENT", request[1]))
    mode = request[3].lower() if len(request) == 4 else b"all"
    if mode not in (b"all", b"write"):
        raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    duration = integer(request[2], "ERR timeout is not an integer or out of range")
    if duration < 0:
        raise CommandError("ERR timeout is negative")
    now = services.host.now()
    if duration > MAX_PAUSE:
        raise CommandError("ERR timeout is not an integer or out of range")
    if mode == b"all" and duration:
        services.clients.pause(now + duration, now, services.host.reactor)
    return OK


MAX_PAUSE: Final = 1 << 53
"""Maximum pause in milliseconds; timers accept no longer one."""


def unpause(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """End the pause early."""
    services.clients.resume()
    return OK


def unblock(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return 0, because no command blocks."""
    if len(request) > 4:
        raise CommandError(helptexts.wrong_form("CLIENT", request[1]))
    if len(request) == 4 and request[3].lower() not in (b"timeout", b"error"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    integer(request[2])
    return 0


def no_evict(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Protect the client from eviction by ``maxmemory-clients``, or end that."""
    switch = request[2].lower()
    if switch not in (b"on", b"off"):
        raise syntax_error()
    client.no_evict = switch == b"on"
    return OK


def client_help(services: ClientServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines of the help text."""
    return helptexts.CLIENT


COMMANDS: Final[CommandModule[ClientServices]] = {
    container(
        "client",
        arity=-2,
        categories=("slow",),
        since="2.4.0",
        summary="Container of the commands for client connections",
    ): refuse_without_subcommand,
    connection_command("client|id", arity=2, since="5.0.0", summary="Returns the ID of the connection"): client_id,
    connection_command("client|getname", arity=2, since="2.6.9", summary="Returns the name of the connection"): getname,
    connection_command(
        "client|setname",
        arity=3,
        since="2.6.9",
        summary="Sets the name of the connection",
        tips=POLICIES,
        arguments=(text_argument("connection-name"),),
    ): setname,
    connection_command(
        "client|setinfo",
        arity=4,
        since="7.2.0",
        summary="Sets the name or the version of the client library",
        tips=POLICIES,
        arguments=(
            oneof("attr", text_argument("libname", token="LIB-NAME"), text_argument("libver", token="LIB-VER")),
        ),
    ): setinfo,
    connection_command(
        "client|info",
        arity=2,
        since="6.2.0",
        summary="Returns information about the connection",
        tips=("nondeterministic_output",),
    ): client_info,
    admin_command(
        "client|list",
        arity=-2,
        since="2.4.0",
        summary="Returns information about all connections, or about selected ones",
        complexity="O(N) where N is the number of connections",
        tips=("nondeterministic_output",),
        arguments=LIST_ARGUMENTS,
        history=LIST_HISTORY,
    ): client_list,
    admin_command(
        "client|kill",
        arity=-3,
        since="2.4.0",
        summary="Closes connections",
        complexity="O(N) where N is the number of connections",
        arguments=KILL_ARGUMENTS,
        history=KILL_HISTORY,
    ): kill,
    connection_command(
        "client|reply",
        arity=3,
        since="3.2.0",
        summary="Enables or disables replies to commands",
        arguments=(oneof("action", word("ON"), word("OFF"), word("SKIP")),),
    ): reply,
    admin_command(
        "client|pause",
        arity=-3,
        since="3.0.0",
        summary="Suspends the commands of all clients for a time",
        arguments=(
            integer_argument("timeout"),
            optional(oneof("mode", word("WRITE"), word("ALL"), since="6.2.0")),
        ),
        history=(("6.2.0", "Added the mode; `WRITE` does not suspend reads."),),
    ): pause,
    admin_command(
        "client|unpause",
        arity=2,
        since="6.2.0",
        summary="Resumes the commands of paused clients",
        complexity="O(N) where N is the number of paused clients",
    ): unpause,
    admin_command(
        "client|unblock",
        arity=-3,
        since="5.0.0",
        summary="Unblocks a client that waits in a blocking command; a Sentinel has none",
        arguments=(
            integer_argument("client-id"),
            optional(oneof("unblock-type", word("TIMEOUT"), word("ERROR"))),
        ),
    ): unblock,
    admin_command(
        "client|no-evict",
        arity=3,
        since="7.0.0",
        summary="Protects the connection from eviction by maxmemory-clients",
        arguments=(ON_OFF,),
    ): no_evict,
    Command(
        "client|help",
        arity=2,
        flags=("loading", "stale"),
        categories=("slow", "connection"),
        since="5.0.0",
        summary="Returns the help text of the subcommands",
    ): client_help,
}
