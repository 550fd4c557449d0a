"""The command table of a simulated Redis: how a command is declared and when it is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from txsentinel.wire.resp import Value

if TYPE_CHECKING:
    from txsentinel.sim.redis.client import RedisClient
    from txsentinel.sim.redis.server import SimRedis

Body: TypeAlias = "Callable[[SimRedis, RedisClient, list[bytes]], Value]"
"""Takes all words of the request, the name of the command included."""

_WHILE_BUSY: Final = frozenset(
    ("AUTH", "HELLO", "MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "RESET", "QUIT", "REPLCONF", "SHUTDOWN")
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and the states of the server in which it is executed."""

    name: str
    word: str
    """The name in lower case."""
    arity: int
    """Number of words, the name included; negative for a minimum."""
    function: Body
    writes: bool = False
    replicates: bool = False
    """Whether it is replicated without being a write: PUBLISH."""
    unauthenticated: bool = False
    while_subscribed: bool = False
    while_stale: bool = False
    while_loading: bool = False

    def takes(self, words: int) -> bool:
        """Whether that number of words is allowed."""
        return words == self.arity if self.arity >= 0 else words >= -self.arity

    def while_busy(self, words: list[bytes]) -> bool:
        """Whether it is executed while a script runs."""
        return self.name in _WHILE_BUSY or (self.name == "SCRIPT" and words[1].upper() == b"KILL")


COMMANDS: Final[dict[str, Command]] = {}
"""All commands by upper-case name; filled by the modules that declare them."""


def command(name: str, arity: int, flags: str = "") -> Callable[[Body], Body]:
    """
    Declare a command.

    :param flags: any of the words ``write replicate unauthenticated subscribed stale loading``.
    """
    words = flags.split()

    def declare(function: Body) -> Body:
        COMMANDS[name] = Command(
            name,
            name.lower(),
            arity,
            function,
            writes="write" in words,
            replicates="replicate" in words,
            unauthenticated="unauthenticated" in words,
            while_subscribed="subscribed" in words,
            while_stale="stale" in words,
            while_loading="loading" in words,
        )
        return function

    return declare
