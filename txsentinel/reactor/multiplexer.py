"""
Multiplexes many sockets over one descriptor of the reactor.

A reactor wraps each event in a logging context, and for each reply it changes the registration with the kernel twice.
That costs more than an ordinary reply itself. There are many clients and links with short messages, so each
kind has an epoll descriptor of its own, which the reactor polls as one more descriptor. As in the C servers, all ready
sockets are read first, and then all replies are written.

The multiplexers are fair to each other: after some milliseconds of reading from clients the links are read, and the
other way round.
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
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.model.time_slice import TimeSlice
from txsentinel.reactor.priority import yield_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall
    from twisted.internet.protocol import ClientFactory


class Channel(Protocol):
    """The methods of a connection that a multiplexer calls; the transports of Twisted have them."""

    def fileno(self) -> int:
        """Return the descriptor, −1 after it is closed."""

    def doRead(self) -> BaseException | None:
        """Read; return the reason if the connection has ended."""

    def doWrite(self) -> BaseException | None:
        """Write or continue connecting; return the reason if the connection has ended."""

    def readConnectionLost(self, reason: Failure) -> None:
        """Process the end of the input."""

    def connectionLost(self, reason: Failure) -> None:
        """Process the end of the connection."""


MAX_EVENTS: Final = 64
"""Number of channels that are read before replies are written."""

TIME_SLICE_SECONDS: Final = 0.010
"""Default time in seconds for which channels are read at a time."""

if hasattr(select, "epoll"):
    _IN: Final = select.EPOLLIN
    _OUT: Final = select.EPOLLOUT
    _ENDED: Final = select.EPOLLHUP | select.EPOLLERR


def supported(reactor: object) -> bool:
    """Whether a multiplexer works with this reactor: it needs epoll, and a reactor that polls descriptors."""
    return hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)


class _Client(tcp.Client):
    """An attempt that checks its socket once more before it times out."""

    def failIfNotConnected(self, err: BaseException) -> None:
        if isinstance(err, TimeoutError) and not self.connected and self.fileno() >= 0:
            self.doConnect()  # type: ignore[no-untyped-call]
        tcp.Client.failIfNotConnected(self, err)


class _Connector(tcp.Connector):
    """A connector that makes such attempts."""

    def _makeTransport(self) -> tcp.Client:
        return _Client(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


def _epoll_reactor(reactor: Any) -> Any:
    """Return the reactor of Twisted for epoll that this is, or that it wraps; ``None`` if it is another."""
    plain = getattr(reactor, "wrapped", reactor)
    usual = type(plain).__module__ == "twisted.internet.epollreactor" and "doIteration" not in vars(plain)
    return plain if usual else None


class EpollMultiplexer:
    """
    The reactor of its channels, which are client connections or links, and one descriptor of the real reactor.

    The epoll descriptor is opened for the first channel and closed after the last.

    :param reactor: the real reactor; see :func:`supported`.
    :param name: the name of the channels in the reactor's log.
    :param time_slice_seconds: the time for which channels are read before the reactor polls other descriptors.
        It does not include nested polls.
    :param clients: whether the channels are connections of clients, all of which call :meth:`forget` before they close
        their descriptor. Then changes are registered with the kernel at the end of a turn: most connections that stop
        reading are closed in the same turn, which needs no call. And if the reactor is Twisted's for epoll, its
        iteration is replaced by one that waits for this epoll descriptor, with that of the reactor among its channels,
        and that repeats as long as nothing but clients needs attention.
    """

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        reactor: Any,
        name: str = "clients",
        time_slice_seconds: float = TIME_SLICE_SECONDS,
        clients: bool = False,
    ) -> None:
        self._reactor = reactor
        self._name = name
        self._time_slice_seconds = time_slice_seconds
        self._for_clients = clients
        self._yield_to_clients = yield_function(reactor)
        self._poller: Any = None
        self._iterated: Any = None
        """The reactor whose iteration is replaced, if it is."""

        self._iterated_descriptor = -1
        self._shutdown_trigger: Any = None
        self._channels: dict[int, Channel] = {}
        self._registered: dict[int, int] = {}
        """Descriptor → its registered epoll events."""

        self._deferred: dict[int, int] = {}
        """Descriptor → epoll events to register at the end of the turn."""

        self._ready: deque[tuple[int, int]] = deque()
        """Ready descriptors that are not processed yet, with their events."""

        self._writers: dict[Channel, None] = {}
        """Channels with output that they have not tried to send yet."""

        self._read_all_by: float | None = None
        """The value of ``_complete`` after all descriptors in ``_ready`` are processed."""

        self._complete = 0.0
        """The time until which all input has been read."""

        self._round_began = 0.0
        self._round_left = 0
        """Number of events to process until all channels can have been read since the beginning of the round."""

        self._polling = False
        self.received = 0
        """Number of processed events."""

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> tcp.Connector:
        """
        Connect to a server and add the connection to the multiplexer; otherwise the same as the method of reactors.

        :param host: an IP address; names are not resolved.
        """
        connector = _Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    # Called by transports, for which this is the reactor.

    def addReader(self, channel: Channel) -> None:
        """Begin to deliver input to the channel."""
        self._want(channel, self._wanted(channel.fileno()) | _IN)

    def removeReader(self, channel: Channel) -> None:
        """Stop delivering input to the channel."""
        self._want(channel, self._wanted(channel.fileno()) & ~_IN)

    def addWriter(self, channel: Channel) -> None:
        """Let the channel write soon, without polling before: the socket buffer mostly has space."""
        if not self._writers and not self._polling:
            self._reactor.callLater(0, self._write_out)
        self._writers[channel] = None

    def removeWriter(self, channel: Channel) -> None:
        """Stop writing: the channel has no more output."""
        self._writers.pop(channel, None)
        wanted = self._wanted(channel.fileno())
        if wanted & _OUT:
            self._want(channel, wanted & ~_OUT)

    def forget(self, channel: Channel) -> None:
        """Remove a channel that closes its descriptor next; the kernel then removes the registration by itself."""
        descriptor = channel.fileno()
        self._writers.pop(channel, None)
        self._deferred.pop(descriptor, None)
        self._registered.pop(descriptor, None)
        if self._channels.pop(descriptor, None) is not None and not self._channels:
            self._close()

    def seconds(self) -> float:
        """Return the time of the reactor's clock."""
        now: float = self._reactor.seconds()
        return now

    def callLater(self, delay: float, call: Callable[..., object], *arguments: object) -> IDelayedCall:
        """Delegate to the reactor."""
        later: IDelayedCall = self._reactor.callLater(delay, call, *arguments)
        return later

    def _wanted(self, descriptor: int) -> int:
        """Return the events that the channel of a descriptor waits for."""
        wanted = self._deferred.get(descriptor)
        return self._registered.get(descriptor, 0) if wanted is None else wanted

    def _want(self, channel: Channel, wanted: int) -> None:
        """Register the events that a channel waits for, or do it later."""
        descriptor = channel.fileno()
        if self._polling and self._for_clients:
            self._deferred[descriptor], self._channels[descriptor] = wanted, channel
        else:
            self._register(channel, descriptor, wanted)

    def _register(self, channel: Channel, descriptor: int, wanted: int) -> None:
        self._deferred.pop(descriptor, None)
        present = self._registered.get(descriptor, 0)
        if wanted:
            self._channels[descriptor] = channel
            if self._poller is None:
                self._open()
        if wanted == present:
            return
        if not wanted:
            del self._registered[descriptor], self._channels[descriptor]
            self._poller.unregister(descriptor)
            if not self._channels:
                self._close()
            return
        if present:
            self._poller.modify(descriptor, wanted)
        else:
            self._poller.register(descriptor, wanted)
        self._registered[descriptor] = wanted

    def _register_deferred(self) -> None:
        """Register what the channels of this turn wait for."""
        while self._deferred:
            descriptor, wanted = self._deferred.popitem()
            channel = self._channels[descriptor]
            try:
                self._register(channel, descriptor, wanted)
            except OSError as error:
                # The kernel has no memory for it, for example: close this channel, and continue with the others.
                self._disconnect(channel, error, reading=False)

    def _open(self) -> None:
        self._poller = select.epoll()
        plain = _epoll_reactor(self._reactor) if self._for_clients else None
        if plain is None:
            self._reactor.addReader(self)
            return
        self._iterated, self._iterated_descriptor = plain, plain._poller.fileno()
        self._poller.register(self._iterated_descriptor, _IN)
        plain.doIteration = self._iterate
        self._shutdown_trigger = plain.addSystemEventTrigger("during", "shutdown", self._reactor_ends)

    def _close(self) -> None:
        self._ready.clear()
        plain, self._iterated = self._iterated, None
        if plain is None:
            self._reactor.removeReader(self)
        else:
            del plain.doIteration
            if self._shutdown_trigger is not None:
                plain.removeSystemEventTrigger(self._shutdown_trigger)
                self._shutdown_trigger = None
        self._poller.close()
        self._poller = None

    def _reactor_ends(self) -> None:
        self._shutdown_trigger = None
        self.connectionLost(Failure(CONNECTION_LOST))

    def _iterate(self, timeout: float | None) -> None:
        """
        Wait for channels and for the descriptors of the reactor; replaces the iteration of the reactor.

        :param timeout: seconds until the next call of the reactor is due; ``None`` if there is none.
        """
        reactor, own = self._iterated, self._iterated_descriptor
        while True:
            others = False
            events = self._poller.poll(0 if self._ready else -1 if timeout is None else timeout, MAX_EVENTS)
            for event in events:
                if event[0] == own:
                    others = True
                else:
                    self._ready.append(event)
            if self._ready:
                self.doRead()
            if others:
                reactor.doPoll(0)
            if others or not events or self._ready or self._iterated is None or not reactor.running:
                return
            timeout = reactor.timeout()
            if reactor._justStopped or (timeout is not None and timeout <= 0):
                return

    # ``IReadDescriptor``, for the real reactor.

    def fileno(self) -> int:
        """Return the epoll descriptor, which is readable while any channel is ready; −1 without channels."""
        return -1 if self._poller is None else self._poller.fileno()

    def logPrefix(self) -> str:
        """Return the name in the reactor's log."""
        return self._name

    def doRead(self) -> None:
        """Process ready channels until none is left or the time slice has passed; then write the replies."""
        ready, channels = self._ready, self._channels
        if not ready:
            self._poll()
        time_slice = TimeSlice(self._reactor.seconds, self._time_slice_seconds)
        self._polling = True
        try:
            while ready:
                descriptor, event = ready.popleft()
                # An earlier channel may have closed this one.
                channel = channels.get(descriptor)
                if channel is not None:
                    self.received += 1
                    self._turn(channel, event & (self._wanted(descriptor) | _ENDED))
                if time_slice.over():
                    break
                if not self._for_clients:
                    self._yield_to_clients()
        finally:
            try:
                self._write_out()
            finally:
                self._polling = False
                if self._deferred:
                    self._register_deferred()

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
        Poll for ready descriptors, after all those of the last poll are processed.

        The kernel returns the descriptors first that it has not returned for the longest time. If it returns fewer than
        the maximum, these are all; otherwise all channels have been read after as many events as there are channels.
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
        Process ready channels as :meth:`doRead` does, but within a turn of the reactor.

        Channels whose protocol is ``low_priority`` wait for the next turn, because their requests take longer.
        """
        if self._poller is None or self._polling:
            return
        self._ready.extend(self._poller.poll(0, MAX_EVENTS))
        # Skipped channels stay readable, so the next poll returns them again.
        self._ready = deque(each for each in dict(self._ready).items() if not self._is_low_priority(each[0]))
        if self._ready:
            self.doRead()

    def _is_low_priority(self, descriptor: int) -> bool:
        protocol = getattr(self._channels.get(descriptor), "protocol", None)
        return bool(getattr(protocol, "low_priority", False))

    def connectionLost(self, reason: Failure) -> None:
        """Close all channels at the end of the reactor, after writing their output."""
        self._write_out()
        for channel in list(self._channels.values()):
            channel.connectionLost(reason)

    def _turn(self, channel: Channel, event: int) -> None:
        """Let one channel read or write, and close it if it returns a reason."""
        why: object = None
        reading = True
        try:
            if event & _IN:
                why = channel.doRead()
            elif event & _ENDED:
                reading = bool(self._wanted(channel.fileno()) & _IN)
                if reading and self._for_clients:
                    # If a time slice ended in between, the event may be that of an earlier connection.
                    why = channel.doRead()
                else:
                    why = CONNECTION_DONE if reading else CONNECTION_LOST
            if why is None and event & _OUT and channel.fileno() >= 0:
                reading = False
                why = channel.doWrite()
        except BaseException:
            why = sys.exc_info()[1]
            self._log.failure("Closing a connection after an unexpected error in its protocol")
        if why is not None:
            self._disconnect(channel, why, reading)

    def _write_out(self) -> None:
        """Let all channels with output write; poll for the ones with more output than the socket buffer accepts."""
        writers = self._writers
        while writers:
            for channel in list(writers):
                if channel in writers:
                    self._turn(channel, _OUT)
                if writers.pop(channel, True) is None and channel.fileno() >= 0:
                    # The socket buffer is full, or the channel is not connected yet.
                    try:
                        self._want(channel, self._wanted(channel.fileno()) | _OUT)
                    except OSError as error:
                        # There is no descriptor left for epoll: close this channel, and continue with the others.
                        self._disconnect(channel, error, reading=False)

    def _disconnect(self, channel: Channel, why: object, reading: bool) -> None:
        """Process the end of a connection, or of its input only."""
        self.removeReader(channel)
        if reading and isinstance(why, ConnectionDone):
            channel.readConnectionLost(connectionDone)
        else:
            self.removeWriter(channel)
            done = why is CONNECTION_DONE
            channel.connectionLost(
                connectionDone if done else Failure(why if isinstance(why, BaseException) else CONNECTION_LOST)
            )


classImplements(EpollMultiplexer, IReadDescriptor)
