"""The route of the metrics."""

from __future__ import annotations

from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse
from txsentinel.extensions.http.router import Route, RouteAccess
from txsentinel.extensions.metrics.format import negotiated
from txsentinel.extensions.metrics.page import MetricsPages


class MetricsRoute:
    """The handler of ``/metrics``."""

    def __init__(self, pages: MetricsPages) -> None:
        self._pages = pages

    def route(self, access: RouteAccess) -> Route:
        """Return the route."""
        summary = "Metrics in the text format of Prometheus, or as OpenMetrics if the client accepts that."
        return Route("GET", "/metrics", self.metrics, access, (b"SENTINEL", b"MASTERS"), summary=summary)

    def metrics(self, request: ApiRequest) -> ApiResponse:
        """Answer with a page that is at most a second old."""
        text_format = negotiated(request.headers.get("accept"))
        return ApiResponse(self._pages.page(text_format).parts, content_type=text_format.value)
