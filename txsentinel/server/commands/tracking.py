"""Client-side caching. A Sentinel has no keys, so these commands only check and store the options of a client."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server.arguments import integer, syntax_error
from txsentinel.server.clients import Client, Tracking
from txsentinel.server.commands.client import connection_command
from txsentinel.server.handlers import CommandModule
from txsentinel.server.pubsub import SUBSCRIPTION_OVERHEAD, cost
from txsentinel.server.replies import Reply, Steps, Stepwise
from txsentinel.server.specification import Argument, integer_argument, oneof, optional, word
from txsentinel.wire.resp import OK, SetReply, Value, text

if TYPE_CHECKING:
    from txsentinel.server.services import TrackingServices

CACHING_WITHOUT_TRACKING = (
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)
TOO_MANY_PREFIXES = "ERR too many or too long prefixes for one client"
CANNOT_SWITCH = (
    "ERR You can't switch {} before disabling tracking for this client, and then re-enabling it with a different mode."
)


def tracking(services: TrackingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Switch tracking on or off. The options are checked as a data server checks them."""
    return Stepwise(_tracking(services, client, request))


def _tracking(services: TrackingServices, client: Client, request: Sequence[bytes]) -> Steps:
    options = yield from _parse(services, request)
    switch = request[2].lower()
    if switch == b"off":
        client.tracking = None
        return OK
    if switch != b"on":
        raise syntax_error()
    if options.prefixes and not options.broadcast:
        raise CommandError("ERR PREFIX option requires BCAST mode to be enabled")
    if options.broadcast and (options.opt_in or options.opt_out):
        raise CommandError("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if options.opt_in and options.opt_out:
        raise CommandError("ERR You can't specify both OPTIN mode and OPTOUT mode")
    present = client.tracking
    if present is not None:
        _check_change(present, options)
    options.prefixes = yield from _joined(services, options.prefixes, () if present is None else present.prefixes)
    client.tracking = options
    return OK


def _check_change(present: Tracking, options: Tracking) -> None:
    """Refuse a change of the tracking mode."""
    if present.broadcast is not options.broadcast:
        raise CommandError(CANNOT_SWITCH.format("BCAST mode on/off"))
    if (present.opt_in, present.opt_out) != (options.opt_in, options.opt_out):
        raise CommandError(CANNOT_SWITCH.format("OPTIN/OPTOUT mode"))


def _joined(
    services: TrackingServices, options: Sequence[bytes], present: Sequence[bytes]
) -> Generator[bytes, None, tuple[bytes, ...]]:
    """
    Return the present and the new prefixes together. Works in steps.

    :raises CommandError: if one prefix begins with another, as there would be two messages about one key; or if their
        size exceeds the limit.
    """
    everything = (*present, *options)
    places = dict(zip(reversed(everything), reversed(range(len(everything))), strict=True))
    if sum(map(len, places)) + len(places) * SUBSCRIPTION_OVERHEAD > services.limits.subscription_memory:
        raise CommandError(TOO_MANY_PREFIXES)
    for shorter, longer in pairwise(sorted(places)):
        yield b""
        if longer.startswith(shorter):
            first, second = sorted((shorter, longer), key=places.__getitem__)
            if places[first] < len(present):
                first, second, whose = second, first, "an existing prefix"
            else:
                whose = "another provided prefix"
            raise CommandError(
                f"ERR Prefix '{text(first)}' overlaps with {whose} '{text(second)}'."
                " Prefixes for a single client must not overlap."
            )
    return tuple(sorted(places, key=places.__getitem__))


def _parse(services: TrackingServices, words: Sequence[bytes]) -> Generator[bytes, None, Tracking]:
    """Parse the options after the third word. Works in steps."""
    options = Tracking()
    prefixes: dict[bytes, None] = {}
    size = 0
    index = 3
    while index < len(words):
        yield b""
        option, more = words[index].lower(), words[index + 1 : index + 2]
        if option == b"redirect" and more:
            if options.redirect:
                raise CommandError("ERR A client can only redirect to a single other client")
            options.redirect = integer(more[0])
            if services.clients.get(options.redirect) is None:
                raise CommandError("ERR The client ID you want redirect to does not exist")
            index += 1
        elif option == b"prefix" and more:
            if more[0] not in prefixes:
                prefixes[more[0]] = None
                size += cost(more[0])
                if size > services.limits.subscription_memory:
                    raise CommandError(TOO_MANY_PREFIXES)
            index += 1
        elif option == b"bcast":
            options.broadcast = True
        elif option == b"optin":
            options.opt_in = True
        elif option == b"optout":
            options.opt_out = True
        elif option == b"noloop":
            options.no_loop = True
        else:
            raise syntax_error()
        index += 1
    options.prefixes = tuple(prefixes)
    return options


def caching(services: TrackingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Check that the tracking mode allows the command. It has no effect."""
    options = client.tracking
    if options is None:
        raise CommandError(CACHING_WITHOUT_TRACKING)
    choice = request[2].lower()
    if choice == b"yes":
        if not options.opt_in:
            raise CommandError("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    elif choice == b"no":
        if not options.opt_out:
            raise CommandError("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    else:
        raise syntax_error()
    return OK


def getredir(services: TrackingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the client ID of the redirection, 0 without redirection, −1 without tracking."""
    return -1 if client.tracking is None else client.tracking.redirect


def trackinginfo(services: TrackingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return flags, redirection and prefixes."""
    options = client.tracking
    if options is None:
        return _tracking_report(["off"], -1, ())
    named = (
        ("on", True),
        ("bcast", options.broadcast),
        ("optin", options.opt_in),
        ("optout", options.opt_out),
        ("noloop", options.no_loop),
    )
    return _tracking_report([name for name, holds in named if holds], options.redirect, options.prefixes)


def _tracking_report(flags: list[str], redirect: int, prefixes: Sequence[bytes]) -> dict[str, Value]:
    return {"flags": SetReply(flags), "redirect": redirect, "prefixes": list(prefixes)}


COMMANDS: Final[CommandModule[TrackingServices]] = {
    connection_command(
        "client|tracking",
        arity=-3,
        since="6.0.0",
        summary="Enables or disables client-side caching; a Sentinel has no keys",
        arguments=(
            oneof("status", word("ON"), word("OFF")),
            optional(integer_argument("client-id", token="REDIRECT")),
            Argument("prefix", token="PREFIX", optional=True, multiple=True, multiple_token=True),
            optional(word("BCAST")),
            optional(word("OPTIN")),
            optional(word("OPTOUT")),
            optional(word("NOLOOP")),
        ),
    ): tracking,
    connection_command(
        "client|caching",
        arity=3,
        since="6.0.0",
        summary="Selects whether the keys of the next command are tracked",
        arguments=(oneof("mode", word("YES"), word("NO")),),
    ): caching,
    connection_command(
        "client|getredir",
        arity=2,
        since="6.0.0",
        summary="Returns the client ID that invalidation messages are redirected to",
    ): getredir,
    connection_command(
        "client|trackinginfo", arity=2, since="6.2.0", summary="Returns the options of CLIENT TRACKING"
    ): trackinginfo,
}
