"""What the tests of extensions that send to other programs have in common: a reactor whose threads are the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from txsentinel.extensions.http_client import HttpReply


class ImmediatePool:
    """A pool that calls functions at once, in the thread of the caller."""

    def callInThreadWithCallback(self, on_result: Callable[[bool, Any], None], function: Any, *args: Any) -> None:
        """Call a function."""
        try:
            result = function(*args)
        except Exception:
            on_result(False, Failure())
        else:
            on_result(True, result)


class ImmediateReactor(MemoryReactorClock):
    """A reactor in memory with such a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ImmediatePool()

    def getThreadPool(self) -> Any:
        """Return the pool."""
        return self.pool

    def callFromThread(self, function: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call a function at once."""
        function(*args, **kwargs)


@dataclass
class SentRequest:
    """A request that a test answers through :attr:`answered`."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    answered: Deferred[HttpReply] = field(default_factory=Deferred)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer the request."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answered.callback(HttpReply(status, fields, body))


class RecordingClient:
    """In place of ``RequestClient``: keeps the requests, for the test to answer."""

    def __init__(self) -> None:
        self.requests: list[SentRequest] = []
        self.receivers: list[Callable[[bytes], None]] = []
        self.streams: list[Deferred[int]] = []

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Deferred[HttpReply]:
        """Keep a request."""
        sent = SentRequest(method, url, dict(headers or {}), body or b"")
        self.requests.append(sent)
        return sent.answered

    def stream(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes, receive: Callable[[bytes], None]
    ) -> Deferred[int]:
        """Keep a request; :attr:`receivers` has what gets the parts of its reply."""
        self.requests.append(SentRequest(method, url, dict(headers or {}), body))
        self.receivers.append(receive)
        ended: Deferred[int] = Deferred()
        self.streams.append(ended)
        return ended
