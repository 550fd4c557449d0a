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


def small_response(value: object) -> ApiResponse:
    """Return a response with a small document, which is encoded at once."""
    return ApiResponse(_dumps(plain(value)))


def encode(value: object) -> Iterator[bytes]:
    """
    Encode a record, a mapping or an iterable of records as JSON, in small parts.

    Each element of a list is a part, also in the lists that are members of a record. The text is ASCII, so that no
    master name can contain a line break or an invalid character.
    """
    pairs = None if isinstance(value, (Instant, Endpoint)) else _pairs(value)
    if pairs is None:
        yield from _encode_member(value)
        return
    separator = b"{"
    for name, member in pairs:
        yield separator + _dumps(name) + b": "
        yield from _encode_member(member)
        separator = b", "
    yield b"}" if separator == b", " else b"{}"


def _encode_member(value: object) -> Iterator[bytes]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        yield _dumps(plain(value))
        return
    separator = b"["
    for member in value:
        yield separator + _dumps(plain(member))
        separator = b",\n" if isinstance(member, Mapping) or is_dataclass(member) else b", "
    yield b"]" if separator != b"[" else b"[]"


def _dumps(value: object) -> bytes:
    return json.dumps(value).encode()


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
