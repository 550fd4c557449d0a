"""Log lines about Sentinels of one group whose quorums differ, which nothing else would show before a failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txsentinel.model.comparison import DifferenceKind, GroupComparison
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

INFO_PERIODS: Final = 6
"""INFO periods in which the other Sentinels of each master are asked once, or of as many masters as are asked then."""

MIN_PERIOD_MS: Final[Millis] = 5_000
"""Period between two masters, however many there are."""


class Groups(Protocol):
    """The monitored masters; a view has both methods, too."""

    def names(self) -> Sequence[str]:
        """Return the names of all masters."""

    def compare_group(self, name: str) -> Deferred[GroupComparison]:
        """Compare a master with what the other Sentinels have of it."""


class QuorumLog(Service):
    """
    Asks the other Sentinels of one master after the other for their quorum, and logs differences and their end.

    A master is not asked about any more after another Sentinel has refused to answer, as each refusal is an entry in
    its ``ACL LOG``.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        groups: Groups,
        info_period: Callable[[], Millis],
        note: Callable[[Level, str], None],
    ) -> None:
        self._reactor = reactor
        self._groups = groups
        self._info_period = info_period
        self._note = note
        self._waiting: list[str] = []
        """The masters that are not asked about yet in this round, the next one last."""

        self._logged: dict[str, dict[str, tuple[str, str]]] = {}
        """Master → ID of another Sentinel → the quorum here and there."""

        self._refused: set[str] = set()
        self._call: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self._call = self._reactor.callLater(self._info_period() / 1000, self._ask)

    def stopService(self) -> None:
        """End."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _schedule(self) -> None:
        masters = max(1, len(self._groups.names()))
        period = max(MIN_PERIOD_MS, INFO_PERIODS * self._info_period() // masters)
        self._call = self._reactor.callLater(period / 1000, self._ask)

    def _ask(self) -> None:
        self._schedule()
        names = self._groups.names()
        for gone in self._logged.keys() - set(names):
            del self._logged[gone]
        if not self._waiting:
            self._waiting = [name for name in reversed(names) if name not in self._refused]
        if self._waiting:
            name = self._waiting.pop()
            if name in names:
                self._groups.compare_group(name).addCallbacks(self._compared, self._not_compared)

    def _compared(self, found: GroupComparison) -> None:
        if any("NOPERM" in reason for _, reason in found.missing):
            self._refused.add(found.master)
        before = self._logged.get(found.master, {})
        differing = {each.sentinel_id: each for each in found.differences if each.about is DifferenceKind.QUORUM}
        after = {peer: (each.here, each.there) for peer, each in differing.items()}
        for peer, each in differing.items():
            if before.get(peer) != after[peer]:
                name, here = found.master, each.here
                self._note(
                    Level.WARNING,
                    f"The quorum of master {name} is {here} here, and {each.there} at the Sentinel {each.sentinel}."
                    f" Set the same everywhere: txsentinel set {name} quorum {here} --fleet, or"
                    f" SENTINEL SET {name} quorum {here} at each",
                )
        for peer in before.keys() - after.keys():
            if peer in found.compared:
                self._note(Level.NOTICE, f"The quorum of master {found.master} is that of Sentinel {peer[:8]} again")
            else:
                after[peer] = before[peer]
        self._logged[found.master] = after

    @staticmethod
    def _not_compared(failure: Failure) -> None:
        """Ignore a master that was removed meanwhile."""
        failure.trap(LookupError)  # type: ignore[no-untyped-call]
