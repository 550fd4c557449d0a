"""Tests of the multiplexer, with socket pairs inside this process."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from functools import partial
from typing import cast
from unittest import SkipTest

from twisted.internet import tcp
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txsentinel.reactor.multiplexer import MAX_EVENTS, TIME_SLICE_SECONDS, EpollMultiplexer, supported


class Reactor(Clock):
    """A fake reactor that polls nothing; tests trigger reading."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []
        self.step = 0.0
        """Seconds by which each reading of the clock advances it."""

        self.yields: list[int] = []
        """The number of processed events at each call of ``yield_to_clients``."""

        self.received: Callable[[], int] = lambda: 0

    def yield_to_clients(self) -> bool:
        """Note it."""
        self.yields.append(self.received())
        return True

    def addReader(self, reader: object) -> None:
        """Note it."""
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """Note it."""
        self.readers.remove(reader)

    def seconds(self) -> float:
        """Return the time, and advance the clock by ``step``."""
        self.rightNow += self.step
        return self.rightNow


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Echoes its input, and records the end of its connection."""

    poll_nested: Callable[[bytes], None] | None = None

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.input_over = False
        self.lost: list[type[BaseException]] = []

    def dataReceived(self, data: bytes) -> None:
        """Call the hook of the test, or echo."""
        self.received.append(data)
        if self.poll_nested is not None:
            self.poll_nested(data)
        else:
            self.channel.write(data)

    def readConnectionLost(self) -> None:
        """Write a last line and close."""
        self.input_over = True
        self.channel.write(b"bye")
        self.channel.loseConnection()

    def writeConnectionLost(self) -> None:
        """Record the loss of the write side."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note why."""
        assert reason.value is not None
        self.lost.append(type(reason.value))

    @property
    def channel(self) -> ITCPTransport:
        """The transport, of either kind."""
        assert ITCPTransport.providedBy(self.transport)
        return self.transport

    @property
    def connection(self) -> tcp.Connection:
        """The transport with its methods for producers, which are those of Twisted's whatever it is."""
        return cast("tcp.Connection", self.transport)


class MultiplexerTestCase(SynchronousTestCase):
    """The base of the tests: a multiplexer with any number of channels."""

    def setUp(self) -> None:
        """Build a multiplexer without channels."""
        self.reactor = Reactor()
        if not hasattr(select, "epoll"):
            raise SkipTest("there is no epoll here")
        self.multiplexer = EpollMultiplexer(self.reactor)
        self.protocols: list[Echo] = []
        self.addCleanup(self.multiplexer.connectionLost, Failure(ConnectionDone()))

    def join(self) -> tuple[Echo, socket.socket]:
        """Add a channel; return its protocol and the socket of its client."""
        near, far = socket.socketpair()
        far.setblocking(False)
        self.addCleanup(far.close)
        protocol = Echo()
        transport = tcp.Server(near, protocol, ("127.0.0.1", 1), None, 0, self.multiplexer)  # type: ignore[arg-type]
        protocol.makeConnection(transport)
        return protocol, far

    def turn(self) -> None:
        """Run one turn of the reactor."""
        self.reactor.advance(0)
        ready, _, _ = select.select([self.multiplexer] if self.multiplexer.fileno() >= 0 else [], [], [], 0)
        if ready:
            self.multiplexer.doRead()


