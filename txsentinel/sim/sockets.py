"""Simulated sockets: listening ports, and connectors for Twisted's own factories."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.address import IPv4Address
from twisted.internet.base import BaseConnector
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionRefusedError, TCPTimedOutError
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.sim.simulation import SECOND
from txsentinel.sim.tcp import Mark, Path, SimTransport

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol, IProtocolFactory
    from twisted.internet.protocol import ClientFactory

    from txsentinel.sim.network import SimNetwork
    from txsentinel.sim.reactor import SimReactor

FIRST_RETRY: Final = SECOND
"""Microseconds until an unanswered SYN is retransmitted; doubled each time."""

CONNECT_TIMEOUT: Final = 127 * SECOND
"""Microseconds after which the kernel ends an unanswered connection attempt."""


class SimClientTransport(SimTransport):
    """The connecting end. It retransmits until its connector times out, as a kernel does."""

    __slots__ = ("_abandoned", "_started_at")

    def __init__(self, connector: SimConnector, local: IPv4Address) -> None:
        network, reactor = connector.network, connector.sim_reactor
        super().__init__(network, reactor, local, IPv4Address("TCP", connector.host, connector.port))
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
        if port is None:
            simulation.note("refused", self.remote.host, self.remote.port)
            self.reactor.schedule(delay, self._fail, Failure(ConnectionRefusedError("connection refused")))
        else:
            self.reactor.schedule(delay, self._answered, port, there, back)

    def _answered(self, port: SimPort, there: Path, back: Path) -> None:
        if self._abandoned:
            return
        if not port.listening:
            self._fail(Failure(ConnectionRefusedError("connection refused")))
            return
        assert self.connector is not None
        other = SimTransport(self.network, port.reactor, self.remote, self.local)
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
        network: SimNetwork,
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
        self, network: SimNetwork, reactor: SimReactor, port: int, factory: IProtocolFactory, interface: str
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
