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


def breathing(reactor: object) -> Callable[[], bool]:
    """
    What a long call on ``reactor`` should call between its steps.

    :returns: the method ``breathe`` that reactors have that look after clients, and those built upon them; else what
        does nothing.
    """
    breathe: Callable[[], bool] = getattr(reactor, "breathe", _hold_breath)
    return breathe


def _hold_breath() -> bool:
    """Nobody is looked after."""
    return False


class AttentiveReactor:
    """
    A reactor in all respects, but that it takes a look between calls.

    :param reactor: what it stands for; must have the clock that it is to keep.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._look: Callable[[], None] | None = None
        self._spent = 0.0
        self._looked_at = 0.0
        self._looking = False
        self.in_passing = False
        """Is there a look just now, in the midst of a call?"""

        self.seconds: Callable[[], float] = reactor.seconds
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        """Whatever else reactors have."""
        return getattr(self._reactor, name)

    def attend(self, look: Callable[[], None]) -> None:
        """
        What lets those in who cannot wait.

        :param look: must return after some milliseconds, however many they are.
        """
        self._look = look

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
        self._spent += self.seconds() - max(began, self._looked_at)
        if self._spent > GAP_SECONDS:
            self._look_now()

    def breathe(self) -> bool:
        """
        Take a look if the last one was some milliseconds ago; for calls that are long, between two of their steps.

        :returns: whether time has gone by for that.
        """
        if self._looking or self.seconds() - self._looked_at <= GAP_SECONDS:
            return False
        self.in_passing = True
        try:
            self._look_now()
        finally:
            self.in_passing = False
        return True

    def _look_now(self) -> None:
        if self._look is not None and not self._looking:
            self._looking = True
            try:
                self._look()
            except Exception:
                self._log.failure("Looking after clients went wrong")
            finally:
                self._looking = False
        self._spent, self._looked_at = 0.0, self.seconds()
