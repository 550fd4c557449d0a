"""Tests of the PROXY protocol: the bytes, and Twisted's own reader as the other side."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.proxy_header import (
    MAX_HEADER,
    SIGNATURE,
    BadProxyHeader,
    ProxyHeader,
    SocketAddress,
    decode,
    encoded,
)

FOUR = SocketAddress("192.0.2.1", 50000), SocketAddress("198.51.100.7", 6379)
SIX = SocketAddress("2001:db8::1", 50000), SocketAddress("2001:db8::2", 6379)


class EncodingTests(SynchronousTestCase):
    """What is sent."""

    def test_bytes(self) -> None:
        """The header of two IPv4 addresses is that of the specification."""
        self.assertEqual(encoded(*FOUR).hex(), "0d0a0d0a000d0a515549540a2111000cc0000201c6336407c35018eb")

    def test_twisted_reads_it(self) -> None:
        """The reader of Twisted gets the same addresses."""
        info = V2Parser.parse(encoded(*FOUR))
        self.assertEqual(info.source, IPv4Address("TCP", FOUR[0].host, FOUR[0].port))
        info = V2Parser.parse(encoded(*SIX))
        destination: Any = info.destination
        self.assertIsInstance(destination, IPv6Address)
        self.assertEqual((ip_address(destination.host), destination.port), (ip_address(SIX[1].host), SIX[1].port))

    def test_mixed_families(self) -> None:
        """An IPv4 address beside an IPv6 address is mapped."""
        found = decode(encoded(FOUR[0], SIX[1]))
        assert found is not None
        self.assertEqual(found[0].source, SocketAddress("::ffff:c000:201", 50000))

    def test_no_address(self) -> None:
        """A connection over another kind of socket has a header without addresses."""
        self.assertEqual(decode(encoded(None, FOUR[1]) + b"x"), (ProxyHeader(), b"x"))


class DecodingTests(SynchronousTestCase):
    """What is read."""

    def test_every_split(self) -> None:
        """A header may arrive in pieces, of both versions."""
        line = b"PROXY TCP4 192.0.2.1 198.51.100.7 50000 6379\r\n"
        self.assertEqual(V1Parser.parse(line[:-2]).source, IPv4Address("TCP", FOUR[0].host, 50000))
        for header in (encoded(*FOUR), encoded(*SIX), line):
            for end in range(1, len(header)):
                self.assertIsNone(decode(header[:end]))
            found = decode(header + b"rest")
            assert found is not None
            self.assertEqual(found[1], b"rest")
            self.assertIn((found[0].source, found[0].destination), (FOUR, SIX))

    def test_further_fields(self) -> None:
        """Fields after the addresses are skipped."""
        header = encoded(*FOUR)
        header = header[:14] + (12 + 5).to_bytes(2, "big") + header[16:] + b"\x04\x00\x02ab"
        self.assertEqual(decode(header + b"x"), (ProxyHeader(*FOUR), b"x"))

    def test_unknown_families(self) -> None:
        """Other kinds of sockets have no addresses."""
        header = SIGNATURE + b"\x21\x31" + (216).to_bytes(2, "big") + bytes(216)
        self.assertEqual(decode(header), (ProxyHeader(), b""))
        self.assertEqual(decode(b"PROXY UNKNOWN\r\nx"), (ProxyHeader(), b"x"))

    def test_bad_headers(self) -> None:
        """The reason names what is wrong."""
        for data, reason in (
            (b"*1\r\n$4\r\nPING\r\n", "no header"),
            (SIGNATURE + b"\x31\x11\x00\x0c", "version and command 0x31"),
            (SIGNATURE + b"\x21\x11" + (MAX_HEADER + 1).to_bytes(2, "big"), "more than"),
            (SIGNATURE + b"\x21\x11\x00\x04abcd", "too few"),
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 50000 99999\r\n", "cannot be read"),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", "cannot be read"),
            (b"PROXY TCP4 " + b"1" * 100, "longer than"),
        ):
            self.assertIn(reason, str(self.assertRaises(BadProxyHeader, decode, data)))
