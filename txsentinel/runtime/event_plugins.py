"""Finds the event plug-ins, and passes events to them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import ModuleType
from typing import Final

from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.reflect import qual
from zope.interface import implementer

from twisted import plugins
from txsentinel.interfaces import ISentinelListener
from txsentinel.model.events import SentinelEvent

WITHOUT_EVENT_PLUGINS: Final = frozenset(
    f"{name}.py"
    for name in (
        "__init__",
        *("cred_anonymous", "cred_file", "cred_memory", "cred_sshkeys", "cred_unix"),
        *("twisted_conch", "twisted_core", "twisted_ftp", "twisted_inet", "twisted_mail", "twisted_names"),
        *("twisted_portforward", "twisted_reactors", "twisted_runner", "twisted_socks", "twisted_trial"),
        *("twisted_web", "twisted_words"),
        "txsentinel_plugin",
    )
)
"""The plug-in modules of Twisted and of this project, which have plug-ins of other kinds only."""

NO_MODULES: Final = frozenset({"dropin.cache", "__pycache__"})


def installed_event_plugins(package: ModuleType = plugins) -> list[ISentinelListener]:
    """
    Return all plug-ins that provide :class:`ISentinelListener`, ordered by name.

    Without modules of others, Twisted does not have to look into its own. For that it loads a hundred modules where its
    cache of plug-ins is missing or outdated and cannot be written, and a dozen otherwise.

    :param package: the package of plug-in modules. Twisted logs and skips a module that cannot be imported.
    """
    if not _has_other_modules(package):
        return []
    found: list[ISentinelListener] = list(getPlugins(ISentinelListener, package))
    return sorted(found, key=_name_of)


def _has_other_modules(package: ModuleType) -> bool:
    """Whether the package may have modules besides those that are known to have no event plug-ins."""
    for directory in package.__path__:
        try:
            found = os.listdir(directory)
        except FileNotFoundError:
            continue
        except OSError:
            return True  # It may be an archive.
        if not WITHOUT_EVENT_PLUGINS.union(NO_MODULES).issuperset(found):
            return True
    return False


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
