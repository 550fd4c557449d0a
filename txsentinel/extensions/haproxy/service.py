"""The service of the extension."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import time
from typing import Any, Final

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.building import ExtensionContext, combined
from txsentinel.extensions.haproxy.agent import AgentAnswers, AgentFactory
from txsentinel.extensions.haproxy.runtime import RuntimePublisher, RuntimeSocket
from txsentinel.extensions.haproxy.settings import parse
from txsentinel.extensions.publishing import PublishingService

RETRY_SECONDS: Final = 5.0
"""Interval of attempts to listen while the port is in use."""


class AgentListener(Service):
    """Listens for agent checks; a port that is in use is tried again, and the Sentinel runs on without it."""

    _log = Logger(namespace=__name__)

    def __init__(self, reactor: Any, endpoint: str, answers: AgentAnswers) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._factory = AgentFactory(reactor, answers)
        self._port: IListeningPort | None = None
        self._call: IDelayedCall | None = None
        self._failed = False

    def startService(self) -> None:
        """Begin to listen."""
        super().startService()  # type: ignore[no-untyped-call]
        self._listen()

    def stopService(self) -> Deferred[Any]:
        """Stop listening, and close all connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._factory.close_connections()
        port, self._port = self._port, None
        return maybeDeferred(lambda: None if port is None else port.stopListening())

    def _listen(self) -> None:
        self._call = None
        listening: Deferred[Any] = serverFromString(self._reactor, self._endpoint).listen(self._factory)
        listening.addCallbacks(self._listening, self._not_listening)

    def _listening(self, port: IListeningPort) -> None:
        if not self.running:
            port.stopListening()
            return
        self._port, self._failed = port, False
        self._log.info("HAProxy: answering agent checks at {endpoint}", endpoint=self._endpoint)

    def _not_listening(self, failure: Failure) -> None:
        if not self.running:
            return
        if not self._failed:
            self._failed = True
            error = failure.getErrorMessage().rstrip(".")
            self._log.warn("HAProxy: cannot listen at {endpoint}: {error}", endpoint=self._endpoint, error=error)
        self._call = self._reactor.callLater(RETRY_SECONDS, self._listen)


def make_service(context: ExtensionContext) -> MultiService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong.
    """
    chosen = parse(context.argument, context.settings)
    answers = AgentAnswers(context.view, time.time)
    parts: list[Any] = [AgentListener(context.reactor, each, answers) for each in chosen.agents]
    for endpoint in chosen.sockets:
        publisher = RuntimePublisher(context.reactor, RuntimeSocket(context.reactor, endpoint), chosen.servers)
        parts.append(
            PublishingService(
                context.reactor,
                context.view,
                publisher,
                publisher.wanted,
                verify_interval=chosen.verify,
                name="haproxy",
                target=endpoint.partition(":")[2].replace("\\", ""),
            )
        )
    return combined(parts)
