"""
Simulated sockets: listening ports, connectors for Twisted's own factories, and the table of both.

Where segments go, and how long they take, is left to the subclass of :class:`SocketLayer` that knows the paths.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from errno import EADDRINUSE, EADDRNOTAVAIL
from functools import cache
from ipaddress import AddressValueError
from ipaddress import IPv4Address as IPv4
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.address import IPv4Address
from twisted.internet.base import BaseConnector
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionRefusedError, TCPTimedOutError
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.sim.flows import Flow, Mark, Path
from txsentinel.sim.simulation import SECOND, Simulation
from txsentinel.sim.tcp import SimTransport

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol, IProtocolFactory
    from twisted.internet.protocol import ClientFactory

    from txsentinel.sim.reactor import SimReactor

FIRST_RETRY: Final = SECOND
"""Microseconds until an unanswered SYN is retransmitted; doubled each time."""

FIRST_EPHEMERAL: Final = 32_768
LAST_EPHEMERAL: Final = 60_999

CONNECT_TIMEOUT: Final = 127 * SECOND
"""Microseconds after which the kernel ends an unanswered connection attempt."""


class SocketLayer:
    """The listening ports and the connections of all machines."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.connections: dict[int, SimTransport] = {}
        """Every open end of a connection, in the order of creation."""
        self.refusing: dict[str, None] = {}
        """Machines without power for which a router refuses connections."""
        self.rejecting: dict[tuple[str, str], None] = {}
        """Source and target between which a firewall refuses connections."""
        self.refused: Callable[[str, str], None] | None = None
        """Called with source and target of each refused attempt to connect."""
        self.joined: Callable[[SimTransport, SimTransport], None] | None = None
        """Called with both ends of each new connection, so that it can be tapped."""
        self._ports: dict[tuple[str, int], list[SimPort]] = {}
        self._next_serial = 0
        self._next_ephemeral = FIRST_EPHEMERAL

    def path(self, source: str, target: str) -> Path:
        """
        The path from one machine to another.

        :raises NotImplementedError: unless a subclass implements it.
        """
        raise NotImplementedError

    def route(self, source: str, target: str) -> tuple[Path, Path]:
        """The path from machine ``source`` to address ``target``, and the path back."""
        if target.startswith("127."):
            target = source
        return self.path(source, target), self.path(target, source)

    def listen(self, reactor: SimReactor, port: int, factory: IProtocolFactory, interface: str) -> IListeningPort:
        """
        Return a port that is already listening.

        :raises CannotListenError: if it is taken or the interface is not of this host.
        """
        listening = SimPort(self, reactor, port, factory, interface)
        listening.startListening()
        return listening

    def connect(
        self,
        reactor: SimReactor,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float,
        bind: tuple[str, int] | None,
    ) -> SimConnector:
        """Return a connector that is already connecting."""
        connector = SimConnector(self, reactor, host, port, factory, timeout, bind)
        connector.connect()
        return connector

    def bind(self, port: SimPort) -> None:
        """
        Reserve the address of a port; choose a number if it has none.

        :raises CannotListenError: if it is taken or the interface is not of this host.
        """
        ip, interface = port.reactor.ip, port.interface
        if interface not in ("", "0.0.0.0", ip) and not interface.startswith("127."):
            raise CannotListenError(interface, port.port, OSError(EADDRNOTAVAIL, "Cannot assign requested address"))
        if not port.port:
            port.port = self.ephemeral_port()
        neighbours = self._ports.setdefault((ip, port.port), [])
        for other in neighbours:
            if interface == other.interface or "" in (interface, other.interface):
                raise CannotListenError(interface, port.port, OSError(EADDRINUSE, "Address already in use"))
        if not port.reactor.dead:
            neighbours.append(port)

    def unbind(self, port: SimPort) -> None:
        """Release the address of a port."""
        neighbours = self._ports[port.reactor.ip, port.port]
        if port in neighbours:
            neighbours.remove(port)

    def port_at(self, ip: str, interface: str, number: int) -> SimPort | None:
        """The port on machine ``ip`` that accepts connections to ``interface``, if any."""
        for port in self._ports.get((ip, number), ()):
            if port.interface in ("", "0.0.0.0", interface):
                return port
        return None

    def join(self, client: SimTransport, server: SimTransport, there: Path, back: Path) -> None:
        """Join two ends to one connection."""
        self._next_serial += 2
        client.serial, server.serial = self._next_serial, self._next_serial + 1
        label = f"{client.local.host}:{client.local.port}>{client.remote.host}:{client.remote.port}".encode()
        client.outbound = server.inbound = Flow(self.simulation, there, label, client)
        server.outbound = client.inbound = Flow(self.simulation, back, label + b"<", server)
        client.outbound.receiver, server.outbound.receiver = server, client
        if self.joined is not None:
            self.joined(client, server)

    def close_all(self, reactor: SimReactor, silently: bool) -> None:
        """Close all ports and connections of a process; with ``silently`` the other ends are not notified."""
        for end in [end for end in self.connections.values() if end.reactor is reactor]:
            end.killed(silently)
        for ports in self._ports.values():
            for port in ports:
                if port.reactor is reactor:
                    port.listening = False
            ports[:] = [port for port in ports if port.listening]

    def local_ip(self, reactor: SimReactor, target: str, wanted: str) -> str:
        """The source address of a connection to ``target``."""
        if wanted:
            return wanted
        return target if target.startswith("127.") else reactor.ip

    def ephemeral_port(self) -> int:
        """The next ephemeral port number; the sequence is the same in every run."""
        number = self._next_ephemeral
        self._next_ephemeral = FIRST_EPHEMERAL if number == LAST_EPHEMERAL else number + 1
        return number

    @staticmethod
    def is_literal(host: str) -> bool:
        """Whether this is an address and not a name."""
        return _is_literal(host)


