"""Errors by which the core refuses a command of a client; the text of each is the RESP error line."""

from __future__ import annotations


class CommandError(Exception):
    """A command is refused. ``str(error)`` is the RESP error line without the leading ``-``."""


class NoSuchMaster(CommandError):
    """No master of that name is monitored."""

    def __init__(self) -> None:
        """Take no arguments, as the error line does not contain the name."""
        super().__init__("ERR No such master with that name")


class InvalidAddress(CommandError):
    """The host is not an IP address nor, with ``resolve-hostnames yes``, a host name."""

    def __init__(self) -> None:
        """Take no arguments, as the error line does not contain the host."""
        super().__init__("ERR Invalid IP address or hostname specified")


class SettingRefused(CommandError):
    """``SENTINEL SET`` has an invalid option or value. ``str(error)`` is the RESP error line without ``-``."""


class IllegalTransition(Exception):
    """A failover would enter a state that must not follow its current one; this is a bug of txsentinel."""
