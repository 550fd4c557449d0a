"""The checks of whole groups over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from twisted.internet.defer import Deferred

from txsentinel.extensions.http.authentication import login_required
from txsentinel.extensions.http.problem import Problem, ProblemReason, bad_request, shown, unknown_master
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import json_response
from txsentinel.extensions.http.router import Answer, Route, RouteAccess
from txsentinel.interfaces import Busy, IOperator, ISentinelView
from txsentinel.model.doctor import GroupHealth

MAX_GROUPS: Final = 32
"""How many groups are checked by one request; each takes about two seconds."""

RETRY_AFTER_SECONDS: Final = 10

_CHECK: Final = re.compile(r"D[0-9]{2}", re.ASCII)


class DoctorRoutes:
    """The handler of ``/v1/doctor``."""

    def __init__(self, view: ISentinelView, operator: IOperator) -> None:
        self._view = view
        self._operator = operator

    def routes(self) -> Iterator[Route]:
        """Return the route."""
        summary = "What breaks a failover now, or will surprise; active=1 also tests rights and round trips."
        query, command = ("master", "checks", "active"), (b"TXSENTINEL", b"DOCTOR")
        yield Route("GET", "/v1/doctor", self.check, RouteAccess.READ, command, query, summary)

    def check(self, request: ApiRequest) -> Deferred[Answer]:
        """Answer with what the checks find in the group of one master, or of all."""
        wanted, active, name = _checks(request), request.flag("active"), request.query.get("master")
        names = self._view.names()
        if name is not None:
            if name not in names:
                raise unknown_master(name)
            names = (name,)
        elif len(names) > MAX_GROUPS:
            raise bad_request(f"{len(names)} masters are monitored, more than {MAX_GROUPS}: name one by master=")
        if active:
            self._permit(request, names)

        async def examine() -> Answer:
            found = [await self._examined(each, active) for each in names]
            if wanted is None:
                return json_response(found)
            kept = (replace(each, findings=tuple(f for f in each.findings if f.check in wanted)) for each in found)
            return json_response(list(kept))

        return Deferred.fromCoroutine(examine())

    async def _examined(self, name: str, active: bool) -> GroupHealth:
        try:
            return await self._view.examine_group(name, active=active)
        except LookupError as error:
            raise Problem(503, "group_unreadable", str(error)) from None
        except Busy as error:
            headers = [("Retry-After", str(RETRY_AFTER_SECONDS))]
            raise Problem(503, "busy", str(error), headers=headers) from None

    def _permit(self, request: ApiRequest, names: tuple[str, ...]) -> None:
        """
        Check the right to test the servers.

        :raises Problem: without a login, without the right of ``SENTINEL SET``, or in TILT.
        """
        principal = request.principal
        assert principal is not None, "the route requires a login"
        if principal.method == "none":
            raise login_required("sec-fetch-site" in request.headers)
        for name in names:
            words = (b"SENTINEL", b"SET", name.encode("utf-8", "surrogateescape"), b"quorum", b"1")
            refusal = self._operator.allowed(principal, words)
            if refusal is not None:
                reason = ProblemReason(principal.user, refusal.code, refusal.text)
                raise Problem(403, "not_permitted", "active checks need the right of SENTINEL SET", [reason])
        tilt = self._view.identity().tilt
        if tilt.active:
            raise Problem(503, "tilt", f"TILT until {tilt.until}: nothing is tested until then")


def _checks(request: ApiRequest) -> frozenset[str] | None:
    words = request.query.get("checks")
    if words is None:
        return None
    found = words.split(",")
    for word in found:
        if not _CHECK.fullmatch(word):
            raise bad_request(f"the parameter checks must be a list such as D01,D05, not {shown(words)}")
    return frozenset(found)