@cache
def _is_literal(host: str) -> bool:
    try:
        IPv4(host)
    except AddressValueError:
        return False
    return True


class SimClientTransport(SimTransport):
    """The connecting end. It retransmits until its connector times out, as a kernel does."""

    __slots__ = ("_abandoned", "_started_at", "network")

    def __init__(self, connector: SimConnector, local: IPv4Address) -> None:
        network, reactor = connector.network, connector.sim_reactor
        super().__init__(network.connections, reactor, local, IPv4Address("TCP", connector.host, connector.port))
        self.network = network
        self.connector = connector
        self._abandoned = False
        self._started_at = network.simulation.time
        if network.is_literal(connector.host):
            self._connect_one(connector.host)
        else:
            reactor.resolve(connector.host).addCallbacks(self._connect_one, self._fail)

    def failIfNotConnected(self, error: Exception) -> None:
        """End the attempt; called by the connector."""
        self._fail(Failure(error))

    def _fail(self, reason: Failure) -> None:
        if self.connected or self._abandoned or self.gone:
            return
        self._abandoned = True
        assert self.connector is not None
        self.connector.connectionFailed(reason)

    def _connect_one(self, ip: str) -> None:
        if self._abandoned:
            return
        local = self.network.local_ip(self.reactor, ip, self.local.host)
        self.local = IPv4Address("TCP", local, self.local.port or self.network.ephemeral_port())
        self.remote = IPv4Address("TCP", ip, self.remote.port)
        self._try_connect(FIRST_RETRY)

    def _try_connect(self, timeout: int) -> None:
        if self._abandoned or self.reactor.dead:
            return
        simulation = self.network.simulation
        if simulation.time - self._started_at > CONNECT_TIMEOUT:
            self.reactor.schedule(0, self._fail, Failure(TCPTimedOutError()))
            return
        there, back = self.network.route(self.reactor.ip, self.remote.host)
        simulation.call_later(there.delay(simulation.random) / SECOND, self._report_failure, there, back, timeout)

    def _report_failure(self, there: Path, back: Path, timeout: int) -> None:
        simulation = self.network.simulation
        refused = there.target in self.network.refusing
        if (there.blocked or back.blocked) and not (refused and not there.cut and not back.cut):
            simulation.call_later(timeout / SECOND, self._try_connect, timeout * 2)
            return
        port = None if refused else self.network.port_at(there.target, self.remote.host, self.remote.port)
        delay = back.delay(simulation.random)
        if port is None or (there.source, there.target) in self.network.rejecting:
            simulation.note("refused", self.remote.host, self.remote.port)
            if self.network.refused is not None:
                self.network.refused(there.source, there.target)
            self.reactor.schedule(delay, self._fail, Failure(ConnectionRefusedError("connection refused")))
        else:
            self.reactor.schedule(delay, self._answered, port, there, back)

    def _answered(self, port: SimPort, there: Path, back: Path) -> None:
        if self._abandoned:
            return
        if not port.listening:
            if self.network.refused is not None:
                self.network.refused(there.source, there.target)
            self._fail(Failure(ConnectionRefusedError("connection refused")))
            return
        assert self.connector is not None
        other = SimTransport(self.network.connections, port.reactor, self.remote, self.local)
        other.port = port
        self.network.join(self, other, there, back)
        self.outbound.send(Mark.OPEN)
        protocol: list[IProtocol | None] = []
        self.connected = True
        failure = self.reactor.guard(
            "buildProtocol raised",
            lambda: protocol.append(cast("BaseConnector", self.connector).buildProtocol(self.remote)),
        )
        self.established(None if failure is not None else protocol[0])


