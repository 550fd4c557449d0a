"""
A server with the HTTP interface of Consul, as its documentation describes it: keys, transactions and the catalogue.

It stands for Consul where that is not installed. It has check-and-set, blocking queries and tokens. It has no cluster,
so it cannot show what Consul does when members fail.
"""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MAX_OPERATIONS = 128
MAX_VALUE = 512 * 1024
MAX_WAIT = 600.0

Services = dict[tuple[str, str], dict[str, Any]]
"""Node and ID of an instance → the instance."""


class RolledBack(Exception):
    """An operation of a transaction has failed."""


@dataclass
class StoredKey:
    """A key."""

    value: bytes
    created: int
    modified: int

    def document(self, key: str) -> dict[str, Any]:
        """Return it as replies have it."""
        value = b64encode(self.value).decode() if self.value else None
        indexes = {"CreateIndex": self.created, "ModifyIndex": self.modified, "LockIndex": 0}
        return {**indexes, "Key": key, "Flags": 0, "Value": value}


@dataclass
class ConsulState:
    """What a transaction changes, or leaves as it is."""

    index: int = 1
    keys: dict[str, StoredKey] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    services: Services = field(default_factory=dict)

    def set(self, key: str, value: bytes) -> None:
        """Write a key with the present index."""
        before = self.keys.get(key)
        self.keys[key] = StoredKey(value, self.index if before is None else before.created, self.index)

    def matches(self, key: str, index: int) -> bool:
        """Whether a key was last written with an index; 0 if it does not exist."""
        return index == (self.keys[key].modified if key in self.keys else 0)

    def copy(self) -> ConsulState:
        """Return a copy that can be changed."""
        return ConsulState(self.index + 1, dict(self.keys), dict(self.nodes), dict(self.services))


class FakeConsul:
    """
    The server, on a free port of 127.0.0.1.

    :param token: what requests must have, if it is not empty.
    """

    def __init__(self, token: str = "") -> None:
        self.state = ConsulState()
        self.requests: list[tuple[str, str]] = []
        """Method and path of each request."""

        self.failing = False
        """Whether everything is answered as without a leader."""

        self._token = token
        self._changed = threading.Condition()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            """Passes requests on."""

            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                """Answer a request of any method."""
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, index, reply = fake.respond(self.command, self.path, self.headers.get("x-consul-token"), body)
                self.send_response(status)
                self.send_header("content-type", "application/json" if status in (200, 409) else "text/plain")
                self.send_header("x-consul-index", str(index))
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """The URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop."""
        with self._changed:
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, method: str, target: str, token: str | None, body: bytes) -> tuple[int, int, bytes]:
        """Return status, index and body of the reply."""
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        with self._changed:
            self.requests.append((method, target))
            if self.failing:
                return 500, self.state.index, b"No cluster leader"
            if self._token and token != self._token:
                return 403, self.state.index, b"Permission denied"
            if url.path.startswith("/v1/kv/"):
                return self._key(method, unquote(url.path[len("/v1/kv/") :]), query, body)
            if (method, url.path) == ("PUT", "/v1/txn"):
                return self._transaction(body)
            if method == "GET" and url.path.startswith("/v1/catalog/service/"):
                return self._service(unquote(url.path.rpartition("/")[2]))
            return 404, self.state.index, b""

    def _key(self, method: str, key: str, query: dict[str, str], body: bytes) -> tuple[int, int, bytes]:
        if method == "GET":
            self._block(key, query)
            found = self.state.keys.get(key)
            if found is None:
                return 404, self.state.index, b""
            reply = found.value if "raw" in query else json.dumps([found.document(key)]).encode()
            return 200, found.modified, reply
        if len(body) > MAX_VALUE:
            return 413, self.state.index, b"Request body too large"
        if "cas" in query and not self.state.matches(key, int(query["cas"])):
            return 200, self.state.index, b"false"
        changed = self.state.copy()
        if method == "PUT":
            changed.set(key, body)
        else:
            changed.keys.pop(key, None)
        self._commit(changed)
        return 200, self.state.index, b"true"

    def _block(self, key: str, query: dict[str, str]) -> None:
        """Wait until the key was changed after an index, or the time is over."""
        if "index" not in query:
            return
        match = re.fullmatch("([0-9]+)(ms|s|m)", query.get("wait", "5m"))
        seconds = 300.0 if match is None else int(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2]]
        until = time.monotonic() + min(seconds, MAX_WAIT)

        def is_newer() -> bool:
            found = self.state.keys.get(key)
            return (found.modified if found else 0) > int(query["index"])

        self._changed.wait_for(is_newer, until - time.monotonic())

    def _transaction(self, body: bytes) -> tuple[int, int, bytes]:
        operations = json.loads(body)
        if len(operations) > MAX_OPERATIONS:
            return 413, self.state.index, b"Transaction contains too many operations"
        changed, errors = self.state.copy(), []
        for number, operation in enumerate(operations):
            ((kind, fields),) = operation.items()
            try:
                getattr(self, f"_apply_{kind.lower()}")(changed, fields)
            except RolledBack as problem:
                errors.append({"OpIndex": number, "What": str(problem)})
        if errors:
            return 409, self.state.index, json.dumps({"Results": None, "Errors": errors}).encode()
        self._commit(changed)
        return 200, self.state.index, json.dumps({"Results": [], "Errors": None}).encode()

    def _apply_kv(self, state: ConsulState, fields: dict[str, Any]) -> None:
        verb, key = fields["Verb"], fields["Key"]
        if verb == "check-index" and not state.matches(key, fields["Index"]):
            raise RolledBack(f'failed index check for key "{key}"')
        if verb == "cas" and not state.matches(key, fields["Index"]):
            raise RolledBack(f'failed to set key "{key}", index is stale')
        if verb in ("cas", "set"):
            state.set(key, b64decode(fields["Value"]))
        elif verb != "check-index":
            raise RolledBack(f'unknown KV verb "{verb}"')

    def _apply_node(self, state: ConsulState, fields: dict[str, Any]) -> None:
        if fields["Verb"] != "set" or not fields["Node"].get("Address"):
            raise RolledBack("unknown Node operation")
        state.nodes[fields["Node"]["Node"]] = fields["Node"]

    def _apply_service(self, state: ConsulState, fields: dict[str, Any]) -> None:
        node, service = fields["Node"], fields["Service"]
        if node not in state.nodes:
            raise RolledBack(f'failed to find node "{node}"')
        if fields["Verb"] == "set":
            state.services[node, service["ID"]] = service
        elif fields["Verb"] == "delete":
            state.services.pop((node, service["ID"]), None)
        else:
            raise RolledBack("unknown Service operation")

    def _service(self, name: str) -> tuple[int, int, bytes]:
        found = [
            {
                "Node": node,
                "Address": self.state.nodes[node]["Address"],
                "ServiceID": identity,
                "ServiceName": each["Service"],
                "ServiceAddress": each["Address"],
                "ServicePort": each["Port"],
                "ServiceTags": each["Tags"],
            }
            for (node, identity), each in self.state.services.items()
            if each["Service"] == name
        ]
        return 200, self.state.index, json.dumps(found).encode()

    def _commit(self, state: ConsulState) -> None:
        self.state = state
        self._changed.notify_all()
