"""The command table of a simulated Redis: how a command is declared and when it is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from txsentinel.wire.resp import Value

Body: TypeAlias = Callable[..., Value]
"""Takes the server, the client, and all words of the request, the name of the command included."""

_Function = TypeVar("_Function", bound=Body)

_WHILE_BUSY: Final = frozenset(
    ("AUTH", "HELLO", "MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "RESET", "QUIT", "REPLCONF", "SHUTDOWN")
)


@dataclass(frozen=True, slots=True)
class SimCommand:
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


class SimCommandTable:
    """The commands that one module declares."""

    def __init__(self) -> None:
        self.commands: dict[str, SimCommand] = {}
        """By upper-case name."""

    def command(self, name: str, arity: int, flags: str = "") -> Callable[[_Function], _Function]:
        """
        Declare a command.

        :param flags: any of the words ``write replicate unauthenticated subscribed stale loading``.
        """
        words = flags.split()

        def declare(function: _Function) -> _Function:
            self.commands[name] = SimCommand(
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