class SimConnector(BaseConnector):
    """The result of ``connectTCP``: Twisted's own connector with simulated transports."""

    def __init__(
        self,
        network: SocketLayer,
        reactor: SimReactor,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float,
        bind: tuple[str, int] | None,
    ) -> None:
        super().__init__(factory, timeout, cast("Any", reactor))
        self.network = network
        self.sim_reactor = reactor
        self.host = host
        self.port = port
        self.bind = bind or ("", 0)

    def _makeTransport(self) -> Any:
        return SimClientTransport(self, IPv4Address("TCP", *self.bind))

    def getDestination(self) -> IPv4Address:
        """The destination address."""
        return IPv4Address("TCP", self.host, self.port)


class SimPort:
    """A listening socket."""

    def __init__(
        self, network: SocketLayer, reactor: SimReactor, port: int, factory: IProtocolFactory, interface: str
    ) -> None:
        self.network = network
        self.reactor = reactor
        self.port = port
        self.factory = factory
        self.interface = interface
        self.listening = False

    def __repr__(self) -> str:
        return f"<SimPort {self.interface or '*'}:{self.port} of {self.reactor.name}>"

    def startListening(self) -> None:
        """
        Bind the port.

        :raises CannotListenError: if it is taken or the interface is not of this host.
        """
        self.network.bind(self)
        self.factory.doStart()
        self.listening = True

    def stopListening(self) -> Deferred[None]:
        """Release the port; its connections stay open."""
        if not self.listening:
            return succeed(None)
        self.listening = False
        self.network.unbind(self)
        stopped: Deferred[None] = Deferred()
        self.reactor.callLater(0, self._stopped, stopped)
        return stopped

    def _stopped(self, stopped: Deferred[None]) -> None:
        self.factory.doStop()
        stopped.callback(None)

    def getHost(self) -> IPv4Address:
        """The address on which it listens."""
        return IPv4Address("TCP", self.interface or "0.0.0.0", self.port)

    def accept(self, transport: SimTransport) -> bool:
        """Build the protocol of a new connection; return False if the port no longer listens."""
        if not self.listening or self.reactor.dead:
            return False
        protocol: list[IProtocol | None] = []
        failure = self.reactor.guard(
            "buildProtocol raised", lambda: protocol.append(self.factory.buildProtocol(transport.remote))
        )
        transport.established(None if failure is not None else protocol[0])
        return True


classImplements(SimPort, IListeningPort)
