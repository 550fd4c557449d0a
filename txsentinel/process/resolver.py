"""
A resolver that uses the system's resolver in daemon threads.

The reactor's own resolver uses the reactor's thread pool, and the end of the process waits for these threads. A name
server that does not answer would delay the end by up to a minute, in which the Sentinel neither ends nor serves.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from threading import Thread
from typing import Final, Literal

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IResolutionReceiver,
)
from zope.interface import implementer

_KINDS: Final = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_CLASSES: Final[dict[int, type[IPv4Address] | type[IPv6Address]]] = {
    socket.AF_INET: IPv4Address,
    socket.AF_INET6: IPv6Address,
}


@implementer(IHostResolution)
class _Resolution:
    """One lookup in progress."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Refuse, because a lookup by the system cannot be cancelled."""
        raise NotImplementedError("a lookup by the system cannot be cancelled")


@implementer(IHostnameResolver)
class DaemonThreadResolver:
    """
    A resolver for ``installNameResolver``. The callers limit the number of concurrent lookups.

    :param reactor: the reactor whose thread gets the results.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See ``IHostnameResolver``. For an unknown name, or without a thread, the result has no addresses."""
        wanted: Literal["TCP", "UDP"] = "UDP" if transportSemantics == "UDP" else "TCP"
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def answer(found: Sequence[IAddress]) -> None:
            for address in found:
                if addressTypes is None or isinstance(address, tuple(addressTypes)):
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        def look_up() -> None:
            self._reactor.callFromThread(answer, addresses_of(hostName, portNumber, wanted))

        try:
            Thread(target=look_up, name=f"lookup of {hostName}", daemon=True).start()
        except RuntimeError:  # the system allows no more threads
            self._reactor.callFromThread(answer, [])
        return resolution


def addresses_of(name: str, port: int, semantics: Literal["TCP", "UDP"]) -> list[IAddress]:
    """Resolve a name, blocking; return its addresses, the best first, or an empty list."""
    try:
        found = socket.getaddrinfo(name, port, type=_KINDS[semantics])
    except (OSError, UnicodeError):
        return []
    return [
        _CLASSES[family](semantics, str(host), int(number))
        for family, _, _, _, (host, number, *_) in found
        if family in _CLASSES
    ]
