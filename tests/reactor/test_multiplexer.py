"""Promises of the crowd: the reactor of clients' connections. Sockets are pairs inside this process."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from unittest import SkipTest

from twisted.internet import tcp, unix
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txsentinel.reactor.multiplexer import MOST_AT_ONCE, SLICE_SECONDS, Crowd, possible


class Reactor(Clock):
    """A reactor that watches nothing by itself: tests say when the descriptor of the crowd is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []
        self.step = 0.0
        """Seconds that pass whenever somebody looks at the clock."""

        self.breaths: list[int] = []
        """How many were heard in all whenever somebody breathed."""

        self.heard: Callable[[], int] = lambda: 0

    def breathe(self) -> bool:
        """Note it."""
        self.breaths.append(self.heard())
        return True

    def addReader(self, reader: object) -> None:
        """Note it."""
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """Note it."""
        self.readers.remove(reader)

    def seconds(self) -> float:
        """The time, which goes on by being looked at if a test wants it to."""
        self.rightNow += self.step
        return self.rightNow


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Sends back what it gets, and notes how it ended."""

    hears: Callable[[bytes], None] | None = None

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.input_over = False
        self.lost: list[type[BaseException]] = []

    def dataReceived(self, data: bytes) -> None:
        """Do what the test wants, or send it back."""
        self.heard.append(data)
        if self.hears is not None:
            self.hears(data)
        else:
            self.transport.write(data)

    def readConnectionLost(self) -> None:
        """Say goodbye."""
        self.input_over = True
        self.transport.write(b"bye")
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """We have said all that we wanted."""

    def connectionLost(self, reason: Failure) -> None:
        """Note why."""
        self.lost.append(reason.type)


class CrowdTestCase(SynchronousTestCase):
    """A crowd with as many members as a test wants."""

    def setUp(self) -> None:
        """Nobody is there yet."""
        self.reactor = Reactor()
        if not hasattr(select, "epoll"):
            raise SkipTest("there is no epoll here")
        self.crowd = Crowd(self.reactor)
        self.protocols: list[Echo] = []
        self.addCleanup(self.crowd.connectionLost, Failure(ConnectionDone()))

    def join(self) -> tuple[Echo, socket.socket]:
        """One more member; its protocol, and the socket of its client."""
        near, far = socket.socketpair()
        far.setblocking(False)
        self.addCleanup(far.close)
        protocol = Echo()
        transport = tcp.Server(near, protocol, ("127.0.0.1", 1), None, 0, self.crowd)  # type: ignore[arg-type]
        protocol.makeConnection(transport)
        return protocol, far

    def turn(self) -> None:
        """The reactor's loop goes round once."""
        self.reactor.advance(0)
        ready, _, _ = select.select([self.crowd] if self.crowd.fileno() >= 0 else [], [], [], 0)
        if ready:
            self.crowd.doRead()


class HorizonTests(CrowdTestCase):
    """Until when everything that arrived has been read."""

    def send(self, clients: list[socket.socket]) -> None:
        """Have all of them say something, and read what they were answered."""
        for client in clients:
            with contextlib.suppress(BlockingIOError):
                client.recv(99)
            client.send(b"ping")

    def test_nothing_waits(self) -> None:
        """Where nobody has said anything it is the present time."""
        self.assertEqual(self.crowd.heard_until(7.0), 7.0)
        self.join()
        self.reactor.rightNow = 8.0
        self.assertEqual(self.crowd.heard_until(8.0), 8.0)

    def test_something_waits(self) -> None:
        """It stands still from when something arrives until that is read."""
        _, client = self.join()
        for now in (1.0, 2.0):
            self.reactor.rightNow = now
            self.turn()
            self.assertEqual(self.crowd.heard_until(now), now)
        self.send([client])
        self.reactor.rightNow = 9.0
        self.assertLessEqual(self.crowd.heard_until(9.0), 2.0)
        self.turn()
        self.assertEqual(self.crowd.heard_until(9.0), 9.0)

    def test_always_behind(self) -> None:
        """With more to read than there is time it advances all the same, once everybody has had a turn."""
        clients = [self.join()[1] for _ in range(2 * MOST_AT_ONCE)]
        seen = []
        for now in range(1, 9):
            self.reactor.rightNow = float(now)
            self.send(clients)
            self.turn()
            seen.append(self.crowd.heard_until(float(now)))
        self.assertEqual(seen, sorted(seen))
        self.assertLess(seen[-1], 8.0)
        self.assertGreaterEqual(seen[-1], 4.0)


