"""The page for people: static files, and a table of the masters for browsers without JavaScript."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from functools import partial
from html import escape
from importlib.resources import files
from typing import Final
from urllib.parse import quote

from txsentinel.extensions.http.problem import Problem, shown
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, matches
from txsentinel.extensions.http.router import Route, RouteAccess
from txsentinel.extensions.metrics.compression import accepts_gzip
from txsentinel.interfaces import ISentinelView
from txsentinel.model.drawing import MAX_NODES, byte_count, node_count
from txsentinel.model.log_text import excerpt
from txsentinel.model.snapshots import Instant, MasterSnapshot

POLICY: Final = ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'")

SCRIPT_TYPE: Final = "text/javascript; charset=utf-8"

MODULES: Final = (
    "acting",
    "checks",
    "dragging",
    "elements",
    "events",
    "explanation",
    "failovers",
    "master",
    "overview",
    "rendering",
    "session",
    "sparkline",
    "state",
    "table",
    "topology",
    "updates",
    "words",
)
"""The modules of the script, besides the one that starts it."""

TYPES: Final = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": SCRIPT_TYPE,
    **{f"page/{name}.js": SCRIPT_TYPE for name in MODULES},
    "favicon.svg": "image/svg+xml",
}
"""The files of the page with their types."""

MAX_TRANSFER: Final = 60 * 1024
"""How many bytes all files together have when they are compressed, at most."""

STATES: Final = {"ok": "up", "sdown": "does not answer (S_DOWN)", "odown": "down (O_DOWN)"}


class _StaticFile:
    """A file as it is and compressed, with a hash of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.compressed = gzip.compress(data, 9, mtime=0)
        self.digest = hashlib.sha256(data).hexdigest()[:16]


class PageRoutes:
    """The handlers of the page. It has no data of its own: its script reads the API with the rights of the user."""

    def __init__(self, view: ISentinelView) -> None:
        self._view = view
        self._files = {name: _StaticFile((files(__package__) / "static" / name).read_bytes()) for name in TYPES}

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        yield self._route("", "The page.", "index.html")
        yield self._route("page.css", "The style of the page.")
        yield self._route("page.js", "The script of the page.")
        summary = "A module of the script of the page."
        yield Route("GET", "/page/{file}", self._module, RouteAccess.OPEN, summary=summary)
        yield self._route("favicon.svg", "The icon of the page.")
        summary = "A table of all masters for browsers without JavaScript."
        yield Route("GET", "/table", self.table, RouteAccess.READ, (b"SENTINEL", b"MASTERS"), summary=summary)

    def _route(self, path: str, summary: str, file: str = "") -> Route:
        return Route("GET", f"/{path}", partial(self._file, file or path), RouteAccess.OPEN, summary=summary)

    def _module(self, request: ApiRequest) -> ApiResponse:
        name = f"page/{request.parameters['file']}"
        if name not in self._files:
            raise Problem(404, "not_found", f"there is nothing at {shown(request.path)}")
        return self._file(name, request)

    def _file(self, name: str, request: ApiRequest) -> ApiResponse:
        file, compressed = self._files[name], accepts_gzip(request.headers.get("accept-encoding"))
        tag = f'"{file.digest}-gzip"' if compressed else f'"{file.digest}"'
        # The headers of a response without a body replace those that the browser has stored with the body.
        headers = [("ETag", tag), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding"), POLICY]
        if matches(request.headers.get("if-none-match"), tag):
            return ApiResponse(status=304, headers=tuple(headers))
        if compressed:
            headers.append(("Content-Encoding", "gzip"))
        return ApiResponse(file.compressed if compressed else file.data, 200, TYPES[name], tuple(headers))

    def table(self, request: ApiRequest) -> ApiResponse:
        """Answer with the table."""
        return ApiResponse(self._table(), 200, TYPES["index.html"], (POLICY,))

    def _table(self) -> Iterator[bytes]:
        identity, masters = self._view.identity(), self._view.masters()
        down = sum(each.status == "odown" for each in masters)
        total = f"{len(masters)} master{'' if len(masters) == 1 else 's'}"
        summary = f"{down} of {total} down" if down else f"{total}, none down"
        listens = ", ".join(identity.listens)
        yield _encoded(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>txsentinel: masters</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<link rel="icon" href="favicon.svg" type="image/svg+xml"><link rel="stylesheet" href="page.css"></head>'
            f"<body><main><h1>{_text(summary)}</h1>"
            f"<p>Sentinel {_text(listens)}, as of {_time(_now(identity.started_at, identity.uptime_ms))}. "
            '<a href="table">Read again</a></p>'
        )
        if identity.tilt.active:
            yield _encoded(f"<p>TILT: no decisions. Cause: {_text(identity.tilt.cause or 'unknown')}</p>")
        if identity.storage.state != "ok":
            yield _encoded(f"<p>Decisions cannot be saved: {_text(identity.storage.last_error or 'unknown error')}</p>")
        titles = ("Master", "State", "Since", "Address", "Replicas", "Most lag", "Sentinels", "Would be promoted")
        yield _encoded(
            '<div class="scroller" tabindex="0" role="region" aria-label="Masters"><table><thead><tr>'
            + "".join(f'<th scope="col">{title}</th>' for title in titles)
            + "</tr></thead><tbody>"
        )
        for master in masters:
            yield _encoded(_row(master))
        yield b"</tbody></table></div>"
        if node_count(masters) <= MAX_NODES:
            yield b'<h2>Replication</h2><p><img src="v1/topology.svg" alt="Drawing of all masters"></p>'
        yield b"</main></body></html>\n"


def _row(master: MasterSnapshot) -> str:
    since = master.odown_since or master.sdown_since or master.switched_at
    lags = [each.lag_bytes for each in master.replicas if each.lag_bytes is not None]
    promoted = next((str(each.address) for each in master.replicas if each.would_be_promoted), "none")
    name = quote(master.name, safe="", errors="surrogateescape")
    cells = (
        _text("failing over" if master.failover else STATES.get(master.status, master.status)),
        _time(since) if since else "",
        _text(str(master.address)),
        f"{master.ok_replicas} of {len(master.replicas)}",
        byte_count(max(lags)) if lags else "",
        f"{master.voters_reachable} of {master.voters}",
        _text(promoted if master.status == "ok" else master.verdict.replace("_", " ")),
    )
    link = f'<a href="v1/masters/{name}/topology.svg">{_text(master.name)}</a>'
    return f'<tr><th scope="row">{link}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _text(text: str) -> str:
    """Return any text for HTML, with control characters by their codes."""
    return escape(excerpt(text))


def _time(moment: Instant) -> str:
    return f'<time datetime="{moment}">{moment.rfc3339()[:19].replace("T", " ")} UTC</time>'


def _now(started_at: Instant, uptime_ms: int) -> Instant:
    return Instant(started_at.unix_ms + uptime_ms)


def _encoded(text: str) -> bytes:
    """Encode HTML; bytes of names that are not UTF-8 are shown by their codes."""
    return text.encode("utf-8", "backslashreplace")
