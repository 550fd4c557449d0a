"""Addresses as operators write them."""

from __future__ import annotations

from typing import Final

from txsentinel.model.snapshots import Endpoint

SENTINEL_PORT: Final = 26379
"""The port of a Sentinel whose address has none."""


class BadAddress(Exception):
    """A text is no address; the text of the exception names it."""


def parse_endpoint(words: str, default_port: int = SENTINEL_PORT) -> Endpoint:
    """
    Parse ``host``, ``host:port``, ``[ipv6]:port`` or a bare IPv6 address.

    :raises BadAddress: if it is none of these.
    """
    host, separator, port = words.rpartition(":")
    if words.startswith("["):
        inner, bracket, rest = words[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadAddress(f"{words!r} is no address: expected [IPv6]:port")
        host, separator, port = inner, rest[:1], rest[1:]
    elif not separator or words.count(":") > 1:
        host, separator, port = words, "", ""
    if not host or any(letter.isspace() for letter in host):
        raise BadAddress(f"{words!r} is no address: the host is missing or has spaces")
    if not separator:
        return Endpoint(host, default_port)
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise BadAddress(f"{words!r} is no address: the port must be a number from 1 to 65535")
    return Endpoint(host, int(port))


def parse_endpoints(words: str, default_port: int = SENTINEL_PORT) -> tuple[Endpoint, ...]:
    """
    Parse addresses that are separated by commas; each is returned once.

    :raises BadAddress: if one is no address, or if there is none.
    """
    found = dict.fromkeys(parse_endpoint(each.strip(), default_port) for each in words.split(",") if each.strip())
    if not found:
        raise BadAddress("no address is given")
    return tuple(found)
