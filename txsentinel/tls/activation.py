"""Activates TLS if the configuration demands it. OpenSSL is imported only in that case."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, succeed

from txsentinel.config.generic import GenericOptions
from txsentinel.interfaces import IHost
from txsentinel.model.events import Level
from txsentinel.tls.errors import BadTls

if TYPE_CHECKING:
    from twisted.internet.protocol import ClientFactory, ServerFactory

    from txsentinel.model.address import Address
    from txsentinel.tls.endpoints import Tls

NOT_CONFIGURED: Final = "Failed to configure TLS. Check logs for more info."
NOT_INSTALLED: Final = "Missing implement of connection type tls"
NOT_FOUND: Final = "Failed finding TLS support."


def wants_tls(options: GenericOptions) -> bool:
    """Whether any directive demands TLS. ``tls-cluster`` has no other effect than this."""
    return bool(options.tls_port) or options.tls_replication or options.tls_cluster


class TlsSupport:
    """
    TLS as far as the configuration demands it. No file is read before :meth:`activate`.

    :param verify_hostnames: whether the certificates of servers and peers must have their name or address.
    """

    def __init__(
        self,
        host: IHost,
        options: GenericOptions,
        note: Callable[[Level, str], None],
        verify_hostnames: bool = False,
    ) -> None:
        self._host = host
        self._options = options
        self._note = note
        self._verify_hostnames = verify_hostnames
        self._tls: Tls | None = None

    @property
    def secures_links(self) -> bool:
        """Whether the links use TLS; a TLS port alone does not cause that."""
        return self._options.tls_replication

    def activate(self) -> None:
        """
        Read certificates and keys, blocking, and begin to check them for changes. Do nothing if TLS is not demanded.

        :raises BadTls: if TLS cannot be configured; the reason is logged before.
        """
        if not wants_tls(self._options):
            return
        try:
            from txsentinel.tls.endpoints import Tls
        except ImportError as error:
            self._note(Level.WARNING, NOT_INSTALLED)
            raise BadTls(NOT_FOUND) from error
        try:
            self._tls = Tls(self._host, self._options, self._note, self._verify_hostnames)
        except BadTls as refusal:
            self._note(Level.WARNING, str(refusal))
            raise BadTls(NOT_CONFIGURED) from refusal
        self._tls.start()

    def listening(self, factory: ServerFactory) -> ServerFactory:
        """
        Return the factory for the TLS port, whose clients are served by ``factory``.

        :raises RuntimeError: if TLS is not active.
        """
        return self._active().listening(factory)

    def connecting(self, factory: ClientFactory, address: Callable[[], Address], timeout: float) -> ClientFactory:
        """
        Return a factory that connects by TLS for the ``factory`` of a link.

        :param address: returns the present address of the link.
        :param timeout: the handshake timeout in seconds.
        :raises RuntimeError: if TLS is not active.
        """
        return self._active().connecting(factory, address, timeout)

    def renew(self) -> Deferred[str]:
        """
        Read the files again, even if they are unchanged. Existing connections are not affected.

        :returns: fires with the reason why the new files are unusable; empty if they are used, or without TLS.
        """
        return succeed("") if self._tls is None else self._tls.renew()

    def stop(self) -> None:
        """Stop checking the files."""
        if self._tls is not None:
            self._tls.stop()

    def _active(self) -> Tls:
        if self._tls is None:
            raise RuntimeError("TLS is not active")
        return self._tls
