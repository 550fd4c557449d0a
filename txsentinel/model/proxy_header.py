"""The header of the PROXY protocol: version 2 is written, versions 1 and 2 are read."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first bytes of version 2."""

PREFIX: Final = b"PROXY "
"""The first bytes of version 1."""

MAX_LINE: Final = 107
"""Length in bytes of the longest line of version 1."""

MAX_HEADER: Final = 4096
"""Bytes after the first 16 of version 2; longer ones are refused. HAProxy sends at most a few hundred."""

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_STREAM: Final = {0x11: (4, IPv4Address), 0x21: (16, IPv6Address)}
"""Family and protocol → bytes of one address, and its class. Only TCP is listed."""


class BadProxyHeader(Exception):
    """The connection does not begin with a header of the PROXY protocol; ``str(error)`` has the reason."""


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """A literal IP address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """
    The two ends of the connection that a proxy has accepted.

    Both are ``None`` if the header names none, as in health checks and for other kinds of sockets.
    """

    source: SocketAddress | None = None
    destination: SocketAddress | None = None


def encoded(source: SocketAddress | None, destination: SocketAddress | None) -> bytes:
    """
    Return the header of version 2.

    If only one of the addresses is IPv4, it is written as an IPv4-mapped address.
    """
    if source is None or destination is None:
        return SIGNATURE + struct.pack("!BBH", _LOCAL, 0, 0)
    ends = ip_address(source.host), ip_address(destination.host)
    if all(isinstance(end, IPv4Address) for end in ends):
        family, packed = 0x11, [end.packed for end in ends]
    else:
        family, packed = 0x21, [_mapped(end) for end in ends]
    addresses = b"".join(packed) + struct.pack("!HH", source.port, destination.port)
    return SIGNATURE + struct.pack("!BBH", _PROXY, family, len(addresses)) + addresses


def _mapped(end: IPv4Address | IPv6Address) -> bytes:
    return end.packed if isinstance(end, IPv6Address) else bytes(10) + b"\xff\xff" + end.packed


def decode(data: bytes) -> tuple[ProxyHeader, bytes] | None:
    """
    Read the header at the beginning of a connection.

    :returns: the header and the bytes after it, or ``None`` if more bytes are needed.
    :raises BadProxyHeader: if there is none.
    """
    if data.startswith(SIGNATURE[: len(data)]):
        return _decode_binary(data)
    if data.startswith(PREFIX[: len(data)]):
        return _decode_line(data)
    raise BadProxyHeader("the first bytes are no header of the PROXY protocol")


def _decode_binary(data: bytes) -> tuple[ProxyHeader, bytes] | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack_from("!BBH", data, 12)
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader(f"version and command {command:#04x} of the PROXY protocol are unknown")
    if length > MAX_HEADER:
        raise BadProxyHeader(f"the header of the PROXY protocol has {length} bytes, more than {MAX_HEADER}")
    if len(data) < 16 + length:
        return None
    rest = data[16 + length :]
    if command == _LOCAL or family not in _STREAM:
        return ProxyHeader(), rest
    size, kind = _STREAM[family]
    if length < 2 * size + 4:
        raise BadProxyHeader(f"the header of the PROXY protocol has {length} bytes, too few for its addresses")
    source, destination = (kind(data[at : at + size]) for at in (16, 16 + size))
    ports = struct.unpack_from("!HH", data, 16 + 2 * size)
    if 0 in ports:
        raise BadProxyHeader("the header of the PROXY protocol has the port 0")
    return ProxyHeader(SocketAddress(str(source), ports[0]), SocketAddress(str(destination), ports[1])), rest


def _decode_line(data: bytes) -> tuple[ProxyHeader, bytes] | None:
    line, end, rest = data.partition(b"\r\n")
    if len(line) + 2 > MAX_LINE:
        raise BadProxyHeader(f"the line of the PROXY protocol is longer than {MAX_LINE} bytes")
    if not end:
        return None
    words = line.decode("ascii", "replace").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return ProxyHeader(), rest
    try:
        _, family, source, destination, source_port, destination_port = words
        kind = {"TCP4": IPv4Address, "TCP6": IPv6Address}[family]
        ends = [
            SocketAddress(str(kind(host)), _port(port))
            for host, port in ((source, source_port), (destination, destination_port))
        ]
    except (KeyError, ValueError):
        raise BadProxyHeader(f"the line of the PROXY protocol cannot be read: {line[:MAX_LINE]!r}") from None
    return ProxyHeader(*ends), rest


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(text)
    return int(text)
