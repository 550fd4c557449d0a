"""What a handler returns: a status, headers, and a body that may be made in portions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Final

from txsentinel.model.plain import plain
from txsentinel.model.snapshots import Endpoint, Instant

JSON: Final = "application/json"

SECURITY_HEADERS: Final[tuple[tuple[str, str], ...]] = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Server", "txsentinel"),
)
"""Headers of every response; those of a response override them."""

MAX_STREAMED_DEPTH: Final = 3
"""Down to which depth :func:`encode` splits a value; what is deeper is small."""


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """
    A response.

    ``body`` is the whole body or an iterator of its parts, which is advanced for at most ``TIME_SLICE_SECONDS`` in one
    turn of the reactor. Headers are pairs of name and value; a value must be printable ASCII.
    """

    body: bytes | Iterator[bytes] = b""
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def json_response(value: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> ApiResponse:
    """Return a response with records, or collections of records, as JSON."""
    return ApiResponse(encode(value), status, headers=tuple(headers))


def encode(value: object, depth: int = MAX_STREAMED_DEPTH) -> Iterator[bytes]:
    """
    Encode a record, a mapping or an iterable of records as JSON, in small parts.

    The text is ASCII, so that no master name can contain a line break or an invalid character.
    """
    if depth == 0 or value is None or isinstance(value, (str, int, float, Instant, Endpoint)):
        yield json.dumps(plain(value)).encode()
        return
    separator = b""
    pairs = _pairs(value)
    if pairs is not None:
        yield b"{"
        for name, member in pairs:
            yield separator + json.dumps(name).encode() + b": "
            yield from encode(member, depth - 1)
            separator = b", "
        yield b"}"
    elif isinstance(value, Iterable):
        yield b"["
        for member in value:
            if separator:
                yield separator
            yield from encode(member, depth - 1)
            separator = b",\n" if depth == MAX_STREAMED_DEPTH else b", "
        yield b"]"
    else:
        yield json.dumps(plain(value)).encode()


def _pairs(value: object) -> Iterable[tuple[str, object]] | None:
    """Return the members of a mapping or a record; ``None`` for other values."""
    if isinstance(value, Mapping):
        return ((str(name), member) for name, member in value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return ((each.name, getattr(value, each.name)) for each in fields(value))
    return None


def entity_tag(run_id: str, revision: int) -> str:
    """
    Return the ETag of a state.

    It is weak: two answers with the same revision differ at most in the times of probes. The run ID is part of it since
    revisions begin anew with each process.
    """
    return f'W/"{run_id[:8]}-{revision}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has the state with this tag, by its header ``If-None-Match``."""
    if if_none_match is None:
        return False
    opaque = tag.removeprefix("W/")
    return any(each.strip().removeprefix("W/") in ("*", opaque) for each in if_none_match.split(","))


def not_modified(tag: str) -> ApiResponse:
    """Return the response for a client that has the state already."""
    return ApiResponse(b"", 304, headers=(("ETag", tag), ("Cache-Control", "no-cache")))
