"""Opens all listening ports of the configuration: plain ports, TLS ports and a Unix socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from txsentinel.config.generic import GenericOptions
from txsentinel.interfaces import IHost
from txsentinel.model.events import Level
from txsentinel.reactor.client_transport import accept_within, client_multiplexer
from txsentinel.reactor.multiplexer import supported
from txsentinel.reactor.priority import PriorityReactor
from txsentinel.runtime.binding import CannotListen, adopt_ports, open_ports, open_unix_socket
from txsentinel.server.admission import set_inherited_options
from txsentinel.tls.activation import TlsSupport

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort
    from twisted.internet.protocol import ServerFactory

NO_LISTENERS: Final = "Configured to not listen anywhere, exiting."


class CannotStart(Exception):
    """The service cannot start, for lack of a port or for invalid users; the log and the text have the reason."""


def open_listeners(
    host: IHost,
    factory: ServerFactory,
    options: GenericOptions,
    tls: TlsSupport,
    note: Callable[[Level, str], None],
    inherited: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> list[IListeningPort]:
    """
    Open all listening ports.

    :param tls: must be active if there is a TLS port.
    :param inherited: descriptors of sockets that the service manager has opened. Those named ``sentinel`` replace
        ``port``, those named ``sentinel-tls`` replace ``tls-port``; others are not used.
    :raises CannotListen: if a port cannot be opened, or none is configured; the ports opened before are closed.
    """
    where = options.bind, options.tcp_backlog, note
    opened: list[IListeningPort] = []
    try:
        if "sentinel" in inherited:
            opened += adopt_ports(host, factory, inherited["sentinel"], "sentinel", options.port, note)
        else:
            opened += open_ports(host, factory, options.port, *where)
        if "sentinel-tls" in inherited:
            secured = tls.listening(factory)
            opened += adopt_ports(host, secured, inherited["sentinel-tls"], "sentinel-tls", options.tls_port, note)
        elif options.tls_port:
            opened += open_ports(host, tls.listening(factory), options.tls_port, *where, "TLS")
        if options.unixsocket:
            path = options.located(options.unixsocket)
            opened.append(open_unix_socket(host, factory, path, options.unixsocketperm, options.tcp_backlog))
    except CannotListen:
        for port in opened:
            port.stopListening()
        raise
    if not opened:
        raise CannotListen(NO_LISTENERS)
    if supported(host.reactor):
        multiplexer = client_multiplexer(host.reactor)
        set_options = partial(set_inherited_options, keepalive_seconds=options.tcp_keepalive)
        for port in opened:
            accept_within(multiplexer, port, set_options)
        if isinstance(host.reactor, PriorityReactor):
            host.reactor.set_priority_poll(multiplexer.poll)
    return opened
