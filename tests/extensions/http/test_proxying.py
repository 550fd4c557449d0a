"""The PROXY protocol: who may send it, and what it decides."""

from __future__ import annotations

import struct

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.http.harness import AbortableTransport, HttpHarness, Reply, parse_reply
from tests.extensions.http.test_security import basic
from txsentinel.extensions.http import proxying
from txsentinel.extensions.http.limits import HEAD_TIMEOUT_SECONDS
from txsentinel.extensions.http.proxying import (
    ProxyFactory,
    is_trusted,
    parse_header,
    trusted_network,
)
from txsentinel.model.proxy_header import SIGNATURE, BadProxyHeader

CLIENT = IPv4Address("TCP", "203.0.113.7", 40_000)
CLIENT6 = IPv6Address("TCP", "2001:db8::7", 40_000)
LINE = b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 8026\r\n"


def binary(command: int = 0x21, family: int = 0x11, addresses: bytes | None = None, more: bytes = b"") -> bytes:
    """Return a header of version 2, by default of the client."""
    if addresses is None:
        addresses = struct.pack("!4s4sHH", bytes([203, 0, 113, 7]), bytes([10, 0, 0, 1]), 40_000, 8026)
    body = addresses + more
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


BINARY6 = binary(family=0x21, addresses=bytes.fromhex("20010db8" + "0" * 22 + "07" + "0" * 32) + b"\x9c\x40\x1f\x5a")


class HeaderTests(SynchronousTestCase):
    """Headers of both versions."""

    def test_headers(self) -> None:
        """The address of the client is found, also without an address, and what follows is kept; torn ones wait."""
        for header, address in (
            (LINE, CLIENT),
            (b"PROXY TCP6 2001:db8::7 ::1 40000 8026\r\n", CLIENT6),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
            (binary(), CLIENT),
            (binary(more=b"\x04\0\x01x"), CLIENT),
            (BINARY6, CLIENT6),
            (binary(0x20, 0, b""), None),
            (binary(0x21, 0x31, b"x" * 216), None),
        ):
            self.assertEqual(parse_header(header + b"GET /"), (address, b"GET /"), header)
            for size in range(len(header)):
                self.assertIsNone(parse_header(header[:size]), header[:size])

    def test_malformed(self) -> None:
        """What is no header is refused, as soon as that is certain."""
        for data in (
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 0 8026\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 70000 8026\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 40000 8026\r\n",
            b"PROXY TCP4 localhost 10.0.0.1 40000 8026\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4\xb2 8026\r\n",
            b"PROXY TCP4 " + b"1" * 107,
            binary(0x22),
            binary(addresses=b"short"),
            binary(0x21, 0x11, b"x" * 5_000),
            b"PROXY  \r\n",
        ):
            self.assertRaises(BadProxyHeader, parse_header, data)

    def test_trusted(self) -> None:
        """Addresses and networks, of IPv4 also in the notation of IPv6."""
        networks = [trusted_network(each) for each in ("10.0.0.5", "192.168.0.0/16", "2001:db8::/32")]
        for host in ("10.0.0.5", "192.168.3.4", "2001:db8::1", "::ffff:10.0.0.5"):
            self.assertTrue(is_trusted(host, networks), host)
        for host in ("10.0.0.6", "2001:db9::1", "::ffff:10.0.0.6", "", "unix", "localhost"):
            self.assertFalse(is_trusted(host, networks), host)
        self.assertRaises(ValueError, trusted_network, "proxy.example")


