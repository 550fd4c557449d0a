"""
The process of the proxies: a listening port for each process, at the address that it announces.

All processes connect from addresses of their own (``bind-source-addr``), so the proxies know both ends of each
connection, and can treat each pair of processes, and each direction between them, separately.

A closed port refuses all callers, those behind a cut route too, which in a real network would receive nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IConnector, IListeningPort
from twisted.internet.protocol import ClientFactory, ServerFactory
from twisted.python.failure import Failure

from tests.outside.control import Reactor, serve
from tests.outside.relay import Relay, Side
from tests.outside.routes import Condition, Route, Routes

CONNECT_SECONDS = 5.0

PROBE_SECONDS = 0.005
"""Seconds between two attempts to connect to a process that does not accept connections yet."""


def parse_routes(text: str) -> list[Route]:
    """
    Parse routes written as ``from>to``, separated by blanks.

    :raises ValueError: if one is invalid.
    """
    routes = []
    for word in text.split():
        source, sign, destination = word.partition(">")
        if not (source and sign and destination):
            raise ValueError(f"not a way: {word!r}")
        routes.append((source, destination))
    return routes


class ProxyListener(ServerFactory):
    """The listening port of one process."""

    noisy = False

    def __init__(self, network: ProxyNetwork, host: str, port: int) -> None:
        self._network = network
        self._host = host
        self._port = port

    def buildProtocol(self, address: IAddress | None) -> Side:
        caller: str = address.host  # type: ignore[union-attr]
        return self._network.relay(caller, self._host, self._port).caller


class ListenProbe(ClientFactory):
    """A connection that is closed at once: whether a process accepts connections."""

    noisy = False

    def __init__(self, accepted: Callable[[], None], refused: Callable[[], None]) -> None:
        self._accepted = accepted
        self._refused = refused

    def buildProtocol(self, address: IAddress | None) -> None:
        # Without a protocol the connection is closed.
        self._accepted()

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._refused()


class ProxyNetwork:
    """All connections, and the impairments of their routes."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._routes = Routes(self._changed)
        self._relays: set[Relay] = set()
        self._ports: dict[str, int] = {}
        self._listeners: dict[str, IListeningPort] = {}
        self._closing: dict[str, Deferred[object]] = {}
        self._closed_by: dict[str, str] = {}

    def open_listener(self, host: str, port: int) -> None:
        """
        Accept connections to ``host:port`` and continue them to that port of 127.0.0.1.

        There is one listener per host.
        """
        self._ports[host] = port
        self._listeners[host] = self._reactor.listenTCP(port, ProxyListener(self, host, port), interface=host)

    def relay(self, caller: str, callee: str, port: int) -> Relay:
        """Return a new connection from ``caller``, not yet continued."""

        def connect(source: str, factory: ClientFactory) -> IConnector:
            return self._reactor.connectTCP("127.0.0.1", port, factory, CONNECT_SECONDS, (source, 0))

        relay = Relay(self._reactor, self._routes, caller, callee, connect, self._relays.discard)
        self._relays.add(relay)
        return relay

    def handle(self, words: list[str]) -> str:
        """
        Execute ``CUT name routes``, ``SLOW name seconds routes``, ``REFUSE name routes``, ``REJECT name error routes``,
        ``CLOSE name host``, ``LIFT name``, ``HEAL``, ``RESET routes``, ``DISCONNECT host`` or ``COUNT``.

        ``routes`` is one word, as in :func:`parse_routes`. ``CLOSE`` refuses new connections to a host until it is
        lifted and the process there accepts connections; ``DISCONNECT`` resets the connections to a host.

        :returns: the number of connections, or for RESET and DISCONNECT, of those that were reset.
        :raises ValueError: for anything else.
        """
        verb, *rest = words
        if verb == "CUT" and len(rest) == 2:
            self._routes.impose(rest[0], parse_routes(rest[1]), Condition(cut=True))
        elif verb == "SLOW" and len(rest) == 3:
            self._routes.impose(rest[0], parse_routes(rest[2]), Condition(delay=float(rest[1])))
        elif verb == "REFUSE" and len(rest) == 2:
            self._routes.impose(rest[0], parse_routes(rest[1]), Condition(refused=True))
        elif verb == "REJECT" and len(rest) == 3 and rest[1]:
            self._routes.impose(rest[0], parse_routes(rest[2]), Condition(error=rest[1]))
        elif verb == "CLOSE" and len(rest) == 2 and rest[1] in self._ports:
            self._close(*rest)
        elif verb == "LIFT" and len(rest) == 1:
            self._routes.lift(rest[0])
            self._reopen(rest)
        elif verb == "HEAL" and not rest:
            self._routes.lift_all()
            self._reopen(list(self._closed_by))
        elif verb == "RESET" and len(rest) == 1:
            pairs = {frozenset(route) for route in parse_routes(rest[0])}
            return str(self._reset(relay for relay in self._relays if frozenset(relay.addresses) in pairs))
        elif verb == "DISCONNECT" and len(rest) == 1:
            return str(self._reset(relay for relay in self._relays if relay.addresses[1] == rest[0]))
        elif verb != "COUNT" or rest:
            raise ValueError(f"cannot {' '.join(words)}")
        return str(len(self._relays))

    def _close(self, name: str, host: str) -> None:
        self._closed_by[name] = host
        listener = self._listeners.pop(host, None)
        if listener is not None:
            self._closing[host] = maybeDeferred(listener.stopListening)

    def _reopen(self, names: Sequence[str]) -> None:
        for host in {self._closed_by.pop(name): None for name in names if name in self._closed_by}:
            if host not in self._closed_by.values() and host in self._closing:
                # The socket is closed in a later turn, and until then its address is in use.
                self._closing.pop(host).addCallback(self._probe, host)

    def _probe(self, result: object, host: str) -> None:
        """Open the port of ``host`` again once its process accepts connections, unless it is to be closed again."""
        if host in self._closed_by.values():
            self._closing[host] = succeed(None)
        else:
            probe = ListenProbe(lambda: self._open_again(host), lambda: self._probe_again(host))
            self._reactor.connectTCP("127.0.0.1", self._ports[host], probe, CONNECT_SECONDS)

    def _open_again(self, host: str) -> None:
        if host in self._closed_by.values():
            self._closing[host] = succeed(None)
        else:
            self.open_listener(host, self._ports[host])

    def _probe_again(self, host: str) -> None:
        self._reactor.callLater(PROBE_SECONDS, self._probe, None, host)

    def _reset(self, relays: Iterable[Relay]) -> int:
        chosen = list(relays)
        for relay in chosen:
            relay.reset()
        return len(chosen)

    def _changed(self) -> None:
        for relay in list(self._relays):
            relay.conditions_changed()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.outside.proxies", description=__doc__.split("\n\n")[0])
    parser.add_argument("--port", type=int, required=True, help="control port")
    parser.add_argument("--listen", action="append", default=[], metavar="HOST:PORT", help="leads to that port here")
    options = parser.parse_args(arguments)
    reactor = cast(Reactor, installed_reactor)
    network = ProxyNetwork(reactor)
    for listener in options.listen:
        host, _, port = listener.rpartition(":")
        network.open_listener(host, int(port))
    serve(reactor, options.port, network.handle)


if __name__ == "__main__":
    main()
