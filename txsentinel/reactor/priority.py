"""
Polls client sockets between the delayed calls of a reactor.

In each turn a reactor makes all calls that are due before it polls its sockets again. Usually that takes no time.
When hundreds of masters fail together, one turn sweeps, releases the effects of a commit, renders configuration lines
and aborts dozens of attempts to connect: each takes a few milliseconds, all of them a tenth of a second. Client sockets
are therefore polled after some milliseconds of calls; clients are few and their requests are cheap.

A poll takes place between two calls, so requests find consistent state. Some single calls are long: a commit
releases hundreds of effects, a peer answers hundreds of commands at once. Such calls invoke ``yield_to_clients``
between their steps, which makes a nested poll if one is due. During a nested poll, requests that need a decision of the
core wait until the call has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.logger import Logger
from zope.interface import directlyProvides, providedBy

from txsentinel.reactor.slack import SlackClock

GAP_SECONDS: Final = 0.004
"""Seconds of calls after which client sockets are polled; a longer call is followed by a poll."""


def yield_function(reactor: object) -> Callable[[], bool]:
    """
    Return the function that long calls of ``reactor`` invoke between their steps.

    :returns: the method ``yield_to_clients`` of the reactor, or a function without effect if it has none.
    """
    yield_to_clients: Callable[[], bool] = getattr(reactor, "yield_to_clients", _never_yield)
    return yield_to_clients


def _never_yield() -> bool:
    """Do nothing."""
    return False


class PriorityReactor:
    """
    Wraps a reactor and polls client sockets between its calls.

    :param reactor: the wrapped reactor; its ``seconds`` must not be replaced later.
    """

    _log = Logger(namespace=__name__)

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.wrapped = reactor
        """The wrapped reactor."""

        self._poll: Callable[[], None] | None = None
        self._spent = 0.0
        self._polled_at = 0.0
        self._polling = False
        self.nested_poll_active = False
        """Whether a poll is active within a call."""

        self.seconds: Callable[[], float] = reactor.seconds
        self.slack_clock = SlackClock(self)
        """The clock of calls that may be late."""

        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        """Delegate everything else to the wrapped reactor."""
        return getattr(self._reactor, name)

    def set_priority_poll(self, poll: Callable[[], None]) -> None:
        """
        Set the function that polls client sockets.

        :param poll: must return after some milliseconds, whatever the number of clients.
        """
        self._poll = poll

    def callLater(self, delay: float, call: Callable[..., object], *arguments: Any, **named: Any) -> Any:
        """Delegate to the reactor; the call counts for the next poll."""
        return self._reactor.callLater(delay, self._call, call, arguments, named)

    def callFromThread(self, call: Callable[..., object], *arguments: Any, **named: Any) -> None:
        """Delegate to the reactor; the call counts for the next poll."""
        self._reactor.callFromThread(self._call, call, arguments, named)

    def _call(self, call: Callable[..., object], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Make a call that is due, and poll if calls have taken long."""
        began = self.seconds()
        call(*arguments, **named)
        ended = self.seconds()
        self._spent += ended - max(began, self._polled_at)
        if self.slack_clock.due <= ended:
            self.slack_clock.run_due(ended)
        if self._spent > GAP_SECONDS:
            self._poll_now()

    def yield_to_clients(self) -> bool:
        """
        Poll the client sockets if the last poll was some milliseconds ago. Long calls invoke this between their steps.

        :returns: whether a poll was made, so that time has passed.
        """
        if self._polling or self.seconds() - self._polled_at <= GAP_SECONDS:
            return False
        self.nested_poll_active = True
        try:
            self._poll_now()
        finally:
            self.nested_poll_active = False
        return True

    def _poll_now(self) -> None:
        if self._poll is not None and not self._polling:
            self._polling = True
            try:
                self._poll()
            except Exception:
                self._log.failure("Polling client sockets failed")
            finally:
                self._polling = False
        self._spent, self._polled_at = 0.0, self.seconds()
