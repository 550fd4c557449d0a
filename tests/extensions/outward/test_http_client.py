"""Tests of ``txsentinel.extensions.http_client``."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.extensions.http_client import MAX_REPLY_BYTES, TIMEOUT, HttpReply, ReplyTooLong, RequestClient


class ClientTests(SynchronousTestCase):
    """One request."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.answered = RequestClient(self.reactor).request("GET", "http://127.0.0.1:8080/hook?a=b", {"x-one": "1"})

    def connect(self) -> tuple[Any, StringTransport]:
        """Accept the connection."""
        protocol: Any = self.reactor.tcpClients[0][2].buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_request(self) -> None:
        """Method, path and headers are sent, over a connection that is not kept."""
        _, transport = self.connect()
        head = transport.value()
        self.assertTrue(head.startswith(b"GET /hook?a=b HTTP/1.1\r\n"))
        for line in (b"X-One: 1", b"Host: 127.0.0.1:8080", b"Connection: close"):
            self.assertIn(line.lower(), head.lower())

    def test_reply(self) -> None:
        """The reply has the status, headers with names in lower case, and the body; redirections are not followed."""
        for status, body in ((200, b"fine"), (302, b""), (503, b"later")):
            self.setUp()
            protocol, transport = self.connect()
            head = [
                f"HTTP/1.1 {status} X",
                "Retry-After: 7",
                "Location: http://a.example",
                f"Content-Length: {len(body)}",
            ]
            protocol.dataReceived("\r\n".join([*head, "", ""]).encode() + body)
            reply: HttpReply = self.successResultOf(self.answered)
            self.assertEqual((reply.status, reply.headers["retry-after"], reply.body), (status, "7", body))
            self.assertEqual(len(self.reactor.tcpClients), 1)
            self.assertTrue(transport.disconnecting)

    def test_timeout(self) -> None:
        """Without a reply in time the error states the time, with or without a connection."""
        self.reactor.advance(TIMEOUT)
        self.assertEqual(str(self.failureResultOf(self.answered, TimeoutError).value), "no reply within 5 seconds")
        self.setUp()
        protocol, _ = self.connect()
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody")
        self.reactor.advance(TIMEOUT)
        self.assertEqual(str(self.failureResultOf(self.answered, TimeoutError).value), "no reply within 5 seconds")

    def test_lost_connection(self) -> None:
        """The error is that of the connection."""
        protocol, _ = self.connect()
        protocol.connectionLost(Failure(ConnectionLost("gone")))
        self.assertIn("gone", str(self.failureResultOf(self.answered, ConnectionLost).value))

    def test_too_long(self) -> None:
        """A reply that is too long is not kept."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + bytes(MAX_REPLY_BYTES + 1))
        self.failureResultOf(self.answered, ReplyTooLong)
        self.assertTrue(transport.disconnecting)
