"""TLS for the factories of others: for those that listen, and for those that dial."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
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
    """Starts each connection from the contexts that are the newest at that moment."""

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """For a client that was accepted."""
        return SSL.Connection(self.contexts.server, None)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """For a server or a peer that was dialled."""
        return SSL.Connection(self.contexts.client, None)


class Tls:
    """
    TLS as it is configured.

    Constructing it reads the files, at once.

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
        # A crowd of clients must not keep our own links from coming up, so each direction has a turnstile.
        self._accepting, self._connecting = HandshakeThrottle(host.reactor), HandshakeThrottle(host.reactor)
        interval = options.tls_auto_reload_interval
        # The files are looked at before they are read: what changes in between is seen to be different later.
        self._renewal = Renewal(
            host,
            files(options),
            lambda: load_contexts(options),
            self._renewed,
            note,
            INTERVAL if interval is None else interval,
        )
        self.credentials = Credentials(load_contexts(options))

    def start(self) -> None:
        """Begin to watch the files."""
        self._renewal.start()

    def stop(self) -> None:
        """Watch them no more; connections are not touched."""
        self._renewal.stop()

    def renew(self) -> None:
        """Read the files again, whether or not they look different."""
        self._renewal.renew().addErrback(self._host.fail_stop, "the renewal of certificates")

    def listening(self, factory: ServerFactory) -> ServerFactory:
        """What to listen with so that the clients of ``factory`` come by TLS."""
        watched = HandshakeServerFactory(self._host.reactor, factory, self._note)
        secured: Any = TLSMemoryBIOFactory(self.credentials, False, watched, clock=self._host.reactor)
        secured.protocol = partial(TlsTransport, self._accepting)
        accepting: ServerFactory = secured
        return accepting

    def connecting(self, factory: ClientFactory, address: Callable[[], Address], timeout: float) -> ClientFactory:
        """
        What to connect with so that ``factory`` gets its connections by TLS.

        :param address: asked where the link leads to whenever that matters.
        :param timeout: seconds that a handshake may take.
        """

        def verify(connection: SSL.Connection) -> None:
            if self._verify_hostnames:
                check_name(connection, address())

        watched = HandshakeClientFactory(
            self._host.reactor, factory, verify, timeout, lambda: address().joined(), self._note
        )
        secured: Any = TLSMemoryBIOFactory(self.credentials, True, watched, clock=self._host.reactor)
        secured.protocol = partial(TlsTransport, self._connecting)
        client_factory: ClientFactory = secured
        return client_factory

    def _renewed(self, contexts: Contexts) -> None:
        self.credentials.contexts = contexts


def check_name(connection: SSL.Connection, address: Address) -> None:
    """
    Is this the certificate of whom we meant to reach, by the name that we know, else by IP address?

    :raises WrongPeer: if it is not.
    """
    named = canonical_ip(address.hostname) is None
    try:
        if named:
            verify_hostname(connection, address.hostname)
        else:
            verify_ip_address(connection, address.ip)
    except (VerificationError, CertificateError) as error:
        raise WrongPeer(f"its certificate is not for {address.hostname if named else address.ip}") from error
