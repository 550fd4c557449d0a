"""
Many sockets behind one descriptor of the reactor.

A reactor wraps each event in a context for the log, and for each answer it has the kernel change twice what is
watched: that costs more than an ordinary answer does. Clients and links are many and what they say is short, so
either kind has a poller of its own, which the reactor sees as one more descriptor to read from. As in the C servers,
all who are ready are heard, and then all answers go out.

It is fair, too: however many clients ask at once, the links to servers and peers have their turn after some
milliseconds, and the other way round.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import select
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone, TimeoutError
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.reactor.priority import yield_function

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocol
    from twisted.internet.protocol import ClientFactory


class Channel(Protocol):
    """What a crowd needs of a connection; the transports of Twisted have it all."""

    def fileno(self) -> int:
        """Its descriptor; −1 once it is closed."""

    def doRead(self) -> BaseException | None:
        """Read; what ended the connection, if anything did."""

    def doWrite(self) -> BaseException | None:
        """Write, or go on connecting; what ended the connection, if anything did."""

    def readConnectionLost(self, reason: Failure) -> None:
        """There will be no more input."""

    def connectionLost(self, reason: Failure) -> None:
        """It is over."""


MAX_EVENTS: Final = 64
"""Members that are heard before their answers go out."""

TIME_SLICE_SECONDS: Final = 0.010
"""How long members are heard at a time, if nothing else is said."""

if hasattr(select, "epoll"):
    _IN: Final = select.EPOLLIN
    _OUT: Final = select.EPOLLOUT
    _OVER: Final = select.EPOLLHUP | select.EPOLLERR


def supported(reactor: object) -> bool:
    """Can there be a crowd on this reactor? It takes Linux, and a reactor that watches descriptors."""
    return hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)


class ClientTransport(tcp.Server):
    """
    The transport of a client's connection, which is closed as the C servers close theirs.

    ``abortConnection`` of Twisted has the kernel send a reset: the client then gets an error where it would read the
    end of the stream, and may lose replies that it has not read yet. Here what the kernel has no room for is
    discarded, too, but the rest is sent and followed by the end of the stream. (The kernel itself still sends a reset
    if there is input that was not read, as it does for the C servers.)
    """

    def abortConnection(self) -> None:
        """Close now, without waiting for the client; what its socket has no room for is lost."""
        if not self.disconnected:
            # With TLS the farewell, without which the other side would report a truncated stream, was just written.
            self.doWrite()  # type: ignore[no-untyped-call]
        tcp.Server.abortConnection(self)

    def _closeSocket(self, orderly: bool) -> None:
        tcp.Server._closeSocket(self, True)


class _Client(tcp.Client):
    """An attempt whose socket is looked at once more before its time is taken to be up."""

    def failIfNotConnected(self, err: BaseException) -> None:
        if isinstance(err, TimeoutError) and not self.connected and self.fileno() >= 0:
            self.doConnect()  # type: ignore[no-untyped-call]
        tcp.Client.failIfNotConnected(self, err)


class _Connector(tcp.Connector):
    """Makes such attempts."""

    def _makeTransport(self) -> tcp.Client:
        return _Client(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


class EpollMultiplexer:
    """
    The reactor of its channels (connections of clients, or our own); one descriptor to the real reactor.

    The descriptor is opened for the first channel and closed after the last.

    :param reactor: see :func:`supported`.
    :param name: what the channels are, for the reactor's log.
    :param time_slice_seconds: how long channels are read before other descriptors of the reactor have their turn.
        Nested polls are exempt.
    """

    _log = Logger()

    def __init__(self, reactor: Any, name: str = "clients", time_slice_seconds: float = TIME_SLICE_SECONDS) -> None:
        self._reactor = reactor
        self._name = name
        self._time_slice_seconds = time_slice_seconds
        self._yield_to_clients = yield_function(reactor)
        self._poller: Any = None
        self._channels: dict[int, Channel] = {}
        self._registered: dict[int, int] = {}
        """Descriptor → what the kernel watches it for; of the same keys as the members."""

        self._ready: deque[tuple[int, int]] = deque()
        """Descriptors whose turn has not come yet, with what the kernel said of them."""

        self._writers: dict[Channel, None] = {}
        """Members with something to send that was not tried yet."""

        self._read_all_by: float | None = None
        """When those in ``_ready`` have had their turn, everything that arrived by then has been read."""

        self._complete = 0.0
        """Everything that arrived by then has been read."""

        self._round_began = 0.0
        self._round_left = 0
        """How many turns are left until all members can have had one since the round began."""

        self._polling = False
        self.received = 0
        """How many turns members have had."""

    def admit(self, port: IListeningPort) -> None:
        """Have whoever connects to this port from now on join; ports other than those of TCP are left alone."""
        if type(port) is tcp.Port:  # that of Unix sockets is a descendant, whose connections are of another kind
            port.transport = self._join  # type: ignore[assignment]

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> tcp.Connector:
        """
        Connect to a server that joins with the first packet; as the method of reactors.

        :param host: an IP address, as names are not looked up here.
        """
        connector = _Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def _join(
        self,
        skt: socket.socket,
        protocol: IProtocol,
        client: tuple[object, ...],
        port: tcp.Port,
        number: int,
        reactor: object,
    ) -> Channel:
        """What makes a transport of a connection, given to a port instead of the class."""
        return ClientTransport(skt, protocol, client, port, number, self)  # type: ignore[arg-type]

    # What a connection wants of its reactor.

    def addReader(self, channel: Channel) -> None:
        """Tell ``member`` of input."""
        self._register(channel, self._registered.get(channel.fileno(), 0) | _IN)

    def removeReader(self, channel: Channel) -> None:
        """Keep input back."""
        self._register(channel, self._registered.get(channel.fileno(), 0) & ~_IN)

    def addWriter(self, channel: Channel) -> None:
        """Let ``member`` send, soon and without asking the kernel whether there is room: mostly there is."""
        if not self._writers and not self._polling:
            self._reactor.callLater(0, self._write_out)
        self._writers[channel] = None

    def removeWriter(self, channel: Channel) -> None:
        """There is nothing more to send."""
        self._writers.pop(channel, None)
        registered = self._registered.get(channel.fileno(), 0)
        if registered & _OUT:
            self._register(channel, registered & ~_OUT)

    def seconds(self) -> float:
        """As the reactor says."""
        now: float = self._reactor.seconds()
        return now

    def callLater(self, delay: float, call: Callable[..., object], *arguments: object) -> IDelayedCall:
        """As the reactor does."""
        later: IDelayedCall = self._reactor.callLater(delay, call, *arguments)
        return later

    def _register(self, channel: Channel, wanted: int) -> None:
        descriptor = channel.fileno()
        present = self._registered.get(descriptor, 0)
        if wanted == present:
            return
        if not wanted:
            del self._registered[descriptor], self._channels[descriptor]
            self._poller.unregister(descriptor)
            if not self._channels:
                self._close()
            return
        if self._poller is None:
            self._poller = select.epoll()
            self._reactor.addReader(self)
        if present:
            self._poller.modify(descriptor, wanted)
        else:
            self._poller.register(descriptor, wanted)
        self._registered[descriptor], self._channels[descriptor] = wanted, channel

    def _close(self) -> None:
        self._ready.clear()
        self._reactor.removeReader(self)
        self._poller.close()
        self._poller = None

    # What the reactor wants of a descriptor.

    def fileno(self) -> int:
        """The poller's own descriptor, readable while any member has something to do; −1 without members."""
        return -1 if self._poller is None else self._poller.fileno()

    def logPrefix(self) -> str:
        """What the reactor calls us in its log."""
        return self._name

    def doRead(self) -> None:
        """Hear members until none is ready or the time is up; then send what they are answered."""
        ready, channels, seconds = self._ready, self._channels, self._reactor.seconds
        if not ready:
            self._poll()
        until = seconds() + self._time_slice_seconds
        self._polling = True
        try:
            while ready:
                descriptor, event = ready.popleft()
                # Earlier ones may have closed later ones.
                channel = channels.get(descriptor)
                if channel is not None:
                    self.received += 1
                    self._turn(channel, event & (self._registered[descriptor] | _OVER))
                if seconds() > until:
                    break
                self._yield_to_clients()
        finally:
            self._polling = False
            self._write_out()

    def received_until(self, now: float) -> float:
        """
        Return the time until which everything that arrived has been read, in seconds.

        :param now: the present time; returned if nothing waits to be read.
        """
        if self._poller is None:
            return now
        if not self._ready and not self._polling:
            self._poll()
            if not self._ready:
                return now
        return self._complete

    def _poll(self) -> None:
        """
        Ask the kernel who is ready, when all those of the last time have had their turn.

        The kernel tells of those first whom it has not told of for longest. So either it names fewer than it might, and
        these are all, or everybody has had a turn once there were as many turns as there are members.
        """
        if self._read_all_by is not None:
            self._complete, self._read_all_by = self._read_all_by, None
        now: float = self._reactor.seconds()
        events = self._poller.poll(0, MAX_EVENTS)
        self._ready.extend(events)
        if len(events) < MAX_EVENTS:
            self._read_all_by = self._round_began = now
            self._round_left = 0
            return
        if self._round_left <= 0:
            if self._round_began > self._complete:
                self._complete = self._round_began
            self._round_began, self._round_left = now, len(self._channels)
        self._round_left -= len(events)

    def poll(self) -> None:
        """
        Hear who is ready, as when the reactor finds us readable, but without waiting for its next turn.

        Whose protocol says that it is ``patient`` is left to that turn: what it asks for takes more than a moment.
        """
        if self._poller is None or self._polling:
            return
        self._ready.extend(self._poller.poll(0, MAX_EVENTS))
        # Those who are passed over stay readable, and the next to ask the kernel is told of them again.
        self._ready = deque(each for each in dict(self._ready).items() if not self._is_low_priority(each[0]))
        if self._ready:
            self.doRead()

    def _is_low_priority(self, descriptor: int) -> bool:
        protocol = getattr(self._channels.get(descriptor), "protocol", None)
        return bool(getattr(protocol, "low_priority", False))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, and all connections with it; what was said already is sent."""
        self._write_out()
        for channel in list(self._channels.values()):
            channel.connectionLost(reason)

    def _turn(self, channel: Channel, event: int) -> None:
        """Let one member read or write, and close its connection if that says so."""
        why: object = None
        reading = True
        try:
            if event & _IN:
                why = channel.doRead()
            elif event & _OVER:
                reading = bool(self._registered[channel.fileno()] & _IN)
                why = CONNECTION_DONE if reading else CONNECTION_LOST
            if why is None and event & _OUT and channel.fileno() >= 0:
                reading = False
                why = channel.doWrite()
        except BaseException:
            why = sys.exc_info()[1]
            self._log.failure("Closing a connection, as what it brought went wrong")
        if why is not None:
            self._disconnect(channel, why, reading)

    def _write_out(self) -> None:
        """Let all send who want to; who has more than the kernel takes is told when there is room."""
        writers = self._writers
        while writers:
            for channel in list(writers):
                if channel in writers:
                    self._turn(channel, _OUT)
                if writers.pop(channel, True) is None and channel.fileno() >= 0:
                    # More than the kernel takes, or not connected yet.
                    try:
                        self._register(channel, self._registered.get(channel.fileno(), 0) | _OUT)
                    except OSError as error:
                        # There is no descriptor for the poller. That costs one of us its own, and nobody else his turn.
                        self._disconnect(channel, error, reading=False)

    def _disconnect(self, channel: Channel, why: object, reading: bool) -> None:
        """The connection is over, or will bring no more input at least."""
        self.removeReader(channel)
        failure = Failure(why if isinstance(why, BaseException) else CONNECTION_LOST)
        if reading and isinstance(why, ConnectionDone):
            channel.readConnectionLost(failure)
        else:
            self.removeWriter(channel)
            channel.connectionLost(failure)


classImplements(EpollMultiplexer, IReadDescriptor)
