"""A client of the JSON gateway of etcd (version 3): endpoints in turn, logins and renewed tokens."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from txsentinel.extensions.failure_text import failure_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from txsentinel.extensions.http_client import HttpReply

    class Requests(Protocol):
        """What sends a request."""

        def request(
            self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
        ) -> Deferred[HttpReply]:
            """Send a request."""

        def stream(
            self,
            method: str,
            url: str,
            headers: Mapping[str, str] | None,
            body: bytes,
            receive: Callable[[bytes], None],
        ) -> Deferred[int]:
            """Send a request whose reply has no end."""


MAX_ENDPOINTS: Final = 4
"""Endpoints that are tried for one request."""

HEADERS: Final = {"content-type": "application/json"}
UNAUTHENTICATED: Final = 16
"""The status of gRPC for a token that is not valid."""

LOGIN_ERRORS: Final = ("invalid auth token", "user name is empty")
"""What replies have in their text if a login is needed: the code alone does not show it."""

MAX_REASON: Final = 200
"""Bytes of a reply that are shown."""

UNAVAILABLE: Final = (502, 503, 504)


class EtcdError(Exception):
    """
    A request was refused, or no endpoint has answered.

    :ivar needs_login: whether a new login may help.
    """

    def __init__(self, text: str, needs_login: bool = False) -> None:
        super().__init__(text)
        self.needs_login = needs_login


class _Unavailable(Exception):
    """An endpoint cannot answer; another one may."""


class EtcdClient:
    """
    Sends requests to the first endpoint that answers, beginning with the one that answered last.

    :param gateway: the path before that of each method.
    :param password: returns the password at the time of a login.
    """

    def __init__(
        self,
        requests: Requests,
        endpoints: Sequence[str],
        gateway: str = "/v3",
        user: str = "",
        password: Callable[[], str] = str,
    ) -> None:
        self._requests = requests
        self._endpoints = list(endpoints)
        self._gateway = gateway
        self._user = user
        self._password = password
        self._token = ""

    @inlineCallbacks
    def call(self, method: str, request: dict[str, Any]) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        """
        Call a method such as ``kv/txn``.

        :returns: fires with the reply; fails with :exc:`EtcdError`.
        """
        if self._user and not self._token:
            yield self._log_in()
        try:
            answered = yield self._send(method, request)
        except EtcdError as error:
            if not error.needs_login or not self._user:
                raise
            yield self._log_in()
            answered = yield self._send(method, request)
        reply: dict[str, Any] = answered
        return reply

    def wait_for_line(
        self, method: str, request: dict[str, Any], found: Callable[[dict[str, Any]], bool]
    ) -> Deferred[None]:
        """
        Call a method whose reply is a stream of JSON lines, at the endpoint that answered last.

        :param found: called with each line until it returns True.
        :returns: fires when it did; fails if the stream ends before.
        """
        wanted = True

        def cancel(_: Deferred[None]) -> None:
            nonlocal wanted
            wanted = False
            streaming.cancel()

        waiter: Deferred[None] = Deferred(cancel)
        received = bytearray()

        def receive(part: bytes) -> None:
            received.extend(part)
            while b"\n" in received and not waiter.called:
                line, _, rest = bytes(received).partition(b"\n")
                received[:] = rest
                if found(json.loads(line)):
                    waiter.callback(None)
                    streaming.cancel()

        def ended(result: object) -> None:
            if wanted and not waiter.called:
                reason = result.getErrorMessage() if isinstance(result, Failure) else "the stream has ended"
                waiter.errback(EtcdError(reason))

        headers = {**HEADERS, "authorization": self._token} if self._token else HEADERS
        url = f"{self._endpoints[0]}{self._gateway}/{method}"
        streaming = self._requests.stream("POST", url, headers, json.dumps(request).encode(), receive)
        streaming.addBoth(ended)
        return waiter

    @inlineCallbacks
    def _log_in(self) -> Generator[Deferred[Any], Any, None]:
        self._token = ""
        reply = yield self._send("auth/authenticate", {"name": self._user, "password": self._password()})
        token = reply.get("token")
        if not isinstance(token, str):
            raise EtcdError("the reply to the login has no token")
        self._token = token

    @inlineCallbacks
    def _send(self, method: str, request: dict[str, Any]) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        body = json.dumps(request).encode()
        headers = {**HEADERS, "authorization": self._token} if self._token else HEADERS
        problems = []
        for endpoint in self._endpoints[:MAX_ENDPOINTS]:
            try:
                reply = yield self._requests.request("POST", f"{endpoint}{self._gateway}/{method}", headers, body)
                answer = _parsed(reply)
            except EtcdError:
                raise
            except Exception as error:  # Whatever a connection fails with.
                problems.append(f"{endpoint}: {failure_text(error)}")
                # It is tried last from now on.
                self._endpoints.remove(endpoint)
                self._endpoints.append(endpoint)
            else:
                return answer
        # Some releases close the connection if a token is not valid any more.
        self._token = ""
        raise EtcdError("; ".join(problems))


def _parsed(reply: HttpReply) -> dict[str, Any]:
    """
    Return the body of a reply.

    :raises EtcdError: if the request was refused.
    """
    try:
        body = json.loads(reply.body)
    except ValueError:
        body = None
    if reply.status == 200 and isinstance(body, dict):
        return body
    fields = body if isinstance(body, dict) else {}
    text = str(fields.get("message") or fields.get("error") or f"HTTP status {reply.status}")
    if reply.status in UNAVAILABLE or "no leader" in text or "leader changed" in text:
        raise _Unavailable(text)
    if not fields:
        raise _Unavailable(f"no reply of etcd, but HTTP status {reply.status}{_plain_text(reply)}")
    needs_login = reply.status == 401 or fields.get("code") == UNAUTHENTICATED
    raise EtcdError(text, needs_login or any(each in text for each in LOGIN_ERRORS))


def _plain_text(reply: HttpReply) -> str:
    """Return the reason that etcd states in plain text, as when a client certificate has a common name."""
    if not reply.headers.get("content-type", "").startswith("text/plain"):
        return ""
    text = reply.body[:MAX_REASON].decode("ascii", "replace").strip()
    return f": {text}" if text.isprintable() else ""


def encoded(text: str | bytes) -> str:
    """Return a key or a value as JSON has it."""
    return b64encode(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text).decode()


def decoded(text: str) -> str:
    """Return a key or a value of a reply."""
    return b64decode(text).decode("utf-8", "surrogateescape")


def prefix_range(prefix: str) -> dict[str, str]:
    """Return the fields that select all keys with a prefix, which ends with a slash."""
    return {"key": encoded(prefix), "range_end": encoded(prefix[:-1] + chr(ord(prefix[-1]) + 1))}


def put(key: str, value: str, lease: str = "") -> dict[str, Any]:
    """Return the operation of a transaction that sets a key."""
    fields = {"key": encoded(key), "value": encoded(value)}
    return {"requestPut": {**fields, "lease": lease} if lease else fields}


def delete(selection: dict[str, str]) -> dict[str, Any]:
    """Return the operation of a transaction that deletes keys."""
    return {"requestDeleteRange": selection}


def get(selection: dict[str, str]) -> dict[str, Any]:
    """Return the operation of a transaction that reads keys."""
    return {"requestRange": selection}


def unchanged(key: str, revision: int) -> dict[str, Any]:
    """Return the condition that a key was not written since a revision; 0 if it must not exist."""
    return {"key": encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def has_value(key: str, value: str) -> dict[str, Any]:
    """Return the condition that a key exists and has a value."""
    return {"key": encoded(key), "target": "VALUE", "result": "EQUAL", "value": encoded(value)}


def has_lease(key: str, lease: str) -> dict[str, Any]:
    """Return the condition that a key exists and has a lease."""
    return {"key": encoded(key), "target": "LEASE", "result": "EQUAL", "lease": lease}