class HorizonTests(MultiplexerTestCase):
    """Tests of the time until which all input has been read."""

    def send(self, clients: list[socket.socket]) -> None:
        """Send from all clients, and read the replies."""
        for client in clients:
            with contextlib.suppress(BlockingIOError):
                client.recv(99)
            client.send(b"ping")

    def test_no_input(self) -> None:
        """Without input it is the present time."""
        self.assertEqual(self.multiplexer.received_until(7.0), 7.0)
        self.join()
        self.reactor.rightNow = 8.0
        self.assertEqual(self.multiplexer.received_until(8.0), 8.0)

    def test_unread_input(self) -> None:
        """It does not advance from the arrival of input until it is read."""
        _, client = self.join()
        for now in (1.0, 2.0):
            self.reactor.rightNow = now
            self.turn()
            self.assertEqual(self.multiplexer.received_until(now), now)
        self.send([client])
        self.reactor.rightNow = 9.0
        self.assertLessEqual(self.multiplexer.received_until(9.0), 2.0)
        self.turn()
        self.assertEqual(self.multiplexer.received_until(9.0), 9.0)

    def test_always_behind(self) -> None:
        """With more input than a slice can read it still advances, after each channel was read once."""
        clients = [self.join()[1] for _ in range(2 * MAX_EVENTS)]
        seen = []
        for now in range(1, 9):
            self.reactor.rightNow = float(now)
            self.send(clients)
            self.turn()
            seen.append(self.multiplexer.received_until(float(now)))
        self.assertEqual(seen, sorted(seen))
        self.assertLess(seen[-1], 8.0)
        self.assertGreaterEqual(seen[-1], 4.0)


class ServingTests(MultiplexerTestCase):
    """Tests of input and output."""

    def test_answered_in_the_turn(self) -> None:
        """A reply is written in the turn of its request; the reactor has one descriptor only."""
        clients = [self.join()[1] for _ in range(3)]
        for client in clients:
            client.send(b"ping")
        self.turn()
        self.assertEqual([client.recv(99) for client in clients], [b"ping"] * 3)
        self.assertEqual(self.reactor.readers, [self.multiplexer])

    def test_reading_before_writing(self) -> None:
        """All ready channels are read before replies are written; several writes to one client are combined."""
        (first, near), (second, far) = self.join(), self.join()

        def answer_first(data: bytes) -> None:
            first.connection.write(b"a")
            first.connection.write(b"b")

        second.poll_nested = answer_first
        near.send(b"1")
        far.send(b"2")
        self.turn()
        self.assertEqual(near.recv(99), b"1ab")

    def test_output_without_input(self) -> None:
        """Output without input is written in the next turn of the reactor."""
        protocol, client = self.join()
        protocol.connection.write(b"event")
        self.assertRaises(BlockingIOError, client.recv, 99)
        self.reactor.advance(0)
        self.assertEqual(client.recv(99), b"event")

    def test_slow_reader(self) -> None:
        """Output that the socket buffer does not accept is sent later, complete and in order."""
        protocol, client = self.join()
        whole = bytes(range(256)) * 16_384
        protocol.connection.write(whole)
        got = b""
        while len(got) < len(whole):
            self.turn()
            got += client.recv(1 << 20)
        self.assertEqual(got, whole)
        self.turn()
        self.assertEqual(protocol.lost, [])

    def test_pull_producer(self) -> None:
        """A producer that waits to be asked is asked again and again."""

        @implementer(IPullProducer)
        class Counting:
            left = 5

            def resumeProducing(self) -> None:
                """One more."""
                self.left -= 1
                protocol.connection.write(b"%d" % self.left)
                if not self.left:
                    protocol.connection.unregisterProducer()

            def stopProducing(self) -> None:
                """Not here."""

        protocol, client = self.join()
        protocol.connection.registerProducer(Counting(), False)
        for _ in range(6):
            self.turn()
        self.assertEqual(client.recv(99), b"43210")

    def test_pausing(self) -> None:
        """A paused channel is not read until it is resumed, and is not closed."""
        protocol, client = self.join()
        protocol.connection.pauseProducing()
        client.send(b"later")
        self.turn()
        self.assertEqual(protocol.received, [])
        protocol.connection.resumeProducing()
        self.turn()
        self.assertEqual(protocol.received, [b"later"])

    def test_end_of_time_slice(self) -> None:
        """After its time slice the multiplexer returns, and continues with the remaining channels later."""
        channels = [self.join() for _ in range(3)]
        for _, client in channels:
            client.send(b"x")
        self.reactor.step = TIME_SLICE_SECONDS * 1.1
        counts = []
        for _ in range(3):
            self.turn()
            counts.append(sum(len(protocol.received) for protocol, _ in channels))
        self.assertEqual(counts, [1, 2, 3])
        self.assertEqual([client.recv(99) for _, client in channels], [b"x"] * 3)

    def test_yielding(self) -> None:
        """With a longer time slice ``yield_to_clients`` is called after each channel."""
        self.multiplexer = EpollMultiplexer(self.reactor, "servers", time_slice_seconds=2 * TIME_SLICE_SECONDS)
        self.addCleanup(self.multiplexer.connectionLost, Failure(ConnectionDone()))
        channels = [self.join() for _ in range(5)]
        self.reactor.received = lambda: sum(len(protocol.received) for protocol, _ in channels)
        for _, client in channels:
            client.send(b"x")
        self.reactor.step = TIME_SLICE_SECONDS * 0.6
        self.turn()
        self.assertEqual(self.reactor.yields, [1, 2, 3])
        self.assertEqual(self.reactor.received(), 4)

    def test_many(self) -> None:
        """More channels than one poll returns are all read, busy ones not before the others."""
        channels = [self.join() for _ in range(MAX_EVENTS * 2)]
        for _, client in channels:
            client.send(b"x")
        self.turn()
        for protocol, client in channels:
            if protocol.received:
                client.send(b"again")
        self.turn()
        self.assertEqual({len(protocol.received) for protocol, _ in channels}, {1})


