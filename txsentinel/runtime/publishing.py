"""Passes the events of a Sentinel to all that receive them, once they are durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from txsentinel.interfaces import ISentinelListener
    from txsentinel.model.events import SentinelEvent
    from txsentinel.server.pubsub import PubSubHub

Subscriber = Callable[["SentinelEvent"], None]


class EventPublisher:
    """
    Publishes events to clients, event plug-ins and subscribers, in this order.

    :param hub: returns the hub with the subscriptions of clients, which is built later.
    """

    def __init__(
        self,
        listeners: ISentinelListener | None,
        hub: Callable[[], PubSubHub],
    ) -> None:
        self._listeners = listeners
        self._hub = hub
        self._subscribers: list[Subscriber] = []

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback``, which must not raise exceptions, with every event; return a function that ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def publish(self, event: SentinelEvent) -> None:
        """Publish an event that is durable."""
        if event.published:
            self._hub().publish(event.channel, event.payload)
        if self._listeners is not None:
            self._listeners.event_published(event)
        for callback in list(self._subscribers):
            callback(event)
