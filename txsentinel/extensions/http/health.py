"""
Health checks: of this Sentinel for its supervisor, and of masters and replicas for load balancers.

An answer is 200 or 503; a 503 has a code in its body and in the header ``X-Txsentinel-Reason``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from txsentinel.extensions.http.addresses import find_endpoint
from txsentinel.extensions.http.problem import Problem, ProblemReason, shown, unavailable, unknown_master
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, small_response
from txsentinel.extensions.http.router import Handler, Route, RouteAccess
from txsentinel.interfaces import ISentinelView
from txsentinel.model.snapshots import Endpoint, MasterSnapshot, ReplicaSnapshot

MIN_SWEEP_AGE_MS: Final = 3_000
MAX_MISSED_SWEEPS: Final = 3
"""The last sweep may be as old as the greater of the two."""

MAX_REASONS: Final = 20
"""How many reasons an answer lists."""


class HealthRoutes:
    """
    The handlers of all health checks.

    :param wall_clock: returns the seconds since 1970.
    """

    def __init__(self, view: ISentinelView, wall_clock: Callable[[], float]) -> None:
        self._view = view
        self._wall_clock = wall_clock

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        freshness = ("lag", "max_age")
        yield from _aliases(("/live", "/livez"), self.live, "Whether this Sentinel still monitors.")
        ready = "Whether this Sentinel can do its part: for all masters, or for one."
        yield from _aliases(("/ready", "/readyz"), self.ready, ready, ("master", "strict"))
        for word in ("master", "primary"):
            yield from _aliases((f"/{word}/{{master}}",), self.master, "Whether a master is up and where.")
            summary = "Whether the address is that of the master, which is up."
            yield from _aliases((f"/{word}/{{master}}/is/{{address}}",), self.is_master, summary)
        summary = "Whether the address is that of a replica that is up and has recent data."
        yield from _aliases(("/replica/{master}/is/{address}",), self.is_replica, summary, freshness)
        summary = "Whether the address is that of the master or of a replica that can be read from."
        yield from _aliases(("/any/{master}/is/{address}",), self.is_any, summary, freshness)

    def live(self, request: ApiRequest) -> ApiResponse:
        """Answer 200 if the instances were evaluated lately."""
        load = self._view.load()
        limit = max(MIN_SWEEP_AGE_MS, MAX_MISSED_SWEEPS * load.sweep_period_ms)
        if load.swept_at is None:
            raise unavailable("stalled", "the instances have not been evaluated since the start")
        age = int(self._wall_clock() * 1000) - load.swept_at.unix_ms
        if age > limit:
            raise unavailable("stalled", f"the instances were last evaluated {age} ms ago; the limit is {limit} ms")
        return small_response({"status": "ok", "sweep_age_ms": max(age, 0)})

    def ready(self, request: ApiRequest) -> ApiResponse:
        """Answer 200 if this Sentinel serves, can save, is not in TILT, and knows each master and a majority for it."""
        name = request.query.get("master")
        strict = request.flag("strict")
        masters = self._view.masters() if name is None else (self._snapshot(name),)
        reasons = list(self._reasons_of_sentinel())
        for master in masters:
            reasons += self._reasons_of_master(master, strict)
        if reasons:
            first = reasons[0]
            raise unavailable(first.code, first.text, reasons[:MAX_REASONS], first.subject)
        return small_response({"status": "ok", "masters": len(masters)})

    def _reasons_of_sentinel(self) -> Iterator[ProblemReason]:
        sentinel = self._view.identity()
        storage, tilt = sentinel.storage, sentinel.tilt
        if sentinel.stopping:
            yield ProblemReason("", "stopping", "the process is stopping")
        if not sentinel.listens or (storage.durable_generation == 0 and storage.pending > 0):
            yield ProblemReason("", "starting", "the process does not serve yet, or its own ID is not saved yet")
        if storage.state != "ok":
            yield ProblemReason("", "storage_failing", f"the state cannot be saved: {storage.last_error}")
        if tilt.active:
            until = "" if tilt.until is None else f" until {tilt.until}"
            yield ProblemReason("", "tilt", f"TILT{until}: {tilt.cause or 'the clock or the process stood still'}")

    def _reasons_of_master(self, master: MasterSnapshot, strict: bool) -> Iterator[ProblemReason]:
        if master.voters_reachable < majority(master):
            text = f"{master.voters_reachable} of {master.voters} Sentinels can be reached, {majority(master)} needed"
            yield ProblemReason(master.name, "no_majority", text)
        if master.run_id is None and self._view.probe_times(master.name)[master.name].info_at is None:
            yield ProblemReason(master.name, "unknown_master_state", "the master has not answered INFO yet")
        if strict:
            for peer in master.peers:
                if peer.acknowledges is False:
                    text = f"the Sentinel at {peer.address} has another address or epoch for the master"
                    yield ProblemReason(master.name, "peers_disagree", text)

    def master(self, request: ApiRequest) -> ApiResponse:
        """Answer 200 if the master is not down by agreement, and this Sentinel has what a majority knows."""
        master = self._snapshot(request.parameters["master"])
        self._check_master(master)
        return small_response(master_document(master))

    def is_master(self, request: ApiRequest) -> ApiResponse:
        """Answer 200 if the address is that of the master, and :meth:`master` would answer so."""
        master = self._snapshot(request.parameters["master"])
        if find_endpoint(request.parameters["address"], endpoints(master)) != 0:
            raise not_master(request, master)
        self._check_master(master)
        return small_response(master_document(master))

    def is_replica(self, request: ApiRequest) -> ApiResponse:
        """Answer 200 if the address is that of a replica that is up, has its link, and is not too far behind."""
        master = self._snapshot(request.parameters["master"])
        place = find_endpoint(request.parameters["address"], endpoints(master))
        if place is None or place == 0:
            text = f"{shown(request.parameters['address'])} is not a replica of this master"
            raise unavailable("not_replica", text)
        return self._check_replica(request, master, master.replicas[place - 1])

    def is_any(self, request: ApiRequest) -> ApiResponse:
        """Answer 200 if either :meth:`is_master` or :meth:`is_replica` would."""
        master = self._snapshot(request.parameters["master"])
        place = find_endpoint(request.parameters["address"], endpoints(master))
        if place == 0:
            return self.is_master(request)
        return self.is_replica(request)

    def _snapshot(self, name: str) -> MasterSnapshot:
        try:
            return self._view.master(name)
        except LookupError:
            raise unknown_master(name) from None

    def _check_master(self, master: MasterSnapshot) -> None:
        """
        Check that clients can use the master.

        :raises Problem: if not.
        """
        failover = master.failover
        switched = _has_switched(master)
        if master.odown_since is not None and not switched:
            raise unavailable("odown", f"the master is down since {master.odown_since}, as the Sentinels agree")
        if failover is not None and not switched:
            raise unavailable("failover_in_progress", f"a failover is in the state {failover.state}")
        if master.voters_reachable < majority(master):
            raise unavailable(
                "isolated",
                f"this Sentinel reaches {master.voters_reachable} of {master.voters} Sentinels: another master may "
                "have been elected",
            )

    def _check_replica(self, request: ApiRequest, master: MasterSnapshot, replica: ReplicaSnapshot) -> ApiResponse:
        max_lag, max_age = request.size("lag"), request.duration("max_age")
        if replica.sdown_since is not None:
            raise unavailable("down", f"the replica is down since {replica.sdown_since}")
        if not replica.master_link_up:
            raise unavailable("link_down", "the replica has no link to its master")
        if max_lag is not None and (replica.lag_bytes is None or replica.lag_bytes > max_lag):
            lag = "an unknown number of" if replica.lag_bytes is None else replica.lag_bytes
            raise unavailable("lagging", f"the replica is {lag} bytes behind; the limit is {max_lag}")
        if max_age is not None:
            self._check_age(master, replica, max_age)
        return small_response(
            {
                "status": "ok",
                "role": "replica",
                "master": master.name,
                "address": replica.address,
                "lag_bytes": replica.lag_bytes,
            }
        )

    def _check_age(self, master: MasterSnapshot, replica: ReplicaSnapshot, max_age: int) -> None:
        times = self._view.probe_times(master.name).get(replica.name)
        if times is None or times.info_at is None:
            raise unavailable("stale_info", "the replica has not answered INFO yet")
        age = int(self._wall_clock() * 1000) - times.info_at.unix_ms
        if age > max_age:
            raise unavailable("stale_info", f"the replica last answered INFO {age} ms ago; the limit is {max_age} ms")


def _aliases(patterns: tuple[str, ...], handler: Handler, summary: str, query: tuple[str, ...] = ()) -> Iterator[Route]:
    for pattern in patterns:
        yield Route("GET", pattern, handler, RouteAccess.HEALTH, query=query, summary=summary)


def _has_switched(master: MasterSnapshot) -> bool:
    """Whether clients already get the address of the replica that a failover in progress has promoted."""
    failover = master.failover
    if failover is None or failover.promoted is None:
        return False
    promoted = next((each.address for each in master.replicas if each.name == failover.promoted), None)
    return master.address == promoted or str(master.address) == failover.promoted


def majority(master: MasterSnapshot) -> int:
    """Return how many of the known Sentinels are a majority."""
    return master.voters // 2 + 1


def endpoints(master: MasterSnapshot) -> list[Endpoint]:
    """Return the address of the master and those of its replicas, in this order."""
    return [master.address, *(each.address for each in master.replicas)]


def not_master(request: ApiRequest, master: MasterSnapshot) -> Problem:
    """Return the answer for an address that is not that of the master."""
    text = f"{shown(request.parameters['address'])} is not the master; that is {shown(str(master.address))}"
    return unavailable("not_master", text)


def master_document(master: MasterSnapshot) -> dict[str, object]:
    """Return what a health check shows of a master."""
    known = 1 + sum(each.acknowledges is True for each in master.peers)
    return {
        "status": "ok",
        "role": "master",
        "master": master.name,
        "address": master.address,
        "config_epoch": master.config_epoch,
        "since": master.switched_at,
        "agreed": f"{known}/{master.voters}",
    }
