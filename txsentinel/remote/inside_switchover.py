"""
A switchover that the Sentinels of a group do themselves: ordered from one of them by ``TXSENTINEL SWITCHOVER``.

It needs as many txsentinels as votes, as C Sentinels take no notice of the hold and keep no receipt; other groups are
switched over from outside (``remote.switchover``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from txsentinel.model.operations import OperationSnapshot, OperationState, OperationStep
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import AddressAgreement
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.decoding import UnknownForm, decoded, plain_reply
from txsentinel.remote.reports import SentinelReport

POLL_SECONDS: Final = 0.05
LOST_SECONDS: Final = 60.0
"""How long a Sentinel may be unreachable during a switchover before its outcome is unknown."""

ENDED: Final = (OperationState.DONE, OperationState.FAILED, OperationState.CANCELLED)


class OutcomeUnknown(Exception):
    """The Sentinel that executed the switchover is not reachable any more, or has forgotten it."""


def own_leader(agreement: AddressAgreement) -> SentinelReport | None:
    """
    Return the txsentinel to order a switchover from; ``None`` if the group has too few of them.

    There are enough if they can elect a leader by themselves, or if no other Sentinel can be reached.
    """
    ours = [each for each in agreement.naming if each.identity is not None and not each.identity.is_c]
    others = [each for each in agreement.members if each.identity is not None and each.identity.is_c]
    if len(ours) < max(agreement.majority, agreement.quorum) and others:
        return None
    usable = [
        each
        for each in ours
        if each.identity is not None
        and not each.identity.in_tilt
        and each.masters[agreement.name].epoch == agreement.epoch
    ]
    return min(usable, key=_place, default=None)


def _place(report: SentinelReport) -> str:
    return str(report.endpoint)


@dataclass(frozen=True)
class InsideOrder:
    """What is ordered. ``method`` is a word of ``METHOD``."""

    master: str
    wanted: Endpoint | None = None
    method: str = "auto"
    max_pause_ms: int = 2000
    max_lag: int = 1 << 20
    comment: str = ""
    at_unix_ms: int | None = None
    """When to do it; ``None`` for now."""

    def words(self, *, dry_run: bool = False) -> list[str | int]:
        """Return the command; a dry run evaluates the conditions of now."""
        found: list[str | int] = ["TXSENTINEL", "SWITCHOVER", self.master, "METHOD", self.method]
        found += ["MAXPAUSE", self.max_pause_ms, "MAXLAG", self.max_lag]
        if self.wanted is not None:
            found += ["TO", self.wanted.host, self.wanted.port]
        if self.comment:
            found += ["COMMENT", self.comment]
        if dry_run:
            found.append("DRYRUN")
        elif self.at_unix_ms is not None:
            found += ["AT", self.at_unix_ms]
        return found


@dataclass
class InsideSwitchover:
    """
    The operations at one Sentinel.

    :param connect: makes connections.
    """

    sentinel: Endpoint
    settings: ConnectionSettings
    connect: Callable[[Endpoint, ConnectionSettings], RemoteConnection] = RemoteConnection
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _shown: int = field(default=0, init=False)
    """Number of steps that :meth:`follow` has yielded."""

    def order(self, order: InsideOrder, *, dry_run: bool = False) -> OperationSnapshot:
        """
        Order a switchover, and return the operation when its conditions were tested.

        :raises ErrorAnswer: if it is refused; ``ConnectionFailed`` if the Sentinel is not reachable.
        """
        return self._call(order.words(dry_run=dry_run))

    def cancel(self, operation_id: str) -> OperationSnapshot:
        """Cancel it; raises as :meth:`order`, also if it is too late."""
        return self._call(["TXSENTINEL", "CANCEL", operation_id])

    def follow(self, operation: OperationSnapshot) -> Iterator[OperationSnapshot]:
        """
        Yield the operation whenever it may have changed, at last when it has ended.

        :raises OutcomeUnknown: if the Sentinel does not know it any more, or cannot be reached for a while.
        """
        unreachable: float | None = None
        while True:
            yield operation
            if operation.state in ENDED:
                return
            self.sleep(POLL_SECONDS)
            try:
                operation = self._call(["TXSENTINEL", "OPERATION", operation.operation_id])
                unreachable = None
            except ConnectionFailed as problem:
                unreachable = self.clock() if unreachable is None else unreachable
                if self.clock() - unreachable > LOST_SECONDS:
                    raise OutcomeUnknown(str(problem)) from None
            except ErrorAnswer as problem:
                raise OutcomeUnknown(f"{self.sentinel} was restarted: {problem}") from None

    def new_steps(self, operation: OperationSnapshot) -> Sequence[OperationStep]:
        """Return the steps that were not returned yet."""
        steps = operation.steps[self._shown :]
        self._shown = len(operation.steps)
        return steps

    def _call(self, words: list[str | int]) -> OperationSnapshot:
        with self.connect(self.sentinel, self.settings) as connection:
            connection.use_resp3()
            reply = connection.call(*words)
        try:
            return decoded(OperationSnapshot, plain_reply(reply))
        except UnknownForm as problem:
            raise ErrorAnswer(f"{self.sentinel} answers in another form: {problem}") from None
