"""SUBSCRIBE and its kin, and PUBLISH, by which other Sentinels tell us their hellos."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server.clients import Answering
from txsentinel.server.pubsub import cost
from txsentinel.server.replies import NO_REPLY, Reply, Steps, Stepwise
from txsentinel.server.steps import FEW, PORTION, portions
from txsentinel.server.syntax import Argument, multiple, optional, text_argument
from txsentinel.server.table import command
from txsentinel.wire.hello import HELLO_CHANNEL
from txsentinel.wire.resp import Push, Raw, encode

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext

SUBSCRIBE_FLAGS: Final = ("pubsub", "noscript", "loading", "stale")
SUBSCRIBE_CATEGORIES: Final = ("pubsub", "slow")


@command(
    "SUBSCRIBE",
    arity=-2,
    flags=SUBSCRIBE_FLAGS,
    categories=SUBSCRIBE_CATEGORIES,
    since="2.0.0",
    summary="Hears the messages of channels",
    group="pubsub",
    complexity="O(N) where N is the number of channels named",
    arguments=(multiple(text_argument("channel")),),
)
def subscribe(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """One confirmation for each channel, named twice or not."""
    return _subscribed(context, client, request, client.channels, context.hub.subscribe)


@command(
    "PSUBSCRIBE",
    arity=-2,
    flags=SUBSCRIBE_FLAGS,
    categories=SUBSCRIBE_CATEGORIES,
    since="2.0.0",
    summary="Hears the messages of all channels that match a pattern",
    group="pubsub",
    complexity="O(N) where N is the number of patterns named",
    arguments=(multiple(Argument("pattern", "pattern")),),
)
def psubscribe(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """One confirmation for each pattern."""
    return _subscribed(context, client, request, client.patterns, context.hub.subscribe_pattern)


@command(
    "UNSUBSCRIBE",
    arity=-1,
    flags=SUBSCRIBE_FLAGS,
    categories=SUBSCRIBE_CATEGORIES,
    since="2.0.0",
    summary="Stops hearing channels, or all of them",
    group="pubsub",
    complexity="O(N) where N is the number of channels given up",
    arguments=(optional(multiple(text_argument("channel"))),),
)
def unsubscribe(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """One confirmation for each channel named, or held; a single one without a name if there is none."""
    return _each(client, b"unsubscribe", request[1:] or list(client.channels), context.hub.unsubscribe)


@command(
    "PUNSUBSCRIBE",
    arity=-1,
    flags=SUBSCRIBE_FLAGS,
    categories=SUBSCRIBE_CATEGORIES,
    since="2.0.0",
    summary="Stops hearing patterns, or all of them",
    group="pubsub",
    complexity="O(N) where N is the number of patterns given up",
    arguments=(optional(multiple(Argument("pattern", "pattern"))),),
)
def punsubscribe(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """One confirmation for each pattern named, or held; a single one without a name if there is none."""
    patterns = request[1:] or list(client.patterns)
    return _each(client, b"punsubscribe", patterns, context.hub.unsubscribe_pattern)


@command(
    "PUBLISH",
    arity=3,
    flags=("pubsub", "loading", "stale", "fast"),
    categories=("pubsub", "fast"),
    since="2.0.0",
    summary="Tells this Sentinel the hello of another",
    group="pubsub",
    arguments=(text_argument("channel"), text_argument("message")),
    acts=True,
)
def publish(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """``:1`` for a hello, whatever it says; other channels are refused, and nobody is sent the message."""
    if request[1] != HELLO_CHANNEL:
        raise CommandError("ERR Only HELLO messages are accepted by Sentinel instances.")
    context.core.hello_received(request[2], context.host.now(), None)
    return 1


def _subscribed(
    context: ServerContext,
    client: Client,
    request: Sequence[bytes],
    held: Container[bytes],
    change: Callable[[Client, bytes], None],
) -> Reply:
    """
    Subscribe to all names or, if that is too much for the client, to none.

    Each event is compared with every pattern, so whoever holds a hundred thousand of them slows down all others.

    :param held: what the client is subscribed to.
    :raises CommandError: and nothing has changed.
    """
    command = client.last_command
    assert command is not None, "a command is executed that was not admitted"
    kind = command.name.encode()
    names = request[1:]
    if len(names) <= FEW:
        more = sum(cost(name) for name in set(names) if name not in held)
        if client.subscription_memory + more > context.limits.subscription_memory:
            raise CommandError(TOO_MANY)
        return _each(client, kind, names, change)

    def steps() -> Steps:
        new: set[bytes] = set()
        size = client.subscription_memory
        for portion in portions(names, size=PORTION if client.account.unrestricted else 1):
            if not client.account.unrestricted:
                context.access.authorize(context, client, command, [request[0], *portion])
            for name in portion:
                if name not in held and name not in new:
                    new.add(name)
                    size += cost(name)
            if size > context.limits.subscription_memory:
                raise CommandError(TOO_MANY)
            yield b""
        return _each(client, kind, names, change)

    return Stepwise(steps())


TOO_MANY: Final = "ERR too many or too long subscriptions for one client"


def _each(client: Client, kind: bytes, names: Sequence[bytes], change: Callable[[Client, bytes], None]) -> Reply:
    """Change one subscription after the other, each confirmed with the number held from then on."""
    if not names:
        return _said(client, encode(Push([kind, None, client.subscriptions]), client.protocol))
    if len(names) <= FEW:
        return _said(client, _confirmed(client, kind, names, change))

    def steps() -> Steps:
        for portion in portions(names):
            said = _said(client, _confirmed(client, kind, portion, change))
            yield said.data if isinstance(said, Raw) else b""
        return NO_REPLY

    return Stepwise(steps())


def _confirmed(client: Client, kind: bytes, names: Sequence[bytes], change: Callable[[Client, bytes], None]) -> bytes:
    confirmations = []
    for name in names:
        change(client, name)
        confirmations.append(encode(Push([kind, name, client.subscriptions]), client.protocol))
    return b"".join(confirmations)


def _said(client: Client, confirmations: bytes) -> Reply:
    """Confirmations are messages, not replies: CLIENT REPLY does not silence them."""
    if client.answering is Answering.ON:
        return Raw(confirmations)
    client.connection.push(confirmations)
    return NO_REPLY
