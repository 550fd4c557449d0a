"""A page of metrics over HTTP, for the verbs that run until they are stopped."""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txsentinel.extensions.metrics.format import Format, negotiated


class MetricsResource(Resource):
    """
    Answers ``/metrics`` in the format that the client accepts.

    :param make: returns the page, or a Deferred that fires with it.
    """

    isLeaf = True

    def __init__(self, make: Callable[[Format], bytes | Deferred[bytes]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._make = make

    def render_GET(self, request: Request) -> bytes | int:
        """Return the page."""
        if request.path not in (b"/metrics", b"/"):
            request.setResponseCode(404)
            return b"the metrics are at /metrics\n"
        text_format = negotiated(request.getHeader("accept"))
        request.setHeader("content-type", text_format.value)
        page = self._make(text_format)
        if isinstance(page, bytes):
            return page
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        page.addCallbacks(
            lambda text: None if gone else _finish(request, text),
            lambda reason: None if gone else _fail(request, reason),
        )
        return NOT_DONE_YET


class MetricsSite(Site):
    """Serves a page without a log of the requests."""

    noisy = False

    def log(self, request: Any) -> None:
        """Log nothing: servers of Prometheus read the page every few seconds."""


def _finish(request: Request, text: bytes) -> None:
    request.write(text)
    request.finish()


def _fail(request: Request, reason: Failure) -> None:
    request.setResponseCode(503)
    request.setHeader("content-type", "text/plain; charset=utf-8")
    _finish(request, f"{reason.getErrorMessage()}\n".encode())


def serve(reactor: Any, description: str, make: Callable[[Format], bytes | Deferred[bytes]]) -> Deferred[Any]:
    """
    Listen on an endpoint.

    :raises ValueError: if its description is malformed.
    """
    site = MetricsSite(MetricsResource(make))  # type: ignore[no-untyped-call]
    opened: Deferred[Any] = serverFromString(reactor, description).listen(site)
    return opened
