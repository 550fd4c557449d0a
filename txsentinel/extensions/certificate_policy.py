"""How an HTTP client of an extension checks servers, and which certificate it presents; the files may be replaced."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from txsentinel.extensions.secret_file import SecretFile

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

_END = b"-----END CERTIFICATE-----"


def authorities(contents: bytes) -> Any:
    """
    Parse a file of certificates in PEM that servers may be signed by.

    :raises ValueError: if there is none, or one cannot be parsed.
    """
    parts = [part + _END for part in contents.split(_END)[:-1]]
    if not parts:
        raise ValueError("it contains no certificate in PEM")
    try:
        return trustRootFromCertificates([Certificate.loadPEM(part) for part in parts])
    except Exception as error:  # The exception depends on the release of the cryptographic library.
        raise ValueError(f"a certificate cannot be parsed: {type(error).__name__}") from None


def identity(contents: bytes) -> Any:
    """
    Parse a file with a certificate and its private key, both in PEM.

    :raises ValueError: if one of them is missing, or cannot be parsed.
    """
    for word in (b"CERTIFICATE-----", b"PRIVATE KEY-----"):
        if b"-----BEGIN " not in contents or word not in contents:
            raise ValueError("it must contain a certificate and its private key in PEM")
    try:
        return PrivateCertificate.loadPEM(contents)
    except Exception as error:  # The text of the exception may have a part of the file.
        raise ValueError(f"its certificate or key cannot be parsed: {type(error).__name__}") from None


@implementer(IPolicyForHTTPS)
class CertificatePolicy:
    """
    Accepts servers whose certificate names the host, and presents a certificate of the client.

    :param trusted: a file parsed by :func:`authorities`; ``None`` for the authorities of the system.
    :param own: a file parsed by :func:`identity`; ``None`` to present none.
    """

    def __init__(self, trusted: SecretFile[Any] | None = None, own: SecretFile[Any] | None = None) -> None:
        self._trusted = trusted
        self._own = own

    @classmethod
    def of_files(cls, trusted: str, own: str) -> CertificatePolicy:
        """
        Return the policy with the files at these paths, each empty for none.

        :raises ValueError: if a file cannot be used.
        """
        return cls(
            SecretFile(trusted, authorities) if trusted else None,
            SecretFile(own, identity) if own else None,
        )

    @property
    def files(self) -> list[SecretFile[Any]]:
        """The files, to be read again."""
        return [file for file in (self._trusted, self._own) if file is not None]

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """See ``IPolicyForHTTPS``."""
        return optionsForClientTLS(
            hostname.decode("ascii"),
            None if self._trusted is None else self._trusted.value,
            None if self._own is None else self._own.value,
        )
