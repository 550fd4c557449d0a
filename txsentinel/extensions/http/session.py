"""Sessions: a token for a password."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from txsentinel.extensions.http.authentication import SESSION_SECONDS, Sessions, bearer_token
from txsentinel.extensions.http.problem import Problem
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, json_response
from txsentinel.extensions.http.router import Route, RouteAccess
from txsentinel.interfaces import IOperator
from txsentinel.model.snapshots import Instant, Principal

COMMANDS: Final = {
    "read": (b"SENTINEL", b"MASTERS"),
    "failover": (b"SENTINEL", b"FAILOVER", b"*"),
    "monitor": (b"SENTINEL", b"MONITOR", b"*", b"127.0.0.1", b"6379", b"1"),
    "remove": (b"SENTINEL", b"REMOVE", b"*"),
    "reset": (b"SENTINEL", b"RESET", b"*"),
    "set": (b"SENTINEL", b"SET", b"*", b"quorum", b"1"),
    "save": (b"SENTINEL", b"FLUSHCONFIG"),
}
"""The rights that clients want to know, with a command that needs each; none is executed."""


def rights(operator: IOperator, principal: Principal) -> list[str]:
    """Return the rights that a user has."""
    return [name for name, command in COMMANDS.items() if operator.allowed(principal, command) is None]


class SessionRoutes:
    """The handlers of ``/v1/session``."""

    def __init__(self, operator: IOperator, sessions: Sessions, wall_clock: Callable[[], float]) -> None:
        self._operator = operator
        self._sessions = sessions
        self._wall_clock = wall_clock

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        path = "/v1/session"
        yield Route("GET", path, self.show, RouteAccess.READ, summary="Who the client is, and what it may do.")
        yield Route("POST", path, self.create, RouteAccess.LOGIN, summary="Get a token for a password.")
        yield Route("DELETE", path, self.end, RouteAccess.LOGIN, summary="Make the token of the request invalid.")

    def show(self, request: ApiRequest) -> ApiResponse:
        """Answer with the user and its rights."""
        principal = _principal(request)
        document = {"user": principal.user, "method": principal.method, "rights": rights(self._operator, principal)}
        return json_response(document)

    def create(self, request: ApiRequest) -> ApiResponse:
        """
        Answer with a new token. A token does not suffice for another one, so that none lives longer than it may.

        :raises Problem: if the client logged in by a token.
        """
        request.document()
        principal = _principal(request)
        if principal.method == "token":
            raise Problem(403, "password_required", "a session begins with a password, not with a token")
        expires = Instant(int((self._wall_clock() + SESSION_SECONDS) * 1000))
        return json_response(
            {
                "token": self._sessions.create(principal.user),
                "user": principal.user,
                "rights": rights(self._operator, principal),
                "expires_at": expires,
            },
            201,
        )

    def end(self, request: ApiRequest) -> ApiResponse:
        """Answer 204 once the token is invalid."""
        token = bearer_token(request.headers.get("authorization"))
        if token is None or not self._sessions.end(token):
            raise Problem(404, "no_session", "the request has no token of a session")
        return ApiResponse(b"", 204)


def _principal(request: ApiRequest) -> Principal:
    assert request.principal is not None, "the route requires a login"
    return request.principal
