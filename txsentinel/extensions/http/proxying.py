"""
The PROXY protocol of trusted proxies, versions 1 and 2: the address of a client that a proxy connects for.

A connection from a trusted address must begin with such a header. One from any other address never has one: what looks
like a header there is malformed HTTP, so no client can choose the address that it appears to come from. Headers of
HTTP, such as ``X-Forwarded-For``, are not evaluated at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, IReactorTime, ITransport
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from txsentinel.extensions.http.limits import HEAD_TIMEOUT_SECONDS, MAX_CONNECTIONS
from txsentinel.model.proxy_header import BadProxyHeader, decode

Network: TypeAlias = "IPv4Network | IPv6Network"


def trusted_network(text: str) -> Network:
    """
    Parse the address of a proxy, or a network such as ``10.0.0.0/8``.

    :raises ValueError: if it is neither.
    """
    return ip_network(text, strict=False)


def is_trusted(host: str, networks: Iterable[Network]) -> bool:
    """Whether a connection from this address comes from a trusted proxy."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def parse_header(data: bytes) -> tuple[IAddress | None, bytes] | None:
    """
    Return the address of the client and what follows the header; ``None`` for the address if the proxy names none.

    :returns: ``None`` if more data is needed.
    :raises BadProxyHeader: if it is no header.
    """
    found = decode(data)
    if found is None:
        return None
    header, rest = found
    if header.source is None:
        return None, rest
    family = IPv6Address if ":" in header.source.host else IPv4Address
    return family("TCP", header.source.host, header.source.port), rest


class ProxiedConnection(ProtocolWrapper):
    """A connection of a proxy: the protocol in it begins once the header has arrived."""

    factory: ProxyFactory
    _client: IAddress | None = None
    _header: bytes | None = b""
    """What has arrived of the header; ``None`` once it is complete."""

    _deadline: IDelayedCall | None = None

    def __init__(self, factory: ProxyFactory, address: IAddress) -> None:
        super().__init__(factory, Protocol())  # type: ignore[arg-type]
        self._address = address

    def makeConnection(self, transport: ITransport) -> None:
        """Wait for the header, for a limited time."""
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self._deadline = self.factory.reactor.callLater(HEAD_TIMEOUT_SECONDS, self._expire)

    def dataReceived(self, data: bytes) -> None:
        """Read the header, then pass data on."""
        if self._header is None:
            self.wrappedProtocol.dataReceived(data)
            return
        self._header += data
        try:
            found = parse_header(self._header)
        except BadProxyHeader:
            self.abortConnection()
            return
        if found is None:
            return
        self._client, rest = found
        self._header = None
        self._end_deadline()
        protocol = self.factory.wrappedFactory.buildProtocol(self.getPeer())
        if protocol is None:
            self.abortConnection()
            return
        self.wrappedProtocol = protocol
        protocol.makeConnection(self)
        if rest:
            protocol.dataReceived(rest)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """End the wait, or the protocol."""
        self._end_deadline()
        if self._header is None:
            super().connectionLost(reason)
        else:
            self.factory.unregisterProtocol(self)

    def getPeer(self) -> IAddress:
        """Return the address of the client; that of the proxy if it names none, as for its own health checks."""
        return self._client or self._address

    def abortConnection(self) -> None:
        """Close at once."""
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]

    @property
    def is_waiting(self) -> bool:
        """Whether the header is not complete."""
        return self._header is not None

    def _expire(self) -> None:
        self._deadline = None
        self.abortConnection()

    def _end_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()


class ProxyFactory(WrappingFactory):
    """Expects a header on connections from trusted addresses, and passes others on as they are."""

    noisy = False

    def __init__(self, reactor: IReactorTime, wrapped: IProtocolFactory, trusted: Iterable[Network]) -> None:
        super().__init__(wrapped)
        self.reactor = reactor
        self._trusted = tuple(trusted)

    def buildProtocol(self, addr: IAddress) -> Protocol | None:  # type: ignore[override]
        """Accept a connection, unless too many trusted ones have not sent a header."""
        if not is_trusted(str(getattr(addr, "host", "")), self._trusted):
            return self.wrappedFactory.buildProtocol(addr)  # type: ignore[no-any-return]
        if sum(each.is_waiting for each in self.protocols) >= MAX_CONNECTIONS:
            return None
        return ProxiedConnection(self, addr)