class ServingTests(CrowdTestCase):
    """Input and output."""

    def test_answered_in_the_turn(self) -> None:
        """An answer is with the kernel when the turn of its request is over; the reactor knows of one descriptor."""
        clients = [self.join()[1] for _ in range(3)]
        for client in clients:
            client.send(b"ping")
        self.turn()
        self.assertEqual([client.recv(99) for client in clients], [b"ping"] * 3)
        self.assertEqual(self.reactor.readers, [self.crowd])

    def test_hearing_before_answering(self) -> None:
        """Whoever is ready is heard before anybody is answered, and several writes to one client are one."""
        (first, near), (second, far) = self.join(), self.join()
        second.hears = lambda data: (first.transport.write(b"a"), first.transport.write(b"b"))
        near.send(b"1")
        far.send(b"2")
        self.turn()
        self.assertEqual(near.recv(99), b"1ab")

    def test_said_out_of_turn(self) -> None:
        """What is written when nothing was heard goes out with the next turn of the reactor."""
        protocol, client = self.join()
        protocol.transport.write(b"event")
        self.assertRaises(BlockingIOError, client.recv, 99)
        self.reactor.advance(0)
        self.assertEqual(client.recv(99), b"event")

    def test_slow_reader(self) -> None:
        """What the kernel has no room for is sent as soon as there is, whole and in order."""
        protocol, client = self.join()
        whole = bytes(range(256)) * 16_384
        protocol.transport.write(whole)
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
                protocol.transport.write(b"%d" % self.left)
                if not self.left:
                    protocol.transport.unregisterProducer()

            def stopProducing(self) -> None:
                """Not here."""

        protocol, client = self.join()
        protocol.transport.registerProducer(Counting(), False)
        for _ in range(6):
            self.turn()
        self.assertEqual(client.recv(99), b"43210")

    def test_pausing(self) -> None:
        """A paused member hears nothing until it is resumed, and is not taken for gone."""
        protocol, client = self.join()
        protocol.transport.pauseProducing()
        client.send(b"later")
        self.turn()
        self.assertEqual(protocol.heard, [])
        protocol.transport.resumeProducing()
        self.turn()
        self.assertEqual(protocol.heard, [b"later"])

    def test_time_is_up(self) -> None:
        """After its slice of time the crowd lets others go first, and goes on with those not yet heard."""
        members = [self.join() for _ in range(3)]
        for _, client in members:
            client.send(b"x")
        self.reactor.step = SLICE_SECONDS * 1.1
        counts = []
        for _ in range(3):
            self.turn()
            counts.append(sum(len(protocol.heard) for protocol, _ in members))
        self.assertEqual(counts, [1, 2, 3])
        self.assertEqual([client.recv(99) for _, client in members], [b"x"] * 3)

    def test_breathing(self) -> None:
        """A crowd that may take longer lets others have a word after each member."""
        self.crowd = Crowd(self.reactor, "servers", slice_seconds=2 * SLICE_SECONDS)
        self.addCleanup(self.crowd.connectionLost, Failure(ConnectionDone()))
        members = [self.join() for _ in range(5)]
        self.reactor.heard = lambda: sum(len(protocol.heard) for protocol, _ in members)
        for _, client in members:
            client.send(b"x")
        self.reactor.step = SLICE_SECONDS * 0.6
        self.turn()
        self.assertEqual(self.reactor.breaths, [1, 2, 3])
        self.assertEqual(self.reactor.heard(), 4)

    def test_many(self) -> None:
        """More members than are asked for at a time all have their turn, the busy ones not before the others."""
        members = [self.join() for _ in range(MOST_AT_ONCE * 2)]
        for _, client in members:
            client.send(b"x")
        self.turn()
        for protocol, client in members:
            if protocol.heard:
                client.send(b"again")
        self.turn()
        self.assertEqual({len(protocol.heard) for protocol, _ in members}, {1})


class GlanceTests(CrowdTestCase):
    """Members are heard without a turn of the reactor."""

    def test_heard_and_answered(self) -> None:
        """A glance hears who is ready and sends what they are answered."""
        _, client = self.join()
        client.send(b"x")
        self.crowd.glance()
        self.assertEqual(client.recv(99), b"x")

    def test_nobody(self) -> None:
        """There need not be anybody, nor anything to hear."""
        self.crowd.glance()
        _, client = self.join()
        self.crowd.glance()
        self.assertRaises(BlockingIOError, client.recv, 99)

    def test_the_patient_wait(self) -> None:
        """Who is patient is heard in the next turn of the reactor, and not before."""
        patient, client = self.join()
        setattr(patient, "patient", True)  # noqa: B010 - as protocols may have
        protocol, other = self.join()
        client.send(b"x")
        other.send(b"y")
        self.crowd.glance()
        self.assertEqual((patient.heard, protocol.heard), ([], [b"y"]))
        self.turn()
        self.assertEqual(patient.heard, [b"x"])

    def test_the_patient_are_not_forgotten(self) -> None:
        """Nor are those whom an earlier turn had no time for."""
        members = [self.join() for _ in range(3)]
        for protocol, client in members:
            setattr(protocol, "patient", True)  # noqa: B010
            client.send(b"x")
        self.reactor.step = 2 * SLICE_SECONDS
        self.crowd.doRead()
        self.assertEqual(sum(len(protocol.heard) for protocol, _ in members), 1)
        self.crowd.glance()
        for _ in range(3):
            self.crowd.doRead()
        self.assertEqual([protocol.heard for protocol, _ in members], [[b"x"]] * 3)

    def test_not_within_itself(self) -> None:
        """While one member is heard no other is, nor the same one again."""
        members = [self.join() for _ in range(2)]
        depths: list[int] = []

        def hears(data: bytes) -> None:
            depths.append(len(depths))
            before = len(depths)
            self.crowd.glance()
            self.assertEqual(len(depths), before)

        for protocol, client in members:
            protocol.hears = hears
            client.send(b"x")
        self.turn()
        self.assertEqual([protocol.heard for protocol, _ in members], [[b"x"], [b"x"]])
        self.assertEqual(depths, [0, 1])


