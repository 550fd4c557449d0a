"""Tests of the listening ports: which are opened, and what happens if one cannot be."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txsentinel.config.generic import GenericOptions
from txsentinel.model.events import Level
from txsentinel.reactor.priority import PriorityReactor
from txsentinel.runtime.binding import CannotListen
from txsentinel.runtime.listeners import NO_LISTENERS, open_listeners

if TYPE_CHECKING:
    from txsentinel.interfaces import IHost
    from txsentinel.tls.activation import TlsSupport


class FakePort:
    """A port of the fake reactor."""

    def __init__(self, where: str, factory: ServerFactory) -> None:
        self.where = where
        self.factory = factory
        self.open = True

    def stopListening(self) -> None:
        """Close the port."""
        self.open = False


class ListeningReactor(Clock):
    """A reactor that records the ports; ``errors`` has those that cannot be opened."""

    def __init__(self, errors: dict[str, OSError] | None = None) -> None:
        super().__init__()
        self.ports: list[FakePort] = []
        self.modes: dict[str, int] = {}
        self.backlogs: set[int] = set()
        self._errors = errors or {}

    def listenTCP(self, port: int, factory: ServerFactory, backlog: int, interface: str) -> FakePort:
        """Open a port, or fail as ordered."""
        return self._listen(interface, port, f"{interface}:{port}", factory, backlog)

    def listenUNIX(self, path: str, factory: ServerFactory, backlog: int, mode: int) -> FakePort:
        """Open a socket, or fail as ordered."""
        self.modes[path] = mode
        return self._listen(path, path, path, factory, backlog)

    def adoptStreamPort(self, descriptor: int, family: int, factory: ServerFactory) -> FakePort:
        """Adopt a socket; like the real one, this duplicates the descriptor and requires that it does not block."""
        with socket.socket(fileno=os.dup(descriptor)) as adopted:
            assert not os.get_blocking(descriptor)
            self.ports.append(FakePort(f"adopted:{adopted.getsockname()[1]}", factory))
        return self.ports[-1]

    def open(self) -> list[str]:
        """Return the open ports."""
        return [port.where for port in self.ports if port.open]

    def _listen(self, host: str, port: object, where: str, factory: ServerFactory, backlog: int) -> FakePort:
        self.backlogs.add(backlog)
        if where in self._errors:
            raise CannotListenError(host, port, self._errors[where])
        self.ports.append(FakePort(where, factory))
        return self.ports[-1]


@implementer(IReactorFDSet)
class DescriptorReactor(ListeningReactor):
    """The same, as a reactor that polls descriptors."""

    def addReader(self, reader: object) -> None:
        """Ignore the descriptor."""

    removeReader = addWriter = removeWriter = addReader

    def removeAll(self) -> list[Any]:
        """Return no descriptors."""
        return []

    getReaders = getWriters = removeAll


class CountingPriorityReactor(PriorityReactor):
    """A priority reactor that records the functions that poll clients."""

    def __init__(self, reactor: ListeningReactor) -> None:
        super().__init__(reactor)
        self.polls: list[Callable[[], None]] = []

    def set_priority_poll(self, poll: Callable[[], None]) -> None:
        """Record the function."""
        self.polls.append(poll)


class ListeningHost:
    """A host with nothing but a reactor."""

    def __init__(self, reactor: object) -> None:
        self.reactor = reactor


class FakeTls:
    """TLS that wraps the factory of a port in another one."""

    def __init__(self) -> None:
        self.secured = ServerFactory()

    def listening(self, factory: ServerFactory) -> ServerFactory:
        """Return the wrapper."""
        return self.secured


class ListenerTests(SynchronousTestCase):
    """All ports of the configuration are opened, or none."""

    def setUp(self) -> None:
        self.factory, self.tls = ServerFactory(), FakeTls()
        self.notes: list[tuple[Level, str]] = []

    def listen(self, reactor: object, inherited: dict[str, list[int]] | None = None, **directives: Any) -> None:
        """Open the listeners of a configuration."""
        open_listeners(
            cast("IHost", ListeningHost(reactor)),
            self.factory,
            GenericOptions(**directives),
            cast("TlsSupport", self.tls),
            lambda level, text: self.notes.append((level, text)),
            inherited or {},
        )

    def refused(self, reactor: ListeningReactor, **directives: Any) -> str:
        """Try the same; return the error. No port may stay open."""
        refusal = self.assertRaises(CannotListen, self.listen, reactor, **directives)
        self.assertEqual(reactor.open(), [])
        return str(refusal)

    def test_every_port(self) -> None:
        """Plain ports at each address, then TLS ports with the wrapped factory, then the Unix socket."""
        reactor = ListeningReactor()
        path = self.mktemp()
        addresses = ["*", "127.0.0.1"]
        self.listen(reactor, bind=addresses, port=1, tls_port=2, unixsocket=path, unixsocketperm=0o700, tcp_backlog=99)
        where = ["0.0.0.0:1", "127.0.0.1:1", "0.0.0.0:2", "127.0.0.1:2", path]
        self.assertEqual(reactor.open(), where)
        plain, secured = self.factory, self.tls.secured
        self.assertEqual([port.factory for port in reactor.ports], [plain, plain, secured, secured, plain])
        self.assertEqual((reactor.modes, reactor.backlogs), ({path: 0o700}, {99}))

    def inherited(self, *, listening: bool = True) -> tuple[int, int]:
        """Return the descriptor of a socket that blocks, as one from the service manager does, and its port."""
        made = socket.socket()
        self.addCleanup(made.close)
        made.bind(("127.0.0.1", 0))
        if listening:
            made.listen()
        return os.dup(made.fileno()), made.getsockname()[1]

    def test_inherited_sockets(self) -> None:
        """Sockets of the service manager replace the ports of the same kind; others are not touched."""
        reactor = ListeningReactor()
        (plain, port), (tls, tls_port), (other, _) = (self.inherited() for _ in range(3))
        self.addCleanup(os.close, other)
        inherited = {"sentinel": [plain], "sentinel-tls": [tls], "http": [other]}
        self.listen(reactor, inherited, bind=["*"], port=port, tls_port=tls_port)
        self.assertEqual(reactor.open(), [f"adopted:{port}", f"adopted:{tls_port}"])
        self.assertEqual([each.factory for each in reactor.ports], [self.factory, self.tls.secured])
        self.assertEqual(len(self.notes), 2)
        for descriptor in (plain, tls):
            self.assertRaises(OSError, os.fstat, descriptor)
        os.fstat(other)

    def test_unusable_inherited_sockets(self) -> None:
        """No listening socket, another port than the announced one, or no socket at all: the start is refused."""
        reactor = ListeningReactor()
        connected, port = self.inherited(listening=False)
        for descriptors, announced, reason in (
            ([connected], port, "no listening stream socket"),
            ([self.inherited()[0]], 1, "has port"),
            ([os.open(os.devnull, os.O_RDONLY)], 1, "Socket operation on non-socket"),
        ):
            refusal = self.assertRaises(CannotListen, self.listen, reactor, {"sentinel": descriptors}, port=announced)
            self.assertIn(reason, str(refusal))
            self.assertEqual(reactor.open(), [])

    def test_no_port(self) -> None:
        """A Sentinel without any listener does not start."""
        self.assertEqual(self.refused(ListeningReactor(), port=0), NO_LISTENERS)

    def test_a_port_in_use(self) -> None:
        """The addresses that were bound before are released, and the reason is logged."""
        reactor = ListeningReactor({"127.0.0.2:1": OSError(errno.EADDRINUSE, "")})
        text = self.refused(reactor, bind=["127.0.0.1", "127.0.0.2"], port=1)
        self.assertEqual(text, "Failed listening on port 1 (TCP), aborting.")
        reason = f"bind: {os.strerror(errno.EADDRINUSE)}"
        line = f"Warning: Could not create server TCP listening socket 127.0.0.2:1: {reason}"
        self.assertEqual(self.notes, [(Level.WARNING, line)])

    def test_a_later_kind_of_port_fails(self) -> None:
        """A TLS port or a Unix socket that cannot be opened closes the plain ports, which would accept clients."""
        directives = {"bind": ["127.0.0.1"], "port": 1}
        reactor = ListeningReactor({"127.0.0.1:2": OSError(errno.EACCES, "")})
        text = self.refused(reactor, **directives, tls_port=2)
        self.assertEqual(text, "Failed listening on port 2 (TLS), aborting.")
        path = self.mktemp()
        reactor = ListeningReactor({path: OSError(errno.EACCES, "Permission denied")})
        text = self.refused(reactor, **directives, tls_port=2, unixsocket=path)
        self.assertEqual(text, "Failed opening Unix socket: bind: Permission denied")

    def test_optional_addresses(self) -> None:
        """An address with a minus is skipped if the machine does not have it, but not if the port is in use."""
        missing, used = OSError(errno.EADDRNOTAVAIL, ""), OSError(errno.EADDRINUSE, "")
        reactor = ListeningReactor({"192.0.2.1:1": missing})
        self.listen(reactor, bind=["-192.0.2.1", "127.0.0.1"], port=1)
        self.assertEqual(reactor.open(), ["127.0.0.1:1"])
        self.refused(ListeningReactor({"192.0.2.1:1": missing}), bind=["192.0.2.1", "127.0.0.1"], port=1)
        self.refused(ListeningReactor({"192.0.2.1:1": used}), bind=["-192.0.2.1", "127.0.0.1"], port=1)
        self.assertEqual(
            self.refused(ListeningReactor({"192.0.2.1:1": missing}), bind=["-192.0.2.1"], port=1), NO_LISTENERS
        )

    def test_both_families_at_once(self) -> None:
        """``::`` may be in use because the system gave it to the wildcard of IPv4; only then it is skipped."""
        used = {":::1": OSError(errno.EADDRINUSE, "")}
        reactor = ListeningReactor(used)
        self.listen(reactor, bind=["*", "-::*"], port=1)
        self.assertEqual(reactor.open(), ["0.0.0.0:1"])
        self.refused(ListeningReactor(used), bind=["-::*", "*"], port=1)

    def test_a_name_that_does_not_resolve(self) -> None:
        """The reason is the resolver's, whose numbers are no ``errno``."""
        error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.refused(ListeningReactor({"nowhere.invalid:1": error}), bind=["nowhere.invalid"], port=1)
        self.assertTrue(self.notes[0][1].endswith("nowhere.invalid:1: Name or service not known"), self.notes)

    def test_a_stale_socket_file(self) -> None:
        """The file of a Unix socket that an ended process left is removed; without a mode the umask determines it."""
        path = self.mktemp()
        with open(path, "wb"):
            self.addCleanup(os.umask, os.umask(0o027))
        reactor = ListeningReactor()
        self.listen(reactor, port=0, unixsocket=path)
        self.assertFalse(os.path.exists(path))
        self.assertEqual(reactor.modes, {path: 0o750})

    def test_clients_are_polled_with_priority(self) -> None:
        """A priority reactor polls the client connections, where a multiplexer is supported."""
        for inner, polls in ((DescriptorReactor(), 1), (ListeningReactor(), 0)):
            reactor = CountingPriorityReactor(inner)
            self.listen(reactor, bind=["127.0.0.1"], port=1)
            self.assertEqual((inner.open(), len(reactor.polls)), (["127.0.0.1:1"], polls))
            for poll in reactor.polls:
                poll()