class NestedPollTests(MultiplexerTestCase):
    """Tests of ``poll``, which reads within a turn of the reactor."""

    def test_read_and_answered(self) -> None:
        """``poll`` reads the ready channels and writes the replies."""
        _, client = self.join()
        client.send(b"x")
        self.multiplexer.poll()
        self.assertEqual(client.recv(99), b"x")

    def test_no_channels(self) -> None:
        """``poll`` works without channels and without input."""
        self.multiplexer.poll()
        _, client = self.join()
        self.multiplexer.poll()
        self.assertRaises(BlockingIOError, client.recv, 99)

    def test_low_priority_waits(self) -> None:
        """Channels of low priority are read in the next turn of the reactor only."""
        low_priority, client = self.join()
        setattr(low_priority, "low_priority", True)  # noqa: B010 - as protocols may have
        protocol, other = self.join()
        client.send(b"x")
        other.send(b"y")
        self.multiplexer.poll()
        self.assertEqual((low_priority.received, protocol.received), ([], [b"y"]))
        self.turn()
        self.assertEqual(low_priority.received, [b"x"])

    def test_low_priority_of_an_earlier_turn(self) -> None:
        """Channels of low priority that remained from an earlier turn are not read either."""
        channels = [self.join() for _ in range(3)]
        for protocol, client in channels:
            setattr(protocol, "low_priority", True)  # noqa: B010
            client.send(b"x")
        self.reactor.step = 2 * TIME_SLICE_SECONDS
        self.multiplexer.doRead()
        self.assertEqual(sum(len(protocol.received) for protocol, _ in channels), 1)
        self.multiplexer.poll()
        for _ in range(3):
            self.multiplexer.doRead()
        self.assertEqual([protocol.received for protocol, _ in channels], [[b"x"]] * 3)

    def test_not_within_itself(self) -> None:
        """During the processing of one channel ``poll`` reads no other and not the same again."""
        channels = [self.join() for _ in range(2)]
        depths: list[int] = []

        def poll_nested(data: bytes) -> None:
            depths.append(len(depths))
            before = len(depths)
            self.multiplexer.poll()
            self.assertEqual(len(depths), before)

        for protocol, client in channels:
            protocol.poll_nested = poll_nested
            client.send(b"x")
        self.turn()
        self.assertEqual([protocol.received for protocol, _ in channels], [[b"x"], [b"x"]])
        self.assertEqual(depths, [0, 1])


