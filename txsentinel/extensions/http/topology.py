"""Drawings of the monitored masters, as DOT and as SVG."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from twisted.internet.defer import Deferred

from txsentinel.extensions.http.graphviz import Graphviz
from txsentinel.extensions.http.problem import Problem, unknown_master
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, entity_tag, matches
from txsentinel.extensions.http.router import Answer, Handler, Route, RouteAccess
from txsentinel.interfaces import ISentinelView
from txsentinel.model.drawing import MAX_NODES, dot, dot_lines, drawn_group, node_count
from txsentinel.model.snapshots import MasterSnapshot

DOT: Final = "text/vnd.graphviz; charset=utf-8"
SVG: Final = "image/svg+xml"
MAX_CACHED: Final = 8
"""Drawings that are kept until something changes."""

SVG_POLICY: Final = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")


ALL: Final = (b"SENTINEL", b"MASTERS")
ONE: Final = (b"SENTINEL", b"MASTER", b"{master}")
"""The commands whose rights are needed."""


class TopologyRoutes:
    """The handlers of drawings."""

    def __init__(self, view: ISentinelView, graphviz: Graphviz) -> None:
        self._view = view
        self._graphviz = graphviz
        self._drawings: OrderedDict[tuple[str | None, str], bytes] = OrderedDict()
        """The latest drawings, by the master (``None`` for all) and the ETag."""

    def routes(self) -> Iterator[Route]:
        """Return the routes."""

        def read(pattern: str, handler: Handler, command: tuple[bytes, ...], summary: str) -> Route:
            return Route("GET", pattern, handler, RouteAccess.READ, command, summary=summary)

        summary = "A drawing of all masters for Graphviz."
        yield read("/v1/topology.dot", self.all_dot, ALL, summary)
        yield read("/v1/topology.svg", self.all_svg, ALL, "A drawing of all masters.")
        yield read("/v1/masters/{master}/topology.dot", self.dot, ONE, "A drawing of one master for Graphviz.")
        yield read("/v1/masters/{master}/topology.svg", self.svg, ONE, "A drawing of one master.")

    def all_dot(self, request: ApiRequest) -> ApiResponse:
        """Answer with all masters as DOT."""
        return self._dot(self._view.masters(), self._tag(self._view.revision()), request)

    def dot(self, request: ApiRequest) -> ApiResponse:
        """Answer with one master as DOT."""
        master = self._master(request)
        return self._dot([master], self._tag(master.revision), request)

    def all_svg(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer with all masters as SVG."""
        masters = self._view.masters()
        nodes = node_count(masters)
        if nodes > MAX_NODES:
            raise Problem(
                422,
                "too_many_nodes",
                f"a drawing of all masters has {nodes} nodes, more than {MAX_NODES}: draw one master at a time, "
                "at /v1/masters/NAME/topology.svg",
            )
        return Deferred.fromCoroutine(self._svg(None, masters, self._tag(self._view.revision()), request))

    def svg(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer with one master as SVG."""
        master = self._master(request)
        return Deferred.fromCoroutine(self._svg(master.name, [master], self._tag(master.revision), request))

    def _master(self, request: ApiRequest) -> MasterSnapshot:
        name = request.parameters["master"]
        try:
            return self._view.master(name)
        except LookupError:
            raise unknown_master(name) from None

    def _tag(self, revision: int) -> str:
        return entity_tag(self._view.identity().run_id, revision)

    def _dot(self, masters: Sequence[MasterSnapshot], tag: str, request: ApiRequest) -> ApiResponse:
        if matches(request.headers.get("if-none-match"), tag):
            return ApiResponse(status=304, headers=_headers(tag))
        own = self._view.identity().sentinel_id
        lines = dot_lines(drawn_group(each, own) for each in masters)
        return ApiResponse((f"{line}\n".encode() for line in lines), 200, DOT, _headers(tag))

    async def _svg(self, name: str | None, masters: Sequence[MasterSnapshot], tag: str, request: ApiRequest) -> Answer:
        if matches(request.headers.get("if-none-match"), tag):
            return ApiResponse(status=304, headers=(*_headers(tag), SVG_POLICY))
        drawing = self._drawings.get((name, tag))
        if drawing is None:
            own = self._view.identity().sentinel_id
            drawing = await self._graphviz.svg(lambda: dot(drawn_group(each, own) for each in masters))
            self._drawings[name, tag] = drawing
            while len(self._drawings) > MAX_CACHED:
                self._drawings.popitem(last=False)
        return ApiResponse(drawing, 200, SVG, (*_headers(tag), SVG_POLICY))


def _headers(tag: str) -> tuple[tuple[str, str], ...]:
    return (("ETag", tag), ("Cache-Control", "no-cache"))
