"""Makes the OpenSSL contexts for servers and clients from the ``tls-*`` directives."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from txsentinel.config.disk import check_regular, read_file
from txsentinel.config.generic import GenericOptions
from txsentinel.tls.errors import BadTls

NO_CERTIFICATE: Final = "No tls-cert-file configured!"
NO_KEY: Final = "No tls-key-file configured!"
NO_AUTHORITY: Final = (
    "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or"
    " tls-auth-clients are enabled!"
)
BAD_PROTOCOLS: Final = (
    "Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', 'TLSv1.2' and 'TLSv1.3'."
)

PROTOCOLS: Final = {
    "tlsv1": SSL.OP_NO_TLSv1,
    "tlsv1.1": SSL.OP_NO_TLSv1_1,
    "tlsv1.2": SSL.OP_NO_TLSv1_2,
    "tlsv1.3": SSL.OP_NO_TLSv1_3,
}
"""The words of ``tls-protocols`` in lower case → the option that forbids the protocol."""

DEFAULT_PROTOCOLS: Final = ("tlsv1.2", "tlsv1.3")

REQUIRED: Final = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT

VERIFICATION: Final = {"yes": REQUIRED, "optional": SSL.VERIFY_PEER, "no": SSL.VERIFY_NONE}
"""The words of ``tls-auth-clients``."""

SESSION_ID: Final = b"redis"
"""The session ID context. OpenSSL requires one if clients have certificates."""


_HASHED: Final = re.compile(r"[0-9a-f]{8}\.r?[0-9]+", re.ASCII)
"""The names that ``openssl rehash`` gives to certificates and revocation lists."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The absolute paths of a certificate and its key, and the password of the key, which may be empty."""

    certificate: str
    key: str
    password: str


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts for new connections; existing ones keep theirs."""

    server: SSL.Context
    client: SSL.Context


def load_contexts(options: GenericOptions) -> Contexts:
    """
    Read all files and check that they match. It may be called in any thread.

    :raises BadTls: with the line for the log.
    """
    _check(options)
    protocols = _protocols(options.tls_protocols)
    serving, connecting = identities(options)
    return Contexts(
        server=_server_context(options, protocols, serving),
        client=_base(options, protocols, connecting),
    )


def identities(options: GenericOptions) -> tuple[Identity, Identity]:
    """Return the identities for clients and for links; they are equal unless both ``tls-client-*`` files are set."""
    serving = Identity(
        options.located(options.tls_cert_file), options.located(options.tls_key_file), options.tls_key_file_pass
    )
    if not (options.tls_client_cert_file and options.tls_client_key_file):
        return serving, serving
    return serving, Identity(
        options.located(options.tls_client_cert_file),
        options.located(options.tls_client_key_file),
        options.tls_client_key_file_pass,
    )


def files(options: GenericOptions) -> list[str]:
    """Return the absolute paths of all files and directories that contexts are made from."""
    serving, connecting = identities(options)
    named = [serving.certificate, serving.key, connecting.certificate, connecting.key]
    others = (options.tls_ca_cert_file, options.tls_ca_cert_dir, options.tls_dh_params_file)
    named += [options.located(path) for path in others]
    return list(dict.fromkeys(path for path in named if path))


def explain(error: SSL.Error) -> str:
    """Return the first reason that OpenSSL gives, in its own notation without the number, which is not available."""
    queue = error.args[0] if error.args else None
    for library, function, reason in queue if isinstance(queue, list) else ():
        if reason:
            return f"error:{library}:{function}:{reason}"
    return ", ".join(str(word) for word in error.args if word) or type(error).__name__


def _check(options: GenericOptions) -> None:
    if not options.tls_cert_file:
        raise BadTls(NO_CERTIFICATE)
    if not options.tls_key_file:
        raise BadTls(NO_KEY)
    verifying = options.tls_auth_clients != "no" or options.tls_cluster or options.tls_replication
    if verifying and not (options.tls_ca_cert_file or options.tls_ca_cert_dir):
        raise BadTls(NO_AUTHORITY)


def _protocols(words: str) -> set[str]:
    chosen = set(words.lower().split()) or set(DEFAULT_PROTOCOLS)
    if not chosen <= PROTOCOLS.keys():
        raise BadTls(BAD_PROTOCOLS)
    return chosen


def _base(options: GenericOptions, protocols: set[str], identity: Identity) -> SSL.Context:
    """Return a context with the common settings of both directions; it is complete for links."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_options(SSL.OP_NO_SSLv2 | SSL.OP_NO_SSLv3 | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    for word, prohibition in PROTOCOLS.items():
        if word not in protocols:
            context.set_options(prohibition)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_verify(REQUIRED)
    _identify(context, identity)
    authority = options.located(options.tls_ca_cert_file)
    directory = options.located(options.tls_ca_cert_dir)
    if authority or directory:
        for path in (authority, *_hashed(directory)):
            _check_readable("Failed to configure CA certificate(s) file/directory", path)
        try:
            context.load_verify_locations(os.fsencode(authority) or None, os.fsencode(directory) or None)
        except SSL.Error as error:
            raise BadTls(f"Failed to configure CA certificate(s) file/directory: {explain(error)}") from error
    if options.tls_ciphers:
        try:
            context.set_cipher_list(_ascii(options.tls_ciphers))
        except SSL.Error as error:
            raise BadTls(f"Failed to configure ciphers: {options.tls_ciphers}") from error
    if options.tls_ciphersuites:
        try:
            context.set_tls13_ciphersuites(_ascii(options.tls_ciphersuites))
        except SSL.Error as error:
            raise BadTls(f"Failed to configure ciphersuites: {options.tls_ciphersuites}") from error
    return context


