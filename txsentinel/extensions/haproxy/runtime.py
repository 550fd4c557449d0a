"""Sets the addresses of servers over the runtime socket of HAProxy, and closes the connections to the former ones."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from txsentinel.extensions.haproxy.settings import HaproxyServer
from txsentinel.interfaces import IPublisher
from txsentinel.model.publications import Publication, PublishOutcome
from txsentinel.model.snapshots import MasterChange

TIMEOUT: Final = 2.0
MAX_ANSWER: Final = 4 << 20

CHANGED: Final = ("IP changed from", "port changed from")
UNCHANGED: Final = "no need to change"


class HaproxyRefused(Exception):
    """HAProxy has refused a command, or answered something that is not known."""


class CommandConnection(Protocol):
    """Sends one command, and receives its answer until HAProxy closes the connection."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._answer = bytearray()
        self.answered: Deferred[str] = Deferred(lambda _: self._abort())

    def connectionMade(self) -> None:
        """Send the command."""
        assert self.transport is not None
        self.transport.write(self._command.encode() + b"\n")

    def dataReceived(self, data: bytes) -> None:
        """Keep a part of the answer."""
        self._answer += data
        if len(self._answer) > MAX_ANSWER:
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report the answer."""
        if not self.answered.called:
            self.answered.callback(self._answer.decode("utf-8", "replace"))

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


class CommandFactory(Factory):
    """Makes one connection."""

    noisy = False

    def __init__(self, connection: CommandConnection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> CommandConnection:
        """Return the connection."""
        return self._connection


class RuntimeSocket:
    """A runtime socket."""

    def __init__(self, reactor: Any, endpoint: str) -> None:
        self._reactor = reactor
        self._endpoint = endpoint

    @inlineCallbacks
    def ask(self, command: str) -> Generator[Deferred[Any], Any, str]:
        """Send one command, over a connection of its own; fire with the answer without blanks at its ends."""
        endpoint = clientFromString(self._reactor, self._endpoint)
        connection = CommandConnection(command)
        connecting = endpoint.connect(CommandFactory(connection))
        yield connecting.addTimeout(TIMEOUT, self._reactor)
        answer: str = yield connection.answered.addTimeout(TIMEOUT, self._reactor)
        return answer.strip()


@implementer(IPublisher)
class RuntimePublisher:
    """
    Has one HAProxy send connections to masters.

    :param servers: the servers in its configuration.
    """

    def __init__(self, reactor: Any, runtime: RuntimeSocket, servers: Sequence[HaproxyServer]) -> None:
        self._reactor = reactor
        self._runtime = runtime
        self._servers = servers
        self._published: dict[str, tuple[str, int]] = {}
        """The address of each master, as HAProxy has it."""

        self._sessions_due: set[HaproxyServer] = set()
        """The servers whose connections to the former address must still be closed."""

    def wanted(self, name: str) -> bool:
        """Whether a server has the address of a master."""
        return any(each.master == name for each in self._servers)

    @inlineCallbacks
    def publish(self, change: MasterChange) -> Generator[Deferred[Any], Any, Publication | None]:
        """See ``IPublisher``."""
        host = yield self._resolve(change.address.host)
        changed = False
        for server in self._servers:
            if server.master == change.master:
                changed |= yield self._set(server, host, change.address.port)
        self._published[change.master] = (host, change.address.port)
        return None if changed else Publication(PublishOutcome.UNCHANGED)

    @inlineCallbacks
    def verify(self, name: str) -> Generator[Deferred[Any], Any, bool]:
        """See ``IPublisher``."""
        for backend in sorted({each.backend for each in self._servers if each.master == name}):
            answer = yield self._runtime.ask(f"show servers state {backend}")
            addresses = server_addresses(answer)
            for server in self._servers:
                if server.master == name and server.backend == backend:
                    if addresses.get(server.server) != self._published.get(name):
                        return False
        return True

    @inlineCallbacks
    def _set(self, server: HaproxyServer, host: str, port: int) -> Generator[Deferred[Any], Any, bool]:
        """Set the address of a server, and close its connections if it is another one; return whether it is."""
        answer = yield self._runtime.ask(f"set server {server} addr {host} port {port}")
        if any(text in answer for text in CHANGED):
            self._sessions_due.add(server)
        elif UNCHANGED not in answer:
            raise HaproxyRefused(f"{server}: {answer[:200] or 'no answer'}")
        if server not in self._sessions_due:
            return False
        answer = yield self._runtime.ask(f"shutdown sessions server {server}")
        if answer:
            raise HaproxyRefused(f"{server}: {answer[:200]}")
        self._sessions_due.discard(server)
        return True

    @inlineCallbacks
    def _resolve(self, host: str) -> Generator[Deferred[Any], Any, str]:
        """Return the IP address of a host, as HAProxy accepts no names here."""
        try:
            return str(ip_address(host))
        except ValueError:
            found = yield deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _look_up, host)
            return str(found)


def _look_up(host: str) -> str:
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def server_addresses(answer: str) -> dict[str, tuple[str, int]]:
    """
    Return the address of each server in an answer to ``show servers state``.

    :raises HaproxyRefused: if it is something else, as for a backend that does not exist.
    """
    lines = answer.splitlines()
    if len(lines) < 2 or not lines[1].startswith("# "):
        raise HaproxyRefused(answer[:200] or "no answer")
    names = lines[1][2:].split()
    found = {}
    for line in lines[2:]:
        fields = dict(zip(names, line.split(), strict=False))
        if {"srv_name", "srv_addr", "srv_port"} <= fields.keys():
            found[fields["srv_name"]] = (fields["srv_addr"], int(fields["srv_port"]))
    return found
