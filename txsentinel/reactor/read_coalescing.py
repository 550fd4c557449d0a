"""
Read coalescing: sockets are read at fixed intervals while they are busy.

A thousand masters send some thousand replies a second, a few bytes each. Waking up for each of them costs more than
reading it: two polls, a context switch, a turn of the reactor. As network cards coalesce their interrupts, this module
coalesces reads. While a reader is readable more than once per interval on average, it is removed from the reactor and
read after each interval of some milliseconds. With less input, and when one reading takes as long as an interval, the
reactor watches it again. So neither few servers nor a mass failure are delayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.reactor.priority import yield_function

POLL_INTERVAL_SECONDS: Final = 0.004
"""Seconds for which input may wait. A failover needs half a dozen successive replies."""

WINDOW: Final = 64
"""Number of turns or intervals over which the average is taken."""


class Reader(Protocol):
    """A descriptor whose reads are coalesced, such as a multiplexer."""

    received: int
    """Number of socket events processed since the start."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def logPrefix(self) -> str:
        """Return the name in the log."""

    def doRead(self) -> object:
        """Process the ready sockets, for some milliseconds at most."""

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""


class CoalescingReactor:
    """
    The reactor of one reader, and a reader of the real reactor.

    :param reactor: the real reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.yield_to_clients = yield_function(reactor)
        """See :func:`yield_function`."""

        self.seconds: Callable[[], float] = reactor.seconds
        """The clock of the reactor."""

        self._reader: Reader | None = None
        self._poll_call: IDelayedCall | None = None
        """The call at the end of the present interval; ``None`` while the reactor watches the descriptor."""

        self._turns = 0
        self._since = 0.0
        self._received = 0

    def addReader(self, reader: Reader) -> None:
        """Call ``doRead`` of the reader when there is input."""
        self._reader = reader
        self._watch()

    def removeReader(self, reader: Reader) -> None:
        """Stop reading."""
        if self._poll_call is not None:
            self._poll_call.cancel()
            self._poll_call = None
        else:
            self._reactor.removeReader(self)
        self._reader = None

    def callLater(self, delay: float, call: Callable[..., object], *arguments: object) -> IDelayedCall:
        """Delegate to the reactor."""
        later: IDelayedCall = self._reactor.callLater(delay, call, *arguments)
        return later

    # ``IReadDescriptor``, for the reactor.

    def fileno(self) -> int:
        """Return the descriptor of the reader, −1 without a reader."""
        return -1 if self._reader is None else self._reader.fileno()

    def logPrefix(self) -> str:
        """Return the name of the reader in the log."""
        return "-" if self._reader is None else self._reader.logPrefix()

    def doRead(self) -> None:
        """Read. If the reader was readable in most turns, begin to read at intervals."""
        reader = self._reader
        assert reader is not None
        self._turns += 1
        if self._turns == WINDOW:
            now = self.seconds()
            if now - self._since < WINDOW * POLL_INTERVAL_SECONDS:
                self._reactor.removeReader(self)
                self._received = reader.received
                self._begin_interval()
            self._turns, self._since = 0, now
        reader.doRead()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        if self._reader is not None:
            self._reader.connectionLost(reason)

    def _watch(self) -> None:
        self._turns, self._since = 0, self.seconds()
        self._reactor.addReader(self)

    def _begin_interval(self) -> None:
        self._poll_call = self.callLater(POLL_INTERVAL_SECONDS, self._poll)

    def _poll(self) -> None:
        """Read at the end of an interval, and begin the next one or return to the reactor."""
        reader = self._reader
        assert reader is not None
        began = self.seconds()
        # This is a separate method because mypyc would otherwise assume that the attribute is still set afterwards.
        self._begin_interval()
        reader.doRead()
        self._turns += 1
        if self._poll_call is None:
            # The reader was removed.
            return
        busy = self.seconds() - began >= POLL_INTERVAL_SECONDS
        if busy or (self._turns == WINDOW and reader.received - self._received < WINDOW):
            self._poll_call.cancel()
            self._poll_call = None
            self._watch()
        elif self._turns == WINDOW:
            self._turns, self._received = 0, reader.received


classImplements(CoalescingReactor, IReadDescriptor)
