"""
Messages to the primary of a zone, and what its answers mean.

A master has a name in the zone with an ``A`` or ``AAAA`` record, or a ``CNAME`` if its address is a host name. Below it
are ``_redis._tcp`` with an ``SRV`` record for the port, and ``_txsentinel`` with a ``TXT`` record for the config epoch.
The ``TXT`` record is the prerequisite of each update, so that of two updates at the same time one is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update

from txsentinel.extensions.dns.settings import DnsSettings, TsigKey
from txsentinel.model.snapshots import Endpoint

SERVICE: Final = "_redis._tcp"
EPOCH: Final = "_txsentinel"

_TEXT: Final = re.compile(r"txsentinel epoch=([0-9]{1,19}) address=(\S+)", re.ASCII)

TAKEN: Final = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)
"""The answers to an update whose prerequisite does not hold."""


class DnsFailed(Exception):
    """An answer of the server that does not do what was asked for; the text has the reason."""


@dataclass(frozen=True, slots=True)
class PublishedEpoch:
    """What the ``TXT`` record of a master states; ``text`` is the record as it is."""

    config_epoch: int
    address: str
    text: str


def record_text(address: Endpoint, config_epoch: int) -> str:
    """Return the text of the ``TXT`` record."""
    return f"txsentinel epoch={config_epoch} address={address}"


class MessageMaker:
    """Makes signed messages for one zone, and reads the answers."""

    def __init__(self, settings: DnsSettings) -> None:
        self._settings = settings
        self._zone = dns.name.from_text(settings.zone)

    def name(self, master: str, prefix: str = "") -> dns.name.Name:
        """
        Return the absolute name of a master, or of something below it.

        :raises ValueError: if it cannot have one.
        """
        relative = self._settings.relative_name(master)
        try:
            return dns.name.from_text(f"{prefix}.{relative}" if prefix else relative, self._zone)
        except dns.exception.DNSException as error:
            raise ValueError(f"the name of {master!a} is too long for a zone: {error}") from None

    def query(self, name: dns.name.Name, kind: str) -> dns.message.Message:
        """Return a question to the primary itself."""
        message = dns.message.make_query(name, kind, flags=0)
        self._sign(message)
        return message

    def update(
        self, master: str, address: Endpoint, config_epoch: int, before: PublishedEpoch | None
    ) -> dns.message.Message:
        """
        Return the update that replaces all records of a master.

        :param before: what the ``TXT`` record must be; ``None`` if there must be none.
        """
        name, service, epoch = (self.name(master, prefix) for prefix in ("", SERVICE, EPOCH))
        message = dns.update.UpdateMessage(self._zone)
        if before is None:
            message.absent(epoch, "TXT")
        else:
            message.present(epoch, "TXT", quoted(before.text))
        for kind in ("A", "AAAA", "CNAME"):
            message.delete(name, kind)
        message.delete(service, "SRV")
        message.delete(epoch, "TXT")
        ttl = self._settings.ttl
        kind, value, target = self._address(name, address)
        message.add(name, ttl, kind, value)
        message.add(service, ttl, "SRV", f"0 0 {address.port} {target}")
        message.add(epoch, ttl, "TXT", quoted(record_text(address, config_epoch)))
        self._sign(message)
        return message

    def expected(self, master: str, address: Endpoint) -> list[tuple[dns.name.Name, str, str]]:
        """Return name, type and value of the records that clients use."""
        name = self.name(master)
        kind, value, target = self._address(name, address)
        return [(name, kind, value), (self.name(master, SERVICE), "SRV", f"0 0 {address.port} {target}")]

    def read(self, query: dns.message.Message, wire: bytes) -> dns.message.Message:
        """
        Parse an answer and check its signature.

        :raises DnsFailed: if it is not the answer to ``query``, or not signed by our key.
        """
        try:
            answer = dns.message.from_wire(wire, keyring=query.keyring, request_mac=query.mac)
        except dns.exception.DNSException as error:
            raise DnsFailed(f"the answer is refused: {type(error).__name__}: {error}") from None
        if not query.is_response(answer):
            raise DnsFailed("the answer belongs to another question")
        if not answer.had_tsig:
            raise DnsFailed(f"the answer is not signed, its code is {dns.rcode.to_text(answer.rcode())}")
        return answer

    def _address(self, name: dns.name.Name, address: Endpoint) -> tuple[str, str, str]:
        """Return type and value of the record for an address, and the target of the ``SRV`` record."""
        if dns.inet.is_address(address.host):
            return ("AAAA" if ":" in address.host else "A"), address.host, str(name)
        host = str(dns.name.from_text(address.host))
        return "CNAME", host, host

    def _sign(self, message: dns.message.Message) -> None:
        key: TsigKey = self._settings.key.value
        message.use_tsig(dns.tsig.Key(key.name, key.secret, key.algorithm))


def quoted(text: str) -> str:
    """Return a text as the value of a ``TXT`` record."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def check(answer: dns.message.Message, *allowed: dns.rcode.Rcode) -> dns.rcode.Rcode:
    """
    Return the code of an answer.

    :raises DnsFailed: unless it is ``NOERROR`` or one of those allowed.
    """
    code = answer.rcode()
    if code != dns.rcode.NOERROR and code not in allowed:
        raise DnsFailed(f"the server answers {dns.rcode.to_text(code)}")
    return code


def values(answer: dns.message.Message, name: dns.name.Name, kind: str) -> list[str]:
    """
    Return the values of the records of one name and type.

    :raises DnsFailed: if the server is not responsible for the zone.
    """
    check(answer, dns.rcode.NXDOMAIN)
    if not answer.flags & dns.flags.AA:
        raise DnsFailed("the server is not responsible for the zone")
    found = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, dns.rdatatype.from_text(kind))
    return [] if found is None else [each.to_text() for each in found]


def published_epoch(texts: list[str]) -> PublishedEpoch | None:
    """
    Return what the values of the ``TXT`` record state; ``None`` if there is none.

    :raises DnsFailed: if another program has written there.
    """
    if not texts:
        return None
    text = texts[0][1:-1]
    match = _TEXT.fullmatch(text)
    if len(texts) > 1 or match is None:
        raise DnsFailed(f"the TXT record {EPOCH} is not one of ours; remove it to have the master published")
    return PublishedEpoch(int(match[1]), match[2], text)
