"""INFO, ROLE and SHUTDOWN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server.arguments import syntax_error
from txsentinel.server.handlers import CommandModule
from txsentinel.server.information import information
from txsentinel.server.replies import NO_REPLY, Reply, Stepwise
from txsentinel.server.specification import Command, block, multiple, oneof, optional, text_argument, word

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.services import ServerServices

MAX_SHUTDOWN_WORDS: Final = 64
"""Maximum number of words of SHUTDOWN; enough for all options, each repeated several times."""


def info(services: ServerServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the named sections, or all, as a bulk string."""
    return Stepwise(information(services, request))


def role(services: ServerServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return ``sentinel`` and the names of the masters."""
    return ["sentinel", list(services.core.registry.masters)]


def shutdown(services: ServerServices, client: Client, request: Sequence[bytes]) -> Reply:
    """End the process without a reply. There is nothing to save or to abort, so the options have no effect."""
    if len(request) > MAX_SHUTDOWN_WORDS:
        raise syntax_error()
    words = [each.lower() for each in request[1:]]
    known = {b"nosave", b"save", b"now", b"force", b"abort", b"safe", b"failover"}
    if not known.issuperset(words) or (b"save" in words and b"nosave" in words):
        raise syntax_error()
    if b"abort" in words:
        if set(words) != {b"abort"}:
            raise syntax_error()
        raise CommandError("ERR No shutdown in progress.")
    if b"failover" in words:
        raise CommandError("ERR SHUTDOWN FAILOVER is only supported in cluster mode.")
    client.connection.finish()
    services.shutdown()
    return NO_REPLY


COMMANDS: Final[CommandModule[ServerServices]] = {
    Command(
        "info",
        arity=-1,
        flags=("loading", "stale"),
        categories=("slow", "dangerous"),
        since="1.0.0",
        summary="Returns information and statistics about the server, in sections",
        group="server",
        tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
        arguments=(optional(multiple(text_argument("section"))),),
        history=(("7.0.0", "Accepts several sections."),),
    ): info,
    Command(
        "role",
        arity=1,
        flags=("noscript", "loading", "stale", "fast"),
        categories=("admin", "fast", "dangerous"),
        since="2.8.12",
        summary="Returns the role and the names of the monitored masters",
        group="server",
    ): role,
    Command(
        "shutdown",
        arity=-1,
        flags=("admin", "noscript", "loading", "stale", "no_multi", "allow_busy"),
        categories=("admin", "slow", "dangerous"),
        since="1.0.0",
        summary="Shuts the server down",
        group="server",
        arguments=(
            optional(
                oneof(
                    "abort-selector",
                    block(
                        "save-selector-block",
                        optional(oneof("save-selector", word("NOSAVE"), word("SAVE"))),
                        optional(word("NOW", since="7.0.0")),
                        optional(word("FORCE", since="7.0.0")),
                        optional(word("SAFE", since="9.0.0")),
                        optional(word("FAILOVER", since="9.0.0")),
                    ),
                    word("ABORT", since="7.0.0"),
                )
            ),
        ),
        history=(
            ("7.0.0", "Added the options `NOW`, `FORCE` and `ABORT`."),
            ("9.0.0", "Added the options `SAFE` and `FAILOVER`."),
        ),
    ): shutdown,
}
