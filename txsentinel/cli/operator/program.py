"""What the programs have in common that run in the reactor until they are stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def start_logging() -> None:
    """Write what this program logs to standard error, and of Twisted only warnings and errors."""
    from twisted.logger import (
        FilteringLogObserver,
        ILogFilterPredicate,
        LogEvent,
        LogLevel,
        PredicateResult,
        globalLogBeginner,
        textFileLogObserver,
    )
    from zope.interface import provider

    @provider(ILogFilterPredicate)
    def wanted(event: LogEvent) -> Any:
        own = str(event.get("log_namespace", "")).startswith("txsentinel")
        minimum = LogLevel.info if own else LogLevel.warn
        level = event.get("log_level", LogLevel.info)
        return PredicateResult.maybe if level is None or level >= minimum else PredicateResult.no

    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [wanted])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def installed_reactor() -> Any:
    """Return the reactor of this process; if there is none yet, the default one is installed."""
    from twisted.internet import reactor

    return reactor


def run_program(reactor: Any, start: Callable[[list[str]], Any], stop: Callable[[], Any]) -> list[str]:
    """
    Run the reactor until it is stopped.

    :param start: opens ports, and adds to the list why one cannot be opened, which ends the program. Returns a
        Deferred.
    :param stop: called before the end; may return a Deferred.
    :returns: the list.
    """
    from twisted.internet.defer import maybeDeferred

    problems: list[str] = []

    def begin() -> None:
        opening = maybeDeferred(start, problems)
        opening.addErrback(lambda failure: problems.append(failure.getErrorMessage()))
        opening.addCallback(lambda _: reactor.stop() if problems else None)

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    reactor.run()
    return problems
