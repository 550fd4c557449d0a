"""Tests of the resolver in daemon threads."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txsentinel.process.resolver import DaemonThreadResolver


class Loop:
    """A reactor that makes calls from threads when the test demands it."""

    def __init__(self) -> None:
        self._given: list[Callable[[], None]] = []
        self._some = threading.Semaphore(0)

    def callFromThread(self, function: Callable[..., None], *arguments: object) -> None:
        """Queue the call."""
        self._given.append(lambda: function(*arguments))
        self._some.release()

    def turn(self) -> None:
        """Wait for a call and make it."""
        assert self._some.acquire(timeout=30)
        self._given.pop(0)()


@implementer(IResolutionReceiver)
class Receiver:
    """Records a resolution."""

    def __init__(self) -> None:
        self.resolution: IHostResolution | None = None
        self.addresses: list[IAddress] = []
        self.complete = False

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Record the beginning."""
        self.resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        """Record an address."""
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        """Record the end."""
        self.complete = True


class ResolverTests(SynchronousTestCase):
    """Tests of results."""

    def setUp(self) -> None:
        self.loop, self.receiver = Loop(), Receiver()
        self.resolver = DaemonThreadResolver(self.loop)  # type: ignore[arg-type]
        self.known: list[tuple[object, ...]] = []
        self.asked: list[tuple[object, ...]] = []
        self.patch(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, name: str, port: int, type: int) -> list[tuple[object, ...]]:
        """Replace the system's resolver by one that knows one name."""
        self.asked.append((name, port, type, threading.current_thread().daemon))
        if name != "db.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.known

    def test_addresses(self) -> None:
        """The reactor's thread gets all addresses in the system's order."""
        self.known = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 7, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 7)),
            (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("/nowhere", 7)),
        ]
        verifyObject(IHostnameResolver, self.resolver)
        resolution = self.resolver.resolveHostName(self.receiver, "db.example", 7)
        verifyObject(IHostResolution, resolution)
        self.assertIs(self.receiver.resolution, resolution)
        self.assertEqual((resolution.name, self.receiver.complete), ("db.example", False))
        self.loop.turn()
        self.assertEqual(self.receiver.addresses, [IPv6Address("TCP", "::1", 7), IPv4Address("TCP", "10.0.0.1", 7)])
        self.assertTrue(self.receiver.complete)
        self.assertEqual(self.asked, [("db.example", 7, socket.SOCK_STREAM, True)])

    def test_one_family(self) -> None:
        """A request for one family gets no other."""
        self.known = [
            (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("10.0.0.1", 0)),
        ]
        self.resolver.resolveHostName(self.receiver, "db.example", 0, [IPv4Address], "UDP")
        self.loop.turn()
        self.assertEqual(self.receiver.addresses, [IPv4Address("UDP", "10.0.0.1", 0)])

    def test_unknown(self) -> None:
        """An unknown name gives a result without addresses."""
        self.resolver.resolveHostName(self.receiver, "nobody.example")
        self.loop.turn()
        self.assertEqual((self.receiver.addresses, self.receiver.complete), ([], True))

    def test_no_thread(self) -> None:
        """Without a thread the result has no addresses; no exception is raised."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(threading.Thread, "start", refuse)
        self.resolver.resolveHostName(self.receiver, "db.example")
        self.assertFalse(self.receiver.complete)
        self.loop.turn()
        self.assertEqual((self.receiver.addresses, self.receiver.complete), ([], True))

    def test_exit_during_lookup(self) -> None:
        """A process with a running reactor can end during a lookup."""
        script = """
            import socket, threading
            asked = threading.Event()
            def silent(*arguments, **options):
                asked.set()
                threading.Event().wait()
            socket.getaddrinfo = silent
            from twisted.internet import reactor
            from tests.process.test_resolver import Receiver
            from txsentinel.process.resolver import DaemonThreadResolver
            reactor.installNameResolver(DaemonThreadResolver(reactor))
            reactor.callWhenRunning(reactor.nameResolver.resolveHostName, Receiver(), "db.example")
            threading.Thread(target=lambda: (asked.wait(), reactor.callFromThread(reactor.stop))).start()
            reactor.run()
            print("ended")
        """
        words = [sys.executable, "-c", textwrap.dedent(script)]
        self.assertEqual(subprocess.run(words, capture_output=True, timeout=60).stdout, b"ended\n")
