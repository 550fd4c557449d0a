"""
What a Sentinel does for others is handed over before it is stopped: the leases of votes, and records of later times.

The Sentinels of our kind are informed which of them are leaving, by ``TXSENTINEL LEAVING``. From then on none of those
holds leases or begins a scheduled switchover if another one can. The one that holds the leases next renews all of them
at once, and one that leaves sends its records to the others once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from txsentinel.core.durable_records import RecordKind
from txsentinel.core.fan_out import PeerAnswer, kind_of
from txsentinel.core.pause_rules import pauses_of
from txsentinel.core.pauses import Pauses
from txsentinel.core.registry import Registry
from txsentinel.core.schedules import Schedules
from txsentinel.core.state import SentinelState
from txsentinel.core.write_rejection import WriteRejections
from txsentinel.model.timings import Millis

MAX_LEAVING: Final[Millis] = 24 * 3_600_000
"""Maximum time for which a Sentinel counts as leaving."""

TOLERANCE: Final[Millis] = 500
"""A lease of another Sentinel seems older than it is by the time that its answer took."""


class Leaving:
    """Records which Sentinels are leaving, and hands over what they do."""

    def __init__(
        self,
        state: SentinelState,
        registry: Registry,
        pauses: Pauses,
        schedules: Schedules,
        rejections: WriteRejections,
    ) -> None:
        self._state = state
        self._registry = registry
        self._pauses = pauses
        self._schedules = schedules
        self._rejections = rejections

    def announced(self, sentinels: Sequence[str], period: Millis, now: Millis, wall_now: Millis) -> None:
        """Handle that Sentinels are leaving, for at most ``period``; with 0 they stay."""
        for sentinel in sentinels:
            if period > 0:
                self._state.leaving[sentinel] = now + min(period, MAX_LEAVING)
            else:
                self._state.leaving.pop(sentinel, None)
        self._pauses.renew_all(now)
        if period > 0 and self._state.options.my_id in sentinels:
            self.send_records(now, wall_now, _ignore)

    def send_records(self, now: Millis, wall_now: Millis, done: Callable[[Sequence[PeerAnswer]], None]) -> int:
        """Send the records in force to the peers of our kind once more; ``done`` gets the answers to each."""
        records = self._state.records
        sent = 0
        for held in list(records.in_force(RecordKind.SCHEDULED, now)):
            self._schedules.send(held.record, now, done)
            sent += 1
        for held in list(records.in_force(RecordKind.REJECTING, now)):
            self._rejections.send(held.record, now, done)
            sent += 1
        paused = [held.record for held in records.in_force(RecordKind.PAUSE, now)]
        for record in paused:
            self._pauses.broadcast([record], now, done)
        return sent + len(paused)

    def leases_to_hand_over(self, since: Millis, now: Millis) -> list[str]:
        """Return the paused masters with leases that were not renewed since ``since`` by one that stays."""
        found = []
        for master in self._registry.masters.values():
            if not pauses_of(self._state, master.name, now):
                continue
            for peer in master.peers.values():
                lease = self._pauses.leases.get(master.name, peer.name)
                if (
                    kind_of(peer) == "c"
                    and lease is not None
                    and now < lease.until
                    and lease.began_at < since - TOLERANCE
                ):
                    found.append(master.name)
                    break
        return found


def _ignore(answers: Sequence[PeerAnswer]) -> None:
    """Take the answers of the peers."""
