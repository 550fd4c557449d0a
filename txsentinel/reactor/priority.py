"""
Clients are looked after between any two calls of a reactor.

A turn of a reactor makes all calls that are due, one after the other, before it looks at its sockets again. In peace
that takes no time. When hundreds of masters fail together, a turn makes a sweep, lets go what a commit set free,
renders lines, gives up dozens of attempts to connect: each a few milliseconds, all of them a tenth of a second. So
after some milliseconds of calls there is a look at the clients, who are few and ask for little.

A look takes place when a call has returned and the next has not begun, so whoever is heard finds nothing half done.
Some calls are long by nature: a commit sets hundreds of effects free, a peer answers hundreds of questions at once.
They breathe between two of their steps, and there is a look if it is time. Then clients are answered in passing: what
would have the core decide something waits until the call is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.logger import Logger
from zope.interface import directlyProvides, providedBy

GAP_SECONDS: Final = 0.004
"""How long calls may take together before there is a look; one that takes longer is followed by one."""


def yield_function(reactor: object) -> Callable[[], bool]:
    """
    What a long call on ``reactor`` should call between its steps.

    :returns: the method ``breathe`` that reactors have that look after clients, and those built upon them; else what
        does nothing.
    """
    yield_to_clients: Callable[[], bool] = getattr(reactor, "yield_to_clients", _never_yield)
    return yield_to_clients


def _never_yield() -> bool:
    """Nobody is looked after."""
    return False


class PriorityReactor:
    """
    A reactor in all respects, but that it takes a look between calls.

    :param reactor: what it stands for; must have the clock that it is to keep.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._poll: Callable[[], None] | None = None
        self._spent = 0.0
        self._polled_at = 0.0
        self._polling = False
        self.nested_poll_active = False
        """Is there a look just now, in the midst of a call?"""

        self.seconds: Callable[[], float] = reactor.seconds
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        """Whatever else reactors have."""
        return getattr(self._reactor, name)

    def set_priority_poll(self, poll: Callable[[], None]) -> None:
        """
        What lets those in who cannot wait.

        :param poll: must return after some milliseconds, however many they are.
        """
        self._poll = poll

    def callLater(self, delay: float, call: Callable[..., object], *arguments: Any, **named: Any) -> Any:
        """As reactors do."""
        return self._reactor.callLater(delay, self._make, call, arguments, named)

    def callFromThread(self, call: Callable[..., object], *arguments: Any, **named: Any) -> None:
        """As reactors do."""
        self._reactor.callFromThread(self._make, call, arguments, named)

    def _make(self, call: Callable[..., object], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Make a call that is due, and take a look if calls took long."""
        began = self.seconds()
        call(*arguments, **named)
        self._spent += self.seconds() - max(began, self._polled_at)
        if self._spent > GAP_SECONDS:
            self._poll_now()

    def yield_to_clients(self) -> bool:
        """
        Take a look if the last one was some milliseconds ago; for calls that are long, between two of their steps.

        :returns: whether time has gone by for that.
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
                self._log.failure("Looking after clients went wrong")
            finally:
                self._polling = False
        self._spent, self._polled_at = 0.0, self.seconds()
