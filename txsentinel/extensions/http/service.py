"""The service that listens, with all routes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorThreads,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.building import DelayedCalls, ExtensionContext
from txsentinel.extensions.http.acting import ActingRoutes
from txsentinel.extensions.http.authentication import Authenticator
from txsentinel.extensions.http.dispatcher import Dispatcher
from txsentinel.extensions.http.doctor import DoctorRoutes
from txsentinel.extensions.http.encryption import encrypted
from txsentinel.extensions.http.graphviz import Graphviz
from txsentinel.extensions.http.health import HealthRoutes
from txsentinel.extensions.http.membership import MembershipRoutes
from txsentinel.extensions.http.metrics import MetricsRoute
from txsentinel.extensions.http.openapi import OpenApiRoute
from txsentinel.extensions.http.operations import OperationRoutes
from txsentinel.extensions.http.page import PageRoutes
from txsentinel.extensions.http.problem import shown
from txsentinel.extensions.http.protocol import HttpFactory
from txsentinel.extensions.http.proxying import ProxyFactory
from txsentinel.extensions.http.reading import ReadingRoutes
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.router import Route, RouteAccess, Router
from txsentinel.extensions.http.session import SessionRoutes
from txsentinel.extensions.http.settings import (
    HttpSettings,
    add_settings,
    check_safe,
    is_loopback,
    parse_argument,
    parse_listener,
)
from txsentinel.extensions.http.streams import EventLog, Streams
from txsentinel.extensions.http.tokens import Token, TokenTable, parse_tokens
from txsentinel.extensions.http.topology import TopologyRoutes
from txsentinel.extensions.metrics.masters import MetricsOptions
from txsentinel.extensions.metrics.page import MetricsPages
from txsentinel.interfaces import IOperator, ISentinelView

RETRY_SECONDS: Final = 5.0
"""Interval of attempts to listen while the port is in use."""

TOKEN_SECONDS: Final = 10.0
"""Interval at which the file of tokens is read again."""

READ_EVENTS: Final = (b"SENTINEL", b"MASTERS")


class HttpApplication:
    """All parts that answer requests; :attr:`factory` makes the connections."""

    def __init__(
        self,
        reactor: IReactorTime,
        view: ISentinelView,
        operator: IOperator,
        settings: HttpSettings,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._operator = operator
        self.tokens = TokenTable(wall_clock)
        self.authenticator = Authenticator(reactor, operator, self.tokens, os.getuid())
        self.events = EventLog(view, wall_clock)
        self.streams = Streams(self.events, reactor, self._may_read)
        self.router = Router()
        for route in HealthRoutes(view, wall_clock).routes():
            self.router.add(route)
        for route in ReadingRoutes(view).routes():
            self.router.add(route)
        for route in DoctorRoutes(view, operator).routes():
            self.router.add(route)
        for route in SessionRoutes(operator, self.authenticator.sessions, wall_clock).routes():
            self.router.add(route)
        for route in OperationRoutes(view, operator, reactor).routes():
            self.router.add(route)
        for route in ActingRoutes(view, operator, reactor.seconds).routes():
            self.router.add(route)
        for route in MembershipRoutes(view, operator, reactor.seconds).routes():
            self.router.add(route)
        for route in TopologyRoutes(view, Graphviz(reactor)).routes():
            self.router.add(route)
        for route in PageRoutes(view).routes():
            self.router.add(route)
        summary = "The events of the Sentinel as server-sent events, or the latest as a list if only JSON is accepted."
        query = ("master", "after")
        self.router.add(Route("GET", "/v1/events", self.streams.events, RouteAccess.READ, READ_EVENTS, query, summary))
        access = RouteAccess.READ if settings.metrics_login else RouteAccess.OPEN
        options = MetricsOptions(
            settings.redis_exporter_names, settings.metrics_replica_lag, settings.metrics_peer_info
        )
        pages = MetricsPages(view, reactor.seconds, options)
        self.router.add(MetricsRoute(pages, view.identity().run_id).route(access))
        self.router.add(OpenApiRoute(self.router.routes, view.identity().version).route())
        dispatcher = Dispatcher(self.router, operator, self.authenticator, settings.server_names)
        self.factory = HttpFactory(reactor, dispatcher, wall_clock)

    def _may_read(self, request: ApiRequest) -> bool:
        """Whether the sender of a request may still read events."""
        principal = request.principal
        if principal is None or self._operator.allowed(principal, READ_EVENTS) is not None:
            return False
        return principal.method != "none" or self._operator.anonymous(principal.origin) is not None


class IHttpReactor(IReactorTime, IReactorThreads):
    """What the service needs of a reactor, besides what its endpoints need."""


class HttpService(Service):
    """
    Listens on all endpoints while it runs.

    A port that is in use is tried again every ``RETRY_SECONDS``; the Sentinel runs on without it.
    """

    _log = Logger(namespace=__name__)

    def __init__(self, reactor: IHttpReactor, application: HttpApplication, settings: HttpSettings) -> None:
        self._reactor = reactor
        self.application = application
        self._settings = settings
        self._ports: list[IListeningPort] = []
        self._calls = DelayedCalls(reactor, lambda: bool(self.running))
        self._failed: set[str] = set()
        """Endpoints and files whose failure was logged."""

    def startService(self) -> None:
        """Begin to listen."""
        super().startService()
        self.application.events.start()
        for description in self._settings.listen:
            self._listen(description)
        self._calls.add(TOKEN_SECONDS, self._read_tokens)

    def stopService(self) -> Deferred[list[tuple[bool, None]]]:
        """Stop listening, and close all connections."""
        super().stopService()
        self._calls.cancel()
        self.application.events.stop()
        self.application.streams.close()
        self.application.factory.close_connections()
        ports, self._ports = self._ports, []
        stopped = [each for each in (port.stopListening() for port in ports) if each is not None]
        return DeferredList(stopped, consumeErrors=True)

    def _listen(self, description: str) -> None:
        if not self.running:
            return
        endpoint, factory = self._endpoint(description)
        listening = endpoint.listen(factory)
        listening.addCallback(self._listening, description)
        listening.addErrback(self._failed_to_listen, description)

    def _endpoint(self, description: str) -> tuple[IStreamServerEndpoint, IProtocolFactory]:
        """Return the endpoint, and what makes the connections of its clients."""
        factory: IProtocolFactory = self.application.factory
        settings, listener = self._settings, parse_listener(description)
        if listener.encrypted and (settings.client_ca or settings.trusted_proxies):
            # The header of a proxy precedes TLS, and the endpoint of Twisted asks for no certificate.
            factory = encrypted(listener.options, settings.client_ca, factory)
            words = {name: listener.options[name] for name in ("interface", "backlog") if name in listener.options}
            parts = [f"{name}={quoteStringArgument(value)}" for name, value in words.items()]
            description = ":".join(["tcp", listener.options["port"], *parts])
        if settings.trusted_proxies:
            factory = ProxyFactory(self._reactor, factory, settings.trusted_proxies)
        return serverFromString(self._reactor, description), factory

    def _listening(self, port: IListeningPort, description: str) -> None:
        self._failed.discard(description)
        if not self.running:
            port.stopListening()
            return
        address = port.getHost()
        host = getattr(address, "host", None)
        try:
            self._check_inherited(description, host)
        except ValueError as error:
            self._log.warn("HTTP: does not serve: {error}", error=str(error))
            port.stopListening()
            return
        self._ports.append(port)
        where = shown(description) if host is None else f"{host} port {getattr(address, 'port', '')}"
        self._log.info("HTTP: listening on {where}", where=where)

    def _check_inherited(self, description: str, host: str | None) -> None:
        """
        Check a socket that the service manager has opened, whose address is known only now.

        :raises ValueError: if it is not safe.
        """
        if description.startswith("systemd:") and host is not None and not self._settings.insecure:
            if not is_loopback(host):
                raise ValueError(f"{shown(description)} listens on {host} without TLS; use insecure=yes to allow that")

    def _failed_to_listen(self, failure: Failure, description: str) -> None:
        if not self.running:
            return
        if description not in self._failed:
            self._failed.add(description)
            self._log.warn(
                "HTTP: cannot listen on {where}: {error}; trying again every {seconds} seconds",
                where=shown(description),
                error=failure.getErrorMessage().rstrip("."),
                seconds=int(RETRY_SECONDS),
            )
        self._calls.add(RETRY_SECONDS, lambda: self._listen(description))

    def _read_tokens(self) -> None:
        path = self._settings.token_file
        if not path or not self.running:
            return
        reading = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), read_tokens, path)
        reading.addCallbacks(self._take_tokens, self._keep_tokens)
        reading.addBoth(lambda _: self._calls.add(TOKEN_SECONDS, self._read_tokens))

    def _take_tokens(self, tokens: dict[str, Token]) -> None:
        self._failed.discard(self._settings.token_file)
        self.application.tokens.replace(tokens)

    def _keep_tokens(self, failure: Failure) -> None:
        """Keep the former tokens, and log once why."""
        if self._settings.token_file not in self._failed:
            self._failed.add(self._settings.token_file)
            self._log.warn("HTTP: {error}; the former tokens stay valid", error=failure.getErrorMessage())


def read_tokens(path: str) -> dict[str, Token]:
    """
    Read the file of tokens.

    :raises ValueError: if it cannot be read, or is wrong.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return parse_tokens(stream.read())
    except OSError as error:
        raise ValueError(f"the file of tokens {shown(path)} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"the file of tokens {shown(path)}: {error}") from None


def make_service(context: ExtensionContext) -> HttpService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong or not safe, or the file of tokens is wrong.
    """
    chosen = add_settings(parse_argument(context.argument), context.settings)
    if not chosen.listen:
        raise ValueError("an endpoint is needed, such as tcp:8026")
    has_passwords = context.operator.has_passwords()
    for description in chosen.listen:
        listener = parse_listener(description)
        check_safe(listener, has_passwords, chosen.insecure)
        if listener.encrypted and (chosen.client_ca or chosen.trusted_proxies):
            encrypted(listener.options, chosen.client_ca, Factory())
    if chosen.client_ca and not any(parse_listener(each).encrypted for each in chosen.listen):
        raise ValueError("client-ca needs an ssl: endpoint: only TLS has certificates of clients")
    application = HttpApplication(context.reactor, context.view, context.operator, chosen)
    if chosen.token_file:
        application.tokens.replace(read_tokens(chosen.token_file))
    return HttpService(context.reactor, application, chosen)
