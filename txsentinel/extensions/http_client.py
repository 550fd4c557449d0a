"""A client for the HTTP interfaces of other programs, with a deadline and a bounded reply; it needs treq."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
    _HTTP11ClientFactory,
)
from twisted.web.http_headers import Headers

MAX_REPLY_BYTES: Final = 1 << 20

TIMEOUT: Final = 5.0
"""Seconds from the beginning of a request to the end of its reply."""


class ReplyTooLong(Exception):
    """A reply has more than ``MAX_REPLY_BYTES``."""


class _QuietFactory(_HTTP11ClientFactory):
    """A factory of Twisted that writes no line to the log for each connection."""

    noisy = False


class QuietPool(HTTPConnectionPool):
    """A pool whose connections are not logged."""

    _factory = _QuietFactory


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class IRequestClient(Protocol):
    """What sends requests."""

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Deferred[HttpReply]:
        """
        Send a request.

        :returns: fires with the reply, whatever its status is; fails if there is none, or not within a timeout.
        """


class RequestClient:
    """
    Sends requests, each over a connection of its own. It follows no redirects and uses no proxy.

    :param policy: how servers are checked, in place of the authorities of the system.
    """

    def __init__(self, reactor: Any, timeout: float = TIMEOUT, policy: Any = None) -> None:
        self._reactor = reactor
        self._timeout = timeout
        pool = QuietPool(reactor, persistent=False)  # type: ignore[no-untyped-call]
        self._client = HTTPClient(
            Agent(reactor, policy or BrowserLikePolicyForHTTPS(), connectTimeout=timeout, pool=pool)
        )

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Deferred[HttpReply]:
        """
        Send a request.

        :returns: fires with the reply, whatever its status is; fails if there is none, or not within the timeout.
        """
        fields = Headers({name: [value] for name, value in (headers or {}).items()})
        answered: Deferred[Any] = self._client.request(
            method, url, headers=fields, data=body, allow_redirects=False, unbuffered=True, reactor=self._reactor
        )
        answered.addCallback(_read)
        answered.addErrback(_cause)
        answered.addTimeout(self._timeout, self._reactor, _timed_out)
        return answered

    def stream(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes, receive: Callable[[bytes], None]
    ) -> Deferred[int]:
        """
        Send a request whose reply has no end.

        :param receive: called with each part of the body; if it raises, the connection is closed.
        :returns: fires with the status when the reply ends; cancel it to close the connection.
        """
        fields = Headers({name: [value] for name, value in (headers or {}).items()})
        answered: Deferred[Any] = self._client.request(
            method, url, headers=fields, data=body, allow_redirects=False, unbuffered=True, reactor=self._reactor
        )

        def read(response: Any) -> Deferred[int]:
            reading: Deferred[Any] = collect(response, receive)
            return reading.addCallback(lambda _: int(response.code))

        answered.addTimeout(self._timeout, self._reactor)
        return answered.addCallback(read)


def _cause(failure: Failure) -> Failure:
    """Return why there was no reply; the client of Twisted wraps it."""
    value = failure.value
    if isinstance(value, (ResponseNeverReceived, RequestTransmissionFailed, ResponseFailed)) and value.reasons:
        return _cause(value.reasons[-1])
    return failure


def _timed_out(result: object, seconds: float) -> NoReturn:
    raise TimeoutError(f"no reply within {seconds:g} seconds")


def _read(response: Any) -> Deferred[HttpReply]:
    headers = {
        name.decode("latin-1").lower(): b", ".join(values).decode("latin-1")
        for name, values in response.headers.getAllRawHeaders()
    }
    received = bytearray()

    def receive(part: bytes) -> None:
        received.extend(part)
        if len(received) > MAX_REPLY_BYTES:
            raise ReplyTooLong(f"the reply has more than {MAX_REPLY_BYTES} bytes")

    if response.length == 0:
        return succeed(HttpReply(response.code, headers, b""))
    reading: Deferred[Any] = collect(response, receive)
    reading.addCallback(lambda _: HttpReply(response.code, headers, bytes(received)))
    return reading