class EndTests(MultiplexerTestCase):
    """Tests of closing channels."""

    def test_close_after_output(self) -> None:
        """Closing sends what was written before."""
        protocol, client = self.join()
        protocol.connection.write(b"last words")
        protocol.connection.loseConnection()
        self.turn()
        self.assertEqual((client.recv(99), client.recv(99)), (b"last words", b""))
        self.assertEqual(protocol.lost, [ConnectionDone])

    def test_client_sends_no_more(self) -> None:
        """The end of input is no end of output."""
        protocol, client = self.join()
        client.shutdown(socket.SHUT_WR)
        self.turn()
        self.assertTrue(protocol.input_over)
        self.turn()
        self.assertEqual((client.recv(99), protocol.lost), (b"bye", [ConnectionDone]))

    def test_client_is_gone(self) -> None:
        """A closed client is noticed by reading or by writing."""
        (first, near), (second, far) = self.join(), self.join()
        near.close()
        self.turn()
        self.turn()
        self.assertEqual(first.lost, [ConnectionLost])
        second.connection.pauseProducing()
        far.close()
        second.connection.write(b"more output")
        self.turn()
        self.assertEqual(second.lost, [ConnectionLost])

    def test_abort(self) -> None:
        """Aborting drops unsent output."""
        protocol, client = self.join()
        protocol.connection.write(b"never mind")
        protocol.connection.abortConnection()
        protocol.connection.write(b"ignored")
        self.turn()
        self.assertEqual((client.recv(99), protocol.lost), (b"", [ConnectionAborted]))

    def test_closed_by_another(self) -> None:
        """A channel that was closed in the same turn is not processed."""

        def lose(protocol: Echo, data: bytes) -> None:
            protocol.connection.connectionLost(Failure(ConnectionLost()))

        channels = [self.join() for _ in range(2)]
        for (protocol, _), (other, _) in zip(channels, reversed(channels), strict=True):
            protocol.poll_nested = partial(lose, other)
        for _, client in channels:
            client.send(b"x")
        self.turn()
        self.assertEqual(sorted(len(protocol.received) for protocol, _ in channels), [0, 1])

    def test_bug(self) -> None:
        """An exception closes its connection and is logged; the others are not affected."""

        def fail(data: bytes) -> None:
            raise ZeroDivisionError

        (first, near), (second, far) = self.join(), self.join()
        first.poll_nested = fail
        near.send(b"x")
        far.send(b"y")
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((first.lost, far.recv(99), second.lost), ([ZeroDivisionError], b"y", []))

    def test_last_channel(self) -> None:
        """Without channels the reactor has no descriptor; with the next channel it has one again."""
        protocol, _ = self.join()
        protocol.connection.loseConnection()
        self.turn()
        self.assertEqual((self.reactor.readers, self.multiplexer.fileno()), ([], -1))
        _, client = self.join()
        client.send(b"hello")
        self.turn()
        self.assertEqual((self.reactor.readers, client.recv(99)), ([self.multiplexer], b"hello"))

    def test_reactor_ends(self) -> None:
        """When the reactor stops, output is written and every connection is notified."""
        channels = [self.join() for _ in range(2)]
        channels[0][0].connection.write(b"goodbye")
        self.multiplexer.connectionLost(Failure(ConnectionLost()))
        self.assertEqual([protocol.lost for protocol, _ in channels], [[ConnectionLost]] * 2)
        self.assertEqual(channels[0][1].recv(99), b"goodbye")
        self.assertEqual(self.reactor.readers, [])


class SupportTests(SynchronousTestCase):
    """Tests of ``supported``."""

    def test_other_reactors(self) -> None:
        """A reactor that polls no descriptors is not supported."""
        self.assertFalse(supported(Clock()))
