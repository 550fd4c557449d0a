"""The column PAUSED of ``txsentinel list``: which Sentinels are kept from failovers, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from txsentinel.cli.operator.options import FleetAccess
from txsentinel.cli.operator.screen import Styled, Words
from txsentinel.cli.operator.visible import duration
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer
from txsentinel.remote.decoding import UnknownForm
from txsentinel.remote.fleet import FleetReport, in_parallel
from txsentinel.remote.membership import order
from txsentinel.remote.pauses import ALL_MASTERS, PauseReport, SentinelInPause, pauses_of
from txsentinel.remote.reports import SentinelReport

UNKNOWN: Words = Styled("?", "weak")
NONE = "-"


@dataclass(frozen=True)
class PausesRead:
    """
    What the Sentinels of ours answered about their pauses; ``None`` if one did not answer.

    The C Sentinels do not know that they are kept from failovers by their votes; the others answer for them.
    """

    at: Instant
    reports: Mapping[Endpoint, tuple[PauseReport, ...] | None] = field(default_factory=dict)

    def of_master(self, name: str) -> Words:
        """Return whether failovers of a master are paused, according to any Sentinel, and for how long."""
        ends = [each.until for found in self.reports.values() for each in found or () if _concerns(each, name)]
        return f"paused {self._left(max(ends, key=_time))}" if ends else NONE

    def of_sentinel(self, sentinel: SentinelReport, name: str) -> Words:
        """Return what keeps a Sentinel from failovers of a master: a pause or a lease of its vote, and for how long."""
        if sentinel.endpoint in self.reports:
            found = self.reports[sentinel.endpoint]
            ends = [each.until for each in found or () if _concerns(each, name)]
            return f"paused {self._left(max(ends, key=_time))}" if ends else UNKNOWN if found is None else NONE
        leases, free = [], False
        for each in self._seen_in_pauses(name):
            if each.address == str(sentinel.endpoint) or each.id == sentinel.sentinel_id:
                free = free or each.state == "free"
                leases += [each.until] if each.state == "leased" and each.until is not None else []
        if leases:
            return f"leased {self._left(max(leases, key=_time))}"
        return Styled("free", "warning") if free else NONE

    def _seen_in_pauses(self, name: str) -> list[SentinelInPause]:
        return [
            each
            for found in self.reports.values()
            for pause in found or ()
            for master in pause.masters
            if master.name == name
            for each in master.sentinels
        ]

    def _left(self, until: Instant) -> str:
        return duration(max(until.unix_ms - self.at.unix_ms, 0))


def read_pauses(access: FleetAccess, fleet: FleetReport, at: Instant) -> PausesRead:
    """Ask all Sentinels of ours that answer for their pauses."""
    ours = [each for each in fleet.reachable if each.identity is not None and not each.identity.is_c]

    def ask(sentinel: SentinelReport) -> tuple[PauseReport, ...] | None:
        try:
            return pauses_of(order(sentinel, access.settings, access.settings.timeout, "PAUSED"))
        except (ConnectionFailed, ErrorAnswer, UnknownForm):
            return None

    return PausesRead(at, dict(zip([each.endpoint for each in ours], in_parallel(ask, ours), strict=True)))


def _concerns(pause: PauseReport, name: str) -> bool:
    return pause.master in (name, ALL_MASTERS)


def _time(instant: Instant) -> int:
    return instant.unix_ms
