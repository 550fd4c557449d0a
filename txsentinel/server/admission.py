"""Who is let in: the limit on clients, protected mode, and how addresses are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

if TYPE_CHECKING:
    from txsentinel.server.context import ServerContext

TOO_MANY: Final = b"-ERR max number of clients reached\r\n"

NO_ROOM: Final = "Turned a client away: the limit of open files leaves room for {room}. Raise it (ulimit -n)."

PROTECTED: Final = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the"
    b" default user. In this mode connections are only accepted from the loopback interface. To let other hosts in,"
    b" set a password with 'requirepass', or start with 'protected-mode no' if the network is trusted.\r\n"
)


def refusal(context: ServerContext, address: IAddress) -> bytes | None:
    """The line that a new connection is sent away with, or ``None`` if it may stay."""
    if len(context.clients) >= context.options.maxclients:
        return TOO_MANY
    room = context.room()
    if len(context.clients) >= room:
        context.complaints.warn(context.host.now(), NO_ROOM, room=room)
        return TOO_MANY
    if context.options.protected_mode and context.access.default.needs_no_password and not is_local(address):
        return PROTECTED
    return None


def is_local(address: IAddress) -> bool:
    """Does the connection come from this machine?"""
    if isinstance(address, IPv4Address | IPv6Address):
        host = address.host.removeprefix("::ffff:")
        return host.startswith("127.") or host == "::1"
    return isinstance(address, UNIXAddress)


def endpoint_name(address: IAddress, socket_path: str) -> str:
    """
    An end of a connection as CLIENT LIST prints it: ``ip:port``, ``[ip6]:port``, or ``path:0``.

    :param socket_path: the path of our Unix socket, which both ends of such a connection are named after.
    """
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    return f"{socket_path}:0"
