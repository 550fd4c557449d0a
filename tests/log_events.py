"""Observes the log while a test runs."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer


@implementer(ILogObserver)
class _Observer:
    """Passes each event to a function."""

    def __init__(self, receive: Callable[[LogEvent], object]) -> None:
        self._receive = receive

    def __call__(self, event: LogEvent) -> None:
        """Receive an event."""
        self._receive(event)


def observe_log(case: SynchronousTestCase, receive: Callable[[LogEvent], object]) -> None:
    """Call ``receive`` with each event of the global log until ``case`` ends."""
    observer = _Observer(receive)
    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)


class LogRecorder:
    """Records the log lines of the Sentinel while a test runs."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.texts: list[str] = []
        observe_log(case, self._observe)

    def _observe(self, event: LogEvent) -> None:
        if "sentinel_level" in event:
            self.texts.append(str(event["text"]))
