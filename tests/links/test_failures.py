"""Each error that Twisted and the operating system report has its class."""

from __future__ import annotations

import errno

from twisted.internet import error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.links.failures import class_of_connection, text_of_connection
from txsentinel.model.failure import FailureClass, class_of_reply


def lost(number: int) -> error.ConnectionLost:
    """Return the exception of a connection that was lost with this error number."""
    why = error.ConnectionLost("lost")
    why.osError = number  # type: ignore[attr-defined]
    return why


class ConnectionClassTests(SynchronousTestCase):
    """Failed attempts and lost connections."""

    def test_classes(self) -> None:
        """One row per error."""
        for cause, expected in (
            (error.getConnectError((errno.ECONNREFUSED, "refused")), FailureClass.REFUSED),
            (error.getConnectError((errno.EHOSTUNREACH, "no route")), FailureClass.UNREACHABLE),
            (error.getConnectError((errno.ENETUNREACH, "no route")), FailureClass.UNREACHABLE),
            (error.getConnectError((errno.ETIMEDOUT, "timed out")), FailureClass.TIMEOUT),
            (error.getConnectError((errno.EMFILE, "too many")), FailureClass.OWN_DESCRIPTORS),
            (error.getConnectError((errno.ENFILE, "too many")), FailureClass.OWN_DESCRIPTORS),
            (error.getConnectError((errno.EADDRNOTAVAIL, "no port")), FailureClass.OWN_DESCRIPTORS),
            (OSError(errno.EMFILE, "too many"), FailureClass.OWN_DESCRIPTORS),
            (error.getConnectError((errno.EACCES, "denied")), FailureClass.UNREACHABLE),
            (error.TimeoutError(), FailureClass.TIMEOUT),
            (error.DNSLookupError("name"), FailureClass.DNS),
            (error.SSLError(string="bad certificate"), FailureClass.TLS),
            (error.ConnectionDone(), FailureClass.RESET),
            (error.ConnectionLost(), FailureClass.RESET),
            (lost(errno.ETIMEDOUT), FailureClass.TIMEOUT),
            (lost(errno.EHOSTUNREACH), FailureClass.UNREACHABLE),
            (ValueError("a bug"), FailureClass.GARBAGE),
        ):
            with self.subTest(cause=repr(cause)):
                self.assertIs(class_of_connection(Failure(cause)), expected)

    def test_texts(self) -> None:
        """The text is that of the operating system if there is one, as in C, and never describes Twisted."""
        for cause, expected in (
            (error.getConnectError((errno.ECONNREFUSED, "refused")), "Connection refused"),
            (error.getConnectError((errno.EHOSTUNREACH, "no route")), "No route to host"),
            (error.ConnectionRefusedError(), "Connection refused"),
            (error.TimeoutError(), "no answer to the attempt to connect"),
            (error.ConnectionDone(), "closed by the other side"),
            (error.ConnectionLost(), "reset by the other side"),
            (lost(errno.ETIMEDOUT), "Connection timed out"),
            (error.DNSLookupError("no address"), "DNS lookup failed: no address"),
            (OSError(errno.EMFILE, "too many"), "Too many open files"),
        ):
            with self.subTest(cause=repr(cause)):
                self.assertEqual(text_of_connection(Failure(cause)), expected)

    def test_replies(self) -> None:
        """Error replies are classified by their first word."""
        for reply, expected in (
            ("NOAUTH Authentication required.", FailureClass.AUTH),
            ("WRONGPASS invalid", FailureClass.AUTH),
            ("NOPERM", FailureClass.NOPERM),
            ("DENIED Redis is running in protected mode", FailureClass.NOPERM),
            ("BUSY Redis is busy", FailureClass.BUSY),
            ("LOADING", FailureClass.LOADING),
            ("MASTERDOWN Link with MASTER is down", FailureClass.MASTERDOWN),
            ("MISCONF", FailureClass.MISCONF),
            ("NOAUTHORITY", FailureClass.GARBAGE),
            ("", FailureClass.GARBAGE),
        ):
            self.assertIs(class_of_reply(reply), expected, reply)
