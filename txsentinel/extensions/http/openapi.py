"""The description of all routes in the OpenAPI format, made from the routes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable

from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, json_response
from txsentinel.extensions.http.router import Route, RouteAccess


def describe(routes: Iterable[Route], version: str) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of the routes."""
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", route.pattern)
        ]
        parameters += [{"name": name, "in": "query", "schema": {"type": "string"}} for name in route.query]
        responses = {"200": {"description": "Success"}, "default": {"$ref": "#/components/responses/Problem"}}
        operation: dict[str, object] = {"summary": route.summary, "responses": responses}
        if parameters:
            operation["parameters"] = parameters
        if route.access in (RouteAccess.READ, RouteAccess.LOGIN):
            operation["security"] = [{"basic": []}, {"bearer": []}]
        paths.setdefault(route.pattern, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "txsentinel", "version": version},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "responses": {
                "Problem": {
                    "description": "An error (RFC 9457)",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail", "code", "reasons"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "code": {"type": "string"},
                        "reasons": {"type": "array", "items": {"type": "object"}},
                    },
                }
            },
        },
    }


class OpenApiRoute:
    """The handler of ``/v1/openapi.json``. ``routes`` may grow after it was made."""

    def __init__(self, routes: list[Route], version: str) -> None:
        self._routes = routes
        self._version = version

    def route(self) -> Route:
        """Return the route."""
        return Route("GET", "/v1/openapi.json", self.document, RouteAccess.OPEN, summary="This description.")

    def document(self, request: ApiRequest) -> ApiResponse:
        """Answer with the description."""
        return json_response(describe(self._routes, self._version))
