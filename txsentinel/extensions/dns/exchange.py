"""Sends one message to a server over TCP, and receives one."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

TIMEOUT: Final = 5.0
"""Seconds for the connection and the answer."""


class ExchangeProtocol(Int16StringReceiver):
    """
    One message in each direction, then the end of the connection.

    :param answered: fires with the answer, or fails when the connection ends without one.
    """

    def __init__(self, message: bytes, answered: Deferred[bytes]) -> None:
        self._message = message
        self._answered: Deferred[bytes] | None = answered

    def connectionMade(self) -> None:
        """Send the message."""
        self.sendString(self._message)  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        """Receive the answer."""
        answered, self._answered = self._answered, None
        transport: Any = self.transport
        transport.loseConnection()
        if answered is not None:
            answered.callback(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report that there will be no answer."""
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.errback(reason)


def exchange(reactor: Any, host: str, port: int, message: bytes) -> Deferred[bytes]:
    """
    Send a message.

    :returns: fires with the answer; fails if there is none in time. Cancelling it closes the connection.
    """

    def connect() -> Deferred[Any]:
        endpoint = HostnameEndpoint(reactor, host.encode(), port, timeout=TIMEOUT)
        connected: Deferred[Any] = connectProtocol(endpoint, ExchangeProtocol(message, answered))
        return connected

    def cancel(_: Deferred[bytes]) -> None:
        connecting.addCallback(lambda protocol: protocol.transport.abortConnection())
        connecting.addErrback(lambda _: None)
        connecting.cancel()

    answered: Deferred[bytes] = Deferred(cancel)
    connecting = connect()
    connecting.addErrback(_not_connected, answered)
    answered.addTimeout(TIMEOUT, reactor)
    return answered


def _not_connected(failure: Failure, answered: Deferred[bytes]) -> None:
    if not answered.called:
        answered.errback(failure)
