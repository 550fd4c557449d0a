"""PING, AUTH, HELLO and QUIT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server.acl.users import DEFAULT_USER
from txsentinel.server.arguments import integer, printable, syntax_error
from txsentinel.server.handlers import CommandModule
from txsentinel.server.process_info import REDIS_VERSION
from txsentinel.server.replies import Reply
from txsentinel.server.specification import Command, block, integer_argument, optional, text_argument
from txsentinel.wire.resp import OK, PONG, Value, text

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.services import LoginServices

LOGIN_FLAGS: Final = ("noscript", "loading", "stale", "fast", "no_auth", "allow_busy")
WRONG_PASSWORD: Final = "WRONGPASS invalid username-password pair or user is disabled."
BAD_NAME: Final = "ERR Client names cannot contain spaces, newlines or special characters."
NO_PASSWORD_SET: Final = (
    "ERR AUTH <password> called without any password configured for the default user."
    " Are you sure your configuration is correct?"
)
MAX_HELLO_WORDS: Final = 64
"""Maximum number of words of HELLO; enough for all options, each repeated several times."""

LOG_IN_FIRST: Final = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the"
    " HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and"
    " select the RESP protocol version at the same time"
)


def ping(services: LoginServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return PONG or the message; a RESP2 subscriber gets an array, as its other frames are."""
    if len(request) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    if client.protocol == 2 and client.subscriptions:
        return [b"pong", request[1] if len(request) > 1 else b""]
    return request[1] if len(request) > 1 else PONG


def auth(services: LoginServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Log in as ``default``, or as the named user. A failure changes nothing."""
    if len(request) > 3:
        raise syntax_error()
    if len(request) == 2:
        if services.access.default.needs_no_password:
            raise CommandError(NO_PASSWORD_SET)
        log_in(services, client, DEFAULT_USER, request[1], request[0])
    else:
        log_in(services, client, text(request[1]), request[2], request[0])
    return OK


def hello(services: LoginServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the properties of the server, in the requested protocol version. An invalid option changes nothing."""
    protocol = client.protocol
    if len(request) > 1:
        protocol = integer(request[1], "ERR Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
    credentials: tuple[str, bytes] | None = None
    name: bytes | None = None
    index = 2
    if len(request) > MAX_HELLO_WORDS:
        raise CommandError(f"ERR HELLO takes no more than {MAX_HELLO_WORDS} words")
    while index < len(request):
        option, values = request[index].lower(), request[index + 1 :]
        if option == b"auth" and len(values) >= 2:
            credentials = (text(values[0]), values[1])
            index += 3
        elif option == b"setname" and values:
            name = values[0]
            if not printable(name):
                raise CommandError(BAD_NAME)
            refuse_long_name(services, name, "Client names")
            index += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{text(request[index])}'")
    if credentials is not None:
        log_in(services, client, *credentials, request[0])
    if not client.authenticated:
        raise CommandError(LOG_IN_FIRST)
    if name is not None:
        client.name = name
    client.protocol = protocol
    properties: dict[str, Value] = {
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": protocol,
        "id": client.client_id,
        "mode": "sentinel",
        "modules": [],
    }
    if services.options.availability_zone:
        properties["availability_zone"] = services.options.availability_zone
    return properties


def quit_(services: LoginServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Reply, then close the connection. Later requests are not executed."""
    client.connection.finish()
    return OK


def log_in(services: LoginServices, client: Client, user: str, password: bytes, word: bytes) -> None:
    """
    Log the connection in as a user.

    :param word: the name of the command, for the ACL log.
    :raises CommandError: if user or password is wrong; the user of the connection does not change.
    """
    if not services.access.log_in(client, user, password, word):
        raise CommandError(WRONG_PASSWORD)


def refuse_long_name(services: LoginServices, name: bytes, what: str) -> None:
    """
    Refuse a name that would make the lines about the client in CLIENT LIST and in the log too long.

    :param what: the term for the name in the error text.
    :raises CommandError: naming the limit.
    """
    if len(name) > services.limits.name_length:
        raise CommandError(f"ERR {what} cannot be longer than {services.limits.name_length} bytes.")


COMMANDS: Final[CommandModule[LoginServices]] = {
    Command(
        "ping",
        arity=-1,
        flags=("fast",),
        categories=("fast", "connection"),
        since="1.0.0",
        summary="Returns PONG, or the given message",
        tips=("request_policy:all_shards", "response_policy:all_succeeded"),
        arguments=(optional(text_argument("message")),),
    ): ping,
    Command(
        "auth",
        arity=-2,
        flags=LOGIN_FLAGS,
        categories=("fast", "connection"),
        since="1.0.0",
        summary="Authenticates the connection",
        complexity="O(N) where N is the number of passwords of the user",
        arguments=(optional(text_argument("username", since="6.0.0")), text_argument("password")),
        history=(("6.0.0", "Accepts a user name before the password."),),
    ): auth,
    Command(
        "hello",
        arity=-1,
        flags=LOGIN_FLAGS,
        categories=("fast", "connection"),
        since="6.0.0",
        summary="Sets the protocol version; can also authenticate and name the connection",
        arguments=(
            optional(
                block(
                    "arguments",
                    integer_argument("protover"),
                    optional(block("auth", text_argument("username"), text_argument("password"), token="AUTH")),
                    optional(text_argument("clientname", token="SETNAME")),
                )
            ),
        ),
        history=(
            ("8.1.0", "Returns `availability_zone` if it is set."),
            ("6.2.0", "The protocol version is optional."),
        ),
    ): hello,
    Command(
        "quit",
        arity=-1,
        flags=LOGIN_FLAGS,
        categories=("fast", "connection"),
        since="1.0.0",
        summary="Closes the connection",
        hidden=True,
    ): quit_,
}
