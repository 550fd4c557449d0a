"""The listening side: makes a protocol per connection and looks after all of them once a second."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall

from txsentinel.server.clientline import client_line
from txsentinel.server.context import ServerContext
from txsentinel.server.protocol import SentinelProtocol

INSPECTION_PERIOD: Final = 1.0
"""Seconds between two looks at idle and slow clients."""


MAX_LINE: Final = 1_000
"""Characters of the description of a client in the log: its name may be of any length."""

STUCK: Final = 60_000
"""Milliseconds that a connection may take to read its last replies before it is closed all the same."""


class SentinelServerFactory(ServerFactory):
    """
    Serves one :class:`~txsentinel.server.context.ServerContext`, on as many ports as it is given to.

    Idle clients, clients that read too slowly for too long, and the rates of INFO are seen to once
    a second while at least one port is open.
    """

    noisy = False

    def __init__(self, context: ServerContext) -> None:
        self.context = context
        self._inspection = LoopingCall(self.inspect)
        self._inspection.clock = context.host.reactor

    def buildProtocol(self, addr: IAddress | None) -> SentinelProtocol:
        """A protocol for one more client."""
        protocol = SentinelProtocol(self.context)
        protocol.factory = self
        return protocol

    def startFactory(self) -> None:
        """The first port opens."""
        inspecting = self._inspection.start(INSPECTION_PERIOD, now=False)
        inspecting.addErrback(self.context.host.fail_stop, "the inspection of clients")

    def stopFactory(self) -> None:
        """The last port closes."""
        if self._inspection.running:
            self._inspection.stop()

    def inspect(self) -> None:
        """Drop whoever has been idle or has left too much unread for too long, and who hold most if it is too much."""
        context = self.context
        now = context.host.now()
        context.statistics.sample(now)
        context.log_throttle.flush(now)
        timeout = context.options.timeout * 1000
        memory = 0
        for client in context.clients:
            if client.over_soft_limit_since is not None or client.connection.unsent:
                client.connection.check_output(now)
            idle = now - client.last_active
            if client.connection.closing and idle > STUCK:
                client.connection.abort()
            if timeout and not client.subscriptions and idle > timeout:
                client.connection.abort()
            memory += client.memory
        if memory > context.limits.clients_memory:
            self._evict(memory)

    def _evict(self, memory: int) -> None:
        """Drop those who make us hold most until the rest is within the limit."""
        context = self.context
        now = context.host.now()
        for client in sorted(context.clients, key=lambda client: client.memory, reverse=True):
            if memory <= context.limits.clients_memory:
                break
            memory -= client.memory
            context.statistics.evicted_clients += 1
            context.log_throttle.warn(
                now,
                "Evicting client, as all clients together hold too much: {line}",
                line=client_line(client, now)[:MAX_LINE],
            )
            client.connection.abort()
