"""
One connection through a proxy, whose directions can be cut, slowed or reset, and which can be refused or rejected.

A cut direction is a black hole: nothing is read from its source, not even the end of the connection, and nothing is
delivered; connections stay. Pending data arrives when the cut ends, as TCP would repeat it. A connection that is
opened while either direction is cut is established when both are open, as its first packets would be repeated too.

A refused connection is reset. A rejected one is reset as well, as by a server that restarts; after that, the proxy
itself answers the requests of new ones with an error, and the callee sees nothing of them until the rejection ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol as Protocol_
from typing import cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.outside.plan import TOO_MANY_CLIENTS
from tests.outside.routes import Condition, Routes
from txsentinel.model.timings import Limits
from txsentinel.wire.requests import RequestParser

MAX_BYTES_IN_FLIGHT = 4 << 20
"""Bytes on a slow route above which no more are read; a replica's full synchronization is far below."""


class Transport(Protocol_):
    """The TCP transport methods that are used."""

    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def setTcpNoDelay(self, enabled: bool) -> None: ...


class EndOfStream:
    """The last item of a direction: how the connection ended at its source."""

    def __init__(self, clean: bool) -> None:
        self.clean = clean


@implementer(IPushProducer)
class Channel:
    """One direction of a connection: data in order, held while the route is cut, delayed while it is slow."""

    def __init__(self, clock: IReactorTime, condition: Callable[[], Condition]) -> None:
        self._clock = clock
        self._condition = condition
        self._source: Transport | None = None
        self._sink: Transport | None = None
        self._in_flight: deque[tuple[float, bytes | EndOfStream]] = deque()
        self._bytes = 0
        self._timer: IDelayedCall | None = None
        self._sink_full = False
        self._reading = False

    def join(self, source: Transport, sink: Transport) -> None:
        """Start to deliver; ``source`` is paused before."""
        self._source, self._sink = source, sink
        sink.registerProducer(self, True)
        self.update()

    def accept(self, piece: bytes | EndOfStream) -> None:
        """Accept data from the source, or its end."""
        last = self._in_flight[-1][0] if self._in_flight else 0.0
        self._in_flight.append((max(last, self._clock.seconds() + self._condition().delay), piece))
        if isinstance(piece, EndOfStream):
            self._source = None
        else:
            self._bytes += len(piece)
        self.update()

    def update(self) -> None:
        """Deliver what is due, and read or not, by the condition of the route."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._sink is not None and not self._condition().cut:
            self._deliver()
        self._adjust_reading()

    def abandon(self) -> None:
        """The sink was lost: discard all data."""
        self._in_flight.clear()
        self._bytes = 0
        if self._sink is not None:
            self._sink.unregisterProducer()
        self._sink = None
        self.update()

    def pauseProducing(self) -> None:
        """The sink accepts no more data at present."""
        self._sink_full = True
        self._adjust_reading()

    def resumeProducing(self) -> None:
        """The sink accepts data again."""
        self._sink_full = False
        self._adjust_reading()

    def stopProducing(self) -> None:
        """The sink was lost; its protocol is notified too and calls :meth:`abandon`."""

    def _deliver(self) -> None:
        now = self._clock.seconds()
        while self._in_flight and self._in_flight[0][0] <= now and self._sink is not None:
            _, piece = self._in_flight.popleft()
            if isinstance(piece, bytes):
                self._bytes -= len(piece)
                self._sink.write(piece)
            else:
                sink, self._sink = self._sink, None
                sink.unregisterProducer()
                if piece.clean:
                    sink.loseConnection()
                else:
                    sink.abortConnection()
        if self._in_flight and self._sink is not None:
            self._timer = self._clock.callLater(self._in_flight[0][0] - now, self.update)

    def _adjust_reading(self) -> None:
        if self._source is None:
            return
        wanted = not (
            self._sink is None or self._sink_full or self._bytes > MAX_BYTES_IN_FLIGHT or self._condition().cut
        )
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._source.resumeProducing()
            else:
                self._source.pauseProducing()


class Side(Protocol):
    """Either end of a relayed connection; it passes all events to its relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connectionMade(self) -> None:
        self._relay.side_made(self)

    def dataReceived(self, data: bytes) -> None:
        self._relay.side_received(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._relay.side_lost(self, clean=isinstance(reason.value, ConnectionDone))


class OutgoingFactory(ClientFactory):
    """Makes the side that connects to the callee."""

    noisy = False

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def buildProtocol(self, address: IAddress | None) -> Side:
        return self._relay.callee

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._relay.refused()


class Relay:
    """A connection from a caller, and the one that continues it to the callee."""

    def __init__(
        self,
        clock: IReactorTime,
        routes: Routes,
        caller: str,
        callee: str,
        connect: Callable[[str, ClientFactory], IConnector],
        over: Callable[[Relay], None],
    ) -> None:
        """
        :param caller: address that the connection comes from; ``callee`` is the one that it was made to.
        :param connect: connects to the callee, from the caller's address.
        :param over: called when both ends are closed.
        """
        self._clock = clock
        self._routes = routes
        self.addresses = (caller, callee)
        self._connect = connect
        self._over = over
        self.caller, self.callee = Side(self), Side(self)
        forth = Channel(clock, lambda: routes.condition(caller, callee))
        back = Channel(clock, lambda: routes.condition(callee, caller))
        self._channel_from = {self.caller: forth, self.callee: back}
        self._channel_to = {self.callee: forth, self.caller: back}
        self._present: set[Side] = set()
        self._connector: IConnector | None = None
        self._connecting: IDelayedCall | None = None
        self._rejected: RequestParser | None = None

    def conditions_changed(self) -> None:
        """Apply the conditions of both directions."""
        condition = self._routes.condition(*self.addresses)
        if condition.refused or (condition.error and self._connector is not None):
            self.reset()
            return
        if self._rejected is not None:
            self._update_rejected(condition)
        elif self._connector is None:
            self._try_connecting()
        for channel in self._channel_from.values():
            channel.update()

    def reset(self) -> None:
        """Reset the connection at both ends."""
        for channel in self._channel_from.values():
            channel.abandon()
        for side in list(self._present):
            self._transport(side).abortConnection()

    def refused(self) -> None:
        """The callee does not accept the connection."""
        if self.caller in self._present:
            self._transport(self.caller).abortConnection()

    def side_made(self, side: Side) -> None:
        """One end is connected, that of the caller first."""
        self._present.add(side)
        transport = self._transport(side)
        transport.setTcpNoDelay(True)
        transport.pauseProducing()
        if side is self.caller and self._routes.condition(*self.addresses).refused:
            transport.abortConnection()
        elif side is self.caller:
            self._try_connecting()
        elif self.caller not in self._present:
            transport.abortConnection()
        else:
            for each, channel in self._channel_from.items():
                other = self.callee if each is self.caller else self.caller
                channel.join(self._transport(each), self._transport(other))

    def side_received(self, side: Side, data: bytes) -> None:
        """Data from one end."""
        if self._rejected is not None:
            self._rejected.feed(data)
            self._answer_rejected(self._rejected)
        else:
            self._channel_from[side].accept(data)

    def side_lost(self, side: Side, clean: bool) -> None:
        """One end was lost; the other end is notified behind all earlier data."""
        self._present.discard(side)
        self._channel_to[side].abandon()
        self._channel_from[side].accept(EndOfStream(clean))
        if not self._present:
            if self._connecting is not None and self._connecting.active():
                self._connecting.cancel()
            for channel in self._channel_from.values():
                channel.abandon()
            self._over(self)

    def _try_connecting(self) -> None:
        if self._connecting is None and self.caller in self._present and self._routes.open_both(*self.addresses):
            self._connecting = self._clock.callLater(self._routes.round_trip_delay(*self.addresses), self._connect_now)

    def _connect_now(self) -> None:
        self._connecting = None
        if not self._routes.open_both(*self.addresses):
            return
        error = self._routes.condition(*self.addresses).error
        if not error:
            self._connector = self._connect(self.addresses[0], OutgoingFactory(self))
        elif error == TOO_MANY_CLIENTS:
            transport = self._transport(self.caller)
            transport.write(f"-{error}\r\n".encode())
            transport.loseConnection()
        else:
            self._rejected = RequestParser(Limits())
            self._transport(self.caller).resumeProducing()

    def _update_rejected(self, condition: Condition) -> None:
        """Continue a rejected connection: to the callee if nothing rejects it any more."""
        assert self._rejected is not None
        transport = self._transport(self.caller)
        if not self._routes.open_both(*self.addresses):
            transport.pauseProducing()
        elif condition.error:
            transport.resumeProducing()
        elif self._rejected.at_rest:
            transport.pauseProducing()
            self._rejected = None
            self._try_connecting()
        else:
            # The first part of the request is lost; the callee could not make sense of the rest.
            self.reset()

    def _answer_rejected(self, parser: RequestParser) -> None:
        error = self._routes.condition(*self.addresses).error
        while parser.next_request() is not None:
            self._transport(self.caller).write(f"-{error}\r\n".encode())

    def _transport(self, side: Side) -> Transport:
        return cast(Transport, side.transport)
