"""A client of the HTTP interface of Consul: keys, transactions and the catalogue, at endpoints in turn."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote, urlencode

from twisted.internet.defer import Deferred, inlineCallbacks

from txsentinel.extensions.failure_text import failure_text

if TYPE_CHECKING:
    from txsentinel.extensions.http_client import HttpReply

    class HttpRequests(Protocol):
        """What sends a request."""

        def request(
            self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
        ) -> Deferred[HttpReply]:
            """Send a request."""


MAX_ENDPOINTS: Final = 4
"""Endpoints that are tried for one request."""

MAX_REASON: Final = 200
"""Characters of a reply that are shown."""


class ConsulError(Exception):
    """A request was refused, or no endpoint has answered."""


class _Unavailable(Exception):
    """An endpoint cannot answer; another one may."""


@dataclass(frozen=True, slots=True)
class ConsulEntry:
    """The value of a key, with the index of its last change; 0 if there is no such key."""

    value: bytes
    index: int


class ConsulClient:
    """
    Sends requests to the first endpoint that answers, beginning with the one that answered last.

    :param token: returns the token at the time of a request; empty for none.
    """

    def __init__(
        self, requests: HttpRequests, endpoints: Sequence[str], dc: str = "", token: Callable[[], str] = str
    ) -> None:
        self._requests = requests
        self._endpoints = list(endpoints)
        self._dc = dc
        self._token = token

    @inlineCallbacks
    def read(self, key: str) -> Generator[Deferred[Any], Any, ConsulEntry]:
        """Read a key from the leader of the cluster."""
        reply = yield self._send("GET", f"/v1/kv/{quote(key)}", {"consistent": ""}, None, (200, 404))
        if reply.status == 404:
            return ConsulEntry(b"", 0)
        (entry,) = json.loads(reply.body)
        return ConsulEntry(b64decode(entry["Value"] or ""), int(entry["ModifyIndex"]))

    @inlineCallbacks
    def write(self, key: str, value: bytes, index: int) -> Generator[Deferred[Any], Any, bool]:
        """Write a key if it was not changed since an index; fire with whether it was written."""
        reply = yield self._send("PUT", f"/v1/kv/{quote(key)}", {"cas": str(index)}, value, (200,))
        return bool(json.loads(reply.body) is True)

    @inlineCallbacks
    def commit(self, operations: Sequence[dict[str, Any]]) -> Generator[Deferred[Any], Any, bool]:
        """
        Execute a transaction.

        :returns: fires with whether it was committed; False if the condition of its first operation does not hold.
            Fails with :exc:`ConsulError` if another operation has failed.
        """
        reply = yield self._send("PUT", "/v1/txn", {}, json.dumps(operations).encode(), (200, 409))
        if reply.status == 200:
            return True
        errors = (json.loads(reply.body) or {}).get("Errors") or [{}]
        if any(each.get("OpIndex") for each in errors):
            raise ConsulError("; ".join(str(each.get("What")) for each in errors)[:MAX_REASON])
        return False

    @inlineCallbacks
    def services(self, name: str) -> Generator[Deferred[Any], Any, list[dict[str, Any]]]:
        """Return the instances of a service in the catalogue."""
        reply = yield self._send("GET", f"/v1/catalog/service/{quote(name, safe='')}", {"consistent": ""}, None, (200,))
        found: list[dict[str, Any]] = json.loads(reply.body) or []
        return found

    @inlineCallbacks
    def _send(
        self, method: str, path: str, query: dict[str, str], body: bytes | None, accepted: tuple[int, ...]
    ) -> Generator[Deferred[Any], Any, HttpReply]:
        parameters = urlencode({**query, "dc": self._dc} if self._dc else query)
        token = self._token()
        headers = {"X-Consul-Token": token} if token else {}
        problems = []
        for endpoint in self._endpoints[:MAX_ENDPOINTS]:
            url = f"{endpoint}{path}?{parameters}" if parameters else f"{endpoint}{path}"
            try:
                reply: HttpReply = yield self._requests.request(method, url, headers, body)
                if reply.status >= 500:
                    raise _Unavailable(_shown(reply))
            except Exception as error:  # Whatever a connection fails with.
                problems.append(f"{endpoint}: {failure_text(error)}")
                # It is tried last from now on.
                self._endpoints.remove(endpoint)
                self._endpoints.append(endpoint)
                continue
            if reply.status not in accepted:
                raise ConsulError(_shown(reply))
            return reply
        raise ConsulError("; ".join(problems))


def _shown(reply: HttpReply) -> str:
    text = reply.body.decode("utf-8", "replace").strip()[:MAX_REASON]
    return f"HTTP status {reply.status}: {text}" if text.isprintable() and text else f"HTTP status {reply.status}"


def set_key(key: str, value: bytes, index: int) -> dict[str, Any]:
    """Return the operation that writes a key if it was not changed since an index; 0 if it must not exist."""
    return {"KV": {"Verb": "cas", "Key": key, "Value": b64encode(value).decode(), "Index": index}}


def check_key(key: str, index: int) -> dict[str, Any]:
    """Return the operation that fails if a key was changed since an index."""
    return {"KV": {"Verb": "check-index", "Key": key, "Index": index}}


def set_node(node: str, address: str) -> dict[str, Any]:
    """Return the operation that registers a node that is no member of the cluster."""
    meta = {"external-node": "true", "external-probe": "false"}
    return {"Node": {"Verb": "set", "Node": {"Node": node, "Address": address, "Meta": meta}}}


def set_service(node: str, service: dict[str, Any]) -> dict[str, Any]:
    """Return the operation that registers an instance of a service."""
    return {"Service": {"Verb": "set", "Node": node, "Service": service}}


def delete_service(node: str, service_id: str) -> dict[str, Any]:
    """Return the operation that removes an instance of a service."""
    return {"Service": {"Verb": "delete", "Node": node, "Service": {"ID": service_id}}}
