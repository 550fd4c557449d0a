"""Acceptance of connections: the limit on clients, protected mode, and the text form of addresses."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from txsentinel.server.certificates import names_in
from txsentinel.server.clients import Client, ClientConnection

if TYPE_CHECKING:
    from txsentinel.server.services import AdmissionServices

TOO_MANY: Final = b"-ERR max number of clients reached\r\n"

NO_DESCRIPTORS: Final = (
    "Rejected connection: the limit of open files allows only {available_descriptors} clients. Raise it (ulimit -n)."
)

PROTECTED: Final = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the"
    b" default user. In this mode connections are only accepted from the loopback interface. To let other hosts in,"
    b" set a password with 'requirepass', or start with 'protected-mode no' if the network is trusted.\r\n"
)

PSEUDO_HTTP: Final = (
    "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis."
    " Connection from {address} aborted."
)
TOO_MUCH_INPUT: Final = "Closing client that reached max query buffer length: {address}"
"""Log lines about clients whose connection is aborted."""


def refusal(services: AdmissionServices, address: IAddress) -> bytes | None:
    """Return the error line for a connection that is rejected, or ``None`` if it is accepted."""
    if len(services.clients) >= services.options.maxclients:
        return TOO_MANY
    available_descriptors = services.available_descriptors()
    if len(services.clients) >= available_descriptors:
        services.log_throttle.warn(services.host.now(), NO_DESCRIPTORS, available_descriptors=available_descriptors)
        return TOO_MANY
    if services.options.protected_mode and services.access.default.needs_no_password and not is_local(address):
        return PROTECTED
    return None


def is_local(address: IAddress) -> bool:
    """Whether the connection comes from the loopback interface or by a Unix socket."""
    if isinstance(address, IPv4Address | IPv6Address):
        host = address.host.removeprefix("::ffff:")
        return host.startswith("127.") or host == "::1"
    return isinstance(address, UNIXAddress)


def endpoint_name(address: IAddress, socket_path: str) -> str:
    """
    Return an end of a connection as CLIENT LIST shows it: ``ip:port``, ``[ip6]:port``, or ``path:0``.

    :param socket_path: the path of the Unix socket of this server, which names both ends of such a connection.
    """
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    return f"{socket_path}:0"


def new_client(services: AdmissionServices, connection: ClientConnection, peer: IAddress) -> Client:
    """
    Register the client of an accepted connection.

    :param peer: the remote address.
    """
    now = services.host.now()
    client = Client(
        services.clients.next_id(),
        connection,
        endpoint_name(peer, services.options.unixsocket),
        now,
        now,
        services.access.default,
        unix=not hasattr(peer, "port"),
        authenticated=services.access.open_by_default(),
    )
    services.clients.add(client)
    return client


def log_in_by_certificate(services: AdmissionServices, client: Client, transport: Any) -> None:
    """Log a TLS client in by the names in its certificate, as ``tls-auth-clients-user`` demands."""
    kind = services.options.tls_auth_clients_user
    if kind.lower() != "off":
        certificate = transport.getPeerCertificate()
        if certificate is not None:
            services.access.log_in_by_certificate(client, names_in(certificate, kind))


def keep_alive(transport: Any, seconds: int) -> None:
    """
    Enable TCP keepalive.

    :param seconds: idle time before the first probe; three probes follow within the same time. 0 disables it.
    """
    if not seconds:
        return
    transport.setTcpKeepAlive(True)
    # With TLS the transport wraps the one that owns the socket.
    handle = getattr(transport, "transport", transport).getHandle()
    if isinstance(handle, socket.socket):
        _set_keepalive_period(handle, seconds)


def _set_keepalive_period(handle: socket.socket, seconds: int) -> None:
    if handle.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_KEEPIDLE"):
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(seconds // 3, 1))
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def set_inherited_options(listening: socket.socket, keepalive_seconds: int) -> None:
    """
    Set the options of a listening socket that accepted connections are to inherit, as they do on Linux.

    :param keepalive_seconds: see :func:`keep_alive`.
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive_seconds:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        _set_keepalive_period(listening, keepalive_seconds)
