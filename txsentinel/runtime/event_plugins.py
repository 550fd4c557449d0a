"""Finds the plug-ins that want to hear of events, and tells them."""

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
    Every plug-in that provides :class:`ISentinelListener`, ordered by name so that each start is alike.

    :param package: where plug-in modules live; ``None`` for ``twisted.plugins``. A module that cannot be
        imported is logged by Twisted and left out.
    """
    found: list[ISentinelListener] = list(getPlugins(ISentinelListener, package))
    return sorted(found, key=_name_of)


def _name_of(listener: ISentinelListener) -> str:
    """The full name of a listener's class."""
    return qual(type(listener))


@implementer(ISentinelListener)
class EventPlugins:
    """
    All listeners as one.

    :param listeners: told in this order; see :func:`installed_event_plugins`.
    """

    def __init__(self, listeners: Iterable[ISentinelListener]) -> None:
        self._listeners = [(listener, Logger(namespace=_name_of(listener))) for listener in listeners]

    def __len__(self) -> int:
        """How many there are; with none there is no need to tell."""
        return len(self._listeners)

    def event_published(self, event: SentinelEvent) -> None:
        """Tell each of them. What one raises is logged under its name and keeps no other from hearing."""
        for listener, log in self._listeners:
            try:
                listener.event_published(event)
            except Exception:
                log.failure("{listener} failed to hear of {event}", listener=_name_of(listener), event=str(event))
