"""
The system's resolver, in threads that nobody waits for.

The reactor's own looks names up in its pool of threads, which a process that ends waits for. A name server that
does not answer takes up to a minute of that, in which a Sentinel that was told to stop would neither end nor serve.
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
    """One lookup under way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """The system cannot be stopped in the middle of it."""
        raise NotImplementedError("a lookup by the system cannot be cancelled")


@implementer(IHostnameResolver)
class DaemonThreadResolver:
    """
    A resolver for ``installNameResolver``. How many lookups run at a time is up to those who ask.

    :param reactor: where answers are given.
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
        """See ``IHostnameResolver``: an unknown name, or no thread for it, is an answer without addresses."""
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
        except RuntimeError:  # as many threads as the system lets us have
            self._reactor.callFromThread(answer, [])
        return resolution


def addresses_of(name: str, port: int, semantics: Literal["TCP", "UDP"]) -> list[IAddress]:
    """What a name stands for, the best first, after however long that takes; nothing if it stands for nothing."""
    try:
        found = socket.getaddrinfo(name, port, type=_KINDS[semantics])
    except (OSError, UnicodeError):
        return []
    return [
        _CLASSES[family](semantics, str(host), int(number))
        for family, _, _, _, (host, number, *_) in found
        if family in _CLASSES
    ]
