"""The HTTP protocol of ``twisted.web`` with limits on time, size and the number of connections."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.client import responses
from io import BytesIO
from socket import SO_PEERCRED, SOL_SOCKET
from typing import Final, Protocol

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from twisted.web import http

from txsentinel.extensions.http.limits import (
    BODY_TIMEOUT_SECONDS,
    CLOSE_TIMEOUT_SECONDS,
    HEAD_TIMEOUT_SECONDS,
    IDLE_TIMEOUT_SECONDS,
    MAX_BODY_BYTES,
    MAX_CONNECTIONS,
)
from txsentinel.extensions.http.portions import PortionProducer, portion
from txsentinel.extensions.http.problem import Problem
from txsentinel.extensions.http.responses import SECURITY_HEADERS, ApiResponse

_CREDENTIALS: Final = struct.Struct("3i")
"""``struct ucred`` of Linux: process, user and group."""


class IRequestHandler(Protocol):
    """Answers requests that were received completely."""

    def handle(self, request: HttpRequest) -> None:
        """Answer a request; it must not fail."""


class HttpRequest(http.Request):
    """One request and its response. It is given to the handler of the factory once it is complete."""

    channel: HttpChannel
    content: BytesIO
    _refused = False
    _received = 0

    def __init__(self, channel: http.HTTPChannel, queued: object = False) -> None:
        super().__init__(channel, False)

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory; its length is limited."""
        self.content = BytesIO()

    def parseCookies(self) -> None:
        """Ignore cookies: nothing here uses them."""

    def handleContentChunk(self, data: bytes) -> None:
        """Take a part of the body, unless it is too long."""
        if self._refused:
            return
        self._received += len(data)
        if self._received > MAX_BODY_BYTES:
            self.channel.refuse(self, BODY_TOO_LARGE)
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Take the request, now that it is complete. The method of Twisted also parses forms."""
        if self._refused:
            return
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.args = {}
        self.process()

    def refuse(self) -> None:
        """Ignore what else arrives: the request is answered by an error before it is complete."""
        self._refused = True

    def process(self) -> None:
        """Have it answered."""
        self.channel.factory.handler.handle(self)

    @property
    def is_connected(self) -> bool:
        """Whether the client can still receive a response."""
        return not self._disconnected

    @property
    def origin(self) -> str:
        """The IP address of the client; ``unix`` for a client of a Unix socket."""
        return str(getattr(self.client, "host", "unix"))

    def peer_uid(self) -> int | None:
        """Return the user of the operating system at the other end of a Unix socket; ``None`` for other sockets."""
        if hasattr(self.client, "host"):
            return None
        socket = getattr(self.transport, "socket", None)
        if socket is None:
            return None
        return int(_CREDENTIALS.unpack(socket.getsockopt(SOL_SOCKET, SO_PEERCRED, _CREDENTIALS.size))[1])

    def certificate(self) -> object:
        """Return the certificate of the client, which TLS has verified; ``None`` if it has sent none."""
        found = getattr(self.channel.transport, "getPeerCertificate", None)
        return None if found is None or not self.isSecure() else found()

    def abort(self) -> None:
        """Close the connection at once, with the response incomplete."""
        if self.is_connected:
            self.channel.abort()

    def start_response(self, response: ApiResponse) -> None:
        """Set status and headers; those of every response first."""
        self.setResponseCode(response.status, responses[response.status].encode())
        for name, value in SECURITY_HEADERS:
            self.responseHeaders.setRawHeaders(name, [value])
        self.responseHeaders.setRawHeaders("Date", [formatdate(self.channel.factory.wall_clock(), usegmt=True)])
        if response.status not in (204, 304):
            self.responseHeaders.setRawHeaders("Content-Type", [response.content_type])
        for name, value in response.headers:
            self.responseHeaders.setRawHeaders(name, [value])

    def respond(self, response: ApiResponse) -> None:
        """Send a response. It has a ``Content-Length`` unless it takes longer than one portion."""
        if not self.is_connected:
            return
        clock = self.channel.factory.reactor
        parts: Iterator[bytes] = iter(()) if isinstance(response.body, bytes) else response.body
        if self.method == b"OPTIONS":
            data, last = b"", True
        elif isinstance(response.body, bytes):
            data, last = response.body, True
        else:
            data, last = portion(parts, clock)
        self.start_response(response)
        if last:
            if response.status not in (204, 304):
                self.responseHeaders.setRawHeaders("Content-Length", [str(len(data))])
            self.write(data)
            self.finish()
            return
        self.write(data)
        if self.method == b"HEAD":
            self.finish()
        else:
            PortionProducer(self, parts, clock).start()


class HttpChannel(http.HTTPChannel):
    """A connection. Head and body of a request must be complete within a time that data does not extend."""

    factory: HttpFactory
    requestFactory: Callable[..., http.Request] = HttpRequest  # type: ignore[assignment]
    _deadline: IDelayedCall | None = None
    _serving = False

    @property
    def is_serving(self) -> bool:
        """Whether a request is being answered."""
        return self._serving

    @property
    def is_idle(self) -> bool:
        """Whether no request is received or answered."""
        return self._deadline is None and not self._serving

    def connectionMade(self) -> None:
        """Register the connection."""
        super().connectionMade()
        self.factory.connections.append(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the connection."""
        self._end_deadline()
        if self in self.factory.connections:
            self.factory.connections.remove(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Limit the time for the head of a request from its first byte on."""
        if self.is_idle:
            self._start_deadline(HEAD_TIMEOUT_SECONDS)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        """Limit the time for the body, and refuse a body that is announced as too long."""
        self._end_deadline()
        request = self.requests[-1]
        if self.length is not None and self.length > MAX_BODY_BYTES:
            self.refuse(request, BODY_TOO_LARGE)
            return
        super().allHeadersReceived()
        if self.length != 0:
            self._start_deadline(BODY_TIMEOUT_SECONDS)

    def allContentReceived(self) -> None:
        """Serve a request. No time limits its answer."""
        self._end_deadline()
        self._serving = True
        super().allContentReceived()

    def requestDone(self, request: http.Request) -> None:
        """Wait for the next request."""
        self._serving = False
        self.factory.used(self)
        super().requestDone(request)

    def timeoutConnection(self) -> None:
        """Close an idle connection without a line in the log, which clients could fill with such lines."""
        self.loseConnection()
        self._end_deadline()
        self._start_deadline(CLOSE_TIMEOUT_SECONDS)

    def refuse(self, request: HttpRequest, problem: Problem) -> None:
        """Answer a request by an error before it is complete, and close the connection."""
        request.refuse()
        self._close_with(problem)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Answer a request line or a header that is too long; Twisted closes the connection without an answer."""
        self._end_deadline()
        self._close_with(HEAD_TOO_LARGE)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Answer what is no HTTP; Twisted's own answer has no body and no headers."""
        self._close_with(MALFORMED)

    def _close_with(self, problem: Problem) -> None:
        response = problem.response()
        assert isinstance(response.body, bytes)
        head = [f"HTTP/1.1 {response.status} {responses[response.status]}"]
        headers = dict([*SECURITY_HEADERS, *response.headers])
        headers |= {
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
            "Connection": "close",
        }
        head += [f"{name}: {value}" for name, value in headers.items()]
        self.write("\r\n".join([*head, "", ""]).encode() + response.body)
        self.loseConnection()

    def abort(self) -> None:
        """Close the connection at once."""
        # Every transport of a stream has this method, though ITransport does not.
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _start_deadline(self, seconds: float) -> None:
        self._deadline = self.factory.reactor.callLater(seconds, self._expire)

    def _end_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _expire(self) -> None:
        self._deadline = None
        self.abort()


class _Rejected(TwistedProtocol):
    """A connection that is one too many."""

    def connectionMade(self) -> None:
        """Answer without a request, and close."""
        assert self.transport is not None
        self.transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nX-Txsentinel-Reason: too_many_connections\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        self.transport.loseConnection()


class HttpFactory(http.HTTPFactory):
    """
    Makes the connections of one or more ports.

    ``connections`` are the open ones; the first has been without a request for the longest time.
    """

    noisy = False
    # The class in its place negotiates HTTP/2, too, which is not offered here.
    protocol = HttpChannel  # type: ignore[assignment]

    def __init__(self, reactor: IReactorTime, handler: IRequestHandler, wall_clock: Callable[[], float]) -> None:
        super().__init__(timeout=IDLE_TIMEOUT_SECONDS, reactor=reactor)
        self.handler = handler
        self.wall_clock = wall_clock
        self.connections: list[HttpChannel] = []

    def startFactory(self) -> None:
        """Keep no access log."""

    def stopFactory(self) -> None:
        """Keep no access log."""

    def used(self, channel: HttpChannel) -> None:
        """Note that a connection was used just now."""
        if channel in self.connections:
            self.connections.remove(channel)
            self.connections.append(channel)

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol | None:  # type: ignore[override]
        """
        Accept a connection. If there are too many, close an idle one, or else one whose request is not complete: what
        keeps sending heads slowly must not lock out health checks. If all requests are being answered, reject it.
        """
        if len(self.connections) >= MAX_CONNECTIONS:
            unserved = [each for each in self.connections if not each.is_serving]
            if not unserved:
                return _Rejected()
            closed = next((each for each in unserved if each.is_idle), unserved[0])
            self.connections.remove(closed)
            closed.abort()
        return super().buildProtocol(addr)

    def close_connections(self) -> None:
        """Close all connections, once what was written has been sent."""
        for channel in list(self.connections):
            channel.loseConnection()


BODY_TOO_LARGE: Final = Problem(413, "body_too_large", f"the body is longer than {MAX_BODY_BYTES} bytes")
"""The answer to a body that is too long."""

HEAD_TOO_LARGE: Final = Problem(
    431, "head_too_large", f"a line of the head is longer than {HttpChannel.MAX_LENGTH} bytes"
)
"""The answer to a request line or a header that is too long."""

MALFORMED: Final = Problem(400, "malformed_request", "the request is not valid HTTP/1.1")
"""The answer to what cannot be parsed."""
