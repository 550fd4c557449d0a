"""Classification of failed attempts and lost connections, as Twisted reports them."""

from __future__ import annotations

from errno import EADDRNOTAVAIL, EHOSTDOWN, EHOSTUNREACH, EMFILE, ENETDOWN, ENETUNREACH, ENFILE, ETIMEDOUT
from os import strerror
from typing import Final

from twisted.internet import error
from twisted.python.failure import Failure

from txsentinel.model.failure import FailureClass

_BY_NUMBER: Final = {
    EMFILE: FailureClass.OWN_DESCRIPTORS,
    ENFILE: FailureClass.OWN_DESCRIPTORS,
    EADDRNOTAVAIL: FailureClass.OWN_DESCRIPTORS,
    EHOSTUNREACH: FailureClass.UNREACHABLE,
    ENETUNREACH: FailureClass.UNREACHABLE,
    EHOSTDOWN: FailureClass.UNREACHABLE,
    ENETDOWN: FailureClass.UNREACHABLE,
    ETIMEDOUT: FailureClass.TIMEOUT,
}
"""Error numbers of the operating system that decide, whatever the type of the exception."""

_BY_TYPE: Final[tuple[tuple[type[BaseException], FailureClass], ...]] = (
    (error.ConnectionRefusedError, FailureClass.REFUSED),
    (error.TimeoutError, FailureClass.TIMEOUT),
    (error.TCPTimedOutError, FailureClass.TIMEOUT),
    (error.NoRouteError, FailureClass.UNREACHABLE),
    (error.DNSLookupError, FailureClass.DNS),
    (error.UnknownHostError, FailureClass.DNS),
    (error.SSLError, FailureClass.TLS),
    (error.ConnectionDone, FailureClass.RESET),
    (error.ConnectionLost, FailureClass.RESET),
)


def class_of_connection(reason: Failure) -> FailureClass:
    """
    Return the class of a failed attempt or a lost connection.

    An exception of another type is a bug or an error of the protocol, not of the connection.
    """
    cause = reason.value
    number = getattr(cause, "osError", None) or getattr(cause, "errno", None)
    if isinstance(number, int) and number in _BY_NUMBER:
        return _BY_NUMBER[number]
    for kind, failure in _BY_TYPE:
        if isinstance(cause, kind):
            return failure
    return FailureClass.UNREACHABLE if isinstance(cause, error.ConnectError | OSError) else FailureClass.GARBAGE


_TEXTS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (error.TimeoutError, "no answer to the attempt to connect"),
    (error.ConnectionDone, "closed by the other side"),
    (error.ConnectionLost, "reset by the other side"),
    (error.ConnectionRefusedError, "Connection refused"),
)
"""What these exceptions mean here; their own texts describe what Twisted did."""


def text_of_connection(reason: Failure) -> str:
    """
    Return why an attempt failed or a connection was lost, as a clause.

    It is the text of the operating system if there is one, such as ``Connection refused``.
    """
    cause = reason.value
    number = getattr(cause, "osError", None) or getattr(cause, "errno", None)
    if isinstance(number, int) and number > 0:
        return strerror(number)
    for kind, text in _TEXTS:
        # Exceptions of subclasses are our own and have texts of their own.
        if type(cause) is kind:
            return text
    return reason.getErrorMessage().rstrip(".")
