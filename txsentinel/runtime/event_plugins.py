"""Finds the event plug-ins, and passes events to them."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.reflect import qual
from zope.interface import implementer

from txsentinel.interfaces import ISentinelListener
from txsentinel.model.events import SentinelEvent


def installed_event_plugins(package: ModuleType | None = None) -> list[ISentinelListener]:
    """
    Return all plug-ins that provide :class:`ISentinelListener`, ordered by name.

    :param package: the package of plug-in modules; ``None`` for ``twisted.plugins``. Twisted logs and skips a module
        that cannot be imported.
    """
    found: list[ISentinelListener] = list(getPlugins(ISentinelListener, package))
    return sorted(found, key=_name_of)


def _name_of(listener: ISentinelListener) -> str:
    """Return the full name of the class of a listener."""
    return qual(type(listener))


@implementer(ISentinelListener)
class EventPlugins:
    """
    A listener that passes events to several listeners.

    :param listeners: called in this order; see :func:`installed_event_plugins`.
    """

    def __init__(self, listeners: Iterable[ISentinelListener]) -> None:
        self._listeners = [(listener, Logger(namespace=_name_of(listener))) for listener in listeners]

    def __len__(self) -> int:
        """Return the number of listeners."""
        return len(self._listeners)

    def event_published(self, event: SentinelEvent) -> None:
        """Call each listener. An exception is logged under the listener's name, and the next one is called."""
        for listener, log in self._listeners:
            try:
                listener.event_published(event)
            except Exception:
                log.failure("{listener} failed to process {event}", listener=_name_of(listener), event=str(event))
