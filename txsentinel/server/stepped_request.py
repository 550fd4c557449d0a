"""A request that is executed in several steps: see :class:`~txsentinel.server.replies.Stepwise`."""

from __future__ import annotations

from collections.abc import Callable

from txsentinel.model.timings import Millis
from txsentinel.server.replies import Reply, Stepwise
from txsentinel.server.specification import Command


class SteppedRequest:
    """
    A request whose execution takes several steps, perhaps several turns: those that remain.

    :param answer: the value that the command returned.
    :param command: the command.
    :param cost: size of the request in bytes.
    """

    __slots__ = ("_steps", "command", "cost")

    def __init__(self, answer: Stepwise, command: Command, cost: int) -> None:
        self._steps = answer.steps
        self.command = command
        self.cost = cost

    def proceed(self, now: Callable[[], Millis], until: Millis, send: Callable[[bytes], bool]) -> Reply:
        """
        Execute steps until the request is done, the time slice has passed, or the output is full.

        :param send: takes a part of the reply; returns whether the output accepts more.
        :returns: the rest of the reply when the request is done, otherwise the remaining ``Stepwise``.
        :raises CommandError: if the request is refused.
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
