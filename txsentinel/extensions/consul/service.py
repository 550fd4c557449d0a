"""The service of the extension."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from txsentinel.extensions.building import ExtensionContext, combined
from txsentinel.extensions.certificate_policy import CertificatePolicy
from txsentinel.extensions.consul.client import ConsulClient
from txsentinel.extensions.consul.publisher import ConsulPublisher
from txsentinel.extensions.consul.settings import ConsulSettings, parse
from txsentinel.extensions.http_client import RequestClient
from txsentinel.extensions.publishing import PublishingService
from txsentinel.extensions.secret_file import SecretFile, SecretReader, secret_line
from txsentinel.extensions.usable_replicas import usable_replicas
from txsentinel.interfaces import IPublisher, ISentinelView
from txsentinel.model.snapshots import Endpoint, ViewChange

TIMEOUT: Final = 2.0
"""Seconds until another endpoint is asked."""

CHANGE_DELAY: Final = 1.0
"""Seconds from a change of replicas to the check of their services."""

FOLLOWER_DELAY: Final = (1.0, 3.0)
"""Seconds after which a Sentinel checks whether a switch of another one is published."""


class ReplicaServices(Service):
    """Has the services of a master checked soon after its usable replicas have changed."""

    _log = Logger(namespace=__name__)

    def __init__(self, reactor: Any, view: ISentinelView, publisher: IPublisher, wanted: Callable[[str], bool]) -> None:
        self._reactor = reactor
        self._view = view
        self._publisher = publisher
        self._wanted = wanted
        self._seen: dict[str, frozenset[str]] = {}
        self._calls: dict[str, IDelayedCall] = {}
        self._running: set[Deferred[Any]] = set()
        self._unsubscribe: Callable[[], None] | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self._unsubscribe = self._view.subscribe(self._changed)

    def stopService(self) -> None:
        """End."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        for checking in list(self._running):
            checking.cancel()

    def _changed(self, change: ViewChange) -> None:
        name = change.master
        if name is None or change.event is not None or not self._wanted(name) or name not in self._view.names():
            return
        replicas = frozenset(usable_replicas(self._view.master(name)))
        if replicas != self._seen.get(name):
            self._seen[name] = replicas
            if name not in self._calls:
                self._calls[name] = self._reactor.callLater(CHANGE_DELAY, self._check, name)

    def _check(self, name: str) -> None:
        del self._calls[name]
        checking: Deferred[Any] = self._publisher.verify(name)
        self._running.add(checking)
        # What fails is reported, and made up for, by the periodic checks.
        checking.addErrback(lambda failure: self._log.debug("{failure}", failure=failure))
        checking.addBoth(lambda _: self._running.discard(checking))


def make_service(context: ExtensionContext) -> MultiService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong, or a file cannot be used.
    """
    chosen = parse(context.argument, context.settings)
    policy = CertificatePolicy.of_files(chosen.ca_file, chosen.cert_file)
    files: list[SecretFile[Any]] = policy.files
    token = SecretFile(chosen.token_file, secret_line) if chosen.token_file else None
    if token is not None:
        files.append(token)
    client = ConsulClient(
        RequestClient(context.reactor, TIMEOUT, policy=policy),
        chosen.endpoints,
        chosen.dc,
        lambda: token.value if token else "",
    )
    return consul_services(context.reactor, context.view, client, chosen, files)


def consul_services(
    reactor: Any,
    view: ISentinelView,
    client: ConsulClient,
    settings: ConsulSettings,
    files: Sequence[SecretFile[Any]] = (),
) -> MultiService:
    """
    Return the service that publishes by a client.

    :param files: what is read again while it runs.
    """

    def replicas(name: str) -> Iterable[Endpoint]:
        return usable_replicas(view.master(name)).values() if name in view.names() else ()

    publisher = ConsulPublisher(client, settings, replicas)
    parts: list[Any] = [
        PublishingService(
            reactor,
            view,
            publisher,
            settings.wants,
            verify_interval=settings.verify,
            name="consul",
            target=", ".join(settings.endpoints),
            follower_delay=FOLLOWER_DELAY,
        )
    ]
    if settings.service:
        parts.append(ReplicaServices(reactor, view, publisher, settings.wants))
    if files:
        parts.append(SecretReader(reactor, files))
    return combined(parts)
