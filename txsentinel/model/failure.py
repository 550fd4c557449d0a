"""Classes of failed probes and connection attempts, and the record of one failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.model.timings import Millis


class FailureClass(Enum):
    """What kind of failure it is; the value is the word in the log and in reports."""

    REFUSED = "refused"
    """The attempt was refused (``ECONNREFUSED``): the machine is up, and nothing listens on the port."""

    RESET = "reset"
    """The other side closed or reset an established connection."""

    UNREACHABLE = "unreachable"
    """There is no route to the address, as this machine or one on the way reports."""

    TIMEOUT = "timeout"
    """No answer arrived in time, to an attempt to connect or to a command."""

    DNS = "dns"
    """The name cannot be resolved."""

    TLS = "tls"
    """The TLS handshake failed."""

    AUTH = "auth"
    """The user name or the password is missing or wrong (``NOAUTH``, ``WRONGPASS``)."""

    NOPERM = "noperm"
    """The ACL, or the protected mode, does not permit the command."""

    BUSY = "busy"
    """A script keeps the server busy."""

    LOADING = "loading"
    """The server is loading its data."""

    MASTERDOWN = "masterdown"
    """A replica without a link to its master refuses to serve old data."""

    MISCONF = "misconf"
    """The server cannot save its data and refuses writes."""

    GARBAGE = "garbage"
    """The answer is not RESP, or is none that a server gives to this command."""

    OWN_DESCRIPTORS = "own-descriptors"
    """This process has no file descriptor or local port left (``EMFILE``, ``ENFILE``, ``EADDRNOTAVAIL``)."""


CONFIGURATION_FAULTS: Final = frozenset(
    {FailureClass.AUTH, FailureClass.NOPERM, FailureClass.TLS, FailureClass.DNS, FailureClass.OWN_DESCRIPTORS}
)
"""Faults of the configuration or of this Sentinel, which are no evidence that the other side is down."""

_BY_CODE: Final = {
    "NOAUTH": FailureClass.AUTH,
    "WRONGPASS": FailureClass.AUTH,
    "NOPERM": FailureClass.NOPERM,
    "DENIED": FailureClass.NOPERM,
    "BUSY": FailureClass.BUSY,
    "LOADING": FailureClass.LOADING,
    "MASTERDOWN": FailureClass.MASTERDOWN,
    "MISCONF": FailureClass.MISCONF,
}


def class_of_reply(error: str) -> FailureClass:
    """Return the class of an error reply; ``GARBAGE`` if its first word is no code that has a class of its own."""
    return _BY_CODE.get(error.split(" ", 1)[0], FailureClass.GARBAGE)


@dataclass(frozen=True, slots=True)
class LinkFailure:
    """
    One failure of a link.

    ``error`` is the text of the operating system, of the library or of the reply, at most an excerpt of it. ``at`` is
    in milliseconds of the host's monotonic clock.
    """

    failure_class: FailureClass
    error: str
    at: Millis

    def __str__(self) -> str:
        """Return the class with the error text; only the text if that has the word of the class in it."""
        word = self.failure_class.value
        if not self.error:
            return word
        same = self.failure_class in (FailureClass.REFUSED, FailureClass.RESET) and word in self.error.casefold()
        return self.error if same else f"{word} ({self.error})"
