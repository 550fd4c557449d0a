"""The execution of one request that takes many steps, a time slice at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from txsentinel.server.replies import Reply, Stepwise

if TYPE_CHECKING:
    from txsentinel.model.timings import Millis
    from txsentinel.server.table import Command


class Execution:
    """
    What is left to do of a request.

    :param answer: what the command returned.
    :param command: the command.
    :param cost: bytes that the request occupies.
    """

    __slots__ = ("_steps", "command", "cost")

    def __init__(self, answer: Stepwise, command: Command, cost: int) -> None:
        self._steps = answer.steps
        self.command = command
        self.cost = cost

    def proceed(self, now: Callable[[], Millis], until: Millis, send: Callable[[bytes], bool]) -> Reply:
        """
        Make steps until the request is done, the time is up, or there is no more room for output.

        :param send: takes a piece of the answer; returns whether there is room for more.
        :returns: the rest of the answer once the request is done, else the ``Stepwise`` answer that this is.
        :raises CommandError: if the request turns out to be refused.
        """
        steps = self._steps
        while True:
            try:
                piece = next(steps)
            except StopIteration as end:
                value: Reply = end.value
                if not isinstance(value, Stepwise):
                    return value
                steps = self._steps = value.steps
                continue
            if (piece and not send(piece)) or now() > until:
                return Stepwise(steps)
