"""Where an instance is: a name as it was given, an IP as it was resolved, a port."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address


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
    def resolved(self) -> bool:
        """Is there an IP to connect to?"""
        return bool(self.ip)


def canonical_ip(text: str) -> str | None:
    """
    The canonical spelling of a literal IPv4 or IPv6 address, or ``None`` if ``text`` is not one.

    An address with a scope (``fe80::1%eth0``) means something on one machine only, and behind its percent
    sign there may stand anything: to others it is no address.

    >>> canonical_ip("127.0.0.1"), canonical_ip("::0001"), canonical_ip("redis.example")
    ('127.0.0.1', '::1', None)
    """
    if "%" in text:
        return None
    try:
        return str(ip_address(text))
    except ValueError:
        return None
