"""
A minimal Twisted server: the cost of Twisted's own reactor and transports.

``python -m benchmarks.bare PORT`` answers every request with the same address, without parsing it. It is the bound for
any server of clients on Twisted's usual transports.
"""

from __future__ import annotations

import sys
from typing import Final

from twisted.internet import reactor
from twisted.internet.protocol import Protocol, ServerFactory

ANSWER: Final = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"


class Answering(Protocol):
    """One connection. Requests are counted by their first byte, which occurs nowhere else in those of a benchmark."""

    def connectionMade(self) -> None:
        """Set the options of a server of small replies."""
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Answer each request."""
        self.transport.write(ANSWER * data.count(b"*"))  # type: ignore[union-attr]


class AnsweringFactory(ServerFactory):
    """Makes these connections."""

    noisy = False
    protocol = Answering


def main() -> None:
    """Serve until killed."""
    factory = AnsweringFactory()
    reactor.listenTCP(int(sys.argv[1]), factory, backlog=511, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
