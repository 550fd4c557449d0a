"""The service of the extension."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txsentinel.extensions.building import ExtensionContext, combined
from txsentinel.extensions.publishing import PublishingService
from txsentinel.extensions.template.publisher import TemplatePublisher
from txsentinel.extensions.template.rendering import TemplateFile
from txsentinel.extensions.template.settings import TemplateSettings, read_files
from txsentinel.interfaces import ISentinelView
from txsentinel.model.snapshots import Instant, MasterSnapshot, ViewChange

PUBLISH_TIMEOUT: Final = 150.0
"""Seconds after which an attempt has failed: both commands may use up their time."""


def shape(master: MasterSnapshot) -> tuple[object, ...]:
    """Return what of a master makes files be rendered soon: addresses, roles and states, but no offsets."""
    return (
        *(master.address, master.config_epoch, master.status, master.flags, master.settings.quorum),
        tuple((each.name, each.flags, each.master_link_up, each.fit, each.priority) for each in master.replicas),
        tuple((each.sentinel_id, each.address, each.flags) for each in master.peers),
    )


class ReplicaChanges(Service):
    """Has a file rendered when something other than the address of a master changes."""

    def __init__(
        self, view: ISentinelView, wanted: Callable[[str], bool], render: Callable[[], Deferred[bool]]
    ) -> None:
        self._view = view
        self._wanted = wanted
        self._render = render
        self._shapes: dict[str, tuple[object, ...]] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self._shapes = {each.name: shape(each) for each in self._view.masters() if self._wanted(each.name)}
        self._unsubscribe = self._view.subscribe(self._changed)

    def stopService(self) -> None:
        """End."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _changed(self, change: ViewChange) -> None:
        name = change.master
        if name is None or change.event is not None or not self._wanted(name):
            return
        before = self._shapes.pop(name, None)
        if name in self._view.names():
            self._shapes[name] = shape(self._view.master(name))
        if self._shapes.get(name) != before:
            # A failure is reported when the file is checked, or a master moves.
            self._render().addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        return None


class TemplateService(MultiService):
    """Keeps one file."""

    def __init__(self, reactor: Any, view: ISentinelView, settings: TemplateSettings) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._view = view
        self._settings = settings
        self.publisher = TemplatePublisher(reactor, settings, self.variables)
        publishing = PublishingService(
            reactor,
            view,
            self.publisher,
            settings.wants,
            name="template",
            target=settings.dest,
            timeout=PUBLISH_TIMEOUT,
            # All that wait are answered by one run.
            max_running=sys.maxsize,
        )
        publishing.setServiceParent(self)  # type: ignore[no-untyped-call]
        ReplicaChanges(view, settings.wants, self.publisher.render).setServiceParent(self)  # type: ignore[no-untyped-call]

    def variables(self) -> Mapping[str, Any]:
        """Return the variables of the template."""
        masters = [each for each in self._view.masters() if self._settings.wants(each.name)]
        return {
            "masters": sorted(masters, key=lambda each: each.name),
            "name": self._settings.name,
            "now": str(Instant(int(time.time() * 1000))),
            "sentinel": self._view.identity(),
        }

    def stopService(self) -> Deferred[Any]:
        """Stop, when a command that runs has ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self.publisher.stop()


def make_service(context: ExtensionContext) -> MultiService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong, or a template cannot be read.
    """
    chosen = read_files(context.argument, context.settings)
    for each in chosen:
        TemplateFile(each.source).check()
    return combined(TemplateService(context.reactor, context.view, each) for each in chosen)
