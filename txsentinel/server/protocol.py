"""The protocol of a client connection: what Twisted calls, and what the rest of the server calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.model.timings import Millis
from txsentinel.server.admission import endpoint_name, keep_alive, log_in_by_certificate, new_client, refusal
from txsentinel.server.clients import Client
from txsentinel.server.handlers import BoundHandler
from txsentinel.server.request_executor import RequestExecutor
from txsentinel.server.services import ConnectionServices
from txsentinel.server.specification import Command


class SentinelProtocol(Protocol):
    """
    One client connection.

    The attributes ``client`` and ``executor`` exist only if the connection was not rejected.
    """

    client: Client
    executor: RequestExecutor

    def __init__(self, services: ConnectionServices, handlers: Mapping[Command, BoundHandler]) -> None:
        self._services = services
        self._handlers = handlers
        self._admitted = False

    # Called by Twisted.

    def connectionMade(self) -> None:
        """Register the client, or reject the connection."""
        services = self._services
        transport: Any = self.transport
        services.statistics.connections_received += 1
        peer = transport.getPeer()
        rejection = refusal(services, peer)
        if rejection is not None:
            services.statistics.connections_rejected += 1
            if not ISSLTransport.providedBy(transport):
                transport.write(rejection)
            transport.loseConnection()
            return
        self.client = new_client(services, self, peer)
        self.executor = RequestExecutor(services, self._handlers, self.client, transport)
        self._admitted = True
        if not getattr(transport, "options_inherited", False) and ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            keep_alive(transport, services.options.tcp_keepalive)
        self.executor.start()

    def handshakeCompleted(self) -> None:
        """Log a TLS client in by its certificate, if the configuration demands it."""
        if self._admitted and not self.closing:
            log_in_by_certificate(self._services, self.client, self.transport)
            self.executor.login_changed()

    def dataReceived(self, data: bytes) -> None:
        """Execute the requests that this input completes."""
        if self._admitted:
            self.executor.receive(data)

    def readConnectionLost(self) -> None:
        """The client sends no more: answer the requests received, then close."""
        if self._admitted:
            self.finish()

    def writeConnectionLost(self) -> None:
        """The client reads no more: abort the connection."""
        if self._admitted:
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Drop all state of the client."""
        if self._admitted:
            self.executor.connection_lost()
            self._services.hub.leave(self.client)
            self._services.clients.remove(self.client)

    @property
    def low_priority(self) -> bool:
        """Whether the client sends commands that need decisions of the core, as peers do; then it may wait."""
        return self._admitted and self.executor.low_priority

    # The interface ``Connection`` to the rest of the server.

    @property
    def closing(self) -> bool:
        """Whether the connection is closing."""
        return self.executor.closing

    @property
    def buffered(self) -> int:
        """Bytes of input whose execution has not finished."""
        return self.executor.buffered

    @property
    def queued(self) -> int:
        """Number of output chunks that are unsent or wait for an earlier reply."""
        return self.executor.writer.pieces

    @property
    def unsent(self) -> int:
        """Bytes of output that the transport has not accepted yet, or that wait for an earlier reply."""
        return self.executor.writer.unsent

    @property
    def descriptor(self) -> int:
        """The file descriptor, or −1 if the transport has none."""
        number = getattr(self.transport, "fileno", None)
        return number() if callable(number) else -1

    @property
    def local_address(self) -> str:
        """The local end as CLIENT LIST shows it."""
        transport: Any = self.transport
        return endpoint_name(transport.getHost(), self._services.options.unixsocket)

    def push(self, encoded: bytes) -> None:
        """Send a frame that is no reply to a command, after the replies that are waiting."""
        self.executor.push(encoded)

    def finish(self) -> None:
        """Read no further, and close when all requests are answered."""
        self.executor.finish()

    def abort(self) -> None:
        """Close now; unsent output is lost."""
        self.executor.abort()

    def proceed(self) -> None:
        """Resume the execution of requests."""
        self.executor.proceed()

    def check_output(self, now: Millis) -> None:
        """Abort the connection if its unsent output exceeds the limits of its class."""
        self.executor.check_output(now)


classImplements(SentinelProtocol, IHalfCloseableProtocol, IHandshakeListener)