class EndTests(CrowdTestCase):
    """How a member leaves, and how all do."""

    def test_close_after_output(self) -> None:
        """Closing sends what was written before."""
        protocol, client = self.join()
        protocol.transport.write(b"last words")
        protocol.transport.loseConnection()
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
        """A client that left is noticed by reading, or by writing to it."""
        (first, near), (second, far) = self.join(), self.join()
        near.close()
        self.turn()
        self.turn()
        self.assertEqual(first.lost, [ConnectionLost])
        second.transport.pauseProducing()
        far.close()
        second.transport.write(b"anybody there?")
        self.turn()
        self.assertEqual(second.lost, [ConnectionLost])

    def test_abort(self) -> None:
        """Aborting drops what was not sent."""
        protocol, client = self.join()
        protocol.transport.write(b"never mind")
        protocol.transport.abortConnection()
        protocol.transport.write(b"ignored")
        self.turn()
        self.assertEqual((client.recv(99), protocol.lost), (b"", [ConnectionAborted]))

    def test_closed_by_another(self) -> None:
        """A member that was closed in a turn has no turn of its own any more."""
        members = [self.join() for _ in range(2)]
        for (protocol, _), (other, _) in zip(members, reversed(members), strict=True):
            protocol.hears = lambda data, other=other: other.transport.connectionLost(Failure(ConnectionLost()))
        for _, client in members:
            client.send(b"x")
        self.turn()
        self.assertEqual(sorted(len(protocol.heard) for protocol, _ in members), [0, 1])

    def test_bug(self) -> None:
        """An exception costs the one connection and is logged; the others do not notice."""

        def stumble(data: bytes) -> None:
            raise ZeroDivisionError

        (first, near), (second, far) = self.join(), self.join()
        first.hears = stumble
        near.send(b"x")
        far.send(b"y")
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((first.lost, far.recv(99), second.lost), ([ZeroDivisionError], b"y", []))

    def test_last_one_out(self) -> None:
        """Without members there is nothing for the reactor to watch; with the next one there is again."""
        protocol, _ = self.join()
        protocol.transport.loseConnection()
        self.turn()
        self.assertEqual((self.reactor.readers, self.crowd.fileno()), ([], -1))
        _, client = self.join()
        client.send(b"hello")
        self.turn()
        self.assertEqual((self.reactor.readers, client.recv(99)), ([self.crowd], b"hello"))

    def test_reactor_ends(self) -> None:
        """When the reactor stops, what was said is sent and every connection is told."""
        members = [self.join() for _ in range(2)]
        members[0][0].transport.write(b"goodbye")
        self.crowd.connectionLost(Failure(ConnectionLost()))
        self.assertEqual([protocol.lost for protocol, _ in members], [[ConnectionLost]] * 2)
        self.assertEqual(members[0][1].recv(99), b"goodbye")
        self.assertEqual(self.reactor.readers, [])


class PortTests(SynchronousTestCase):
    """Where a crowd can be."""

    def test_other_ports(self) -> None:
        """A port that is not of TCP, such as a simulated one, stays as it is."""

        class Port:
            transport = "as before"

        port = Port()
        Crowd(Reactor()).admit(port)  # type: ignore[arg-type]
        self.assertEqual(port.transport, "as before")

    def test_unix_sockets(self) -> None:
        """Nor does that of a Unix socket change, whose clients have no address that a connection of TCP would need."""
        port = unix.Port("s.sock", Factory(), reactor=Reactor())
        before = port.transport
        Crowd(Reactor()).admit(port)
        self.assertEqual(port.transport, before)

    def test_other_reactors(self) -> None:
        """A reactor that does not watch descriptors has no crowd."""
        self.assertFalse(possible(Clock()))