def _identify(context: SSL.Context, identity: Identity) -> None:
    _check_readable("Failed to load certificate", identity.certificate)
    try:
        context.use_certificate_chain_file(os.fsencode(identity.certificate))
    except SSL.Error as error:
        raise BadTls(f"Failed to load certificate: {identity.certificate}: {explain(error)}") from error
    try:
        context.use_privatekey(_private_key(identity))
    except (SSL.Error, OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = explain(error) if isinstance(error, SSL.Error) else getattr(error, "strerror", None) or error
        raise BadTls(f"Failed to load private key: {identity.key}: {reason}") from error


def _check_readable(problem: str, path: str) -> None:
    """Check that a path is a readable regular file: OpenSSL would block on a FIFO, and gives no reason for others."""
    try:
        if path:
            check_regular(path)
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        raise BadTls(f"{problem}: {path}: {error.strerror}") from error


def _hashed(directory: str) -> list[str]:
    """Return the files in ``tls-ca-cert-dir`` that OpenSSL may open during handshakes; none if it cannot be listed."""
    try:
        names = os.listdir(directory) if directory else []
    except OSError:
        return []
    return [os.path.join(directory, name) for name in sorted(names) if _HASHED.fullmatch(name)]


def _private_key(identity: Identity) -> Any:
    """Return the decrypted key. OpenSSL itself would ask for a missing password at the terminal."""
    contents = read_file(identity.key)
    password = os.fsencode(identity.password)
    # A password for a key without encryption is ignored, as by the C servers.
    encrypted = b"ENCRYPTED" in contents
    return load_pem_private_key(contents, password if encrypted and password else None)


def _server_context(options: GenericOptions, protocols: set[str], identity: Identity) -> SSL.Context:
    context = _base(options, protocols, identity)
    context.set_verify(VERIFICATION[options.tls_auth_clients])
    if options.tls_session_caching:
        # OpenSSL keeps 20,480 sessions, the default of tls-session-cache-size; pyOpenSSL offers no way to change that.
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
        context.set_timeout(options.tls_session_cache_timeout)
        context.set_session_id(SESSION_ID)
    else:
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_id(SESSION_ID)
    if options.tls_prefer_server_ciphers:
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_options(SSL.OP_SINGLE_DH_USE)
    path = options.located(options.tls_dh_params_file)
    if path:
        _check_readable("Failed to load DH params file", path)
        try:
            context.load_tmp_dh(os.fsencode(path))
        except SSL.Error as error:
            raise BadTls(f"Failed to load DH params file: {path}: {explain(error)}") from error
    return context


def _ascii(words: str) -> bytes:
    """Encode names of ciphers. Other than ASCII characters are replaced, and OpenSSL refuses them."""
    return words.encode("ascii", "replace")
