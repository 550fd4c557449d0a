"""
Subscriptions to channels and patterns, and the delivery of events to them.

A thousand masters that fail together cause thousands of events at once, and each has to be compared with the patterns
of all subscribers. Events are therefore queued and delivered later, a few milliseconds at a time: one subscriber gets
all its pending events in one write, then the next one. A subscriber cannot observe the delay: its requests, above all
changes of its subscriptions, are executed after all earlier events are delivered to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from txsentinel.model.timings import Millis
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import Push, data, encode

if TYPE_CHECKING:
    from txsentinel.server.clients import Client

SUBSCRIPTION_OVERHEAD: Final = 64
"""Bytes of memory that each channel or pattern counts in addition to its name."""

TIME_SLICE_MS: Final[Millis] = 5
"""Milliseconds for which events are delivered before the reactor serves other descriptors."""

MAX_FRAMES: Final = 64
"""Maximum number of cached frames per event, one for each pattern. Most subscribers have the same few patterns."""

MAX_MATCHES: Final = 65_536
"""Maximum number of cached match results; when it is reached, the cache is cleared."""

MAX_CACHED_PATTERN: Final = 256
"""Maximum length in bytes of a pattern whose match results are cached."""

PATTERNS_AT_ONCE: Final = 64
"""Number of patterns that are compared with an event between two readings of the clock."""

MAX_BACKLOG: Final = 100_000
"""Maximum number of undelivered events. Beyond it the subscribers with the oldest ones are disconnected."""

MAX_SHARED: Final = 64
"""Maximum number of different sets of subscriptions whose encoded events are shared during one delivery."""

MAX_SHARED_SUBSCRIPTIONS: Final = 8
"""Maximum number of subscriptions of a client whose encoded events are shared with other clients."""


class Event:
    """One message, with a cache of its encoded frames."""

    __slots__ = ("_frames", "channel", "payload")

    def __init__(self, channel: bytes, payload: bytes) -> None:
        self.channel = channel
        self.payload = payload
        self._frames: dict[tuple[bytes | None, int], bytes] = {}

    def frame(self, pattern: bytes | None, protocol: int) -> bytes:
        """Return the frame for subscribers of a pattern, or of the channel for ``None``; it is encoded once."""
        known = self._frames.get((pattern, protocol))
        if known is not None:
            return known
        if pattern is None:
            encoded = encode(Push([b"message", self.channel, self.payload]), protocol)
        else:
            encoded = encode(Push([b"pmessage", pattern, self.channel, self.payload]), protocol)
        if len(self._frames) < MAX_FRAMES:
            self._frames[pattern, protocol] = encoded
        return encoded


class PubSubHub:
    """
    Channels and patterns with their subscribers, and the events that are not delivered to all of them yet.

    Each client also stores its own subscriptions. Both are changed together, and only here.

    :param now: returns the present time.
    :param later: calls a function in the next turn of the reactor.
    """

    def __init__(self, now: Callable[[], Millis], later: Callable[[Callable[[], None]], object]) -> None:
        self._now = now
        self._later = later
        self._channels: dict[bytes, dict[Client, None]] = {}
        self._patterns: dict[bytes, dict[Client, None]] = {}
        self._delivered: dict[Client, int] = {}
        """Subscriber → the number of events since the start that precede its next undelivered one."""

        self._count = 0
        """Number of events since the start."""

        self.backlog: list[Event] = []
        """The latest events: those that are not delivered to all subscribers."""

        self._waiting: deque[Client] = deque()
        """The subscribers with undelivered events, in the order of delivery."""

        self._shared: dict[object, bytes] = {}
        self._partially_compared: dict[Client, int] = {}
        """Subscriber → the number of its patterns that were compared with its next event when the slice ended."""

        self._matches: dict[tuple[bytes, bytes], bool] = {}

    @property
    def channels(self) -> int:
        """Number of channels with subscribers."""
        return len(self._channels)

    @property
    def patterns(self) -> int:
        """Number of different patterns with subscribers."""
        return len(self._patterns)

    def subscribe(self, client: Client, channel: bytes) -> None:
        """Subscribe to a channel. Subscribing again has no effect."""
        if channel not in client.channels:
            client.subscription_memory += cost(channel)
        self._delivered.setdefault(client, self._count)
        client.channels[channel] = None
        self._channels.setdefault(channel, {})[client] = None

    def subscribe_pattern(self, client: Client, pattern: bytes) -> None:
        """Subscribe to all channels that match a glob-style pattern."""
        if pattern not in client.patterns:
            client.subscription_memory += cost(pattern)
        self._delivered.setdefault(client, self._count)
        client.patterns[pattern] = None
        self._patterns.setdefault(pattern, {})[client] = None

    def unsubscribe(self, client: Client, channel: bytes) -> None:
        """Unsubscribe from a channel. Has no effect without a subscription."""
        if channel in client.channels:
            client.subscription_memory -= cost(channel)
            del client.channels[channel]
            self._discard_if_unsubscribed(client)
        _withdraw(self._channels, client, channel)

    def unsubscribe_pattern(self, client: Client, pattern: bytes) -> None:
        """Unsubscribe from a pattern. Has no effect without a subscription."""
        if pattern in client.patterns:
            client.subscription_memory -= cost(pattern)
            del client.patterns[pattern]
            self._discard_if_unsubscribed(client)
        _withdraw(self._patterns, client, pattern)

    def leave(self, client: Client) -> None:
        """Remove all subscriptions of a client whose connection is lost."""
        for channel in list(client.channels):
            self.unsubscribe(client, channel)
        for pattern in list(client.patterns):
            self.unsubscribe_pattern(client, pattern)

    def _discard_if_unsubscribed(self, client: Client) -> None:
        """Remove the delivery state of a client without subscriptions."""
        if not client.channels and not client.patterns:
            self._delivered.pop(client, None)
            self._partially_compared.pop(client, None)

    def publish(self, channel: str, payload: str) -> None:
        """
        Queue a message for the present subscribers.

        A client with several matching subscriptions gets one frame for each, that of the channel first. A slow
        client does not delay the others: the output limits of its connection apply.
        """
        if not self._delivered:
            return
        if not self.backlog:
            self._waiting.extend(self._delivered)
            self._later(self._deliver_pending)
        self.backlog.append(Event(data(channel), data(payload)))
        self._count += 1
        if len(self.backlog) > MAX_BACKLOG:
            self._drop_slowest()

    def _drop_slowest(self) -> None:
        """Disconnect the subscribers whose patterns are too many to match events as fast as they occur."""
        oldest = self._count - MAX_BACKLOG // 2
        for client in [client for client, delivered in self._delivered.items() if delivered < oldest]:
            client.connection.abort()
            self.leave(client)
        del self.backlog[: len(self.backlog) - MAX_BACKLOG // 2]

    def _is_match(self, pattern: bytes, channel: bytes) -> bool:
        """Whether a pattern matches a channel. Results are cached, because channels are few and recur."""
        key = (channel, pattern)
        known = self._matches.get(key)
        if known is None:
            known = glob_match(pattern, channel)
            if len(pattern) <= MAX_CACHED_PATTERN:
                if len(self._matches) >= MAX_MATCHES:
                    self._matches.clear()
                self._matches[key] = known
        return known

    def catch_up(self, client: Client) -> bool:
        """
        Deliver the pending events of one subscriber before those of others, for one time slice at most.

        :returns: whether all are delivered. If not, ``proceed`` of its connection is called when they are.
        """
        delivered = self._delivered.get(client, self._count)
        if delivered == self._count:
            return True
        self._deliver(client, delivered, self._now() + TIME_SLICE_MS)
        return self._delivered.get(client, self._count) == self._count

    def _deliver_pending(self) -> None:
        """Deliver pending events for one time slice, and continue in the next turn."""
        waiting = self._waiting
        until = self._now() + TIME_SLICE_MS
        try:
            while waiting:
                client = waiting.popleft()
                delivered = self._delivered.get(client, self._count)
                if delivered < self._count:
                    self._deliver(client, delivered, until)
                    if self._delivered.get(client, self._count) < self._count:
                        waiting.appendleft(client)
                    else:
                        client.connection.proceed()
                if self._now() > until:
                    break
        finally:
            self._shared.clear()
            if not waiting:
                # Events that were published meanwhile are not delivered to the first subscribers yet.
                waiting.extend(client for client, delivered in self._delivered.items() if delivered < self._count)
                oldest = min((self._delivered[client] for client in waiting), default=self._count)
                del self.backlog[: len(self.backlog) - (self._count - oldest)]
            if waiting:
                self._later(self._deliver_pending)

    def _deliver(self, client: Client, delivered: int, until: Millis) -> None:
        """Push the pending events to ``client`` until the time slice ends."""
        first = self._count - len(self.backlog)
        names = len(client.channels) + len(client.patterns)
        shared_key: object = None
        if names <= MAX_SHARED_SUBSCRIPTIONS:
            shared_key = delivered, self._count, client.protocol, tuple(client.channels), tuple(client.patterns)
            known = self._shared.get(shared_key)
            if known is not None:
                self._delivered[client] = self._count
                if known:
                    client.connection.push(known)
                return
        frames: list[bytes] = []
        for event in islice(self.backlog, delivered - first, None):
            if not self._compare(client, event, frames, until):
                break
            delivered += 1
            if self._now() > until:
                break
        self._delivered[client] = delivered
        encoded = b"".join(frames)
        if shared_key is not None and delivered == self._count and len(self._shared) < MAX_SHARED:
            self._shared[shared_key] = encoded
        if encoded:
            client.connection.push(encoded)

    def _compare(self, client: Client, event: Event, frames: list[bytes], until: Millis) -> bool:
        """
        Add the frames of one event for one subscriber, beginning with the pattern at which the last slice ended.

        :returns: false if the slice ends before all patterns are compared; the next call continues there.
        """
        protocol = client.protocol
        done = self._partially_compared.pop(client, 0)
        if not done and event.channel in client.channels:
            frames.append(event.frame(None, protocol))
        for pattern in islice(client.patterns, done, None):
            if self._is_match(pattern, event.channel):
                frames.append(event.frame(pattern, protocol))
            done += 1
            if not done % PATTERNS_AT_ONCE and self._now() > until:
                self._partially_compared[client] = done
                return False
        return True


def cost(name: bytes) -> int:
    """Return the bytes that one subscription counts in the memory of its client."""
    return len(name) + SUBSCRIPTION_OVERHEAD


def _withdraw(subscriptions: dict[bytes, dict[Client, None]], client: Client, name: bytes) -> None:
    subscribers = subscriptions.get(name)
    if subscribers is not None:
        subscribers.pop(client, None)
        if not subscribers:
            del subscriptions[name]
