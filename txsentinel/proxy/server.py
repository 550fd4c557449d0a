"""The proxy: its ports, its limits, and what happens when the master changes."""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from txsentinel.client import FollowerStopped, MasterAddress, MasterFollower
from txsentinel.client.links import Access, Reactor
from txsentinel.model.proxy_header import SocketAddress
from txsentinel.proxy.counters import ProxyCounters
from txsentinel.proxy.routes import MasterRoute, ReplicaRoute, RoleQueue
from txsentinel.proxy.session import ClientSide, CloseReason, ProxySession, ServerRoute

BACKLOG: Final = 4096
"""Connections that the kernel keeps until they are accepted; ``net.core.somaxconn`` may lower it."""

log = Logger(namespace=__name__)


@dataclass(frozen=True)
class ProxyOptions:
    """
    The limits and habits of a proxy.

    ``hold`` is in seconds: how long a new connection waits for a server. ``drain`` is in seconds, too: how long the
    connections to the former master may still receive after a switch; zero closes them at once.
    """

    hold: float = 5.0
    drain: float = 0.0
    max_held: int = 1000
    max_connections: int = 10_000
    send_proxy: bool = False
    accept_proxy: bool = False


class ClientFactory(Factory):
    """Accepts the clients of one port."""

    noisy = False

    def __init__(self, proxy: MasterProxy, route: ServerRoute) -> None:
        self._proxy = proxy
        self._route = route

    def buildProtocol(self, addr: IAddress | None) -> ClientSide:
        """Return the connection of a client."""
        return self._proxy.new_session(self._route, addr).client