class ServerTests(SynchronousTestCase):
    """A server that trusts 10.0.0.5."""

    def setUp(self) -> None:
        """Require a login, so that addresses are recorded."""
        self.server = HttpHarness()
        self.server.operator.passwords = {"default": "x", "alice": "secret"}
        networks = [trusted_network("10.0.0.5")]
        self.factory = ProxyFactory(self.server.clock, self.server.application.factory, networks)

    def connect(self, host: str) -> AbortableTransport:
        """Connect from an address."""
        address: IAddress = IPv4Address("TCP", host, 50_000)
        transport = AbortableTransport(peerAddress=address)
        protocol = self.factory.buildProtocol(address)
        assert protocol is not None
        protocol.makeConnection(transport)
        transport.protocol = protocol
        return transport

    def send(self, transport: AbortableTransport, data: bytes) -> Reply | None:
        """Send data, and return the response, if there is one."""
        transport.protocol.dataReceived(data)
        self.server.advance(0.1)
        received = transport.value()
        transport.clear()
        return parse_reply(received)[0] if received else None

    def request(self, *headers: str, password: str = "secret") -> bytes:
        """Return a request with a login."""
        lines = ["GET /v1/masters HTTP/1.1", "Host: 127.0.0.1", f"Authorization: {basic('alice', password)}", *headers]
        return "\r\n".join([*lines, "", ""]).encode()

    def origins(self) -> list[str]:
        """Return the addresses that logins came from."""
        return [origin for _, origin in self.server.operator.attempts]

    def test_trusted(self) -> None:
        """The address in the header counts, for all requests of the connection."""
        for header in (LINE, binary()):
            transport = self.connect("10.0.0.5")
            self.assertIsNone(self.send(transport, header[:9]))
            reply = self.send(transport, header[9:] + self.request())
            assert reply is not None
            self.assertEqual(reply.status, 200)
            self.send(transport, self.request())
        self.assertEqual(self.origins(), ["203.0.113.7"] * 4)

    def test_spoofed(self) -> None:
        """A header from any other address is malformed HTTP, and the headers of HTTP change nothing."""
        for header in (LINE, binary()):
            transport = self.connect("10.0.0.6")
            reply = self.send(transport, header + self.request())
            assert reply is not None
            self.assertEqual((reply.status, reply.code), (400, "malformed_request"))
            self.assertTrue(transport.disconnecting)
        forwarded = ("X-Forwarded-For: 10.0.0.1", "X-Forwarded-User: alice", "Forwarded: for=10.0.0.1")
        self.send(self.connect("10.0.0.6"), self.request(*forwarded))
        self.send(self.connect("10.0.0.5"), LINE + self.request(*forwarded))
        # A second header in a connection of the proxy is the client's own.
        transport = self.connect("10.0.0.5")
        reply = self.send(transport, LINE + b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 8026\r\n" + self.request())
        assert reply is not None
        self.assertEqual(reply.status, 400)
        self.assertEqual(self.origins(), ["10.0.0.6", "203.0.113.7"])

    def test_failures_by_client(self) -> None:
        """Too many failed logins block the client, not the proxy with all its other clients."""
        for _ in range(10):
            reply = self.send(self.connect("10.0.0.5"), LINE + self.request(password="guess"))
            assert reply is not None
            self.assertEqual(reply.status, 401)
        reply = self.send(self.connect("10.0.0.5"), LINE + self.request())
        assert reply is not None
        self.assertEqual(reply.status, 429)
        reply = self.send(self.connect("10.0.0.5"), LINE.replace(b".7", b".8") + self.request())
        assert reply is not None
        self.assertEqual(reply.status, 200)

    def test_own_checks(self) -> None:
        """For its own checks a proxy names no client: they come from its address."""
        for header in (b"PROXY UNKNOWN\r\n", binary(0x20, 0, b"")):
            self.send(self.connect("10.0.0.5"), header + self.request())
        self.assertEqual(self.origins(), ["10.0.0.5"] * 2)

    def test_without_header(self) -> None:
        """A trusted proxy that sends no header is disconnected: its clients would have its address."""
        transport = self.connect("10.0.0.5")
        self.assertIsNone(self.send(transport, self.request()))
        self.assertTrue(transport.aborted)
        silent = self.connect("10.0.0.5")
        self.server.advance(HEAD_TIMEOUT_SECONDS)
        self.assertTrue(silent.aborted)
        for each in (transport, silent):
            each.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.factory.protocols, self.server.clock.getDelayedCalls()), ({}, []))

    def test_closed(self) -> None:
        """A connection that ends leaves nothing, before its header and after it."""
        for data in (b"", LINE[:9], LINE, LINE + self.request()):
            transport = self.connect("10.0.0.5")
            if data:
                self.send(transport, data)
            transport.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.factory.protocols, self.server.clock.getDelayedCalls()), ({}, []))

    def test_too_many(self) -> None:
        """The connections without a header are limited; those of other addresses are not affected."""
        self.patch(proxying, "MAX_CONNECTIONS", 2)
        for _ in range(2):
            self.connect("10.0.0.5")
        self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "10.0.0.5", 1)))
        self.assertIsNotNone(self.factory.buildProtocol(IPv4Address("TCP", "10.0.0.6", 1)))
