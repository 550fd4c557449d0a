"""What the core refuses to do for a client; the text of each error is the line on the wire."""

from __future__ import annotations


class CommandError(Exception):
    """The client asked for something we refuse. ``str(error)`` is the RESP error line without its sign."""


class NoSuchMaster(CommandError):
    """The name is not monitored here."""

    def __init__(self) -> None:
        """Take no arguments: the line never names the master."""
        super().__init__("ERR No such master with that name")


class InvalidAddress(CommandError):
    """The host is neither an IP address nor, where names are allowed, a name."""

    def __init__(self) -> None:
        """Take no arguments: the line never names the host."""
        super().__init__("ERR Invalid IP address or hostname specified")


class IllegalTransition(Exception):
    """Our own bug: a failover was told to skip a state."""
