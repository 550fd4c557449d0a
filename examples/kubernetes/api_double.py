"""
A double of the API of Kubernetes: EndpointSlices and Pods of one namespace, with versions and conflicts.

No cluster can be started here. The double follows the conventions of the API for what the extension uses:
``resourceVersion`` as precondition, 409 for conflicts and for what exists already, merge patches, label selectors with
``=``, and bearer tokens. If ``kubernetes-validate`` is installed, what is written must fit the schema of its kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from threading import RLock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from examples.http_server import ReceivedRequest

KUBERNETES_VERSION = "1.33"

PREFIXES = {
    "apis/discovery.k8s.io/v1/namespaces/{}/endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "api/v1/namespaces/{}/pods": ("v1", "Pod"),
}


class Refusal(Exception):
    """The API refuses a request with a status."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


def validate(document: dict[str, Any]) -> None:
    """Check an object against the schema of its kind, if the package for that is installed."""
    try:
        import kubernetes_validate
    except ImportError:
        return
    try:
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Refusal(422, "Invalid", str(error)) from None


class ApiDouble:
    """
    The objects of a namespace.

    :param token: what clients must present.
    :param written: called with each object that is written.
    """

    def __init__(
        self, namespace: str, token: str, written: Callable[[dict[str, Any]], object] = lambda _: None
    ) -> None:
        self._namespace = namespace
        self.token = token
        self._written = written
        self._objects: dict[str, dict[str, dict[str, Any]]] = {prefix: {} for prefix in PREFIXES}
        self._version = 0
        self._lock = RLock()
        self.requests: list[tuple[str, str, int]] = []
        """Method, path and status of all requests."""

    def add(self, prefix: str, document: dict[str, Any]) -> None:
        """Add an object, as another program would."""
        with self._lock:
            self._store(prefix, document)

    def get(self, prefix: str, name: str) -> dict[str, Any]:
        """Return an object."""
        with self._lock:
            return deepcopy(self._objects[prefix][name])

    def answer(self, request: ReceivedRequest) -> tuple[int, bytes]:
        """Answer a request."""
        with self._lock:
            try:
                status, document = self._answer(request)
            except Refusal as refusal:
                status = refusal.status
                document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
                document |= {"reason": refusal.reason, "message": str(refusal)}
            self.requests.append((request.method, urlsplit(request.path).path, status))
        return status, json.dumps(document).encode()

    def _answer(self, request: ReceivedRequest) -> tuple[int, dict[str, Any]]:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized", "Unauthorized")
        parts = urlsplit(request.path)
        for prefix in PREFIXES:
            base = "/" + prefix.format(self._namespace)
            if parts.path == base:
                return self._collection(prefix, request, parse_qs(parts.query))
            if parts.path.startswith(base + "/"):
                return self._one(prefix, parts.path[len(base) + 1 :], request)
        raise Refusal(403, "Forbidden", f"{request.method} {parts.path} is not allowed")

    def _collection(
        self, prefix: str, request: ReceivedRequest, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, Any]]:
        if request.method == "GET":
            wanted = [word.partition("=")[::2] for word in query.get("labelSelector", [""])[0].split(",") if word]
            found = [
                each
                for each in self._objects[prefix].values()
                if all(each["metadata"].get("labels", {}).get(key) == value for key, value in wanted)
            ]
            return 200, {"kind": f"{PREFIXES[prefix][1]}List", "items": found, "metadata": {}}
        if request.method != "POST":
            raise Refusal(405, "MethodNotAllowed", request.method)
        document = json.loads(request.body)
        name = document["metadata"]["name"]
        if name in self._objects[prefix]:
            raise Refusal(409, "AlreadyExists", f"{name} already exists")
        validate(document)
        return 201, self._store(prefix, document)

    def _one(self, prefix: str, name: str, request: ReceivedRequest) -> tuple[int, dict[str, Any]]:
        found = self._objects[prefix].get(name)
        if found is None:
            raise Refusal(404, "NotFound", f"{name} not found")
        if request.method == "GET":
            return 200, found
        document = json.loads(request.body)
        metadata = document.get("preconditions" if request.method == "DELETE" else "metadata", {})
        if metadata.get("resourceVersion") not in (None, found["metadata"]["resourceVersion"]):
            raise Refusal(409, "Conflict", f"{name} has been modified")
        if request.method == "DELETE":
            del self._objects[prefix][name]
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if request.method == "PATCH":
            if request.headers.get("content-type") != "application/merge-patch+json":
                raise Refusal(415, "UnsupportedMediaType", "only merge patches")
            document = merged(found, document)
        elif request.method != "PUT":
            raise Refusal(405, "MethodNotAllowed", request.method)
        elif document.get("addressType") != found.get("addressType"):
            raise Refusal(422, "Invalid", "addressType is immutable")
        validate(document)
        return 200, self._store(prefix, document)

    def _store(self, prefix: str, document: dict[str, Any]) -> dict[str, Any]:
        api_version, kind = PREFIXES[prefix]
        self._version += 1
        stored = {**deepcopy(document), "apiVersion": api_version, "kind": kind}
        stored["metadata"]["resourceVersion"] = str(self._version)
        stored["metadata"]["namespace"] = self._namespace
        self._objects[prefix][stored["metadata"]["name"]] = stored
        self._written(deepcopy(stored))
        return stored


def merged(document: Any, patch: Any) -> Any:
    """Return a document with a merge patch (RFC 7396) applied."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