class MasterProxy:
    """
    Passes the connections of clients on to the master or to a replica.

    :param follower: not started yet; its ``timeout`` should be longer than ``options.hold``.
    :param access: how to connect to the data servers.
    """

    def __init__(self, follower: MasterFollower, access: Access, options: ProxyOptions | None = None) -> None:
        self.options = options or ProxyOptions()
        self.reactor: Reactor = access.reactor
        self.hold = self.options.hold
        self.accept_proxy = self.options.accept_proxy
        self.send_proxy = self.options.send_proxy
        self.counters = ProxyCounters()
        self.sessions: set[ProxySession] = set()
        self.held: set[ProxySession] = set()
        """Those sessions that wait because no server can be used."""

        self.follower = follower
        self.master: MasterAddress | None = None
        """The last address of the master that was found."""

        roles = RoleQueue(follower)
        self.master_route = MasterRoute(follower, roles, access)
        self.replica_route = ReplicaRoute(self.master_route, roles, access, self._clients_of, self._fell_back)
        self._users: Counter[MasterAddress] = Counter()
        self._ports: list[IListeningPort] = []
        self._drains: dict[int, tuple[IDelayedCall, list[ProxySession]]] = {}
        self._fallback_logged = ""
        self._problem_logged = ""
        self._empty: list[Deferred[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Follow the master."""
        self.follower.add_listener(self._switched)
        self.follower.start().addErrback(lambda failure: failure.trap(FollowerStopped))

    def listen(self, description: str, route: ServerRoute) -> Deferred[IListeningPort]:
        """
        Listen on an endpoint, such as ``tcp:6379:interface=127.0.0.1``.

        :returns: fires with the port; fails with ``CannotListenError``.
        :raises ValueError: if the description is malformed.
        """

        def listening(port: IListeningPort) -> IListeningPort:
            self._ports.append(port)
            return port

        endpoint = serverFromString(self.reactor, with_backlog(description))
        opened: Deferred[IListeningPort] = endpoint.listen(ClientFactory(self, route))
        return opened.addCallback(listening)

    def stop(self) -> Deferred[None]:
        """
        Stop listening, and close all connections.

        :returns: fires when the last one is closed.
        """
        self._stopping = True
        for drain, _ in self._drains.values():
            drain.cancel()
        self._drains.clear()
        closing: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in self._ports]
        for session in list(self.sessions):
            session.close(CloseReason.SHUTDOWN)
        closing += [self._no_sessions(), self.follower.stop()]
        return gatherResults(closing).addCallback(lambda _: None)

    def _no_sessions(self) -> Deferred[None]:
        if not self.sessions:
            return succeed(None)
        empty: Deferred[None] = Deferred()
        self._empty.append(empty)
        return empty

    # Sessions.

    def new_session(self, route: ServerRoute, address: IAddress | None) -> ProxySession:
        """Return the session of a client that was accepted."""
        return ProxySession(self, route, socket_address(address), None)

    def session_started(self, session: ProxySession) -> bool:
        """Record a session; ``False`` if there are too many, or if the proxy stops."""
        session.destination = socket_address(session.client.transport.getHost())
        self.counters.accepted[session.route.label] += 1
        if len(self.sessions) >= self.options.max_connections or self._stopping:
            return False
        self.sessions.add(session)
        return True

    def may_hold(self, session: ProxySession) -> bool:
        """Whether the session may wait for a server."""
        if session not in self.held:
            if len(self.held) >= self.options.max_held:
                return False
            self.held.add(session)
        return True

    def session_opened(self, session: ProxySession) -> None:
        """Record that the session has a server."""
        self.held.discard(session)
        assert session.server is not None
        self._users[session.server.address] += 1
        if session.uses_master:
            self._problem_logged = ""

    def attempt_failed(self, problem: str) -> None:
        """Count a failed attempt; log it once until a client is connected."""
        self.counters.failed_attempts += 1
        if problem != self._problem_logged:
            self._problem_logged = problem
            log.warn("a connection waits: {problem}", problem=problem)

    def session_ended(self, session: ProxySession, reason: CloseReason) -> None:
        """Record the end of a session."""
        self.held.discard(session)
        self.sessions.discard(session)
        self.counters.closed[reason.value] += 1
        self.counters.to_server += session.client.bytes_received
        if session.server is not None:
            self.counters.to_client += session.server.bytes_received
            address = session.server.address
            self._users[address] -= 1
            if not self._users[address]:
                del self._users[address]
        if not self.sessions:
            while self._empty:
                self._empty.pop().callback(None)

    def _clients_of(self, address: MasterAddress) -> int:
        return self._users.get(address, 0)

    def _fell_back(self, problem: str) -> None:
        self.counters.fallbacks += 1
        if problem != self._fallback_logged:
            self._fallback_logged = problem
            log.warn("the read-only port uses the master: {problem}", problem=problem)

    # The switch.

    def _switched(self, master: MasterAddress) -> None:
        former, self.master = self.master, master
        if former is None:
            log.info("the master is {master}", master=str(master))
            return
        self.counters.switches += 1
        self._fallback_logged = ""
        outdated = [each for each in self.sessions if is_outdated(each, master)]
        self.counters.cut += len(outdated)
        log.info(
            "the master is {master}, no longer {former}; closing {count} connections",
            master=str(master),
            former=str(former),
            count=len(outdated),
        )
        for session in list(self.sessions):
            if session.server is None and session.trying not in (None, master):
                session.reopen()
        promoted = [each for each in outdated if not each.uses_master]
        close(promoted, CloseReason.PROMOTION)
        outdated = [each for each in outdated if each.uses_master]
        if self.options.drain:
            for session in outdated:
                session.drain()
            key = self.counters.switches
            self._drains[key] = (self.reactor.callLater(self.options.drain, self._drained, key), outdated)
        else:
            close(outdated, CloseReason.SWITCH)

    def _drained(self, key: int) -> None:
        _, sessions = self._drains.pop(key)
        close(sessions, CloseReason.SWITCH)


def is_outdated(session: ProxySession, master: MasterAddress) -> bool:
    """Whether a session is to be closed: it uses a former master, or the replica that was promoted."""
    if session.server is None or session.closing:
        return False
    return (session.server.address == master) != session.uses_master


def close(sessions: Sequence[ProxySession], reason: CloseReason) -> None:
    """Close sessions."""
    for session in sessions:
        session.close(reason)


def with_backlog(description: str) -> str:
    """
    Return the description of an endpoint with a backlog, if it has none and can have one.

    All clients connect again at once after a switch; a connection beyond the backlog begins a second later. Twisted's
    own default is 50.
    """
    has_backlog = any(part.startswith("backlog=") for part in description.split(":"))
    if has_backlog or description.partition(":")[0] not in ("tcp", "tcp6", "ssl", "unix"):
        return description
    return f"{description}:backlog={BACKLOG}"


def socket_address(address: object) -> SocketAddress | None:
    """Return an address of TCP, ``None`` for other sockets."""
    if isinstance(address, IPv4Address | IPv6Address):
        return SocketAddress(address.host.partition("%")[0], address.port)
    return None
