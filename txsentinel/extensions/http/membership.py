"""Removal of members of a group, draining of hosts, and acknowledgement of failovers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from twisted.internet.defer import Deferred

from txsentinel.extensions.http.acting import ActingRoutes, number_of, problem_of, text_of, truth_of
from txsentinel.extensions.http.addresses import parse_address
from txsentinel.extensions.http.problem import bad_request
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import json_response
from txsentinel.extensions.http.router import Answer, Route
from txsentinel.interfaces import CommandRefused
from txsentinel.model.plain import Plain
from txsentinel.model.snapshots import Instant

MAX_WAIT_MS: Final = 3_600_000
MAX_TIME_MS: Final = 31_622_400_000


class MembershipRoutes(ActingRoutes):
    """The handlers of these routes."""

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        summary = "Remove a Sentinel or replica that does not exist any more, at all Sentinels of this kind."
        command = b"TXSENTINEL FORGET {master} ID x"
        yield self.acting("POST", "/v1/masters/{master}/forget", self.forget, command, summary)
        summary = "Move the masters away from a host that is about to be stopped."
        yield self.acting("POST", "/v1/drain", self.drain, b"TXSENTINEL DRAIN x", summary)
        summary = "Record that a failover was seen, and end the block of further ones."
        yield self.acting("POST", "/v1/history/{id}/ack", self.acknowledge, b"TXSENTINEL ACK x", summary)

    def forget(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 with what each Sentinel did."""
        body = request.document("node", "for_ms", "force", "reset_c_peers", "expect")
        master = self._expected(request, body)
        node = text_of(body, "node", required=True)
        words = ["TXSENTINEL", "FORGET", master.name]
        if ":" in node:
            host, port = parse_address(node)
            if port is None:
                raise bad_request("the member node must be host:port, or the ID of a Sentinel")
            words += ["NODE", host, str(port)]
        else:
            words += ["ID", node]
        if "for_ms" in body:
            words += ["FOR", str(_bounded(body, "for_ms", MAX_TIME_MS))]
        if truth_of(body, "force"):
            words.append("FORCE")
        if truth_of(body, "reset_c_peers"):
            words.append("RESETC")
        return self._answer(request, words)

    def drain(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 with the result, or with the plan if that is all that is wanted."""
        body = request.document("node", "wait_ms", "park_ms", "dry_run", "undo", "parallel")
        node = text_of(body, "node", required=True)
        host, port = parse_address(node)
        words = ["TXSENTINEL", "DRAIN", host, *([str(port)] if port else [])]
        for member, word, most in (("wait_ms", "WAIT", MAX_WAIT_MS), ("park_ms", "PARK", MAX_TIME_MS)):
            if body.get(member):
                words += [word, str(_bounded(body, member, most))]
        for member, word in (("dry_run", "DRYRUN"), ("undo", "UNDO"), ("parallel", "PARALLEL")):
            if truth_of(body, member):
                words.append(word)
        return self._answer(request, words)

    def acknowledge(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer 200 once the acknowledgement is recorded."""
        body = request.document("comment")
        record_id = request.parameters["id"]
        words = ["TXSENTINEL", "ACK", record_id, text_of(body, "comment")]
        return self._answer(request, words, {"id": record_id, "state": "acknowledged"})

    def _answer(self, request: ApiRequest, words: list[str], document: Plain = None) -> Deferred[Answer]:
        """
        Execute a command, and answer with its reply.

        :param document: the answer to a reply without contents.
        """
        assert request.principal is not None, "the route requires a login"
        result = self._operator.run(request.principal, [word.encode("utf-8", "surrogateescape") for word in words])

        async def run() -> Answer:
            try:
                reply = await result
            except CommandRefused as error:
                raise problem_of(error.refusal) from None
            found = _document(reply)
            if isinstance(found, dict) and isinstance(found.get("until"), int):
                found["until"] = Instant(int(str(found["until"]))).rfc3339()
            return json_response(found if document is None else document)

        return Deferred.fromCoroutine(run())


def _document(reply: object) -> Plain:
    """Return a reply for JSON."""
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "surrogateescape")
    if isinstance(reply, Mapping):
        return {str(_document(name)): _document(each) for name, each in reply.items()}
    if isinstance(reply, (list, tuple)):
        return [_document(each) for each in reply]
    return reply if isinstance(reply, (str, bool, int, float)) else None


def _bounded(body: Mapping[str, object], name: str, most: int) -> int:
    value = number_of(body, name)
    if not 0 < value <= most:
        raise bad_request(f"the member {name} must be a number of milliseconds from 1 to {most}")
    return value
