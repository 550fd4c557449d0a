"""
Sockets that are looked at by the clock while they have much to say.

A thousand masters answer some thousand times a second, a few bytes each. Waking for every one of them costs more than
hearing it: two polls, a switch of processes, a turn of the reactor. Network cards met the same and coalesce their
interrupts; so do we. As long as a reader is readable more than once in a nap on average, it is looked at after naps
of some milliseconds, and the reactor, which watches for clients meanwhile, is not told. With less to hear, and when
a look takes as long as a nap, the reactor watches it again: a small fleet never waits, nor does a storm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.reactor.priority import yield_function

POLL_INTERVAL_SECONDS: Final = 0.004
"""How long what has come may wait. A failover takes half a dozen answers that follow one another."""

WINDOW: Final = 64
"""Turns, or naps, over which an average is taken."""


class Reader(Protocol):
    """What is read, a crowd."""

    received: int
    """How many sockets have been heard since the beginning."""

    def fileno(self) -> int:
        """Its descriptor."""

    def logPrefix(self) -> str:
        """What it is called in the log."""

    def doRead(self) -> object:
        """Hear who is ready; at most for some milliseconds."""

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""


class CoalescingReactor:
    """
    To one reader at a time, its reactor; to the reactor, that reader.

    :param reactor: watches descriptors.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.yield_to_clients = yield_function(reactor)
        """See :func:`yield_function`."""

        self.seconds: Callable[[], float] = reactor.seconds
        """The time, as the reactor says."""

        self._reader: Reader | None = None
        self._poll_call: IDelayedCall | None = None
        """The end of the present nap; ``None`` while the reactor watches."""

        self._turns = 0
        self._since = 0.0
        self._received = 0

    def addReader(self, reader: Reader) -> None:
        """Have ``reader`` read when there is something."""
        self._reader = reader
        self._watch()

    def removeReader(self, reader: Reader) -> None:
        """Read no more."""
        if self._poll_call is not None:
            self._poll_call.cancel()
            self._poll_call = None
        else:
            self._reactor.removeReader(self)
        self._reader = None

    def callLater(self, delay: float, call: Callable[..., object], *arguments: object) -> IDelayedCall:
        """As the reactor does."""
        later: IDelayedCall = self._reactor.callLater(delay, call, *arguments)
        return later

    # What the reactor wants of a descriptor.

    def fileno(self) -> int:
        """That of the reader; −1 without one."""
        return -1 if self._reader is None else self._reader.fileno()

    def logPrefix(self) -> str:
        """What the reader calls itself."""
        return "nobody" if self._reader is None else self._reader.logPrefix()

    def doRead(self) -> None:
        """The reader is readable. If it mostly is, naps begin."""
        reader = self._reader
        assert reader is not None
        self._turns += 1
        if self._turns == WINDOW:
            now = self.seconds()
            if now - self._since < WINDOW * POLL_INTERVAL_SECONDS:
                self._reactor.removeReader(self)
                self._received = reader.received
                self._begin_nap()
            self._turns, self._since = 0, now
        reader.doRead()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        if self._reader is not None:
            self._reader.connectionLost(reason)

    def _watch(self) -> None:
        self._turns, self._since = 0, self.seconds()
        self._reactor.addReader(self)

    def _begin_nap(self) -> None:
        self._poll_call = self.callLater(POLL_INTERVAL_SECONDS, self._poll)

    def _poll(self) -> None:
        """A nap is over."""
        reader = self._reader
        assert reader is not None
        began = self.seconds()
        # In a method of its own, or mypyc takes what follows from it for granted after the reading, too.
        self._begin_nap()
        reader.doRead()
        self._turns += 1
        if self._poll_call is None:
            # Nobody is left to hear.
            return
        busy = self.seconds() - began >= POLL_INTERVAL_SECONDS
        if busy or (self._turns == WINDOW and reader.received - self._received < WINDOW):
            self._poll_call.cancel()
            self._poll_call = None
            self._watch()
        elif self._turns == WINDOW:
            self._turns, self._received = 0, reader.received


classImplements(CoalescingReactor, IReadDescriptor)
