"""Addresses of instances: the host as it was given, its resolved IP address, and the port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Final


@dataclass(frozen=True, slots=True)
class Address:
    """
    An address as Sentinels compare and print it.

    ``hostname`` is the text as configured or received; ``ip`` is the literal address that it resolves to, empty while
    a name is unresolved; ``port`` is 0..65535.
    """

    hostname: str
    ip: str
    port: int

    @classmethod
    def literal(cls, ip: str, port: int) -> Address:
        """Make an address from an IP without a host name."""
        return cls(ip, ip, port)

    def announced(self, by_hostname: bool) -> str:
        """Return the host as it is printed, saved and sent: the name with ``announce-hostnames yes``, else the IP."""
        return self.hostname if by_hostname else self.ip

    def joined(self, by_hostname: bool = False) -> str:
        """Return ``host:port`` with an IPv6 host in brackets; this is also the name of a replica."""
        host = self.announced(by_hostname)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def same(self, other: Address) -> bool:
        """
        Whether both addresses name one endpoint: same port, and same IP or same name regardless of case.

        Two *different* names that are unresolved are never equal, whereas C Sentinels consider them equal.
        """
        if self.port != other.port:
            return False
        if self.ip and self.ip == other.ip:
            return True
        return bool(self.hostname) and self.hostname.casefold() == other.hostname.casefold()

    @property
    def match_keys(self) -> list[tuple[str, str, int]]:
        """Hashable keys for :meth:`same`: two addresses are the same if they have one of these keys in common."""
        keys = [("ip", self.ip, self.port)] if self.ip else []
        if self.hostname:
            keys.append(("name", self.hostname.casefold(), self.port))
        return keys

    @property
    def resolved(self) -> bool:
        """Whether there is an IP to connect to."""
        return bool(self.ip)


MAX_HOST: Final = 255
"""Length in characters of the longest host name that DNS allows; no IP address is as long."""

UNSPECIFIED: Final = frozenset(("0.0.0.0", "::", "::ffff:0.0.0.0"))
"""Addresses that mean "any address of this machine"; an instance cannot be announced with one of them."""

HOST_NAME: Final = re.compile("[^\\x00-\\x20,\\x7f-\\xa0]{1,255}")
"""Host names that are resolved. Whitespace, control characters and commas would corrupt events, hellos and files."""


def canonical_ip(text: str) -> str | None:
    """
    Return the canonical spelling of a literal IPv4 or IPv6 address, or ``None`` if ``text`` is not one.

    The spelling is that of the C library, which C Sentinels print and compare: IPv4 addresses may have fewer than
    four parts, and an IPv6 address that embeds an IPv4 address ends in dotted notation. Addresses with a scope
    (``fe80::1%eth0``) are refused: they are valid on one machine only, and any text may follow the percent sign.

    >>> canonical_ip("127.1"), canonical_ip("::0001"), canonical_ip("redis.example")
    ('127.0.0.1', '::1', None)
    """
    if _DOTTED.fullmatch(text) is not None:
        # Nearly all are such addresses, and there may be more of them than entries in a cache.
        return text
    return None if len(text) > MAX_ADDRESS else _canonical_ip(text)


_DOTTED: Final = re.compile(
    r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}"
)
"""IPv4 addresses in the canonical spelling."""

MAX_ADDRESS: Final = 64
"""Length in characters of the longest text that is tried as an IP address; longer texts are not cached."""


@lru_cache(maxsize=4096)
def _canonical_ip(text: str) -> str | None:
    if ":" not in text:
        return _from_parts(text)
    try:
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None


_PART: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+", re.ASCII)


def _dotted(number: int) -> str:
    """Return the lower 32 bits in dotted IPv4 notation."""
    return ".".join(str(number >> shift & 0xFF) for shift in (24, 16, 8, 0))


def _from_parts(text: str) -> str | None:
    """
    Parse an IPv4 address of one to four parts, each decimal, octal or hexadecimal.

    The last part fills the remaining bytes, as with ``inet_aton``.
    """
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
