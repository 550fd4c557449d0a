"""The state of the Sentinel as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import translate
from typing import Final
from urllib.parse import quote, urlencode

from twisted.internet.defer import Deferred

from txsentinel.extensions.http.limits import DEFAULT_PAGE, MAX_PAGE
from txsentinel.extensions.http.problem import Problem, bad_request, shown, unknown_master
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, entity_tag, json_response, matches, not_modified
from txsentinel.extensions.http.router import Answer, Handler, Route, RouteAccess
from txsentinel.interfaces import ISentinelView
from txsentinel.model.comparison import DifferenceKind, GroupComparison
from txsentinel.model.explanation import Explanation
from txsentinel.model.history import FailoverKind, FailoverRecord
from txsentinel.model.publications import PublisherState, publication_warnings
from txsentinel.model.snapshots import MasterSnapshot

STATUSES: Final = frozenset(["ok", "sdown", "odown"])
MAX_PATTERN: Final = 256
"""Characters of a pattern of names."""

MAX_RECORDS: Final = 1000
"""Failovers that are searched."""

DRIFTING: Final = (DifferenceKind.QUORUM, DifferenceKind.OPTIONS)
"""What is a setting."""

MAX_PROBLEMS: Final = 100
"""Sentences about one publisher."""

PAGE: Final = ("after", "limit")


class ReadingRoutes:
    """The handlers of ``/v1`` that only read."""

    def __init__(self, view: ISentinelView) -> None:
        self._view = view

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        masters, one = (b"SENTINEL", b"MASTERS"), (b"SENTINEL", b"MASTER", b"{master}")

        def read(
            pattern: str, handler: Handler, summary: str, query: tuple[str, ...] = (), command: tuple[bytes, ...] = one
        ) -> Route:
            return Route("GET", pattern, handler, RouteAccess.READ, command, query, summary)

        yield read("/v1", self.sentinel, "The Sentinel itself.", command=masters)
        summary = "All masters in short, sorted by name; the header Link has the next page."
        yield read("/v1/masters", self.masters, summary, ("status", "name", *PAGE), masters)
        yield read("/v1/masters/{master}", self.master, "One master with replicas and Sentinels.")
        replicas = (b"SENTINEL", b"REPLICAS", b"{master}")
        yield read("/v1/masters/{master}/replicas", self.replicas, "The replicas of a master.", command=replicas)
        sentinels = (b"SENTINEL", b"SENTINELS", b"{master}")
        summary = "The other Sentinels of a master."
        yield read("/v1/masters/{master}/sentinels", self.sentinels, summary, command=sentinels)
        summary = "Why the master is, or is not, failed over, and what would change that."
        explain = (b"TXSENTINEL", b"EXPLAIN", b"{master}")
        yield read("/v1/masters/{master}/explain", self.explain, summary, ("fleet", "journal"), explain)
        summary = "Rare events in the life of a master, oldest first."
        yield read("/v1/masters/{master}/journal", self.journal, summary, PAGE, explain)
        summary = "The settings of a master, without passwords, and what other Sentinels have differently."
        yield read("/v1/config/{master}", self.config, summary)
        summary = "The latest failovers, newest first; merge=1 gives one entry for each failover."
        query = ("master", "since", "kind", "limit", "merge")
        history = (b"TXSENTINEL", b"HISTORY")
        yield read("/v1/history", self.history, summary, query, history)
        yield read("/v1/history/{record}", self.record, "One failover.", command=history)

    def sentinel(self, request: ApiRequest) -> ApiResponse:
        """Answer with the state of the Sentinel."""
        state = {**_members(self._view.identity()), "load": self._view.load()}
        return json_response({**state, "publishers": [_publisher(each) for each in self._view.publishers.states()]})

    def masters(self, request: ApiRequest) -> ApiResponse:
        """Answer with a page of summaries."""
        limit = request.number("limit", DEFAULT_PAGE, 1, MAX_PAGE)
        statuses = _statuses(request)
        pattern = request.query.get("name")
        if pattern is not None and len(pattern) > MAX_PATTERN:
            raise bad_request(f"the parameter name is longer than {MAX_PATTERN} characters")
        tag = self._tag(self._view.revision())
        if matches(request.headers.get("if-none-match"), tag):
            return not_modified(tag)
        after = request.query.get("after")
        # The cache of compiled patterns is smaller here than that of fnmatch, which clients could fill.
        matcher = re.compile(translate(pattern or "*"))
        found = [
            each
            for each in self._view.masters()
            if (statuses is None or each.status in statuses)
            and (pattern is None or matcher.match(each.name))
            and (after is None or each.name > after)
        ]
        found.sort(key=lambda each: each.name)
        headers = [("ETag", tag), ("Cache-Control", "no-cache")]
        if len(found) > limit:
            found = found[:limit]
            query = urlencode({**request.query, "after": found[-1].name}, errors="surrogateescape")
            headers.append(("Link", f'</v1/masters?{query}>; rel="next"'))
        return json_response((master_summary(each) for each in found), headers=headers)

    def master(self, request: ApiRequest) -> ApiResponse:
        """Answer with all that is known of a master."""
        master = self._snapshot(request)
        return self._tagged(
            request,
            master,
            lambda: {
                **_members(master),
                "majority": master.voters // 2 + 1,
                "tilt": self._view.identity().tilt.active,
                "probes": self._view.probe_times(master.name),
            },
        )

    def replicas(self, request: ApiRequest) -> ApiResponse:
        """Answer with the replicas of a master."""
        master = self._snapshot(request)
        return self._tagged(request, master, lambda: master.replicas)

    def sentinels(self, request: ApiRequest) -> ApiResponse:
        """Answer with the other Sentinels of a master."""
        master = self._snapshot(request)
        return self._tagged(request, master, lambda: master.peers)

    def config(self, request: ApiRequest) -> Answer | Deferred[Answer]:
        """Answer with the settings of a master, and with those that other Sentinels have differently."""
        master = self._snapshot(request)

        def compared(found: GroupComparison) -> Answer:
            missing = [{"sentinel": sentinel_id, "text": why} for sentinel_id, why in found.missing]
            drift = [
                {
                    "sentinel": each.sentinel_id,
                    "address": each.sentinel,
                    "option": each.option,
                    "here": each.here,
                    "there": each.there,
                }
                for each in found.differences
                if each.about in DRIFTING
            ]
            return json_response({**_members(master.settings), "drift": drift, "missing": missing})

        return self._view.compare_group(master.name).addCallback(compared)

    def explain(self, request: ApiRequest) -> Answer | Deferred[Answer]:
        """
        Answer with the explanation, and as many of the latest records of the journal as the client wants.

        With ``fleet=1`` the answers of the other Sentinels are waited for.
        """
        count = request.number("journal", 0, 0, MAX_PAGE)
        name = self._snapshot(request).name

        def respond(explanation: Explanation) -> Answer:
            records = self._view.journal(name)[-count:] if count else ()
            return json_response(replace(explanation, journal=records))

        if request.flag("fleet"):
            return self._view.explain_group(name).addCallback(respond)
        return respond(self._view.explain(name))

    def journal(self, request: ApiRequest) -> ApiResponse:
        """Answer with the records after a sequence number."""
        after, limit = request.number("after", 0), request.number("limit", DEFAULT_PAGE, 1, MAX_PAGE)
        return json_response(self._view.journal(self._snapshot(request).name, after)[:limit])

    def history(self, request: ApiRequest) -> ApiResponse:
        """Answer with failovers that match the parameters."""
        limit = request.number("limit", DEFAULT_PAGE, 1, MAX_PAGE)
        kind, since, name = request.query.get("kind"), request.instant("since"), request.query.get("master")
        if kind is not None and kind not in {each.value for each in FailoverKind}:
            known = ", ".join(each.value for each in FailoverKind)
            raise bad_request(f"the parameter kind must be one of {known}, not {shown(kind)}")
        records = [
            each
            for each in self._view.history(name, MAX_RECORDS)
            if (kind is None or each.kind.value == kind) and (since is None or _ended_at(each) >= since.unix_ms)
        ]
        if request.flag("merge"):
            return json_response(merged(records)[:limit])
        return json_response(records[:limit])

    def record(self, request: ApiRequest) -> ApiResponse:
        """Answer with one failover, by the ID of its record or of its group."""
        wanted = request.parameters["record"]
        for each in self._view.history(None, MAX_RECORDS):
            if wanted in (each.record_id, each.group):
                return json_response(each)
        raise Problem(404, "unknown_record", f"there is no failover {shown(wanted)}")

    def _snapshot(self, request: ApiRequest) -> MasterSnapshot:
        name = request.parameters["master"]
        try:
            return self._view.master(name)
        except LookupError:
            raise unknown_master(name) from None

    def _tag(self, revision: int) -> str:
        return entity_tag(self._view.identity().run_id, revision)

    def _tagged(self, request: ApiRequest, master: MasterSnapshot, value: Callable[[], object]) -> ApiResponse:
        tag = self._tag(master.revision)
        if matches(request.headers.get("if-none-match"), tag):
            return not_modified(tag)
        return json_response(value(), headers=[("ETag", tag), ("Cache-Control", "no-cache")])


def _publisher(state: PublisherState) -> dict[str, object]:
    """Return a publisher without the masters that it has published."""
    problems: list[dict[str, str | None]] = [{"master": None, "text": text} for text in state.notices]
    problems += [{"master": master, "text": text} for master, text in publication_warnings(state)]
    return {
        "publisher": state.publisher,
        "target": state.target,
        "masters": len(state.masters),
        "pending": state.pending,
        "outcomes": state.outcomes,
        "problems": problems[:MAX_PROBLEMS],
    }


def _members(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__slots__}  # type: ignore[attr-defined]


def _statuses(request: ApiRequest) -> frozenset[str] | None:
    text = request.query.get("status")
    if text is None:
        return None
    words = frozenset(text.split(","))
    if not words <= STATUSES:
        raise bad_request(f"the parameter status must be a list of {', '.join(sorted(STATUSES))}, not {shown(text)}")
    return words


def _ended_at(record: FailoverRecord) -> int:
    return record.phases[-1].at.unix_ms if record.phases else 0


def merged(records: Iterable[FailoverRecord]) -> list[dict[str, object]]:
    """Return one entry for each failover, with all records of it."""
    groups: dict[str, list[FailoverRecord]] = {}
    for each in records:
        groups.setdefault(each.group, []).append(each)
    return [
        {"group": group, "master": found[0].master, "epoch": found[0].epoch, "records": found}
        for group, found in groups.items()
    ]


def master_summary(master: MasterSnapshot) -> dict[str, object]:
    """Return what the list of masters shows of one."""
    lags = [each.lag_bytes for each in master.replicas if each.lag_bytes is not None]
    return {
        "name": master.name,
        "href": f"/v1/masters/{quote(master.name, safe='', errors='surrogateescape')}",
        "address": master.address,
        "status": master.status,
        "flags": master.flags,
        "verdict": master.verdict,
        "sdown_since": master.sdown_since,
        "odown_since": master.odown_since,
        "switched_at": master.switched_at,
        "config_epoch": master.config_epoch,
        "failover": master.failover,
        "pause": master.pause,
        "quorum": master.settings.quorum,
        "voters": master.voters,
        "voters_reachable": master.voters_reachable,
        "voters_needed": master.voters_needed,
        "replicas": len(master.replicas),
        "ok_replicas": master.ok_replicas,
        "ok_sentinels": master.ok_sentinels,
        "max_lag_bytes": max(lags, default=None),
        "would_be_promoted": next((each.address for each in master.replicas if each.would_be_promoted), None),
        "revision": master.revision,
    }
