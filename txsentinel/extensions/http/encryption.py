"""TLS of endpoints that ask clients for a certificate, or that are behind a proxy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.ssl import Certificate, CertificateOptions, DiffieHellmanParameters, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----\n.+?\n-----END CERTIFICATE-----", re.DOTALL)

KNOWN: Final = frozenset(["port", "interface", "backlog", "privateKey", "certKey", "extraCertChain", "dhParameters"])
"""The parameters of an endpoint; ``sslmethod`` of Twisted is not among them."""


def encrypted(options: Mapping[str, str], client_ca: str, wrapped: IProtocolFactory) -> IProtocolFactory:
    """
    Return a factory whose connections use TLS.

    :param options: the parameters of an ``ssl:`` endpoint of Twisted.
    :param client_ca: the path of the authorities for the certificates of clients, which need none; empty to ask for no
        certificate.
    :raises ValueError: if a parameter is unknown, or a file is wrong.
    """
    unknown = options.keys() - KNOWN
    if unknown:
        raise ValueError(f"unknown parameter {', '.join(sorted(unknown))} of an ssl: endpoint")
    key = options.get("privateKey", "server.pem")
    own = PrivateCertificate.loadPEM(_read(options.get("certKey", key)) + "\n" + _read(key))
    chain = certificates(options["extraCertChain"]) if "extraCertChain" in options else []
    parameters = options.get("dhParameters")
    context = CertificateOptions(
        privateKey=own.privateKey.original,
        certificate=own.original,
        extraCertChain=[each.original for each in chain],
        dhParameters=None if parameters is None else DiffieHellmanParameters(_read(parameters)),
        verify=bool(client_ca),
        requireCertificate=False,
        caCerts=[each.original for each in certificates(client_ca)] if client_ca else None,
    )
    return TLSMemoryBIOFactory(context, False, wrapped)


def certificates(path: str) -> list[Certificate]:
    """
    Return the certificates in a file in PEM format.

    :raises ValueError: if there is none.
    """
    found = [Certificate.loadPEM(each) for each in _CERTIFICATE.findall(_read(path))]
    if not found:
        raise ValueError(f"{path} has no certificate in PEM format")
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
