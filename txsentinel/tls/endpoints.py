"""Wraps server and client factories with TLS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from txsentinel.config.generic import GenericOptions
from txsentinel.interfaces import IHost
from txsentinel.model.address import Address, canonical_ip
from txsentinel.model.events import Level
from txsentinel.tls.contexts import Contexts, files, load_contexts
from txsentinel.tls.handshakes import HandshakeClientFactory, HandshakeServerFactory, TlsTransport, WrongPeer
from txsentinel.tls.renewal import INTERVAL, Renewal
from txsentinel.tls.throttle import HandshakeThrottle

if TYPE_CHECKING:
    from twisted.internet.protocol import ClientFactory, ServerFactory
    from twisted.protocols.tls import TLSMemoryBIOProtocol


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class Credentials:
    """Makes each connection from the present contexts."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def replace(self, contexts: Contexts) -> None:
        """Use ``contexts`` for new connections; existing ones are not affected."""
        self._contexts = contexts

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return the TLS state of an accepted connection."""
        return SSL.Connection(self._contexts.server, None)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return the TLS state of an outgoing connection."""
        return SSL.Connection(self._contexts.client, None)


class Tls:
    """
    TLS as it is configured.

    The constructor reads the files, blocking.

    :raises BadTls: with the line for the log.
    """

    def __init__(
        self,
        host: IHost,
        options: GenericOptions,
        note: Callable[[Level, str], None],
        verify_hostnames: bool = False,
    ) -> None:
        self._host = host
        self._note = note
        self._verify_hostnames = verify_hostnames
        # Many clients must not delay the handshakes of links, so each direction has its own throttle.
        self._accepting, self._connecting = HandshakeThrottle(host.reactor), HandshakeThrottle(host.reactor)
        interval = options.tls_auto_reload_interval
        # The renewal stats the files before they are read, so that it notices changes in between later.
        self._renewal = Renewal(
            host,
            files(options),
            lambda: load_contexts(options),
            lambda contexts: self.credentials.replace(contexts),
            note,
            INTERVAL if interval is None else interval,
        )
        self.credentials = Credentials(load_contexts(options))

    def start(self) -> None:
        """Begin to check the files for changes."""
        self._renewal.start()

    def stop(self) -> None:
        """Stop checking the files. Connections are not affected."""
        self._renewal.stop()

    def renew(self) -> Deferred[str]:
        """Read the files again, even if they are unchanged; see :meth:`Renewal.renew`."""
        return self._renewal.renew().addErrback(self._fail_stop)

    def _fail_stop(self, failure: Failure) -> str:
        self._host.fail_stop(failure, "the renewal of certificates")
        return failure.getErrorMessage()

    def listening(self, factory: ServerFactory) -> ServerFactory:
        """Return a factory that serves the clients of ``factory`` by TLS."""
        supervised = HandshakeServerFactory(self._host.reactor, factory, self._note)
        secured: Any = TLSMemoryBIOFactory(self.credentials, False, supervised, clock=self._host.reactor)
        secured.protocol = partial(TlsTransport, self._accepting)
        accepting: ServerFactory = secured
        return accepting

    def connecting(self, factory: ClientFactory, address: Callable[[], Address], timeout: float) -> ClientFactory:
        """
        Return a factory that connects by TLS for ``factory``.

        :param address: returns the present address of the link.
        :param timeout: the handshake timeout in seconds.
        """

        def verify(connection: SSL.Connection) -> None:
            if self._verify_hostnames:
                check_name(connection, address())

        supervised = HandshakeClientFactory(
            self._host.reactor, factory, verify, timeout, lambda: address().joined(), self._note
        )
        secured: Any = TLSMemoryBIOFactory(self.credentials, True, supervised, clock=self._host.reactor)
        secured.protocol = partial(TlsTransport, self._connecting)
        client_factory: ClientFactory = secured
        return client_factory


def check_name(connection: SSL.Connection, address: Address) -> None:
    """
    Check that the certificate of the other side has the host name of the address, or its IP address without a name.

    :raises WrongPeer: if it does not.
    """
    named = canonical_ip(address.hostname) is None
    try:
        if named:
            verify_hostname(connection, address.hostname)
        else:
            verify_ip_address(connection, address.ip)
    except (VerificationError, CertificateError) as error:
        raise WrongPeer(f"its certificate is not for {address.hostname if named else address.ip}") from error
