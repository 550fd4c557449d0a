"""
Switchovers over HTTP: ordered, followed and cancelled.

Each request executes a command of TXSENTINEL for the user that has logged in, as that of a client is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from txsentinel.extensions.http.acting import problem_of
from txsentinel.extensions.http.idempotency import Idempotency
from txsentinel.extensions.http.problem import Problem, ProblemReason, bad_request, shown, unknown_master
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import json_response
from txsentinel.extensions.http.router import Answer, Route, RouteAccess
from txsentinel.interfaces import CommandRefused, IOperator, ISentinelView
from txsentinel.model.snapshots import Instant

MEMBERS: Final = (
    "to",
    "at",
    "method",
    "timeout_ms",
    "max_lag_bytes",
    "max_pause_ms",
    "dry_run",
    "comment",
    "expect",
)
"""Members of the body of a switchover."""

STATUSES: Final = {
    "failover_in_progress": 409,
    "operation_pending": 409,
    "tilt": 503,
    "storage_failing": 503,
}
"""Code of a condition that was not met → status; 412 for the others."""

INSTANTS: Final = frozenset(["requested_at", "scheduled_at", "at", "armed_at", "expires_at", "demoted_at"])
"""Members that are milliseconds since 1970 in the replies to commands, and times in RFC 3339 here."""

ENDED: Final = ("done", "failed", "cancelled")

MAX_WAIT_MS: Final = 60_000
POLL_SECONDS: Final = 0.05


class OperationRoutes:
    """The handlers of the routes about operations."""

    def __init__(self, view: ISentinelView, operator: IOperator, reactor: IReactorTime) -> None:
        self._view = view
        self._operator = operator
        self._reactor = reactor
        self._idempotency = Idempotency(reactor.seconds)

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        order, read = (b"TXSENTINEL", b"SWITCHOVER", b"{master}"), (b"TXSENTINEL", b"OPERATIONS")
        summary = "Replace a healthy master by a replica without losing a write."
        pattern = "/v1/masters/{master}/switchover"
        guarded = self._guarded(self.switch_over)
        yield Route("POST", pattern, guarded, RouteAccess.LOGIN, order, ("wait",), summary)
        summary = "The switchovers that were ordered from this Sentinel."
        yield Route("GET", "/v1/operations", self.list_all, RouteAccess.READ, read, (), summary)
        one = "/v1/operations/{operation}"
        yield Route("GET", one, self.show, RouteAccess.READ, read, ("wait",), "One of them.")
        cancel = (b"TXSENTINEL", b"CANCEL", b"{operation}")
        summary = "Cancel a switchover whose promotion was not ordered yet."
        yield Route("DELETE", one, self.cancel, RouteAccess.LOGIN, cancel, (), summary)

    def _guarded(self, handler: Callable[[ApiRequest], Deferred[Answer]]) -> Callable[[ApiRequest], Deferred[Answer]]:
        return lambda request: self._idempotency.answer(request, lambda: handler(request))

    def switch_over(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 202 once it has begun, 200 if it ends within ``wait``, or with all conditions that are not met."""
        wait, words = _wait(request), self._words(request)

        async def run() -> Answer:
            operation = await self._run(request, words)
            if operation["state"] == "failed" and operation["reasons"]:
                raise refused(operation)
            return await self._answer(request, operation, wait)

        return Deferred.fromCoroutine(run())

    def list_all(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 with all operations, newest first."""

        async def run() -> Answer:
            found = await self._execute(request, ["TXSENTINEL", "OPERATIONS"])
            return json_response(found)

        return Deferred.fromCoroutine(run())

    def show(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 with one operation; with ``wait`` once it has ended, or after that time."""
        wait, words = _wait(request), ["TXSENTINEL", "OPERATION", request.parameters["operation"]]

        async def run() -> Answer:
            operation = await self._run(request, words)
            return json_response(await self._ended(request, operation, wait))

        return Deferred.fromCoroutine(run())

    def cancel(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 with the operation that was cancelled."""

        async def run() -> Answer:
            return json_response(await self._run(request, ["TXSENTINEL", "CANCEL", request.parameters["operation"]]))

        return Deferred.fromCoroutine(run())

    def _words(self, request: ApiRequest) -> list[str]:
        """
        Return the command for the body of a request.

        :raises Problem: if a member is wrong, with its name.
        """
        body, name = request.document(*MEMBERS), request.parameters["master"]
        words = ["TXSENTINEL", "SWITCHOVER", name]
        if body.get("to") is not None:
            words += ["TO", *_place(body, "to")]
        if body.get("at") is not None:
            words += ["AT", str(_time(body))]
        for member, word in (("method", "METHOD"), ("comment", "COMMENT")):
            if body.get(member) is not None:
                value = body[member]
                if not isinstance(value, str):
                    raise bad_request(f"the member {member} must be a text")
                words += [word, value]
        for member, word in (("timeout_ms", "TIMEOUT"), ("max_lag_bytes", "MAXLAG"), ("max_pause_ms", "MAXPAUSE")):
            if body.get(member) is not None:
                value = body[member]
                if not isinstance(value, int) or isinstance(value, bool):
                    raise bad_request(f"the member {member} must be a whole number")
                words += [word, str(value)]
        dry_run = body.get("dry_run", False)
        if not isinstance(dry_run, bool):
            raise bad_request("the member dry_run must be true or false")
        if dry_run:
            words.append("DRYRUN")
        if body.get("expect") is not None:
            words += ["EXPECT", *self._expectation(name, body["expect"])]
        return words

    def _expectation(self, name: str, expect: object) -> list[str]:
        """Return host, port and epoch of the member ``expect``; what it does not have is as it is now."""
        try:
            master = self._view.master(name)
        except LookupError:
            raise unknown_master(name) from None
        if not isinstance(expect, dict) or not expect.keys() <= {"master", "config_epoch"}:
            raise bad_request("the member expect must be an object with the members master and config_epoch")
        host, port = _place(expect, "master") if "master" in expect else (master.address.host, str(master.address.port))
        epoch = expect.get("config_epoch", master.config_epoch)
        if not isinstance(epoch, int) or isinstance(epoch, bool):
            raise bad_request("the member expect.config_epoch must be a whole number")
        return [host, port, str(epoch)]

    async def _answer(self, request: ApiRequest, operation: Mapping[str, object], wait: int) -> Answer:
        found = await self._ended(request, operation, wait)
        location = f"/v1/operations/{quote(str(found['operation_id']), safe='')}"
        return json_response(found, 200 if found["state"] in ENDED else 202, [("Location", location)])

    async def _ended(self, request: ApiRequest, operation: Mapping[str, object], wait: int) -> Mapping[str, object]:
        """Return the operation when it has ended, or after ``wait`` milliseconds."""
        until = self._reactor.seconds() + wait / 1000
        words = ["TXSENTINEL", "OPERATION", str(operation["operation_id"])]
        while operation["state"] not in ENDED and self._reactor.seconds() < until:
            await deferLater(self._reactor, POLL_SECONDS)
            operation = await self._run(request, words)
        return operation

    async def _run(self, request: ApiRequest, words: list[str]) -> Mapping[str, object]:
        found = await self._execute(request, words)
        assert isinstance(found, dict), "the reply is a map"
        return found

    async def _execute(self, request: ApiRequest, words: list[str]) -> object:
        """Execute a command, and return its reply with texts and times as JSON has them."""
        assert request.principal is not None, "the route requires a user"
        try:
            reply = await self._operator.run(
                request.principal, [word.encode("utf-8", "surrogateescape") for word in words]
            )
        except CommandRefused as error:
            raise problem_of(error.refusal) from None
        return _converted(reply)


def refused(operation: Mapping[str, object]) -> Problem:
    """Return the error for an operation whose conditions are not met: the first one names it, all are listed."""
    found = operation["reasons"]
    reasons = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    first = reasons[0]
    code = str(first["code"])
    return Problem(
        STATUSES.get(code, 412),
        code,
        str(first["text"]),
        [ProblemReason(str(each.get("subject") or ""), str(each["code"]), str(each["text"])) for each in reasons],
    )


def _converted(value: object, name: str = "") -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        found = {}
        for key, each in value.items():
            word = key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else str(key)
            found[word] = _converted(each, word)
        return found
    if isinstance(value, (list, tuple)):
        return [_converted(each) for each in value]
    if name in INSTANTS and isinstance(value, int):
        return Instant(value).rfc3339()
    return value


def _place(body: Mapping[str, object], name: str) -> tuple[str, str]:
    value = body[name]
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or not port.isdigit():
        raise bad_request(f"the member {name} must be an address such as 10.0.0.1:6379")
    return host.strip("[]"), port


def _time(body: Mapping[str, object]) -> int:
    """
    Return the member ``at`` in milliseconds since 1970.

    :raises Problem: if it is no time, or has no zone.
    """
    value = body["at"]
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise bad_request(
            f"the member at must be a time such as 2027-01-31T00:00:00Z, not {shown(str(value))}"
        ) from None
    if moment.tzinfo is None:
        raise Problem(422, "schedule_without_zone", "the member at has no time zone; add Z or an offset such as +01:00")
    return int(moment.timestamp() * 1000)


def _wait(request: ApiRequest) -> int:
    text = request.query.get("wait", "0")
    if not text.isdigit() or int(text) > MAX_WAIT_MS:
        raise bad_request(f"the parameter wait must be milliseconds from 0 to {MAX_WAIT_MS}, not {shown(text)}")
    return int(text)
