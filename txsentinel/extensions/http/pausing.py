"""Pauses of automatic failovers: the bodies of requests, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from txsentinel.extensions.http.problem import Problem, bad_request
from txsentinel.model.snapshots import Instant

MAX_REASON: Final = 500
"""Characters of a reason."""

SCOPES: Final = ("failover", "hands-off")
REQUIREMENTS: Final = ("guaranteed", "best-effort")

INSTANTS: Final = frozenset({"until", "requested_at", "residual_until"})
"""Members of the answers that are points in time."""


def pause_words(name: str, body: Mapping[str, object], now: float) -> list[str]:
    """
    Return the command for the body of a PUT.

    :param now: the wall clock in seconds.
    :raises Problem: if it has no end, or a member is invalid.
    """
    period, until = body.get("for_ms"), body.get("until")
    if (period is None) is (until is None):
        raise bad_request("the body must have one of the members for_ms and until: a pause has an end")
    if until is not None:
        period = _unix_ms(until) - round(now * 1000)
        if period <= 0:
            raise Problem(422, "schedule_in_past", "the member until is a time in the past")
    if not isinstance(period, int) or isinstance(period, bool) or period <= 0:
        raise bad_request("the member for_ms must be a number of milliseconds above 0")
    reason = body.get("reason", "")
    if not isinstance(reason, str) or len(reason) > MAX_REASON:
        raise bad_request(f"the member reason must be a text of at most {MAX_REASON} characters")
    words = ["TXSENTINEL", "PAUSE", name, "FOR", str(period)]
    for member, allowed in (("scope", SCOPES), ("require", REQUIREMENTS)):
        if member in body:
            value = body[member]
            if value not in allowed:
                raise bad_request(f"the member {member} must be one of {', '.join(allowed)}")
            words += [member.upper(), str(value)]
    return [*words, "REASON", reason] if reason else words


def _unix_ms(until: object) -> int:
    """Return a time of RFC 3339 in milliseconds since 1970."""
    try:
        moment = datetime.fromisoformat(until.replace("Z", "+00:00")) if isinstance(until, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Problem(422, "schedule_without_zone", "the member until must be a time with a zone, as of RFC 3339")
    return round(moment.timestamp() * 1000)


def document_of(value: object, member: str = "") -> object:
    """Return a reply as a document: texts instead of bytes, points in time with a zone."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        named = {key.decode() if isinstance(key, bytes) else str(key): each for key, each in value.items()}
        return {key: document_of(each, key) for key, each in named.items()}
    if isinstance(value, list | tuple):
        return [document_of(each) for each in value]
    if member in INSTANTS and isinstance(value, int):
        return Instant(value)
    return value
