"""The kinds of reply of a command besides a plain value, and the queue that keeps replies in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from twisted.internet.defer import Deferred

from txsentinel.wire.resp import Value


class ReplyMode(Enum):
    """The mark of a command without a reply."""

    NO_REPLY = "no reply"


NO_REPLY: Final = ReplyMode.NO_REPLY


@dataclass(frozen=True, slots=True)
class DurableReply:
    """
    A reply that must not be sent before hard state is durable.

    ``value`` is sent when ``generation`` is durable, ``on_failure`` if it cannot be saved. The later replies of the
    pipeline wait for it. Each may be a function that returns the value at that time.
    """

    generation: int
    value: Value | Callable[[], Value]
    on_failure: Value | Callable[[], Value]
    undo: Callable[[], str | None] | None = None
    """Reverts the changes of the command, because ``on_failure`` is a refusal."""

    since: int = 0
    """The first generation of these changes."""

    def outcomes(self, resolve: Callable[[Value], None]) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return the callbacks for success and for failure; each calls ``resolve`` with the reply."""

        def outcome(value: Value | Callable[[], Value]) -> Callable[[], None]:
            return lambda: resolve(value() if callable(value) else value)

        return outcome(self.value), outcome(self.on_failure)


@dataclass(frozen=True, slots=True)
class DeferredReply:
    """A reply that is not known yet; the later replies of the pipeline wait for it."""

    answer: Deferred[Value]


@dataclass(frozen=True, slots=True)
class Stepwise:
    """
    A reply that takes many steps, between which other clients are served.

    After each step ``steps`` yields encoded bytes that may be sent at once, often none. It returns the rest of the
    reply, and may raise ``CommandError`` like any command. The later requests of the pipeline wait until it is done;
    other clients do not, so the data that it works on may change between two steps.
    """

    steps: Generator[bytes, None, Reply]


Reply: TypeAlias = Value | DurableReply | DeferredReply | ReplyMode | Stepwise
"""The return value of a command."""

Steps: TypeAlias = "Generator[bytes, None, Reply]"
"""The steps of a :class:`Stepwise` reply."""


class HeldReply:
    """The position of one deferred reply in the queue; ``encoded`` is ``None`` until the reply is known."""

    __slots__ = ("encoded",)

    def __init__(self) -> None:
        self.encoded: bytes | None = None


class ReplyQueue:
    """
    The replies of one connection, in the order of its requests.

    ``ready`` has the replies that can be written. From the first deferred reply on everything waits, pushed messages
    included: a client gets the reply to its change before the events of this change.
    """

    __slots__ = ("ready", "size", "waiting")

    def __init__(self) -> None:
        self.ready: list[bytes] = []
        self.size = 0
        """Bytes of all replies, ready or waiting."""

        self.waiting: deque[HeldReply | bytes] = deque()
        """The first deferred reply and everything after it."""

    def add(self, encoded: bytes) -> None:
        """Append encoded bytes."""
        self.size += len(encoded)
        if self.waiting:
            self.waiting.append(encoded)
        else:
            self.ready.append(encoded)

    def defer_reply(self) -> HeldReply:
        """Reserve the position of a reply that is not known yet."""
        place = HeldReply()
        self.waiting.append(place)
        return place

    def resolve(self, place: HeldReply, encoded: bytes) -> None:
        """Set the bytes of a deferred reply; they may be empty."""
        place.encoded = encoded
        self.size += len(encoded)
        waiting = self.waiting
        while waiting:
            first = waiting[0]
            known = first if isinstance(first, bytes) else first.encoded
            if known is None:
                return
            waiting.popleft()
            self.ready.append(known)

    def take(self) -> bytes:
        """Remove and return all ready replies in one piece."""
        ready = self.ready
        if not ready:
            return b""
        taken = ready[0] if len(ready) == 1 else b"".join(ready)
        ready.clear()
        self.size -= len(taken)
        return taken

    def clear(self) -> None:
        """Drop all replies after the connection is lost."""
        self.ready.clear()
        self.waiting.clear()
        self.size = 0
