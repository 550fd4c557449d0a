"""Tests of the iteration of a reactor that waits for clients itself, with a reactor of its own and socket pairs."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.reactor.test_multiplexer import Echo
from txsentinel.reactor.client_transport import ClientTransport, client_multiplexer
from txsentinel.reactor.multiplexer import EpollMultiplexer
from txsentinel.reactor.priority import PriorityReactor

PEER = IPv4Address("TCP", "127.0.0.1", 1)

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""


@implementer(IReadDescriptor)
class Reader:
    """A descriptor of the reactor itself."""

    def __init__(self, test: IterationTests) -> None:
        self._socket, self.other = socket.socketpair()
        test.addCleanup(self.other.close)
        self.received: list[bytes] = []
        self.lost = False
        self.fileno = self._socket.fileno

    def logPrefix(self) -> str:
        """Return a name."""
        return "reader"

    def doRead(self) -> None:
        """Read."""
        self.received.append(self._socket.recv(99))

    def connectionLost(self, reason: Failure) -> None:
        """Note it."""
        self.lost = True
        self._socket.close()


class IterationTests(SynchronousTestCase):
    """A reactor of Twisted for epoll, with clients and other descriptors."""

    def setUp(self) -> None:
        """Build a reactor."""
        if not hasattr(select, "epoll"):
            raise SkipTest("there is no epoll here")
        from twisted.internet.epollreactor import EPollReactor

        self.reactor: Any = EPollReactor()
        self.addCleanup(self.close_reactor)
        self.original = self.reactor.doIteration
        self.wrapper = PriorityReactor(self.reactor)
        self.multiplexer = client_multiplexer(self.wrapper)
        self.turns = 0

    def close_reactor(self) -> None:
        """Close the descriptors of the reactor."""
        for reader in self.reactor.removeAll():
            reader.connectionLost(Failure(ConnectionError()))
        # The reactor has no method that closes its epoll object.
        self.reactor._poller.close()

    def join(self, multiplexer: EpollMultiplexer | None = None) -> tuple[Echo, socket.socket]:
        """Add a client; return its protocol and its socket."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        protocol = Echo()
        protocol.makeConnection(ClientTransport(multiplexer or self.multiplexer, near, PEER, protocol))
        return protocol, far

    def run_reactor(self) -> None:
        """Run the reactor until something stops it; count its turns."""
        until_current = self.reactor.runUntilCurrent

        def counting() -> None:
            self.turns += 1
            until_current()

        self.patch(self.reactor, "runUntilCurrent", counting)
        hanging = self.reactor.callLater(LIMIT, self.reactor.crash)
        self.reactor.run(installSignalHandlers=False)
        self.assertTrue(hanging.active(), "the reactor was not stopped")
        hanging.cancel()

    def flood(self, protocol: Echo, client: socket.socket) -> None:
        """Let a client send something as soon as it is read."""

        def again(data: bytes) -> None:
            client.send(data)

        protocol.poll_nested = again
        client.send(b"x")

    def test_one_iteration(self) -> None:
        """An iteration serves clients and the descriptors of the reactor."""
        _, client = self.join()
        reader = Reader(self)
        self.reactor.addReader(reader)
        client.send(b"hello")
        reader.other.send(b"too")
        self.reactor.iterate(0)
        self.assertEqual((client.recv(99), reader.received), (b"hello", [b"too"]))

    def test_few_turns(self) -> None:
        """While only clients need attention the reactor makes no turn; it stops when it is ordered to."""
        protocol, client = self.join()
        left = 20

        def answer(data: bytes) -> None:
            nonlocal left
            left -= 1
            if left:
                client.send(data)
            else:
                self.reactor.stop()

        protocol.poll_nested = answer
        client.send(b"x")
        self.run_reactor()
        self.assertEqual(left, 0)
        self.assertLess(self.turns, 10)

    def test_calls_are_made(self) -> None:
        """Calls that are due, and those from threads, are made although a client always sends."""
        self.flood(*self.join())
        made: list[str] = []
        self.reactor.callLater(0.002, made.append, "due")
        self.reactor.callLater(0.004, self.reactor.callInThread, self.reactor.callFromThread, self.reactor.stop)
        self.run_reactor()
        self.assertEqual(made, ["due"])

    def test_calls_of_clients(self) -> None:
        """A call that is scheduled for a client is made without further input."""
        protocol, client = self.join()
        protocol.poll_nested = lambda data: self.reactor.callLater(0.001, self.reactor.stop) and None
        client.send(b"x")
        self.run_reactor()

    def test_descriptors_are_read(self) -> None:
        """The descriptors of the reactor are read although a client always sends."""
        self.flood(*self.join())
        reader = Reader(self)
        reader.doRead = self.reactor.stop  # type: ignore[method-assign]
        self.reactor.addReader(reader)
        self.reactor.callLater(0.002, reader.other.send, b"x")
        self.run_reactor()

    def test_end(self) -> None:
        """At the end of the reactor clients and descriptors are closed, after their output."""
        protocol, client = self.join()
        reader = Reader(self)
        self.reactor.addReader(reader)

        def stop() -> None:
            protocol.connection.write(b"goodbye")
            self.reactor.stop()

        self.reactor.callLater(0, stop)
        self.run_reactor()
        self.assertEqual(
            (len(protocol.lost), reader.lost, client.recv(99), client.recv(99)), (1, True, b"goodbye", b"")
        )
        self.assertEqual(self.reactor.doIteration, self.original)

    def test_restored(self) -> None:
        """Without clients the reactor iterates as before; with the next client it waits for it again."""
        for _ in range(2):
            protocol, client = self.join()
            self.assertNotEqual(self.reactor.doIteration, self.original)
            client.send(b"x")
            self.reactor.iterate(0)
            self.assertEqual(client.recv(99), b"x")
            protocol.connection.loseConnection()
            self.reactor.iterate(0)
            self.assertEqual((len(protocol.lost), self.reactor.doIteration), (1, self.original))

    def test_two_of_a_kind(self) -> None:
        """A second multiplexer for clients is one more descriptor of the reactor."""
        first, second = self.multiplexer, client_multiplexer(self.reactor)
        for near, far in ((first, second), (second, first)):
            protocols = [self.join(near), self.join(far)]
            for _, client in protocols:
                client.send(b"x")
            self.reactor.iterate(0)
            self.assertEqual([client.recv(99) for _, client in protocols], [b"x", b"x"])
            for protocol, _ in protocols:
                protocol.connection.loseConnection()
            self.reactor.iterate(0)
            self.assertEqual([len(protocol.lost) for protocol, _ in protocols], [1, 1])

    def test_bug(self) -> None:
        """An exception of a descriptor of the reactor does not affect clients."""
        reader = Reader(self)

        def fail() -> None:
            raise ZeroDivisionError

        failing: Callable[[], None] = fail
        reader.doRead = failing  # type: ignore[method-assign]
        self.reactor.addReader(reader)
        _, client = self.join()
        reader.other.send(b"x")
        client.send(b"y")
        self.reactor.iterate(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((client.recv(99), reader.lost), (b"y", True))
