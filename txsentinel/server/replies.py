"""What a command can answer besides a plain value, and the queue that keeps the answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from twisted.internet.defer import Deferred

from txsentinel.wire.resp import Value


class ReplyMode(Enum):
    """A command that answers nothing at all."""

    NO_REPLY = "no reply"


NO_REPLY: Final = ReplyMode.NO_REPLY


@dataclass(frozen=True, slots=True)
class Channels:
    """
    An answer that must not be given before hard state is on disk.

    ``value`` is said once ``generation`` is durable, ``on_failure`` if it could not be saved. What
    stands behind it in the pipeline waits with it. A function is called at that moment for what is true then.
    """

    generation: int
    value: Value | Callable[[], Value]
    on_failure: Value | Callable[[], Value]
    undo: Callable[[], object] | None = None
    """Takes back what the command changed, for ``on_failure`` is a refusal."""

    since: int = 0
    """The first generation of those changes."""

    def outcomes(self, resolve: Callable[[Value], None]) -> tuple[Callable[[], None], Callable[[], None]]:
        """What to call once it is durable, and if it could not be saved; ``settle`` is given the answer."""

        def outcome(value: Value | Callable[[], Value]) -> Callable[[], None]:
            return lambda: resolve(value() if callable(value) else value)

        return outcome(self.value), outcome(self.on_failure)


@dataclass(frozen=True, slots=True)
class DeferredReply:
    """An answer that somebody is at work on; what stands behind it in the pipeline waits with it."""

    answer: Deferred[Value]


@dataclass(frozen=True, slots=True)
class Stepwise:
    """
    An answer that takes many steps, between which others are served.

    ``steps`` yields after each step what may be sent at once, encoded, mostly nothing, and returns the rest of the
    answer. It may raise ``CommandError`` like any command. What stands behind it in the pipeline waits until it is
    done; other clients do not, so whatever it works on may have changed at its next step.
    """

    steps: Generator[bytes, None, Reply]


Reply: TypeAlias = Value | Channels | DeferredReply | ReplyMode | Stepwise
"""Whatever a command may return."""

Steps: TypeAlias = "Generator[bytes, None, Reply]"
"""The steps of a :class:`Stepwise` answer."""


class HeldReply:
    """The place of one answer that is not known yet; ``encoded`` is ``None`` until it is."""

    __slots__ = ("encoded",)

    def __init__(self) -> None:
        self.encoded: bytes | None = None


class ReplyQueue:
    """
    The answers of one connection, in the order of its requests.

    Answers that are ready collect in ``ready`` until somebody takes them; from the first held one
    on, everything waits, pushed messages too: a client hears of its change before the events of it.
    """

    __slots__ = ("ready", "size", "waiting")

    def __init__(self) -> None:
        self.ready: list[bytes] = []
        self.size = 0
        """Bytes that are here, ready or waiting."""

        self.waiting: deque[HeldReply | bytes] = deque()
        """From the first held reply on."""

    def add(self, encoded: bytes) -> None:
        """Append bytes that are ready to go."""
        self.size += len(encoded)
        if self.waiting:
            self.waiting.append(encoded)
        else:
            self.ready.append(encoded)

    def defer_reply(self) -> HeldReply:
        """Keep a place for an answer that is not known yet."""
        place = HeldReply()
        self.waiting.append(place)
        return place

    def resolve(self, place: HeldReply, encoded: bytes) -> None:
        """The answer of a held place is known; it may be empty."""
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
        """Everything that may go out now, in one piece."""
        ready = self.ready
        if not ready:
            return b""
        taken = ready[0] if len(ready) == 1 else b"".join(ready)
        ready.clear()
        self.size -= len(taken)
        return taken

    def clear(self) -> None:
        """Drop everything: the connection is gone."""
        self.ready.clear()
        self.waiting.clear()
        self.size = 0
