"""Errors as ``application/problem+json`` (RFC 9457), with codes that do not change."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from txsentinel.extensions.http.responses import ApiResponse

PROBLEM_JSON: Final = "application/problem+json"
LOGIN_HINT: Final = (
    '<p><a href="/">The page of this Sentinel</a> has a login, which needs JavaScript. Without it use <code>curl -u'
    " user</code>, or the command <code>txsentinel list</code>: browsers are not asked for passwords, because they"
    " would send them with requests that other sites cause.</p>"
)
"""What the page of a missing login adds."""

REASON_HEADER: Final = "X-Txsentinel-Reason"


@dataclass(frozen=True, slots=True)
class ProblemReason:
    """One of several reasons: what it is about, its code, and a sentence."""

    subject: str
    code: str
    text: str


class Problem(Exception):
    """
    Ends a handler with an error.

    ``code`` is one of the documented codes; ``detail`` is a sentence. Neither contains secrets.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        reasons: Iterable[ProblemReason] = (),
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.reasons = tuple(reasons)
        self.headers = tuple(headers)

    def response(self) -> ApiResponse:
        """Return the response."""
        document = {
            "type": f"urn:txsentinel:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "reasons": [{"subject": each.subject, "code": each.code, "text": each.text} for each in self.reasons],
        }
        return ApiResponse(json.dumps(document).encode(), self.status, PROBLEM_JSON, self.headers)

    def page(self) -> ApiResponse:
        """Return the response to a browser whose user has followed a link: a short page in place of JSON."""
        title = f"{self.status} {self.code.replace('_', ' ')}"
        hint = LOGIN_HINT if self.status == HTTPStatus.UNAUTHORIZED else ""
        text = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
            f"<body><h1>{escape(title)}</h1><p>{escape(self.detail)}</p>{hint}</body></html>\n"
        )
        return ApiResponse(text.encode(), self.status, "text/html; charset=utf-8", self.headers)


def unavailable(code: str, detail: str, reasons: Iterable[ProblemReason] = (), subject: str = "") -> Problem:
    """
    Return the failure of a health check: 503 with the code, and the subject if there is one, as a header of its own.

    The subject is percent-encoded there.
    """
    value = f"{code}:{quote(subject, safe='', errors='surrogateescape')}" if subject else code
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, reasons, [(REASON_HEADER, value)])


def bad_request(detail: str) -> Problem:
    """Return the error for a request that cannot be understood; ``detail`` names what and where."""
    return Problem(HTTPStatus.BAD_REQUEST, "bad_request", detail)


def unknown_master(name: str) -> Problem:
    """Return the error for a name that no master has."""
    return Problem(HTTPStatus.NOT_FOUND, "unknown_master", f"no master is monitored under the name {shown(name)}")


def shown(text: str) -> str:
    """Return a text of the client as it is shown in an error: quoted, escaped, and at most 100 characters of it."""
    return ascii(text if len(text) <= 100 else text[:100] + "...")
