"""
What operators change: failover, monitored masters, and settings.

Each operation is a command of the Sentinel port, executed for the user that has logged in. The command, its
permissions, its durability and its log line are those of a client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

from twisted.internet.defer import Deferred

from txsentinel.extensions.http.idempotency import Idempotency
from txsentinel.extensions.http.pausing import document_of, pause_words
from txsentinel.extensions.http.problem import Problem, ProblemReason, bad_request, shown, unknown_master
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse, json_response
from txsentinel.extensions.http.router import Answer, Route, RouteAccess
from txsentinel.interfaces import CommandRefused, IOperator, ISentinelView
from txsentinel.model.snapshots import CommandRefusal, MasterSnapshot

SETTINGS: Final = {
    "quorum": "quorum",
    "down_after_ms": "down-after-milliseconds",
    "failover_timeout_ms": "failover-timeout",
    "parallel_syncs": "parallel-syncs",
    "reboot_down_after_ms": "master-reboot-down-after-period",
    "notification_script": "notification-script",
    "client_reconfig_script": "client-reconfig-script",
    "auth_user": "auth-user",
    "auth_pass": "auth-pass",
}
"""Members of the body → options of ``SENTINEL SET``."""

REFUSALS: Final = (
    ("INPROG operation", 409, "operation_pending"),
    ("INPROG", 409, "failover_in_progress"),
    ("CANNOTGUARANTEE", 409, "cannot_guarantee"),
    ("PAUSED", 409, "paused"),
    ("SCHEDULEINPAST", 422, "schedule_in_past"),
    ("TOOLATE", 409, "too_late"),
    ("KEYREUSED", 409, "key_reused"),
    ("NOSUCHOPERATION", 404, "unknown_operation"),
    ("RELOADFAILED", 422, "reload_failed"),
    ("NOGOODSLAVE", 412, "candidate_unfit"),
    ("MASTERDOWN", 412, "master_not_healthy"),
    ("STILLALIVE", 409, "still_alive"),
    ("WOULDBREAKMAJORITY", 409, "would_break_majority"),
    ("DRAINING", 409, "drain_in_progress"),
    ("UNKNOWNNODE", 404, "unknown_node"),
    ("TILT", 503, "tilt"),
    ("ERR No such record", 404, "unknown_record"),
    ("NOPERM", 403, "not_permitted"),
    ("NOAUTH", 403, "not_permitted"),
    ("NOQUORUM", 409, "no_majority"),
    ("ERR No such master", 404, "unknown_master"),
    ("ERR Duplicate", 409, "exists"),
    ("ERR ", 400, "bad_request"),
)
"""Beginnings of error replies, the first that fits counts → status and code."""

MAX_TEXT: Final = 1024
"""Characters of a text in a body."""


class ActingRoutes:
    """The handlers of all routes that change something."""

    def __init__(self, view: ISentinelView, operator: IOperator, clock: Callable[[], float]) -> None:
        self._view = view
        self._operator = operator
        self._idempotency = Idempotency(clock)

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        act = self.acting
        one = "/v1/masters/{master}"
        summary = "Start a failover without the agreement of other Sentinels."
        yield act("POST", f"{one}/failover", self.failover, b"SENTINEL FAILOVER {master}", summary)
        summary = "Forget the replicas and the other Sentinels of a master, and find them again."
        yield act("POST", f"{one}/reset", self.reset, b"SENTINEL RESET {master}", summary)
        monitor = b"SENTINEL MONITOR * 127.0.0.1 6379 1"
        yield act("POST", "/v1/masters", self.monitor, monitor, "Monitor a master.")
        yield act("DELETE", one, self.remove, b"SENTINEL REMOVE {master}", "Monitor a master no longer.")
        for base, name in ((one, b"{master}"), ("/v1", b"*")):
            summary = "Pause automatic failovers, with an end, on all Sentinels of the group."
            yield act("PUT", f"{base}/pause", self.pause, b"TXSENTINEL PAUSE " + name + b" FOR 1000", summary)
            summary = "End the pause of automatic failovers."
            yield act("DELETE", f"{base}/pause", self.resume, b"TXSENTINEL RESUME " + name, summary)
        summary = "Change settings of a master; all of them or none."
        reload = "Read secrets, certificates and users again."
        yield act("POST", "/v1/reload", self.reload, b"TXSENTINEL RELOAD", reload)
        yield act("PATCH", "/v1/config/{master}", self.set, b"SENTINEL SET {master} quorum 1", summary)

    def acting(
        self, method: str, pattern: str, handler: Callable[[ApiRequest], Deferred[Answer]], command: bytes, summary: str
    ) -> Route:
        """Return a route that changes something; ``command`` is what its user must have the right to execute."""
        return Route(method, pattern, self._guarded(handler), RouteAccess.LOGIN, tuple(command.split()), (), summary)

    def _guarded(self, handler: Callable[[ApiRequest], Deferred[Answer]]) -> Callable[[ApiRequest], Deferred[Answer]]:
        def guarded(request: ApiRequest) -> Deferred[Answer]:
            return self._idempotency.answer(request, lambda: self._if_able(request, handler))

        return guarded

    def _if_able(self, request: ApiRequest, handler: Callable[[ApiRequest], Deferred[Answer]]) -> Deferred[Answer]:
        """Call a handler unless the Sentinel cannot act: nothing is ordered then that could not be carried out."""
        sentinel = self._view.identity()
        if sentinel.stopping:
            raise Problem(503, "stopping", "the process is stopping")
        if sentinel.tilt.active:
            raise Problem(503, "tilt", f"TILT until {sentinel.tilt.until}: nothing is decided until then")
        if sentinel.storage.state != "ok":
            raise Problem(503, "storage_failing", f"the state cannot be saved: {sentinel.storage.last_error}")
        return handler(request)

    def failover(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 202 once the failover has started; the explanation shows how it goes on."""
        body = request.document("coordinated", "expect", "comment")
        master = self._expected(request, body)
        words = ["SENTINEL", "FAILOVER", master.name]
        if truth_of(body, "coordinated"):
            words.append("COORDINATED")
        text_of(body, "comment")
        location = f"/v1/masters/{quote(master.name, safe='', errors='surrogateescape')}/explain"

        def started(_: object) -> Answer:
            document = {"master": master.name, "state": "started", "from": master.address}
            return json_response(document, 202, [("Location", location)])

        return self._run(request, words).addCallback(started)

    def reset(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 once the master was reset; its name is no pattern here."""
        master = self._expected(request, request.document("expect"))
        words = ["SENTINEL", "RESET", re.sub(r"([\\*?\[\]])", r"\\\1", master.name)]
        return self._run(request, words).addCallback(lambda _: json_response({"master": master.name, "state": "reset"}))

    def monitor(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 201 once the master is monitored, which is durable then."""
        body = request.document("name", "host", "port", "quorum")
        name, host = text_of(body, "name", required=True), text_of(body, "host", required=True)
        port, quorum = number_of(body, "port"), number_of(body, "quorum")
        location = f"/v1/masters/{quote(name, safe='', errors='surrogateescape')}"

        def added(_: object) -> Answer:
            return json_response({"name": name, "href": location}, 201, [("Location", location)])

        return self._run(request, ["SENTINEL", "MONITOR", name, host, str(port), str(quorum)]).addCallback(added)

    def remove(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 once the master is no longer monitored."""
        name = self._expected(request, request.document("expect")).name
        removed = self._run(request, ["SENTINEL", "REMOVE", name])
        return removed.addCallback(lambda _: json_response({"master": name, "state": "removed"}))

    def reload(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 once all files were read again."""
        request.document()
        return self._run(request, ["TXSENTINEL", "RELOAD"]).addCallback(lambda _: json_response({"state": "reloaded"}))

    def set(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 with the new settings once they are durable."""
        body = request.document(*SETTINGS, "guards", "expect")
        name = self._expected(request, body).name
        words = ["SENTINEL", "SET", name]
        for member, option in SETTINGS.items():
            if member in body:
                words += [option, _value(body, member)]
        guards = body.get("guards", {})
        if not isinstance(guards, dict):
            raise bad_request("the member guards must be an object")
        for option in guards:
            words += [option, _value(guards, option)]
        if len(words) == 3:
            raise bad_request(f"the body has no setting; known: {', '.join(SETTINGS)}, guards")

        def done(_: object) -> Answer:
            try:
                return json_response(self._view.master(name).settings)
            except LookupError:
                raise unknown_master(name) from None

        return self._run(request, words).addCallback(done)

    def pause(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 with the pause and what is guaranteed, once it is durable."""
        body = request.document("for_ms", "until", "scope", "require", "reason", *self._expectation(request))
        words = pause_words(self._paused_name(request, body), body, self._wall_clock())
        return self._reply(request, words).addCallback(lambda reply: json_response(document_of(reply)))

    def resume(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 with the number of pauses that were ended, and until when C Sentinels start no failover."""
        body = request.document(*self._expectation(request))
        words = ["TXSENTINEL", "RESUME", self._paused_name(request, body)]
        return self._reply(request, words).addCallback(lambda reply: json_response(document_of(reply)))

    @staticmethod
    def _expectation(request: ApiRequest) -> tuple[str, ...]:
        """Return the member that states the expected state of a master, if the request is about one."""
        return ("expect",) if "master" in request.parameters else ()

    def _paused_name(self, request: ApiRequest, body: Mapping[str, object]) -> str:
        return self._expected(request, body).name if "master" in request.parameters else "*"

    def _wall_clock(self) -> float:
        sentinel = self._view.identity()
        return (sentinel.started_at.unix_ms + sentinel.uptime_ms) / 1000

    def _expected(self, request: ApiRequest, body: Mapping[str, object]) -> MasterSnapshot:
        """
        Return the master of a request.

        :raises Problem: if it is unknown, or in another state than the member ``expect`` of the body demands.
        """
        name = request.parameters["master"]
        try:
            master = self._view.master(name)
        except LookupError:
            raise unknown_master(name) from None
        expected = body.get("expect", {})
        if not isinstance(expected, dict) or not expected.keys() <= {"master", "config_epoch"}:
            raise bad_request("the member expect must be an object with the members master and config_epoch")
        actual = {"master": str(master.address), "config_epoch": master.config_epoch}
        reasons = [
            ProblemReason(
                member, "expectation_failed", f"expected {shown(str(value))}, found {shown(str(actual[member]))}"
            )
            for member, value in expected.items()
            if value != actual[member]
        ]
        if reasons:
            raise Problem(412, "expectation_failed", "the master is not in the expected state", reasons)
        return master

    def _run(self, request: ApiRequest, words: list[str]) -> Deferred[Answer]:
        """Execute a command whose reply does not matter; the result fails with ``Problem`` if it is refused."""
        return self._reply(request, words).addCallback(lambda _: ApiResponse())

    def _reply(self, request: ApiRequest, words: list[str]) -> Deferred[object]:
        """Execute a command, and return its reply; the result fails with ``Problem`` if it is refused."""
        assert request.principal is not None, "the route requires a login"
        result = self._operator.run(request.principal, [word.encode("utf-8", "surrogateescape") for word in words])

        async def run() -> object:
            try:
                return await result
            except CommandRefused as error:
                raise problem_of(error.refusal) from None

        return Deferred.fromCoroutine(run())


def problem_of(refusal: CommandRefusal) -> Problem:
    """Return the error for an error reply."""
    found = next((each for each in REFUSALS if refusal.text.startswith(each[0])), ("", 409, "refused"))
    _, status, code = found
    return Problem(status, code, "the Sentinel refuses the command", [ProblemReason("", refusal.code, refusal.text)])


def text_of(body: Mapping[str, object], name: str, required: bool = False) -> str:
    """
    Return a text of a body, empty without one.

    :raises Problem: if it is no text, too long, or missing although it is required.
    """
    value = body.get(name, None if required else "")
    if not isinstance(value, str) or len(value) > MAX_TEXT or (required and not value):
        raise bad_request(f"the member {name} must be a text of at most {MAX_TEXT} characters")
    return value


def truth_of(body: Mapping[str, object], name: str) -> bool:
    """
    Return a truth value of a body, False without one.

    :raises Problem: if it is none.
    """
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise bad_request(f"the member {name} must be true or false")
    return value


def number_of(body: Mapping[str, object], name: str) -> int:
    """
    Return a number of a body.

    :raises Problem: if it is missing, or no whole number.
    """
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_request(f"the member {name} must be a whole number")
    return value


def _value(body: Mapping[str, object], name: str) -> str:
    """Return a setting as a word of a command; ``null`` empties it."""
    value = body[name]
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return value
    raise bad_request(f"the member {shown(name)} must be a number, a truth value or a text")
