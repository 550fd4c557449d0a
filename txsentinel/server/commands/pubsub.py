"""SUBSCRIBE, UNSUBSCRIBE and their pattern forms, and PUBLISH, by which other Sentinels send their hellos."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server.clients import ReplySetting
from txsentinel.server.handlers import CommandModule
from txsentinel.server.pubsub import cost
from txsentinel.server.replies import NO_REPLY, Reply, Steps, Stepwise
from txsentinel.server.specification import Argument, Command, multiple, optional, text_argument
from txsentinel.server.steps import MAX_WITHOUT_STEPS, PORTION, portions
from txsentinel.wire.hello import HELLO_CHANNEL
from txsentinel.wire.resp import Push, Raw, encode

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.services import PubSubServices

SUBSCRIBE_FLAGS: Final = ("pubsub", "noscript", "loading", "stale")
SUBSCRIBE_CATEGORIES: Final = ("pubsub", "slow")


def subscribe(services: PubSubServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Send one confirmation for each named channel, also for repeated ones."""
    return _subscribed(services, client, request, client.channels, services.hub.subscribe)


def psubscribe(services: PubSubServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Send one confirmation for each named pattern."""
    return _subscribed(services, client, request, client.patterns, services.hub.subscribe_pattern)


def unsubscribe(services: PubSubServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Send one confirmation for each named or subscribed channel; without any, a single one without a name."""
    return _each(client, b"unsubscribe", request[1:] or list(client.channels), services.hub.unsubscribe)


def punsubscribe(services: PubSubServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Send one confirmation for each named or subscribed pattern; without any, a single one without a name."""
    patterns = request[1:] or list(client.patterns)
    return _each(client, b"punsubscribe", patterns, services.hub.unsubscribe_pattern)


def publish(services: PubSubServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Pass a hello to the core and return 1, even if it is invalid. Refuse other channels; deliver to no client."""
    if request[1] != HELLO_CHANNEL:
        raise CommandError("ERR Only HELLO messages are accepted by Sentinel instances.")
    services.core.hello_received(request[2], services.host.now(), None)
    return 1


def _subscribed(
    services: PubSubServices,
    client: Client,
    request: Sequence[bytes],
    held: Container[bytes],
    change: Callable[[Client, bytes], None],
) -> Reply:
    """
    Subscribe to all names or, if that exceeds the limit of the client, to none.

    Each event is compared with every pattern, so a client with a hundred thousand patterns would delay all others.

    :param held: the present subscriptions of the client.
    :raises CommandError: if the limit is exceeded or a channel is not allowed; nothing is changed then.
    """
    command = client.last_command
    assert command is not None, "a command is executed without dispatch"
    kind = command.name.encode()
    names = request[1:]
    if len(names) <= MAX_WITHOUT_STEPS:
        more = sum(cost(name) for name in set(names) if name not in held)
        if client.subscription_memory + more > services.limits.subscription_memory:
            raise CommandError(TOO_MANY)
        return _each(client, kind, names, change)

    def steps() -> Steps:
        new: set[bytes] = set()
        size = client.subscription_memory
        for portion in portions(names, size=PORTION if client.account.unrestricted else 1):
            if not client.account.unrestricted:
                services.access.authorize(client, command, [request[0], *portion])
            for name in portion:
                if name not in held and name not in new:
                    new.add(name)
                    size += cost(name)
            if size > services.limits.subscription_memory:
                raise CommandError(TOO_MANY)
            yield b""
        return _each(client, kind, names, change)

    return Stepwise(steps())


TOO_MANY: Final = "ERR too many or too long subscriptions for one client"


def _each(client: Client, kind: bytes, names: Sequence[bytes], change: Callable[[Client, bytes], None]) -> Reply:
    """Change one subscription after the other; each confirmation has the number of subscriptions after it."""
    if not names:
        return _sent(client, encode(Push([kind, None, client.subscriptions]), client.protocol))
    if len(names) <= MAX_WITHOUT_STEPS:
        return _sent(client, _confirmed(client, kind, names, change))

    def steps() -> Steps:
        for portion in portions(names):
            sent = _sent(client, _confirmed(client, kind, portion, change))
            yield sent.data if isinstance(sent, Raw) else b""
        return NO_REPLY

    return Stepwise(steps())


def _confirmed(client: Client, kind: bytes, names: Sequence[bytes], change: Callable[[Client, bytes], None]) -> bytes:
    confirmations = []
    for name in names:
        change(client, name)
        confirmations.append(encode(Push([kind, name, client.subscriptions]), client.protocol))
    return b"".join(confirmations)


def _sent(client: Client, confirmations: bytes) -> Reply:
    """Send confirmations. They are push messages, so CLIENT REPLY does not suppress them."""
    if client.reply_setting is ReplySetting.ON:
        return Raw(confirmations)
    client.connection.push(confirmations)
    return NO_REPLY


COMMANDS: Final[CommandModule[PubSubServices]] = {
    Command(
        "subscribe",
        arity=-2,
        flags=SUBSCRIBE_FLAGS,
        categories=SUBSCRIBE_CATEGORIES,
        since="2.0.0",
        summary="Subscribes to channels",
        group="pubsub",
        complexity="O(N) where N is the number of channels",
        arguments=(multiple(text_argument("channel")),),
    ): subscribe,
    Command(
        "psubscribe",
        arity=-2,
        flags=SUBSCRIBE_FLAGS,
        categories=SUBSCRIBE_CATEGORIES,
        since="2.0.0",
        summary="Subscribes to all channels that match patterns",
        group="pubsub",
        complexity="O(N) where N is the number of patterns",
        arguments=(multiple(Argument("pattern", "pattern")),),
    ): psubscribe,
    Command(
        "unsubscribe",
        arity=-1,
        flags=SUBSCRIBE_FLAGS,
        categories=SUBSCRIBE_CATEGORIES,
        since="2.0.0",
        summary="Unsubscribes from channels, or from all of them",
        group="pubsub",
        complexity="O(N) where N is the number of channels",
        arguments=(optional(multiple(text_argument("channel"))),),
    ): unsubscribe,
    Command(
        "punsubscribe",
        arity=-1,
        flags=SUBSCRIBE_FLAGS,
        categories=SUBSCRIBE_CATEGORIES,
        since="2.0.0",
        summary="Unsubscribes from patterns, or from all of them",
        group="pubsub",
        complexity="O(N) where N is the number of patterns",
        arguments=(optional(multiple(Argument("pattern", "pattern"))),),
    ): punsubscribe,
    Command(
        "publish",
        arity=3,
        flags=("pubsub", "loading", "stale", "fast"),
        categories=("pubsub", "fast"),
        since="2.0.0",
        summary="Passes a hello message of another Sentinel to this one",
        group="pubsub",
        arguments=(text_argument("channel"), text_argument("message")),
        acts=True,
    ): publish,
}
