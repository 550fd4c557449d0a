"""The names in a client's certificate by which ``tls-auth-clients-user`` finds its ACL user."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from OpenSSL.crypto import X509


def names_in(certificate: X509, kind: str) -> list[str]:
    """
    Return the names of one kind in a verified certificate; an empty list if the certificate cannot be parsed.

    :param kind: ``CN`` for the common name of the subject, ``URI`` for the URIs of subjectAltName.
    """
    from cryptography import x509

    try:
        shown = certificate.to_cryptography()
        if kind.upper() == "CN":
            attributes = shown.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            return [str(attribute.value) for attribute in attributes]
        other = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return []
    return list(other.value.get_values_for_type(x509.UniformResourceIdentifier))
