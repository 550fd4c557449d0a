"""The protocol factory of the listening ports, which also checks all clients once a second."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall

from txsentinel.server.all_commands import MODULES
from txsentinel.server.context import ServerContext
from txsentinel.server.eviction import evict_clients
from txsentinel.server.handlers import bind
from txsentinel.server.protocol import SentinelProtocol

INSPECTION_PERIOD: Final = 1.0
"""Seconds between two checks for idle and slow clients."""

CLOSING_TIMEOUT: Final = 60_000
"""Milliseconds that a closing connection may take to read its last replies before it is aborted."""


class SentinelServerFactory(ServerFactory):
    """
    Serves one :class:`~txsentinel.server.context.ServerContext` on any number of ports.

    While at least one port is open, it checks once a second for idle clients and slow readers, and samples the rates
    of INFO.
    """

    noisy = False

    def __init__(self, context: ServerContext) -> None:
        self.context = context
        self.handlers = bind(context, *MODULES)
        """The commands, which all connections execute with the same context."""

        self._inspection = LoopingCall(self.inspect)
        self._inspection.clock = context.host.slack_clock

    def buildProtocol(self, addr: IAddress | None) -> SentinelProtocol:
        """Return the protocol of a new client."""
        protocol = SentinelProtocol(self.context, self.handlers)
        protocol.factory = self
        return protocol

    def startFactory(self) -> None:
        """Start the periodic check when the first port opens."""
        inspecting = self._inspection.start(INSPECTION_PERIOD, now=False)
        inspecting.addErrback(self.context.host.fail_stop, "the inspection of clients")

    def stopFactory(self) -> None:
        """Stop the periodic check when the last port closes."""
        if self._inspection.running:
            self._inspection.stop()

    def inspect(self) -> None:
        """Abort clients that are idle or read too slowly, and evict the largest ones if memory exceeds the limit."""
        context = self.context
        now = context.host.now()
        context.statistics.sample(now)
        context.log_throttle.flush(now)
        timeout = context.options.timeout * 1000
        for client in context.clients:
            if client.over_soft_limit_since is not None or client.connection.unsent:
                client.connection.check_output(now)
            idle = now - client.last_active
            if client.connection.closing and idle > CLOSING_TIMEOUT:
                client.connection.abort()
            if timeout and not client.subscriptions and idle > timeout:
                client.connection.abort()
        evict_clients(context, now)
