"""Checks each request, finds its handler, and sends what the handler returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import parse_qsl

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from txsentinel.extensions.http.authentication import Authenticator, RequestCredentials, login_required
from txsentinel.extensions.http.origins import check_host, check_site, is_link
from txsentinel.extensions.http.problem import Problem, ProblemReason, bad_request, shown
from txsentinel.extensions.http.protocol import HttpRequest
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse
from txsentinel.extensions.http.router import Answer, Route, RouteAccess, Router
from txsentinel.extensions.http.streams import EventResponse
from txsentinel.interfaces import IOperator
from txsentinel.model.snapshots import Principal

MAX_QUERY_PARAMETERS: Final = 32


class Dispatcher:
    """
    Answers all requests.

    :param server_names: names of this server that clients may use, in lower case, besides literal addresses.
    """

    _log = Logger(namespace=__name__)

    def __init__(
        self, router: Router, operator: IOperator, authenticator: Authenticator, server_names: Collection[str] = ()
    ) -> None:
        self._router = router
        self._operator = operator
        self._authenticator = authenticator
        self._server_names = frozenset(server_names)

    def handle(self, request: HttpRequest) -> None:
        """Answer a request; an error of ours is logged and answered by 500."""
        task = Deferred.fromCoroutine(self._serve(request))
        if request.is_connected and not request.finished:
            # A client that disconnects ends the work for it.
            request.notifyFinish().addErrback(lambda _: task.cancel())

    async def _serve(self, request: HttpRequest) -> None:
        try:
            answer = await self._answer(request)
        except Problem as problem:
            is_page = request.getHeader("sec-fetch-dest") == "document"
            answer = problem.page() if is_page else problem.response()
        except CancelledError:
            return
        except Exception:
            self._log.failure("HTTP: the handler of {path} failed", path=shown(_text(request.path)))
            answer = _internal_error()
        if not request.is_connected:
            return
        try:
            if isinstance(answer, EventResponse):
                answer.start(request)
            else:
                request.respond(answer)
        except Exception:
            self._log.failure("HTTP: the answer to {path} failed", path=shown(_text(request.path)))
            if request.startedWriting:
                request.abort()
            else:
                request.respond(_internal_error())

    async def _answer(self, request: HttpRequest) -> Answer:
        headers = _headers(request)
        path, host = _target(request, headers)
        method = _text(request.method)
        if host is None and request.clientproto == b"HTTP/1.1" and request.peer_uid() is None:
            raise bad_request("the header Host is missing")
        if request.peer_uid() is None:
            check_host(host, self._server_names)
        if path == "*" and method == "OPTIONS":
            return ApiResponse(b"", 204)
        routes = self._router.find(path)
        if not routes:
            raise Problem(404, "not_found", f"there is nothing at {shown(path)}")
        found = self._route(method, routes)
        if found is None:
            return ApiResponse(b"", 204, headers=(("Allow", allowed_methods(routes)),))
        route, parameters = found
        if route.access is not RouteAccess.HEALTH and not is_link(method, headers):
            check_site(method, headers, host, bool(request.isSecure()))
        query = _query(request, route)
        body = request.content.read()

        principal = None
        if route.access in (RouteAccess.READ, RouteAccess.LOGIN):
            browser = "sec-fetch-site" in headers
            uid = request.peer_uid()
            credentials = RequestCredentials(
                headers.get("authorization"), request.origin, uid, browser, request.certificate()
            )
            found_principal = await self._authenticator.principal(credentials)
            principal = self._authorize(found_principal, route, route.words(parameters), browser)
        answer = route.handler(ApiRequest(method, path, parameters, query, headers, body, request.origin, principal))
        return await answer if isinstance(answer, Deferred) else answer

    def _authorize(self, principal: Principal | None, route: Route, words: list[bytes], browser: bool) -> Principal:
        """
        Return the principal if it may use the route.

        :raises Problem: if it may not, or must log in first.
        """
        if principal is None or (route.access is RouteAccess.LOGIN and principal.method == "none"):
            raise login_required(browser)
        if words:
            refusal = self._operator.allowed(principal, words)
            if refusal is not None:
                reason = ProblemReason(principal.user, refusal.code, refusal.text)
                raise Problem(403, "not_permitted", "the user may not do this", [reason])
        return principal

    def _route(
        self, method: str, routes: Mapping[str, tuple[Route, Mapping[str, str]]]
    ) -> tuple[Route, Mapping[str, str]] | None:
        """Return the route of a method; ``None`` if OPTIONS asks for the methods."""
        found = routes.get("GET" if method == "HEAD" else method)
        if found is not None:
            return found
        if method == "OPTIONS":
            if "GET" in routes and routes["GET"][0].access is RouteAccess.HEALTH:
                return routes["GET"]
            return None
        headers = [("Allow", allowed_methods(routes))]
        raise Problem(405, "method_not_allowed", f"the method {shown(method)} is not allowed here", headers=headers)


def _internal_error() -> ApiResponse:
    return Problem(500, "internal_error", "the request could not be answered; the log has the reason").response()


def allowed_methods(routes: Collection[str]) -> str:
    """Return the header ``Allow`` for the methods of a path."""
    return ", ".join(sorted({*routes, "OPTIONS", *(["HEAD"] if "GET" in routes else [])}))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _headers(request: HttpRequest) -> dict[str, str]:
    """
    Return the headers by names in lower case.

    :raises Problem: if one that decides about access is there more than once, or one has a NUL byte.
    """
    headers: dict[str, str] = {}
    for name, values in request.requestHeaders.getAllRawHeaders():
        key = _text(name).lower()
        if len(values) > 1 and key in UNIQUE_HEADERS:
            raise bad_request(f"the header {key} is there {len(values)} times")
        if b"\0" in values[0]:
            raise bad_request(f"the header {shown(key)} has a NUL byte")
        headers[key] = _text(values[0])
    return headers


UNIQUE_HEADERS: Final = frozenset(
    ["authorization", "content-type", "host", "origin", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site"]
)
"""Headers that decide about access."""


def _target(request: HttpRequest, headers: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the path of a request, still percent-encoded, and the host that it names."""
    path, host = _text(request.path), headers.get("host")
    for scheme in ("http://", "https://"):
        if path.lower().startswith(scheme):
            host, _, rest = path[len(scheme) :].partition("/")
            return f"/{rest}", host
    return path, host


def _query(request: HttpRequest, route: Route) -> dict[str, str]:
    """
    Return the parameters after the question mark.

    :raises Problem: if one is unknown to the route, or there more than once: a misspelled limit must not be ignored.
    """
    raw = _text(request.uri).partition("?")[2]
    try:
        pairs = parse_qsl(raw, True, errors="surrogateescape", max_num_fields=MAX_QUERY_PARAMETERS)
    except ValueError:
        raise bad_request(f"more than {MAX_QUERY_PARAMETERS} parameters") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name not in route.query:
            known = ", ".join(route.query) or "none"
            raise bad_request(f"unknown parameter {shown(name)}; known: {known}")
        if name in query:
            raise bad_request(f"the parameter {name} is there twice")
        query[name] = value
    return query
