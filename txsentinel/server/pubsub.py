"""Who hears which event: subscriptions to channels and patterns, and the frames that are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import Push, data, encode

if TYPE_CHECKING:
    from txsentinel.server.clients import Client

SUBSCRIPTION_OVERHEAD: Final = 64
"""Memory that each channel or pattern is charged with beside its bytes, so that tiny ones are not free."""


class PubSubHub:
    """
    Channels and patterns with their subscribers, in the order in which they subscribed.

    Each client also knows its own subscriptions; both sides change together, here only.
    """

    def __init__(self) -> None:
        self._channels: dict[bytes, dict[Client, None]] = {}
        self._patterns: dict[bytes, dict[Client, None]] = {}

    @property
    def channels(self) -> int:
        """Channels that somebody is subscribed to."""
        return len(self._channels)

    @property
    def patterns(self) -> int:
        """Different patterns that somebody is subscribed to."""
        return len(self._patterns)

    def subscribe(self, client: Client, channel: bytes) -> None:
        """Have ``client`` hear one channel; again is no harm."""
        if channel not in client.channels:
            client.subscription_memory += weight(channel)
        client.channels[channel] = None
        self._channels.setdefault(channel, {})[client] = None

    def subscribe_pattern(self, client: Client, pattern: bytes) -> None:
        """Have ``client`` hear every channel that matches a glob."""
        if pattern not in client.patterns:
            client.subscription_memory += weight(pattern)
        client.patterns[pattern] = None
        self._patterns.setdefault(pattern, {})[client] = None

    def unsubscribe(self, client: Client, channel: bytes) -> None:
        """Stop hearing a channel; nothing happens if it was not heard."""
        if channel in client.channels:
            client.subscription_memory -= weight(channel)
            del client.channels[channel]
        _withdraw(self._channels, client, channel)

    def unsubscribe_pattern(self, client: Client, pattern: bytes) -> None:
        """Stop hearing a pattern."""
        if pattern in client.patterns:
            client.subscription_memory -= weight(pattern)
            del client.patterns[pattern]
        _withdraw(self._patterns, client, pattern)

    def leave(self, client: Client) -> None:
        """Drop whatever ``client`` is subscribed to: it is gone."""
        for channel in list(client.channels):
            self.unsubscribe(client, channel)
        for pattern in list(client.patterns):
            self.unsubscribe_pattern(client, pattern)

    def publish(self, channel: str, payload: str) -> int:
        """
        Send one message to whoever is subscribed, channels before patterns.

        A client that matches in several ways gets one frame for each. A slow one is cut off by its
        connection and never holds up the others.

        :returns: how many frames were sent.
        """
        if not self._channels and not self._patterns:
            return 0
        raw_channel, raw_payload = data(channel), data(payload)
        receivers = 0
        subscribed = self._channels.get(raw_channel)
        if subscribed:
            receivers += _send(subscribed, Push([b"message", raw_channel, raw_payload]))
        for pattern, subscribers in list(self._patterns.items()):
            if glob_match(pattern, raw_channel):
                receivers += _send(subscribers, Push([b"pmessage", pattern, raw_channel, raw_payload]))
        return receivers


def weight(name: bytes) -> int:
    """Bytes that one subscription is charged with."""
    return len(name) + SUBSCRIPTION_OVERHEAD


def _withdraw(shelf: dict[bytes, dict[Client, None]], client: Client, name: bytes) -> None:
    subscribers = shelf.get(name)
    if subscribers is not None:
        subscribers.pop(client, None)
        if not subscribers:
            del shelf[name]


def _send(subscribers: dict[Client, None], frame: Push) -> int:
    """Encode once per protocol, however many listen."""
    encoded: dict[int, bytes] = {}
    for client in list(subscribers):
        protocol = client.protocol
        if protocol not in encoded:
            encoded[protocol] = encode(frame, protocol)
        client.connection.push(encoded[protocol])
    return len(subscribers)
