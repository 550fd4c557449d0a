"""
Who hears which event: subscriptions to channels and patterns, and the frames that are sent.

A thousand masters that fail together make thousands of events in a moment, for each of which the patterns of all
subscribers have to be compared. So events are noted as they come, and told a little later: each subscriber is told of
all that it has not heard yet, in one piece, then the next one, a few milliseconds at a time. For each of them it is
as if it had been told at once: whatever it sends, changes of its subscriptions above all, waits until it has heard
everything that came before.
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
"""Memory that each channel or pattern is charged with beside its bytes, so that tiny ones are not free."""

TIME_SLICE_MS: Final[Millis] = 5
"""How long subscribers are told of events before it is the turn of others."""

MAX_FRAMES: Final = 64
"""Patterns whose frame of an event is remembered; the usual ones are few, and most subscribers have the same."""

MAX_MATCHES: Final = 65_536
"""Pairs of channel and pattern of which it is remembered whether they match; beyond that all are found out anew."""

MAX_REMEMBERED: Final = 256
"""Bytes of a pattern of which that is remembered."""

PATTERNS_AT_ONCE: Final = 64
"""Patterns of one subscriber that are compared with an event between two looks at the clock."""

MAX_BACKLOG: Final = 100_000
"""Events that some have not heard; beyond that those who have heard least lose their connection."""

MAX_IDENTICAL: Final = 64
"""Kinds of subscribers whose frames are remembered while others are told."""

MAX_NAMES: Final = 8
"""Channels and patterns of a subscriber for which others that have the same are looked for."""


class Event:
    """One message, with what has been found out about it."""

    __slots__ = ("_frames", "channel", "payload")

    def __init__(self, channel: bytes, payload: bytes) -> None:
        self.channel = channel
        self.payload = payload
        self._frames: dict[tuple[bytes | None, int], bytes] = {}

    def frame(self, pattern: bytes | None, protocol: int) -> bytes:
        """The frame for who hears it by a pattern, ``None`` for the channel; encoded once, however many listen."""
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
    Channels and patterns with their subscribers, and the events that not all of them have heard.

    Each client also knows its own subscriptions; both sides change together, here only.

    :param now: the time.
    :param later: calls something in the reactor's next turn.
    """

    def __init__(self, now: Callable[[], Millis], later: Callable[[Callable[[], None]], object]) -> None:
        self._now = now
        self._later = later
        self._channels: dict[bytes, dict[Client, None]] = {}
        self._patterns: dict[bytes, dict[Client, None]] = {}
        self._received: dict[Client, int] = {}
        """Subscriber → how many of all events since the start it has heard, or was not there for."""

        self._count = 0
        """Events since the start."""

        self.backlog: list[Event] = []
        """The latest of them: those that somebody has not heard."""

        self._waiting: deque[Client] = deque()
        """Whose turn to be told comes, in that order."""

        self._alike: dict[object, bytes] = {}
        self._begun: dict[Client, int] = {}
        """How many patterns of a subscriber the next event for it was compared with when the time was up."""

        self._matches: dict[tuple[bytes, bytes], bool] = {}

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
            client.subscription_memory += cost(channel)
        self._received.setdefault(client, self._count)
        client.channels[channel] = None
        self._channels.setdefault(channel, {})[client] = None

    def subscribe_pattern(self, client: Client, pattern: bytes) -> None:
        """Have ``client`` hear every channel that matches a glob."""
        if pattern not in client.patterns:
            client.subscription_memory += cost(pattern)
        self._received.setdefault(client, self._count)
        client.patterns[pattern] = None
        self._patterns.setdefault(pattern, {})[client] = None

    def unsubscribe(self, client: Client, channel: bytes) -> None:
        """Stop hearing a channel; nothing happens if it was not heard."""
        if channel in client.channels:
            client.subscription_memory -= cost(channel)
            del client.channels[channel]
            self._settle(client)
        _withdraw(self._channels, client, channel)

    def unsubscribe_pattern(self, client: Client, pattern: bytes) -> None:
        """Stop hearing a pattern."""
        if pattern in client.patterns:
            client.subscription_memory -= cost(pattern)
            del client.patterns[pattern]
            self._settle(client)
        _withdraw(self._patterns, client, pattern)

    def leave(self, client: Client) -> None:
        """Drop whatever ``client`` is subscribed to: it is gone."""
        for channel in list(client.channels):
            self.unsubscribe(client, channel)
        for pattern in list(client.patterns):
            self.unsubscribe_pattern(client, pattern)

    def _settle(self, client: Client) -> None:
        """Is it still a subscriber?"""
        if not client.channels and not client.patterns:
            self._received.pop(client, None)
            self._begun.pop(client, None)

    def publish(self, channel: str, payload: str) -> None:
        """
        Tell whoever is subscribed now, soon.

        A client that matches in several ways gets a frame for each, that of the channel first. A slow one is cut
        off by its connection and never holds up the others.
        """
        if not self._received:
            return
        if not self.backlog:
            self._waiting.extend(self._received)
            self._later(self._notify)
        self.backlog.append(Event(data(channel), data(payload)))
        self._count += 1
        if len(self.backlog) > MAX_BACKLOG:
            self._drop_slowest()

    def _drop_slowest(self) -> None:
        """Whoever has so many patterns that it cannot be told of events as fast as they come loses its connection."""
        oldest = self._count - MAX_BACKLOG // 2
        for client in [client for client, received in self._received.items() if received < oldest]:
            client.connection.abort()
            self.leave(client)
        del self.backlog[: len(self.backlog) - MAX_BACKLOG // 2]

    def _is_match(self, pattern: bytes, channel: bytes) -> bool:
        """Whether a pattern matches a channel. There are few channels, and the same events come again and again."""
        key = (channel, pattern)
        known = self._matches.get(key)
        if known is None:
            known = glob_match(pattern, channel)
            if len(pattern) <= MAX_REMEMBERED:
                if len(self._matches) >= MAX_MATCHES:
                    self._matches.clear()
                self._matches[key] = known
        return known

    def catch_up(self, client: Client) -> bool:
        """
        Tell one subscriber of all that it has not heard, whoever else waits; no longer than a slice.

        :returns: whether it has heard everything. If not, its connection is told to proceed when it has.
        """
        received = self._received.get(client, self._count)
        if received == self._count:
            return True
        self._published(client, received, self._now() + TIME_SLICE_MS)
        return self._received.get(client, self._count) == self._count

    def _notify(self) -> None:
        """Tell those who wait until the time is up, and go on in the next turn."""
        waiting = self._waiting
        until = self._now() + TIME_SLICE_MS
        try:
            while waiting:
                client = waiting.popleft()
                received = self._received.get(client, self._count)
                if received < self._count:
                    self._published(client, received, until)
                    if self._received.get(client, self._count) < self._count:
                        waiting.appendleft(client)
                    else:
                        client.connection.proceed()
                if self._now() > until:
                    break
        finally:
            self._alike.clear()
            if not waiting:
                # Those who were told first have not heard what came meanwhile.
                waiting.extend(client for client, received in self._received.items() if received < self._count)
                oldest = min((self._received[client] for client in waiting), default=self._count)
                del self.backlog[: len(self.backlog) - (self._count - oldest)]
            if waiting:
                self._later(self._notify)

    def _published(self, client: Client, received: int, until: Millis) -> None:
        """Push to ``client`` the frames of what it has not heard, as far as time allows."""
        first = self._count - len(self.backlog)
        names = len(client.channels) + len(client.patterns)
        alike: object = None
        if names <= MAX_NAMES:
            alike = received, self._count, client.protocol, tuple(client.channels), tuple(client.patterns)
            known = self._alike.get(alike)
            if known is not None:
                self._received[client] = self._count
                if known:
                    client.connection.push(known)
                return
        frames: list[bytes] = []
        for event in islice(self.backlog, received - first, None):
            if not self._compare(client, event, frames, until):
                break
            received += 1
            if self._now() > until:
                break
        self._received[client] = received
        encoded = b"".join(frames)
        if alike is not None and received == self._count and len(self._alike) < MAX_IDENTICAL:
            self._alike[alike] = encoded
        if encoded:
            client.connection.push(encoded)

    def _compare(self, client: Client, event: Event, frames: list[bytes], until: Millis) -> bool:
        """
        Add the frames of one event for one subscriber, those behind the pattern where the time was up before.

        :returns: false if the time is up before all patterns were compared; then it goes on there the next time.
        """
        protocol = client.protocol
        done = self._begun.pop(client, 0)
        if not done and event.channel in client.channels:
            frames.append(event.frame(None, protocol))
        for pattern in islice(client.patterns, done, None):
            if self._is_match(pattern, event.channel):
                frames.append(event.frame(pattern, protocol))
            done += 1
            if not done % PATTERNS_AT_ONCE and self._now() > until:
                self._begun[client] = done
                return False
        return True


def cost(name: bytes) -> int:
    """Bytes that one subscription is charged with."""
    return len(name) + SUBSCRIPTION_OVERHEAD


def _withdraw(shelf: dict[bytes, dict[Client, None]], client: Client, name: bytes) -> None:
    subscribers = shelf.get(name)
    if subscribers is not None:
        subscribers.pop(client, None)
        if not subscribers:
            del shelf[name]
