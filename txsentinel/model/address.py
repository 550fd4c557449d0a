"""Where an instance is: a name as it was given, an IP as it was resolved, a port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final


@dataclass(frozen=True, slots=True)
class Address:
    """
    An address as Sentinels compare and print it.

    ``hostname`` is the text as configured or heard; ``ip`` is the literal address it stands for, or
    empty while a name is unresolved; ``port`` is 0..65535.
    """

    hostname: str
    ip: str
    port: int

    @classmethod
    def literal(cls, ip: str, port: int) -> Address:
        """An address that is known by its IP alone."""
        return cls(ip, ip, port)

    def announced(self, by_hostname: bool) -> str:
        """The host as it is printed, written and sent: the name with ``announce-hostnames yes``, else the IP."""
        return self.hostname if by_hostname else self.ip

    def joined(self, by_hostname: bool = False) -> str:
        """``host:port``, an IPv6 host in brackets: the name of a replica."""
        host = self.announced(by_hostname)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def same(self, other: Address) -> bool:
        """
        Do both name one endpoint? Same port, and the same IP or the same name in any letter case.

        Two *unresolved* names never count as equal, whereas the C Sentinels take them for one.
        """
        if self.port != other.port:
            return False
        if self.ip and self.ip == other.ip:
            return True
        return bool(self.hostname) and self.hostname.casefold() == other.hostname.casefold()

    @property
    def places(self) -> list[tuple[str, str, int]]:
        """What tells whether two addresses are the :meth:`same`: they have one of these in common."""
        places = [("ip", self.ip, self.port)] if self.ip else []
        if self.hostname:
            places.append(("name", self.hostname.casefold(), self.port))
        return places

    @property
    def resolved(self) -> bool:
        """Is there an IP to connect to?"""
        return bool(self.ip)


MAX_HOST: Final = 255
"""Characters of the longest host name that DNS has, and far more than those of any IP address."""

UNSPECIFIED: Final = frozenset(("0.0.0.0", "::", "::ffff:0.0.0.0"))
"""Addresses that mean "any of my own", to each host another machine: nobody can be announced there."""

HOST_NAME: Final = re.compile("[^\\x00-\\x20,\\x7f-\\xa0]{1,255}")
"""What may be looked up. Blanks, control characters and commas would tear events, hellos and files apart."""


def canonical_ip(text: str) -> str | None:
    """
    The canonical spelling of a literal IPv4 or IPv6 address, or ``None`` if ``text`` is not one.

    It is that of the C library, which the other Sentinels print and compare: IPv4 addresses may come in
    fewer parts, and an IPv6 address that holds one ends in it. An address with a scope (``fe80::1%eth0``)
    means something on one machine only, and behind its percent sign there may stand anything: to others
    it is no address.

    >>> canonical_ip("127.1"), canonical_ip("::0001"), canonical_ip("redis.example")
    ('127.0.0.1', '::1', None)
    """
    return None if len(text) > MAX_ADDRESS else _canonical_ip(text)


MAX_ADDRESS: Final = 64
"""Characters of the longest text that may be an IP address; a longer one is none, and is not remembered."""


@lru_cache(maxsize=4096)
def _canonical_ip(text: str) -> str | None:
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return _from_parts(text)
    if isinstance(address, IPv6Address):
        number = int(address)
        if number >> 32 == _MAPPED:
            return f"::ffff:{_dotted(number)}"
        if number >> 32 == 0 and number >> 16:
            return f"::{_dotted(number)}"
    return str(address)


_MAPPED: Final = 0xFFFF
"""What stands above the IPv4 address in an IPv6 address that means just that."""

_PART: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+", re.ASCII)


def _dotted(number: int) -> str:
    """The lower 32 bits as an IPv4 address."""
    return ".".join(str(number >> shift & 0xFF) for shift in (24, 16, 8, 0))


def _from_parts(text: str) -> str | None:
    """An IPv4 address of one to four parts, decimal, octal or hexadecimal; the last one fills what is left."""
    words = text.split(".")
    if len(words) > 4 or len(text) > 64 or not all(_PART.fullmatch(word) for word in words):
        return None
    try:
        parts = [int(word, 16 if word[:2] in ("0x", "0X") else 8 if word[0] == "0" else 10) for word in words]
    except ValueError:
        return None
    *leading, last = parts
    if any(part > 0xFF for part in leading) or last >> 8 * (4 - len(leading)):
        return None
    return _dotted(sum(part << 24 - 8 * place for place, part in enumerate(leading)) + last)
