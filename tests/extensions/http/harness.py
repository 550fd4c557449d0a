"""The HTTP server over a fake Sentinel and connections in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.extensions.fixture import START_MS, FakeOperator, FakeView, three_masters
from txsentinel.extensions.http.service import HttpApplication
from txsentinel.extensions.http.settings import HttpSettings

NOW_SECONDS = START_MS / 1000 + 60
"""The wall clock at the beginning of a test: a minute after the start of the Sentinel."""


class AbortableTransport(StringTransport):
    """A transport that records whether it was closed at once."""

    aborted = False
    protocol: Any = None
    """The protocol of the connection, if a test sets it."""

    def abortConnection(self) -> None:
        """Close at once."""
        self.aborted = self.disconnected = self.disconnecting = True


@dataclass
class Reply:
    """One response. Header names are in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the problem in the body."""
        return str(self.document["code"])


def parse_reply(data: bytes, head_only: bool = False) -> tuple[Reply, bytes]:
    """Return the first response in the data, and what follows it."""
    head, _, rest = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("ascii").split("\r\n")
    reply = Reply(int(status_line.split()[1]))
    for line in lines:
        name, _, value = line.partition(": ")
        reply.headers[name.lower()] = value
    if head_only or reply.status in (204, 304):
        return reply, rest
    if reply.headers.get("transfer-encoding") == "chunked":
        while True:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size or b"0", 16)
            reply.body += rest[:length]
            rest = rest[length + 2 :]
            if length == 0:
                return reply, rest
    length = int(reply.headers.get("content-length", len(rest)))
    reply.body = rest[:length]
    return reply, rest[length:]


class Connection:
    """A connection of a client."""

    def __init__(self, server: HttpHarness, address: IAddress) -> None:
        self._server = server
        self.transport = AbortableTransport(peerAddress=address)
        protocol = server.application.factory.buildProtocol(address)
        assert protocol is not None
        self.protocol: Protocol = protocol
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Send bytes, and have all work done that is due at once."""
        self.protocol.dataReceived(data)
        self._server.run_due_calls()

    def take(self) -> bytes:
        """Return what was received since the last call."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def request(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", version: str = "1.1"
    ) -> None:
        """Send a request. A ``Host`` is added; a header with the value ``-`` is left out."""
        lines = {"Host": "127.0.0.1:8026", **(headers or {})}
        if body or method in ("POST", "PUT", "PATCH"):
            lines = {"Content-Length": str(len(body)), "Content-Type": "application/json", **lines}
        head = [f"{method} {target} HTTP/{version}"]
        head += [f"{name}: {value}" for name, value in lines.items() if value != "-"]
        self.send("\r\n".join([*head, "", ""]).encode("latin-1") + body)

    def reply(self, head_only: bool = False) -> Reply:
        """Return the response that was received; nothing may follow it."""
        reply, rest = parse_reply(self.take(), head_only)
        assert rest == b"", rest
        return reply

    @property
    def producer(self) -> Any:
        """What the transport pauses and resumes."""
        return self.transport.producer

    def close(self) -> None:
        """Close from the side of the client."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        return bool(self.transport.disconnecting or self.transport.disconnected)


class HttpHarness:
    """A server with a fake clock, view and operator."""

    def __init__(self, view: FakeView | None = None, settings: HttpSettings | None = None) -> None:
        self.clock = Clock()
        self.view = view or three_masters()
        self.operator = FakeOperator()
        self.application = HttpApplication(
            self.clock, self.view, self.operator, settings or HttpSettings(), lambda: NOW_SECONDS + self.clock.seconds()
        )
        self.application.events.start()

    def connect(self, host: str = "127.0.0.1") -> Connection:
        """Connect a client."""
        return Connection(self, IPv4Address("TCP", host, 50_000))

    def run_due_calls(self) -> None:
        """Do all work that is due at once."""
        while any(each.getTime() <= self.clock.seconds() for each in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.run_due_calls()

    def ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        host: str = "127.0.0.1",
        version: str = "1.1",
    ) -> Reply:
        """Send one request over a connection of its own and return the response."""
        connection = self.connect(host)
        connection.request(method, target, headers, body, version)
        if not connection.transport.value():
            self.advance(0.1)  # A failed login is answered late.
        reply = connection.reply(method in ("HEAD", "OPTIONS"))
        connection.close()
        return reply

    def get(self, target: str, **headers: str) -> Reply:
        """Send a GET request; underscores in names of headers stand for hyphens."""
        return self.ask("GET", target, {name.replace("_", "-"): value for name, value in headers.items()})
