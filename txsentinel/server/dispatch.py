"""Finds the command of a request and checks its arity, its arguments and the permissions of the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.wire.resp import text

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.services import DispatchServices
    from txsentinel.server.specification import Command

ECHO_LIMIT: Final = 128
"""Maximum bytes of a name, or of all arguments together, that an error text repeats."""

UNDECODED: Final = frozenset({"ping", "publish"})
"""Commands whose arguments may be longer, because they are not decoded to text."""


def find_command(services: DispatchServices, client: Client, request: Sequence[bytes], longest: int = 0) -> Command:
    """
    Return the command that ``request`` names, if the client may execute it now.

    The order of the checks is that of Redis: existence, arity, login, permissions, subscribed mode.

    :param longest: bytes of the longest word, if it exceeds the usual limit.
    :raises CommandError: with the refusal.
    """
    command = services.table.find(request)
    if command is None:
        client.last_command = None
        raise unknown_command(services, request)
    client.last_command = command
    if not command.accepts(len(request)):
        raise wrong_arity(command)
    if longest and longest > services.limits.word_length:
        maximum = services.limits.kept_word if command.name in UNDECODED else services.limits.word_length
        if longest > maximum:
            raise CommandError(f"ERR '{command.name}' was given an argument of {longest} bytes, the limit is {maximum}")
    if not client.authenticated and not command.no_auth and not services.access.open_by_default():
        raise CommandError("NOAUTH Authentication required.")
    if not client.account.unrestricted:
        services.access.authorize(client, command, request)
    if client.protocol == 2 and (client.channels or client.patterns) and not command.allowed_while_subscribed:
        raise CommandError(
            f"ERR Can't execute '{command.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET"
            " are allowed in this context"
        )
    return command


def unknown_command(services: DispatchServices, request: Sequence[bytes]) -> CommandError:
    """Return the error for an unknown command or subcommand."""
    entry = services.table.by_word.get(request[0].lower())
    if entry is not None:
        return CommandError(f"ERR unknown subcommand '{_echo(request[1], ECHO_LIMIT)}'. Try {entry.name.upper()} HELP.")
    shown = b""
    for argument in request[1:]:
        if len(shown) >= ECHO_LIMIT:
            break
        shown += b"'%b' " % _cut(argument, ECHO_LIMIT - len(shown))
    return CommandError(
        f"ERR unknown command '{_echo(request[0], ECHO_LIMIT)}', with args beginning with: {text(shown)}"
    )


def wrong_arity(command: Command) -> CommandError:
    """Return the error for a wrong number of arguments."""
    return CommandError(f"ERR wrong number of arguments for '{command.name}' command")


def _cut(argument: bytes, limit: int) -> bytes:
    """Return the part of an argument that C prints: up to the first NUL byte, at most ``limit`` bytes."""
    return argument.partition(b"\0")[0][:limit]


def _echo(argument: bytes, limit: int) -> str:
    return text(_cut(argument, limit))
