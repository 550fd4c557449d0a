"""The route of the metrics."""

from __future__ import annotations

from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, entity_tag, matches, not_modified
from txsentinel.extensions.http.router import Route, RouteAccess
from txsentinel.extensions.metrics.compression import accepts_gzip
from txsentinel.extensions.metrics.format import negotiated
from txsentinel.extensions.metrics.page import MetricsPages


class MetricsRoute:
    """
    The handler of ``/metrics``.

    :param run_id: distinguishes the pages of this process from those of earlier ones.
    """

    def __init__(self, pages: MetricsPages, run_id: str) -> None:
        self._pages = pages
        self._run_id = run_id

    def route(self, access: RouteAccess) -> Route:
        """Return the route."""
        summary = "Metrics in the text format of Prometheus, or as OpenMetrics if the client accepts that."
        return Route("GET", "/metrics", self.metrics, access, (b"SENTINEL", b"MASTERS"), summary=summary)

    def metrics(self, request: ApiRequest) -> ApiResponse:
        """Answer with a page that is at most a second old, or without one if the client has it already."""
        text_format = negotiated(request.headers.get("accept"))
        compressed = accepts_gzip(request.headers.get("accept-encoding"))
        page = self._pages.page(text_format, compressed=compressed)
        tag = entity_tag(self._run_id, page.number)
        if matches(request.headers.get("if-none-match"), tag):
            return not_modified(tag)
        headers = [("ETag", tag), ("Cache-Control", "no-cache"), ("Vary", "Accept, Accept-Encoding")]
        if compressed:
            headers.append(("Content-Encoding", "gzip"))
        return ApiResponse(page.parts, content_type=text_format.value, headers=tuple(headers))
