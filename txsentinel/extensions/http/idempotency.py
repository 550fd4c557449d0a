"""Requests that a client repeats because it did not get the answer: they are executed once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from txsentinel.extensions.http.problem import Problem, bad_request
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse
from txsentinel.extensions.http.router import Answer

KEPT_SECONDS: Final = 24 * 3600.0
MAX_KEYS: Final = 1000
"""Answers that are kept; the oldest is dropped first."""

MAX_KEY: Final = 255
"""Characters of a key."""

HEADER: Final = "idempotency-key"


@dataclass
class _Kept:
    """An answer, or the requests that wait for it."""

    digest: str
    at: float
    result: Answer | Failure | None = None
    waiting: list[Deferred[Answer]] = field(default_factory=list)

    def answer(self) -> Deferred[Answer]:
        """Return what fires with the answer."""
        waiting: Deferred[Answer] = Deferred()
        if self.result is None:
            self.waiting.append(waiting)
        else:
            _fire(waiting, self.result)
        return waiting

    def finish(self, result: Answer | Failure) -> None:
        """Keep the answer, and give it to those that wait."""
        self.result = result
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            _fire(each, result)


class Idempotency:
    """
    Keeps the answers to requests with the header ``Idempotency-Key`` for a day.

    :param clock: returns the present time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def answer(self, request: ApiRequest, execute: Callable[[], Deferred[Answer]]) -> Deferred[Answer]:
        """
        Execute a request, or return the answer of the one with the same key.

        :raises Problem: if the key was used for another request.
        """
        key = request.headers.get(HEADER)
        if key is None:
            return maybeDeferred(execute)
        if not 0 < len(key) <= MAX_KEY:
            raise bad_request(f"the header Idempotency-Key must have 1 to {MAX_KEY} characters")
        user = request.principal.user if request.principal is not None else ""
        text = "\0".join([request.method, request.path]).encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(text + b"\0" + request.body).hexdigest()
        self._drop_old()
        kept = self._kept.get((user, key))
        if kept is None:
            self._kept[user, key] = kept = _Kept(digest, self._clock())
            executing = maybeDeferred(execute)
            executing.addCallback(_replayable)
            executing.addBoth(self._finish, (user, key), kept)
        elif kept.digest != digest:
            raise Problem(409, "key_reused", "the Idempotency-Key was used for another request")
        return kept.answer()

    def _finish(self, result: Answer | Failure, place: tuple[str, str], kept: _Kept) -> None:
        """Keep an answer, unless the request may succeed later."""
        if isinstance(result, Failure) and not (isinstance(result.value, Problem) and result.value.status < 500):
            self._kept.pop(place, None)
        kept.finish(result)

    def _drop_old(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        while self._kept:
            kept = next(iter(self._kept.values()))
            if len(self._kept) < MAX_KEYS and kept.at > oldest:
                return
            self._kept.popitem(last=False)


def _fire(waiting: Deferred[Answer], result: Answer | Failure) -> None:
    if isinstance(result, Failure):
        waiting.errback(result)
    else:
        waiting.callback(result)


def _replayable(answer: Answer) -> Answer:
    """Return an answer that can be sent more than once."""
    if isinstance(answer, ApiResponse) and not isinstance(answer.body, bytes):
        return ApiResponse(b"".join(answer.body), answer.status, answer.content_type, answer.headers)
    return answer
