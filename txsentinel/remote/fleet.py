"""Reads all Sentinels of a group in parallel, and finds those that were not named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.connection import ConnectionSettings
from txsentinel.remote.reading import Scope, read_sentinel
from txsentinel.remote.reports import MasterReport, SentinelReport

MAX_THREADS: Final = 32
"""Sentinels that are read at the same time."""

MAX_SENTINELS: Final = 500
"""Sentinels that are read in all; a hostile one could name any number."""

In = TypeVar("In")
Out = TypeVar("Out")


def in_parallel(function: Callable[[In], Out], values: Sequence[In]) -> list[Out]:
    """Return the results of a function for all values, in their order."""
    if len(values) < 2:
        return [function(each) for each in values]
    with ThreadPoolExecutor(min(len(values), MAX_THREADS)) as pool:
        return list(pool.map(function, values))


@dataclass(frozen=True)
class FleetReport:
    """What all Sentinels of one or more groups answered, in the order of their addresses."""

    sentinels: tuple[SentinelReport, ...]

    @property
    def reachable(self) -> tuple[SentinelReport, ...]:
        """Those that answered."""
        return tuple(each for each in self.sentinels if each.reachable)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all masters, sorted."""
        return tuple(sorted({name for each in self.sentinels for name in each.masters}))

    def of_master(self, name: str) -> tuple[SentinelReport, ...]:
        """
        Return the Sentinels of a master: those that monitor it, and those that other ones name for it.

        One that does not answer and that nobody names may be one of them, so it is returned, too.
        """
        peers = [peer for each in self.reports(name).values() for peer in each.peers]
        endpoints = {peer.endpoint for peer in peers}
        ids = {peer.run_id for peer in peers}
        return tuple(
            each
            for each in self.sentinels
            if name in each.masters
            or each.endpoint in endpoints
            or each.sentinel_id in ids
            or (not each.reachable and each.sentinel_id is None)
        )

    def reports(self, name: str) -> dict[Endpoint, MasterReport]:
        """Return what each Sentinel that monitors a master answers about it."""
        return {each.endpoint: each.masters[name] for each in self.sentinels if name in each.masters}


Reader = Callable[[Endpoint], SentinelReport]


def read_fleet(
    seeds: Iterable[Endpoint],
    settings: ConnectionSettings,
    names: Collection[str] | None = None,
    details: bool = True,
    discover: bool = True,
) -> FleetReport:
    """
    Read the Sentinels at the given addresses and, unless ``discover`` is false, all that these know.

    :param details: see :class:`~txsentinel.remote.reading.Scope`.
    """
    scope = Scope(names, details)
    return collect(tuple(seeds), lambda endpoint: read_sentinel(endpoint, settings, scope), discover)


def collect(seeds: Sequence[Endpoint], read: Reader, discover: bool = True) -> FleetReport:
    """
    Read ``seeds``, then what they name, until nothing new is named.

    A Sentinel that has several addresses is returned once, under the address that was given.

    :param read: reads one Sentinel; called from several threads.
    """
    found: dict[Endpoint, SentinelReport] = {}
    ids: dict[Endpoint, str] = {}
    waiting = list(dict.fromkeys(seeds))
    while waiting:
        for report in in_parallel(read, waiting):
            found[report.endpoint] = report
        for report in found.values():
            for master in report.masters.values():
                ids.update({peer.endpoint: peer.run_id for peer in master.peers})
        if not discover:
            break
        read_ids = {each.sentinel_id for each in found.values() if each.sentinel_id}
        waiting = [
            endpoint
            for endpoint, sentinel_id in ids.items()
            if endpoint not in found and sentinel_id not in read_ids and endpoint.port
        ][: MAX_SENTINELS - len(found)]
    return FleetReport(tuple(_without_duplicates(found, ids)))


def _without_duplicates(found: dict[Endpoint, SentinelReport], ids: dict[Endpoint, str]) -> Iterable[SentinelReport]:
    given: set[str] = set()
    for endpoint, report in sorted(found.items(), key=_order):
        sentinel_id = report.sentinel_id or ids.get(endpoint)
        if sentinel_id is not None and sentinel_id in given:
            continue
        if sentinel_id is not None:
            given.add(sentinel_id)
        yield report if report.sentinel_id else replace(report, sentinel_id=sentinel_id)


def _order(entry: tuple[Endpoint, SentinelReport]) -> tuple[bool, tuple[int, ...], str, int]:
    """Reachable ones first, so that they are kept; IPv4 addresses by number."""
    endpoint, report = entry
    parts = endpoint.host.split(".")
    numeric = tuple(int(part) for part in parts) if all(part.isdigit() and len(part) < 4 for part in parts) else ()
    return not report.reachable, numeric, endpoint.host, endpoint.port
