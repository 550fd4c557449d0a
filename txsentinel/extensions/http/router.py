"""Which handler serves which path and method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias
from urllib.parse import unquote

from twisted.internet.defer import Deferred

from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse
from txsentinel.extensions.http.streams import EventResponse

Answer: TypeAlias = "ApiResponse | EventResponse"
Handler: TypeAlias = "Callable[[ApiRequest], Answer | Deferred[Answer]]"
"""Returns the response, or fails with ``Problem``."""


class RouteAccess(Enum):
    """Who may use a route."""

    HEALTH = "health"
    """All clients, without a login. OPTIONS is answered as HEAD is, because load balancers send it."""

    OPEN = "open"
    """All clients, without a login."""

    READ = "read"
    """Who may execute the command of the route; without a login that is what the Sentinel port allows."""

    LOGIN = "login"
    """Who may execute the command of the route and has logged in."""


@dataclass(frozen=True)
class Route:
    """
    One path and method.

    Parts of ``pattern`` in braces match any one part of a path. ``command`` is a command whose right is needed; a word
    in braces stands for that part of the path. ``query`` lists the parameters that are accepted after a question mark.
    ``summary`` is a sentence for readers.
    """

    method: str
    pattern: str
    handler: Handler
    access: RouteAccess
    command: tuple[bytes, ...] = ()
    query: tuple[str, ...] = ()
    summary: str = ""

    def words(self, parameters: Mapping[str, str]) -> list[bytes]:
        """Return the command for the parameters of a path."""
        return [
            parameters[word[1:-1].decode()].encode("utf-8", "surrogateescape") if word.startswith(b"{") else word
            for word in self.command
        ]


@dataclass
class _Node:
    """What may follow a beginning of a path."""

    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    routes: dict[str, tuple[Route, tuple[str, ...]]] = field(default_factory=dict)
    """Method → the route, and the names of the parameters in its pattern."""

    def any_part(self) -> _Node:
        """Return what may follow a part that is a parameter."""
        self.parameter = self.parameter or _Node()
        return self.parameter


class Router:
    """Finds the routes of a path; a literal part of a pattern is preferred to a parameter."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._root = _Node()
        self.routes: list[Route] = []
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """
        Add a route.

        :raises ValueError: if there is one for this path and method.
        """
        node, names = self._root, []
        for part in route.pattern.split("/")[1:]:
            if part.startswith("{"):
                names.append(part[1:-1])
                node = node.any_part()
            else:
                node = node.literals.setdefault(part, _Node())
        if route.method in node.routes:
            raise ValueError(f"two routes for {route.method} {route.pattern}")
        node.routes[route.method] = (route, tuple(names))
        self.routes.append(route)

    def find(self, path: str) -> dict[str, tuple[Route, Mapping[str, str]]]:
        """Return the routes of a path by method, with their parameters, which are percent-decoded; empty if unknown."""
        node, values = self._root, []
        if not path.startswith("/"):
            return {}
        for raw in path.split("/")[1:]:
            part = unquote(raw, errors="surrogateescape")
            literal = node.literals.get(part)
            if literal is not None:
                node = literal
            elif node.parameter is not None and part:
                values.append(part)
                node = node.parameter
            else:
                return {}
        return {
            method: (route, dict(zip(names, values, strict=True))) for method, (route, names) in node.routes.items()
        }
