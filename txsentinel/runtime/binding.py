"""Opens the listening ports of ``sentinel.conf``, with its rules about optional and missing addresses."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.error import CannotListenError

from txsentinel.interfaces import IHost
from txsentinel.model.events import Level

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort
    from twisted.internet.protocol import ServerFactory

WILDCARDS: Final = {"*": "0.0.0.0", "::*": "::"}
"""The words of ``bind`` for any IPv4 and any IPv6 address."""

UNAVAILABLE: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT}
"""The errors for which an optional address is skipped."""


class CannotListen(Exception):
    """A port cannot be opened; the text is the last log line before the process exits."""


def open_ports(
    host: IHost,
    factory: ServerFactory,
    port: int,
    addresses: Sequence[str],
    backlog: int,
    note: Callable[[Level, str], None],
    kind: str = "TCP",
) -> list[IListeningPort]:
    """
    Listen on ``port`` at each of ``addresses``; a leading ``-`` marks an optional address.

    :param kind: the name of the port in the error text: ``TCP`` or ``TLS``.
    :returns: the open ports; none for port 0, or if all addresses are optional and missing.
    :raises CannotListen: if an address cannot be bound; the ports opened before are closed.
    """
    opened: list[IListeningPort] = []
    if port == 0:
        return opened
    for entry in addresses:
        optional = entry.startswith("-")
        address = entry.removeprefix("-")
        interface = WILDCARDS.get(address, address)
        try:
            opened.append(host.reactor.listenTCP(port, factory, backlog=backlog, interface=interface))
        except CannotListenError as error:
            cause = error.socketError
            number = getattr(cause, "errno", None)
            both_families = number == errno.EADDRINUSE and interface == "::" and bool(opened)
            if optional and (number in UNAVAILABLE or both_families):
                continue
            if isinstance(cause, socket.gaierror):
                reason = cause.strerror or str(cause)  # Its number is no errno.
            else:
                reason = f"bind: {os.strerror(number) if number else cause}"
            note(
                Level.WARNING,
                f"Warning: Could not create server TCP listening socket {address}:{port}: {reason}",
            )
            for each in opened:
                each.stopListening()
            raise CannotListen(f"Failed listening on port {port} ({kind}), aborting.") from error
    return opened


def adopt_ports(
    host: IHost,
    factory: ServerFactory,
    descriptors: Sequence[int],
    name: str,
    port: int,
    note: Callable[[Level, str], None],
) -> list[IListeningPort]:
    """
    Accept connections on sockets that the service manager has opened.

    :param descriptors: of listening stream sockets. They are closed here; the ports have duplicates.
    :param name: the name of the sockets, for the log.
    :param port: the port of the configuration, which this Sentinel announces unless ``announce-port`` is set.
    :raises CannotListen: if a descriptor is no such socket, or has another port; the ports adopted before are closed.
    """
    adopted: list[IListeningPort] = []
    try:
        for descriptor in descriptors:
            with socket.socket(fileno=descriptor) as inherited:
                _check_adopted(inherited, name, port)
                inherited.setblocking(False)  # those of systemd block, and the reactor must not wait in accept()
                adopt = host.reactor.adoptStreamPort
                adopted.append(adopt(inherited.fileno(), inherited.family, factory))
            note(Level.NOTICE, f"Listening on the socket '{name}' of the service manager, descriptor {descriptor}.")
    except (CannotListen, OSError) as error:
        for each in adopted:
            each.stopListening()
        if isinstance(error, CannotListen):
            raise
        raise CannotListen(f"Cannot listen on the socket '{name}' of the service manager: {error}") from error
    return adopted


def _check_adopted(inherited: socket.socket, name: str, port: int) -> None:
    """
    Check an inherited socket.

    :raises CannotListen: if it does not listen for streams, or on another port than the one that is announced.
    :raises OSError: if the descriptor is no socket.
    """
    listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if inherited.type != socket.SOCK_STREAM or not listens:
        raise CannotListen(f"The socket '{name}' of the service manager is no listening stream socket, aborting.")
    if inherited.family in (socket.AF_INET, socket.AF_INET6) and inherited.getsockname()[1] != port:
        raise CannotListen(
            f"The socket '{name}' of the service manager has port {inherited.getsockname()[1]}, the configuration"
            f" {port}. Other Sentinels get the port of the configuration: set both to the same, aborting."
        )


def open_unix_socket(host: IHost, factory: ServerFactory, path: str, permissions: int, backlog: int) -> IListeningPort:
    """
    Listen on a Unix socket. A stale socket file is removed.

    :param permissions: the mode of the socket file; with 0 the umask determines it.
    :raises CannotListen: if the socket cannot be created.
    """
    # The reactor always sets a mode after it has bound the socket.
    mode = permissions or 0o777 & ~current_umask()
    try:
        if os.path.exists(path):
            os.unlink(path)
        port: IListeningPort = host.reactor.listenUNIX(path, factory, backlog=backlog, mode=mode)
    except (CannotListenError, OSError) as error:
        cause = getattr(error, "socketError", error)
        raise CannotListen(f"Failed opening Unix socket: bind: {getattr(cause, 'strerror', None) or cause}") from error
    return port


def current_umask() -> int:
    """
    Return the umask of the process, which can be read only by changing it.

    Call this in the reactor's thread. Between the two system calls the strictest mask is in force.
    """
    mask = os.umask(0o777)
    os.umask(mask)
    return mask
