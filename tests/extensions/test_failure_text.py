"""Failures as texts."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseNeverReceived

from txsentinel.extensions.failure_text import failure_text


class FailureTextTests(SynchronousTestCase):
    """What operators read."""

    def test_texts(self) -> None:
        """The reason of a reason counts; timeouts have no words of the framework; there is no full stop."""
        for error, text in (
            (OSError("no route."), "no route"),
            (KeyError(), "KeyError"),
            (TimeoutError(2.0, "Deferred"), "no answer for 2 s"),
            (ResponseNeverReceived([Failure(CancelledError())]), "no answer in time"),
            (ResponseNeverReceived([Failure(OSError("a")), Failure(OSError("b"))]), "b"),
            (ConnectionRefusedError(), "Connection was refused by other side"),
        ):
            self.assertEqual(failure_text(error), text)
